"""One mechanism for the interval of every metric: what each row contributes, drawn again with replacement.

A metric becomes a function of the means of a few numbers per row (`Contributions`): the hit of a query, the counts of a
caption, or, for a mean over pairs of rows, the row's share of it (Hajek's projection). Resampling those needs no new
similarity, so thousands of draws cost less than the metric itself. Where rows come in groups (five captions of one
image), whole groups are drawn.

The interval is BCa with expanded percentiles (Efron 1987; Hesterberg 2015, arXiv 1411.5279) or, for a share of hits,
Wilson's with the effective number of rows, since resampling hits that are all right would give an interval of no width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.checks import describe
from workbench.metrics._blocks import require_int

Statistic = Callable[[np.ndarray], np.ndarray]

DRAWS = 2000
UNITS = 10_000  # more rows than this are first added up at random to so many units, which keeps the variance
INFINITE = (-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate:
    """A metric with what is needed to judge it.

    Attributes:
        name: the metric, as given to `estimate`.
        value: what the bare function returns.
        low: lower end of the interval.
        high: upper end.
        level: its confidence, such as 0.95.
        null: the value without the structure that the metric looks for; None where there is no such number.
        null_is: what that null is, in words.
        n: rows (pairs, queries, captions, ...).
        units: independent units that were resampled: rows, or groups of rows.
        d: width of the embeddings; None where there are none.
        method: 'bca' or 'wilson'.
        convention: which of the published variants this is.
    """

    name: str
    value: float
    low: float
    high: float
    level: float
    null: float | None
    null_is: str
    n: int
    units: int
    d: int | None
    method: str
    convention: str

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        null = "no null" if self.null is None else f"null {self.null:.4g}"
        size = f"n={self.n}" + (f" in {self.units} groups" if self.units != self.n else "") + (f", d={self.d}" if self.d else "")
        return f"{self.name} = {self.value:.4g} [{self.low:.4g}, {self.high:.4g}] ({self.level:.0%}; {null}; {size})"

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain numbers and strings, for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Contributions:
    """What each row contributes to a metric.

    Attributes:
        name: the metric.
        rows: (n, m) float64; the metric is `statistic` of their mean.
        statistic: maps (..., m) means to (...) values.
        null: the value without structure, and `null_is` says which structure.
        null_is: the null in words.
        convention: the variant.
        d: width of the embeddings.
        bounds: smallest and largest possible value; the interval is cut there.
        share: the value is a share of hits in [0, 1]; decides between 'wilson' and 'bca' at its ends.
    """

    name: str
    rows: np.ndarray
    statistic: Statistic
    null: float | None
    null_is: str
    convention: str
    d: int | None = None
    bounds: tuple[float, float] = INFINITE
    share: bool = False

    @property
    def value(self) -> float:
        return float(np.clip(self.statistic(self.rows.mean(0)), *self.bounds))


def first(means: np.ndarray) -> np.ndarray:
    """The mean itself."""
    return means[..., 0]


def ratio(means: np.ndarray) -> np.ndarray:
    """The first mean over the second; 0 where both are 0."""
    return means[..., 0] / np.where(means[..., 1] == 0, 1, means[..., 1])


def mean_of(name: str, rows: Any, **rest: Any) -> Contributions:
    """A metric that is the mean of one number per row."""
    array = np.asarray(rows.cpu() if hasattr(rows, "cpu") else rows)
    return Contributions(name=name, rows=array.astype(np.float64).reshape(-1, 1), statistic=first, **rest)


def interval(
    parts: Contributions,
    *,
    level: float = 0.95,
    groups: object = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    r"""The interval of a metric from what each row contributes to it.

    .. math:: \theta^*_b = g\Big( \textstyle\sum_i w_{bi} c_i / \sum_i w_{bi} \Big), \qquad w_b \sim \mathrm{Multinomial}

    Args:
        parts: the contributions c and the statistic g.
        level: confidence, in (0, 1).
        groups: (n,) labels; rows of one label are drawn together. None: rows are independent.
        draws: bootstrap draws.
        seed: seed of the draws.

    Returns:
        Estimate. For a mean over pairs of rows the first-order projection makes the interval a little too wide where the
        rows hardly differ (Efron & Stein 1981), never too narrow by it.

    Raises:
        ValueError, TypeError: fewer than two rows or groups, level outside (0, 1), groups of another length.
    """
    level = require_share(level, "level")
    draws, seed = require_int(draws, "draws", low=100), require_int(seed, "seed", low=0)
    labels = None if groups is None else _labels(groups, len(parts.rows))
    sums, sizes = _units(parts.rows, labels, seed)
    value = parts.value
    n_units = len(parts.rows) if labels is None else len(np.unique(labels))
    if n_units < 2:
        raise ValueError(f"an interval needs at least two independent rows or groups, got {n_units} for {parts.name}")
    hits = parts.rows.shape[1] == 1 and parts.statistic is first and bool(np.isin(parts.rows, (0, 1)).all())
    if hits or (parts.share and value in (0.0, 1.0)):
        method, (low, high) = "wilson", _wilson(value, sums[:, 0], sizes, n_units, level)
    else:
        method, (low, high) = "bca", _bca(sums, sizes, parts.statistic, level, draws, seed)
    low, high = (float(np.clip(end, *parts.bounds)) for end in (low, high))
    return Estimate(
        name=parts.name,
        value=value,
        low=min(low, value),
        high=max(high, value),
        level=level,
        null=parts.null,
        null_is=parts.null_is,
        n=len(parts.rows),
        units=n_units,
        d=parts.d,
        method=method,
        convention=parts.convention,
    )


def p_value(parts: Contributions, *, groups: object = None, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided bootstrap p-value of a difference: how often the draws stray from it as far as it is from zero."""
    labels = None if groups is None else _labels(groups, len(parts.rows))
    sums, sizes = _units(parts.rows, labels, seed)
    values = _resampled(sums, sizes, parts.statistic, require_int(draws, "draws", low=100), seed)
    return float((1 + (np.abs(values - parts.value) >= abs(parts.value)).sum()) / (1 + draws))


def difference(a: Contributions, b: Contributions) -> Contributions:
    """Contributions of the difference b - a of one metric between two systems that met the same rows.

    Row i of both comes from the same query, image or caption, so what both find hard cancels. Its null is 0.
    """
    if len(a.rows) != len(b.rows):
        raise ValueError(f"two systems can be compared on the same rows only, got {len(a.rows)} and {len(b.rows)}")
    width = a.rows.shape[1]

    def statistic(means: np.ndarray) -> np.ndarray:
        return b.statistic(means[..., width:]) - a.statistic(means[..., :width])

    span = b.bounds[1] - a.bounds[0]
    return Contributions(
        name=f"difference of {a.name}",
        rows=np.concatenate([a.rows, b.rows], axis=1),
        statistic=statistic,
        null=0.0,
        null_is="no difference between the two systems",
        convention=f"second minus first, on the same rows; {a.convention}",
        d=a.d if a.d == b.d else None,
        bounds=(-span, span),
    )


def require_share(value: object, name: str) -> float:
    """A number strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
        raise TypeError(f"{name} must be a number between 0 and 1, got {describe(value)}")
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
    return float(value)


def _labels(groups: object, n: int) -> np.ndarray:
    array = np.asarray(groups)
    if array.shape != (n,):
        raise ValueError(f"groups must have shape ({n},), one label per row, got shape {array.shape}")
    if array.dtype.kind not in "iuUS":
        raise TypeError(f"groups must be integers or strings, got {array.dtype}")
    return array


def _units(rows: np.ndarray, labels: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums and sizes of what is resampled."""
    n = len(rows)
    index = np.arange(n) if labels is None else np.unique(labels, return_inverse=True)[1]
    count = int(index.max()) + 1
    if count > UNITS:
        index = (np.random.default_rng([seed, 1]).permutation(count) % UNITS)[index]
        count = UNITS
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, index, rows)
    return sums, np.bincount(index, minlength=count).astype(float)


def _wilson(value: float, sums: np.ndarray, sizes: np.ndarray, n_units: int, level: float) -> tuple[float, float]:
    from scipy import stats

    z, total = stats.norm.ppf((1 + level) / 2), sizes.sum()
    units = len(sums)
    variance = units / (units - 1) * ((sums - value * sizes) ** 2).sum() / total**2
    n = min(total, value * (1 - value) / variance) if variance > 0 and 0 < value < 1 else n_units
    centre = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _bca(sums: np.ndarray, sizes: np.ndarray, statistic: Statistic, level: float, draws: int, seed: int) -> tuple[float, float]:
    from scipy import stats

    units, total, rows = len(sums), sums.sum(0), sizes.sum()
    value = float(statistic(total / rows))
    values = _resampled(sums, sizes, statistic, draws, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = statistic((total - sums) / (rows - sizes)[:, None])
    centred = left_out.mean() - left_out
    spread = (centred**2).sum()
    if spread <= 1e-24 * max(1.0, value**2):  # nothing differs between the rows
        return value, value
    acceleration = (centred**3).sum() / (6 * spread**1.5)
    below = (values < value).mean() + (values == value).mean() / 2
    bias = stats.norm.ppf(np.clip(below, 0.5 / draws, 1 - 0.5 / draws))
    # The percentile interval of few units is too narrow: t instead of z, and the factor n / (n - 1) of the variance.
    quantile = stats.t.ppf((1 + level) / 2, units - 1) * math.sqrt(units / (units - 1))
    z = bias + np.array([-quantile, quantile])
    ends = stats.norm.cdf(bias + z / np.maximum(1 - acceleration * z, 1e-3))
    low, high = np.quantile(values, ends)
    return float(low), float(high)


def _resampled(sums: np.ndarray, sizes: np.ndarray, statistic: Statistic, draws: int, seed: int) -> np.ndarray:
    """The statistic of `draws` samples of the units with replacement."""
    units, generator = len(sums), np.random.default_rng(seed)
    columns = np.column_stack([sums, sizes])
    values = []
    block = max(1, 2**20 // units)
    for start in range(0, draws, block):
        count = min(block, draws - start)
        picked = generator.integers(units, size=(count, units)) + units * np.arange(count)[:, None]
        weights = np.bincount(picked.ravel(), minlength=count * units).reshape(count, units)
        drawn = weights.astype(float) @ columns
        values.append(statistic(drawn[:, :-1] / drawn[:, -1:]))
    return np.concatenate(values)
