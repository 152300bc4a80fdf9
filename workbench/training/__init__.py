"""One training loop, and what contrastive training adds to it: momentum encoders, queues, schedules."""

from workbench.training.batches import batches
from workbench.training.fit import DivergenceError, History, StepState, fit
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
    "cosine_momentum",
    "ema_update",
    "fit",
    "make_optimizer",
    "warmup_cosine",
]
