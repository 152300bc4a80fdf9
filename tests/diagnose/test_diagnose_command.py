"""`workbench diagnose embeddings`, as a user types it: the notebook runs, the page opens, mistakes are one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import nbformat
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import workbench.diagnose
from workbench import cli
from workbench.data import load
from workbench.data.files import data_dir

pytestmark = [pytest.mark.notebook, pytest.mark.slow]
EXAMPLES = data_dir() / "examples"
WICKED = '</script><script>document.title = "caught"</script><img src=x onerror="document.title = 1">'
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


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The report on the example captions, in which one caption has become code."""
    folder = tmp_path_factory.mktemp("captions")
    lines = (EXAMPLES / "captions-sharp.jsonl").read_text().splitlines()
    shown = json.loads((EXAMPLES / "objects.jsonl").read_text().splitlines()[7])["objects"]
    absent = "circle" if "circle" not in shown else "star" if "star" not in shown else "ring"
    lines[7] = json.dumps({"id": "scene-007", "caption": f"{WICKED} a {absent}"})
    (folder / "a.jsonl").write_text("\n".join(lines))
    files = [str(folder / "a.jsonl"), str(EXAMPLES / "captions-blurred.jsonl")]
    command = [sys.executable, "-m", "workbench", "diagnose", "captions", *files, "--objects", str(EXAMPLES / "objects.jsonl")]
    result = subprocess.run([*command, "-o", str(folder / "r.html")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return folder


def test_the_numbers_of_captions_are_valid(told):
    """The JSON fits the schema, holds both systems, and those of blurred pictures are found to be the worse ones."""
    content = json.loads((told / "r.json").read_text())
    jsonschema.validate(content, SCHEMA)
    assert content["inputs"]["rows"] == 200 and len(content["inputs"]["systems"]) == 2
    assert content["comparison"]["chair_i"]["low"] > 0 and len(content["rules"]) >= 2 * 3 * 4
    assert any(h["id"] == "scene-007" for h in content["hallucinations"])


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_captions_in_a_browser(told, page, width):
    """No error, no request outside, code in a caption is shown as text, marks and figures are there, nothing is too wide."""
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((told / "r.html").as_uri())
    assert page.problems == [] and [a for a in page.asked if not a.startswith(("file:", "data:"))] == []
    assert (
        page.evaluate("document.documentElement.scrollWidth") <= width + 1
        and page.title() == "Captions of a and captions-blurred"
    )
    assert WICKED in page.locator("q", has_text="document.title").first.evaluate("q => q.textContent")
    figures = page.locator("img.figure")
    assert figures.count() == 3 and all(figures.nth(i).evaluate("i => i.naturalWidth > 300") for i in range(3))
    wrong = len(json.loads((told / "r.json").read_text())["hallucinations"])
    assert page.locator("mark.wb-false").count() == wrong + 1 > 40  # and the one that explains the mark
    folded = page.locator("details").first
    assert not folded.locator("li").first.is_visible()
    folded.locator("summary").click()
    assert folded.locator("li").first.is_visible()


def test_a_model_is_diagnosed_from_the_command_line(tmp_path):
    """Pictures in a folder and a table of captions give the page, valid numbers and the notebook; the cache is filled."""
    emoji = load("emoji", "test", style="twemoji", flags=False, size=32).select(slice(40))
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate((emoji.images * 255).byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i}.png")
    table = [{"file": f"{i}.png", "caption": c} for i, c in enumerate(emoji.captions)]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, table)))
    command = [sys.executable, "-m", "workbench", "diagnose", "model", "scenes-clip", "--images", str(tmp_path / "pictures")]
    command += ["--captions", str(tmp_path / "c.jsonl"), "--scenes", "20", "-o", str(tmp_path / "r.html")]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "WORKBENCH_CACHE": str(tmp_path / "cache")}
    )
    assert result.returncode == 0, result.stderr[-2000:]
    content = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(content, SCHEMA)
    assert content["model"]["pictures"] == content["model"]["texts"] == 40 and content["inputs"]["paired"]
    assert len(list((tmp_path / "cache" / "embeddings").glob("*.npz"))) == 2
    page = (tmp_path / "r.html").read_text()
    assert page.count("<canvas") == 2 and page.count('class="figure"') == 4 and "https://" not in page


def test_a_command_that_reads_files_does_not_wait_for_torch():
    """The command's own process loads no torch: the kernel that runs the notebook does."""
    code = "import sys, workbench.cli, workbench.diagnose.inputs, workbench.diagnose.run, workbench.diagnose.model_inputs, "
    code += "workbench.diagnose.caption_inputs, workbench.diagnose.vocabulary; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch):
    """A file that is not there, files that do not fit and an impossible target are told at once, without a traceback."""
    np.save(tmp_path / "a.npy", np.eye(4))
    np.save(tmp_path / "b.npy", np.eye(3))
    for arguments, words in (
        (["none.npy"], "no file"),
        ([str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--pairs"], "must share one space"),
        ([str(tmp_path / "a.npy"), "-o", str(tmp_path / "r.pdf")], "ends in .html"),
        ([str(tmp_path / "a.npy"), "-o", str(tmp_path / "none" / "r.html")], "no folder"),
        (["captions", str(EXAMPLES / "captions-sharp.jsonl")], "references or objects must be given"),
        (["captions", "none.jsonl", "--objects", str(EXAMPLES / "objects.jsonl")], "no file"),
        (["captions", "x.jsonl", "--objects", "o.jsonl", "--words", "all"], "unknown choice of words"),
        (["model", "scenes-clip"], "give --images, --captions or both"),
        (["model", "scenes-clip", "--images", str(tmp_path / "none")], "no folder"),
    ):
        kind = [] if arguments[0] in ("captions", "model") else ["embeddings"]
        monkeypatch.setattr("sys.argv", ["workbench", "diagnose", *kind, *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr().err
        assert stop.value.code == 2 and words in said and "Traceback" not in said
    assert "embeddings" in CliRunner().invoke(cli.app, ["diagnose", "--help"]).stdout
