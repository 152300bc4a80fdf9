"""Cores and GPUs of this machine, and a GPU for each notebook."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

GPU_LOCKS = Path(tempfile.gettempdir())


def usable_cores() -> int:
    """Cores this process may use; a container or a SLURM job often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Names of the CUDA devices this process may use, as CUDA_VISIBLE_DEVICES spells them."""
    if version("torch").endswith("+cpu"):  # a build without CUDA: nothing to wait 2 s for
        return []
    import torch

    found = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [n.strip() for n in named.split(",")][:found] if named else [str(i) for i in range(found)]


@contextlib.contextmanager
def one_gpu(
    device: object = None, stopped: Callable[[], str | None] = lambda: None
) -> Iterator[tuple[str | None, dict[str, str]]]:
    """A GPU of its own for as long as the block runs, where there are GPUs; waits until one is free.

    The lock is a file on this machine, so that it holds between the threads of one runner, several runners and several
    workers alike, and ends with its holder however that ends.

    Args:
        device: the notebook's `device` parameter; one that asks for the CPU gets no GPU.
        stopped: ends the wait; the block then runs without a GPU, and is expected to look at `stopped` itself.

    Yields:
        (name of the GPU or None, environment variables for the kernel).
    """
    gpus = visible_gpus()
    if not gpus or device == "cpu":
        yield None, {"CUDA_VISIBLE_DEVICES": ""} if gpus else {}
        return
    while not stopped():
        for gpu in gpus:
            with try_lock(GPU_LOCKS / f"workbench-gpu-{gpu.replace('/', '_')}.lock") as held:
                if held:
                    yield gpu, {"CUDA_VISIBLE_DEVICES": gpu}
                    return
        time.sleep(0.5)
    yield None, {}


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Whether this process got the lock file, which it then holds during the block; never waits."""
    try:
        import fcntl
    except ImportError:  # Windows: one runner at a time is the user's care
        yield True
        return
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # not always O_CREAT: in a shared /tmp the kernel refuses that on a file of another user
        fd = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = path.exists() and path.stat().st_ino == os.fstat(fd).st_ino  # else its last holder has removed it
        except (BlockingIOError, FileNotFoundError):
            held = False
        yield held
    finally:
        os.close(fd)


@contextlib.contextmanager
def wait_lock(path: Path, stopped: Callable[[], str | None] = lambda: None, every: float = 0.2) -> Iterator[bool]:
    """Like `try_lock`, but waits for its turn; False only when `stopped` ended the wait."""
    while True:
        with try_lock(path) as held:
            if held or stopped():
                yield held
                return
        time.sleep(every)
