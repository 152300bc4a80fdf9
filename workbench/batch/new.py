"""A new notebook from the template."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.batch.notebooks import notebooks_dir
from workbench.errors import WorkbenchError
from workbench.papers import Claim, find_paper

TEMPLATE = Path(__file__).resolve().parents[1] / "papers" / "template.ipynb"


def new_notebook(slug: str, folder: Path | None = None) -> Path:
    """Write `notebooks/PART/SLUG.ipynb` with the paper's title block, claims and references filled in.

    The notebook runs up to its claims cell, which then asks for the measured values.

    Raises:
        UnknownNameError: the catalogue has no such paper.
        WorkbenchError: the notebook exists; it is never overwritten.
    """
    paper = find_paper(slug)
    path = (folder or notebooks_dir()) / paper.notebook
    if path.exists():
        raise WorkbenchError(f"{paper.notebook} exists; delete or rename it to start again")
    values = {
        "slug": slug,
        "title": paper.title,
        "authors": paper.authors,
        "venue": paper.venue,
        "year": str(paper.year),
        "arxiv": paper.arxiv,
        "link": paper.link,
        "claims": "\n".join(_claim_lines(claim) for claim in paper.claims),
    }
    notebook = json.loads(TEMPLATE.read_text(encoding="utf8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).format(**values).splitlines(keepends=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    return path


def _claim_lines(claim: Claim) -> str:
    comment = f"        # TODO one value a seed: {claim.metric}"
    if isinstance(claim.reference, str):
        return f"{comment}\n        # and one for: {claim.reference}, as Measurement(values, references)\n        {json.dumps(claim.id)}: [],"
    return f"{comment}\n        {json.dumps(claim.id)}: [],"
