"""`workbench diagnose embeddings`, as a user types it: the notebook runs, the page opens, mistakes are one line."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import nbformat
import numpy as np
import pytest
from typer.testing import CliRunner

import workbench.diagnose
from workbench import cli
from workbench.data.files import data_dir

pytestmark = [pytest.mark.notebook, pytest.mark.slow]
EXAMPLES = data_dir() / "examples"
SCHEMA = json.loads((Path(workbench.diagnose.__file__).parent / "schema.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The report on the example files, made by the command in a process of its own."""
    folder = tmp_path_factory.mktemp("report")
    files = [str(EXAMPLES / "image.parquet"), str(EXAMPLES / "text.parquet")]
    command = [sys.executable, "-m", "workbench", "diagnose", "embeddings", *files, "--pairs", "-o", str(folder / "r.html")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert all(str(folder / f"r.{kind}") in result.stdout for kind in ("html", "json", "ipynb"))
    return folder


def test_the_numbers_are_valid_and_the_gap_of_the_cold_model_is_found(made):
    """The JSON fits the schema, rows and widths are those of the files, and the model trained at 0.01 has its gap."""
    content = json.loads((made / "r.json").read_text())
    jsonschema.validate(content, SCHEMA)
    assert content["inputs"]["rows"] == 325 and [s["width"] for s in content["inputs"]["sets"]] == [128, 128]
    assert content["gap"]["separability"] > 0.95 and content["verdicts"][0]["measure"] == "separability"


def test_the_notebook_can_be_gone_on_with(made):
    """The executed notebook lies beside the page, without an error, with the user's files in its parameters."""
    notebook = nbformat.read(made / "r.ipynb", as_version=4)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert outputs and not [o for o in outputs if o.output_type == "error"]
    injected = next(c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", []))
    assert str(EXAMPLES / "image.parquet") in injected.source and "pairs = True" in injected.source


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(made, page, width):
    """No error, no request outside, figures drawn, the map answers to keys and search, nothing wider than the window."""
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((made / "r.html").as_uri())
    assert page.problems == [] and [a for a in page.asked if not a.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width + 1
    figures = page.locator("img.figure")
    assert figures.count() == 4 and all(figures.nth(i).evaluate("i => i.naturalWidth > 300") for i in range(4))
    canvas = page.locator("canvas").first
    canvas.focus()
    page.keyboard.press("ArrowRight")
    first = page.locator(".wb-card").first.inner_text()
    page.keyboard.press("ArrowRight")
    assert first.startswith("row ") and page.locator(".wb-card").first.inner_text() != first
    page.locator(".wb-map input").first.fill("heart")
    found = page.locator(".wb-map output").first.inner_text()
    assert found.endswith(" rows") and int(found.split()[0]) > 1
    inked = "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n }"
    assert canvas.evaluate(inked) > 1000


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch):
    """A file that is not there, files that do not fit and an impossible target are told at once, without a traceback."""
    np.save(tmp_path / "a.npy", np.eye(4))
    np.save(tmp_path / "b.npy", np.eye(3))
    for arguments, words in (
        (["none.npy"], "no file"),
        ([str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--pairs"], "must share one space"),
        ([str(tmp_path / "a.npy"), "-o", str(tmp_path / "r.pdf")], "ends in .html"),
        ([str(tmp_path / "a.npy"), "-o", str(tmp_path / "none" / "r.html")], "no folder"),
    ):
        monkeypatch.setattr("sys.argv", ["workbench", "diagnose", "embeddings", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr().err
        assert stop.value.code == 2 and words in said and "Traceback" not in said
    assert "embeddings" in CliRunner().invoke(cli.app, ["diagnose", "--help"]).stdout
