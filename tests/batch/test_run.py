"""Real papermill runs of small notebooks: caching by content, failures kept, the others still run."""

import json
import subprocess
import sys
import time

import pandas as pd
import pytest
from test_selection import write_notebook

from workbench.batch import fingerprint, read_records, run_notebooks
from workbench.batch.records import Record, collect_claims, run_name, write_record

pytestmark = pytest.mark.notebook
GOOD = "print(preset, seed)"
CLAIMS = """
from workbench.papers import find_paper, report_claims
paper = find_paper("contrastive-loss-behaviour")
report_claims(paper.slug, {c.id: [0.6, 0.61, 0.62] for c in paper.claims}, preset=preset)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Four notebooks at once: one fine, one that raises, one whose kernel is killed, one that measures claims."""
    folder = tmp_path_factory.mktemp("collection")
    part, parameters = folder / "01-geometry", 'preset = "ci"\nseed = 0'
    notebooks = [
        write_notebook(part / "fine.ipynb", GOOD, parameters=parameters),
        write_notebook(part / "raises.ipynb", "print('before')", "1 / 0", "print('never')", parameters=parameters),
        write_notebook(part / "dies.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", parameters=parameters),
        write_notebook(part / "contrastive-loss-behaviour.ipynb", CLAIMS, parameters=parameters),
    ]
    out, said = folder / "runs", []
    records = {r.slug: r for r in run_notebooks(notebooks, out=out, jobs=2, say=said.append)}
    return notebooks, records, out, said


def test_a_failure_does_not_stop_the_others(ran):
    _, records, _, _ = ran
    assert {s: r.status for s, r in records.items()} == {
        "fine": "ok",
        "raises": "failed",
        "dies": "killed",
        "contrastive-loss-behaviour": "ok",
    }


def test_a_failed_notebook_keeps_its_partial_output_and_says_where_it_broke(ran):
    _, records, out, _ = ran
    record = records["raises"]
    assert "ZeroDivisionError: division by zero" in record.error and "cell" in record.error
    assert "raises.failed" in record.log and "ZeroDivisionError" in (out / "ci/01-geometry" / record.log).read_text()
    partial = json.loads((out / "ci/01-geometry" / record.notebook).read_text())
    text = json.dumps([c.get("outputs") for c in partial["cells"]])
    assert "before" in text and "ZeroDivisionError" in text and "never" not in text
    assert "ZeroDivisionError" in (out / "ci/01-geometry" / record.html).read_text()
    assert "raises.failed" in record.notebook and not (out / "ci/01-geometry/raises.ipynb").exists()


def test_a_killed_kernel_is_named(ran):
    _, records, _, _ = ran
    assert "the kernel was killed by SIGKILL" in records["dies"].error and "in cell 3 of 3" in records["dies"].error


def test_parameters_reach_the_notebook_and_the_page(ran):
    _, _, out, _ = ran
    page = (out / "ci/01-geometry/fine.html").read_text()
    assert "ci 0" in page
    assert "http" not in "".join(part for part in page.split('src="')[1:] if part.startswith("http"))


def test_claims_are_stored_in_the_notebook_and_collected(ran):
    _, records, out, _ = ran
    claims = collect_claims(out)
    assert len(claims) == 4 and {c["verdict"] for c in claims} == {"reproduced"}
    assert claims[0]["seconds"] == records["contrastive-loss-behaviour"].seconds > 0
    table = pd.read_parquet(out / "results.parquet")
    assert len(table[table.slug == "contrastive-loss-behaviour"]) == 12  # four claims, three seeds
    assert table[table.slug == "raises"].error.str.contains("ZeroDivisionError").all()


def test_unchanged_notebooks_are_not_run_again_and_failed_ones_are(ran):
    notebooks, records, out, _ = ran
    said = []
    again = {r.slug: r for r in run_notebooks(notebooks[:2], out=out, say=said.append)}
    assert again["fine"] == records["fine"]
    assert any("unchanged" in line and "fine" in line for line in said)
    assert any("it failed before" in line and "raises" in line for line in said)
    assert again["raises"].started >= records["raises"].started


def test_other_parameters_are_another_run_beside_the_first(ran):
    notebooks, _records, out, _ = ran
    (other,) = run_notebooks(notebooks[:1], parameters={"seed": 7}, out=out, say=lambda line: None)
    assert other.ok and other.notebook == "fine@seed=7.ipynb"
    assert "ci 7" in (out / "ci/01-geometry/fine@seed=7.html").read_text()
    assert (out / "ci/01-geometry/fine.ipynb").exists()
    assert len([r for r in read_records(out) if r.slug == "fine"]) == 2


def test_fingerprint_names_what_changed(tmp_path):
    notebook = write_notebook(tmp_path / "01-geometry" / "x.ipynb", "1", parameters="seed = 0")
    before = fingerprint.fingerprint(notebook, {})
    assert fingerprint.changes(before, fingerprint.fingerprint(notebook, {})) == []
    assert fingerprint.changes(before, fingerprint.fingerprint(notebook, {"seed": 1})) == ["parameters"]
    edited = write_notebook(tmp_path / "01-geometry" / "x.ipynb", "2", parameters="seed = 0")
    assert fingerprint.changes(before, fingerprint.fingerprint(edited, {})) == ["notebook"]


def test_outputs_and_execution_counts_do_not_change_the_fingerprint(tmp_path):
    notebook = write_notebook(tmp_path / "01-geometry" / "x.ipynb", "1")
    before = fingerprint.fingerprint(notebook, {})
    content = json.loads(notebook.path.read_text())
    content["cells"][0].update(execution_count=4, outputs=[{"output_type": "stream", "name": "stdout", "text": "1"}])
    notebook.path.write_text(json.dumps(content))
    assert fingerprint.fingerprint(type(notebook)(notebook.path), {}) == before


def test_the_largest_preset_is_on_the_scoreboard_and_parameter_runs_are_not(tmp_path):
    def record(preset, parameters, effect):
        return Record(
            "mochi",
            "01-geometry",
            preset,
            parameters,
            "ok",
            1.0,
            "2026-01-01T00:00:00",
            {},
            claims=[{"effect": effect, "values": [effect]}],
        )

    for r in (record("ci", {}, 1.0), record("cpu", {}, 2.0), record("cpu", {"seed": 3}, 3.0)):
        write_record(r, tmp_path)
    assert [c["effect"] for c in collect_claims(tmp_path)] == [2.0]
    assert [c["effect"] for c in collect_claims(tmp_path, "ci")] == [1.0]


def test_run_names_are_readable_safe_and_unique():
    assert run_name("a", {}) == "a"
    assert run_name("a", {"tau": 0.1, "seed": 3}) == "a@seed=3,tau=0.1"
    weird = [run_name("a", {"x": v}) for v in ("../up", "..\\up", "y" * 300, "y" * 301)]
    assert len(set(weird)) == 4 and all("/" not in n and "\\" not in n and len(n) < 90 for n in weird)


@pytest.mark.slow
def test_nothing_runs_on_after_the_runner_is_killed(tmp_path):
    """kill -9 of `workbench run` leaves neither the executing process nor its kernel behind."""
    import psutil

    write_notebook(tmp_path / "01-geometry" / "sleeps.ipynb", "import time; time.sleep(600)")
    command = [
        sys.executable,
        "-m",
        "workbench",
        "run",
        str(tmp_path / "01-geometry" / "sleeps.ipynb"),
        "--out",
        str(tmp_path / "runs"),
    ]
    runner = psutil.Popen(command, stdout=subprocess.DEVNULL)

    def family():
        return [p for p in runner.children(recursive=True) if "ipykernel" in " ".join(p.cmdline())]

    deadline = time.monotonic() + 60
    while not family() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert family(), "the kernel never started"
    started = runner.children(recursive=True)
    runner.kill()
    runner.wait(10)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, [p.cmdline() for p in alive]
