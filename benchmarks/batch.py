"""What `workbench run` costs over bare papermill, and what two notebooks at once gain over one after the other.

    python benchmarks/batch.py [--notebooks 4] [--steps 1500] [--repeats 3]

Overhead: wall seconds of `run_notebooks(jobs=1)` a notebook, less those of papermill on the same notebooks, once as a command (a
process for each) and once as `papermill.execute_notebook` in one process (which can leave nothing behind when it is killed); our
page, thumbnail, record and table included. Two at once: the same small torch trainings with jobs=1 and jobs=2, one thread each. Both are
medians over repeats that take turns, since the load of a shared machine changes. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import nbformat

from workbench.batch import run_notebooks
from workbench.batch.notebooks import Notebook

EMPTY = ["print('hello', seed)"]
TRAINING = [
    "import torch\ntorch.manual_seed(seed)\nx = torch.randn(256, 128)\n"
    "net = torch.nn.Sequential(torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64))\n"
    "optimizer = torch.optim.Adam(net.parameters())",
    "for _ in range(steps):\n    z = torch.nn.functional.normalize(net(x), dim=1)\n"
    "    loss = -torch.log_softmax(z @ z.T / 0.1, dim=1).diagonal().mean()\n"
    "    optimizer.zero_grad(); loss.backward(); optimizer.step()\nprint(float(loss.detach()))",
]


def write(folder: Path, slug: str, cells: list[str], parameters: str) -> Notebook:
    v4 = nbformat.v4
    first = v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    content = v4.new_notebook(cells=[first, *map(v4.new_code_cell, cells)])
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "01-geometry" / f"{slug}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)
    return Notebook(path)


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def papermill(notebook: Notebook, out: Path) -> None:
    command = [sys.executable, "-m", "papermill", str(notebook.path), str(out), "-p", "seed", "1", "--no-progress-bar"]
    subprocess.run(command, check=True, capture_output=True)


def papermill_inside(notebook: Notebook, out: Path) -> None:
    import papermill as pm

    pm.execute_notebook(notebook.path, out, parameters={"seed": 1}, progress_bar=False)


def ours(notebooks: list[Notebook], out: Path, jobs: int) -> None:
    points = [{"seed": 1}]
    records = run_notebooks(notebooks, points=points, jobs=jobs, out=out, fresh=True, say=lambda line: None)
    assert all(r.ok for r in records), [r.error for r in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebooks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = [write(folder, f"empty{i}", EMPTY, "seed = 0") for i in range(given.notebooks)]
        ours(empty[:1], folder / "warm", 1)  # imports of the runner, once a run
        papermill_inside(empty[0], folder / "out.ipynb")
        bare, inside, run = [], [], []
        for _ in range(given.repeats):
            bare.append(seconds(lambda: [papermill(n, folder / "out.ipynb") for n in empty]) / len(empty))
            inside.append(seconds(lambda: [papermill_inside(n, folder / "out.ipynb") for n in empty]) / len(empty))
            run.append(seconds(lambda: ours(empty, folder / "runs", 1)) / len(empty))
        training = [write(folder, f"train{i}", TRAINING, f"seed = 0\nsteps = {given.steps}") for i in range(2)]
        one, two = [], []
        for _ in range(given.repeats):
            one.append(seconds(lambda: ours(training, folder / "one", 1)))
            two.append(seconds(lambda: ours(training, folder / "two", 2)))
    median = statistics.median
    result = {
        "papermill_seconds": round(median(bare), 2),
        "papermill_inside_seconds": round(median(inside), 2),
        "runner_seconds": round(median(run), 2),
        "overhead_seconds": round(median(run) - median(bare), 2),
        "overhead_over_one_process_seconds": round(median(run) - median(inside), 2),
        "one_after_the_other_seconds": round(median(one), 2),
        "two_at_once_seconds": round(median(two), 2),
        "speedup": round(median(one) / median(two), 2),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
