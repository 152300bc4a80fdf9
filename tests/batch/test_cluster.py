"""The same plan on dask.distributed: a worker is lost half-way, a runner dies, a worker has other files."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from batch_tools import SCORE, start_runner, tiny, wait_until

from workbench.batch import cluster, grid_points, read_results, run_notebooks
from workbench.batch.fingerprint import surroundings_here
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory):
    """The address of a scheduler on loopback, and two worker processes that nobody starts again when they are gone."""
    distributed = pytest.importorskip("distributed")
    command = [sys.executable, "-m", "dask", "worker", "--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
    with distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None, silence_logs=50) as scheduler:
        folder = tmp_path_factory.mktemp("workers")
        with (folder / "log").open("w") as log:
            options = {"stdout": log, "stderr": log, "cwd": folder}
            workers = [psutil.Popen([*command, scheduler.scheduler_address], **options) for _ in range(2)]
        wait_until(lambda: len(scheduler.scheduler_info["workers"]) == 2)
        yield scheduler.scheduler_address, workers
        for worker in workers:
            worker.kill()
            worker.wait()


def alive(worker):
    return worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE


def kernels(worker):
    return [p for p in worker.children(recursive=True) if "ipykernel" in " ".join(p.cmdline())]


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ddp
def test_a_sweep_survives_the_loss_of_a_worker(tmp_path, dask_cluster):
    """3 x 3 points on two workers, one of which is killed when four are done: the other finishes, nothing finished is repeated."""
    ledger, said = tmp_path / "ledger", []
    count = f"open({str(ledger)!r}, 'a').write(f'{{seed}} {{tau}}\\n')"
    notebook = tiny(tmp_path, "counted", SCORE, count)
    points = grid_points({"tau": [0.05, 0.1, 0.5], "seed": range(3)})
    address, (victim, other) = dask_cluster

    def say(line):
        said.append(line)
        if sum("  done " in s for s in said) == 4 and alive(victim):
            victim.kill()

    records = run_notebooks([notebook], points=points, workers=address, out=tmp_path / "runs", say=say)
    assert len(records) == 9 and all(r.ok for r in records), [r.error for r in records]
    assert not alive(victim) and alive(other), "vacuous: no worker was lost"
    lines = ledger.read_text().splitlines()
    assert len(set(lines)) == 9 and len(lines) <= 10  # only what was at work on the lost one may come twice
    table = read_results(tmp_path / "runs")
    assert len(table) == 18 and set(table.name) == {"score"}
    means = table.groupby("p_tau").value.mean()
    pd.testing.assert_series_equal(means, pd.Series({0.05: 0.5, 0.1: 1.0, 0.5: 5.0}), check_names=False, check_index=False)
    plot = tmp_path / "runs/ci/01-geometry/counted.sweep.png"
    assert plot.read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "runs/index.html").read_text()
    assert "9 points" in page and page.count("score = ") == 9 and 'alt="sweep"' in page


@pytest.mark.notebook
@pytest.mark.slow
@pytest.mark.ddp
def test_a_runner_that_dies_leaves_no_kernel_on_its_workers(tmp_path, dask_cluster):
    notebook = tiny(tmp_path, "hangs", "import time; time.sleep(600)")
    address, workers = dask_cluster
    runner = start_runner(tmp_path / "log", [notebook], workers=address, out=tmp_path / "runs")
    found = wait_until(lambda: [k for w in workers if alive(w) for k in kernels(w)])
    runner.kill()
    runner.join(20)
    assert not psutil.wait_procs(found, timeout=60)[1]


def test_a_machine_with_other_files_is_refused(tmp_path, monkeypatch):
    """Another package or lock is named; so is a data file whose checksum is wrong, even if all lists agree."""
    from workbench.data.files import data_dir

    check = cluster.check_here.__wrapped__
    shutil.copytree(data_dir() / "digits", tmp_path / "digits")
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    here = surroundings_here()
    wanted = [here[name] for name in cluster.SHARED]
    assert check(*wanted) is None
    assert "its package, versions differ" in check("other", wanted[1], "other")
    (path,) = (tmp_path / "digits").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    assert "is corrupt" in check(*wanted)


@pytest.mark.parametrize("where", ["tcp://127.0.0.1:9", "nonsense", "0"])
def test_no_cluster_there_is_one_sentence(tmp_path, where, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "CONNECT", "2s")
    with pytest.raises(WorkbenchError, match=r"scheduler|at least 1"):
        run_notebooks([tiny(tmp_path)], workers=where, out=tmp_path / "runs", say=lambda line: None)
    with pytest.raises(WorkbenchError, match="not both"):
        run_notebooks([tiny(tmp_path)], workers=2, jobs=2, out=tmp_path / "runs")
    assert not list(Path(tmp_path / "runs").rglob("*.ipynb"))
