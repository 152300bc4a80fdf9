"""The models of all notebooks in one plane: charts and tables for the page that compares across papers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from workbench.book.gather import Executed
from workbench.papers.catalogue import PARTS

FACTOR = re.compile(r"^(?:suppression(?: of|:)?\s+(?P<a>.+)|(?P<b>.+?)[\s:]+(?:probe|suppression))$", re.IGNORECASE)
RETRIEVAL = "right among 10 random rows"
SHAPES = "●■▲◆▼✚★⬟⬢✖"


@dataclass(frozen=True)
class Point:
    """One mark of a chart: where, what a reader is told, and where a click leads."""

    x: float
    y: float
    label: str
    href: str
    part: str


def models_of(found: Sequence[Executed]) -> list[tuple[Executed, dict[str, Any]]]:
    """Every model of every dashboard, with its notebook."""
    return [(executed, model) for executed in found for model in executed.geometry]


def points(found: Sequence[Executed], x: str, y: str) -> list[Point]:
    """The models that have both numbers."""
    chosen = []
    for executed, model in models_of(found):
        numbers = model["numbers"]
        if x in numbers and y in numbers:
            values = f"{x} {numbers[x]:.3g}, {y} {numbers[y]:.3g}"
            label = f"{model['model']} ({executed.slug}): {values}; {model['rows']:,} rows"
            chosen.append(Point(numbers[x], numbers[y], label, f"{executed.page}.html", executed.part))
    return chosen


def scatter(marks: Sequence[Point], *, x: str, y: str, title: str, name: str) -> str:
    """A scatter chart as SVG inside the page: each mark is a link that says its numbers, colours follow the theme."""
    from matplotlib.ticker import MaxNLocator

    if not marks:
        return '<p class="wb-empty">No notebook of this run records these numbers.</p>'
    width, height, left, bottom, top, right = 720, 440, 64, 50, 12, 16

    def axis(values: list[float]) -> tuple[float, float, list[float]]:
        low, high = min(values), max(values)
        pad = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
        ticks = [float(t) for t in MaxNLocator(6).tick_values(low - pad, high + pad)]
        return low - pad, high + pad, [t for t in ticks if low - pad <= t <= high + pad]

    x0, x1, x_ticks = axis([p.x for p in marks])
    y0, y1, y_ticks = axis([p.y for p in marks])

    def at(px: float, py: float) -> tuple[float, float]:
        return (
            round(left + (px - x0) / (x1 - x0) * (width - left - right), 1),
            round(height - bottom - (py - y0) / (y1 - y0) * (height - top - bottom), 1),
        )

    lines = []
    for tick in x_ticks:
        tx, _ = at(tick, y0)
        lines.append(f'<line class="wb-gridline" x1="{tx}" x2="{tx}" y1="{top}" y2="{height - bottom}"/>')
        lines.append(f'<text x="{tx}" y="{height - bottom + 18}" text-anchor="middle">{tick:g}</text>')
    for tick in y_ticks:
        _, ty = at(x0, tick)
        lines.append(f'<line class="wb-gridline" x1="{left}" x2="{width - right}" y1="{ty}" y2="{ty}"/>')
        lines.append(f'<text x="{left - 8}" y="{ty + 4}" text-anchor="end">{tick:g}</text>')
    lines.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">{escape(x)}</text>')
    lines.append(f'<text transform="translate(16 {(height - bottom) / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>')
    for p in marks:
        px, py = at(p.x, p.y)
        number = list(PARTS).index(p.part) if p.part in PARTS else 0
        lines.append(
            f'<a href="{escape(p.href)}" aria-label="{escape(p.label)}" data-label="{escape(p.label)}">'
            f'<text class="wb-mark wb-part{number}" x="{px}" y="{py}" dy="0.35em" text-anchor="middle">{SHAPES[number]}</text>'
            f"<title>{escape(p.label)}</title></a>"
        )
    used = sorted({p.part for p in marks if p.part in PARTS})
    legend = "".join(
        f'<span><span class="wb-mark wb-part{list(PARTS).index(part)}" aria-hidden="true">{SHAPES[list(PARTS).index(part)]}</span> '
        f"{escape(PARTS[part])}</span>"
        for part in used
    )
    return (
        f'<figure class="wb-chart" id="{name}"><svg viewBox="0 0 {width} {height}" role="group" aria-label="{escape(title)}">'
        f'{"".join(lines)}</svg><p class="wb-said" aria-live="polite">Point at a mark, or reach it with the tab key.</p>'
        f"<figcaption>{legend}</figcaption></figure>"
    )


def factors(found: Sequence[Executed]) -> list[tuple[Executed, str, str, float]]:
    """Notebook, model, factor and value of each number about one factor of the data."""
    rows = []
    for executed, model in models_of(found):
        for metric, value in model["numbers"].items():
            if match := FACTOR.match(metric):
                rows.append((executed, model["model"], (match["a"] or match["b"]).strip(), float(value)))
    return rows


def factor_table(found: Sequence[Executed]) -> str:
    """What each model keeps of each factor, with a bar."""
    rows = factors(found)
    if not rows:
        return '<p class="wb-empty">No notebook of this run records numbers of single factors.</p>'
    body = "".join(
        f'<tr><td data-sort="{escape(e.slug)}"><a href="{e.page}.html">{escape(e.slug)}</a></td><td>{escape(factor)}</td>'
        f'<td>{escape(model)}</td><td data-sort="{value:.6g}"><span class="wb-bar" style="--share:{min(max(value, 0), 1):.3f}"></span>'
        f"{value:.3f}</td></tr>"
        for e, model, factor, value in rows
    )
    return _table(("notebook", "factor", "model", "value"), body)


def model_table(found: Sequence[Executed]) -> str:
    """Every model with the numbers that most dashboards have."""
    wanted = ("uniformity", "alignment", "tolerance", "modality gap", "effective rank", RETRIEVAL)
    body = []
    for executed, model in models_of(found):
        cells = [
            f'<td data-sort="{escape(executed.slug)}"><a href="{executed.page}.html">{escape(executed.slug)}</a></td>',
            f"<td>{escape(model['model'])}</td>",
            f'<td data-sort="{model["rows"]}">{model["rows"]:,} × {model["width"]}</td>',
        ]
        for metric in wanted:
            value = model["numbers"].get(metric)
            cells.append("<td></td>" if value is None else f'<td data-sort="{value:.8g}">{value:.3g}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    if not body:
        return '<p class="wb-empty">No notebook of this run records its dashboard.</p>'
    return _table(("notebook", "model", "rows × width", *wanted), "".join(body))


def _table(columns: Sequence[str], body: str) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    return (
        f'<div class="wb-scroll" tabindex="0"><table class="wb-table wb-sort"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
