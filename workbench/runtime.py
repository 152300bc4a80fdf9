"""Seeds, devices, presets and progress: the four things every notebook sets first."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workbench.errors import UnknownNameError, WorkbenchError

if TYPE_CHECKING:
    import torch  # imported where it is used: commands that list or check need not wait for it

T = TypeVar("T")


def seed_everything(seed: int) -> torch.Generator:
    """Seed python, numpy and torch (every device), and return a CPU generator with the same seed.

    Same seed, same machine, same thread count: same numbers.

    Raises:
        TypeError: `seed` is not an integer.
        ValueError: `seed` is negative or does not fit 32 bits (numpy's limit).
    """
    import torch

    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an integer, got {type(seed).__name__} {seed!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be between 0 and 2**32 - 1, got {seed}")
    random.seed(int(seed))
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
    return torch.Generator().manual_seed(int(seed))


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device to run on; 'auto' takes the first that works of cuda, mps, cpu.

    Raises:
        UnknownNameError: a name torch does not know.
        WorkbenchError: a device this machine does not have.
    """
    import torch

    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise UnknownNameError("device", device, ["auto", "cpu", "cuda", "cuda:0", "mps"]) from None
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise WorkbenchError(
            f"device {str(device)!r} was asked for, but this machine has {torch.cuda.device_count()} CUDA devices; use 'auto' or 'cpu'"
        )
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise WorkbenchError("device 'mps' was asked for, but this machine has none; use 'auto' or 'cpu'")
    return resolved


@dataclass(frozen=True)
class Preset:
    """Size of a run. The preset changes sizes, never the code path.

    `pick` reads a size table: `preset.pick(ci=200, cpu=2_000, gpu=20_000)`.
    """

    name: str
    minutes: float  # time a notebook may take at this preset

    def pick(self, *, ci: T, cpu: T, gpu: T) -> T:
        """The value for this preset."""
        return {"ci": ci, "cpu": cpu, "gpu": gpu}[self.name]


PRESETS = {p.name: p for p in (Preset("ci", 0.75), Preset("cpu", 5.0), Preset("gpu", 10.0))}


def resolve_preset(name: str = "auto") -> Preset:
    """The preset of that name; 'auto' is 'gpu' where there is a CUDA device and 'cpu' elsewhere.

    Raises:
        UnknownNameError: not one of ci, cpu, gpu, auto.
    """
    if name == "auto":
        import torch

        name = "gpu" if torch.cuda.is_available() else "cpu"
    if name not in PRESETS:
        raise UnknownNameError("preset", name, [*PRESETS, "auto"])
    return PRESETS[name]


def progress(items: Iterable[T] | None = None, *, total: int | None = None, title: str = "", **options: Any) -> Any:
    """A tqdm progress bar that is a widget in JupyterLab and a few plain lines in a log or a papermill run."""
    # A widget bar in a batch run would put its state into the notebook; a carriage-return bar would fill the log.
    batch = "WORKBENCH_BATCH" in os.environ
    if batch or "ipykernel" not in sys.modules:
        from tqdm import tqdm as bar

        slow = batch or not sys.stderr.isatty()
        options = {"mininterval": 10.0 if slow else 0.1, "ascii": True if slow else None, **options}
    else:
        from tqdm.auto import tqdm as bar
    return bar(items, total=total, desc=title or None, leave=options.pop("leave", False), **options)
