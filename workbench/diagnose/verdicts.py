"""What the numbers say, in plain words; each sentence carries its number, what to try next, and the notebook that explains it.

The limits below are conventions of this report, fixed beforehand; the sentence always gives the number, so that a reader can
hold another view. A limit is only called passed where the whole interval is beyond it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workbench.diagnose.measure import Measures
from workbench.metrics import Estimate

NARROW = 0.3  # mean cosine of strangers from which all rows point one way
FEW_DIMENSIONS = 0.1  # effective rank over the number of dimensions that n rows can fill
HUBS = 3.0  # skewness of the k-occurrence
COPIES = 0.01  # share of rows with a near copy
APART, MIXED = 0.95, 0.6  # separability of two modalities
SUPPRESSED = 0.25  # by how much the worst factor falls behind the best, both above chance, on a scale from 0 (chance) to 1

LEVELS = ("good", "note", "warning")


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        level: 'good', 'note' or 'warning'.
        sentence: the finding with its number.
        measure: the measure behind it.
        value: its value.
        next: what to try or to look at.
        notebook: slug of the paper's notebook that explains it, or None.
    """

    level: str
    sentence: str
    measure: str
    value: float
    next: str = ""
    notebook: str | None = None


def verdicts(measures: Measures, names: tuple[str, ...], *, paired: bool) -> tuple[Verdict, ...]:
    """The findings on sets of embeddings, warnings first."""
    found = [v for name in names for v in _one(measures, name)]
    if paired:
        found = [*_pair(measures, *names), *found]
    elif len(names) > 1:
        found = [*_models(measures, names), *found]
    return tuple(sorted(found, key=lambda v: -LEVELS.index(v.level)))


def _one(m: Measures, name: str) -> Iterator[Verdict]:
    if e := m.find("anisotropy", name):
        if e.low > NARROW:
            yield Verdict(
                "warning",
                f"{name}: two strangers have a mean cosine of {_number(e)}; all rows lie in a narrow cone.",
                "anisotropy",
                e.value,
                "Subtract the mean, or whiten, before comparing cosines; judge a cosine against this floor, not against 0.",
                "whitenedcse",
            )
        elif e.high < NARROW:
            yield Verdict(
                "good", f"{name}: strangers have a mean cosine of {_number(e)}; there is no narrow cone.", "anisotropy", e.value
            )
    if (e := m.find("effective_rank", name)) and e.d:
        full = min(e.n, e.d)
        share = f"{name}: the rows fill about {e.value:.0f} of {full} possible dimensions ({_number(e)})."
        if e.high < FEW_DIMENSIONS * full:
            yield Verdict(
                "warning",
                share,
                "effective_rank",
                e.value,
                "Few directions carry everything: look for collapse in training, or use a smaller width.",
                "contrastive-loss-behaviour",
            )
        else:
            yield Verdict("note" if e.value < 0.5 * full else "good", share, "effective_rank", e.value)
    if (e := m.find("uniformity", name)) and e.null is not None:
        yield Verdict(
            "note",
            f"{name}: uniformity is {_number(e)}; as many points spread evenly over the sphere would have {e.null:.3g}.",
            "uniformity",
            e.value,
            notebook="contrastive-loss-behaviour",
        )
    if (e := m.find("hubness", name)) and e.low > HUBS:
        yield Verdict(
            "warning",
            f"{name}: a few rows are the neighbours of very many others (skewness {_number(e)}).",
            "hubness",
            e.value,
            "Look at the hubs below; they win searches that they should lose.",
        )
    if (e := m.find("near_duplicates", name)) and e.value > COPIES:
        yield Verdict(
            "warning" if e.low > COPIES else "note",
            f"{name}: {_percent(e)} of the rows have a near copy (cosine 0.99 or more).",
            "near_duplicates",
            e.value,
            "Look at the pairs below; copies on both sides of a split make a test too easy.",
        )
    yield from _probes(m, name)


def _probes(m: Measures, name: str) -> Iterator[Verdict]:
    read = {}
    for x in m.estimates:
        e = x.estimate
        if e.name == "factor_probe" and x.of == name and x.variant == "logistic" and e.null is not None and x.against:
            read[x.against] = e
            beyond = e.low > e.null
            yield Verdict(
                "good" if beyond else "note",
                f"{name}: a linear probe reads {x.against} in {_percent(e)} of held-out rows; the most frequent value alone gives {e.null:.1%}."
                + ("" if beyond else " That is no better than chance."),
                "factor_probe",
                e.value,
            )
            near = m.find("factor_probe", name, x.against, "knn")
            if near and beyond and near.high < e.low:
                yield Verdict(
                    "note",
                    f"{name}: neighbours agree on {x.against} in only {_percent(near)}; it is in the vectors, but not what cosine compares.",
                    "factor_probe",
                    near.value,
                    "A linear map trained on a few labels would bring it out.",
                )
    factors = {f: e for f, e in read.items() if f != "labels"}
    if len(factors) > 1:
        # From 0, the most frequent value, to 1, always right.
        score = {f: (e.value - (e.null or 0)) / max(1e-9, 1 - (e.null or 0)) for f, e in factors.items()}
        best, worst = max(score, key=score.__getitem__), min(score, key=score.__getitem__)
        apart = factors[best].low > factors[worst].high and score[best] - score[worst] > SUPPRESSED
        yield Verdict(
            "warning" if apart else "note",
            f"{name}: {best} is read best ({_percent(factors[best])}), {worst} worst ({_percent(factors[worst])}, chance {factors[worst].null:.1%}).",
            "factor_probe",
            score[best] - score[worst],
            f"Either {worst} is suppressed or it is hard to see: train the same probe on the input itself, or on a supervised encoder, as a ceiling."
            if apart
            else "",
            "multistage-contrastive",
        )


def _pair(m: Measures, a: str, b: str) -> Iterator[Verdict]:
    gap, separability = m.gap, m.find("separability", a, b)
    if gap and separability:
        before, after = (gap.recall_x2y + gap.recall_y2x) / 2, (gap.recall_x2y_shifted + gap.recall_y2x_shifted) / 2
        moved = 100 * (after - before)
        shift = (
            f"shifting one onto the other would change recall@1 by {moved:+.1f} points (from {before:.1%} to {after:.1%})"
            if abs(moved) >= 0.05
            else f"shifting one onto the other would not change recall@1 ({before:.1%})"
        )
        size = f"the centroids are {gap.centroid_distance:.2f} apart, where chance would give {gap.chance_distance:.2f}"
        if separability.low > APART:
            yield Verdict(
                "warning",
                f"The {a} and {b} clouds do not overlap: separability {_number(separability)}; {size}; {shift}.",
                "separability",
                separability.value,
                "A gap is not an error in itself; it matters where rows of both kinds compete in one list, or a threshold serves both.",
                "contrastive-gap",
            )
        elif separability.high < MIXED:
            yield Verdict(
                "good",
                f"The {a} and {b} clouds overlap: separability {_number(separability)}; {size}.",
                "separability",
                separability.value,
            )
        else:
            yield Verdict(
                "note",
                f"The {a} and {b} clouds overlap in part: separability {_number(separability)}; {size}; {shift}.",
                "separability",
                separability.value,
                notebook="contrastive-gap",
            )
    for query, key in ((a, b), (b, a)):
        e = m.find("recall_at_k", query, key, "k=1")
        if e and e.null is not None:
            known = e.low > e.null
            yield Verdict(
                "note" if known else "warning",
                f"{query} finds its {key} first in {_percent(e)} of {e.n} cases; chance gives {e.null:.2%}."
                + ("" if known else " That is chance: are both files in the same order?"),
                "recall_at_k",
                e.value,
            )
    if (e := m.find("matched_cosine", a, b)) and e.null is not None:
        yield Verdict(
            "note",
            f"Partners have a mean cosine of {_number(e)}, strangers {e.null:.2f}; the difference is what retrieval lives on.",
            "matched_cosine",
            e.value,
        )


def _models(m: Measures, names: tuple[str, ...]) -> Iterator[Verdict]:
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if e := m.find("knn_overlap", a, b):
                cka = m.find("linear_cka", a, b)
                yield Verdict(
                    "note",
                    f"{a} and {b} agree on {_percent(e)} of the nearest neighbours (chance {e.null or 0:.1%})"
                    + (f"; linear CKA {_number(cka)}." if cka else "."),
                    "knn_overlap",
                    e.value,
                )


def _number(e: Estimate) -> str:
    return f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]"


def _percent(e: Estimate) -> str:
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]"
