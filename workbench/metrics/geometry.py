"""Geometry of one or two sets of embeddings on the unit sphere: spread, closeness of pairs and classes.

Precision: similarities are products in the dtype of the input, sums are accumulated in float64. Cosines of float32
embeddings are right to about 5e-7, so two points closer than 1e-3 cannot be told apart through them; where that matters
(alignment, tolerance) distances are taken from differences or closed forms in float64, which resolve 1e-6.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.checks import require_labels, require_positive, require_unit_rows
from workbench.losses.blockwise import Rows, no_self, own_pairs, sums
from workbench.metrics._blocks import full_precision, require_int, require_unit_pairs, row_blocks, unit_rows, wide_dtype


@full_precision
def alignment(x: Tensor, y: Tensor, *, alpha: float = 2.0) -> Tensor:
    r"""Mean distance of matched pairs on the unit sphere, to the power alpha; lower is better aligned.

    .. math:: \frac1n \sum_i \lVert x_i - y_i \rVert_2^{\alpha}

    Args:
        x: (n, d) embeddings, normalised inside.
        y: (n, d), row i is the partner of row i of `x`.
        alpha: exponent of the Euclidean distance.

    Returns:
        Scalar in [0, 2**alpha]; 0 where all pairs coincide. Distances down to 1e-6 are resolved in float32.

    Raises:
        ValueError, TypeError: bad embeddings, unpaired sets, alpha not positive.

    Source: Wang & Isola 2020 (arXiv 2005.10242), L_align; alpha = 2 is their default.

    Example:
        >>> alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
        tensor(2.)
    """
    power = float(require_positive(alpha, "alpha"))
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=1)
    return squared_distances(x, y).pow(power / 2).mean().to(x.dtype)


@full_precision
def uniformity(x: Tensor, *, t: float = 2.0, chunk_size: int | None = None) -> Tensor:
    r"""Logarithm of the mean Gaussian potential of all distinct pairs; lower is more uniform.

    .. math:: \log \frac{2}{n(n-1)} \sum_{i<j} e^{-t \lVert x_i - x_j \rVert_2^2}

    A pair of a row with itself is not a pair (some code includes it, which adds a floor of log 1/n).

    Args:
        x: (n, d) embeddings, n >= 2, normalised inside.
        t: width of the kernel.
        chunk_size: rows of one square block, chosen by size where not given; memory O(n d + chunk_size^2), time O(n^2 d).

    Returns:
        Scalar in [-4 t, 0]: 0 where all points coincide; near -2 t (-4 for t = 2) for points spread evenly over a sphere of
        many dimensions; -4 t for two opposite points. Right to 1e-6 t in float32.

    Raises:
        ValueError, TypeError: bad embeddings, one row, t not positive.

    Source: Wang & Isola 2020 (arXiv 2005.10242), L_uniform with distinct pairs as in the authors' code, t = 2.

    Example:
        >>> uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        tensor(-8.)
    """
    width = float(require_positive(t, "t"))
    x = require_unit_rows(x, "x", min_rows=2)
    return log_mean_potential(log_potentials(x, None, width, chunk_size)).to(x.dtype)


@full_precision
def cross_uniformity(x: Tensor, y: Tensor, *, t: float = 2.0, chunk_size: int | None = None) -> Tensor:
    r"""Logarithm of the mean Gaussian potential of all unmatched pairs across two sets; lower is more spread.

    .. math:: \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t \lVert x_i - y_j \rVert_2^2}

    Args:
        x: (n, d) embeddings, n >= 2, normalised inside.
        y: (n, d), row i is the partner of row i of `x`; matched pairs are left out.
        t: width of the kernel.
        chunk_size: rows of one square block; chosen by size where not given.

    Returns:
        Scalar in [-4 t, 0]: 0 where all points coincide, -4 t where the two sets sit at opposite poles (so the lowest
        value is a modality gap, not a uniform space). Right to 1e-6 t in float32.

    Raises:
        ValueError, TypeError: bad embeddings, unpaired sets, one row, t not positive.

    Source: Fahim, Murphy & Fyshe 2024 (arXiv 2405.18570), the cross-modal uniformity term.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> cross_uniformity(x, x)
        tensor(-4.)
    """
    width = float(require_positive(t, "t"))
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    return log_mean_potential(log_potentials(x, y, width, chunk_size)).to(x.dtype)


@full_precision
def tolerance(x: Tensor, labels: Tensor) -> Tensor:
    r"""Mean cosine of distinct pairs of the same class; higher means that samples of a class are left together.

    .. math:: T = \frac{\sum_c \left( \lVert \sum_{i \in c} x_i \rVert^2 - n_c \right)}{\sum_c n_c (n_c - 1)}

    This is the mean GIVEN that the classes agree. The paper writes the mean over all pairs of the cosine times the
    indicator of equal classes: this value times the share of same-class pairs. The order of two models is the same.

    Args:
        x: (n, d) embeddings, normalised inside.
        labels: (n,) integer classes; classes with one row have no pair and do not count.

    Returns:
        Scalar in [-1, 1]; 1 where every class is one point. Time O(n d), through the sums of the classes.

    Raises:
        ValueError, TypeError: bad embeddings or labels; no class has two rows.

    Source: Wang & Liu 2021 (arXiv 2012.09740), tolerance T, in its conditional form.

    Example:
        >>> tolerance(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 1]))
        tensor(0.)
    """
    x = require_unit_rows(x, "x", min_rows=2)
    labels = require_labels(labels, len(x)).to(x.device)
    _, index, counts = labels.unique(return_inverse=True, return_counts=True)
    wide = wide_dtype(x.device)
    n_pairs = (counts.to(wide) * (counts - 1)).sum()
    if n_pairs == 0:
        raise ValueError(f"labels must give at least two rows one class, got {len(counts)} classes for {len(x)} rows")
    sums = torch.zeros(len(counts), x.shape[1], dtype=wide, device=x.device)
    for rows in row_blocks(len(x), 4 * x.shape[1]):
        sums.index_add_(0, index[rows], unit_rows(x[rows]))
    return ((sums.square().sum() - len(x)) / n_pairs).clamp(-1, 1).to(x.dtype)


@full_precision
def anisotropy(x: Tensor) -> Tensor:
    r"""Mean cosine of all distinct pairs of rows; the share of a common direction in the embeddings.

    .. math:: \frac{2}{n(n-1)} \sum_{i<j} \cos(x_i, x_j) = \frac{\lVert \sum_i \hat x_i \rVert^2 - n}{n(n-1)}

    The decoding literature calls 1 minus this value (or this value) isotropy; a pair of a row with itself does not count.

    Args:
        x: (n, d) embeddings, n >= 2, normalised inside.

    Returns:
        Scalar in [-1 / (n - 1), 1]: about 0 for rows spread over the sphere, 1 where all rows point one way. Time O(n d).

    Raises:
        ValueError, TypeError: bad embeddings, one row.

    Source: Ethayarajh 2019 (arXiv 1909.00512), section 3.3; Su et al. 2022 (arXiv 2202.06417).

    Example:
        >>> anisotropy(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        tensor(0.3333)
    """
    x = require_unit_rows(x, "x", min_rows=2)
    n = len(x)
    return ((row_sum(x).square().sum() - n) / (n * (n - 1))).clamp(-1, 1).to(x.dtype)


def row_sum(x: Tensor) -> Tensor:
    """Sum of unit rows in float64."""
    total = torch.zeros(x.shape[1], dtype=wide_dtype(x.device), device=x.device)
    for rows in row_blocks(len(x), 4 * x.shape[1]):
        total += unit_rows(x[rows]).sum(0)
    return total


def log_potentials(x: Tensor, y: Tensor | None, t: float, chunk_size: int | None) -> Tensor:
    """(n,) log of the sum over j != i of the potential exp(-t |x_i - y_j|^2), with that of (x_j, y_i) averaged in.

    Without y the two sets are one. As -t |x - y|^2 = 2 t (cos - 1), these are the sums of the block-wise losses at logit
    scale 2 t. An absolute error of 1e-7 in the cosine is a relative error of 2e-7 t in the potential, near or far.
    """
    size, n = None if chunk_size is None else require_int(chunk_size, "chunk_size", low=1), len(x)
    holes, wide = no_self(n) if y is None else own_pairs(n), wide_dtype(x.device)
    found = sums(Rows(x), None if y is None else Rows(y), scale=2 * t, holes=holes, columns=y is not None, block_size=size)
    logs = found.rows.to(wide)
    if found.columns is not None:
        logs = torch.logaddexp(logs, found.columns.to(wide)) - math.log(2)
    return logs - 2 * t


def log_mean_potential(logs: Tensor) -> Tensor:
    """Log of the mean over all ordered pairs, from `log_potentials`; rounding may have lifted it above zero."""
    return (logs.logsumexp(0) - math.log(len(logs) * (len(logs) - 1))).clamp(max=0)


def cosine_to_others(x: Tensor) -> Tensor:
    """(n,) mean cosine of each row to the other rows."""
    total = row_sum(x)
    own = torch.empty(len(x), dtype=total.dtype, device=x.device)
    for rows in row_blocks(len(x), 4 * x.shape[1]):
        unit = unit_rows(x[rows])
        own[rows] = (unit * (total - unit)).sum(1) / (len(x) - 1)
    return own


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(n,) squared distance of each row to its partner, unit rows, in float64 and without 2 - 2 cos."""
    distances = torch.empty(len(x), dtype=wide_dtype(x.device), device=x.device)
    for rows in row_blocks(len(x), 4 * x.shape[1]):
        distances[rows] = (unit_rows(x[rows]) - unit_rows(y[rows])).square().sum(1)
    return distances
