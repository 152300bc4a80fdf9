"""The one input policy of losses and metrics: say which argument is wrong, what came and what is wanted.

Peers return NaN, or a plausible number, for a row of zeros, a NaN or one row where a pair is needed. Here
every public function passes its tensors through these checks. Half precision is computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def describe(x: object) -> str:
    """Short description of an argument for error messages."""
    if isinstance(x, Tensor):
        return f"a {str(x.dtype).removeprefix('torch.')} tensor of shape {tuple(x.shape)}"
    return f"{type(x).__name__} {x!r:.80}"


def require_tensor(x: object, name: str) -> Tensor:
    """Return `x` as it is; raise TypeError unless it is a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(x).__name__}; use torch.as_tensor({name})")
    return x


def require_positive(value: float | Tensor, name: str) -> float | Tensor:
    """Return `value` (a number or a scalar tensor); raise unless it is finite and above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise TypeError(f"{name} must be a positive number, got {describe(value)}")
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} must be one positive number, got {describe(value)}")
    number = float(value.detach()) if isinstance(value, Tensor) else float(value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be a positive, finite number, got {number}")
    return value


def require_embeddings(x: object, name: str, *, min_rows: int = 1) -> Tensor:
    """Check a (n, d) floating point tensor of finite values; float16 and bfloat16 come back as float32.

    Raises:
        TypeError: not a tensor, or not floating point.
        ValueError: not two-dimensional, fewer than `min_rows` rows, no columns, or a NaN or infinite entry.
    """
    x = _require_matrix(x, name, min_rows)
    if not torch.isfinite(x).all():
        raise ValueError(f"{name} has {_count_bad(x)} of {len(x)} rows with NaN or infinite values; remove or repair them")
    return x


def require_unit_rows(x: object, name: str, *, min_rows: int = 1) -> Tensor:
    """As `require_embeddings`, and scale every row to length one (differentiable).

    Raises:
        ValueError: also when a row is zero, since it has no direction.
    """
    x = _require_matrix(x, name, min_rows)
    # Scaling by the largest entry first keeps rows of 1e30 or 1e-30 exact: their squares would leave float32.
    scale = x.detach().abs().amax(dim=1, keepdim=True)
    # One reduction answers for NaN, inf and zero rows at once: one device synchronisation for all three.
    if not ((scale > 0) & torch.isfinite(scale)).all():
        require_embeddings(x, name)
        zero = (scale == 0).squeeze(1).nonzero().squeeze(1)
        raise ValueError(
            f"{name} has {len(zero)} of {len(x)} rows of zeros (first: row {int(zero[0])}); a zero vector has no direction"
        )
    x = x / scale
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)


def require_same_shape(x: Tensor, y: Tensor, x_name: str, y_name: str) -> None:
    """Raise unless row i of `x` can be the partner of row i of `y`."""
    require_same_width(x, y, x_name, y_name)
    if len(x) != len(y):
        raise ValueError(f"{x_name} and {y_name} must be paired row by row, got {len(x)} and {len(y)} rows")


def require_same_width(x: Tensor, y: Tensor, x_name: str, y_name: str) -> None:
    """Raise unless both live in the same space: equal width, device and dtype."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x_name} and {y_name} must have the same width, got shapes {tuple(x.shape)} and {tuple(y.shape)}")
    if x.device != y.device:
        raise ValueError(f"{x_name} and {y_name} must be on one device, got {x.device} and {y.device}")
    if x.dtype != y.dtype:
        raise TypeError(f"{x_name} and {y_name} must have one dtype, got {x.dtype} and {y.dtype}")


def require_labels(labels: object, n: int, name: str = "labels") -> Tensor:
    """Check a (n,) integer tensor of class labels.

    Raises:
        TypeError: not a tensor of integers.
        ValueError: not one label for each of the `n` rows.
    """
    labels = require_tensor(labels, name)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {describe(labels)}")
    if labels.ndim != 1 or len(labels) != n:
        raise ValueError(f"{name} must have shape ({n},), one label per row, got {describe(labels)}")
    return labels


def _require_matrix(x: object, name: str, min_rows: int) -> Tensor:
    x = require_tensor(x, name)
    if not x.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {describe(x)}")
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), got {describe(x)}")
    if len(x) < min_rows or x.shape[1] == 0:
        raise ValueError(f"{name} needs at least {min_rows} row{'s' * (min_rows > 1)} and one column, got shape {tuple(x.shape)}")
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _count_bad(x: Tensor) -> int:
    return int((~torch.isfinite(x)).any(dim=1).sum())
