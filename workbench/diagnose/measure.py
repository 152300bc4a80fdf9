"""Measuring a user's embeddings: every number with its interval and its null, and the rows to look at first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench import metrics
from workbench.diagnose.inputs import Inputs
from workbench.metrics import Estimate, ModalityGap, Neighbours
from workbench.runtime import progress

NEIGHBOURS = 10
RECALLS = (1, 5, 10)
MOST_ROWS = 20_000  # rows that measures over all pairs see; a larger set is represented by a random part
FOLDS = 5
PROBE_ROWS = 5_000  # rows of a linear probe
DUPLICATE = 0.99  # cosine from which two rows count as copies
SHOWN = 10  # rows of each kind to look at first


@dataclass(frozen=True, eq=False)
class Measured:
    """One number of a report: an estimate, the set it belongs to, and what it was measured against.

    Attributes:
        estimate: value, interval, null and convention.
        of: name of the set.
        against: the other set, 'labels', or the factor.
        variant: which of several, such as 'k=5' or 'knn'.
    """

    estimate: Estimate
    of: str
    against: str | None = None
    variant: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"set": self.of, "against": self.against, "variant": self.variant, **self.estimate.as_dict()}


@dataclass(frozen=True)
class LookAt:
    """A row worth looking at: why, how strongly, and beside which other row."""

    why: str
    of: str
    row: int
    value: float
    other: int | None = None


@dataclass(frozen=True, eq=False)
class Measures:
    """Everything that was measured.

    Attributes:
        estimates: the numbers, in the order of the report.
        gap: the modality gap of paired sets.
        look_at: rows to look at first.
        neighbours: nearest neighbours of each set within `sample`.
        sample: places (into the common rows) of the part that measures over all pairs saw.
        skipped: measures that could not be taken, and why.
    """

    estimates: tuple[Measured, ...]
    gap: ModalityGap | None
    look_at: tuple[LookAt, ...]
    neighbours: dict[str, Neighbours]
    sample: np.ndarray
    skipped: tuple[str, ...] = ()

    def find(self, name: str, of: str | None = None, against: str | None = None, variant: str | None = None) -> Estimate | None:
        """The first estimate of that name, set, counterpart and variant, or None."""
        for m in self.estimates:
            if m.estimate.name == name and of in (None, m.of) and against in (None, m.against) and variant in (None, m.variant):
                return m.estimate
        return None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "estimates": [m.as_dict() for m in self.estimates],
            "gap": None if self.gap is None else asdict(self.gap),
            "look_at": [asdict(r) for r in self.look_at],
            "skipped": list(self.skipped),
        }


@dataclass
class _Collector:
    """Gathers estimates; a measure that this data does not allow is noted with its reason."""

    level: float
    seed: int
    found: list[Measured] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, name: str, *data: Any, of: str, against: str | None = None, variant: str | None = None, **options: Any) -> None:
        what = f"{name} of {of}" + (f" against {against}" if against else "")
        estimate = self.attempt(what, lambda: self.estimate(name, *data, **options))
        if estimate is not None:
            self.found.append(Measured(estimate, of, against, variant))

    def estimate(self, name: str, *data: Any, **options: Any) -> Estimate:
        return metrics.estimate(name, *data, level=self.level, seed=self.seed, **options)

    def attempt(self, what: str, take: Callable[[], Any]) -> Any:
        try:
            return take()
        except ValueError as error:
            self.skipped.append(f"{what}: {str(error).splitlines()[0]}")
            return None


def measure(
    inputs: Inputs,
    *,
    level: float = 0.95,
    seed: int = 0,
    max_rows: int = MOST_ROWS,
    device: str | torch.device = "cpu",
) -> Measures:
    """Measure every set, the two paired modalities together, or the models against each other.

    Args:
        inputs: from `read_inputs`.
        level: confidence of the intervals.
        seed: of every random part: subsamples, folds, bootstrap.
        max_rows: rows that measures over all pairs of rows see at most, drawn at random.
        device: where to compute.

    Returns:
        Measures. What needs more rows, classes or columns than there are is named in `skipped`, never dropped in silence.
    """
    take = _Collector(level, seed)
    tensors = {s.name: torch.from_numpy(s.values).to(device) for s in inputs.sets}
    sample = _sample(len(inputs), max_rows, seed)
    parts = {name: x if len(sample) == len(x) else _part(x, sample, max_rows, seed) for name, x in tensors.items()}
    bar = progress(total=2 * len(parts) + 2, title="measuring")

    neighbours: dict[str, Neighbours] = {}
    for name, x in parts.items():
        bar.update(1)
        for metric in ("uniformity", "anisotropy", "effective_rank", "rankme", "spectrum_decay"):
            take.add(metric, x, of=name)
        k = min(NEIGHBOURS, len(x) - 1)
        neighbours[name] = metrics.nearest_neighbours(x, k=k)
        take.add("hubness", neighbours[name], of=name)
        take.add("near_duplicates", neighbours[name], of=name, threshold=DUPLICATE)
    for name, x in parts.items():
        bar.update(1)
        if inputs.aligned or name == inputs.sets[0].name:
            _about_rows(take, inputs, name, x, sample, seed)
    bar.update(1)

    gap = None
    if inputs.paired:
        gap = _paired(take, tensors, parts, seed)
    elif inputs.aligned:
        for (a, x), (b, y) in combinations(parts.items(), 2):
            take.add("linear_cka", x, y, of=a, against=b)
            take.add("knn_overlap", neighbours[a], neighbours[b], of=a, against=b)
            if x.shape[1] == y.shape[1]:
                take.add("procrustes", x, y, of=a, against=b)
    bar.update(1)
    bar.close()
    look_at = _look_at(inputs, parts, neighbours, sample)
    return Measures(tuple(take.found), gap, tuple(look_at), neighbours, sample, tuple(take.skipped))


def _sample(n: int, most: int, seed: int) -> np.ndarray:
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _part(x: Tensor, sample: np.ndarray, most: int, seed: int) -> Tensor:
    """The sampled rows; a set that is not aligned with the first has its own."""
    index = sample if int(sample[-1]) < len(x) and len(sample) <= len(x) else _sample(len(x), most, seed)
    return x[torch.from_numpy(index).to(x.device)]


def _about_rows(take: _Collector, inputs: Inputs, name: str, x: Tensor, sample: np.ndarray, seed: int) -> None:
    """What labels and factors allow: tolerance and probes."""
    chosen = np.random.default_rng(seed).permutation(len(sample))[:PROBE_ROWS]
    few = x[torch.from_numpy(chosen).to(x.device)]
    known = {} if inputs.labels is None else {"labels": inputs.labels}
    for what, (codes, _) in {**known, **inputs.factors}.items():
        if what == "labels":
            take.add("tolerance", x, torch.from_numpy(codes[sample]).to(x.device), of=name, against=what)
        part = codes[sample][chosen]
        # Every fold must be able to hold each value.
        frequent = np.isin(part, np.flatnonzero(np.bincount(part) >= FOLDS))
        if len(part) - frequent.sum() and (note := _rare(what, part, frequent)) not in take.skipped:
            take.skipped.append(note)
        at, values = torch.from_numpy(frequent).to(x.device), torch.from_numpy(part[frequent]).to(x.device)
        for probe in ("logistic", "knn"):
            take.add("factor_probe", few[at], values, of=name, against=what, variant=probe, probe=probe, folds=FOLDS)


def _rare(what: str, part: np.ndarray, frequent: np.ndarray) -> str:
    values = len(np.unique(part[~frequent]))
    return f"probes of {what}: {values} values with fewer than {FOLDS} rows are left out ({int((~frequent).sum())} of {len(part)} rows)"


def _paired(take: _Collector, tensors: dict[str, Tensor], parts: dict[str, Tensor], seed: int) -> ModalityGap | None:
    (a, x), (b, y) = tensors.items()
    gap = take.attempt("modality gap", lambda: metrics.modality_gap(x, y, seed=seed))
    for metric in ("centroid_distance", "matched_cosine", "relative_gap", "separability"):
        take.add(metric, x, y, of=a, against=b)
    take.add("alignment", x, y, of=a, against=b)
    u, v = parts[a], parts[b]
    for query, key, of, against in ((u, v, a, b), (v, u, b, a)):
        ks = tuple(k for k in RECALLS if k < len(key))
        ranks = metrics.recall_at_k(query, key, k=ks)
        for k in ks:
            take.add("recall_at_k", ranks, of=of, against=against, variant=f"k={k}", k=k)
        take.add("mrr", ranks, of=of, against=against)
    return gap


def _look_at(inputs: Inputs, parts: dict[str, Tensor], neighbours: dict[str, Neighbours], sample: np.ndarray) -> list[LookAt]:
    """The worst pairs, the largest hubs, the closest copies and the loneliest rows; rows are numbered as in the first file."""
    rows = inputs.rows[sample] if len(sample) <= len(inputs.rows) else inputs.rows
    found = []
    unit = {name: torch.nn.functional.normalize(x, dim=1) for name, x in parts.items()}
    if inputs.paired:
        (a, x), (b, y) = unit.items()
        cosine = (x * y).sum(1)
        for i in cosine.argsort()[:SHOWN].tolist():
            found.append(LookAt("worst pair", f"{a} and {b}", int(rows[i]), float(cosine[i])))
    for name, near in neighbours.items():
        if not inputs.aligned and name != inputs.sets[0].name:
            continue
        count = metrics.k_occurrence(near)
        for i in count.argsort(descending=True, stable=True)[:SHOWN].tolist():
            if int(count[i]) > 3 * near.k:
                found.append(LookAt("hub", name, int(rows[i]), float(count[i])))
        closest = near.cosine[:, 0]
        seen: set[frozenset[int]] = set()
        for i in closest.argsort(descending=True, stable=True).tolist():
            other = int(near.index[i, 0])
            if float(closest[i]) < DUPLICATE or len(seen) == SHOWN:
                break
            if (pair := frozenset((i, other))) not in seen:
                seen.add(pair)
                found.append(LookAt("near-duplicates", name, int(rows[i]), float(closest[i]), int(rows[other])))
        for i in closest.argsort(stable=True)[:SHOWN].tolist():
            found.append(LookAt("outlier", name, int(rows[i]), float(closest[i]), int(rows[int(near.index[i, 0])])))
    return found
