"""What the result of a notebook depends on, as one digest per ingredient.

Two runs with equal fingerprints would do the same work, so the second is skipped; when they differ, the names of the
ingredients say why it runs again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from workbench.batch.notebooks import ROOT, Notebook

PACKAGE = ROOT / "workbench"
# Code that runs notebooks or reads their results cannot change what a notebook computes.
OUTSIDE = {"batch", "diagnose", "cli.py", "doctor.py", "catalogue.yaml", "template.ipynb"}
VERSIONS = ("torch", "transformers", "numpy", "scikit-learn", "matplotlib")


def fingerprint(notebook: Notebook, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Digest of each ingredient: notebook, parameters, claims, package, data, versions."""
    cells = [(c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", [])) for c in notebook.content["cells"]]
    return {
        "notebook": _digest(cells),
        "parameters": _digest(sorted(parameters.items())),
        "claims": _digest(asdict(notebook.paper) if notebook.paper else None),
        "package": _package(),
        "data": _data(),
        "versions": _versions(),
    }


def changes(old: Mapping[str, str] | None, new: Mapping[str, str]) -> list[str]:
    """Names of the ingredients that differ."""
    return [name for name in new if (old or {}).get(name) != new[name]]


@cache
def _package() -> str:
    files = (
        p
        for p in PACKAGE.rglob("*")
        if p.suffix in {".py", ".yaml", ".mplstyle"} and not OUTSIDE & set(p.relative_to(PACKAGE).parts)
    )
    return _files(files, PACKAGE)


@cache
def _data() -> str:
    from workbench.data.files import data_dir

    # The checksum lists stand for the files: hashing 90 MB before each run would cost more than it tells.
    return _files(data_dir().glob("*/SHA256SUMS"), data_dir())


@cache
def _versions() -> str:
    found = {"python": sys.version}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    lock = ROOT / "constraints.txt"
    return _digest([found, lock.read_text() if lock.exists() else None])


def _files(paths: Iterable[Path], root: Path) -> str:
    return _digest([(p.relative_to(root).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest()) for p in sorted(paths)])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
