"""Runs a selection of notebooks, several at once, keeps what is unchanged, and leaves nothing half done."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.batch.devices import usable_cores, visible_gpus, wait_lock
from workbench.batch.fingerprint import git_state
from workbench.batch.notebooks import Notebook
from workbench.batch.plan import Step, make_steps, unchanged
from workbench.batch.progress import Board
from workbench.batch.records import DEFAULT_OUT, Record, keep, lock_path, salvage, salvage_all, scratch_path
from workbench.batch.supervise import FULL, Outcome, Task, perform
from workbench.errors import WorkbenchError
from workbench.runtime import PRESETS, resolve_preset

PATIENCE = 20  # the default time limit, as a multiple of what the preset allows a notebook
BY_USER = "stopped by the user"
MARKS = {"ok": "done", "failed": "FAILED", "killed": "KILLED", "timeout": "TIMEOUT", "memory": "MEMORY", "stopped": "stopped"}


def run_notebooks(
    notebooks: Sequence[Notebook],
    *,
    preset: str = "ci",
    parameters: Mapping[str, Any] | None = None,
    points: Sequence[Mapping[str, Any]] | None = None,
    jobs: int | None = None,
    workers: int | str | None = None,
    fresh: bool = False,
    only_changed: bool = False,
    dry: bool = False,
    timeout: float | None = None,
    memory: float | None = None,
    retries: int = 0,
    out: Path = DEFAULT_OUT,
    say: Callable[[str], None] | None = None,
) -> list[Record]:
    """Execute notebooks at a preset; a finished run with the same fingerprint is not repeated.

    Args:
        notebooks: what to run.
        preset: 'ci', 'cpu', 'gpu' or 'auto'.
        parameters: further parameters, the same for all; checked against each notebook before anything starts.
        points: of a sweep, each a set of parameters; every notebook runs at every point. See `workbench.batch.grid_points`.
        jobs: how many at once; None takes as many as there are cores (or GPUs, one each). The cores are divided between them, since
            two spinning thread pools on two cores are five times slower; at `ci` each has one thread.
        workers: run on dask.distributed instead: a number of processes on this machine, the address of a scheduler
            ('tcp://...:8786') or a scheduler file.
        fresh: repeat what is unchanged, too.
        only_changed: leave out what never ran at this preset.
        dry: only say what would run.
        timeout: seconds for each notebook; None is 20 times what the preset allows, 0 is no limit.
        memory: MB for each notebook (kernel and children, resident), None for no limit.
        retries: how often a notebook that did not end well is repeated.
        out: run folder, made when missing.
        say: takes one line of progress at a time; None prints, live in a terminal and in JupyterLab.

    Returns:
        One record per notebook and point, in that order; those with status other than 'ok' have kept their partial notebook, page and
        log. With `dry` only those that are unchanged.

    Raises:
        UnknownNameError, WorkbenchError: unknown preset or parameter, a value of another type, no cluster at that address, or a full
            disk. In the latter case what was finished before is kept.
        KeyboardInterrupt: after Ctrl-C, SIGTERM or SIGHUP, when every notebook is stopped and what there is has been kept.
    """
    preset = resolve_preset(preset).name
    if jobs is not None and workers is not None:
        raise WorkbenchError("give either jobs (this machine) or workers (dask), not both")
    each = [{**(parameters or {}), **p} for p in (points if points is not None else [{}])]
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    limit = PATIENCE * 60 * PRESETS[preset].minutes if timeout is None else timeout or None
    steps = make_steps(notebooks, each, preset, out, fresh, timeout=limit, memory=memory, retries=retries, run=run)
    steps = [s for s in steps if s.ran_before] if only_changed else steps
    with Board(say) as board:
        if not dry:
            for left in salvage_all(out, preset):
                board.print(f"  left over  {left.name}: {left.error}; kept as {left.notebook}")
        for step in steps:
            board.print(f"  to run     {step.task.name} ({step.why})" if step.why else f"  unchanged  {step.task.name}")
        records = {step.task.key: step.record for step in steps if step.record}
        waiting = sorted((s for s in steps if s.why), key=lambda s: -s.task.expected)
        if waiting and not dry:
            _start(waiting, jobs, workers, out, board, records, fresh)
    return [r for s in steps if (r := records.get(s.task.key))]


def _start(
    waiting: list[Step],
    jobs: int | None,
    workers: int | str | None,
    out: Path,
    board: Board,
    records: dict[str, Record],
    fresh: bool,
) -> None:
    preset = waiting[0].task.preset
    state = _State(out, board, records, git_state(), fresh)
    _collect(state, [], preset)  # what a killed runner finished comes into the table before it can be replaced
    try:
        with _signals(state), state.minding_the_disk():
            if workers is not None:
                from workbench.batch.cluster import run_on_cluster

                run_on_cluster(waiting, workers, state)
            else:
                _run_here(waiting, jobs, state)
        if state.stop == BY_USER:  # where the interpreter lost the exception, as it does inside a finaliser
            raise KeyboardInterrupt
    finally:
        _collect(state, [s.task for s in waiting], preset)
    if state.full:
        done = sum(r is not None and r.ok for r in records.values())
        raise WorkbenchError(
            f"the disk of {out}/ is full: {done} finished, the others are stopped; make room and give the same command again"
        )


def _collect(state: _State, tasks: Sequence[Task], preset: str) -> None:
    """Table, sweep plots and index; what goes wrong here is said, and costs no notebook its result."""
    from workbench.batch.index import write_index
    from workbench.batch.results import append_results, latest_results, read_results
    from workbench.batch.sweeps import write_sweep_plots

    out = state.out
    swept = dict.fromkeys((t.part, t.slug) for t in tasks if t.parameters)
    makers: dict[str, Callable[[], Any]] = {"the results table": lambda: append_results(out)}
    if swept:
        makers["a sweep plot"] = lambda: write_sweep_plots(latest_results(read_results(out)), out, preset, swept)
    if tasks:
        makers["the index"] = lambda: write_index(out)
    for what, make in makers.items():
        try:
            with state.minding_the_disk():
                make()
        except Exception as error:
            state.board.print(f"  {what} of {out}/ could not be written: {type(error).__name__}: {error}")


class _State:
    """What the threads of one run share."""

    def __init__(self, out: Path, board: Board, records: dict[str, Record], git: str | None, fresh: bool):
        self.out, self.board, self.records, self.git, self.fresh = out, board, records, git, fresh
        self.began = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.stop: str | None = None
        self.full = False

    def stopped(self) -> str | None:
        return self.stop

    @contextlib.contextmanager
    def minding_the_disk(self) -> Iterator[None]:
        """A full disk becomes one sentence at the end, whoever found it."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.disk_is_full()

    def disk_is_full(self) -> None:
        self.full = True
        self.stop = self.stop or "stopped: the disk is full"

    def finish(self, task: Task, outcome: Outcome, scratch: Path) -> None:
        """Keep the result of a task and say how it ended."""
        outcome = replace(outcome, environment={**outcome.environment, "git": self.git})
        if outcome.disk_full:
            self.disk_is_full()
        try:
            self.take(task, keep(task, outcome, scratch, self.out))
        except OSError as error:
            if error.errno in FULL:
                self.disk_is_full()
            self.take(task, _unkept(task, f"its result could not be stored: {error}"))

    def take(self, task: Task, record: Record) -> None:
        self.records[task.key] = record
        self.board.end(task.name)
        tries = f"  (attempt {len(record.earlier) + 1})" if record.earlier else ""
        memory = f"  {record.memory_mb:.0f} MB" if record.memory_mb else ""
        error = f"  {record.error}" if record.error else ""
        self.board.print(f"  {MARKS[record.status]:<10} {task.name}  {record.seconds:.1f} s{memory}{tries}{error}")


def _run_here(waiting: Sequence[Step], jobs: int | None, state: _State) -> None:
    """A thread for each notebook at work; the main thread waits, so that Ctrl-C is heard."""
    gpus = visible_gpus()
    jobs = max(1, min(jobs or (len(gpus) or usable_cores()), len(waiting)))
    with ThreadPoolExecutor(jobs) as pool:
        try:
            pending: set[Future[None]] = {
                pool.submit(_one, replace(s.task, threads=threads_each(s.task, jobs)), s.notebook, state) for s in waiting
            }
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        except BaseException as error:
            state.stop = state.stop or (BY_USER if isinstance(error, KeyboardInterrupt) else "stopped by an error")
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def threads_each(task: Task, jobs: int) -> int:
    """Threads for one of so many at once: the cores divided, and one at `ci`, so that its numbers are the same everywhere."""
    return 1 if task.preset == "ci" else max(1, usable_cores() // jobs)


def _unkept(task: Task, error: str) -> Record:
    """The record, not on disk, of a task whose end could not be written down."""
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Record(task.slug, task.part, task.preset, task.parameters, "failed", 0.0, started, task.fingerprint, error=error)


def _one(task: Task, notebook: Notebook, state: _State) -> None:
    """Execute one task on this machine, unless another runner is doing so or has just done it."""
    if state.stop:
        return
    scratch = scratch_path(state.out, task.preset, task.part, task.name).resolve()
    with state.minding_the_disk():
        scratch.parent.mkdir(parents=True, exist_ok=True)
        with wait_lock(lock_path(scratch), state.stopped) as held:
            if not held:
                return
            try:
                done = unchanged(task, state.out)
                if done and (not state.fresh or done.started > state.began):
                    state.board.print(f"  unchanged  {task.name} (another run has just finished it)")
                    state.records[task.key] = done
                    return
                if scratch.exists():
                    salvage(scratch, state.out)
                scratch.mkdir()
                (scratch / "task.json").write_text(json.dumps(asdict(task)), encoding="utf8")
                tell = lambda event: state.board.update(task.name, event)  # noqa: E731
                outcome = perform(task, scratch, notebook.path.resolve().parent, tell=tell, stopped=state.stopped)
                state.finish(task, outcome, scratch)
            except Exception as error:  # whatever it is, the other notebooks go on
                if isinstance(error, OSError) and error.errno in FULL:
                    raise
                state.take(task, _unkept(task, f"the runner itself: {type(error).__name__}: {error}"))
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
                lock_path(scratch).unlink(missing_ok=True)


@contextlib.contextmanager
def _signals(state: _State) -> Iterator[None]:
    """A batch system ends jobs with SIGTERM and a closed terminal sends SIGHUP: both stop the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        state.stop = state.stop or BY_USER
        raise KeyboardInterrupt

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for s, handler in before.items():
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(s, interrupt)
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
