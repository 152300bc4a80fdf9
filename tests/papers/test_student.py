"""Student mode: what is taken out, what nbgrader reads, and grades of right, wrong, open and endless answers."""

import json

import pytest
from typer.testing import CliRunner

from workbench import cli
from workbench.batch.notebooks import find_notebooks
from workbench.errors import WorkbenchError
from workbench.papers.exercises import NotAnswered, WrongAnswer, check_answer
from workbench.papers.grading import grade_notebook
from workbench.papers.student import find_exercises, read_notebook, source_of, source_version, student_version

CHECK = """def verify(answer):
    assert answer(3) == 9, "three squared is 9"
check_answer(square, verify)"""
TEXT = """**1. Square.** Write it.

<details><summary>Solution</summary>

```python
def square(x):
    return x * x
```

Once is not enough.

</details>

## References"""


def cell(kind, source, *tags, **metadata):
    made = {
        "cell_type": kind,
        "id": f"c{abs(hash(source)) % 10**8}",
        "metadata": {**({"tags": list(tags)} if tags else {}), **metadata},
    }
    return (
        made | {"source": source.splitlines(keepends=True)} | ({"outputs": [], "execution_count": None} if kind == "code" else {})
    )


def small(answer="square = ...  # a function of x"):
    text, solution = TEXT.split("\n\n", 1)
    return {
        "cells": [
            cell("code", "from workbench.papers import check_answer\nimport math"),
            cell("code", "heavy = 1 / 0  # only --all runs this"),
            cell("markdown", text),
            cell("code", answer, "exercise"),
            cell("code", CHECK, "check"),
            cell("markdown", solution),
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write(tmp_path, content, name="small.ipynb"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def require_nbgrader_schema(notebook):
    """The rules of nbgrader's schema 3 (its page on the metadata format and its validator), written out anew."""
    ids = []
    for c in notebook["cells"]:
        marks = c["metadata"].get("nbgrader")
        if marks is None:
            continue
        for name, kind in {
            "schema_version": int,
            "grade_id": str,
            "grade": bool,
            "solution": bool,
            "locked": bool,
            "task": bool,
        }.items():
            assert type(marks[name]) is kind, name
        assert marks["schema_version"] == 3 and marks["task"] is False and c["cell_type"] == "code"
        assert set(marks) - {"schema_version", "grade_id", "grade", "solution", "locked", "task", "points"} == set()
        assert marks["grade_id"] and all(ch.isascii() and (ch.isalnum() or ch in "-_") for ch in marks["grade_id"])
        assert ("points" in marks) == marks["grade"] and marks["grade"] == marks["locked"] != marks["solution"]
        assert marks.get("points", 1) > 0
        ids.append(marks["grade_id"])
    assert len(ids) == len(set(ids))
    return ids


def test_student_version_has_no_solution():
    """Folded solutions and answers go, the rest of their cell stays; cells are marked; nothing is left of the run."""
    notebook = small("def square(x):\n    return x * x  # a reader's answer")
    notebook["cells"][3] |= {"outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}], "execution_count": 7}
    made = student_version(notebook, "small")
    text = json.dumps(made)
    assert "return x" not in text and "Solution" not in text and "Once is not" not in text and "## References" in text
    assert source_of(made["cells"][3]) == "square = ...  # your answer"
    assert made["cells"][3]["outputs"] == [] and made["cells"][3]["execution_count"] is None
    assert require_nbgrader_schema(made) == ["small-exercise-1", "small-check-1"]
    assert "return x" in json.dumps(notebook), "the original is not touched"


@pytest.mark.parametrize("notebook", [n for n in find_notebooks() if n.part != "diagnose"], ids=lambda n: n.slug)
def test_every_notebook_of_the_collection(notebook):
    """Dots as delivered, checks untouched, no solution left; the teacher's version leads to the same student version."""
    original = read_notebook(notebook.path)
    made = student_version(original, notebook.slug)
    require_nbgrader_schema(made)
    pairs = zip(find_exercises(original), find_exercises(made), strict=True)
    for old, new in pairs:
        assert source_of(original["cells"][old.answer]).splitlines()[0].rstrip() in source_of(made["cells"][new.answer])
        assert source_of(original["cells"][old.check]) == source_of(made["cells"][new.check])
    assert "<details" not in json.dumps(made)
    teacher = source_version(original, notebook.slug)
    require_nbgrader_schema(teacher)
    again = student_version(teacher, notebook.slug)
    assert [source_of(c).count("YOUR CODE HERE") for c in again["cells"]].count(1) == len(find_exercises(made))


def test_nbgraders_own_marks():
    """Marked solutions become nbgrader's stub at their depth, hidden tests go, cells graded by hand are no exercises."""
    answer = "def f(x):\n    ### BEGIN SOLUTION\n    secret = x + 1\n    return secret\n    ### END SOLUTION"
    check = "assert f(1) == 2\n### BEGIN HIDDEN TESTS\nassert f(5) == 6\n### END HIDDEN TESTS"
    fields = {"schema_version": 3, "grade_id": "a", "locked": False, "task": False}
    notebook = small()
    notebook["cells"] = [
        cell("code", "essay = ''", nbgrader={**fields, "grade_id": "e", "grade": True, "solution": True, "points": 2}),
        cell("code", answer, nbgrader={**fields, "grade": False, "solution": True}),
        cell("code", check, nbgrader={**fields, "grade_id": "b", "grade": True, "solution": False, "locked": True, "points": 1}),
    ]
    made = student_version(notebook, "other")
    assert source_of(made["cells"][1]) == "def f(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
    assert source_of(made["cells"][2]) == "assert f(1) == 2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "not readable JSON"),
        ("[1, 2]", "no notebook of format 4"),
        ('{"cells": [{"source": "x"}]}', "no notebook of format 4"),
        ({"cells": [], "metadata": {}}, "has no exercises"),
        ({"cells": [cell("code", "a = ...", "exercise")], "metadata": {}}, "no check cell behind it"),
        (None, "there is no notebook"),
    ],
)
def test_what_is_no_notebook_with_exercises_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "absent.ipynb" if content is None else write(tmp_path, content)
    for command in (["check", str(path)], ["export", "--student", str(path), "--out", str(tmp_path / "out")]):
        result = CliRunner().invoke(cli.app, command)
        assert isinstance(result.exception, WorkbenchError) and message in str(result.exception), command
    assert not (tmp_path / "out").exists()


def test_export_keeps_answers_that_are_there(tmp_path):
    """Files come to OUT/PART/SLUG.ipynb; a second export refuses, --force replaces; the teacher's version has the solution."""
    path, out = write(tmp_path, small()), tmp_path / "course"
    export = ["export", "--student", str(path), "--out", str(out)]
    assert CliRunner().invoke(cli.app, export).exit_code == 0
    (target,) = out.rglob("*.ipynb")
    assert target.name == "small.ipynb" and "BEGIN SOLUTION" not in target.read_text()
    target.write_text("answers")
    assert "may hold answers" in str(CliRunner().invoke(cli.app, export).exception) and target.read_text() == "answers"
    assert CliRunner().invoke(cli.app, [*export, "--force", "--teacher"]).exit_code == 0
    assert "### BEGIN SOLUTION\\n" in target.read_text()


def test_replies_become_errors_for_a_grader(monkeypatch):
    """nbgrader gives full points to a cell without an error, so a reply that is not 'right' must be one while it runs."""

    def verify(answer):
        assert answer == 4, "four is wanted"

    assert [check_answer(a, verify).status for a in (..., 3, 4)] == ["open", "wrong", "right"]
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert check_answer(4, verify).status == "right"
    with pytest.raises(WrongAnswer, match="four is wanted"):
        check_answer(3, verify)
    with pytest.raises(NotAnswered):
        check_answer(..., verify)


@pytest.mark.slow
def test_grades_of_a_small_notebook(tmp_path):
    """Right, wrong, open, broken, endless and cheating answers in one run; other cells do not run; exit codes 0 and 1."""
    answers = {
        "right": ("def square(x):\n    return x**2", "passed", ""),
        "wrong": ("square = lambda x: 2 * x", "failed", "three squared is 9"),
        "open": ("square = ...", "open", "not answered yet"),
        "stub": ("raise NotImplementedError()", "open", "not answered yet"),
        "broken": ("def square(x:\n    pass", "failed", "SyntaxError"),
        "endless": ("def square(x):\n    while True:\n        pass", "failed", "did not finish in time"),
        "cheat": ("square = 0\ncheck_answer = lambda *a: None", "failed", "TypeError"),
        "elsewhere": ("square = lambda x: heavy", "failed", "add --all"),
    }
    notebook = small()
    head, tail = notebook["cells"][:2], notebook["cells"][2:5]
    notebook["cells"] = head
    for source, _, _ in answers.values():
        notebook["cells"] = [*notebook["cells"], tail[0], cell("code", source, "exercise"), tail[2]]
    for i, c in enumerate(notebook["cells"]):
        notebook["cells"][i] = {**c, "id": f"id{i}"}
    grades = grade_notebook(write(tmp_path, notebook), seconds=5)
    for (name, (_, result, message)), grade in zip(answers.items(), grades, strict=True):
        assert grade.result == result and message in grade.message, (name, grade)
    assert {g.title for g in grades} == {"1. Square"}


@pytest.mark.slow
def test_a_notebook_of_the_collection_is_graded_with_its_own_checks(tmp_path):
    """The exported start tour: the solution passes, exit code 0; an emptied check does not make a wrong answer pass, exit code 1."""
    out = tmp_path / "course"
    assert CliRunner().invoke(cli.app, ["export", "tour", "--out", str(out)]).exit_code == 0
    path = out / "00-start" / "tour.ipynb"
    notebook = read_notebook(path)
    (exercise,) = find_exercises(notebook)
    solution = "angles = torch.tensor([0.0, 2.0, 4.0]) * torch.pi / 3\nthree = torch.stack([angles.cos(), angles.sin()], dim=1)"
    notebook["cells"][exercise.answer]["source"] = solution
    path.write_text(json.dumps(notebook))
    result = CliRunner().invoke(cli.app, ["check", str(path), "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)[0]["result"] == "passed"
    notebook["cells"][exercise.answer]["source"] = "three = torch.eye(3)[:, :2]"
    notebook["cells"][exercise.check]["source"] = "print('fine')"
    path.write_text(json.dumps(notebook))
    result = CliRunner().invoke(cli.app, ["check", str(path)])
    assert result.exit_code == 1 and "0 of 1 passed" in result.stdout and "length one" in result.stdout
