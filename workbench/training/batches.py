"""Which rows make a batch: index tensors, for data that already lies on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(
    n: int,
    batch_size: int,
    *,
    steps: int | None = None,
    seed: int | torch.Generator = 0,
    drop_last: bool = True,
    device: str | torch.device = "cpu",
) -> Iterator[Tensor]:
    """Index tensors of random batches; every epoch is a new shuffle without replacement. `images[rows]` is a batch.

    The order is drawn on the CPU: the same seed gives the same batches on every device.

    Args:
        n: rows of the data.
        batch_size: rows per batch.
        steps: number of batches; None yields without end.
        seed: a seed, or a CPU generator to draw on.
        drop_last: leave out the rest of an epoch that does not fill a batch, so that the number of negatives stays the same.
        device: where to put the indices.

    Raises:
        ValueError: no rows, a batch below 1 or above `n`, no steps.

    Example:
        >>> [rows.tolist() for rows in batches(4, 2, steps=2, seed=0)]
        [[0, 1], [3, 2]]
    """
    if n < 1 or not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must be between 1 and the {n} rows of the data, got {batch_size}")
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1 or None, got {steps}")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    # A generator function checks its arguments at the first batch; the caller should hear of them at the call.
    return _draw(n, batch_size, steps, generator, drop_last, torch.device(device))


def _draw(
    n: int, batch_size: int, steps: int | None, generator: torch.Generator, drop_last: bool, device: torch.device
) -> Iterator[Tensor]:
    made = 0
    end = n - n % batch_size if drop_last else n
    while True:
        order = torch.randperm(n, generator=generator).to(device)
        for start in range(0, end, batch_size):
            if made == steps:
                return
            yield order[start : start + batch_size][: n - start]
            made += 1
