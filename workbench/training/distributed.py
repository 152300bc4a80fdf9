"""Training in several processes: joining them, sharing a batch out, and making DistributedDataParallel exact.

The losses take `group=` and compare the rows of all processes; what they return and the gradients they send back are those of
one process that holds all rows. A whole program: `torchrun --nproc-per-node 2 -m workbench.training.torchrun_example`.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from workbench.checks import describe


def join() -> dist.ProcessGroup | None:
    """Join the processes that torchrun started; None for a program that was started on its own.

    Backend: nccl where each process of this machine has a CUDA device of its own (which becomes the current one), gloo elsewhere.

    Returns:
        The group of all processes, for the `group` of the losses. Call `torch.distributed.destroy_process_group()` at the end.
    """
    if "WORLD_SIZE" not in os.environ:
        return None
    if not dist.is_initialized():
        local = int(os.environ.get("LOCAL_RANK", 0))
        own_device = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))
        if own_device:
            torch.cuda.set_device(local)
        dist.init_process_group("nccl" if own_device else "gloo")
    return dist.group.WORLD


def own_part(n: int, group: dist.ProcessGroup | None) -> slice:
    """The rows of a batch of n that belong to this process: parts differ by one row at most, and none is dropped.

    Raises:
        ValueError: fewer rows than processes; the losses need at least one row in each.

    Example:
        >>> own_part(10, None)
        slice(0, 10, None)
    """
    rank, world = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
    if n < world:
        raise ValueError(f"n must be at least the number of processes, got {n} rows for {world} processes")
    return slice(n * rank // world, n * (rank + 1) // world)


def undo_averaging(embeddings: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The embeddings as they are; their gradient comes back multiplied by the number of processes.

    DistributedDataParallel averages the gradients of its processes. The gradient of a loss over all rows is their sum: pass
    the embeddings of a wrapped encoder through this, and parameters get the gradient of one process exactly. A temperature,
    scale or bias goes to the loss as it is: the losses already send the whole gradient of those to every process.

    Example:
        >>> x = torch.ones(2, 3, requires_grad=True)
        >>> undo_averaging(x, None) is x  # one process: nothing to undo
        True
    """
    if not isinstance(embeddings, Tensor):
        raise TypeError(f"embeddings must be a tensor, got {describe(embeddings)}")
    world = 1 if group is None else dist.get_world_size(group)
    return embeddings if world == 1 else _Multiply.apply(embeddings, world)


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
