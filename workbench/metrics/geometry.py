"""Geometry of one or two sets of embeddings on the unit sphere: spread, closeness of pairs and classes, rank.

Precision: similarities are products in the dtype of the input, sums are accumulated in float64. Cosines of float32
embeddings are right to about 5e-7, so two points closer than 1e-3 cannot be told apart through them; where that matters
(alignment, tolerance) distances are taken from differences or closed forms in float64, which resolve 1e-6.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from workbench.checks import describe, require_embeddings, require_labels, require_positive, require_unit_rows
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
    total = torch.zeros((), dtype=wide_dtype(x.device), device=x.device)
    for rows in row_blocks(len(x), 4 * x.shape[1]):
        total += (unit_rows(x[rows]) - unit_rows(y[rows])).square().sum(1).pow(power / 2).sum()
    return (total / len(x)).to(x.dtype)


@full_precision
def uniformity(x: Tensor, *, t: float = 2.0, chunk_size: int = 2048) -> Tensor:
    r"""Logarithm of the mean Gaussian potential of all distinct pairs; lower is more uniform.

    .. math:: \log \frac{2}{n(n-1)} \sum_{i<j} e^{-t \lVert x_i - x_j \rVert_2^2}

    A pair of a row with itself is not a pair (some code includes it, which adds a floor of log 1/n).

    Args:
        x: (n, d) embeddings, n >= 2, normalised inside.
        t: width of the kernel.
        chunk_size: rows of one square block; memory is about three blocks of chunk_size**2 numbers, time O(n^2 d).

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
    return _log_mean_potential(x, x, width, chunk_size, symmetric=True)


@full_precision
def cross_uniformity(x: Tensor, y: Tensor, *, t: float = 2.0, chunk_size: int = 2048) -> Tensor:
    r"""Logarithm of the mean Gaussian potential of all unmatched pairs across two sets; lower is more spread.

    .. math:: \log \frac{1}{n(n-1)} \sum_{i \ne j} e^{-t \lVert x_i - y_j \rVert_2^2}

    Args:
        x: (n, d) embeddings, n >= 2, normalised inside.
        y: (n, d), row i is the partner of row i of `x`; matched pairs are left out.
        t: width of the kernel.
        chunk_size: rows of one square block.

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
    return _log_mean_potential(x, y, width, chunk_size, symmetric=False)


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
def effective_rank(x: Tensor, *, center: bool = False, spectrum: Literal["singular", "variance"] = "singular") -> Tensor:
    r"""Number of directions the embeddings really use: exponential of the entropy of the normalised spectrum.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \sigma_k / \textstyle\sum_l \sigma_l

    Exact entropy, with 0 log 0 = 0 and no epsilon. The rows are used as they are: neither normalised nor (by default)
    centred, so a common offset of all rows counts as a strong direction; `center=True` removes it.

    Args:
        x: (n, d) embeddings.
        center: subtract the mean row first.
        spectrum: 'singular' weighs directions by singular values (Roy & Vetterli, RankMe); 'variance' by their squares,
            the eigenvalues of the second moments (of the covariance with `center=True`), which gives smaller numbers.

    Returns:
        Scalar in [1, min(n, d)]: 1 where all rows are multiples of one, d for an isotropic cloud of many rows. Singular
        values below about 1e-6 of the largest count as zero.

    Raises:
        ValueError, TypeError: bad embeddings, all zeros, all rows equal with `center=True`.

    Source: Roy & Vetterli 2007, The effective rank: a measure of effective dimensionality.

    Example:
        >>> effective_rank(torch.eye(3))
        tensor(3.)
    """
    if spectrum not in ("singular", "variance"):
        raise ValueError(f"spectrum must be 'singular' or 'variance', got {describe(spectrum)}")
    x = require_embeddings(x, "x")
    weights = _singular_values(x, center=center).pow(1 if spectrum == "singular" else 2)
    return torch.special.entr(weights / weights.sum()).sum().exp().to(x.dtype)


@full_precision
def rankme(x: Tensor, *, epsilon: float = 1e-7) -> Tensor:
    r"""RankMe: the effective rank with the small constant that its authors add to every weight.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = \sigma_k / \textstyle\sum_l \sigma_l + \epsilon

    The weights are not normalised again, so the value can exceed min(n, d) by a little (a few 1e-6 relative per
    direction at epsilon 1e-7); other code divides by (sum + epsilon) instead. Not centred, not normalised.

    Args:
        x: (n, d) embeddings; the paper uses n = 25,600 rows.
        epsilon: 1e-7 is the paper's value for float32.

    Returns:
        Scalar from about 1 to about min(n, d).

    Raises:
        ValueError, TypeError: bad embeddings, all zeros, epsilon not positive (`effective_rank` is the form without).

    Source: Garrido et al. 2023 (arXiv 2210.02885), equations 1 and 2.

    Example:
        >>> print(f"{rankme(torch.eye(3)):.4f}")
        3.0000
    """
    small = float(require_positive(epsilon, "epsilon"))
    x = require_embeddings(x, "x")
    values = _singular_values(x, center=False)
    return torch.special.entr(values / values.sum() + small).sum().exp().to(x.dtype)


def _log_mean_potential(x: Tensor, y: Tensor, t: float, chunk_size: int, *, symmetric: bool) -> Tensor:
    """log mean over i != j of exp(-t |x_i - y_j|^2), over square blocks; each block once where y is x."""
    size, n = require_int(chunk_size, "chunk_size", low=1), len(x)
    total = torch.full((), -math.inf, dtype=wide_dtype(x.device), device=x.device)
    for i in range(0, n, size):
        for j in range(i if symmetric else 0, n, size):
            # -t |x - y|^2 = 2 t (cos - 1); rounding may lift it above zero. An absolute error of 1e-7 in the cosine is
            # a relative error of 2e-7 t in the potential, near or far.
            exponent = (x[i : i + size] @ y[j : j + size].T).sub_(1).mul_(2 * t).clamp_(max=0)
            if i == j:
                exponent.fill_diagonal_(-math.inf)
                if len(exponent) == 1:
                    continue
            # The largest term leaves the exponential, so that nothing underflows at any t.
            top = exponent.amax()
            part = exponent.sub_(top).exp_().sum(1).to(total.dtype).sum().log() + top.to(total.dtype)
            total = torch.logaddexp(total, part + math.log(2) if symmetric and j > i else part)
    return (total - math.log(n * (n - 1))).to(x.dtype)


def _singular_values(x: Tensor, *, center: bool) -> Tensor:
    """Singular values of x in float64, through the smaller of x'x and xx'."""
    (n, d), wide = x.shape, wide_dtype(x.device)
    scale = x.abs().amax().to(wide)
    if scale == 0:
        raise ValueError(f"x is all zeros (shape {tuple(x.shape)}), it has no directions to count")
    mean = x.mean(0, dtype=wide) if center else torch.zeros(d, dtype=wide, device=x.device)
    tall = x if n >= d else x.T
    gram = torch.zeros(min(n, d), min(n, d), dtype=wide, device=x.device)
    for rows in row_blocks(len(tall), 4 * tall.shape[1]):
        block = tall[rows].to(wide)
        block = (block - (mean if n >= d else mean[rows, None])) / scale
        gram += block.T @ block
    # The mean of n equal rows is right to a few units in the last place of float64: what is left then is rounding.
    if center and gram.diagonal().sum() <= n * d * (16 * torch.finfo(wide).eps) ** 2:
        raise ValueError(f"x has {n} equal rows; with center=True there are no directions left to count")
    squares = torch.linalg.eigvalsh(gram).flip(0)
    # Rounding of a sum of many products leaves directions that do not exist: sqrt(rows) units in the last place.
    rounding = (len(gram) + 4 * math.sqrt(len(tall))) * torch.finfo(wide).eps
    return torch.where(squares > rounding * squares[0], squares, 0).sqrt()
