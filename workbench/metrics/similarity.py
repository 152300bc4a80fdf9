"""Whether two representations of the same rows are the same up to rotation: linear CKA and Procrustes; and correlations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.checks import describe, require_embeddings, require_tensor
from workbench.metrics._blocks import full_precision, row_blocks, to_numpy, wide_dtype


@full_precision
def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> Tensor:
    r"""Linear centred kernel alignment of two representations of the same rows.

    .. math:: \frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F},
        \qquad X, Y \text{ with centred columns}

    Args:
        x: (n, d) embeddings, not normalised.
        y: (n, e) embeddings of the same rows; widths may differ.
        debiased: use the unbiased estimate of HSIC (Song et al. 2012) in all three places. The plain value is biased
            upwards and tends to 1 for any two sets where the widths reach the number of rows; the debiased one is 0 on
            average for unrelated sets and can be below it.

    Returns:
        Scalar in [0, 1], 1 where y is a rotation and scaling of x. Time O(n d e), no n x n matrix.

    Raises:
        ValueError, TypeError: bad embeddings, different lengths, fewer than 4 rows with `debiased` (2 without),
            a set of equal rows.

    Source: Kornblith et al. 2019 (arXiv 1905.00414), equation 4; debiased: Nguyen, Raghu & Kornblith 2021 (2010.15327).

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 2.0]])
        >>> print(f"{linear_cka(x, 3 * x.flip(1)):.4f}")
        1.0000
    """
    a, b = centred_pair(x, y, min_rows=4 if debiased else 2)
    hsic = _unbiased_hsic if debiased else _hsic
    return (hsic(a, b) / (hsic(a, a) * hsic(b, b)).clamp(min=torch.finfo(a.dtype).tiny).sqrt()).to(_dtype(x))


@full_precision
def procrustes(x: Tensor, y: Tensor, *, scale: bool = True) -> Tensor:
    r"""Distance of two representations of the same rows after the best rotation of one onto the other.

    .. math:: 1 - \lVert X^\top Y \rVert_*^2 \qquad \text{or} \qquad 2 - 2 \lVert X^\top Y \rVert_*,
        \qquad X, Y \text{ centred and of Frobenius norm one}

    Args:
        x: (n, d) embeddings, not normalised.
        y: (n, e) embeddings of the same rows; the narrower set counts as padded with zeros.
        scale: the best scaling as well (scipy.spatial.procrustes' disparity); otherwise both keep norm one and the value
            is the squared distance of Ding et al. 2021 (arXiv 2108.01661), in [0, 2].

    Returns:
        Scalar in [0, 1]: 0 where y is a rotation and scaling of x.

    Raises:
        ValueError, TypeError: bad embeddings, different lengths, one row, a set of equal rows.

    Source: Schoenemann 1966; the disparity as in scipy.spatial.procrustes.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 2.0]])
        >>> print(f"{procrustes(x, x.flip(1)) + 0:.4f}")
        0.0000
    """
    a, b = centred_pair(x, y, min_rows=2)
    overlap = torch.linalg.matrix_norm(a.T @ b, "nuc") / (a.norm() * b.norm())
    value = 1 - overlap.square() if scale else 2 - 2 * overlap
    return value.clamp(min=0).to(_dtype(x))


@full_precision
def pearson(x: Tensor, y: Tensor) -> Tensor:
    r"""Pearson correlation of two lists of numbers.

    .. math:: \frac{\sum_i (x_i - \bar x)(y_i - \bar y)}{\sqrt{\sum_i (x_i - \bar x)^2 \sum_i (y_i - \bar y)^2}}

    Args:
        x: (n,) finite numbers, n >= 3, not all equal.
        y: (n,) the same.

    Returns:
        Scalar in [-1, 1].

    Raises:
        ValueError, TypeError: not two vectors of one length, NaN, a constant.

    Example:
        >>> print(f"{pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0])):.3f}")
        1.000
    """
    return torch.tensor(_correlation(*vectors(x, y)), dtype=torch.float64)


@full_precision
def spearman(x: Tensor, y: Tensor) -> Tensor:
    r"""Spearman rank correlation: Pearson's of the ranks, ties at their mean rank (as scipy).

    .. math:: \rho = \operatorname{pearson}(\operatorname{rank} x, \operatorname{rank} y)

    Args:
        x: (n,) finite numbers, n >= 3, not all equal.
        y: (n,) the same, such as cosines against human scores of sentence pairs.

    Returns:
        Scalar in [-1, 1]; unchanged by any increasing function of either.

    Raises:
        ValueError, TypeError: not two vectors of one length, NaN, a constant.

    Example:
        >>> print(f"{spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])):.3f}")
        1.000
    """
    from scipy.stats import rankdata

    a, b = vectors(x, y)
    return torch.tensor(_correlation(rankdata(a), rankdata(b)), dtype=torch.float64)


def vectors(x: object, y: object) -> tuple[np.ndarray, np.ndarray]:
    """Two lists of numbers as float64 arrays."""
    arrays = []
    for value, name in ((x, "x"), (y, "y")):
        tensor = require_tensor(value, name)
        if tensor.dtype == torch.bool or tensor.is_complex():
            raise TypeError(f"{name} must hold numbers, got {describe(tensor)}")
        if tensor.ndim != 1 or len(tensor) < 3:
            raise ValueError(f"{name} must have shape (n,) with n >= 3, got {describe(tensor)}")
        array = to_numpy(tensor.double())
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has {int((~np.isfinite(array)).sum())} of {len(array)} values NaN or infinite")
        if (array == array[0]).all():
            raise ValueError(f"{name} is constant ({array[0]:g}): a correlation with it has no value")
        arrays.append(array)
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(f"x and y must be paired, got {len(arrays[0])} and {len(arrays[1])} values")
    return arrays[0], arrays[1]


def centred_pair(x: object, y: object, *, min_rows: int) -> tuple[Tensor, Tensor]:
    """Both sets in float64 with centred columns, scaled so that products neither overflow nor vanish."""
    x, y = require_embeddings(x, "x", min_rows=min_rows), require_embeddings(y, "y", min_rows=min_rows)
    if len(x) != len(y):
        raise ValueError(f"x and y must be paired row by row, got {len(x)} and {len(y)} rows")
    if x.device != y.device:
        raise ValueError(f"x and y must be on one device, got {x.device} and {y.device}")
    if x.dtype != y.dtype:
        raise TypeError(f"x and y must have one dtype, got {x.dtype} and {y.dtype}")
    sets = []
    for rows, name in ((x, "x"), (y, "y")):
        wide = rows.to(wide_dtype(rows.device))
        largest = wide.abs().amax()
        wide = wide / largest.clamp(min=torch.finfo(wide.dtype).tiny)
        wide = wide - wide.mean(0)
        if wide.abs().amax() <= 16 * torch.finfo(wide.dtype).eps:
            raise ValueError(f"{name} has {len(rows)} equal rows: nothing can be compared with them")
        sets.append(wide)
    return sets[0], sets[1]


def _hsic(a: Tensor, b: Tensor) -> Tensor:
    return (a.T @ b).square().sum()


def _unbiased_hsic(a: Tensor, b: Tensor) -> Tensor:
    """n (n - 3) times the unbiased estimate, from K = aa' and L = bb' with zero diagonals, without building them."""
    n = len(a)
    k_diagonal, l_diagonal = a.square().sum(1), b.square().sum(1)
    product = (a.T @ b).square().sum() - (k_diagonal * l_diagonal).sum()
    # Columns are centred, so the rows of aa' sum to zero, and without the diagonal to minus the diagonal.
    k_rows, l_rows = -k_diagonal, -l_diagonal
    return product + k_rows.sum() * l_rows.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k_rows * l_rows).sum()


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1, 1))


def _dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def spearman_influence(x: Tensor, y: Tensor) -> tuple[float, np.ndarray]:
    """The rank correlation, and how much each pair moves it (mean zero), to first order."""
    a, b = vectors(x, y)
    from scipy.stats import rankdata

    n = len(a)
    u, v = ((rankdata(z) - 0.5) / n for z in (a, b))
    rho = _correlation(u, v)
    sd_u, sd_v = u.std(), v.std()
    # Adding weight at (x0, y0) also lifts the ranks of everything above x0 (half of what equals it), and above y0.
    cross = u * v + _mean_above(a, v) + _mean_above(b, u) - 3 * (u * v).mean()
    own_u = u**2 + 2 * _mean_above(a, u) - 3 * (u**2).mean()
    own_v = v**2 + 2 * _mean_above(b, v) - 3 * (v**2).mean()
    influence = cross / (sd_u * sd_v) - rho / 2 * (own_u / sd_u**2 + own_v / sd_v**2)
    return rho, influence - influence.mean()


def _mean_above(z: np.ndarray, of: np.ndarray) -> np.ndarray:
    """For each i the mean over j of of[j] where z[j] > z[i], and half of it where z[j] = z[i]."""
    order = np.argsort(z, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(of[order])])
    left, right = np.searchsorted(z[order], z, "left"), np.searchsorted(z[order], z, "right")
    return (total[-1] - (total[left] + total[right]) / 2) / len(z)


def cka_influence(x: Tensor, y: Tensor) -> tuple[float, np.ndarray, float]:
    """Plain linear CKA, how much each row moves it, and its mean over shuffled pairs."""
    a, b = centred_pair(x, y, min_rows=2)
    parts = []
    for left, right in ((a, b), (a, a), (b, b)):
        cross = left.T @ right
        share = torch.empty(len(a), dtype=a.dtype, device=a.device)
        for rows in row_blocks(len(a), 4 * left.shape[1]):
            share[rows] = ((left[rows] @ cross) * right[rows]).sum(1)
        total = share.sum()
        parts.append((total, 2 * (len(a) * share / total - 1)))
    (xy, i_xy), (xx, i_xx), (yy, i_yy) = parts
    value = float(xy / (xx * yy).sqrt())
    shuffled = float(a.square().sum() * b.square().sum() / (len(a) - 1) / (xx * yy).sqrt())
    return value, to_numpy(value * (i_xy - (i_xx + i_yy) / 2)), shuffled


def procrustes_rows(x: Tensor, y: Tensor) -> np.ndarray:
    """(n, 3): the product of each rotated row with its partner, and both squared lengths."""
    a, b = centred_pair(x, y, min_rows=2)
    u, _, v = torch.linalg.svd(a.T @ b, full_matrices=False)
    return to_numpy(torch.stack([((a @ u) * (b @ v.T)).sum(1), a.square().sum(1), b.square().sum(1)], 1))
