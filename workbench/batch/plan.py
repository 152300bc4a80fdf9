"""What a run will do: parameters to points of a grid, points to tasks, which of them are unchanged, and in which order."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbench.batch.fingerprint import changes, fingerprint, surroundings_here
from workbench.batch.notebooks import Notebook
from workbench.batch.records import Record, intact, latest, read_record, read_records, record_path, run_name
from workbench.batch.supervise import Task
from workbench.errors import UnknownNameError, WorkbenchError
from workbench.runtime import PRESETS

RANGE = re.compile(r"(-?\d+):(-?\d+)(?::(-?[1-9]\d*))?")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
SWEEP_KEYS = ("notebooks", "preset", "grid", "points")
MOST = 10_000  # executions in one run; more is a slip of the pen


@dataclass(frozen=True)
class Step:
    """One execution that was asked for: `why` it will run, or the finished record that stands for it."""

    notebook: Notebook
    task: Task
    why: str | None
    record: Record | None = None
    ran_before: bool = False


# ---- parameters --------------------------------------------------------------------------------------------------------------


def parse_parameters(given: Sequence[str]) -> dict[str, list[Any]]:
    """Axes of a grid from the command line.

    Args:
        given: 'name=value', 'name=value,value' or 'name=start:stop[:step]' (as Python's range); a value is read as YAML, so that a
            list in brackets and a text in quotes are one value.

    Raises:
        WorkbenchError: not of that form, or given twice.

    Example:
        >>> parse_parameters(["temperature=0.05,1e-1", "seed=0:3", "layers=[1, 2]", "word='a,b'"])
        {'temperature': [0.05, 0.1], 'seed': [0, 1, 2], 'layers': [[1, 2]], 'word': ['a,b']}
    """
    axes: dict[str, list[Any]] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise WorkbenchError(f"-p takes name=value, got {item!r}")
        if name == "preset":
            raise WorkbenchError("give the preset with --preset, so that the run is filed under it")
        if name in axes:
            raise WorkbenchError(f"-p {name} is given twice; list its values: -p {name}=a,b")
        axes[name] = _values(name, text)
    return axes


def _values(name: str, text: str) -> list[Any]:
    values: list[Any] = []
    for piece in _split(text):
        if match := RANGE.fullmatch(piece.strip()):
            start, stop, step = (int(g) if g else 1 for g in match.groups())
            values += range(start, stop, step)
        else:
            try:
                values.append(_number(yaml.safe_load(piece)))
            except yaml.YAMLError as error:
                raise WorkbenchError(f"-p {name}: {piece!r} is not YAML: {str(error).splitlines()[0]}") from None
    if not values:
        raise WorkbenchError(f"-p {name}={text} is an empty range; the end does not belong to it")
    return _once(values)


def _split(text: str) -> list[str]:
    """At the commas outside of brackets and quotes."""
    pieces, depth, quote = [""], 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'" and not pieces[-1].strip():
            quote = c
        elif c in "[{":
            depth += 1
        elif c in "]}":
            depth -= 1
        elif c == "," and depth == 0:
            pieces.append("")
            continue
        pieces[-1] += c
    return pieces


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 as text because it has no point.
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def _once(values: Sequence[Any]) -> list[Any]:
    seen: dict[str, Any] = {}
    for value in values:
        seen.setdefault(json.dumps(value, default=str), value)
    return list(seen.values())


def grid_points(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values; the last name changes fastest. One empty point without axes.

    Example:
        >>> grid_points({"tau": [0.1, 1.0], "seed": [0, 1]})
        [{'tau': 0.1, 'seed': 0}, {'tau': 0.1, 'seed': 1}, {'tau': 1.0, 'seed': 0}, {'tau': 1.0, 'seed': 1}]
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read: which notebooks, which preset (or None), and the points."""

    notebooks: list[str]
    preset: str | None
    points: list[dict[str, Any]]


def read_sweep(path: Path, more: Mapping[str, Sequence[Any]] | None = None) -> Sweep:
    """Read a YAML sweep file.

    `grid` maps names to values, whose every combination is run; `points` lists single combinations, each of which is run with every
    combination of the grid. `notebooks` and `preset` are optional.

    Args:
        path: the file.
        more: axes from the command line, which replace those of the file.

    Raises:
        UnknownNameError: a key that a sweep file does not have.
        WorkbenchError: the file cannot be read or is not of this form.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WorkbenchError(f"sweep file {path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise WorkbenchError(f"sweep file {path} must map names to values, such as grid: {{temperature: [0.1, 0.5]}}")
    for key in content:
        if key not in SWEEP_KEYS:
            raise UnknownNameError(f"key of {path.name}", key, SWEEP_KEYS)
    grid, points = content.get("grid") or {}, content.get("points") or [{}]
    names = content.get("notebooks") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(grid, dict) or not isinstance(points, list) or not all(isinstance(p, dict) for p in points):
        raise WorkbenchError(f"{path}: grid must map names to lists of values, points must be a list of such maps to one value")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise WorkbenchError(f"{path}: notebooks must be a list of slugs, parts, globs or paths")
    axes = {name: _axis(value) for name, value in grid.items()} | dict(more or {})
    for name in {*axes, *(n for p in points for n in p)}:
        if not isinstance(name, str) or not name.isidentifier() or name == "preset":
            raise WorkbenchError(f"{path}: {name!r} cannot be a parameter of a sweep")
    both = {name for p in points for name in p} & set(axes)
    if both:
        raise WorkbenchError(f"{path}: {', '.join(sorted(both))} cannot stand in grid and in points")
    fixed = [{k: _number(v) for k, v in p.items()} for p in points]
    return Sweep(names, content.get("preset"), [{**p, **g} for p in fixed for g in grid_points(axes)])


def _axis(value: Any) -> list[Any]:
    if isinstance(value, str) and RANGE.fullmatch(value):
        return _values("grid", value)
    return _once([_number(v) for v in (value if isinstance(value, list) else [value])])


# ---- tasks -------------------------------------------------------------------------------------------------------------------


def make_steps(
    notebooks: Sequence[Notebook], points: Sequence[Mapping[str, Any]], preset: str, out: Path, fresh: bool, **limits: Any
) -> list[Step]:
    """One step per notebook and point, in that order; every parameter is checked before the first step is made.

    Raises:
        UnknownNameError, WorkbenchError: a name that is not in a parameters cell, a value of another type, or too many steps.
    """
    if len(notebooks) * len(points) > MOST:
        raise WorkbenchError(
            f"{len(notebooks)} notebooks at {len(points)} points are more than {MOST:,} executions; split the sweep"
        )
    _check_slugs(notebooks)
    typed = {(n.path, i): n.check_parameters(p, preset) for n in notebooks for i, p in enumerate(points)}
    around = surroundings_here()
    history = _seconds(out)
    steps, names = [], set()
    for notebook in notebooks:
        source = json.dumps(notebook.content)
        for i in range(len(points)):
            parameters = typed[notebook.path, i]
            name = run_name(notebook.slug, parameters)
            if (notebook.part, name) in names:
                continue  # 1 and 1.0 are one value of a float
            names.add((notebook.part, name))
            task = Task(
                slug=notebook.slug,
                part=notebook.part,
                name=name,
                preset=preset,
                parameters=parameters,
                injected={"preset": preset, **parameters} if "preset" in notebook.parameters else parameters,
                source=source,
                fingerprint=fingerprint(notebook, parameters, around),
                expected=_expected(history, notebook.slug, preset, name),
                **limits,
            )
            steps.append(_step(notebook, task, out, fresh))
    return steps


def unchanged(task: Task, out: Path) -> Record | None:
    """The finished record that makes this task needless."""
    good = read_record(record_path(out, task.preset, task.part, task.name))
    if good is None or changes(good.fingerprint, task.fingerprint) or not intact(good, out):
        return None
    last = latest(out, task.preset, task.part, task.name)
    return good if last is None or last.started <= good.started else None


def _step(notebook: Notebook, task: Task, out: Path, fresh: bool) -> Step:
    last = latest(out, task.preset, task.part, task.name)
    if last is None:
        return Step(notebook, task, "new")
    good = unchanged(task, out)
    if good and not fresh:
        return Step(notebook, task, None, good, True)
    differs = changes(last.fingerprint, task.fingerprint)
    if differs:
        why = f"changed: {', '.join(differs)}"
    elif not last.ok:
        why = f"it {ENDED[last.status]} before: {last.error}" if last.error else f"it {ENDED[last.status]} before"
    else:
        why = "asked for" if good else "its stored notebook is missing or altered"
    return Step(notebook, task, why, None, True)


ENDED = {
    "failed": "failed",
    "killed": "was killed",
    "timeout": "took too long",
    "memory": "took too much memory",
    "stopped": "was stopped",
}


def _check_slugs(notebooks: Sequence[Notebook]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for notebook in notebooks:
        other = seen.setdefault((notebook.part, notebook.slug), notebook.path)
        if other != notebook.path:
            raise WorkbenchError(f"{other} and {notebook.path} would be filed under the same name; run them with different --out")


def _seconds(out: Path) -> dict[tuple[str, ...], float]:
    """How long finished runs took: by notebook, preset and parameters, and the longest of each notebook and preset."""
    found: dict[tuple[str, ...], float] = {}
    for record in read_records(out):
        if record.ok:
            found[record.slug, record.preset, record.name] = record.seconds
            found[record.slug, record.preset] = max(record.seconds, found.get((record.slug, record.preset), 0.0))
    return found


def _expected(history: Mapping[tuple[str, ...], float], slug: str, preset: str, name: str) -> float:
    """An unknown one counts as long as its preset allows: it starts early rather than last."""
    known = history.get((slug, preset, name), history.get((slug, preset)))
    return PRESETS[preset].minutes * 60 if known is None else known
