"""Cell errors, hangs, memory, signals, a full disk: the finished is kept whole, the partial is kept and marked, nothing runs on."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest
from batch_tools import Pretend, start_runner, tiny, wait_until

from workbench.batch import devices as cores_and_gpus
from workbench.batch import execute, read_records, run, run_notebooks
from workbench.batch.records import read_record, write_atomic
from workbench.errors import WorkbenchError

HANG = ("print('begin')", "import time\nprint('asleep', flush=True)\ntime.sleep(600)", "print('never')")


def partial_text(out, record):
    content = json.loads((out / "ci/01-geometry" / record.notebook).read_text())
    assert "Partial result" in "".join(content["cells"][0]["source"])
    assert content["metadata"]["workbench"]["status"] == record.status
    assert "/tmp" not in json.dumps(content["metadata"]["papermill"])  # where it was made is nobody's business
    return json.dumps([c.get("outputs") for c in content["cells"]])


@pytest.mark.notebook
@pytest.mark.slow
def test_hang_and_memory_have_clear_verdicts_and_keep_the_partial(tmp_path):
    """Two notebooks at once: one sleeps for ever, one takes 400 MB; both end, each for its own reason."""
    out, said = tmp_path / "runs", []
    grow = ("print('begin')", "x = b'x' * (400 * 2**20)\nimport time; time.sleep(600)")
    notebooks = [tiny(tmp_path, "hangs", *HANG), tiny(tmp_path, "grows", *grow)]
    records = {r.slug: r for r in run_notebooks(notebooks, jobs=2, timeout=45, memory=300, out=out, say=said.append)}
    hangs, grows = records["hangs"], records["grows"]
    assert hangs.status == "timeout" and "over its time limit of 45 s, in cell 4 of 5" in hangs.error
    assert grows.status == "memory" and "over its memory limit of 300 MB" in grows.error and grows.memory_mb > 300
    assert "begin" in partial_text(out, grows)
    assert "asleep" in partial_text(out, hangs)  # also what the interrupted cell had printed
    assert any("TIMEOUT" in line for line in said) and any("MEMORY" in line for line in said)
    assert not [p for p in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(p.cmdline())]


@pytest.mark.notebook
def test_retries_only_when_asked_and_shown_as_retries(tmp_path):
    """A kernel that dies once: the second attempt succeeds and the record says that it was the second."""
    mark = tmp_path / "mark"
    flaky = f"import os, pathlib\np = pathlib.Path({str(mark)!r})\nif not p.exists():\n    p.touch()\n    os._exit(3)"
    out, said = tmp_path / "runs", []
    (record,) = run_notebooks([tiny(tmp_path, "flaky", flaky)], retries=2, out=out, say=said.append)
    assert record.ok and len(record.earlier) == 1 and "exit code 3, in cell 3 of 3" in record.earlier[0]
    assert sum("RETRY" in line for line in said) == 1 and any("done" in line and "(attempt 2)" in line for line in said)


@pytest.mark.notebook
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_in_good_order(tmp_path, number):
    out = tmp_path / "runs"
    runner = start_runner(tmp_path / "log", [tiny(tmp_path, "hangs", *HANG)], out=out)
    scratch = out / "ci/01-geometry/.hangs.job/notebook.ipynb"
    wait_until(lambda: scratch.exists() and "running" in scratch.read_text() and "begin\\n" in scratch.read_text())
    family = psutil.Process(runner.pid).children(recursive=True)
    assert len(family) >= 2, "vacuous: nothing ran"
    psutil.Process(runner.pid).send_signal(number)
    runner.join(60)
    assert runner.exitcode == 130
    assert not psutil.wait_procs(family, timeout=5)[1]
    (record,) = read_records(out)
    assert record.status == "stopped" and "stopped by the user" in record.error and "begin" in partial_text(out, record)
    assert not list(out.rglob(".*.job")) and (out / "index.html").exists()


# ---- without kernels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def heard():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("swallowed", [False, True])
def test_ctrl_c_starts_nothing_more(tmp_path, monkeypatch, swallowed):
    """Of five notebooks one at a time, the second is interrupted: the first is kept, the last three never start.

    Also where Python swallows the exception, as it does when the signal comes while a finaliser runs.
    """
    wait = run.wait

    def deaf(pending, **options):
        try:
            return wait(pending, **options)
        except KeyboardInterrupt:
            return set(), pending

    def interrupt(task):
        if len(pretend.done) == 1:
            threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
            pretend.seconds = 30

    pretend = Pretend(before=interrupt)
    monkeypatch.setattr(run, "perform", pretend)
    if swallowed:
        monkeypatch.setattr(run, "wait", deaf)
    notebooks = [tiny(tmp_path, f"n{i}") for i in range(5)]
    with pytest.raises(KeyboardInterrupt):
        run_notebooks(notebooks, jobs=1, out=tmp_path / "runs", say=lambda line: None)
    assert sorted(r.status for r in read_records(tmp_path / "runs")) == ["ok", "stopped"]
    pretend.before, pretend.seconds = (lambda task: None), 0
    first = pretend.done[0]
    run_notebooks(notebooks, jobs=1, out=tmp_path / "runs", say=lambda line: None)
    assert pretend.done.count(first) == 1 and all(r.ok for r in read_records(tmp_path / "runs"))


def test_a_full_disk_stops_the_run_and_keeps_what_was_finished(tmp_path, monkeypatch):
    """The disk fills up as the second result is stored; with room again, only what is missing runs."""
    pretend, real = Pretend(), run.keep
    monkeypatch.setattr(run, "perform", pretend)

    def keep(task, *rest):
        if len(pretend.done) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(task, *rest)

    monkeypatch.setattr(run, "keep", keep)
    notebooks, out = [tiny(tmp_path, f"n{i}") for i in range(4)], tmp_path / "runs"
    with pytest.raises(WorkbenchError, match="is full: 1 finished"):
        run_notebooks(notebooks, jobs=1, out=out, say=lambda line: None)
    assert len(pretend.done) == 2 and [r.status for r in read_records(out)] == ["ok"]
    monkeypatch.setattr(run, "keep", real)
    first = pretend.done[0]
    assert all(r.ok for r in run_notebooks(notebooks, jobs=1, out=out, say=lambda line: None))
    assert pretend.done.count(first) == 1 and len(pretend.done) == 5


FULL_DISK = """
import subprocess, sys
from pathlib import Path
disk = Path(sys.argv[1]); disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], check=True)
from batch_tools import tiny
from workbench.batch import read_records, run_notebooks
from workbench.errors import WorkbenchError
small = tiny(disk.parent, "small", "print('whole')")
large = tiny(disk.parent, "large", "print('begin')", "for i in range(60): print(('%d' % i) * 40000)", "print('never')")
run_notebooks([small], out=disk / "runs")
try:
    run_notebooks([small, large], out=disk / "runs")
    sys.exit("the disk was not full")
except WorkbenchError as error:
    assert "is full: 1 finished" in str(error), error
good = [r for r in read_records(disk / "runs") if r.ok]
assert [r.slug for r in good] == ["small"] and "whole" in (disk / "runs/ci/01-geometry/small.ipynb").read_text()
subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
again = {r.slug: r for r in run_notebooks([small, large], out=disk / "runs")}
assert again["large"].ok and again["small"] == good[0], again
"""


@pytest.mark.notebook
@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path):
    """A file system of 3 MB, a notebook that prints 4 MB; then the disk is made larger and the run goes on."""
    unshare = shutil.which("unshare")
    probe = "mount -t tmpfs -o size=1m none /mnt"
    if not unshare or subprocess.run([unshare, "-rm", "sh", "-c", probe], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    command = [unshare, "-rm", sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path / "disk")]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{Path(run.__file__).parents[2]}"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "write", [lambda path, text: write_atomic(path, text), lambda path, text: execute.Atomic().write(text, str(path))]
)
def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, write):
    """No file may grow over 20 kB: writing 100 kB breaks off in the middle, as on a full disk; the old content stays."""
    path = tmp_path / "record.json"
    write(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError):
            write(path, "n" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    write(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["record.json"]


def test_a_record_is_written_last(tmp_path, monkeypatch):
    """At whichever file the moving stops, no record describes files that are not there, and the next run repeats it."""
    real = run.keep.__globals__["os"].replace
    for stop_at in range(5):  # the table, notebook, page, log, record
        out, moved = tmp_path / f"runs{stop_at}", []

        def replace(a, b, moved=moved, stop_at=stop_at):
            if len(moved) == stop_at:
                raise OSError("the power went out")
            moved.append(b)
            real(a, b)

        pretend = Pretend()
        monkeypatch.setattr(run, "perform", pretend)
        with monkeypatch.context() as patch:
            patch.setattr(run.keep.__globals__["os"], "replace", replace)
            run_notebooks([tiny(tmp_path)], out=out, say=lambda line: None)
        assert len(moved) == stop_at and read_record(out / "ci/01-geometry/tiny.json") is None
        (record,) = run_notebooks([tiny(tmp_path)], out=out, say=lambda line: None)
        assert record.ok and len(pretend.done) == 2


def test_a_failure_of_the_runner_itself_costs_one_notebook(tmp_path, monkeypatch):
    def before(task):
        if task.slug == "n1":
            raise RuntimeError("a fault of ours")

    monkeypatch.setattr(run, "perform", Pretend(before=before))
    records = run_notebooks([tiny(tmp_path, f"n{i}") for i in range(3)], out=tmp_path / "runs", say=lambda line: None)
    assert [r.status for r in records] == ["ok", "failed", "ok"] and "a fault of ours" in records[1].error


def test_two_runners_in_one_folder_share_the_work(tmp_path, monkeypatch):
    pretend = Pretend(seconds=0.1)
    monkeypatch.setattr(run, "perform", pretend)
    notebooks, results = [tiny(tmp_path, f"n{i}") for i in range(6)], {}

    def work(i):
        results[i] = run_notebooks(notebooks, jobs=2, out=tmp_path / "runs", say=lambda line: None)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(pretend.done) == [f"n{i}" for i in range(6)]  # each once
    assert all(len(r) == 6 and all(x.ok for x in r) for r in results.values())
    assert not list((tmp_path / "runs").rglob(".n*"))  # neither locks nor scratch folders stay


def test_one_gpu_for_each_notebook(tmp_path, monkeypatch):
    """Five at once on two pretended GPUs: never two on one, and both are used; who asks for the CPU sees none."""
    monkeypatch.setattr(cores_and_gpus, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(cores_and_gpus, "GPU_LOCKS", tmp_path)
    busy, used, lock = {"0": 0, "1": 0}, [], threading.Lock()

    def work():
        with cores_and_gpus.one_gpu("auto") as (gpu, environment):
            assert environment == {"CUDA_VISIBLE_DEVICES": gpu}
            with lock:
                busy[gpu] += 1
                used.append((gpu, busy[gpu]))
            threading.Event().wait(0.1)
            with lock:
                busy[gpu] -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(used) == 5 and {n for _, n in used} == {1} and {g for g, _ in used} == {"0", "1"}
    with cores_and_gpus.one_gpu("cpu") as (gpu, environment):
        assert gpu is None and environment == {"CUDA_VISIBLE_DEVICES": ""}
