"""Selectors find the notebooks a user means, and a wrong one says what there is."""

import json

import pytest

from workbench.batch.notebooks import Notebook, find_notebooks, select_notebooks
from workbench.errors import UnknownNameError, WorkbenchError


def write_notebook(path, *cells, parameters=None):
    """A small notebook; the parameters cell comes first."""
    sources = ([("parameters", parameters)] if parameters is not None else []) + [(None, c) for c in cells]
    made = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "metadata": {"tags": [tag]} if tag else {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for i, (tag, source) in enumerate(sources)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return Notebook(path)


@pytest.fixture
def folder(tmp_path):
    for name in ("00-start/tour", "01-geometry/contrastive-loss-behaviour", "01-geometry/mochi", "03-image-text/contrastive-gap"):
        write_notebook(tmp_path / f"{name}.ipynb", "1")
    (tmp_path / "01-geometry" / ".ipynb_checkpoints").mkdir()
    write_notebook(tmp_path / "01-geometry" / ".ipynb_checkpoints" / "mochi-checkpoint.ipynb", "1")
    return tmp_path


@pytest.mark.parametrize(
    ("selectors", "slugs"),
    [
        ([], ["tour", "contrastive-loss-behaviour", "mochi", "contrastive-gap"]),
        (["mochi"], ["mochi"]),
        (["01-geometry"], ["contrastive-loss-behaviour", "mochi"]),
        (["01"], ["contrastive-loss-behaviour", "mochi"]),
        (["notebooks/01-geometry/"], ["contrastive-loss-behaviour", "mochi"]),
        (["*contrastive*"], ["contrastive-loss-behaviour", "contrastive-gap"]),
        (["03-*/*"], ["contrastive-gap"]),
        (["mochi", "01", "mochi"], ["mochi", "contrastive-loss-behaviour"]),  # each once
    ],
)
def test_selectors(folder, selectors, slugs):
    assert [n.slug for n in select_notebooks(selectors, folder)] == slugs


def test_the_collection_itself_is_found():
    assert {"tour", "contrastive-loss-behaviour"} <= {n.slug for n in find_notebooks()}


def test_selectors_that_fit_nothing(folder):
    with pytest.raises(UnknownNameError, match="'mochi'"):
        select_notebooks(["mochy"], folder)
    with pytest.raises(WorkbenchError, match="workbench new swav"):
        select_notebooks(["swav"], folder)  # a paper of the catalogue, not written yet
    with pytest.raises(WorkbenchError, match=r"no notebook here\.ipynb"):
        select_notebooks(["here.ipynb"], folder)


def test_parameters_are_read_and_checked(tmp_path):
    notebook = write_notebook(
        tmp_path / "01-geometry" / "x.ipynb", parameters='preset = "ci"\nseed = 3\ntau: float = 0.1\ntaus = [1, 2]\nflag = True'
    )
    assert notebook.parameters == {"preset": "ci", "seed": 3, "tau": 0.1, "taus": [1, 2], "flag": True}
    notebook.check_parameters({"tau": 1, "seed": 5, "taus": [0.1], "flag": False})
    with pytest.raises(UnknownNameError, match="'tau'"):
        notebook.check_parameters({"tao": 0.2})
    for wrong in ({"seed": "many"}, {"seed": 0.5}, {"tau": True}, {"taus": 1}, {"flag": 1}, {"preset": 3}):
        with pytest.raises(WorkbenchError, match="must be like its default"):
            notebook.check_parameters(wrong)


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text("not json")
    with pytest.raises(WorkbenchError, match=r"broken\.ipynb is not a readable notebook"):
        _ = Notebook(path).content
