"""Grades the exercises of a notebook in a kernel of its own: right, wrong or open, with the checks of the collection."""

from __future__ import annotations

import ast
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.papers.student import find_exercises, read_notebook, source_of

TIME = 60  # seconds for each cell of an exercise
MODE = "NBGRADER_EXECUTION"  # nbgrader sets it to 'autograde' or 'validate'; `check_answer` then raises

# Imported before the clock runs; short tracebacks, for long ones take longer than most answers.
PREPARE = "from workbench.papers import check_answer\nget_ipython().run_line_magic('xmode', 'Minimal')"


@dataclass(frozen=True)
class Grade:
    """One exercise: `result` is 'passed', 'failed' or 'open'; `message` says why."""

    title: str
    result: str
    message: str


def grade_notebook(path: Path, *, everything: bool = False, seconds: int = TIME) -> list[Grade]:
    """Run the exercises of a notebook and say which hold.

    Only its imports, the cell of parameters, the answers and the checks are executed, which takes seconds. The checks come from
    the collection where it has the notebook, so that a check that was edited or emptied does not pass.

    Args:
        path: a notebook of the collection, a student version of one, or any notebook marked like those.
        everything: run every cell, for answers that use what other cells made.
        seconds: longest time of each cell of an exercise.

    Raises:
        WorkbenchError: no such file, no notebook, no exercises, or a kernel that died.
    """
    notebook = read_notebook(path)
    exercises = find_exercises(notebook, str(path))
    checks = _original_checks(notebook, path)
    if checks is not None and len(checks) != len(exercises):
        raise WorkbenchError(
            f"{path} has {len(exercises)} exercises, its original {len(checks)}; was a cell deleted? Export it again and copy the answers"
        )
    # Printed after a check: a pass needs a sign, for output that comes late or not at all must not look like one.
    sign = secrets.token_hex(8)
    cells = [PREPARE, *_setup(notebook, {i for e in exercises for i in (e.answer, e.check)}, everything)]
    places = []
    for number, exercise in enumerate(exercises):
        check = source_of(notebook["cells"][exercise.check]) if checks is None else checks[number]
        places.append(len(cells))
        # An answer may not bring its own check_answer.
        cells += [
            source_of(notebook["cells"][exercise.answer]),
            f"from workbench.papers import check_answer\n{check}\nprint({sign!r})",
        ]
    outputs = _execute(cells, path, seconds, first=places[0])
    return [_judge(e.title, outputs[at], outputs[at + 1], sign) for e, at in zip(exercises, places, strict=True)]


def _original_checks(notebook: dict[str, Any], path: Path) -> list[str] | None:
    """The check cells of the collection's notebook of this name, or None for a notebook of somebody else."""
    from workbench.batch.notebooks import find_notebooks

    slug = notebook.get("metadata", {}).get("workbench", {}).get("slug", path.stem)
    original = next((n for n in find_notebooks() if n.slug == slug), None)
    if original is None:
        return None
    content = read_notebook(original.path)
    return [source_of(content["cells"][e.check]) for e in find_exercises(content, slug)]


def _setup(notebook: dict[str, Any], exercises: set[int], everything: bool) -> Iterator[str]:
    for i, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code" or i in exercises:
            continue
        source = source_of(cell)
        if everything or "parameters" in cell.get("metadata", {}).get("tags", []):
            yield source
        elif i < min(exercises) and (imports := _imports(source)):
            yield imports


def _imports(source: str) -> str:
    """The import lines at the top level of a cell; magics and broken cells have none."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    return "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))


def _execute(cells: list[str], path: Path, seconds: int, first: int) -> list[list[Any]]:
    """Outputs of each cell; errors are outputs, too."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    environment = {**os.environ, MODE: "validate", "WORKBENCH_BATCH": "1", "MPLBACKEND": "agg"}
    client = NotebookClient(
        made,
        kernel_name="python3",
        allow_errors=True,
        interrupt_on_timeout=True,
        timeout_func=lambda cell: seconds if made.cells.index(cell) >= first else None,
        startup_timeout=120,
        iopub_timeout=60,
        resources={"metadata": {"path": str(path.resolve().parent)}},
    )
    try:
        client.execute(env=environment, stderr=subprocess.DEVNULL)
    except DeadKernelError:
        raise WorkbenchError(f"the kernel died while it ran the exercises of {path}; an answer needs too much memory?") from None
    for source, cell in zip(cells[:first], made.cells, strict=False):
        if error := _error(cell.outputs):
            raise WorkbenchError(f"{path}: a cell before the exercises fails, {error}: {source.splitlines()[0][:60]}")
    return [cell.outputs for cell in made.cells]


def _judge(title: str, answered: list[Any], checked: list[Any], sign: str) -> Grade:
    error = _error(checked)
    if broken := _error(answered):
        if broken.startswith("NotImplementedError"):
            return Grade(title, "open", "not answered yet")
        if broken.startswith("KeyboardInterrupt"):
            return Grade(title, "failed", "the answer did not finish in time")
        return Grade(title, "failed", _with_hint(f"the answer cell raised {broken}"))
    if error is None:
        ran = any(sign in str(o.get("text", "")) for o in checked)
        return Grade(title, "passed", "") if ran else Grade(title, "failed", "the check gave no result; run it again")
    if error.startswith("KeyboardInterrupt"):
        return Grade(title, "failed", "the answer did not finish in time")
    if error.startswith("NotAnswered"):
        return Grade(title, "open", "not answered yet")
    return Grade(title, "failed", _with_hint(error.removeprefix("WrongAnswer: ").removeprefix("AssertionError: ")))


def _with_hint(message: str) -> str:
    return message + ("; if another cell makes that name, add --all" if "NameError" in message else "")


def _error(outputs: list[Any]) -> str | None:
    found = next((o for o in outputs if o["output_type"] == "error"), None)
    return None if found is None else f"{found['ename']}: {found['evalue']}"
