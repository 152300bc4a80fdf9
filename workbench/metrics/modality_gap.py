"""How far two paired modalities lie apart in a shared space, by all the usual measures at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.checks import describe
from workbench.metrics._blocks import (
    full_precision,
    require_int,
    require_unit_pairs,
    row_blocks,
    to_numpy,
    unit_rows,
    wide_dtype,
)
from workbench.metrics.retrieval import paired_ranks, partner_ranks

DRAWS = 20  # random halvings behind `chance_distance`
FOLDS = 5  # of the linear classifier behind `separability`
EXACT = 20_000  # rows up to which every row is a query; above, a random part of them, among all rows as keys
QUERIES = 5_000  # that part: recall is then right to 0.7 percentage points (one standard error) or better
PAIRS = 10_000  # pairs that the classifier sees at most


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
        direction_share: share of the mean squared distance of matched pairs that is one common shift, in [0, 1]. 1: every pair
            differs by the same vector; 0: there is no common direction.
        spread_x: root mean square distance of the rows of x from their centroid, in [0, 1].
        spread_y: the same of y. A gap is large or small in relation to these.
        n: number of pairs.
        d: width of the embeddings.
        n_query: rows that were queries for the four recalls; all rows where n <= 20,000. Keys are always all rows.
        n_separability: pairs behind `separability`.
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
    direction_share: float
    spread_x: float
    spread_y: float
    n: int
    d: int
    n_query: int
    n_separability: int


@full_precision
def modality_gap(x: Tensor, y: Tensor, *, seed: int = 0, max_queries: int | None = None, max_pairs: int = PAIRS) -> ModalityGap:
    r"""All usual measures of the gap between two paired sets of embeddings, with a control for what chance gives.

    .. math:: \Big\lVert \frac1n \sum_i x_i - \frac1n \sum_i y_i \Big\rVert_2 \qquad
        \mathrm{RMG} = \frac{P}{P + \tfrac12 (W_x + W_y)}

    Args:
        x: (n, d) embeddings of one modality, n >= 2, normalised inside.
        y: (n, d) of the other, row i is the partner of row i of `x`.
        seed: seed of the folds, of the random halves and of the subsets.
        max_queries: most queries for recall, drawn at random; None takes all up to 20,000 rows and 5,000 above that.
        max_pairs: most pairs for the linear classifier, drawn at random.

    Returns:
        ModalityGap; each field says its convention and its extremes, `n_query` and `n_separability` what was drawn.

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
    if max_queries is None:
        max_queries = n if n <= EXACT else QUERIES
    n_query = min(n, require_int(max_queries, "max_queries", low=1))
    n_pairs = min(n, require_int(max_pairs, "max_pairs", low=2))
    x_mean, y_mean = _mean(x), _mean(y)

    # Cosine distances in float64 and without 1 - cos, so that pairs that nearly coincide keep their distance.
    blocks = list(row_blocks(n, 4 * x.shape[1]))
    matched = sum(float((unit_rows(x[b]) - unit_rows(y[b])).square().sum()) for b in blocks) / (2 * n)
    x_within, y_within = (float((1 - m.square().sum()) * n / (n - 1)) for m in (x_mean, y_mean))
    within = max(0.0, (x_within + y_within) / 2)
    unmatched = (n * float(x_mean @ y_mean) - (1 - matched)) / (n - 1)

    gap = x_mean - y_mean
    x_shifted, y_shifted = shift_gap(x, y)
    queries = sample_rows(n, n_query, seed).to(x.device)
    ranks, shifted_ranks = _ranks(x, y, queries), _ranks(x_shifted, y_shifted, queries)
    sample = sample_rows(n, n_pairs, seed).to(x.device)
    return ModalityGap(
        centroid_distance=float(gap.norm()),
        chance_distance=chance_distance(x, y, seed),
        separability=float(0.5 + separation_signs(x[sample], y[sample], seed).mean() / 2),
        relative_gap=matched / (matched + within) if matched + within > 1e-12 else 0.0,
        matched_cosine=1 - matched,
        unmatched_cosine=unmatched,
        shifted_distance=float((_mean(x_shifted) - _mean(y_shifted)).norm()),
        recall_x2y=_hits(ranks[0]),
        recall_y2x=_hits(ranks[1]),
        recall_x2y_shifted=_hits(shifted_ranks[0]),
        recall_y2x_shifted=_hits(shifted_ranks[1]),
        direction_share=min(1.0, float(gap.square().sum()) / (2 * matched)) if matched > 1e-14 else 0.0,
        spread_x=math.sqrt(max(0.0, 1 - float(x_mean.square().sum()))),
        spread_y=math.sqrt(max(0.0, 1 - float(y_mean.square().sum()))),
        n=n,
        d=x.shape[1],
        n_query=n_query,
        n_separability=n_pairs,
    )


@full_precision
def shift_gap(x: Tensor, y: Tensor, *, amount: float = 0.5) -> tuple[Tensor, Tensor]:
    r"""Move both modalities along the gap, and scale their rows to length one again.

    .. math:: x_i' \propto x_i - \lambda \Delta, \qquad y_i' \propto y_i + \lambda \Delta, \qquad \Delta = \bar x - \bar y

    Args:
        x: (n, d) embeddings of one modality, normalised inside.
        y: (n, d) of the other.
        amount: lambda; 0.5 closes the gap, 0 changes nothing, negative values open it further.

    Returns:
        Both sets, rows of length one; a row that lands on the origin becomes zero.

    Raises:
        ValueError, TypeError: bad embeddings, unpaired sets, amount not a finite number.

    Source: Liang et al. 2022 (arXiv 2203.02053), section 5, the shift experiment.

    Example:
        >>> shift_gap(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))[0]
        tensor([[1., 0.],
                [0., 1.]])
    """
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=1)
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"amount must be a number, got {describe(amount)}")
    if not math.isfinite(amount):
        raise ValueError(f"amount must be finite, got {amount}")
    step = (amount * (_mean(x) - _mean(y))).to(x.dtype)
    return _unit_or_zero(x - step), _unit_or_zero(y + step)


def sample_rows(n: int, size: int, seed: int) -> Tensor:
    """`size` different rows of n, in order; all of them where size = n."""
    if size == n:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:size].sort().values


def _ranks(x: Tensor, y: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks of the partners, both ways, for some of the rows as queries and all rows as keys."""
    if len(queries) == len(x):
        return paired_ranks(x, y)
    return partner_ranks(x, y, queries), partner_ranks(y, x, queries)


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


def chance_distance(x: Tensor, y: Tensor, seed: int) -> float:
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


def separation_signs(x: Tensor, y: Tensor, seed: int) -> np.ndarray:
    """(n, ) for each pair the mean of two signs: 1 where a classifier that did not see the pair places both rows rightly.

    A score of exactly zero counts half.
    """
    from sklearn.linear_model import LogisticRegression

    rows, others, n = to_numpy(x), to_numpy(y), len(x)
    folds = min(FOLDS, n)
    fold = np.random.default_rng(seed).permutation(n) % folds
    signs = np.zeros(n)
    for held_out in range(folds):
        train, test = fold != held_out, fold == held_out
        both, truth = np.concatenate([rows[train], others[train]]), np.repeat([1, 0], train.sum())
        model = LogisticRegression(max_iter=1000).fit(both, truth)
        signs[test] = np.sign(model.decision_function(rows[test])) - np.sign(model.decision_function(others[test]))
    return signs / 2
