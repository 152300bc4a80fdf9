"""Every notebook also runs with plain papermill, as the SLURM and Snakemake examples do it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from batch_tools import tiny

from workbench.batch import find_notebooks, read_sweep, select_notebooks

EXAMPLES = Path(__file__).parents[2] / "workbench" / "batch" / "examples"


@pytest.mark.notebook
def test_the_slurm_script_runs_one_notebook_with_plain_papermill(tmp_path):
    """Task 1 of the array executes the second notebook at the preset it was told, and leaves no unfinished file."""
    for slug in ("a", "b"):
        tiny(tmp_path / "notebooks", slug, "print('this is', preset)")
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", str(EXAMPLES / "slurm_array.sh"), "cpu"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    (made,) = (tmp_path / "runs-slurm").rglob("*.ipynb")
    assert made == tmp_path / "runs-slurm/cpu/01-geometry/b.ipynb"
    assert "this is cpu" in json.dumps([c.get("outputs") for c in json.loads(made.read_text())["cells"]])


def test_snakemake_uses_the_same_command():
    """Both examples call papermill with the same options; Snakemake itself is not installed here."""
    commands = [re.search(r"papermill [\"{][^\n]*", (EXAMPLES / name).read_text())[0] for name in ("slurm_array.sh", "Snakefile")]
    options = [re.findall(r"(?<= )--?[a-z-]+", command) for command in commands]
    assert options[0] == options[1] == ["-p", "--cwd", "--no-progress-bar"]


def test_the_example_sweep_fits_its_notebook():
    sweep = read_sweep(EXAMPLES / "sweep.yaml")
    (notebook,) = select_notebooks(sweep.notebooks)
    assert len(sweep.points) == 9 and sweep.preset == "ci"
    for point in sweep.points:
        notebook.check_parameters(point, sweep.preset)


def test_the_cluster_example_explains_itself():
    result = subprocess.run([sys.executable, str(EXAMPLES / "dask_clusters.py"), "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "--workers" in result.stdout


@pytest.mark.parametrize("notebook", find_notebooks(), ids=lambda n: n.slug)
def test_every_notebook_takes_its_preset_from_papermill(notebook):
    """`papermill in.ipynb out.ipynb -p preset ci` finds the parameter, and papermill reads the same names as we do."""
    from papermill import inspect_notebook

    found = inspect_notebook(str(notebook.path))
    assert "preset" in found and set(found) == set(notebook.parameters)
