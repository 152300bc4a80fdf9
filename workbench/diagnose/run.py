"""Running a diagnosis notebook with a user's files: the report, its numbers, and the notebook to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.batch.notebooks import notebooks_dir
from workbench.errors import DataError, WorkbenchError


def run_notebook(name: str, parameters: dict[str, Any], report: Path) -> tuple[Path, Path, Path]:
    """Execute `notebooks/diagnose/NAME.ipynb`, which writes the report.

    Args:
        name: embeddings, model or captions.
        parameters: of its parameters cell; paths are made absolute, since the notebook runs in its own folder.
        report: the page to write.

    Returns:
        The page, the JSON and the executed notebook, all beside each other.

    Raises:
        DataError: the report cannot be written there.
        WorkbenchError: what the notebook says is wrong.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    report = report.absolute()
    if report.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"a report is written to a file that ends in .html, got {report.name}")
    if not report.parent.is_dir():
        raise DataError(f"no folder {report.parent}; make it first")
    target = report.with_suffix(".ipynb")
    try:
        papermill.execute_notebook(
            notebooks_dir() / "diagnose" / f"{name}.ipynb",
            target,
            {**{k: v for k, v in parameters.items() if v is not None}, "report": str(report)},
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
        )
    except PapermillExecutionError as error:
        raise WorkbenchError(f"{error.ename}: {error.evalue}; the notebook as far as it came is {target}") from None
    return report, report.with_suffix(".json"), target
