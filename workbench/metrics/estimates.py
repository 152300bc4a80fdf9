"""`estimate`: any metric with its interval and its null, and the comparison of two systems on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.checks import describe
from workbench.errors import UnknownNameError
from workbench.metrics import _parts_embeddings as rows_of
from workbench.metrics import _parts_gap as gap_of
from workbench.metrics import _parts_scores as scores_of
from workbench.metrics.intervals import DRAWS, Contributions, Estimate, difference, interval, p_value, require_share

PARTS: dict[str, Callable[..., Contributions]] = {
    "alignment": rows_of.alignment,
    "uniformity": rows_of.uniformity,
    "cross_uniformity": rows_of.cross_uniformity,
    "anisotropy": rows_of.anisotropy,
    "tolerance": rows_of.tolerance_,
    "effective_rank": rows_of.effective_rank,
    "rankme": rows_of.rankme,
    "spectrum_decay": rows_of.spectrum_decay,
    "hubness": rows_of.hubness,
    "near_duplicates": rows_of.near_duplicates,
    "knn_overlap": rows_of.knn_overlap,
    "linear_cka": rows_of.linear_cka,
    "procrustes": rows_of.procrustes_,
    "pearson": rows_of.pearson,
    "spearman": rows_of.spearman,
    "centroid_distance": gap_of.centroid_distance,
    "matched_cosine": gap_of.matched_cosine,
    "relative_gap": gap_of.relative_gap,
    "separability": gap_of.separability,
    "recall_at_k": scores_of.recall,
    "mrr": scores_of.mrr,
    "map": scores_of.mean_average_precision,
    "ndcg": scores_of.ndcg,
    "knn_accuracy": scores_of.knn_accuracy,
    "linear_probe": scores_of.linear_probe,
    "factor_probe": scores_of.factor,
    "chair_i": scores_of.chair_part("chair_i"),
    "chair_s": scores_of.chair_part("chair_s"),
    "chair_recall": scores_of.chair_part("chair_recall"),
    "pope_accuracy": scores_of.pope_part("pope_accuracy"),
    "pope_precision": scores_of.pope_part("pope_precision"),
    "pope_recall": scores_of.pope_part("pope_recall"),
    "pope_f1": scores_of.pope_part("pope_f1"),
    "pope_yes_ratio": scores_of.pope_part("pope_yes_ratio"),
    "pairs_text": scores_of.pairs_part("text", 1 / 4),
    "pairs_image": scores_of.pairs_part("image", 1 / 4),
    "pairs_group": scores_of.pairs_part("group", 1 / 6),
    "caption_choice": scores_of.caption_choice,
    "mc1": scores_of.choice_part(0),
    "mc2": scores_of.choice_part(1),
    "mc3": scores_of.choice_part(2),
    "mc_margin": scores_of.choice_part(3),
    "perplexity": scores_of.perplexity,
    "repetition": scores_of.repetition,
    "diversity": scores_of.diversity,
    "mauve": scores_of.mauve_,
}


def estimate(
    name: str, *data: Any, level: float = 0.95, groups: object = None, draws: int = DRAWS, seed: int = 0, **options: Any
) -> Estimate:
    r"""A metric with its interval, its null and its convention; similarities are computed once.

    .. math:: \hat\theta, \quad [\theta_{\text{low}}, \theta_{\text{high}}], \quad \theta_{\text{null}}

    Args:
        name: the metric: that of the bare function, `estimate_names()` lists all. Results with counts are split:
            'chair_i', 'pope_f1', 'mc2', 'pairs_text'.
        data: the arguments of the bare function; for retrieval also its stored result, and the result itself for 'chair_*',
            'pope_*', 'pairs_*', 'caption_choice' and 'mc*'.
        level: confidence of the interval.
        groups: (n,) labels of rows that belong together, such as the image of each caption; groups are resampled whole.
        draws: bootstrap draws.
        seed: seed of the draws.
        options: the options of the bare function.

    Returns:
        Estimate. The interval says what as many other rows of the same kind would give; it knows nothing of another seed
        of training. Ranks, spectra, CKA and Procrustes also move with the number of rows (a plug-in bias that the interval
        does not hold): compare them at one n. With groups, a mean over pairs of rows still counts pairs within a group.

    Raises:
        UnknownNameError: no such metric.
        ValueError, TypeError: as the bare function; fewer than two rows or groups.

    Example:
        >>> hits = torch.eye(20)
        >>> print(estimate("recall_at_k", hits, hits, k=1))
        recall_at_k = 1 [0.8389, 1] (95%; null 0.05; n=20, d=20)
    """
    return interval(contributions(name, *data, **options), level=level, groups=groups, draws=draws, seed=seed)


def estimate_names() -> tuple[str, ...]:
    """The metrics that `estimate` knows."""
    return tuple(PARTS)


def contributions(name: str, *data: Any, **options: Any) -> Contributions:
    """What each row contributes to a metric: compute once, then take intervals of several levels or groups from it."""
    if name not in PARTS:
        raise UnknownNameError("metric", name, PARTS)
    return PARTS[name](*data, **options)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two systems on the same rows.

    Attributes:
        first: the metric of the first system.
        second: of the second.
        difference: second minus first with its paired interval.
        p_value: two-sided, by the paired bootstrap; no smaller than 1 / (draws + 1).
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    p_value: float


def compare(
    name: str,
    first: Sequence[Any],
    second: Sequence[Any],
    *,
    level: float = 0.95,
    groups: object = None,
    draws: int = DRAWS,
    seed: int = 0,
    **options: Any,
) -> Comparison:
    """Paired bootstrap of one metric between two systems that met the same queries, images or captions.

    Args:
        name: the metric, as for `estimate`.
        first: tuple of the arguments of the first system.
        second: of the second; row i belongs to the same case.
        level: confidence of the intervals.
        groups: (n,) labels of rows that belong together.
        draws: bootstrap draws.
        seed: seed of the draws.
        options: options of the metric.

    Returns:
        Comparison.

    Raises:
        UnknownNameError: no such metric.
        ValueError, TypeError: different numbers of rows, or as `estimate`.

    Source: Efron & Tibshirani 1993, chapter 16; for text: Koehn 2004, Statistical significance tests.

    Example:
        >>> x = torch.eye(20)
        >>> result = compare("recall_at_k", (x, x.roll(1, 0)), (x, x), k=1)
        >>> result.difference.value, result.p_value < 0.01
        (1.0, True)
    """
    for value, argument in ((first, "first"), (second, "second")):
        if not isinstance(value, tuple):
            raise TypeError(f"{argument} must be a tuple of arguments, got {describe(value)}")
    a, b = contributions(name, *first, **options), contributions(name, *second, **options)
    both = difference(a, b)
    settings: dict[str, Any] = {"groups": groups, "draws": draws, "seed": seed}
    return Comparison(
        first=interval(a, level=level, **settings),
        second=interval(b, level=level, **settings),
        difference=interval(both, level=level, **settings),
        p_value=p_value(both, **settings),
    )


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two systems' right and wrong answers to the same questions.

    Attributes:
        difference: accuracy of the second minus that of the first.
        low: lower end of its interval.
        high: upper end.
        level: confidence.
        p_value: exact, two-sided.
        only_first: questions that only the first answers rightly.
        only_second: that only the second does.
        both: that both do.
        neither: that neither does.
        n: number of questions.
    """

    difference: float
    low: float
    high: float
    level: float
    p_value: float
    only_first: int
    only_second: int
    both: int
    neither: int
    n: int


def mcnemar(first: Sequence[bool], second: Sequence[bool], *, level: float = 0.95) -> McNemar:
    r"""McNemar's exact test: is one system right where the other is wrong more often than the other way round?

    .. math:: p = 2 \min\big( P(B \le b), P(B \ge b) \big), \qquad B \sim \mathrm{Binomial}(b + c, \tfrac12)

    Args:
        first: for each question whether the first system was right.
        second: the same of the second.
        level: confidence of the interval of the difference (Bonett & Price 2012: Wald with one added to both counts).

    Returns:
        McNemar; p = 1 where they never differ.

    Raises:
        ValueError, TypeError: different lengths, no questions, entries that are not booleans.

    Source: McNemar 1947; exact form as scipy.stats.binomtest.

    Example:
        >>> mcnemar([True] * 2 + [False] * 8, [True] * 8 + [False] * 2).p_value
        0.03125
    """
    from scipy import stats

    a, b = _booleans(first, "first"), _booleans(second, "second")
    if len(a) != len(b):
        raise ValueError(f"first and second must answer the same questions, got {len(a)} and {len(b)}")
    level = require_share(level, "level")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    # One added to each discordant count, two to n.
    p, q = (only_b + 1) / (n + 2), (only_a + 1) / (n + 2)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return McNemar(
        difference=(only_b - only_a) / n,
        low=float(max(-1.0, p - q - half)),
        high=float(min(1.0, p - q + half)),
        level=level,
        p_value=float(stats.binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0,
        only_first=only_a,
        only_second=only_b,
        both=int((a & b).sum()),
        neither=int((~a & ~b).sum()),
        n=n,
    )


def _booleans(values: object, name: str) -> np.ndarray:
    array = values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype != bool:
        raise TypeError(f"{name} must hold booleans, got {describe(values)}")
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must be a list with at least one entry, got shape {array.shape}")
    return array
