"""Which executed notebooks a run folder holds, and which are missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.batch.fingerprint import fingerprint
from workbench.batch.notebooks import Notebook, find_notebooks, notebooks_dir
from workbench.batch.records import Record, intact, read_records
from workbench.errors import WorkbenchError
from workbench.papers import Paper
from workbench.papers.geometry import geometry_of

TOOLS = "diagnose"  # notebooks of tools, not of papers; shown when they ran, never missed


@dataclass(frozen=True)
class Executed:
    """A notebook of the collection with its last good run at default parameters."""

    notebook: Notebook
    record: Record
    file: Path

    @property
    def slug(self) -> str:
        return self.notebook.slug

    @property
    def part(self) -> str:
        return self.notebook.part

    @property
    def paper(self) -> Paper | None:
        return self.notebook.paper

    @property
    def page(self) -> str:
        """Where its page lies in the site, without ending."""
        return f"notebooks/{self.part}/{self.slug}"

    @cached_property
    def content(self) -> dict[str, Any]:
        """The executed notebook."""
        return json.loads(self.file.read_text(encoding="utf8"))

    @cached_property
    def geometry(self) -> list[dict[str, Any]]:
        """The models of its dashboards."""
        return geometry_of(self.content)

    @property
    def title(self) -> str:
        """Its first heading."""
        for cell in self.notebook.content["cells"]:
            for line in "".join(cell["source"]).splitlines():
                if cell["cell_type"] == "markdown" and line.startswith("# "):
                    return line.removeprefix("# ").strip()
        return self.slug

    @property
    def headline(self) -> dict[str, Any] | None:
        """The judged claim that stands for the paper."""
        return next((c for c in self.record.claims if c["headline"]), None)

    @property
    def stale(self) -> bool:
        """Whether the notebook's cells changed since this run."""
        return self.record.fingerprint.get("notebook") != fingerprint(self.notebook, {}, surroundings={})["notebook"]


def gather(runs: Path, preset: str | None = None, *, partial: bool = False) -> list[Executed]:
    """The executed notebook of each notebook of the collection, from the largest preset that ran.

    Args:
        runs: the run folder.
        preset: take this preset only.
        partial: go on without the notebooks that have no finished run.

    Raises:
        WorkbenchError: a notebook has no finished run here; the message names all of them and the command that makes them.
    """
    best: dict[tuple[str, str], Record] = {}
    for record in read_records(runs, preset):  # smaller presets first
        if record.ok and not record.parameters and intact(record, runs):
            best[record.part, record.slug] = record
    tools = [Notebook(path) for path in sorted((notebooks_dir() / TOOLS).glob("*.ipynb"))]
    found, missing = [], []
    for notebook in [*find_notebooks(), *tools]:
        done = best.get((notebook.part, notebook.slug))
        if done is not None and done.notebook:
            found.append(Executed(notebook, done, runs / done.preset / done.part / done.notebook))
        elif notebook.part != TOOLS:
            missing.append(notebook.slug)
    if not found:
        raise WorkbenchError(f"no finished run in {runs}/ to make the site from; start one with: workbench run --out {runs}")
    if missing and not partial:
        raise WorkbenchError(
            f"{len(missing)} notebooks have no finished run in {runs}/: {', '.join(missing)}; "
            f"run them with: workbench run {' '.join(missing)} --out {runs} (or build without them: --partial)"
        )
    return found
