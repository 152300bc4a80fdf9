"""Which notebooks there are, and which a user means."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.errors import UnknownNameError, WorkbenchError
from workbench.papers import Paper, load_catalogue
from workbench.papers.catalogue import PARTS

ROOT = Path(__file__).resolve().parents[2]


def notebooks_dir() -> Path:
    """The folder with the collection's notebooks ($WORKBENCH_NOTEBOOKS, or `notebooks` beside the package)."""
    return Path(os.environ.get("WORKBENCH_NOTEBOOKS", ROOT / "notebooks"))


@dataclass(frozen=True)
class Notebook:
    """A notebook file; `slug` is its file name, `part` its folder."""

    path: Path

    @property
    def slug(self) -> str:
        return self.path.stem

    @property
    def part(self) -> str:
        return self.path.parent.name

    @property
    def paper(self) -> Paper | None:
        """The paper it is about; None for the tours."""
        return load_catalogue().get(self.slug)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The parsed file; WorkbenchError when it is not a notebook."""
        try:
            content = json.loads(self.path.read_text(encoding="utf8"))
            content["cells"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorkbenchError(f"{self.path} is not a readable notebook: {type(error).__name__}: {error}") from None
        return content

    @property
    def parameters(self) -> dict[str, Any]:
        """Names and default values of its `parameters` cell."""
        for cell in self.content["cells"]:
            if "parameters" in cell.get("metadata", {}).get("tags", []):
                return _assigned("".join(cell["source"]), self.path.name)
        return {}

    def check_parameters(self, given: Mapping[str, Any], preset: str | None = None) -> dict[str, Any]:
        """The given parameters, whole numbers made floats where the default is one.

        papermill itself lets a wrong name pass: the run then uses the default, silently.

        Raises:
            UnknownNameError: a name that does not stand in the parameters cell.
            WorkbenchError: a value of another type than the default, or a cell that is not plain assignments.
        """
        known = self.parameters
        for name, value in {**({"preset": preset} if preset and "preset" in known else {}), **given}.items():
            if name not in known:
                raise UnknownNameError(f"parameter of {self.slug}", name, known)
            default = known[name]
            if default is not None and not _same_kind(default, value):
                raise WorkbenchError(
                    f"parameter {name!r} of {self.slug} must be like its default {default!r} ({type(default).__name__}), got {value!r} ({type(value).__name__})"
                )
        return {n: float(v) if isinstance(known[n], float) else v for n, v in given.items()}


def find_notebooks(folder: Path | None = None) -> list[Notebook]:
    """All notebooks of the collection, in the order of parts and, within a part, of the catalogue."""
    folder = folder or notebooks_dir()
    order = {slug: i for i, slug in enumerate(load_catalogue())}
    found = [Notebook(p) for part in PARTS for p in (folder / part).glob("*.ipynb")]
    return sorted(found, key=lambda n: (n.part, order.get(n.slug, -1), n.slug))


def select_notebooks(selectors: Sequence[str] = (), folder: Path | None = None) -> list[Notebook]:
    """The notebooks a user means by slugs, parts ('01-geometry', '01'), globs ('*gap*') or paths; all without any.

    Raises:
        UnknownNameError: a selector that fits nothing.
        WorkbenchError: a slug of the catalogue whose notebook is not written yet, or a missing file.
    """
    everything = find_notebooks(folder)
    if not selectors:
        return everything
    chosen: dict[Path, Notebook] = {}
    for selector in selectors:
        for notebook in _matching(selector, everything):
            chosen.setdefault(notebook.path, notebook)
    return list(chosen.values())


def _matching(selector: str, everything: list[Notebook]) -> list[Notebook]:
    if selector.endswith(".ipynb"):
        path = Path(selector)
        if not path.is_file():
            raise WorkbenchError(f"there is no notebook {selector}")
        return [Notebook(path.resolve())]
    part = selector.rstrip("/").removeprefix("notebooks/")
    hits = [n for n in everything if n.slug == selector or n.part == part or n.part.split("-")[0] == part]
    hits = hits or [n for n in everything if fnmatch.fnmatch(n.slug, selector) or fnmatch.fnmatch(f"{n.part}/{n.slug}", selector)]
    if not hits and selector in load_catalogue():
        raise WorkbenchError(f"the notebook of {selector!r} is not written yet; start it with: workbench new {selector}")
    if not hits:
        raise UnknownNameError("selection", selector, [*(n.slug for n in everything), *PARTS, *load_catalogue()])
    return hits


def _assigned(source: str, where: str) -> dict[str, Any]:
    try:
        tree = ast.parse(source)
        return {
            target.id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError) as error:
        raise WorkbenchError(
            f"the parameters cell of {where} must be plain assignments of numbers, texts and lists: {error}"
        ) from None


def _same_kind(default: Any, value: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple))
    return isinstance(value, type(default))
