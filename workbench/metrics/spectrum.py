"""The spectrum of a set of embeddings: how many directions they use, and how fast the spectrum falls."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from workbench.checks import describe, require_embeddings, require_positive
from workbench.metrics._blocks import full_precision, require_int, row_blocks, wide_dtype


@full_precision
def spectrum(x: Tensor, *, center: bool = False) -> Tensor:
    r"""Singular values of the embeddings, largest first.

    .. math:: X = U \operatorname{diag}(\sigma) V^\top, \qquad \lambda_k = \sigma_k^2 / n

    Args:
        x: (n, d) embeddings, used as they are: neither normalised nor (by default) centred.
        center: subtract the mean row first; then sigma**2 / n are the variances of the principal components.

    Returns:
        (min(n, d),) values; those below about 1e-6 of the largest are zero.

    Raises:
        ValueError, TypeError: bad embeddings, all zeros, all rows equal with `center=True`.

    Example:
        >>> spectrum(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        tensor([4., 3.])
    """
    x = require_embeddings(x, "x")
    squares, scale = squared_singular_values(x, center=center)
    return (squares.sqrt() * scale).to(x.dtype)


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
    squares, _ = squared_singular_values(x, center=center)
    return entropy_rank(squares, power=0.5 if spectrum == "singular" else 1.0).to(x.dtype)


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
    squares, _ = squared_singular_values(x, center=False)
    return entropy_rank(squares, epsilon=small).to(x.dtype)


@full_precision
def spectrum_decay(
    x: Tensor,
    *,
    ranks: tuple[int, int] | None = None,
    center: bool = True,
    weights: Literal["harmonic", "equal"] = "harmonic",
) -> Tensor:
    r"""alpha-ReQ: exponent of the power law that the variances of the principal components follow.

    .. math:: \lambda_k \propto k^{-\alpha}, \qquad
        (\hat\alpha, \hat b) = \arg\min \sum_k w_k \big( \log \lambda_k + \alpha \log k - b \big)^2

    Args:
        x: (n, d) embeddings, not normalised.
        ranks: first and last k of the fit, from 1; None takes all variances above zero. The authors' code fits ranks 4 to
            100 (or to 50), without the first ones and the noisy tail, which changes the value: state the range with it.
        center: subtract the mean row first, as for principal components.
        weights: 'harmonic' weighs rank k by 1 / k, as the authors' code (after Stringer et al. 2019) does; 'equal' is
            ordinary least squares of the logarithms.

    Returns:
        Scalar: 0 for a flat spectrum, near 1 for the spectra that generalise best by the paper, larger for collapse.

    Raises:
        ValueError, TypeError: bad embeddings, fewer than two variances above zero in `ranks`.

    Source: Agrawal et al. 2022 (arXiv 2202.05808), alpha-ReQ.

    Example:
        >>> print(f"{spectrum_decay(torch.diag(torch.tensor([1.0, 1/2, 1/3, 1/4])), center=False):.4f}")
        2.0000
    """
    if weights not in ("equal", "harmonic"):
        raise ValueError(f"weights must be 'harmonic' or 'equal', got {describe(weights)}")
    x = require_embeddings(x, "x", min_rows=2)
    squares, _ = squared_singular_values(x, center=center)
    low, high = decay_ranks(squares, ranks)
    return power_law(squares, low, high, harmonic=weights == "harmonic").to(x.dtype)


def entropy_rank(squares: Tensor, *, power: float = 0.5, epsilon: float = 0.0) -> Tensor:
    """Exponential of the entropy of the last axis of squared singular values, to `power`, `epsilon` added to each weight."""
    weights = squares.pow(power)
    return torch.special.entr(weights / weights.sum(-1, keepdim=True) + epsilon).sum(-1).exp()


def decay_ranks(squares: Tensor, ranks: tuple[int, int] | None) -> tuple[int, int]:
    """First and last rank of the power law, within what is above zero."""
    positive = int((squares > 0).sum())
    if ranks is None:
        low, high = 1, positive
    else:
        if not isinstance(ranks, tuple) or len(ranks) != 2:
            raise TypeError(f"ranks must be a pair of integers, got {describe(ranks)}")
        low = require_int(ranks[0], "ranks", low=1)
        high = min(positive, require_int(ranks[1], "ranks", low=low + 1))
    if high <= low:
        raise ValueError(f"ranks must hold at least two variances above zero, got ranks {low} to {high} of {positive}")
    return low, high


def power_law(squares: Tensor, low: int, high: int, *, harmonic: bool) -> Tensor:
    """Minus the slope of log variance against log rank, over the last axis."""
    k = torch.arange(low, high + 1, dtype=squares.dtype, device=squares.device)
    weight = 1 / k if harmonic else torch.ones_like(k)
    weight = weight / weight.sum()
    log_k = k.log() - (weight * k.log()).sum()
    logs = squares[..., low - 1 : high].clamp(min=torch.finfo(squares.dtype).tiny).log()
    return -(weight * log_k * logs).sum(-1) / (weight * log_k.square()).sum()


def squared_singular_values(x: Tensor, *, center: bool) -> tuple[Tensor, float]:
    """Squared singular values of x / scale in float64, largest first, and the scale."""
    squares, _, scale, _ = _decompose(x, center=center, vectors=False)
    return squares, scale


def squared_projections(x: Tensor, *, center: bool) -> Tensor:
    """(n, r) squares of the rows along the right singular vectors, in units of the scale; their sums are the squares above."""
    squares, vectors, scale, mean = _decompose(x, center=center, vectors=True)
    n, d = x.shape
    if n < d:
        return squares * vectors.square()
    projections = torch.empty(n, d, dtype=squares.dtype, device=x.device)
    for rows in row_blocks(n, 4 * d):
        projections[rows] = (((x[rows].to(squares.dtype) - mean) / scale) @ vectors).square()
    return torch.where(squares > 0, projections, 0)


@lru_cache(maxsize=8)  # several measures of one set need the same null
def isotropic_squares(n: int, d: int, *, draws: int, seed: int) -> Tensor:
    """(draws, min(n, d)) squared singular values of n x d matrices of independent Gaussians, without drawing the matrices.

    Bartlett: x'x is distributed as L L', L lower triangular with chi distributed diagonal and Gaussians below.
    """
    generator = torch.Generator().manual_seed(seed)
    small, large = min(n, d), max(n, d)
    lower = torch.randn(draws, small, small, generator=generator, dtype=torch.float64).tril(-1)
    freedom = (large - torch.arange(small, dtype=torch.float64)).expand(draws, small)
    chi = (2 * torch._standard_gamma(freedom / 2, generator=generator)).sqrt()
    return torch.linalg.svdvals(lower + torch.diag_embed(chi)).square()


def _decompose(x: Tensor, *, center: bool, vectors: bool) -> tuple[Tensor, Tensor, float, Tensor]:
    """Squares, vectors, scale and mean, through the smaller of x'x and xx', in float64."""
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
    if vectors:
        squares, basis = torch.linalg.eigh(gram)
        squares, basis = squares.flip(0), basis.flip(1)
    else:
        squares, basis = torch.linalg.eigvalsh(gram).flip(0), gram
    # Rounding of a sum of many products leaves directions that do not exist: sqrt(rows) units in the last place.
    rounding = (len(gram) + 4 * math.sqrt(len(tall))) * torch.finfo(wide).eps
    return torch.where(squares > rounding * squares[0], squares, 0), basis, float(scale), mean
