"""What the losses share: checked embeddings, similarities in full precision, options, reduction."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, cast

import torch
from torch import Tensor

from workbench import checks
from workbench.losses._blocks import HALF, Rows
from workbench.losses._ring import Alone, Ring
from workbench.losses.blockwise import stacked_views, sums

P = ParamSpec("P")
Reduction = Literal["mean", "sum", "none"]


def uncompiled(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """One break in the graph of a compiled caller; inside, the compiler would unroll the loops block by block."""

    @functools.wraps(loss)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        # Not disabled once and for all: that would import the compiler, which takes seconds, for everybody.
        return (torch.compiler.disable(loss) if torch.compiler.is_compiling() else loss)(*args, **kwargs)

    return wrapper


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


def rows(x: object, name: str, *, normalize: bool, min_rows: int = 1) -> Rows:
    """As `embed`, for the block-wise kernel: the rows stay as they are, beside the factors that give them unit length."""
    if normalize and (factors := _factors([x], min_rows)) is not None:
        return Rows(cast(Tensor, x), factors)
    x = embed(x, name, normalize=normalize, min_rows=min_rows)
    return Rows(x, x.new_ones(len(x)) if normalize else None)


def _factors(sides: list[Any], min_rows: int) -> Tensor | None:
    """One over the lengths of all rows; None if any of them needs a closer look."""
    lengths = []
    for x in sides:
        if not (isinstance(x, Tensor) and x.is_floating_point() and x.ndim == 2 and x.shape[0] >= min_rows and x.shape[1] > 0):
            return None
        lengths.append(torch.linalg.vector_norm(x.detach(), dim=1, dtype=torch.float32 if x.dtype in HALF else None))
        if lengths[-1].dtype != lengths[0].dtype or lengths[-1].device != lengths[0].device:
            return None
    length = lengths[0] if len(lengths) == 1 else torch.cat(lengths)
    factor = length.reciprocal()
    # NaN, inf, rows of zeros and rows whose squares leave the dtype all fail this one comparison.
    return factor if float((length + factor).max()) < 1e10 else None


def row_pair(x: object, y: object, x_name: str, y_name: str, *, normalize: bool, min_rows: int = 1) -> tuple[Rows, Rows]:
    """As `embed_pair`, for the block-wise kernel."""
    if normalize and (factors := _factors([x, y], min_rows)) is not None:
        x, y = cast(Tensor, x), cast(Tensor, y)
        left, right = Rows(x, factors[: x.shape[0]]), Rows(y, factors[x.shape[0] :])
    else:
        left = rows(x, x_name, normalize=normalize, min_rows=min_rows)
        right = rows(y, y_name, normalize=normalize, min_rows=min_rows)
    left, right = alike(left, right)
    checks.require_same_shape(left.x, right.x, x_name, y_name)
    return left, right


def alike(left: Rows, right: Rows) -> tuple[Rows, Rows]:
    """Where one side is in half precision and the other in float32, both in float32."""
    if left.dtype == right.dtype and left.x.dtype != right.x.dtype:
        left, right = (Rows(side.x.to(side.dtype), side.factor) for side in (left, right))
    return left, right


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


def parameter(value: float | Tensor, ring: Alone | Ring) -> float | Tensor:
    """A checked number that all processes have in common; the gradient of a tensor is the sum of theirs."""
    if not isinstance(value, Tensor):
        return float(value)
    return ring.shared(value.float() if value.dtype in HALF else value).reshape(())


def reduce(per_anchor: Tensor, reduction: str, ring: Alone | Ring | None = None) -> Tensor:
    """Mean or sum over the anchors of all processes, or the (n,) values of this one."""
    ring = ring or Alone()
    if reduction == "mean":
        return ring.whole(per_anchor.sum() / ring.count(per_anchor.shape[0]))
    if reduction == "sum":
        return ring.whole(per_anchor.sum())
    if reduction == "none":
        return per_anchor
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def share(n: int, reduction: str, ring: Alone | Ring) -> float:
    """What each of the n anchors of this process counts, for 'mean' or 'sum'."""
    return 1 / ring.count(n) if reduction == "mean" else 1.0


def softmax_loss(positives: Tensor, negatives: Tensor) -> Tensor:
    r"""$-\log\frac{e^p}{e^p + e^N}$ for the logit p of the positive and the log-sum-exp N of the negatives."""
    # The same number as logsumexp over all minus p, but a loss of 1e-9 stays 1e-9 instead of drowning in that difference.
    # Above the threshold the difference to a straight line is below the rounding of float64.
    return torch.nn.functional.softplus(negatives - positives, threshold=40)


def softmax_slopes(positives: Tensor, negatives: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """The derivatives of `softmax_loss` by its two arguments, times a weight."""
    miss = torch.sigmoid(negatives - positives).mul_(weight)
    return -miss, miss


def two_views(
    view1: object,
    view2: object,
    temperature: float | Tensor,
    *,
    normalize: bool,
    block_size: int | None = None,
    ring: Alone | Ring,
) -> tuple[Tensor, Tensor]:
    """Logits of the n pairs, and log-sum-exp of the 2(n - 1) negatives of all 2n views.

    The negatives of an anchor are both views of every *other* row: neither the anchor itself nor its positive.
    """
    with ring.together():
        z1, z2 = row_pair(view1, view2, "view1", "view2", normalize=normalize, min_rows=2 if ring.world == 1 else 1)
        temperature = scalar(temperature, "temperature")
    factors = None if z1.factor is None or z2.factor is None else torch.cat([z1.factor, z2.factor])
    z = Rows(torch.cat([z1.x, z2.x]), factors)
    scale = 1 / parameter(temperature, ring)
    found = sums(z, None, scale=scale, holes=stacked_views(len(z1)), block_size=block_size, ring=ring)
    return found.pairs, found.rows
