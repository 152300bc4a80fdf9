"""Small notebooks, a stand-in for the execution that needs no kernel, and runners in processes that a test may kill."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time

from test_selection import write_notebook

from workbench.batch import supervise
from workbench.batch.records import METRICS_MIME
from workbench.batch.run import run_notebooks

PARAMETERS = 'preset = "ci"\nseed = 0\ntau = 0.1'
# Handed in by hand: importing the package in a kernel would cost each of these notebooks the import of torch.
SCORE = f"display({{'{METRICS_MIME}': {{'score': [tau * 10 + seed, tau * 10 - seed]}}}}, raw=True)"


def tiny(folder, slug="tiny", *cells, parameters=PARAMETERS):
    """A notebook in part 01-geometry."""
    return write_notebook(folder / "01-geometry" / f"{slug}.ipynb", *(cells or ("print(preset, seed)",)), parameters=parameters)


class Pretend:
    """Stands for `perform`: writes a notebook without a kernel and notes what was executed, with how many threads."""

    def __init__(self, seconds=0.0, outcomes=None, before=lambda task: None):
        self.seconds, self.outcomes, self.before = seconds, outcomes or {}, before
        self.done, self.threads, self.lock = [], [], threading.Lock()

    def __call__(self, task, scratch, cwd, *, tell, stopped):
        tell({"attempt": 1, "cell": 1, "cells": 1})
        self.before(task)
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and not stopped():
            time.sleep(0.01)
        status = "stopped" if stopped() else self.outcomes.get(task.slug, "ok")
        with self.lock:
            self.done.append(task.name)
            self.threads.append(task.threads)
        (scratch / supervise.NOTEBOOK).write_text(json.dumps({"cells": [], "metadata": {"of": task.name}}))
        (scratch / supervise.PAGE).write_text(f"page of {task.name}")
        (scratch / supervise.LOG).write_text("")
        started = f"2026-01-01T00:00:{time.monotonic_ns()}"
        error = None if status == "ok" else f"{status} as told"
        return supervise.Outcome(
            status, error, started, self.seconds, 1.0, 1, 1, metrics={"score": [1.0]} if status == "ok" else {}
        )


def _runner(log, notebooks, options):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stream = open(log, "a", buffering=1)  # noqa: SIM115 (open as long as the process lives)
    sys.stdout = sys.stderr = stream
    try:
        records = run_notebooks(notebooks, say=lambda line: stream.write(f"{line}\n"), **options)
    except KeyboardInterrupt:
        os._exit(130)
    os._exit(0 if all(r.ok for r in records) else 1)


def start_runner(log, notebooks, **options):
    """`run_notebooks` in a process of its own, forked from one that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.batch.run", "batch_tools"])
    process = context.Process(target=_runner, args=(str(log), notebooks, options))
    process.start()
    return process


def wait_until(condition, seconds=300.0, every=0.1):
    """The first true value of `condition()`; fails the test when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s")
