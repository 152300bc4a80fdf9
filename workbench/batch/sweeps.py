"""How a measured number depends on the parameters of a sweep, drawn from the results table."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.batch.records import write_atomic
from workbench.errors import UnknownNameError, WorkbenchError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def plot_sweep(table: pd.DataFrame, slug: str, *, x: str | None = None, names: list[str] | None = None) -> Figure:
    """One panel per claim or metric over one parameter; a line with its 95 % interval for each setting of the others.

    The interval is Student's over all values at a setting: the seeds that a notebook handed in, and the parameter `seed` where it
    was swept beside others.

    Args:
        table: rows of `workbench.batch.read_results`, of one preset.
        slug: the notebook.
        x: the parameter on the axis; the one with most values by default.
        names: claims or metrics to draw; all by default.

    Raises:
        WorkbenchError: fewer than two points of this notebook finished.
        UnknownNameError: no such parameter, claim or metric.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from workbench.plots.style import STYLE

    rows = table[(table.slug == slug) & table.value.notna() & (table.status == "ok")]
    rows = rows[rows.parameters != "{}"]
    swept = _swept(rows)
    if not swept:
        raise WorkbenchError(f"{slug} has no finished sweep here; start one with: workbench run {slug} -p name=value,value")
    known = sorted(set(rows.name))
    for name in names or []:
        if name not in known:
            raise UnknownNameError(f"claim or metric of {slug}", name, known)
    if x is not None and x not in swept:
        raise UnknownNameError(f"swept parameter of {slug}", x, swept)
    axes_of = [n for n in swept if n != "seed"] or swept
    x = x or max(axes_of, key=lambda n: len(swept[n]))
    by = [n for n in axes_of if n != x]
    chosen = names or known
    columns = min(2, len(chosen))
    lines = -(-len(chosen) // columns)
    with rc_context(fname=STYLE):
        figure = Figure(figsize=(5.5 * columns, 3.6 * lines), layout="constrained")
        for i, name in enumerate(chosen):
            axes = figure.add_subplot(lines, columns, i + 1)
            _panel(axes, rows[rows.name == name], x, by, swept)
            axes.set_title(_finding(rows[rows.name == name], name, x, swept[x]))
        figure.suptitle(f"{slug}: {len(set(rows.parameters))} points")
    return figure


def write_sweep_plots(table: pd.DataFrame, out: Path, preset: str, notebooks: Iterable[tuple[str, str]]) -> list[Path]:
    """`SLUG.sweep.png` beside the results of those notebooks, by (part, slug), that finished at two points or more."""
    written: list[Path] = []
    for part, slug in notebooks if "value" in table else []:
        try:
            figure = plot_sweep(table[(table.preset == preset) & (table.part == part)], slug)
        except WorkbenchError:
            continue
        path = out / preset / part / f"{slug}.sweep.png"
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110)
        write_atomic(path, picture.getvalue())
        written.append(path)
    return written


def _swept(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """Parameters with more than one value, and their values in order."""
    values: dict[str, dict[str, Any]] = {}
    for text in dict.fromkeys(rows.parameters):
        for name, value in json.loads(text).items():
            values.setdefault(name, {})[json.dumps(value)] = value
    return {name: _sorted(list(found.values())) for name, found in values.items() if len(found) > 1}


def _sorted(values: list[Any]) -> list[Any]:
    return sorted(values) if _numeric(values) else sorted(values, key=str)


def _numeric(values: list[Any]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _panel(axes: Any, rows: pd.DataFrame, x: str, by: list[str], swept: dict[str, list[Any]]) -> None:
    values = swept[x]
    numeric = _numeric(values)
    labels = [", ".join(f"{n} = {v}" for n, v in zip(by, vs, strict=True)) for vs in itertools.product(*(swept[n] for n in by))]
    groups: dict[str, dict[Any, list[float]]] = {label: {} for label in labels}  # in the order of the values
    for text, value in zip(rows.parameters, rows.value, strict=True):
        point = json.loads(text)
        label = ", ".join(f"{n} = {point.get(n)}" for n in by)
        groups.setdefault(label, {}).setdefault(json.dumps(point.get(x)), []).append(float(value))
    places = {json.dumps(v): v if numeric else i for i, v in enumerate(values)}
    for label, found in groups.items():
        known = [k for k in places if k in found]
        if not known:
            continue
        mean, low, high = zip(*(_interval(found[k]) for k in known), strict=True)
        at = [places[k] for k in known]
        (line,) = axes.plot(at, mean, "o-", label=label or None)
        axes.fill_between(at, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if numeric and min(values) > 0 and max(values) / min(values) >= 8:
        axes.set_xscale("log")
    if numeric:
        axes.set_xticks(values, [f"{v:g}" for v in values])
        axes.minorticks_off()
    else:
        axes.set_xticks(range(len(values)), [str(v) for v in values])
    axes.set_xlabel(x)
    if by:
        axes.legend(fontsize=8)


def _interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval; the interval is the mean itself for one value."""
    import numpy as np
    from scipy import stats

    mean = float(np.mean(values))
    half = 0.0 if len(values) < 2 else float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def _finding(rows: pd.DataFrame, name: str, x: str, values: list[Any]) -> str:
    """The panel's title: the name, and at which setting of x the mean is highest."""
    at: dict[str, list[float]] = {}
    for text, value in zip(rows.parameters, rows.value, strict=True):
        at.setdefault(json.dumps(json.loads(text).get(x)), []).append(float(value))
    _, highest = max((sum(at[k]) / len(at[k]), str(v)) for v in values if (k := json.dumps(v)) in at)
    return f"{name}\nhighest at {x} = {highest}"
