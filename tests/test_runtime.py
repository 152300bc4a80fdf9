"""Seeds, devices, presets, progress and the cost of importing the package."""

import io
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

import workbench as wb


def test_one_seed_fixes_all_generators():
    def draw():
        generator = wb.seed_everything(5)
        return random.random(), np.random.rand(), float(torch.rand(())), float(torch.rand((), generator=generator))

    first = draw()
    assert draw() == first and len(set(first)) >= 3


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (0.5, TypeError), (True, TypeError), ("1", TypeError)]
)
def test_unusable_seeds(seed, error):
    with pytest.raises(error, match="seed must be"):
        wb.seed_everything(seed)


def test_devices(monkeypatch):
    assert wb.resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(wb.UnknownNameError, match="did you mean 'cuda'"):
        wb.resolve_device("cuuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert wb.resolve_device() == torch.device("cpu")
    for missing in ("cuda", "cuda:3", "mps"):
        with pytest.raises(wb.WorkbenchError, match="use 'auto' or 'cpu'"):
            wb.resolve_device(missing)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert wb.resolve_device().type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert wb.resolve_device().type == "cuda" and wb.resolve_preset().name == "gpu"


def test_presets_pick_sizes():
    sizes = {"ci": 1, "cpu": 2, "gpu": 3}
    assert {name: wb.resolve_preset(name).pick(**sizes) for name in wb.PRESETS} == sizes
    with pytest.raises(wb.UnknownNameError, match="preset 'cii'; did you mean 'ci'"):
        wb.resolve_preset("cii")


def test_progress_in_a_log_has_few_plain_lines(monkeypatch):
    monkeypatch.setenv("WORKBENCH_BATCH", "1")
    log = io.StringIO()
    assert list(wb.progress(range(1000), title="steps", file=log, leave=True)) == list(range(1000))
    assert "1000/1000" in log.getvalue() and "steps" in log.getvalue()
    assert log.getvalue().count("\r") + log.getvalue().count("\n") < 8 and log.getvalue().isascii()


def test_importing_the_package_loads_nothing_that_draws_or_serves():
    """`import workbench` and its function families cost little beyond torch."""
    heavy = ["matplotlib", "IPython", "ipywidgets", "transformers", "sklearn", "kornia", "pandas", "scipy", "papermill"]
    code = f"""
import sys, time, torch
before = set(sys.modules)
start = time.process_time()
import workbench, workbench.losses, workbench.metrics, workbench.data, workbench.models, workbench.training
print(time.process_time() - start, [m for m in {heavy} if m in set(sys.modules) - before])
"""
    seconds, loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(
        maxsplit=1
    )
    assert loaded.strip() == "[]"
    # The promise is 1.5 s; processor time twice that would mean that something heavy came in under another name.
    assert float(seconds) < 3.0
