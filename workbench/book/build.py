"""`workbench book`: check that the runs are there, build with Jupyter Book, say what came out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from workbench.batch.notebooks import ROOT
from workbench.book.gather import Executed, gather
from workbench.errors import WorkbenchError
from workbench.runtime import resolve_preset

BOOK = ROOT / "book"


@dataclass(frozen=True)
class Site:
    """A built site. `warnings` are Sphinx's, one a line."""

    index: Path
    notebooks: list[Executed]
    megabytes: float
    warnings: list[str]

    def summary(self) -> str:
        """What was built, in a few lines."""
        presets = Counter(e.record.preset for e in self.notebooks)
        made = ", ".join(f"{n} at preset {preset}" for preset, n in presets.items())
        lines = [f"{len(self.notebooks)} notebooks ({made}), {self.megabytes:.1f} MB"]
        if stale := [e.slug for e in self.notebooks if e.stale]:
            lines.append(f"shown as they ran, changed since: {', '.join(stale)}")
        return "\n".join([*lines, *self.warnings[:20], f"made {self.index}"])


def build_book(
    runs: Path = Path("runs"), book: Path = BOOK, *, preset: str | None = None, partial: bool = False, out: Path | None = None
) -> Site:
    """Build the site from executed notebooks; executes none.

    Args:
        runs: the run folder.
        book: the folder with `_config.yml` and `_toc.yml`.
        preset: take runs of this preset only; by default each notebook's largest one.
        partial: build although notebooks have no finished run.
        out: where `_build` goes; the book's own folder by default.

    Raises:
        WorkbenchError: a notebook has no finished run, Jupyter Book is not installed, or it failed.
    """
    preset = preset and resolve_preset(preset).name
    if not (book / "_config.yml").exists():
        raise WorkbenchError(f"{book} holds no _config.yml; the site is built from a checkout of the repository")
    found = gather(runs, preset, partial=partial)
    if find_spec("jupyter_book") is None:
        raise WorkbenchError(
            "Jupyter Book is not installed; use `make book`, or: pip install -c constraints.txt -e '.[notebooks,book]'"
        )
    out = out or book
    settings = {"WORKBENCH_RUNS": str(runs.resolve()), "WORKBENCH_BOOK_PRESET": preset or ""}
    settings["WORKBENCH_BOOK_PARTIAL"] = "1" if partial else ""
    start = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "build", str(book), "--path-output", str(out), "-q"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    said = done.stderr.strip().splitlines()
    index = out / "_build" / "html" / "index.html"
    if done.returncode or not index.exists():
        causes = [line for line in said if "rror: " in line and not line.startswith("RuntimeError: ")]  # not its own last word
        raise WorkbenchError("Jupyter Book failed:\n" + "\n".join(causes[:10] or said[-20:]))
    size = sum(p.stat().st_size for p in index.parent.rglob("*") if p.is_file())
    return Site(index, found, size / 1e6, [line for line in said if "WARNING" in line or "ERROR" in line])
