"""What the losses share: checked embeddings, similarities in full precision, options, reduction."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from workbench import checks

Reduction = Literal["mean", "sum", "none"]


def embed(x: object, name: str, *, normalize: bool, min_rows: int = 1) -> Tensor:
    """Checked (n, d) embeddings, at least float32, of unit length where `normalize`."""
    check = checks.require_unit_rows if normalize else checks.require_embeddings
    return check(x, name, min_rows=min_rows)


def embed_pair(x: object, y: object, x_name: str, y_name: str, *, normalize: bool, min_rows: int = 1) -> tuple[Tensor, Tensor]:
    """Two sets of embeddings, row i of one belonging to row i of the other."""
    x = embed(x, x_name, normalize=normalize, min_rows=min_rows)
    y = embed(y, y_name, normalize=normalize, min_rows=min_rows)
    checks.require_same_shape(x, y, x_name, y_name)
    return x, y


def similarities(x: Tensor, y: Tensor) -> Tensor:
    """All dot products (n, m) of the rows of x and y, never in half precision."""
    # Losses are often called inside autocast, which would round this product to bfloat16 and the loss by some percent.
    with torch.autocast(x.device.type, enabled=False):
        return x @ y.T


def scalar(value: float | Tensor, name: str) -> float | Tensor:
    """A positive number or 0-dim tensor; a tensor keeps its gradient."""
    if isinstance(value, Tensor):
        checks.require_positive(value.detach(), name)
        return value.reshape(())
    return checks.require_positive(value, name)


def require_number(value: object, name: str, *, minimum: float = -math.inf) -> None:
    """Raise unless `value` is one finite number (or scalar tensor) of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"{name} must be a number, got {checks.describe(value)}")
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} must be one number, got {checks.describe(value)}")
    number = float(value.detach() if isinstance(value, Tensor) else value)
    if not (math.isfinite(number) and number >= minimum):
        wanted = "finite" if minimum == -math.inf else f"finite and at least {minimum:g}"
        raise ValueError(f"{name} must be {wanted}, got {number}")


def reduce(per_anchor: Tensor, reduction: str) -> Tensor:
    """Mean or sum over the anchors, or the (n,) values themselves."""
    if reduction == "mean":
        return per_anchor.mean()
    if reduction == "sum":
        return per_anchor.sum()
    if reduction == "none":
        return per_anchor
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def softmax_loss(positives: Tensor, negatives: Tensor) -> Tensor:
    r"""$-\log\frac{e^p}{e^p + e^N}$ for the logit p of the positive and the log-sum-exp N of the negatives."""
    # The same number as logsumexp over all minus p, but a loss of 1e-9 stays 1e-9 instead of drowning in that difference.
    return -torch.nn.functional.logsigmoid(positives - negatives)


def two_views(view1: object, view2: object, temperature: float | Tensor, *, normalize: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logit of the positive and log-sum-exp of the 2(n - 1) negatives of all 2n views, and the cosines of the n pairs.

    The negatives of an anchor are both views of every *other* row: neither the anchor itself nor its positive.
    """
    z1, z2 = embed_pair(view1, view2, "view1", "view2", normalize=normalize, min_rows=2)
    temperature = scalar(temperature, "temperature")
    n = len(z1)
    z = torch.cat([z1, z2])
    logits = similarities(z / temperature, z)
    # Entry (a, i, b, j) of the view as 2 x n x 2 x n compares view a of row i with view b of row j.
    logits.view(2, n, 2, n).diagonal(dim1=1, dim2=3).fill_(-torch.inf)
    cosines = (z1 * z2).sum(dim=1)
    return (cosines / temperature).repeat(2), logits.logsumexp(dim=1), cosines
