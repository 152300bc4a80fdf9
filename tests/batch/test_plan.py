"""A wrong sweep is refused before anything starts; a right one becomes the points, order and reasons a user expects."""

import json
import shutil

import pytest
from batch_tools import Pretend, tiny

from workbench.batch import Notebook, grid_points, parse_parameters, read_records, read_sweep, run, run_notebooks
from workbench.batch.limits import parse_memory, parse_time
from workbench.batch.records import Record, write_record
from workbench.errors import UnknownNameError, WorkbenchError


@pytest.fixture
def pretend(monkeypatch):
    pretend = Pretend()
    monkeypatch.setattr(run, "perform", pretend)
    return pretend


def run_quietly(notebooks, **options):
    said = []
    return run_notebooks(notebooks, say=said.append, **options), said


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("temperature=0.05,0.1,0.5", [0.05, 0.1, 0.5]),
        ("seed=0:5", [0, 1, 2, 3, 4]),
        ("seed=10:0:-5", [10, 5]),
        ("seed=0:3,7", [0, 1, 2, 7]),
        ("rate=1e-3", [0.001]),  # YAML 1.1 alone reads text
        ("layers=[1, 2],[3]", [[1, 2], [3]]),
        ("name='a,b',c", ["a,b", "c"]),
        ("flag=true", [True]),
        ("seed=1,1,1", [1]),
        ("empty=", [None]),
    ],
)
def test_values_of_a_parameter(text, values):
    ((_, found),) = parse_parameters([text]).items()
    assert found == values and [type(v) for v in found] == [type(v) for v in values]


@pytest.mark.parametrize("text", ["seed", "=1", "a-b=1", "preset=cpu", "seed=5:0", "x=[1", "x={a: b: c}"])
def test_what_is_no_parameter_is_said(text):
    with pytest.raises(WorkbenchError, match="preset" if "preset" in text else "-p"):
        parse_parameters([text])
    with pytest.raises(WorkbenchError, match="twice"):
        parse_parameters(["a=1", "a=2"])


def test_sweep_file(tmp_path):
    """The grid's combinations times the points; the command line replaces an axis."""
    path = tmp_path / "sweep.yaml"
    path.write_text("notebooks: [tiny]\npreset: cpu\ngrid: {tau: [0.1, 1e-2], seed: 0:2}\npoints: [{lr: 1}, {lr: 2}]\n")
    sweep = read_sweep(path)
    assert sweep.notebooks == ["tiny"] and sweep.preset == "cpu" and len(sweep.points) == 8
    assert sweep.points[0] == {"lr": 1, "tau": 0.1, "seed": 0} and sweep.points[-1] == {"lr": 2, "tau": 0.01, "seed": 1}
    assert {p["seed"] for p in read_sweep(path, {"seed": [9]}).points} == {9}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gird: {a: [1]}", "did you mean 'grid'"),
        ("- 1", "must map names"),
        ("grid: [1]", "grid must map"),
        ("points: {a: 1}", "points must be a list"),
        ("grid: {a: [1]}\npoints: [{a: 2}]", "cannot stand in grid and in points"),
        ("grid: {preset: [ci, cpu]}", "'preset' cannot be a parameter"),
        ("grid: {a: [1", "cannot be read"),
        ("notebooks: 3", "notebooks must be a list"),
    ],
)
def test_a_wrong_sweep_file_is_refused(tmp_path, content, message):
    path = tmp_path / "sweep.yaml"
    path.write_text(content)
    with pytest.raises(WorkbenchError, match=message):
        read_sweep(path)


def test_names_and_types_are_checked_before_anything_starts(tmp_path, pretend):
    """The mistake is in the last notebook and the last point; the first does not start."""
    good, bad = tiny(tmp_path, "good"), tiny(tmp_path, "bad", parameters='preset = "ci"\nseed = 0')
    for points, error, words in (
        ([{"tau": 0.1}], UnknownNameError, "unknown parameter of bad 'tau'"),
        ([{"seed": 1}, {"seed": 0.5}], WorkbenchError, "must be like its default 0"),
        ([{"seed": "many"}], WorkbenchError, "must be like its default 0"),
    ):
        with pytest.raises(error, match=words):
            run_notebooks([good, bad], points=points, out=tmp_path / "runs", say=print)
    assert pretend.done == [] and not (tmp_path / "runs").exists()
    run_quietly([good], points=[{"seed": 1}], out=tmp_path / "runs")
    assert pretend.done == ["good@seed=1"]  # not vacuous: a right one starts


def test_a_parameters_cell_that_is_no_plain_assignment_is_named(tmp_path):
    with pytest.raises(WorkbenchError, match=r"parameters cell of x\.ipynb"):
        _ = tiny(tmp_path, "x", parameters="seed = int(3)").parameters


def test_whole_numbers_and_floats_are_one_point(tmp_path, pretend):
    records, _ = run_quietly([tiny(tmp_path)], points=grid_points({"tau": [1, 1.0, 2]}), out=tmp_path / "runs")
    assert sorted(pretend.done) == ["tiny@tau=1.0", "tiny@tau=2.0"] and [r.parameters["tau"] for r in records] == [1.0, 2.0]


def test_longest_first_and_unknown_before_all(tmp_path, pretend):
    notebooks = [tiny(tmp_path, s) for s in ("short", "long", "unknown")]
    for slug, seconds in (("short", 1.0), ("long", 30.0)):
        write_record(Record(slug, "01-geometry", "ci", {}, "ok", seconds, "2026-01-01", {}), tmp_path / "runs")
    records, _ = run_quietly(notebooks, out=tmp_path / "runs", jobs=1)
    assert pretend.done == ["unknown", "long", "short"]
    assert [r.slug for r in records] == ["short", "long", "unknown"]  # records keep the order of the question


def test_cores_are_divided_between_the_jobs(tmp_path, pretend, monkeypatch):
    monkeypatch.setattr(run, "usable_cores", lambda: 8)
    notebooks = [tiny(tmp_path, f"n{i}") for i in range(4)]
    for jobs, threads in ((1, 8), (2, 4), (3, 2), (None, 2)):  # no more jobs than notebooks
        pretend.threads.clear()
        run_quietly(notebooks, preset="cpu", jobs=jobs, fresh=True, out=tmp_path / "runs")
        assert pretend.threads == [threads] * 4
    run_quietly(notebooks, preset="ci", jobs=1, out=tmp_path / "runs")
    assert pretend.threads[-1] == 1  # the numbers of `ci` do not depend on the machine


def test_every_reason_to_run_again_is_said(tmp_path, pretend, monkeypatch):
    out = tmp_path / "runs"

    def why(**options):
        _, said = run_quietly([tiny(tmp_path)], out=out, **options)
        return next(line for line in said if "tiny" in line)

    assert "to run     tiny (new)" in why()
    assert "unchanged" in why()
    assert "(asked for)" in why(fresh=True)
    (out / "ci/01-geometry/tiny.ipynb").write_text("{}")
    assert "(its stored notebook is missing or altered)" in why()
    (out / "ci/01-geometry/tiny.ipynb").unlink()
    assert "missing or altered" in why()
    tiny(tmp_path, "tiny", "print(1)")
    run_notebooks_on_disk = tiny(tmp_path, "tiny", "print(2)")
    _, said = run_quietly([run_notebooks_on_disk], out=out)
    assert any("(changed: notebook)" in line for line in said)
    pretend.outcomes["tiny"] = "timeout"
    why(fresh=True)
    pretend.outcomes.clear()
    _, said = run_quietly([run_notebooks_on_disk], out=out)
    assert any("it took too long before: timeout as told" in line or "changed: notebook" in line for line in said)


def test_the_last_good_result_outlives_a_bad_run_and_a_good_run_clears_the_bad(tmp_path, pretend):
    out, notebook = tmp_path / "runs", tiny(tmp_path)
    folder = out / "ci/01-geometry"
    run_quietly([notebook], out=out)
    before = (folder / "tiny.json").read_bytes(), (folder / "tiny.ipynb").read_bytes()
    pretend.outcomes["tiny"] = "failed"
    ((bad,), _) = run_quietly([notebook], out=out, fresh=True)
    assert not bad.ok and bad.notebook == "tiny.failed.ipynb"
    assert before == ((folder / "tiny.json").read_bytes(), (folder / "tiny.ipynb").read_bytes())
    pretend.outcomes["tiny"] = "memory"
    ((worse,), said) = run_quietly([notebook], out=out)
    assert worse.status == "memory" and any("it failed before" in line for line in said)
    assert not list(folder.glob("tiny.failed*"))  # one bad end is kept, the latest
    pretend.outcomes.clear()
    ((good,), _) = run_quietly([notebook], out=out)
    assert good.ok and not list(folder.glob("tiny.memory*")) and len(read_records(out)) == 1


def test_only_changed_and_dry_run(tmp_path, pretend):
    old, new = tiny(tmp_path, "old"), tiny(tmp_path, "new")
    run_quietly([old], out=tmp_path / "runs")
    old = tiny(tmp_path, "old", "print('edited')")
    _, said = run_quietly([old, new], out=tmp_path / "runs", dry=True)
    assert len(said) == 2 and pretend.done == ["old"]
    run_quietly([old, new], out=tmp_path / "runs", only_changed=True)
    assert pretend.done == ["old", "old"]


def test_two_notebooks_of_one_name_are_refused(tmp_path, pretend):
    with pytest.raises(WorkbenchError, match="same name"):
        run_notebooks([tiny(tmp_path / "a"), tiny(tmp_path / "b")], out=tmp_path / "runs")
    with pytest.raises(WorkbenchError, match="10,000"):
        run_notebooks([tiny(tmp_path / "a")], points=grid_points({"seed": range(10_001)}), out=tmp_path / "runs")


def test_what_is_fingerprinted_is_what_runs(tmp_path, monkeypatch):
    """An edit while the notebook waits its turn does not get into a result filed under the old text."""
    seen, notebook = [], tiny(tmp_path, "tiny", "print('old')")
    monkeypatch.setattr(run, "perform", Pretend(before=lambda task: seen.append(task.source)))
    _ = notebook.content
    tiny(tmp_path, "tiny", "print('new')")
    run_quietly([notebook], out=tmp_path / "runs")
    assert "old" in json.dumps(seen) and "new" not in json.dumps(seen)


@pytest.mark.parametrize("text", ["", "-3s", "3 weeks", "nan", "1e3"])
def test_limits_that_cannot_be_read(text):
    for parse in (parse_time, parse_memory):
        with pytest.raises(WorkbenchError, match="is not a"):
            parse(text)


def test_every_ingredient_is_in_the_fingerprint(tmp_path, monkeypatch):
    """Package, data, lock, claims and a module beside the notebook each change exactly their own digest; the runner itself none."""
    from workbench.batch import fingerprint

    package, data = tmp_path / "package", tmp_path / "data"
    for path in (
        package / "losses" / "a.py",
        package / "batch" / "run.py",
        data / "digits" / "SHA256SUMS",
        tmp_path / "constraints.txt",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    monkeypatch.setenv("WORKBENCH_DATA", str(data))
    notebook = tiny(tmp_path, "tiny")
    (notebook.path.parent / "helper.py").write_text("1")
    (package / "diagnose").mkdir()
    (package / "diagnose" / "hover.js").write_text("1")
    tool = Notebook(tmp_path / "diagnose" / "tool.ipynb")
    tool.path.parent.mkdir()
    shutil.copy(notebook.path, tool.path)
    lesson, diagnosis = (fingerprint.fingerprint(n, {}) for n in (notebook, tool))
    (package / "diagnose" / "hover.js").write_text("2")
    assert fingerprint.fingerprint(notebook, {}) == lesson, "what a lesson computes does not depend on the diagnosis"
    assert fingerprint.changes(diagnosis, fingerprint.fingerprint(tool, {})) == ["diagnosis"]
    before = fingerprint.fingerprint(notebook, {})

    def changed():
        return fingerprint.changes(before, fingerprint.fingerprint(notebook, {}))

    for path, name in (
        (package / "losses" / "a.py", ["package"]),
        (package / "batch" / "run.py", []),
        (data / "digits" / "SHA256SUMS", ["data"]),
        (tmp_path / "constraints.txt", ["versions"]),
        (notebook.path.parent / "helper.py", ["modules beside it"]),
    ):
        path.write_text("2")
        assert changed() == name, path
        path.write_text("1")
        assert changed() == []
    (package / "losses" / "a.py").rename(package / "losses" / "b.py")
    assert changed() == ["package"]  # a renamed module
    (package / "losses" / "b.py").rename(package / "losses" / "a.py")
    (notebook.path.parent / "helper.py").unlink()
    assert changed() == ["modules beside it"]
    (notebook.path.parent / "helper.py").write_text("1")
    monkeypatch.setattr(fingerprint, "version", lambda name: "9.9")
    assert changed() == ["versions"]


def test_the_cpu_and_cuda_builds_of_torch_count_as_one(monkeypatch):
    from workbench.batch import fingerprint

    digests = set()
    for torch in ("2.13.0+cpu", "2.13.0+cu130", "2.13.0"):
        monkeypatch.setattr(fingerprint, "version", lambda name, torch=torch: torch)
        digests.add(fingerprint.surroundings_here()["versions"])
    assert len(digests) == 1
