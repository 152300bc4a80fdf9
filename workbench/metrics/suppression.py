"""Feature suppression: what each factor could be read at, what it is read at, and how one factor drowns another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workbench.checks import describe, require_embeddings, require_labels, require_unit_rows
from workbench.metrics._blocks import full_precision, require_unit_pairs, wide_dtype
from workbench.metrics.feature_suppression import factor_hits
from workbench.metrics.geometry import row_sum, squared_distances
from workbench.metrics.intervals import Contributions, Estimate, first, interval

READ_AT_ALL = 0.05  # a factor whose ceiling is this little above chance cannot be called suppressed


@dataclass(frozen=True, kw_only=True)
class Decodability:
    """How well one factor is read from the embeddings, and how well it could be.

    Attributes:
        linear: accuracy of the linear probe with its interval; its null is `chance`.
        knn: the same of the nearest-neighbour probe. Far above `linear`: the factor is there, but not linearly.
        ceiling: the linear probe on the reference (a supervised encoder, or the pixels); None where none was given.
        chance: share of the most frequent value.
        decoded: (linear - chance) / (ceiling - chance): 1 read as well as it can be, 0 at chance, below 0 possible. The
            ceiling is 1 where no reference was given; None where the ceiling is hardly above chance, since a factor that
            nobody can read is not suppressed.
    """

    linear: Estimate
    knn: Estimate
    ceiling: float | None
    chance: float
    decoded: float | None


@full_precision
def decodability(
    embeddings: Tensor,
    factors: Mapping[str, Tensor],
    *,
    reference: Tensor | None = None,
    linear: Literal["logistic", "ridge"] = "logistic",
    folds: int = 5,
    k: int = 5,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Decodability]:
    r"""Each factor by a linear and a nearest-neighbour probe, cross-validated, between chance and a ceiling.

    .. math:: \text{decoded} = \frac{a - a_{\text{chance}}}{a_{\text{ceiling}} - a_{\text{chance}}}

    Args:
        embeddings: (n, d) embeddings; linear probes standardise the columns, 'knn' normalises the rows.
        factors: name -> (n,) integer values; each value needs `folds` rows.
        reference: (n, e) rows of a supervised encoder or pixels of the same things, probed linearly for the ceiling.
        linear: kind of the linear probe.
        folds: stratified, shuffled folds; the same for every probe.
        k: neighbours.
        level: confidence of the intervals.
        seed: seed of the folds.

    Returns:
        name -> Decodability.

    Raises:
        ValueError, TypeError: bad embeddings or factors, a reference of another length, a value with too few rows.
    """
    if linear not in ("logistic", "ridge"):
        raise ValueError(f"linear must be 'logistic' or 'ridge', got {describe(linear)}")
    flat, chance = factor_hits(embeddings, factors, folds=folds, probe=linear, seed=seed)
    near, _ = factor_hits(embeddings, factors, folds=folds, probe="knn", k=k, seed=seed)
    top: dict[str, float] = {}
    if reference is not None:
        reference = require_embeddings(reference, "reference", min_rows=2)
        if len(reference) != len(embeddings):
            raise ValueError(f"reference must have the {len(embeddings)} rows of the embeddings, got {len(reference)}")
        found, _ = factor_hits(reference, factors, folds=folds, probe=linear, seed=seed, name="reference")
        top = {name: float(hits.mean()) for name, hits in found.items()}
    result = {}
    for name in factors:
        reach = top.get(name, 1.0) - chance[name]
        estimates = [
            interval(hit_contributions(hits[name], f"{name} by {probe}", chance[name], embeddings.shape[1]), level=level)
            for hits, probe in ((flat, linear), (near, "knn"))
        ]
        result[name] = Decodability(
            linear=estimates[0],
            knn=estimates[1],
            ceiling=top.get(name),
            chance=chance[name],
            decoded=(estimates[0].value - chance[name]) / reach if reach > READ_AT_ALL else None,
        )
    return result


def hit_contributions(hits: np.ndarray, name: str, chance: float, d: int | None) -> Contributions:
    """Cross-validated hits as contributions; the null is the most frequent answer."""
    return Contributions(
        name=name,
        rows=hits[:, None],
        statistic=first,
        null=chance,
        null_is="always the most frequent value",
        convention="cross-validated accuracy, each row held out once",
        d=d,
        bounds=(0.0, 1.0),
        share=True,
    )


def suppression_index(accuracy: Sequence[float], *, chance: float) -> tuple[float, ...]:
    r"""How far factor A has sunk towards chance at each ease of factor B.

    .. math:: S_b = 1 - \frac{a_b - a_{\text{chance}}}{a_0 - a_{\text{chance}}}

    Args:
        accuracy: accuracy of a probe for A on encoders trained with B absent (or hardest) first, then easier and easier:
            more bits, stronger colour, larger digits.
        chance: accuracy of the most frequent value of A.

    Returns:
        One index for each accuracy, 0 for the first: 0 not suppressed, 1 sunk to chance, below 0 where B helps.

    Raises:
        ValueError, TypeError: fewer than two accuracies, numbers outside [0, 1], A at chance already without B.

    Source: the experiment of Chen, Luo & Li 2021 (arXiv 2011.02803), section 4 (competing features); the index is ours.

    Example:
        >>> suppression_index([0.9, 0.9, 0.5], chance=0.1)
        (0.0, 0.0, 0.5)
    """
    values = [_unit_number(value, "accuracy") for value in accuracy]
    base = _unit_number(chance, "chance")
    if len(values) < 2:
        raise ValueError(f"accuracy needs at least two values, B absent first, got {len(values)}")
    if values[0] <= base:
        raise ValueError(f"accuracy[0] must be above chance ({base:g}) or A has nothing to lose, got {values[0]:g}")
    return tuple(1 - (value - base) / (values[0] - base) + 0.0 for value in values)


@dataclass(frozen=True, kw_only=True)
class VarianceShares:
    """How much of the variance of the embeddings each factor accounts for.

    Attributes:
        share: factor -> variance between its values over the total variance, in [0, 1] (multivariate eta squared).
        null: factor -> what a shuffled factor with as many values would get on average, (values - 1) / (n - 1).
        adjusted: factor -> (share - null) / (1 - null): 0 on average for a factor without effect (epsilon squared).
        joint: share of all factors together by least squares on their values, without interactions. The sum of the shares
            exceeds it where factors are correlated.
        n: number of rows.
    """

    share: dict[str, float]
    null: dict[str, float]
    adjusted: dict[str, float]
    joint: float
    n: int


@full_precision
def variance_shares(embeddings: Tensor, factors: Mapping[str, Tensor], *, normalise: bool = True) -> VarianceShares:
    r"""Share of the total variance of the embeddings between the values of each factor.

    .. math:: \eta^2_f = \frac{\sum_v n_v \lVert \bar x_v - \bar x \rVert^2}{\sum_i \lVert x_i - \bar x \rVert^2}

    Args:
        embeddings: (n, d) embeddings.
        factors: name -> (n,) integer values, at least two of them.
        normalise: scale the rows to length one first.

    Returns:
        VarianceShares. The share weighs loud directions, a probe finds quiet ones too: a factor can be decoded at 1 with
        a share of 0.01, and is then easily lost further on.

    Raises:
        ValueError, TypeError: bad embeddings or factors, equal rows.

    Example:
        >>> x = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]])
        >>> result = variance_shares(x, {"loud": torch.tensor([0, 0, 1, 1]), "quiet": torch.tensor([0, 1, 0, 1])})
        >>> {name: round(value, 3) for name, value in result.share.items()}
        {'loud': 0.99, 'quiet': 0.01}
    """
    x = require_embeddings(embeddings, "embeddings", min_rows=2)
    if not isinstance(factors, Mapping) or not factors:
        raise (ValueError if isinstance(factors, Mapping) else TypeError)(
            f"factors must map at least one name to a tensor of values, got {describe(factors)}"
        )
    if normalise:
        x = require_unit_rows(x, "embeddings")
    rows = x.to(wide_dtype(x.device))
    rows = rows - rows.mean(0)
    total = float(rows.square().sum())
    if total <= 1e-28 * max(1.0, float(x.double().square().sum())):
        raise ValueError(f"embeddings has {len(x)} equal rows: there is no variance to share")
    share, null, columns = {}, {}, []
    for name, column in factors.items():
        values = require_labels(column, len(x), f"factors[{name!r}]").to(x.device)
        _, index, counts = values.unique(return_inverse=True, return_counts=True)
        if len(counts) < 2:
            raise ValueError(f"factors[{name!r}] must have at least two values, got one")
        one_hot = torch.nn.functional.one_hot(index, len(counts)).to(rows.dtype)
        share[name] = float(((one_hot.T @ rows).square().sum(1) / counts).sum()) / total
        null[name] = (len(counts) - 1) / (len(x) - 1)
        columns.append(one_hot - counts / len(x))
    design = torch.cat(columns, dim=1)
    u, s, _ = torch.linalg.svd(design, full_matrices=False)
    u = u[:, s > 1e-9 * s[0]]
    return VarianceShares(
        share=share,
        null=null,
        adjusted={n: (share[n] - null[n]) / (1 - null[n]) if null[n] < 1 else 0.0 for n in share},
        joint=min(1.0, float((u.T @ rows).square().sum()) / total),
        n=len(x),
    )


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """How far apart the encoder puts pairs that differ in one factor.

    Attributes:
        cosine: mean cosine of the edited pairs with its interval; its null is the mean cosine of unrelated rows.
        relative: (1 - cosine) / (1 - null): 0 the edit is invisible, 1 it moves as far as another picture would. None
            where unrelated rows coincide too.
    """

    cosine: Estimate
    relative: float | None


@full_precision
def minimal_pair_sensitivity(
    pairs: Mapping[str, tuple[Tensor, Tensor]], *, level: float = 0.95, seed: int = 0
) -> dict[str, Sensitivity]:
    r"""Cosine of minimal pairs: the same thing with one factor changed.

    .. math:: s_f = \frac{1 - \frac1n \sum_i \cos(x_i, x_i^{(f)})}{1 - \frac{1}{n(n-1)} \sum_{i \ne j} \cos(x_i, x_j)}

    Args:
        pairs: factor -> ((n, d) embeddings, (n, d) embeddings of the same things with that factor changed), n >= 2.
        level: confidence of the intervals.
        seed: seed of the bootstrap.

    Returns:
        factor -> Sensitivity.

    Raises:
        ValueError, TypeError: no factors, unpaired sets, one pair.

    Example:
        >>> x = torch.eye(3)
        >>> result = minimal_pair_sensitivity({"colour": (x, x), "shape": (x, x.roll(1, 0))})
        >>> result["colour"].relative, result["shape"].relative
        (0.0, 1.0)
    """
    if not isinstance(pairs, Mapping) or not pairs:
        raise (ValueError if isinstance(pairs, Mapping) else TypeError)(
            f"pairs must map at least one factor to two tensors, got {describe(pairs)}"
        )
    result = {}
    for name, both in pairs.items():
        if not isinstance(both, tuple) or len(both) != 2:
            raise TypeError(f"pairs[{name!r}] must be two tensors, got {describe(both)}")
        x, y = require_unit_pairs(*both, f"pairs[{name!r}][0]", f"pairs[{name!r}][1]", min_rows=2)
        n = len(x)
        cosine = 1 - squared_distances(x, y) / 2
        others = float((row_sum(x).square().sum() - n) / (n * (n - 1)))
        parts = Contributions(
            name=f"cosine of pairs that differ in {name}",
            rows=cosine.cpu().double().numpy()[:, None],
            statistic=first,
            null=others,
            null_is="mean cosine of unrelated rows",
            convention="mean cosine of the edited pairs",
            d=x.shape[1],
            bounds=(-1.0, 1.0),
        )
        estimate = interval(parts, level=level, seed=seed)
        relative = (1 - estimate.value) / (1 - others) if others < 1 - 1e-6 else None
        result[name] = Sensitivity(cosine=estimate, relative=relative)
    return result


def _unit_number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
        raise TypeError(f"{name} must hold numbers, got {describe(value)}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
    return float(value)
