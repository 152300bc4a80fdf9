"""Watches over the execution of one notebook: time, memory, progress, and that nothing is left running.

The same code runs in a thread of `workbench run` and on a worker of a cluster.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EXECUTE = Path(__file__).with_name("execute.py")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
LOOK_EVERY = 0.5  # seconds between two looks at memory and clock
GRACE = 15.0  # seconds in which a stopped notebook can still save what it has
FULL = (errno.ENOSPC, errno.EDQUOT)
NOTEBOOK, PAGE, THUMB, LOG, JOB = "notebook.ipynb", "page.html", "thumb.png", "log.txt", "job.json"


@dataclass(frozen=True)
class Task:
    """One execution to do, complete in itself: it can be sent to another machine.

    Attributes:
        slug, part, name, preset: which notebook, the file name of its results, the preset.
        parameters: what the user gave besides the preset.
        injected: what papermill injects.
        source: text of the notebook, so that what was fingerprinted is what runs.
        fingerprint: digest of each ingredient.
        threads: for the kernel's numeric libraries.
        timeout: seconds for the whole notebook; None for no limit.
        memory: MB of resident memory of the kernel and its children; None for no limit.
        retries: how often a run that did not end well is repeated.
        run: name of the `workbench run` this belongs to.
        expected: seconds it will take, from its last run.
    """

    slug: str
    part: str
    name: str
    preset: str
    parameters: dict[str, Any]
    injected: dict[str, Any]
    source: str
    fingerprint: dict[str, str]
    threads: int = 1
    timeout: float | None = None
    memory: float | None = None
    retries: int = 0
    run: str = ""
    expected: float = 0.0

    @property
    def key(self) -> str:
        """What tells it from the other tasks of a run."""
        return f"{self.part}/{self.name}"


@dataclass(frozen=True)
class Outcome:
    """How an execution ended; the fields are those of a `Record`."""

    status: str
    error: str | None
    started: str
    seconds: float
    memory_mb: float
    cell: int
    cells: int
    claims: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    earlier: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    disk_full: bool = False


def perform(
    task: Task,
    scratch: Path,
    cwd: Path,
    *,
    tell: Callable[[dict[str, Any]], None] = lambda event: None,
    stopped: Callable[[], str | None] = lambda: None,
) -> Outcome:
    """Execute a task, with its retries, and leave notebook, page, thumbnail and log in the `scratch` folder.

    Args:
        task: what to do.
        scratch: an existing empty folder.
        cwd: working folder of the kernel.
        tell: takes events: attempt, cell, cells, memory, retry.
        stopped: says why to stop, or None to go on; asked twice a second.
    """
    earlier: list[str] = []
    while True:
        tell({"attempt": len(earlier) + 1})
        outcome = replace(_attempt(task, scratch, cwd, tell, stopped), earlier=list(earlier))
        if outcome.status in ("ok", "stopped") or outcome.disk_full or len(earlier) >= task.retries:
            return outcome
        earlier.append(f"{outcome.status}: {outcome.error}")
        tell({"retry": earlier[-1]})


def _attempt(task: Task, scratch: Path, cwd: Path, tell: Callable[..., None], stopped: Callable[[], str | None]) -> Outcome:
    from workbench.batch.devices import one_gpu
    from workbench.batch.records import claims_of, metrics_of

    started, clock = datetime.now(UTC), time.monotonic()
    seen: dict[str, Any] = {"cell": 0, "cells": 0, "memory": 0.0, "peak": 0.0}
    full, gpu = False, None
    executed: dict[str, Any] = {"cells": []}
    try:
        for file in (NOTEBOOK, PAGE, THUMB, LOG):
            (scratch / file).unlink(missing_ok=True)
        job = {
            "source": str(scratch / "source.ipynb"),
            "output": str(scratch / NOTEBOOK),
            "input": f"{task.part}/{task.slug}.ipynb",
            "name": f"{task.name}.ipynb",
            "parameters": task.injected,
            "cwd": str(cwd),
            "parent": os.getpid(),
        }
        (scratch / "source.ipynb").write_text(task.source, encoding="utf8")
        (scratch / JOB).write_text(json.dumps(job), encoding="utf8")
        with one_gpu(task.injected.get("device"), stopped) as (gpu, visible):
            environment = {
                **os.environ,
                "WORKBENCH_BATCH": "1",
                **dict.fromkeys(THREAD_VARIABLES, str(task.threads)),
                **visible,
            }
            status, error = _watch(task, scratch, environment, clock, seen, tell, stopped)
        full = "No space left on device" in (error or "") or "Disk quota exceeded" in (error or "")
        where = f", in cell {seen['cell']} of {seen['cells']}" if seen["cells"] else ", before its first cell"
        if status not in ("ok", "failed"):
            error = f"{error}{where}"
        executed = _read(scratch / NOTEBOOK)
        if executed["cells"]:
            if status != "ok":
                mark(scratch / NOTEBOOK, status, str(error))
            error = _export(executed, scratch) or error
    except OSError as failure:
        if failure.errno not in FULL:
            raise
        status, error, full = "failed", f"OSError: {failure}", True
    return Outcome(
        status,
        error,
        started.isoformat(timespec="milliseconds"),
        round(time.monotonic() - clock, 2),
        round(seen["peak"], 1),
        seen["cell"],
        seen["cells"],
        claims_of(executed) if status == "ok" else [],
        metrics_of(executed) if status == "ok" else {},
        environment=_environment(task, gpu),
        disk_full=full,
    )


def _export(executed: dict[str, Any], scratch: Path) -> str | None:
    """Make page and thumbnail; a notebook that cannot be shown has still run, so that is only noted."""
    from workbench.batch.html import export_html, export_thumbnail

    try:
        export_html(scratch / NOTEBOOK, scratch / PAGE)
        export_thumbnail(executed, scratch / THUMB)
    except Exception as failure:  # nbconvert and Pillow raise many classes
        if isinstance(failure, OSError) and failure.errno in FULL:
            raise
        with (scratch / LOG).open("a", encoding="utf8") as log:
            traceback.print_exc(file=log)
        return f"no page: {type(failure).__name__}: {failure}"
    return None


def mark(notebook: Path, status: str, error: str) -> None:
    """Say on top of a partial notebook that it is partial, unless papermill did so for the cell that raised."""
    content = _read(notebook)
    if any("papermill-error-cell-tag" in c.get("metadata", {}).get("tags", []) for c in content["cells"]):
        return
    text = f"**Partial result ({status}):** {error}. The cells below that have no output did not run."
    # papermill removes cells with this tag when the notebook is executed again.
    cell = {"cell_type": "markdown", "id": "partial", "metadata": {"tags": ["papermill-error-cell-tag"]}, "source": text}
    content["cells"].insert(0, cell)
    content["metadata"]["workbench"] = {"status": status, "error": error}
    partial = notebook.with_name(f".{notebook.name}.part")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf8")
    os.replace(partial, notebook)


def _watch(
    task: Task,
    scratch: Path,
    environment: Mapping[str, str],
    clock: float,
    seen: dict[str, Any],
    tell: Callable[[dict[str, Any]], None],
    stopped: Callable[[], str | None],
) -> tuple[str, str | None]:
    """Start the process, follow it to its end or end it; returns status and error."""
    read, write = os.pipe()
    # A session of its own: Ctrl-C reaches the runner alone, which then stops the notebooks in good order.
    with (scratch / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", str(EXECUTE), str(scratch / JOB), str(write)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environment),
            pass_fds=(write,),
            start_new_session=True,
        )
    os.close(write)
    verdict: tuple[str, str] | None = None
    result: dict[str, Any] | None = None
    family: set[Any] = set()
    deadline = float("inf")
    buffer, looked = b"", 0.0
    try:
        while True:
            ready = bool(select.select([read], [], [], LOOK_EVERY)[0])
            chunk = os.read(read, 65536) if ready else b""
            *lines, buffer = (buffer + chunk).split(b"\n")
            for event in map(json.loads, lines):
                result = event.pop("result", result)
                seen.update(event)
                tell(event)
            if ready and not chunk:
                break
            now = time.monotonic()
            if now - looked < LOOK_EVERY:
                continue
            looked = now
            family = {p for p in family | _children(process.pid) if p.is_running()}
            seen["memory"] = sum(_resident(p) for p in family)
            seen["peak"] = max(seen["peak"], seen["memory"])
            tell({"memory": seen["memory"]})
            if verdict is None and result is None and (verdict := _verdict(task, now - clock, seen["memory"], stopped())):
                # The kernel goes first: papermill then notices, saves the cells that ran and leaves by itself.
                _kill(family)
                deadline = now + GRACE
            if now > deadline:
                break
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            family |= _children(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
        _kill(family)
        code = process.wait()
    if verdict:
        return verdict
    if result:
        return result["status"], result["error"]
    from workbench.batch.execute import how_it_ended

    return "killed", f"the executing process {how_it_ended(code)}"


def _verdict(task: Task, seconds: float, memory: float, stop: str | None) -> tuple[str, str] | None:
    if stop:
        return "stopped", stop
    if task.timeout and seconds > task.timeout:
        return "timeout", f"over its time limit of {task.timeout:g} s"
    if task.memory and memory > task.memory:
        return "memory", f"over its memory limit of {task.memory:g} MB with {memory:.0f} MB"
    return None


def _children(pid: int) -> set[Any]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return set(psutil.Process(pid).children(recursive=True))
    return set()


def _resident(process: Any) -> float:
    import psutil

    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss / 2**20
    return 0.0


def _kill(processes: Iterable[Any]) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):  # psutil knows a process by number and start: never one that took its number
            process.kill()


def _read(notebook: Path) -> dict[str, Any]:
    return json.loads(notebook.read_text(encoding="utf8")) if notebook.exists() else {"cells": []}


def _environment(task: Task, gpu: str | None) -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    import workbench

    device = "cpu"
    if gpu is not None:
        import torch

        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else device
    return {
        "workbench": workbench.__version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "device": device,
        "threads": task.threads,
        "host": platform.node(),
    }
