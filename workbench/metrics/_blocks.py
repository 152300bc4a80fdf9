"""What the metrics share: full precision whatever the caller has switched on, and blocks of rows instead of n x n matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from workbench.checks import describe, require_same_shape, require_unit_rows
from workbench.losses._products import product as product  # of the losses' kernel: twice as quick as x @ y.T on some processors

P = ParamSpec("P")
R = TypeVar("R")

BLOCK = 2**24  # entries of one block of similarities: 64 MiB in float32


def full_precision(metric: Callable[P, R]) -> Callable[P, R]:
    """Compute without gradient, and at the precision of the input, also inside autocast or with TF32 products allowed.

    A training loop often allows TF32 (ten bits of mantissa); a metric called from it would then take cosines that
    differ by a thousandth for equal.
    """

    @functools.wraps(metric)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), _ieee_products():
            return metric(*args, **kwargs)

    return wrapper


@contextmanager
def _ieee_products() -> Iterator[None]:
    candidates = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    backends = [b for b in candidates if hasattr(b, "fp32_precision")]
    if not backends:  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    settings = [b.fp32_precision for b in backends]  # type: ignore[union-attr]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"  # type: ignore[union-attr]
        yield
    finally:
        for backend, setting in zip(backends, settings, strict=True):
            backend.fp32_precision = setting  # type: ignore[union-attr]


def row_blocks(n: int, width: int, chunk_size: int | None = None) -> Iterator[slice]:
    """Slices that cover `n` rows, so many at a time that a block of `width` columns has at most `BLOCK` entries."""
    size = max(1, BLOCK // width) if chunk_size is None else require_int(chunk_size, "chunk_size", low=1)
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def wide_dtype(device: torch.device) -> torch.dtype:
    """The dtype of accumulators: float64, except on devices that have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def unit_rows(x: Tensor) -> Tensor:
    """Rows that have length one to the precision of float32, in float64 and of length one to its precision."""
    x = x.to(wide_dtype(x.device))
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)


def require_unit_pairs(x: object, y: object, x_name: str, y_name: str, *, min_rows: int = 1) -> tuple[Tensor, Tensor]:
    """Two sets of unit rows, row i of one the partner of row i of the other."""
    x, y = require_unit_rows(x, x_name, min_rows=min_rows), require_unit_rows(y, y_name, min_rows=min_rows)
    require_same_shape(x, y, x_name, y_name)
    return x, y


def require_int(value: object, name: str, *, low: int, high: int | None = None, why: str = "") -> int:
    """Return an integer between `low` and `high`; raise an error that names it otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {describe(value)}")
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {limits}{why and f' ({why})'}, got {value}")
    return int(value)


def to_numpy(x: Tensor) -> np.ndarray:
    """The tensor as an array for scikit-learn."""
    return x.detach().cpu().numpy()
