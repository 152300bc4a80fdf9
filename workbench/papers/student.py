"""Student versions of notebooks: exercises without their solutions, marked for nbgrader.

An exercise of the collection is a code cell tagged `exercise` (a name set to dots), the code cell tagged `check` after it, and a folded
solution in the text. Notebooks of others may use nbgrader's own marks: `### BEGIN SOLUTION`, `### BEGIN HIDDEN TESTS`, cell metadata.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

SCHEMA = 3  # of nbgrader's cell metadata
FOLDED = re.compile(r"<details>\s*<summary>\s*Solution\s*</summary>(.*?)</details>\s*", flags=re.S | re.I)
CODE = re.compile(r"```python\n(.*?)```", flags=re.S)
MARKED = re.compile(r"^([ \t]*)### BEGIN SOLUTION.*?\n.*?^[ \t]*### END SOLUTION[^\n]*$", flags=re.S | re.M)
HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?^[ \t]*### END HIDDEN TESTS[^\n]*\n?", flags=re.S | re.M)
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"


@dataclass(frozen=True)
class Exercise:
    """Where an exercise stands in a notebook.

    Attributes:
        title: what it is called in the text before it.
        answer: index of the cell that the reader fills.
        check: index of the cell that checks it.
    """

    title: str
    answer: int
    check: int


def read_notebook(path: Path) -> dict[str, Any]:
    """The parsed notebook.

    Raises:
        WorkbenchError: no such file, not JSON, or JSON that is no notebook.
    """
    if not path.is_file():
        raise WorkbenchError(f"there is no notebook {path}")
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{path} is not readable JSON ({error}); was it saved by JupyterLab?") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list) or not all(isinstance(c, dict) and {"cell_type", "source"} <= set(c) for c in cells):
        raise WorkbenchError(f"{path} is JSON but no notebook of format 4: it has no list of cells with type and source")
    return content


def source_of(cell: dict[str, Any]) -> str:
    """The text of a cell, which the format keeps as one string or as lines."""
    return "".join(cell["source"])


def find_exercises(notebook: dict[str, Any], where: str = "the notebook") -> list[Exercise]:
    """The exercises of a notebook, in order.

    Raises:
        WorkbenchError: there are none, or an answer without a check behind it.
    """
    cells, waiting, title = notebook["cells"], None, ""
    found: list[Exercise] = []
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            bold = re.findall(r"\*\*(.+?)\*\*", FOLDED.sub("", source_of(cell)), flags=re.S)
            title = bold[-1].strip().rstrip(".") if bold else title
        elif _is(cell, "exercise", "solution"):
            waiting = i
        elif _is(cell, "check", "grade") and waiting is not None:
            found.append(Exercise(title or f"exercise {len(found) + 1}", waiting, i))
            waiting = None
    if waiting is not None:
        raise WorkbenchError(f"{where}: the exercise in cell {waiting + 1} has no check cell behind it (tag 'check')")
    if not found:
        raise WorkbenchError(f"{where} has no exercises: no code cell is tagged 'exercise' with one tagged 'check' behind it")
    return found


def student_version(notebook: dict[str, Any], slug: str) -> dict[str, Any]:
    """A copy without solutions, outputs and answers, its exercises marked for nbgrader (one point each).

    Raises:
        WorkbenchError: there are no exercises.
    """
    made = _marked(notebook, slug)
    for exercise in find_exercises(made, slug):
        answer = made["cells"][exercise.answer]
        text = source_of(answer)
        answer["source"] = _lines(
            MARKED.sub(_stub, text) if BEGIN in text else _dots(text, source_of(made["cells"][exercise.check]))
        )
        made["cells"][exercise.check]["source"] = _lines(HIDDEN.sub("", source_of(made["cells"][exercise.check])).rstrip("\n"))
    for cell in made["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _lines(FOLDED.sub("", source_of(cell)).strip("\n"))
    made["cells"] = [c for c in made["cells"] if c["cell_type"] != "markdown" or source_of(c).strip()]
    return made


def source_version(notebook: dict[str, Any], slug: str) -> dict[str, Any]:
    """A teacher's copy: each answer cell holds the solution between nbgrader's marks, for `nbgrader generate_assignment`.

    Raises:
        WorkbenchError: there are no exercises, or not one folded solution for each.
    """
    made = _marked(notebook, slug)
    exercises = find_exercises(made, slug)
    folded = [m for c in made["cells"] if c["cell_type"] == "markdown" for m in FOLDED.findall(source_of(c))]
    solutions = [code[0] for text in folded if (code := CODE.findall(text))]
    if len(solutions) != len(exercises):
        raise WorkbenchError(
            f"{slug} has {len(exercises)} exercises and {len(solutions)} folded solutions; one for each is wanted"
        )
    for exercise, solution in zip(exercises, solutions, strict=True):
        cell = made["cells"][exercise.answer]
        cell["source"] = _lines(f"{source_of(cell)}\n{BEGIN}\n{solution.rstrip()}\n{END}")
    return made


def write_version(notebook: dict[str, Any], path: Path, *, force: bool = False) -> Path:
    """Write a notebook; a file that is there may hold answers, so it is replaced only if `force`.

    Raises:
        WorkbenchError: the file exists.
    """
    if path.exists() and not force:
        raise WorkbenchError(f"{path} exists and may hold answers; choose another --out, or replace it with --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    return path


def nbgrader_fields(grade_id: str, *, grade: bool, solution: bool, locked: bool) -> dict[str, Any]:
    """nbgrader's metadata of one cell, in its schema 3."""
    fields: dict[str, Any] = {"schema_version": SCHEMA, "grade_id": re.sub(r"[^\w-]", "-", grade_id, flags=re.A)}
    fields |= {"grade": grade, "solution": solution, "locked": locked, "task": False}
    return fields | ({"points": 1} if grade else {})


def _marked(notebook: dict[str, Any], slug: str) -> dict[str, Any]:
    made = copy.deepcopy(notebook)
    made.get("metadata", {}).pop("papermill", None)
    made.get("metadata", {}).pop("widgets", None)
    made.setdefault("metadata", {})["workbench"] = {"slug": slug}
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    for number, exercise in enumerate(find_exercises(made, slug), 1):
        for kind, at in (("exercise", exercise.answer), ("check", exercise.check)):
            graded = kind == "check"
            metadata = made["cells"][at].setdefault("metadata", {})
            metadata["nbgrader"] = nbgrader_fields(f"{slug}-{kind}-{number}", grade=graded, solution=not graded, locked=graded)
            if graded:
                metadata |= {"deletable": False, "editable": False}
    return made


def _is(cell: dict[str, Any], tag: str, field: str) -> bool:
    metadata = cell.get("metadata", {})
    marks = metadata.get("nbgrader", {})
    by_hand = marks.get("grade") and marks.get("solution")  # a teacher reads and grades it
    return cell["cell_type"] == "code" and (tag in metadata.get("tags", []) or bool(marks.get(field) and not by_hand))


def _stub(match: re.Match[str]) -> str:
    return "\n".join(match[1] + line for line in STUB.splitlines())


def _dots(answer: str, check: str) -> str:
    """The answer as it was delivered, a name set to dots, or such a line made from the name that the check reads."""
    with contextlib.suppress(SyntaxError):
        tree = ast.parse(answer)
        if tree.body and all(
            isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant) and n.value.value is ... for n in tree.body
        ):
            return answer.rstrip("\n")
    name = re.search(r"check_answer\(\s*(\w+)", check)
    return f"{name[1]} = ...  # your answer" if name else STUB


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def export_notebooks(select: list[str], out: Path, *, student: bool, force: bool = False) -> Iterator[tuple[str, Path | None]]:
    """Write student (or teacher's) versions of the selected notebooks to OUT/PART/SLUG.ipynb, so that their links hold.

    Yields:
        (slug, path), with None for a notebook of a wide selection that has no exercises.

    Raises:
        WorkbenchError: a notebook that is named and has no exercises, none at all, or a file that exists.
    """
    from workbench.batch.notebooks import select_notebooks

    version = student_version if student else source_version
    made = 0
    for found in select_notebooks(select):
        content = read_notebook(found.path)
        try:
            ready = version(content, found.slug)
        except WorkbenchError:
            if found.slug in select or str(found.path) in select or any(Path(s).resolve() == found.path for s in select):
                raise
            yield found.slug, None
            continue
        made += 1
        yield found.slug, write_version(ready, out / found.part / f"{found.slug}.ipynb", force=force)
    if not made:
        raise WorkbenchError(f"none of the selected notebooks has exercises: {', '.join(select) or 'all'}")
