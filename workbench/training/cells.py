"""Batches from one cell of a partition: negatives that share what an earlier encoder has learnt already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workbench.checks import require_labels


def combine_cells(assignments: Sequence[Tensor]) -> Tensor:
    r"""One cell for each tuple of assignments: rows share a cell where all of them agree.

    .. math:: y = (\dots(a_0 K_1 + a_1) K_2 + \dots) + a_n

    Args:
        assignments: each (n,) integer cluster numbers from 0 on, such as those of the k-means of each stage.

    Returns:
        (n,) int64 cells; numbers of tuples that do not occur stay unused.

    Raises:
        ValueError, TypeError: no assignments, of unequal length, not integers, negative.

    Source:
        MCL (Zhang et al. 2024, arXiv 2402.11816), section 3 and code.

    Example:
        >>> combine_cells([torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 2, 2])]).tolist()
        [0, 2, 5, 5]
    """
    if not assignments:
        raise ValueError("assignments must hold at least one tensor of cluster numbers, got none")
    n = len(assignments[0])
    cells = torch.zeros(n, dtype=torch.int64, device=assignments[0].device)
    for i, assignment in enumerate(assignments):
        assignment = require_labels(assignment, n, f"assignments[{i}]").to(cells)
        if n == 0 or int(assignment.min()) < 0:
            raise ValueError(f"assignments[{i}] must hold cluster numbers from 0 on")
        cells = cells * (int(assignment.max()) + 1) + assignment
    return cells


def cell_batches(
    cells: Tensor,
    batch_size: int,
    *,
    steps: int | None = None,
    seed: int | torch.Generator = 0,
    device: str | torch.device = "cpu",
) -> Iterator[Tensor]:
    """Index tensors of random batches, each from a single cell; the usual in-batch loss then has negatives of that cell only.

    In an epoch every cell is shuffled, and the cells take turns with a batch each until they have no full batch left. What does not
    fill a batch waits for the next shuffle; cells smaller than a batch never take part (`rows_in_cells` counts them).

    Args:
        cells: (n,) integer cell of each row, as from `combine_cells`.
        batch_size: rows per batch.
        steps: number of batches; None yields without end.
        seed: a seed, or a CPU generator to draw on; the same seed gives the same batches on every device.
        device: where to put the indices.

    Raises:
        ValueError, TypeError: bad cells, no cell as large as a batch, a batch below two rows, no steps.

    Source:
        MCL (Zhang et al. 2024, arXiv 2402.11816), section 3 and code.

    Example:
        >>> cells = torch.tensor([0, 1, 0, 1, 1])
        >>> [cells[rows].tolist() for rows in cell_batches(cells, 2, steps=3)]
        [[0, 0], [1, 1], [0, 0]]
    """
    members = _members(cells)
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2, one row has no negative, got {batch_size}")
    large = [rows for rows in members if len(rows) >= batch_size]
    if not large:
        most = max(len(rows) for rows in members)
        raise ValueError(
            f"no cell has the {batch_size} rows of a batch, the largest has {most}; use fewer clusters or a smaller batch"
        )
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1 or None, got {steps}")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    return _take_turns(large, batch_size, steps, generator, torch.device(device))


def rows_in_cells(cells: Tensor, batch_size: int) -> int:
    """How many rows lie in cells of at least `batch_size` rows, and so can ever be drawn by `cell_batches`."""
    return sum(len(rows) for rows in _members(cells) if len(rows) >= batch_size)


def _members(cells: Tensor) -> list[Tensor]:
    """The rows of each cell, in the order of the cells' numbers."""
    cells = require_labels(cells, len(cells), "cells").cpu()
    if not len(cells):
        raise ValueError("cells must have at least one row")
    counts = cells.unique(return_counts=True)[1]
    return list(cells.argsort(stable=True).split(counts.tolist()))


def _take_turns(
    members: list[Tensor], batch_size: int, steps: int | None, generator: torch.Generator, device: torch.device
) -> Iterator[Tensor]:
    made = 0
    while True:
        shuffled = [rows[torch.randperm(len(rows), generator=generator)] for rows in members]
        start = 0
        while any(start + batch_size <= len(rows) for rows in shuffled):
            for rows in shuffled:
                if made == steps:
                    return
                if start + batch_size <= len(rows):
                    yield rows[start : start + batch_size].to(device)
                    made += 1
            start += batch_size
