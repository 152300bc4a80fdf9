"""What each pair contributes to the measures of the modality gap, and their nulls; used by `estimate`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.metrics._blocks import full_precision, require_int, require_unit_pairs, row_blocks, to_numpy, unit_rows
from workbench.metrics.geometry import cosine_to_others, row_sum, squared_distances
from workbench.metrics.intervals import Contributions, mean_of
from workbench.metrics.modality_gap import PAIRS, chance_distance, sample_rows, separation_signs


@full_precision
def centroid_distance(x: Tensor, y: Tensor, *, seed: int = 0) -> Contributions:
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    gap = (row_sum(x) - row_sum(y)) / len(x)
    length = gap.norm()
    along = torch.zeros(len(x), dtype=gap.dtype, device=x.device)
    if length > 0:
        for rows in row_blocks(len(x), 4 * x.shape[1]):
            along[rows] = (unit_rows(x[rows]) - unit_rows(y[rows])) @ (gap / length)
    return mean_of(
        "centroid_distance",
        along,
        null=chance_distance(x, y, seed),
        null_is="two sets of n rows of ONE modality (random halves); an interval that reaches it is no gap",
        convention="Euclidean length, rows normalised, means not",
        d=x.shape[1],
        bounds=(0.0, 2.0),
    )


@full_precision
def matched_cosine(x: Tensor, y: Tensor) -> Contributions:
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    n = len(x)
    matched = 1 - squared_distances(x, y) / 2
    return mean_of(
        "matched_cosine",
        matched,
        null=float((row_sum(x) @ row_sum(y) - matched.sum()) / (n * (n - 1))),
        null_is="shuffled pairs: the mean cosine of unmatched rows",
        convention="mean cosine of pairs",
        d=x.shape[1],
        bounds=(-1.0, 1.0),
    )


@full_precision
def relative_gap(x: Tensor, y: Tensor) -> Contributions:
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    n = len(x)
    matched = squared_distances(x, y) / 2
    own = 1 - (cosine_to_others(x) + cosine_to_others(y)) / 2
    within = max(0.0, float(own.mean()))
    apart = 1 - float((row_sum(x) @ row_sum(y) - (1 - matched).sum()) / (n * (n - 1)))

    def statistic(means: np.ndarray) -> np.ndarray:
        total = means[..., 0] + means[..., 1]
        return np.where(total > 1e-12, means[..., 0] / np.where(total > 1e-12, total, 1), 0.0)

    return Contributions(
        name="relative_gap",
        rows=to_numpy(torch.stack([matched, 2 * own - own.mean()], 1)),
        statistic=statistic,
        null=apart / (apart + within) if apart + within > 1e-12 else 0.0,
        null_is="shuffled pairs",
        convention="P / (P + W), no epsilon",
        d=x.shape[1],
        bounds=(0.0, 1.0),
    )


@full_precision
def separability(x: Tensor, y: Tensor, *, seed: int = 0, max_pairs: int = PAIRS) -> Contributions:
    x, y = require_unit_pairs(x, y, "x", "y", min_rows=2)
    rows = sample_rows(len(x), min(len(x), require_int(max_pairs, "max_pairs", low=2)), seed).to(x.device)
    return mean_of(
        "separability",
        0.5 + separation_signs(x[rows], y[rows], require_int(seed, "seed", low=0)) / 2,
        null=0.5,
        null_is="modalities that cannot be told apart",
        convention="logistic regression, 5 folds, pairs held out together",
        d=x.shape[1],
        bounds=(0.0, 1.0),
        share=True,
    )
