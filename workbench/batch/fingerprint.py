"""What the result of a notebook depends on, as one digest per ingredient.

Two runs with equal fingerprints would do the same work, so the second is skipped; when they differ, the names of the
ingredients say why it runs again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from workbench.batch.notebooks import ROOT, Notebook

PACKAGE = ROOT / "workbench"
# Code that runs notebooks or reads their results cannot change what a notebook computes.
OUTSIDE = {"batch", "book", "diagnose", "cli.py", "doctor.py", "catalogue.yaml", "template.ipynb"}
SUFFIXES = {".py", ".yaml", ".mplstyle"}
VERSIONS = ("torch", "transformers", "numpy", "scikit-learn", "matplotlib")


def fingerprint(
    notebook: Notebook, parameters: Mapping[str, Any], surroundings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Digest of each ingredient: notebook, parameters, claims, package, data, versions.

    Python files beside a notebook count as well (`modules beside it`). `surroundings` are what `surroundings_here`
    gives; hand them in to compute them once for many notebooks.
    """
    cells = [(c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", [])) for c in notebook.content["cells"]]
    beside = sorted(notebook.path.parent.glob("*.py"))
    return {
        "notebook": _digest(cells),
        "parameters": _digest(sorted(parameters.items())),
        "claims": _digest(asdict(notebook.paper) if notebook.paper else None),
        # The diagnosis reads nothing that a lesson computes, so it counts for its own notebooks alone.
        **({"diagnosis": _files((PACKAGE / "diagnose").glob("*.*"), PACKAGE)} if notebook.part == "diagnose" else {}),
        **({"modules beside it": _files(beside, notebook.path.parent)} if beside else {}),
        **(surroundings or surroundings_here()),
    }


def surroundings_here() -> dict[str, str]:
    """The ingredients that all notebooks share: package, data, versions. The same on each machine that may take part."""
    from workbench.data.files import data_dir

    code = (p for p in PACKAGE.rglob("*") if p.suffix in SUFFIXES and not OUTSIDE & set(p.relative_to(PACKAGE).parts))
    return {
        "package": _files(code, PACKAGE),
        # The checksum lists stand for the files: hashing 90 MB before each run would cost more than it tells.
        "data": _files(data_dir().glob("*/SHA256SUMS"), data_dir()),
        "versions": _versions(),
    }


def changes(old: Mapping[str, str] | None, new: Mapping[str, str]) -> list[str]:
    """Names of the ingredients that differ."""
    old = old or {}
    return [name for name in {**new, **old} if old.get(name) != new.get(name)]


def git_state() -> str | None:
    """Commit of the checkout the package is in, with '+changed' where files differ from it; None outside of one."""
    import subprocess

    try:
        describe = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+changed"]
        return subprocess.run(describe, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _versions() -> str:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name).split("+")[0]  # the CPU and the CUDA build of torch count as one
        except PackageNotFoundError:
            found[name] = "absent"
    lock = ROOT / "constraints.txt"
    return _digest([found, lock.read_text() if lock.exists() else None])


def _files(paths: Iterable[Path], root: Path) -> str:
    return _digest([(p.relative_to(root).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()) for p in sorted(paths)])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
