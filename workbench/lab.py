"""JupyterLab on the notebooks: a start page by parts, and settings that ask nothing of the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from workbench.batch.notebooks import Notebook, find_notebooks, notebooks_dir
from workbench.errors import WorkbenchError
from workbench.papers import load_catalogue
from workbench.papers.catalogue import PARTS

START = "START.md"
# The news service would be asked over the network, and its question would cover a corner of the page.
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
}
FIRST = {
    "tour": "four things that go wrong in learned representations, in ten minutes",
    "widgets": "every explorer of the package on real data: move things",
    "data": "the embedded data sets, seen",
}


def start_page(folder: Path | None = None) -> str:
    """The start page: what to open first, then the notebooks by part, as links that JupyterLab opens."""
    folder = folder or notebooks_dir()
    found = find_notebooks(folder)
    papers = load_catalogue().values()
    lines = [
        "# Start here",
        "",
        "Click a notebook, then *Run → Run All Cells* (or the double arrow). Each takes under a minute; nothing is downloaded.",
        "Sliders work as soon as their cell has run. The exercises at the end check your answers.",
    ]
    for part, title in PARTS.items():
        ready = sorted((n for n in found if n.part == part), key=lambda n: list(FIRST).index(n.slug) if n.slug in FIRST else -1)
        many = sum(p.part == part for p in papers)
        if not ready and not many:
            continue
        lines += ["", f"## {'First' if part == '00-start' else title}", ""]
        lines += [f"- [{_heading(n)}]({part}/{n.path.name}){_about(n)}" for n in ready]
        if waiting := many - sum(n.paper is not None for n in ready):
            lines.append(
                f"- {waiting} more papers of this part wait for their notebook: `workbench list --part {part.split('-')[0]}`"
            )
    lines += [
        "",
        "## From the command line",
        "",
        "`workbench run PART` executes a part and measures its claims; `workbench check NOTEBOOK` grades your answers;",
        "`workbench diagnose embeddings FILE` looks at your own vectors.",
        "",
    ]
    return "\n".join(lines)


def open_lab(*, browser: bool = True, port: int = 8888) -> int:
    """Write the start page and run JupyterLab on it until it is stopped; returns its exit code.

    Raises:
        WorkbenchError: JupyterLab is not installed.
    """
    try:
        import jupyterlab  # noqa: F401
    except ImportError:
        raise WorkbenchError(
            "JupyterLab is not installed; install it with: pip install 'contrastive-workbench[notebooks]'"
        ) from None
    folder = notebooks_dir()
    if not folder.is_dir():
        raise WorkbenchError(f"there is no folder {folder} with notebooks; start this in a checkout, or set WORKBENCH_NOTEBOOKS")
    (folder / START).write_text(start_page(folder), encoding="utf8")
    with tempfile.TemporaryDirectory(prefix="workbench-lab-") as scratch:
        settings = Path(scratch) / "labconfig" / "default_setting_overrides.json"
        settings.parent.mkdir()
        settings.write_text(json.dumps(SETTINGS), encoding="utf8")
        try:
            return subprocess.call(lab_command(folder, browser=browser, port=port), env=lab_environment(scratch))
        except KeyboardInterrupt:
            return 0


def lab_command(folder: Path, *, browser: bool = True, port: int = 8888) -> list[str]:
    """The command line of JupyterLab, run by this Python, so that its kernel is this environment's."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}", f"--port={port}"]
    command += [f"--LabApp.default_url=/lab/tree/{START}", "--KernelSpecManager.ensure_native_kernel=True"]
    return command + ([] if browser else ["--no-browser"])


def lab_environment(config: str | Path) -> dict[str, str]:
    """Our settings beside the user's own, and this environment's kernel before one of the same name elsewhere."""
    paths = [str(config), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(p for p in paths if p), "JUPYTER_PREFER_ENV_PATH": "1"}


def _heading(notebook: Notebook) -> str:
    for cell in notebook.content["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return notebook.slug


def _about(notebook: Notebook) -> str:
    if paper := notebook.paper:
        return f" · {paper.title} ({paper.venue} {paper.year})"
    return f" · {FIRST[notebook.slug]}" if notebook.slug in FIRST else ""
