"""Executes one notebook in a process of its own; started by `workbench.batch.run` as `python -m workbench.batch.execute JOB`.

A process for each notebook keeps a dead kernel, a memory kill or a crash of papermill away from the other notebooks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path


def execute(source: str, output: str, parameters: dict[str, object], html: str) -> dict[str, object]:
    """Run a notebook through papermill, save it (partial if it fails) and export it as one HTML page.

    Returns:
        status ('ok' or 'failed'), error (last line, or None) and claims.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from workbench.batch.html import export_html
    from workbench.batch.records import claims_of

    status, error = "ok", None
    try:
        papermill.execute_notebook(
            source,
            output,
            parameters=parameters,
            kernel_name="python3",
            cwd=str(Path(source).parent),
            progress_bar=False,
            log_output=False,
            request_save_on_cell_execute=True,
        )
    except PapermillExecutionError as failure:
        status, error = "failed", f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}"
        print(failure.traceback, file=sys.stderr)
    except Exception as failure:  # a kernel that died, a notebook papermill cannot read: keep what there is
        status, error = "failed", f"{type(failure).__name__}: {failure}"
        traceback.print_exc()
    executed = json.loads(Path(output).read_text(encoding="utf8")) if Path(output).exists() else {"cells": []}
    if executed["cells"]:
        export_html(Path(output), Path(html))
    return {"status": status, "error": error, "claims": claims_of(executed)}


def end_with_parent() -> None:
    """End this process soon after the one that started it is gone, however that ended; the kernel then ends itself."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    end_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf8"))
    result = execute(job["source"], job["output"], job["parameters"], job["html"])
    Path(job["result"]).write_text(json.dumps(result), encoding="utf8")


if __name__ == "__main__":
    main()
