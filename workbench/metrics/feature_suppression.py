"""Which factors of variation an encoder has learnt and which it has dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from workbench.checks import describe, require_embeddings, require_labels, require_positive, require_unit_rows
from workbench.metrics._blocks import full_precision, require_int, to_numpy


@dataclass(frozen=True, kw_only=True)
class FactorProbe:
    """How well a linear classifier reads each factor from the embeddings, on held-out rows.

    Attributes:
        accuracy: factor -> cross-validated accuracy, in [0, 1].
        chance: factor -> share of its most frequent value, what a constant answer gives.
        worst: the factor with the lowest accuracy.
        gap: best minus worst accuracy, in [0, 1]; large where some factors are suppressed. Compare it with the same
            probe on the pixels or a supervised encoder: a factor that nobody can read is not suppressed.
        n: number of rows.
        folds: number of folds.
    """

    accuracy: dict[str, float]
    chance: dict[str, float]
    worst: str
    gap: float
    n: int
    folds: int


@full_precision
def factor_probe(
    embeddings: Tensor,
    factors: Mapping[str, Tensor],
    *,
    folds: int = 5,
    c: float = 1.0,
    probe: Literal["logistic", "ridge", "knn"] = "logistic",
    k: int = 5,
    seed: int = 0,
) -> FactorProbe:
    """Cross-validated accuracy of a probe for each factor.

    Args:
        embeddings: (n, d) embeddings; rows are not normalised.
        factors: name -> (n,) integer values; each value needs `folds` rows, so that every fold can hold one.
        folds: stratified, shuffled folds.
        c: inverse strength of the L2 penalty.
        probe: 'logistic' (scikit-learn's LogisticRegression) or 'ridge' (RidgeClassifier with alpha = 1 / c, in closed
            form: many times faster, usually a little worse), both with standardised columns; 'knn' votes among the `k`
            nearest training rows by cosine and finds what is there but not linearly.
        k: neighbours of the 'knn' probe.
        seed: seed of the folds.

    Returns:
        FactorProbe.

    Raises:
        ValueError, TypeError: bad embeddings or factors, a factor with one value, a value with fewer rows than folds.

    Example:
        >>> import torch
        >>> x = torch.eye(2).repeat(10, 1)
        >>> result = factor_probe(x, {"shape": torch.tensor([0, 1]).repeat(10), "colour": torch.arange(20) // 2 % 2})
        >>> result.worst, result.accuracy["shape"]
        ('colour', 1.0)
    """
    hits, chance = factor_hits(embeddings, factors, folds=folds, c=c, probe=probe, k=k, seed=seed)
    accuracy = {name: float(right.mean()) for name, right in hits.items()}
    worst = min(accuracy, key=accuracy.__getitem__)
    return FactorProbe(
        accuracy=accuracy,
        chance=chance,
        worst=worst,
        gap=max(accuracy.values()) - accuracy[worst],
        n=len(embeddings),
        folds=folds,
    )


def factor_hits(
    embeddings: Tensor,
    factors: Mapping[str, Tensor],
    *,
    folds: int = 5,
    c: float = 1.0,
    probe: str = "logistic",
    k: int = 5,
    seed: int = 0,
    name: str = "embeddings",
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """For each factor whether each row was read rightly when it was held out, and the share of the most frequent value."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    embeddings = require_embeddings(embeddings, name, min_rows=2)
    if not isinstance(factors, Mapping) or not factors:
        raise (ValueError if isinstance(factors, Mapping) else TypeError)(
            f"factors must map at least one name to a tensor of values, got {describe(factors)}"
        )
    folds, strength = require_int(folds, "folds", low=2), float(require_positive(c, "c"))
    if probe not in ("logistic", "ridge", "knn"):
        raise ValueError(f"probe must be 'logistic', 'ridge' or 'knn', got {describe(probe)}")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=require_int(seed, "seed", low=0))
    if probe == "knn":
        embeddings = require_unit_rows(embeddings, name)
        votes = require_int(k, "k", low=1, high=len(embeddings) - math.ceil(len(embeddings) / folds), why="the training rows")
        model = KNeighborsClassifier(votes, metric="cosine", algorithm="brute")
    elif probe == "ridge":
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=1 / strength))
    else:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    rows = to_numpy(embeddings)
    hits, chance = {}, {}
    for factor, column in factors.items():
        column = require_labels(column, len(rows), f"factors[{factor!r}]")
        values, counts = column.unique(return_counts=True)
        if len(values) < 2 or int(counts.min()) < folds:
            rarest = int(counts.argmin())
            raise ValueError(
                f"factors[{factor!r}] must have at least two values with at least {folds} rows each (folds={folds}), got "
                f"{len(values)} values, value {int(values[rarest])} with {int(counts[rarest])} rows; merge or drop rare values"
            )
        truth = to_numpy(column)
        hits[factor] = (cross_val_predict(model, rows, truth, cv=splitter) == truth).astype(float)
        chance[factor] = int(counts.max()) / len(rows)
    return hits, chance
