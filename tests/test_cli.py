"""The `workbench` command: its JSON, its tables, and errors of one line."""

import json

import pytest
from typer.testing import CliRunner

from workbench import cli
from workbench.batch.notebooks import find_notebooks
from workbench.batch.records import Record, write_record
from workbench.data.files import data_dir
from workbench.papers import find_paper, judge, load_catalogue

# A paper without a notebook yet.
WAITING = next(slug for slug in load_catalogue() if slug not in {n.slug for n in find_notebooks()})


def invoke(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def test_list_json_has_every_paper():
    rows = json.loads(invoke("list", "--json").stdout)
    assert len(rows) == 83 and {"slug", "part", "title", "arxiv", "notebook"} <= set(rows[0])
    by_slug = {r["slug"]: r for r in rows}
    assert by_slug["contrastive-loss-behaviour"]["notebook"].endswith("01-geometry/contrastive-loss-behaviour.ipynb")
    assert by_slug["yi"]["notebook"] is None


def test_list_of_a_part():
    full, short = (json.loads(invoke("list", "--part", p, "--json").stdout) for p in ("01-geometry", "01"))
    assert full == short and len(full) == 10
    assert "contrastive-loss-behaviour" in invoke("list", "--part", "01").stdout


def test_claims_json_has_the_published_fields(tmp_path):
    paper = find_paper("contrastive-loss-behaviour")
    judged = [vars(judge(c, [0.5, 0.51], slug=paper.slug, preset="ci")) | {"seconds": 2.0} for c in paper.claims]
    write_record(Record(paper.slug, paper.part, "ci", {}, "ok", 2.0, "2026-01-01T00:00:00", {}, claims=judged), tmp_path)
    rows = json.loads(invoke("claims", "--json", "--out", str(tmp_path)).stdout)
    fields = "slug claim headline statement metric relation reference min_effect values effect ci_low ci_high verdict expected paper_value preset seconds"
    assert len(rows) == 4 and set(fields.split()) <= set(rows[0])
    table = invoke("claims", "--out", str(tmp_path)).stdout
    assert "reproduced" in table and "temperature-uniformity-tolerance" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "contrastive-loss-behavior"], "did you mean 'contrastive-loss-behaviour'"),
        (["run", WAITING], f"workbench new {WAITING}"),
        (["run", "tour", "--preset", "huge"], "unknown preset 'huge'"),
        (["run", "tour", "-p", "no_such_name=1"], "unknown parameter"),
        (["run", "tour", "-p", "seed"], "name=value"),
        (["run", "tour", "-p", "preset=cpu"], "--preset"),
        (["claims", "--out", "/nonexistent-folder"], "no finished run"),
        (["claims", "--preset", "tiny"], "unknown preset 'tiny'"),
        (["list", "--part", "geometry"], "unknown part"),
        (["new", "no-such-paper"], "unknown slug"),
        (["new", "contrastive-loss-behaviour"], "exists"),
        (["data", "build", "emojis"], "did you mean 'emoji'"),
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["workbench", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert message in printed.err and len(printed.err.strip().splitlines()) == 1 and "Traceback" not in printed.err


def test_doctor_finds_this_installation_well():
    result = invoke("doctor")
    assert result.exit_code == 0, result.stdout
    assert "torch" in result.stdout and "data: emoji" in result.stdout


def test_doctor_reports_a_damaged_data_file(tmp_path, monkeypatch):
    import shutil

    from workbench.data.files import data_dir

    shutil.copytree(data_dir() / "digits", tmp_path / "digits")
    (path,) = (tmp_path / "digits").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    result = invoke("doctor", "--json")
    bad = [f for f in json.loads(result.stdout) if not f["ok"]]
    assert result.exit_code == 1 and bad[0]["what"] == "data: digits" and "git checkout" in bad[0]["remedy"]


def test_data_list_json():
    rows = {r["name"]: r for r in json.loads(invoke("data", "list", "--json").stdout)}
    assert {"emoji", "scenes", "digits", "mnist"} <= set(rows)
    assert all(r["checksum_ok"] for r in rows.values())
    assert {"name", "rows", "modalities", "licence", "bytes", "checksum_ok"} <= set(rows["emoji"])


def test_data_build_writes_the_stored_bytes_where_it_is_told(tmp_path, monkeypatch):
    """The command runs a set's builder with its own arguments; digits needs no network, and every byte is the stored one."""
    monkeypatch.setattr("sys.argv", ["workbench", "data", "build", "digits"])
    assert invoke("data", "build", "digits", "--out", str(tmp_path)).exit_code == 0
    built, stored = tmp_path / "digits.parquet", data_dir() / "digits" / "digits.parquet"
    assert built.read_bytes() == stored.read_bytes()
