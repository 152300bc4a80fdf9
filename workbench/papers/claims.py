"""From values measured per seed to a verdict, and the table that a notebook ends with.

A notebook hands in numbers; it never writes a verdict. The verdict follows from the claim's relation, its minimum
effect and the 95 % interval of the effect over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

import numpy as np

from workbench.errors import UnknownNameError
from workbench.papers.catalogue import Claim, find_paper
from workbench.runtime import PRESETS

MIME = "application/vnd.workbench.claims+json"
BOOTSTRAP_FROM = 8  # a bootstrap over fewer values is far too narrow


@dataclass(frozen=True)
class Measurement:
    """What a notebook measured for one claim.

    Attributes:
        values: the claim's metric, one value a seed.
        references: the second quantity, one value a seed in the same order, for claims whose reference is not a number.
        interval: 't' (Student, over seeds) or 'bootstrap' (bias-corrected and accelerated, from 8 values on).
    """

    values: Sequence[float]
    references: Sequence[float] | None = None
    interval: str = "t"


@dataclass(frozen=True)
class ClaimResult:
    """One claim, measured and judged. `effect` is the mean of metric minus reference, in the metric's unit."""

    slug: str
    claim: str
    headline: bool
    statement: str
    metric: str
    relation: str
    reference: float | str
    min_effect: float
    values: tuple[float, ...]
    references: tuple[float, ...] | None
    effect: float
    ci_low: float | None
    ci_high: float | None
    verdict: str
    expected: str | None
    paper_value: str
    preset: str
    reason: str | None = None
    seconds: float | None = None

    @property
    def threshold(self) -> float:
        """The effect that the claim must pass."""
        return self.min_effect if self.relation in (">", ">=", "<=") else -self.min_effect

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one the catalogue expects at this preset (true where it expects none)."""
        return self.expected is None or self.verdict == self.expected


def judge(claim: Claim, measured: Measurement | Sequence[float], *, slug: str, preset: str) -> ClaimResult:
    r"""Effect, 95 % interval and verdict of one claim.

    With differences $e_s = m_s - r_s$ over seeds $s$ the effect is their mean, and its interval is Student's,
    $\bar e \pm t_{0.975, n-1}\, \mathrm{sd}(e)/\sqrt n$, paired by seed. The claim is `reproduced` when the whole interval
    lies on the claimed side of the minimum effect, `not reproduced` when all of it lies on the other side, and
    `inconclusive` otherwise, always so with one seed.

    Args:
        claim: the claim as the catalogue has it.
        measured: one value a seed, or a Measurement.
        slug: the paper, for the record.
        preset: the preset that was run, for the record and the expected verdict.

    Raises:
        ValueError: no values, a value that is not finite, references missing, unequal in number or not wanted,
            or too few values for a bootstrap.
    """
    measured = measured if isinstance(measured, Measurement) else Measurement(measured)
    values = _finite(measured.values, f"values of claim {claim.id!r}")
    references = _references(claim, measured, len(values))
    effects = values - references
    low, high = _interval(effects, measured.interval, claim.id)
    sign = 1.0 if claim.relation in (">", ">=") else -1.0
    threshold = claim.min_effect if claim.relation in (">", ">=", "<=") else -claim.min_effect
    margins = None if low is None or high is None else sorted((sign * (low - threshold), sign * (high - threshold)))
    strict = claim.relation in (">", "<")
    if margins is None:
        verdict = "inconclusive"
    elif margins[0] > 0 or (margins[0] == 0 and not strict):
        verdict = "reproduced"
    elif margins[1] < 0 or (margins[1] == 0 and strict):
        verdict = "not reproduced"
    else:
        verdict = "inconclusive"
    return ClaimResult(
        slug=slug,
        claim=claim.id,
        headline=claim.headline,
        statement=claim.statement,
        metric=claim.metric,
        relation=claim.relation,
        reference=claim.reference,
        min_effect=claim.min_effect,
        values=tuple(values.tolist()),
        references=tuple(references.tolist()) if isinstance(claim.reference, str) else None,
        effect=float(effects.mean()),
        ci_low=low,
        ci_high=high,
        verdict=verdict,
        expected=claim.expected.get(preset),
        paper_value=claim.paper_value,
        preset=preset,
        reason=claim.reason,
    )


def report_claims(slug: str, measured: Mapping[str, Measurement | Sequence[float]], *, preset: str) -> ClaimTable:
    """Judge all claims of a paper; the last expression of a notebook's claims cell.

    Args:
        slug: the paper's slug.
        measured: claim id -> one value a seed (or a Measurement); every claim of the paper must be there.
        preset: name of the preset that ran.

    Returns:
        A table that shows itself in a notebook and carries the machine-readable results in its output.

    Raises:
        UnknownNameError: unknown slug, preset or claim id.
        ValueError: a claim of the paper was not measured, or its values are unusable (see `judge`).
    """
    paper = find_paper(slug)
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    for claim_id in measured:
        paper.claim(claim_id)
    missing = [c.id for c in paper.claims if c.id not in measured]
    if missing:
        raise ValueError(f"measured lacks claims of {slug!r}: {', '.join(missing)}; hand in values for all of them")
    return ClaimTable([judge(c, measured[c.id], slug=slug, preset=preset) for c in paper.claims])


@dataclass(frozen=True)
class ClaimTable:
    """Judged claims, shown as a table with an interval drawing for each."""

    results: Sequence[ClaimResult] = field(default_factory=list)

    def records(self) -> list[dict[str, Any]]:
        """One plain dictionary per claim, as `workbench claims --json` prints them."""
        return [asdict(r) for r in self.results]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {MIME: self.records(), "text/html": self.to_html(), "text/plain": self.to_text()}

    def to_text(self) -> str:
        """The table for a terminal."""
        return "\n".join(
            f"{'*' if r.headline else ' '} {r.verdict:<15} {format_effect(r):<34} wanted {format_wanted(r):<10} {r.claim}"
            for r in self.results
        )

    def to_html(self) -> str:
        """The table for a notebook or a page, with no outside resources."""
        rows = "".join(_html_row(r) for r in self.results)
        return (
            '<table class="claims" style="border-collapse:collapse;font-size:90%;text-align:left">'
            "<thead><tr>"
            + "".join(f'<th style="text-align:left;padding:4px 10px">{h}</th>' for h in _HEADINGS)
            + f"</tr></thead><tbody>{rows}</tbody></table>"
        )


def format_effect(r: ClaimResult) -> str:
    """The effect with its interval, such as '+0.121 [+0.082, +0.160]'."""
    interval = (
        f"[{r.ci_low:+.3g}, {r.ci_high:+.3g}]" if r.ci_low is not None and r.ci_high is not None else "(one value: no interval)"
    )
    return f"{r.effect:+.3g} {interval}"


def format_wanted(r: ClaimResult) -> str:
    """What the effect must be, such as '> +0.05'."""
    return f"{r.relation} {r.threshold:+.3g}"


_HEADINGS = ("claim", "effect and 95 % interval", "wanted", "the paper", "verdict")
_LOOK = {"reproduced": ("✔", "#00694f"), "not reproduced": ("✘", "#b03a00"), "inconclusive": ("?", "#5f5f5f")}


def _html_row(r: ClaimResult) -> str:
    mark, colour = _LOOK[r.verdict]
    cell = '<td style="text-align:left;vertical-align:top;padding:6px 10px;border-top:1px solid #9995">'
    star = "<b>Headline.</b> " if r.headline else ""
    reason = f'<br><i style="opacity:.8">{escape(r.reason)}</i>' if r.reason and r.verdict != "reproduced" else ""
    surprise = "" if r.as_expected else f'<br><small style="color:#b03a00">expected: {escape(str(r.expected))}</small>'
    n = f"{len(r.values)} seed{'s' * (len(r.values) > 1)}"
    return (
        f'<tr>{cell}{star}{escape(r.statement)}<br><code style="opacity:.75">{escape(r.claim)}</code>{reason}</td>'
        f"{cell}{interval_svg(r)}<br>{escape(format_effect(r))}<br><small>{n}, preset {escape(r.preset)}</small></td>"
        f'{cell}<span style="white-space:nowrap">{escape(format_wanted(r))}</span></td>{cell}{escape(r.paper_value)}</td>'
        f'{cell}<b style="color:{colour};white-space:nowrap">{mark} {r.verdict}</b>{surprise}</td></tr>'
    )


def interval_svg(r: ClaimResult, width: int = 190, height: int = 26) -> str:
    """The effect with its interval as a small drawing."""
    low = r.effect if r.ci_low is None else r.ci_low
    high = r.effect if r.ci_high is None else r.ci_high
    points = [low, high, r.effect, r.threshold, 0.0]
    left, right = min(points), max(points)
    pad = 0.08 * (right - left) or 1.0
    scale = (width - 12) / (right - left + 2 * pad)

    def x(value: float) -> float:
        return round(6 + (value - left + pad) * scale, 1)

    colour = _LOOK[r.verdict][1]
    title = f"effect {format_effect(r)}; the dashed line is the minimum effect {r.threshold:+.3g}, the thin line is zero"
    return (
        f'<svg viewBox="0 0 {width} {height}" style="width:{width}px;height:{height}px;max-width:none" role="img"><title>{escape(title)}</title>'
        f'<line x1="{x(0)}" y1="2" x2="{x(0)}" y2="{height - 2}" stroke="#888" stroke-width="1"/>'
        f'<line x1="{x(r.threshold)}" y1="2" x2="{x(r.threshold)}" y2="{height - 2}" stroke="#888" stroke-width="1.5" stroke-dasharray="3 2"/>'
        f'<line x1="{x(low)}" y1="{height / 2}" x2="{x(high)}" y2="{height / 2}" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{x(r.effect)}" cy="{height / 2}" r="5" fill="{colour}"/></svg>'
    )


def _finite(values: Any, name: str) -> np.ndarray:
    array = np.atleast_1d(np.asarray([float(v) for v in values] if not np.isscalar(values) else [values], dtype=float))
    if array.size == 0:
        raise ValueError(f"{name} are empty; one value a seed is wanted")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array.tolist()}")
    return array


def _references(claim: Claim, measured: Measurement, n: int) -> np.ndarray:
    if isinstance(claim.reference, str):
        if measured.references is None:
            raise ValueError(f"claim {claim.id!r} compares with {claim.reference!r}: hand in Measurement(values, references)")
        references = _finite(measured.references, f"references of claim {claim.id!r}")
        if len(references) != n:
            raise ValueError(f"claim {claim.id!r} needs one reference a value, got {n} values and {len(references)} references")
        return references
    if measured.references is not None:
        raise ValueError(f"claim {claim.id!r} compares with the number {claim.reference}; it takes no references")
    return np.full(n, float(claim.reference))


def _interval(effects: np.ndarray, method: str, claim_id: str) -> tuple[float | None, float | None]:
    from scipy import stats

    if method not in ("t", "bootstrap"):
        raise UnknownNameError("interval", method, ["t", "bootstrap"])
    if len(effects) < 2:
        return None, None
    if method == "bootstrap" and len(effects) < BOOTSTRAP_FROM:
        raise ValueError(
            f"claim {claim_id!r}: a bootstrap needs at least {BOOTSTRAP_FROM} values, got {len(effects)}; use interval='t'"
        )
    spread = float(effects.std(ddof=1))
    if spread <= 1e-12 * max(1.0, float(np.abs(effects).max())):  # equal but for rounding: no spread to resample
        return float(effects.mean()), float(effects.mean())
    if method == "bootstrap":
        interval = stats.bootstrap((effects,), np.mean, confidence_level=0.95, rng=np.random.default_rng(0)).confidence_interval
        return float(interval.low), float(interval.high)
    half = float(stats.t.ppf(0.975, len(effects) - 1)) * spread / math.sqrt(len(effects))
    return float(effects.mean() - half), float(effects.mean() + half)
