"""Running a model over many inputs without training it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.checks import describe


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch `module` to evaluation mode and switch gradients off; on leaving, every submodule gets its own mode back."""
    # One flag for the whole tree would wake up submodules that were frozen in evaluation mode on purpose.
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, mode in modes:
            m.training = mode


def embed(encoder: nn.Module, inputs: Any, *, batch_size: int = 256, method: str = "forward") -> Tensor:
    """Outputs of `encoder` for all inputs, computed in batches, in evaluation mode and without gradient.

    Args:
        encoder: any module that maps a batch of n inputs to a tensor of n rows.
        inputs: what the encoder takes, with `len` and slicing: images (n, c, h, w), features (n, d) or `Tokens`.
            Each batch is moved to the encoder's device.
        batch_size: rows per batch; changes memory and speed, not the result.
        method: the method to call, such as 'tokens' to cache the image tokens of a captioner.

    Returns:
        (n, ...) tensor on the encoder's device, detached.

    Raises:
        ValueError: no inputs, a batch size below one, or an output that is NaN or infinite.

    Example:
        >>> embed(nn.Flatten(), torch.ones(5, 3, 2, 2), batch_size=2).shape
        torch.Size([5, 12])
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(inputs) == 0:
        raise ValueError(f"inputs must hold at least one row, got {describe(inputs)}")
    weight = next(encoder.parameters(), None)
    call = encoder if method == "forward" else getattr(encoder, method)
    with evaluating(encoder):
        outputs = []
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            outputs.append(call(batch if weight is None else batch.to(weight.device)))
    embeddings = torch.cat(outputs)
    if not torch.isfinite(embeddings).all():
        bad = (~torch.isfinite(embeddings)).flatten(1).any(dim=1)
        raise ValueError(
            f"{int(bad.sum())} of {len(bad)} rows that {type(encoder).__name__} gives are NaN or infinite "
            f"(first: row {int(bad.nonzero()[0])}); check these inputs, then the weights"
        )
    return embeddings
