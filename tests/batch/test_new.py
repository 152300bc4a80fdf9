"""`workbench new` makes a notebook that runs up to its claims, and runs through once they are handed in."""

import json

import pytest

from workbench.batch.new import new_notebook
from workbench.batch.notebooks import Notebook
from workbench.batch.run import run_notebooks
from workbench.errors import UnknownNameError, WorkbenchError
from workbench.papers import find_paper

SLUG = "whitenedcse"  # its claims compare with a number and with second quantities


def test_title_block_and_claims_are_filled_in(tmp_path):
    notebook = Notebook(new_notebook(SLUG, tmp_path))
    paper = find_paper(SLUG)
    text = "".join("".join(c["source"]) for c in notebook.content["cells"])
    assert notebook.path == tmp_path / paper.notebook
    assert paper.title in text and paper.link in text and all(f'"{c.id}": []' in text for c in paper.claims)
    assert notebook.parameters["preset"] == "ci"


def test_an_existing_notebook_is_never_overwritten(tmp_path):
    path = new_notebook(SLUG, tmp_path)
    path.write_text("mine")
    with pytest.raises(WorkbenchError, match="exists"):
        new_notebook(SLUG, tmp_path)
    assert path.read_text() == "mine"
    with pytest.raises(UnknownNameError):
        new_notebook("no-such-paper", tmp_path)


@pytest.mark.notebook
@pytest.mark.slow
def test_a_new_notebook_asks_for_its_claims_and_then_runs(tmp_path):
    """Followed literally: make it, run it (it asks for the values), hand them in, run it again."""
    path = new_notebook("swav", tmp_path)
    (first,) = run_notebooks([Notebook(path)], out=tmp_path / "runs", say=lambda line: None)
    assert first.status == "failed" and "are empty; one value a seed is wanted" in first.error
    content = json.loads(path.read_text())
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"]).replace(": [],", ": [0.1, 0.2, 0.3],")
    path.write_text(json.dumps(content))
    (second,) = run_notebooks([Notebook(path)], out=tmp_path / "runs", say=lambda line: None)
    assert second.ok, second.error
    assert {c["claim"] for c in second.claims} == {c.id for c in find_paper("swav").claims}
