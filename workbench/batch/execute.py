"""Executes one notebook in a process of its own: `python -P execute.py JOB.json FD`, started by `workbench.batch.supervise`.

A process for each notebook keeps a dead kernel, a memory kill or a crash of papermill away from the other notebooks. This file
imports nothing of the package, so that no notebook waits for torch twice. What happens goes to the supervisor as lines of
JSON through the pipe FD, which works on a full disk too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Atomic:
    """papermill writes the notebook through this after each cell: a kill in mid-write leaves the version before."""

    scheme = "atomic://"

    def write(self, text: str, path: str) -> None:
        target = Path(path.removeprefix(self.scheme))
        partial = target.with_name(f".{target.name}.part")
        partial.write_text(text, encoding="utf8")
        os.replace(partial, target)

    def pretty_path(self, path: str) -> str:
        return path.removeprefix(self.scheme)


def execute(job: dict[str, Any], tell: Any) -> dict[str, Any]:
    """Run the notebook of a job and keep it, partial if it fails.

    Returns:
        status ('ok', 'failed' or 'killed') and error (one line, or None).
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import papermill_io
    from papermill.log import logger

    class Client(PapermillNotebookClient):
        def papermill_execute_cells(self) -> None:
            runs = [i for i, cell in enumerate(self.nb.cells) if cell.cell_type == "code" and cell.source.strip()]
            start = self.nb_man.cell_start

            def cell_start(cell: Any, cell_index: int, **options: Any) -> None:
                if cell_index in runs:
                    tell(cell=runs.index(cell_index) + 1, cells=len(runs))
                start(cell, cell_index, **options)

            self.nb_man.cell_start = cell_start
            tell(cell=0, cells=len(runs))
            try:
                super().papermill_execute_cells()
            except DeadKernelError:
                process = getattr(self.km.provisioner, "process", None)
                code = None if process is None else process.poll()
                raise DeadKernelError(f"the kernel {how_it_ended(code)}") from None

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, start_timeout: int = 60, **_: Any) -> Any:
            nb_man.nb.metadata.papermill.update(input_path=job["input"], output_path=job["name"])  # no scratch paths
            return Client(nb_man, timeout=None, startup_timeout=start_timeout, kernel_name=kernel_name, log=logger).execute()

    papermill_engines.register("workbench", Engine)
    papermill_io.register(Atomic.scheme, Atomic())
    try:
        execute_notebook(
            job["source"].replace("{", "{{").replace("}", "}}"),  # papermill would fill in what stands in braces
            Atomic.scheme + job["output"].replace("{", "{{").replace("}", "}}"),
            parameters=job["parameters"],
            engine_name="workbench",
            kernel_name="python3",
            cwd=job["cwd"],
            progress_bar=False,
            start_timeout=120,
        )
    except PapermillExecutionError as failure:
        print(*failure.traceback, sep="\n", file=sys.stderr)
        return {"status": "failed", "error": f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}"}
    except DeadKernelError as failure:
        return {"status": "killed", "error": str(failure)}
    return {"status": "ok", "error": None}


def how_it_ended(code: int | None) -> str:
    """An exit code in words."""
    import signal

    if code is None:
        return "stopped answering"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (" (did the machine run out of memory?)" if name == "SIGKILL" else "")


def end_with_parent(parent: int) -> None:
    """End this process and all it started soon after the one that started it is gone, however that ended."""

    def watch() -> None:
        import psutil

        while os.getppid() == parent:
            time.sleep(0.3)
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    # jsonschema builds a grammar of international addresses with it at import (0.4 s); the schema of a notebook has none.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    fd = int(sys.argv[2])
    os.set_inheritable(fd, False)
    end_with_parent(job["parent"])
    with contextlib.suppress(OSError):  # Linux: when memory runs out, end a notebook rather than the runner
        Path("/proc/self/oom_score_adj").write_text("500")

    def tell(**event: Any) -> None:
        os.write(fd, json.dumps(event).encode() + b"\n")

    try:
        result = execute(job, tell)
    except OSError as failure:  # the disk is full, or the folder gone
        result = {"status": "failed", "error": f"{type(failure).__name__}: {failure}", "errno": failure.errno}
    except Exception as failure:  # a notebook papermill cannot read, a kernel that does not start
        import traceback

        traceback.print_exc()
        result = {"status": "failed", "error": f"{type(failure).__name__}: {failure}"}
    tell(result=result)


if __name__ == "__main__":
    main()
