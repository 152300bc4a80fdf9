"""Three processes joined by gloo, started once for all tests, to which tests send functions.

    results = run(function, *args, world=2)  # one result for each of the first two processes

Each calls `function(group, *args)`; the function is sent by its name, so it must be at the top level of a module, and it
knows its place by `dist.get_rank(group)`.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

WORLD = 3
TIMEOUT = 240.0  # seconds


def run(function: Callable[..., Any], *args: Any, world: int = WORLD) -> list[Any]:
    """What `function(group, *args)` returns in each of the first `world` processes; an error in one is raised here."""
    pipes = _processes()
    message = pickle.dumps((function, args, world))
    for pipe in pipes:
        pipe.send_bytes(message)
    answers = []
    for rank, pipe in enumerate(pipes):
        if not pipe.poll(TIMEOUT):
            _processes.cache_clear()  # a late answer must not be taken for that to another question
            raise TimeoutError(f"process {rank} did not answer within {TIMEOUT:.0f} s")
        answers.append(pickle.loads(pipe.recv_bytes()))
    errors = [f"process {rank}:\n{error}" for rank, (error, _) in enumerate(answers) if error]
    if errors:
        raise RuntimeError("\n".join(errors))
    return [result for _, result in answers[:world]]


@functools.cache
def _processes() -> list[Any]:
    folder = tempfile.TemporaryDirectory()
    # Not forked: a copy of a process with threads in torch may hang.
    context = multiprocessing.get_context("spawn")
    pipes, started = [], []
    for rank in range(WORLD):
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(rank, str(Path(folder.name) / "store"), there), daemon=True)
        process.start()
        pipes.append(here)
        started.append(process)

    @atexit.register
    def stop() -> None:
        for pipe in pipes:
            pipe.close()
        for process in started:
            process.join(10)
            process.terminate()
        folder.cleanup()

    return pipes


def _serve(rank: int, store: str, pipe: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=TIMEOUT / 2)
    )
    groups = {WORLD: dist.group.WORLD, 2: dist.new_group([0, 1])}
    while True:
        try:
            function, args, world = pickle.loads(pipe.recv_bytes())
        except EOFError:
            break
        error, result = "", None
        if rank < world:
            try:
                result = function(groups[world], *args)
            except Exception:
                error = traceback.format_exc()
        pipe.send_bytes(pickle.dumps((error, result)))
    dist.destroy_process_group()
