"""Every notebook of the collection: its anatomy, a real papermill run at `ci`, its claims, its exercises, its page."""

import json
import re
import subprocess
import sys

import pytest

from workbench.batch.notebooks import ROOT, find_notebooks
from workbench.batch.run import run_notebooks
from workbench.papers import check_answer

NOTEBOOKS = [n for n in find_notebooks() if n.part != "diagnose"]  # those are tools, not lessons: tests/diagnose
PAPERS = [n for n in NOTEBOOKS if n.paper]
slug = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.slug)
paper = pytest.mark.parametrize("notebook", PAPERS, ids=lambda n: n.slug)
RUNS = ROOT / "runs"  # shared with `make run`: what is unchanged there is not executed again


def cells(notebook, kind, tag=None):
    return [
        "".join(c["source"])
        for c in notebook.content["cells"]
        if c["cell_type"] == kind and (tag is None or tag in c["metadata"].get("tags", []))
    ]


@pytest.fixture(scope="session")
def records():
    """All notebooks, executed as `workbench run --preset ci` does it."""
    return {r.slug: r for r in run_notebooks(NOTEBOOKS, preset="ci", out=RUNS, say=print)}


@slug
def test_anatomy(notebook):
    """Title, parameters, sections in order, cells that fit the screen, nothing left to do."""
    markdown = cells(notebook, "markdown")
    assert markdown[0].startswith("# ") and "ci" in markdown[0]
    assert len(cells(notebook, "code", "parameters")) == 1
    assert {"preset", "device", "seed"} <= set(notebook.parameters) and notebook.parameters["preset"] == "ci"
    text = "\n".join(markdown)
    assert "TODO" not in text + "\n".join(cells(notebook, "code"))
    assert "explorer(" in "\n".join(cells(notebook, "code"))
    for source in cells(notebook, "code"):
        assert source.count("\n") < 32, f"a cell of {source.count(chr(10)) + 1} lines: {source[:60]!r}"
        assert max(map(len, source.splitlines())) <= 125, f"a line too long for the page in {source[:60]!r}"
    ids = [c["id"] for c in notebook.content["cells"]]
    assert len(set(ids)) == len(ids)


@paper
def test_sections_of_a_paper_notebook(notebook):
    """Problem before idea before experiment, geometry, explore, claims, limits, exercises, references."""
    headings = re.findall(r"^## (.+)$", "\n".join(cells(notebook, "markdown")), flags=re.M)
    wanted = ["problem", "idea", "experiment", "geometry", "explore", "claims", "does not carry over", "exercises", "references"]
    places = [next((i for i, h in enumerate(headings) if w in h.lower()), None) for w in wanted]
    assert None not in places and places == sorted(places), dict(zip(wanted, places, strict=True))
    first = cells(notebook, "markdown")[0]
    for part in (notebook.paper.title.split(" (")[0], notebook.paper.venue, str(notebook.paper.year), notebook.paper.link):
        assert part in first
    code = "\n".join(cells(notebook, "code"))
    assert "assert_close" in code and "geometry_dashboard(" in code and "report_claims(" in code
    assert len(cells(notebook, "code", "exercise")) == len(cells(notebook, "code", "check")) == 2


@slug
def test_committed_without_figures(notebook):
    """Only text whose cell is tagged keep_output is committed, without widget state or papermill's marks."""
    assert "widgets" not in notebook.content["metadata"] and "papermill" not in notebook.content["metadata"]
    for cell in notebook.content["cells"]:
        kept = {"keep_output", "nbval-check-output"} <= set(cell["metadata"].get("tags", []))
        assert kept or not cell.get("outputs"), "".join(cell["source"])[:60]
        assert all(set(o.get("data", {})) <= {"text/plain"} for o in cell.get("outputs", []))
    assert any("nbval-check-output" in c["metadata"].get("tags", []) for c in notebook.content["cells"])


@slug
def test_exercises_reject_wrong_answers_and_accept_the_solution(notebook):
    """The folded solutions pass their checks; dots, a constant and a function of nothing do not."""
    checks, exercises = cells(notebook, "code", "check"), cells(notebook, "code", "exercise")
    solutions = [
        s
        for text in cells(notebook, "markdown")
        for s in re.findall(r"<summary>Solution</summary>\s*```python\n(.*?)```", text, flags=re.S)
    ]
    assert len(checks) == len(exercises) == len(solutions) >= 1
    for exercise, check, solution in zip(exercises, checks, solutions, strict=True):
        name = re.search(r"check_answer\((\w+), verify\)", check)[1]

        def status(answer_source, check=check):
            scope = {"check_answer": check_answer}
            exec("import numpy as np, torch\nfrom workbench import losses, metrics", scope)
            exec(answer_source, scope)
            body, _, last = check.rpartition("check_answer(")
            exec(body, scope)
            return eval("check_answer(" + last, scope).status

        assert status(exercise) == "open"
        assert status(solution) == "right"
        for wrong in ("0", "None", "lambda *a, **k: None", "lambda *a, **k: 0", "lambda *a, **k: a[0]", "lambda *a, **k: 1 / 0"):
            assert status(f"{name} = {wrong}") == "wrong", f"{name} = {wrong} passes its check"


@pytest.mark.notebook
@pytest.mark.slow
@slug
def test_runs_at_ci(notebook, records):
    record = records[notebook.slug]
    assert record.status == "ok", f"{record.error}; see runs/ci/{record.part}/{record.log}"


@pytest.mark.notebook
@pytest.mark.slow
@paper
def test_verdicts_are_the_expected_ones(notebook, records):
    """The catalogue says beforehand what each claim comes to at `ci`; a surprise, good or bad, must be looked into."""
    results = {c["claim"]: c for c in records[notebook.slug].claims}
    assert set(results) == {c.id for c in notebook.paper.claims}
    for claim in notebook.paper.claims:
        assert "ci" in claim.expected, f"{notebook.slug}/{claim.id} needs an expected verdict at ci"
        got = results[claim.id]
        assert got["verdict"] == claim.expected["ci"], f"{claim.id}: effect {got['effect']} [{got['ci_low']}, {got['ci_high']}]"
        if claim.expected["ci"] == "not reproduced":
            assert claim.reason, f"{claim.id} fails at our scale; the catalogue must say why"


@pytest.mark.notebook
@pytest.mark.slow
@slug
def test_page_is_whole_and_needs_no_network(notebook, records):
    page = (RUNS / "ci" / notebook.part / records[notebook.slug].html).read_text(encoding="utf8")
    assert page.count('src="data:image/png;base64,') >= 4
    assert "<script" not in page and not re.search(r'(?:src|href)="https?://[^"]+\.(?:js|css)', page)
    assert not re.search(r"\$[^$\n]*\\[a-z]+[^$\n]*\$", re.sub(r"<pre.*?</pre>|<code.*?</code>", "", page, flags=re.S)), (
        "a formula was left as LaTeX"
    )


@pytest.mark.notebook
@pytest.mark.slow
@slug
def test_kept_outputs_are_what_the_run_printed(notebook, records):
    """The text committed with a notebook equals the text of the run above, cell by cell."""
    executed = json.loads((RUNS / "ci" / notebook.part / records[notebook.slug].notebook).read_text(encoding="utf8"))
    by_id = {c["id"]: c for c in executed["cells"]}
    for cell in notebook.content["cells"]:
        if "nbval-check-output" in cell["metadata"].get("tags", []):
            new, old = (printed(c) for c in (by_id[cell["id"]], cell))
            assert old and new == old


def printed(cell):
    return "".join("".join(o.get("text", "")) for o in cell["outputs"] if o.get("name") == "stdout")


@pytest.mark.notebook
@pytest.mark.slow
def test_nbval_accepts_the_tour():
    """The tags mean to nbval what they mean to the cheap comparison above: it executes the notebook once more by itself."""
    tour = next(n for n in NOTEBOOKS if n.slug == "tour")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "-o", "addopts=", str(tour.path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout[-3000:]
