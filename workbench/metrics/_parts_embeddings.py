"""What each row contributes to the metrics of embeddings, and their nulls; used by `estimate`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.checks import require_embeddings, require_labels, require_positive, require_unit_rows
from workbench.metrics._blocks import full_precision, require_unit_pairs, row_blocks, to_numpy, unit_rows, wide_dtype
from workbench.metrics.geometry import cosine_to_others, log_mean_potential, log_potentials, squared_distances, tolerance
from workbench.metrics.intervals import Contributions, mean_of, require_share
from workbench.metrics.neighbours import Neighbours, k_occurrence, nearest_neighbours, shared_neighbours
from workbench.metrics.similarity import centred_pair, cka_influence, procrustes, procrustes_rows, spearman_influence, vectors
from workbench.metrics.spectrum import (
    decay_ranks,
    entropy_rank,
    isotropic_squares,
    power_law,
    squared_projections,
)

ISOTROPIC = 8  # Gaussian matrices behind the null of ranks


@full_precision
def alignment(x: Tensor, y: Tensor, *, alpha: float = 2.0) -> Contributions:
    power = float(require_positive(alpha, "alpha"))
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    shuffled = [float(squared_distances(x, y.roll(step, 0)).pow(power / 2).mean()) for step in _rotations(len(x))]
    return mean_of(
        "alignment",
        squared_distances(x, y).pow(power / 2),
        null=float(np.mean(shuffled)),
        null_is="the same rows with shuffled partners",
        convention=f"mean distance to the power {power:g}, rows normalised",
        d=x.shape[1],
        bounds=(0.0, 2**power),
    )


@full_precision
def uniformity(x: Tensor, *, t: float = 2.0, chunk_size: int | None = None) -> Contributions:
    width = float(require_positive(t, "t"))
    x = require_unit_rows(x, "x", min_rows=2)
    logs = log_potentials(x, None, width, chunk_size)
    return _potential("uniformity", logs, width, x.shape[1], f"t = {width:g}, distinct pairs, rows normalised")


@full_precision
def cross_uniformity(x: Tensor, y: Tensor, *, t: float = 2.0, chunk_size: int | None = None) -> Contributions:
    width = float(require_positive(t, "t"))
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    logs = log_potentials(x, y, width, chunk_size)
    return _potential("cross_uniformity", logs, width, x.shape[1], f"t = {width:g}, unmatched pairs, rows normalised")


def _potential(name: str, logs: Tensor, t: float, d: int, convention: str) -> Contributions:
    from scipy.special import hyp0f1

    # Hajek's projection of the logarithm of a mean over pairs: twice the row's share, less one.
    share = (logs - logs.logsumexp(0)).exp() * len(logs)
    sphere = -2 * t + math.log(hyp0f1(d / 2, t * t)) if d > 1 else math.log((1 + math.exp(-4 * t)) / 2)
    return mean_of(
        name,
        float(log_mean_potential(logs)) + 2 * (share - 1),
        null=float(sphere),
        null_is="points spread evenly over the sphere of this width",
        convention=convention,
        d=d,
        bounds=(-4 * t, 0.0),
    )


@full_precision
def anisotropy(x: Tensor) -> Contributions:
    x = require_unit_rows(x, "x", min_rows=2)
    own = cosine_to_others(x)
    return mean_of(
        "anisotropy",
        2 * own - own.mean(),
        null=0.0,
        null_is="points spread evenly over the sphere",
        convention="mean cosine of distinct pairs",
        d=x.shape[1],
        bounds=(-1.0, 1.0),
    )


@full_precision
def tolerance_(x: Tensor, labels: Tensor) -> Contributions:
    value = float(tolerance(x, labels))
    x = require_unit_rows(x, "x", min_rows=2)
    _, index, counts = require_labels(labels, len(x)).to(x.device).unique(return_inverse=True, return_counts=True)
    wide, blocks = wide_dtype(x.device), list(row_blocks(len(x), 4 * x.shape[1]))
    sums = torch.zeros(len(counts), x.shape[1], dtype=wide, device=x.device)
    for rows in blocks:
        sums.index_add_(0, index[rows], unit_rows(x[rows]))
    cosines, pairs = torch.empty(len(x), dtype=wide, device=x.device), (counts[index] - 1).to(wide)
    for rows in blocks:
        unit = unit_rows(x[rows])
        cosines[rows] = (unit * (sums[index[rows]] - unit)).sum(1)
    return mean_of(
        "tolerance",
        value + 2 * (cosines - value * pairs) / pairs.mean(),
        null=float(cosine_to_others(x).mean()),
        null_is="shuffled labels: the mean cosine of all distinct pairs",
        convention="mean cosine of distinct pairs of one class",
        d=x.shape[1],
        bounds=(-1.0, 1.0),
    )


@full_precision
def effective_rank(x: Tensor, *, center: bool = False, spectrum: str = "singular") -> Contributions:
    if spectrum not in ("singular", "variance"):
        raise ValueError(f"spectrum must be 'singular' or 'variance', got {spectrum!r}")
    power = 0.5 if spectrum == "singular" else 1.0
    return _spectral(
        "effective_rank", x, center, lambda squares: entropy_rank(squares, power=power), f"exact entropy, {spectrum}, no epsilon"
    )


@full_precision
def rankme(x: Tensor, *, epsilon: float = 1e-7) -> Contributions:
    small = float(require_positive(epsilon, "epsilon"))
    return _spectral(
        "rankme", x, False, lambda squares: entropy_rank(squares, epsilon=small), f"epsilon = {small:g}, not centred"
    )


@full_precision
def spectrum_decay(
    x: Tensor, *, ranks: tuple[int, int] | None = None, center: bool = True, weights: str = "harmonic"
) -> Contributions:
    if weights not in ("harmonic", "equal"):
        raise ValueError(f"weights must be 'harmonic' or 'equal', got {weights!r}")
    x = require_embeddings(x, "x", min_rows=2)
    low, high = decay_ranks(squared_projections(x, center=center).sum(0), ranks)

    def decay(squares: Tensor) -> Tensor:
        return power_law(squares, low, min(high, squares.shape[-1]), harmonic=weights == "harmonic")

    return _spectral(
        "spectrum_decay", x, center, decay, f"ranks {low} to {high}, {weights} weights", bounds=(-math.inf, math.inf)
    )


def _spectral(name: str, x: Tensor, center: bool, value: Any, convention: str, bounds: Any = (1.0, math.inf)) -> Contributions:
    x = require_embeddings(x, "x", min_rows=2)
    n, d = x.shape
    # To first order a singular value follows the weights of the rows while its direction stays.
    rows = squared_projections(x, center=center)
    null = value(isotropic_squares(n - center, d, draws=ISOTROPIC, seed=0)).mean()
    return Contributions(
        name=name,
        rows=to_numpy(rows.double()),
        statistic=lambda means: value(torch.as_tensor(means)).numpy(),
        null=float(null),
        null_is="independent Gaussian entries, same number of rows and columns",
        convention=convention,
        d=d,
        bounds=bounds,
    )


@full_precision
def hubness(x: Tensor | Neighbours, *, k: int = 10) -> Contributions:
    neighbours = x if isinstance(x, Neighbours) else nearest_neighbours(x, k=k)
    counts = to_numpy(k_occurrence(neighbours)).astype(float) - neighbours.k
    n, share = len(counts), neighbours.k / (len(counts) - 1)

    def skewness(means: np.ndarray) -> np.ndarray:
        m1, m2, m3 = means[..., 0], means[..., 1], means[..., 2]
        variance = m2 - m1**2
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        return np.where(variance > 1e-12, third / np.maximum(variance, 1e-12) ** 1.5, 0.0)

    spread = (n - 1) * share * (1 - share)
    return Contributions(
        name="hubness",
        rows=np.stack([counts, counts**2, counts**3], 1),
        statistic=skewness,
        null=(1 - 2 * share) / math.sqrt(spread) if spread > 0 else 0.0,
        null_is="neighbours drawn at random (binomial), about what points spread evenly over a sphere have",
        convention=f"skewness of the {neighbours.k}-occurrence; occurrences resampled as if independent",
        d=None if isinstance(x, Neighbours) else x.shape[1],
    )


@full_precision
def near_duplicates(x: Tensor | Neighbours, *, threshold: float = 0.99) -> Contributions:
    from scipy.special import betainc

    threshold = require_share(threshold, "threshold")
    neighbours = x if isinstance(x, Neighbours) else nearest_neighbours(x, k=1)
    d = None if isinstance(x, Neighbours) else x.shape[1]
    null = None
    if d is not None and d > 1:
        cap = betainc((d - 1) / 2, 0.5, 1 - threshold**2) / 2
        null = float(-np.expm1((len(neighbours.index) - 1) * np.log1p(-cap)))
    return mean_of(
        "near_duplicates",
        (neighbours.cosine[:, 0] >= threshold).double(),
        null=null,
        null_is="points spread evenly over the sphere" if null is not None else "not known without the embeddings",
        convention=f"share of rows with another row at cosine {threshold:g} or more",
        d=d,
        bounds=(0.0, 1.0),
        share=True,
    )


@full_precision
def knn_overlap(x: Tensor | Neighbours, y: Tensor | Neighbours, *, k: int = 10) -> Contributions:
    first_set, second_set = (z if isinstance(z, Neighbours) else nearest_neighbours(z, k=k) for z in (x, y))
    return mean_of(
        "knn_overlap",
        shared_neighbours(first_set, second_set),
        null=first_set.k / (len(first_set.index) - 1),
        null_is="unrelated spaces: k / (n - 1)",
        convention=f"common members of the {first_set.k} nearest",
        bounds=(0.0, 1.0),
        share=True,
    )


@full_precision
def linear_cka(x: Tensor, y: Tensor) -> Contributions:
    value, influence, shuffled = cka_influence(x, y)
    return mean_of(
        "linear_cka",
        value + influence,
        null=shuffled,
        null_is="shuffled pairs (exact mean over all shuffles, of the numerator)",
        convention="plain, biased HSIC; see debiased=True for one without bias",
        d=x.shape[1],
        bounds=(0.0, 1.0),
    )


@full_precision
def procrustes_(x: Tensor, y: Tensor) -> Contributions:
    a, b = centred_pair(x, y, min_rows=2)

    def disparity(means: np.ndarray) -> np.ndarray:
        return 1 - means[..., 0] ** 2 / (means[..., 1] * means[..., 2])

    return Contributions(
        name="procrustes",
        rows=procrustes_rows(x, y),
        statistic=disparity,
        null=float(np.mean([float(procrustes(a, b.roll(step, 0))) for step in _rotations(len(a))])),
        null_is="the same rows with shuffled partners",
        convention="disparity with the best scaling; rotation fixed while rows are drawn",
        d=x.shape[1],
        bounds=(0.0, 1.0),
    )


def pearson(x: Tensor, y: Tensor) -> Contributions:
    a, b = ((z - z.mean()) / z.std() for z in vectors(x, y))

    def statistic(means: np.ndarray) -> np.ndarray:
        m_a, m_b, aa, bb, ab = (means[..., i] for i in range(5))
        return (ab - m_a * m_b) / np.sqrt(np.maximum((aa - m_a**2) * (bb - m_b**2), 1e-30))

    return Contributions(
        name="pearson",
        rows=np.stack([a, b, a * a, b * b, a * b], 1),
        statistic=statistic,
        null=0.0,
        null_is="unrelated numbers",
        convention="product-moment",
        bounds=(-1.0, 1.0),
    )


def spearman(x: Tensor, y: Tensor) -> Contributions:
    rho, influence = spearman_influence(x, y)
    # On Fisher's scale, where the distribution is nearly normal.
    inside = float(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    scale = 1 - inside**2 if abs(rho) < 1 - 1e-12 else math.inf
    return Contributions(
        name="spearman",
        rows=(math.atanh(inside) + influence / scale)[:, None],
        statistic=lambda means: np.tanh(means[..., 0]),
        null=0.0,
        null_is="unrelated numbers",
        convention="ties at their mean rank",
        bounds=(-1.0, 1.0),
    )


def _rotations(n: int) -> list[int]:
    """Steps by which one list is rotated against the other: nobody keeps its partner."""
    count = max(3, min(20, 100_000 // n))  # one shuffle of many rows is as good as many shuffles of a few
    return np.random.default_rng(0).permutation(np.arange(1, n))[:count].tolist()
