"""How far two paired modalities lie apart in a shared space, by all the usual measures at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.metrics._blocks import (
    full_precision,
    require_int,
    require_unit_pairs,
    row_blocks,
    to_numpy,
    unit_rows,
    wide_dtype,
)
from workbench.metrics.retrieval import paired_ranks

DRAWS = 20  # random halvings behind `chance_distance`
FOLDS = 5  # of the linear classifier behind `separability`


@dataclass(frozen=True, kw_only=True)
class ModalityGap:
    """The modality gap of n pairs; all rows have length one.

    Attributes:
        centroid_distance: Euclidean length of the difference of the two mean vectors, which are not normalised again;
            in [0, 2]. 0: no gap; 2: two points at opposite poles (Liang et al. 2022).
        chance_distance: what `centroid_distance` two sets of n rows of ONE modality would have by chance. From random
            halves of each modality, scaled from n/2 to n rows (by 1 / sqrt 2); mean over both modalities and 20 halvings.
        separability: accuracy with which logistic regression (scikit-learn, C = 1, unit rows not standardised) tells the
            modalities apart on held-out rows; 5 folds, the two rows of a pair always in the same fold. 0.5: mixed; 1: two clouds.
        relative_gap: RMG = P / (P + W), P the mean cosine distance of matched pairs and W the mean cosine distance of
            distinct rows within a modality, averaged over the two; in [0, 1]. 0: pairs coincide; 0.5: partners are as far
            apart as strangers of one modality; 1: two points. Where all rows coincide (0 / 0) it is 0 (Schrodi et al. 2025).
        matched_cosine: mean cosine of the matched pairs.
        unmatched_cosine: mean cosine of x_i and y_j over all i != j.
        shifted_distance: `centroid_distance` after mean shift: each modality moved half the gap towards the other and its
            rows scaled to length one again, which brings a little of the gap back (Liang et al. 2022, lambda = 1/2).
        recall_x2y: recall@1 of the partner in y for each row of x; ties count against it.
        recall_y2x: the same from y to x.
        recall_x2y_shifted: recall@1 after mean shift; rows that the shift moved to the origin miss.
        recall_y2x_shifted: the same from y to x.
        n: number of pairs.
        d: width of the embeddings.
    """

    centroid_distance: float
    chance_distance: float
    separability: float
    relative_gap: float
    matched_cosine: float
    unmatched_cosine: float
    shifted_distance: float
    recall_x2y: float
    recall_y2x: float
    recall_x2y_shifted: float
    recall_y2x_shifted: float
    n: int
    d: int


@full_precision
def modality_gap(x: Tensor, y: Tensor, *, seed: int = 0) -> ModalityGap:
    r"""All usual measures of the gap between two paired sets of embeddings, with a control for what chance gives.

    .. math:: \Big\lVert \frac1n \sum_i x_i - \frac1n \sum_i y_i \Big\rVert_2 \qquad
        \mathrm{RMG} = \frac{P}{P + \tfrac12 (W_x + W_y)}

    Args:
        x: (n, d) embeddings of one modality, n >= 2, normalised inside.
        y: (n, d) of the other, row i is the partner of row i of `x`.
        seed: seed of the folds and of the random halves.

    Returns:
        ModalityGap; each field says its convention and its extremes.

    Raises:
        ValueError, TypeError: bad embeddings, unpaired sets, one row.

    Source: Liang et al. 2022 (arXiv 2203.02053): centroid distance and shift; Fahim et al. 2024 (arXiv 2405.18570):
    separability; Schrodi et al. 2025 (arXiv 2404.07983), equation 1: RMG. The authors' code of the last replaces
    P = 0 by 0.001, this does not.

    Example:
        >>> x = torch.tensor([[1.0, 0.1], [1.0, -0.1]])
        >>> gap = modality_gap(x, x)
        >>> gap.centroid_distance, gap.separability, gap.recall_x2y
        (0.0, 0.5, 1.0)
    """
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    seed = require_int(seed, "seed", low=0)
    n = len(x)
    x_mean, y_mean = _mean(x), _mean(y)

    # Cosine distances in float64 and without 1 - cos, so that pairs that nearly coincide keep their distance.
    blocks = list(row_blocks(n, 4 * x.shape[1]))
    matched = sum(float((unit_rows(x[b]) - unit_rows(y[b])).square().sum()) for b in blocks) / (2 * n)
    x_within, y_within = (float((1 - m.square().sum()) * n / (n - 1)) for m in (x_mean, y_mean))
    within = max(0.0, (x_within + y_within) / 2)
    unmatched = (n * float(x_mean @ y_mean) - (1 - matched)) / (n - 1)

    half = ((x_mean - y_mean) / 2).to(x.dtype)
    x_shifted, y_shifted = _unit_or_zero(x - half), _unit_or_zero(y + half)
    ranks, shifted_ranks = paired_ranks(x, y), paired_ranks(x_shifted, y_shifted)
    return ModalityGap(
        centroid_distance=float((x_mean - y_mean).norm()),
        chance_distance=_chance_distance(x, y, seed),
        separability=_separability(to_numpy(x), to_numpy(y), seed),
        relative_gap=matched / (matched + within) if matched + within > 1e-12 else 0.0,
        matched_cosine=1 - matched,
        unmatched_cosine=unmatched,
        shifted_distance=float((_mean(x_shifted) - _mean(y_shifted)).norm()),
        recall_x2y=_hits(ranks[0]),
        recall_y2x=_hits(ranks[1]),
        recall_x2y_shifted=_hits(shifted_ranks[0]),
        recall_y2x_shifted=_hits(shifted_ranks[1]),
        n=n,
        d=x.shape[1],
    )


def _mean(x: Tensor) -> Tensor:
    """Mean in float64 of rows that have length one (or zero)."""
    total = torch.zeros(x.shape[1], dtype=wide_dtype(x.device), device=x.device)
    for rows in row_blocks(len(x), 4 * x.shape[1]):
        total += torch.nn.functional.normalize(x[rows].to(total.dtype), dim=1).sum(0)
    return total / len(x)


def _unit_or_zero(x: Tensor) -> Tensor:
    """Rows scaled to length one; rows that are nothing but rounding become zero instead of a random direction."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return torch.where(length > 64 * torch.finfo(x.dtype).eps, x / length, 0)


def _hits(ranks: Tensor) -> float:
    return float((ranks == 0).double().mean())


def _chance_distance(x: Tensor, y: Tensor, seed: int) -> float:
    n, wide = len(x), wide_dtype(x.device)
    generator = torch.Generator().manual_seed(seed)
    sizes = (n // 2, n - n // 2)
    # One row of weights for each halving: its product with the rows is the difference of the two means.
    weights = torch.full((DRAWS, n), -1 / sizes[1], dtype=torch.float64)
    for draw in range(DRAWS):
        weights[draw, torch.randperm(n, generator=generator)[: sizes[0]]] = 1 / sizes[0]
    weights = weights.to(device=x.device, dtype=wide)
    total = 0.0
    for modality in (x, y):
        difference = torch.zeros(DRAWS, x.shape[1], dtype=wide, device=x.device)
        for rows in row_blocks(n, 4 * x.shape[1]):
            difference += weights[:, rows] @ modality[rows].to(wide)
        total += float(difference.norm(dim=1).mean())
    # Two samples of n rows differ by 2 / n of the variance, two halves of one sample by 1 / n1 + 1 / n2 of it.
    return total / 2 * math.sqrt(2 / n / (1 / sizes[0] + 1 / sizes[1]))


def _separability(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    from sklearn.linear_model import LogisticRegression

    n = len(x)
    folds = min(FOLDS, n)
    fold = np.random.default_rng(seed).permutation(n) % folds
    signs = 0.0
    for held_out in range(folds):
        train, test = fold != held_out, fold == held_out
        rows, truth = np.concatenate([x[train], y[train]]), np.repeat([1, 0], train.sum())
        model = LogisticRegression(max_iter=1000).fit(rows, truth)
        # A score of exactly zero is half right.
        signs += np.sign(model.decision_function(x[test])).sum() - np.sign(model.decision_function(y[test])).sum()
    return float(0.5 + signs / (4 * n))
