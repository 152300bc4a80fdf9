"""The matrix products of the block-wise kernel, by the quicker of the libraries that torch ships.

On a CPU torch's own `x @ y.T` is MKL's, which runs AMD processors at about half their rate; oneDNN, which torch ships for its
compiler, does not: 195 against 90 Gflop/s on one EPYC core, and it is no slower elsewhere. What it cannot do goes to MKL.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

# Below this many multiplications the call itself costs more than the product.
SMALL = 128**3


def product(x: Tensor, y: Tensor) -> Tensor:
    """x y' for x (a, d) and y (b, d)."""
    if _suits_onednn(x, y.shape[0]):
        return _onednn(x, y)
    return x @ y.T


def add_product(out: Tensor | None, w: Tensor, y: Tensor) -> Tensor:
    """Add w y to `out`, for w (a, b), y (b, d) and out (a, d); None is a new one, for w and y of one dtype."""
    if out is None:
        return product(w, y.T)
    if _suits_onednn(w, y.shape[1]):
        return out.add_(_onednn(w, y.T))
    if w.dtype == out.dtype:
        return out.addmm_(w, y)
    # half precision with sums in float32, on a GPU
    return out.add_(torch.mm(w, y.to(w.dtype), out_dtype=out.dtype))


def _suits_onednn(x: Tensor, columns: int) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() * columns >= SMALL and _has_onednn()


def _onednn(x: Tensor, y: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")


@functools.cache
def _has_onednn() -> bool:
    """Whether this build of torch has the operator (it belongs to the compiler, so its signature is tried, not trusted)."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    x = torch.arange(6.0).reshape(2, 3)
    try:
        return torch.equal(_onednn(x, x), x @ x.T)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
