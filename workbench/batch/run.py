"""Runs a selection of notebooks, several at once, and keeps what is unchanged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.batch.fingerprint import changes, fingerprint
from workbench.batch.notebooks import Notebook
from workbench.batch.records import DEFAULT_OUT, Record, read_record, run_name, write_record, write_results_table
from workbench.runtime import resolve_preset

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def run_notebooks(
    notebooks: Sequence[Notebook],
    *,
    preset: str = "ci",
    parameters: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    fresh: bool = False,
    out: Path = DEFAULT_OUT,
    say: Callable[[str], None] = print,
) -> list[Record]:
    """Execute notebooks at a preset; a finished run with the same fingerprint is not repeated.

    Args:
        notebooks: what to run, in the order of the returned records.
        preset: 'ci', 'cpu', 'gpu' or 'auto'.
        parameters: further parameters, the same for all; checked against each notebook before anything starts.
        jobs: how many at once; None takes as many as there are cores (one on a GPU). Several at once, and every run at
            `ci`, get one thread each: two spinning thread pools on two cores are five times slower.
        fresh: repeat what is unchanged, too.
        out: run folder, made when missing.
        say: takes one line of progress at a time.

    Returns:
        One record per notebook; those with status other than 'ok' have kept their partial notebook, page and log.

    Raises:
        UnknownNameError, WorkbenchError: unknown preset or parameter, or a value of the wrong kind.
    """
    preset = resolve_preset(preset).name
    extra = dict(parameters or {})
    for notebook in notebooks:
        notebook.check_parameters({"preset": preset, **extra} if "preset" in notebook.parameters else extra)
    cores = os.cpu_count() or 1
    jobs = max(1, min(jobs or (1 if preset == "gpu" else cores), len(notebooks) or 1))
    threads = 1 if jobs > 1 or preset == "ci" else cores
    waiting: list[tuple[int, Notebook, dict[str, str]]] = []
    records: list[Record | None] = []
    for notebook in notebooks:
        prints = fingerprint(notebook, extra)
        old = read_record(_folder(out, preset, notebook) / f"{run_name(notebook.slug, extra)}.json")
        differs = changes(old.fingerprint, prints) if old else []
        if old and old.ok and not differs and not fresh and (_folder(out, preset, notebook) / str(old.notebook)).exists():
            say(f"  unchanged  {notebook.slug}")
            records.append(old)
            continue
        why = (
            "new"
            if old is None
            else "asked for"
            if old.ok and not differs
            else f"it {old.status} before"
            if not differs
            else f"changed: {', '.join(differs)}"
        )
        say(f"  to run     {notebook.slug} ({why})")
        waiting.append((len(records), notebook, prints))
        records.append(None)

    def work(item: tuple[int, Notebook, dict[str, str]]) -> None:
        index, notebook, prints = item
        record = _run_one(notebook, preset, extra, prints, threads, out)
        records[index] = record
        mark = {"ok": "done", "failed": "FAILED", "killed": "KILLED"}[record.status]
        say(f"  {mark:<10} {notebook.slug}  {record.seconds:.1f} s" + (f"  {record.error}" if record.error else ""))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, waiting))
    if waiting:
        write_results_table(out)
    return [r for r in records if r is not None]


def _folder(out: Path, preset: str, notebook: Notebook) -> Path:
    return out / preset / notebook.part


def _run_one(notebook: Notebook, preset: str, extra: dict[str, Any], prints: dict[str, str], threads: int, out: Path) -> Record:
    folder = _folder(out, preset, notebook).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    name = run_name(notebook.slug, extra)
    log = folder / f"{name}.log"
    started, clock = datetime.now(UTC), time.monotonic()
    parameters = {"preset": preset, **extra} if "preset" in notebook.parameters else extra
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as scratch:
        partial, page, result = (Path(scratch) / f for f in ("notebook.ipynb", "page.html", "result.json"))
        job = {
            "source": str(notebook.path.resolve()),
            "output": str(partial),
            "parameters": parameters,
            "html": str(page),
            "result": str(result),
        }
        (Path(scratch) / "job.json").write_text(json.dumps(job), encoding="utf8")
        status, error, claims = _call(Path(scratch) / "job.json", result, log, threads)
        seconds = time.monotonic() - clock
        # A failure must not overwrite the last good result, nor be mistaken for one.
        stem = name if status == "ok" else f"{name}.{status}"
        for made, target in ((partial, folder / f"{stem}.ipynb"), (page, folder / f"{stem}.html")):
            if made.exists():
                os.replace(made, target)
        if status == "ok":
            for stale in folder.glob(f"{name}.failed.*"), folder.glob(f"{name}.killed.*"):
                for path in stale:
                    path.unlink(missing_ok=True)
    record = Record(
        slug=notebook.slug,
        part=notebook.part,
        preset=preset,
        parameters=extra,
        status=status,
        seconds=round(seconds, 2),
        started=started.isoformat(timespec="seconds"),
        fingerprint=prints,
        notebook=f"{stem}.ipynb" if (folder / f"{stem}.ipynb").exists() else None,
        html=f"{stem}.html" if (folder / f"{stem}.html").exists() else None,
        log=log.name,
        claims=[{**c, "seconds": round(seconds, 2)} for c in claims],
        error=error,
        environment=_environment(threads),
    )
    write_record(record, out)
    return record


def _call(job: Path, result: Path, log: Path, threads: int) -> tuple[str, str | None, list[dict[str, Any]]]:
    environment = {**os.environ, "WORKBENCH_BATCH": "1", **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    with log.open("w", encoding="utf8") as stream:
        # A session of its own, so that the kernel dies with its runner and Ctrl-C reaches both through us.
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench.batch.execute", str(job)],
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            _end_group(process)
    if result.exists():
        content = json.loads(result.read_text(encoding="utf8"))
        return content["status"], content["error"], content["claims"]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return "killed", f"the runner {how}; see {log.name}", []


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(threads: int) -> dict[str, Any]:
    import platform

    import torch

    import workbench

    return {
        "workbench": workbench.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "threads": threads,
    }
