"""One training loop, and what contrastive training adds to it: momentum encoders, queues, schedules, large batches, several processes."""

from workbench.training.batches import batches
from workbench.training.cells import cell_batches, combine_cells, rows_in_cells
from workbench.training.distributed import join, own_part, undo_averaging
from workbench.training.fit import DivergenceError, History, StepState, fit
from workbench.training.gradcache import encode_in_chunks
from workbench.training.momentum import MomentumEncoder, ema_update
from workbench.training.optim import make_optimizer
from workbench.training.queue import Queue
from workbench.training.schedules import cosine_momentum, warmup_cosine

__all__ = [
    "DivergenceError",
    "History",
    "MomentumEncoder",
    "Queue",
    "StepState",
    "batches",
    "cell_batches",
    "combine_cells",
    "cosine_momentum",
    "ema_update",
    "encode_in_chunks",
    "fit",
    "join",
    "make_optimizer",
    "own_part",
    "rows_in_cells",
    "undo_averaging",
    "warmup_cosine",
]
