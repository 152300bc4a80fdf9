"""A case of the tester with all rows in one process, or with its rows split between several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from tester import Case

SPLIT = ("rows", "partner", "labels")  # what is divided between processes; row i of one belongs to row i of the other


def value_and_gradients(case: Case, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The value, and its derivative by every floating point argument and learnable option."""
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items() if v.is_floating_point()}
    numbers = {k: options[k] for k in case.learnable if isinstance(options.get(k), (int, float))}
    leaves |= {k: torch.tensor(float(v), dtype=torch.float64, requires_grad=True) for k, v in numbers.items()}
    value = case({}, {**inputs, **options, **leaves})
    value.backward()
    return value.detach(), {k: v.grad for k, v in leaves.items() if v.grad is not None}


def part_of(rank: int, world: int, n: int) -> slice:
    """The rows of a process: the first has most, the last at least one."""
    cuts = [0, *(n - (world - 1 - r) * max(1, n // (2 * world)) for r in range(world))]
    return slice(cuts[rank], cuts[rank + 1])


def in_one_process(
    group: Any, case: Case, inputs: Mapping[str, Any], options: Mapping[str, Any], gathered: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """What one of several processes gets for its part of the rows."""
    from workbench.losses import blockwise

    before, blockwise.GATHER = blockwise.GATHER, 2**30 if gathered else 0
    part = part_of(dist.get_rank(group), dist.get_world_size(group), next(len(inputs[k]) for k in inputs))
    own = {k: v[part] if case.arguments[k] in SPLIT else v for k, v in inputs.items()}
    try:
        return value_and_gradients(case, own, {**options, "group": group})
    finally:
        blockwise.GATHER = before
