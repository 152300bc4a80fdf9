"""Runs tasks on dask.distributed: processes of this machine, or any cluster the user has an address of.

A task carries its notebook and brings its results back, so that the machines need no common disk. What they must have alike is
the package, its data and the versions; each worker compares checksums before it works.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from workbench.batch.devices import wait_lock
from workbench.batch.plan import Step
from workbench.batch.records import lock_path, scratch_path
from workbench.batch.supervise import LOG, NOTEBOOK, PAGE, THUMB, Outcome, Task, perform
from workbench.errors import DataError, WorkbenchError

SHARED = ("package", "data", "versions")  # ingredients that every machine must have alike
FILES = (NOTEBOOK, PAGE, THUMB, LOG)
LOOK_EVERY = 2.0  # seconds between two questions to the scheduler whether to go on
CONNECT = "20s"  # to find a scheduler
PATIENCE = 30.0  # seconds for notebooks elsewhere to stop and send what they have


def run_on_cluster(waiting: Sequence[Step], workers: int | str, state: Any) -> None:
    """Execute tasks on a cluster, longest first; a task whose worker is lost starts again on another one."""
    try:
        from distributed import Event, as_completed
    except ImportError:
        raise WorkbenchError("--workers needs dask: pip install -c constraints.txt -e '.[batch]'") from None
    run = waiting[0].task.run
    with _connect(workers) as client:
        info = client.scheduler_info(n_workers=-1)["workers"]
        if not str(workers).isdigit():  # workers on this machine have the same files
            _check_workers(client, waiting[0].task)
        slots = _slots_by_host(info)
        resources = {"GPU": 1} if any(w.get("resources", {}).get("GPU") for w in info.values()) else None
        where: dict[str, str] = {}

        def hear(event: tuple[float, dict[str, Any]]) -> None:
            _, said = event
            name, worker = said.pop("name"), said.pop("worker")
            if where.get(name, worker) != worker:
                state.board.print(f"  RETRY      {name}  its worker {where[name]} was lost; again on {worker}")
            where[name] = worker
            if name in running:
                state.board.update(name, said)

        running = {s.task.name for s in waiting}
        client.subscribe_topic(f"workbench-{run}", hear)
        futures = {}
        for rank, step in enumerate(waiting):
            future = client.submit(
                perform_here,
                step.task,
                slots,
                not str(workers).isdigit(),
                key=f"{step.task.key}-{run}",
                pure=False,
                priority=-rank,
                resources=resources,
                retries=0,
            )
            futures[future] = step.task
        completed = as_completed(futures)
        try:
            for future in completed:
                _take(future, futures.pop(future), state, running)
                future.release()  # what is stored here must not be made again when the worker that holds it is lost
                if state.stop:
                    break
            if state.stop:
                _stop(Event(f"stop-{run}", client=client), futures, state, running)
        except BaseException:
            state.stop = state.stop or "stopped by the user"
            _stop(Event(f"stop-{run}", client=client), futures, state, running)
            raise


def _connect(workers: int | str) -> Any:
    """A client of a new local cluster, of a scheduler's address, or of a scheduler file."""
    from distributed import Client, LocalCluster

    text = str(workers)
    if text.isdigit():
        if int(text) < 1:
            raise WorkbenchError("--workers must be at least 1")
        cluster = LocalCluster(
            n_workers=int(text),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            silence_logs=40,
        )
        return _both(Client(cluster), cluster)
    try:
        if Path(text).is_file():
            return Client(scheduler_file=text, timeout=CONNECT)
        return Client(text, timeout=CONNECT)
    except (OSError, ValueError, TypeError) as error:
        raise WorkbenchError(
            f"no dask scheduler at {text!r} ({type(error).__name__}); give a number, an address such as tcp://host:8786, or a scheduler file"
        ) from None


@contextlib.contextmanager
def _both(client: Any, cluster: Any) -> Iterator[Any]:
    with cluster, client:
        yield client


def _slots_by_host(info: dict[str, Any]) -> dict[str, int]:
    """How many notebooks can be at work on each machine, over all its workers."""
    slots: dict[str, int] = {}
    for worker in info.values():
        slots[worker["host"]] = slots.get(worker["host"], 0) + worker["nthreads"]
    return slots


# ---- on the worker -----------------------------------------------------------------------------------------------------------


def perform_here(task: Task, slots: dict[str, int], check: bool = True) -> tuple[Outcome, dict[str, bytes]]:
    """Execute a task on the worker that got it; returns the outcome and the files."""
    from distributed import get_worker
    from distributed.comm import get_address_host

    from workbench.batch.run import threads_each

    worker = get_worker()
    key = str(worker.get_current_task())
    if check and (wrong := check_here(*(task.fingerprint[i] for i in SHARED))):
        raise WorkbenchError(f"worker {worker.address}: {wrong}")
    jobs = max(slots.get(get_address_host(worker.address), 0), worker.state.nthreads)
    said: dict[str, Any] = {}
    last = 0.0

    def tell(event: dict[str, Any]) -> None:
        nonlocal last
        said.update(event)
        if set(event) != {"memory"} or time.monotonic() - last > LOOK_EVERY:
            worker.log_event(f"workbench-{task.run}", {**said, "name": task.name, "worker": worker.address})
            last = time.monotonic()
            said.clear()

    scratch = Path(tempfile.mkdtemp(prefix="workbench-", dir=worker.local_directory))
    try:
        task = replace(task, threads=threads_each(task, jobs))
        outcome = perform(task, scratch, _folder(task, scratch), tell=tell, stopped=_watch(worker, key, task.run))
        return outcome, {f: (scratch / f).read_bytes() for f in FILES if (scratch / f).exists()}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _folder(task: Task, scratch: Path) -> Path:
    """Where the kernel works: the notebook's folder if this machine has it."""
    from workbench.batch.notebooks import notebooks_dir

    folder = notebooks_dir() / task.part
    return folder if folder.is_dir() else scratch


def _watch(worker: Any, key: str, run: str) -> Callable[[], str | None]:
    """Says to stop when the user stopped the run, or when nobody waits for the task any more."""
    from distributed import Event

    event = Event(f"stop-{run}")
    last = time.monotonic()

    def stopped() -> str | None:
        nonlocal last
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            return "stopped: its runner is gone"
        if time.monotonic() - last > LOOK_EVERY:
            last = time.monotonic()
            if event.is_set():
                return "stopped by the user"
        return None

    return stopped


@cache
def check_here(*wanted: str) -> str | None:
    """In what this machine differs from the one that planned the run; None when in nothing. Looked at once a process.

    Args:
        wanted: digests of package, data and versions. The data files themselves are checked against their checksums, too.
    """
    from workbench.batch.fingerprint import surroundings_here
    from workbench.data.files import set_names, verify

    here = surroundings_here()
    differs = [name for name, digest in zip(SHARED, wanted, strict=True) if here[name] != digest]
    if differs:
        return f"its {', '.join(differs)} differ from the runner's; install the same checkout and lock there"
    try:
        for name in set_names():
            verify(name)
    except DataError as error:
        return str(error)
    return None


# ---- on the runner -----------------------------------------------------------------------------------------------------------


def _check_workers(client: Any, task: Task) -> None:
    answers = client.run(check_here, *(task.fingerprint[i] for i in SHARED))
    wrong = [f"{address}: {answer}" for address, answer in answers.items() if answer]
    if wrong:
        raise WorkbenchError(f"{len(wrong)} of {len(answers)} workers cannot take part: {'; '.join(wrong)}")


def _take(future: Any, task: Task, state: Any, running: set[str]) -> None:
    """Put the files of a finished task in their place."""
    running.discard(task.name)
    try:
        outcome, files = future.result()
    except Exception as error:  # a task whose workers died one after the other, or an error of ours on the worker
        said = "its workers were lost again and again" if type(error).__name__ == "KilledWorker" else str(error)
        outcome, files = Outcome("killed", said, datetime.now(UTC).isoformat(timespec="milliseconds"), 0.0, 0.0, 0, 0), {}
    scratch = scratch_path(state.out, task.preset, task.part, task.name).resolve()
    with state.minding_the_disk():
        scratch.parent.mkdir(parents=True, exist_ok=True)
        with wait_lock(lock_path(scratch)):
            try:
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                for name, content in files.items():
                    (scratch / name).write_bytes(content)
                state.finish(task, outcome, scratch)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
                lock_path(scratch).unlink(missing_ok=True)


def _stop(event: Any, futures: dict[Any, Task], state: Any, running: set[str]) -> None:
    """Ask every notebook to stop, wait for what they have, and drop the rest."""
    from distributed import wait

    event.set()
    for future, task in futures.items():
        if task.name in running and future.status == "pending" and task.name not in state.board.lines:
            future.cancel()
    left = [f for f, task in futures.items() if task.name in running and not f.cancelled()]
    with contextlib.suppress(TimeoutError):
        wait(left, timeout=PATIENCE)
    for future in left:
        if future.done() and not future.cancelled():
            _take(future, futures[future], state, running)
