"""From an executed notebook to the page of it: no live widgets, words for every picture, a line that says what ran."""

from __future__ import annotations

import copy
import json
import posixpath
import re
from collections.abc import Container
from html import escape
from typing import Any

from workbench.batch.progress import clock
from workbench.book.gather import Executed

MARKS = {"reproduced": ("✔", "good"), "not reproduced": ("✘", "bad"), "inconclusive": ("?", "open")}
WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWN = ("text/html", "text/markdown", "text/latex", "text/plain", "image/png", "image/jpeg", "image/svg+xml")
STILL = "Still picture of an explorer. Run the notebook to move its controls."


def page_notebook(executed: Executed, pages: Container[str] = ()) -> dict[str, Any]:
    """The notebook as the site shows it; cells and prose are those of the file, outputs those of the run.

    `pages` are the notebooks ('part/slug') that the site has; the names of others stay, without a link.
    """
    content = copy.deepcopy(executed.content)
    kernel = content["metadata"].get("kernelspec", {"name": "python3", "display_name": "Python 3"})
    language = content["metadata"].get("language_info", {"name": "python"})
    cells, heading = [], executed.title
    for cell in content["cells"]:
        tags = cell["metadata"].get("tags", [])
        source = "".join(cell["source"])
        if "injected-parameters" in tags:
            continue
        if cell["cell_type"] == "markdown":
            cell["source"] = site_links(source, executed.part, pages)
            heading = (re.findall(r"^#+\s+(.+)$", source, flags=re.M) or [heading])[-1]
        else:
            outputs = []
            for kept in filter(None, map(_output, cell.get("outputs", []))):
                outputs.append(kept)
                if kept.get("metadata", {}).get("explorer"):
                    said = {"text/html": f'<p class="wb-still">{STILL}</p>', "text/plain": STILL}
                    outputs.append({"output_type": "display_data", "data": said, "metadata": {}})
            cell["outputs"] = outputs
            pictures = [o for o in outputs if {"image/png", "image/jpeg", "image/svg+xml"} & set(o.get("data", {}))]
            if pictures:
                cell["metadata"]["mystnb"] = {"image": {"alt": alternative(pictures[0], heading)}}
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k in ("tags", "mystnb")}
        cells.append(cell)
    if cells:
        first = next((i for i, c in enumerate(cells) if c["cell_type"] == "markdown"), 0)
        cells.insert(first + 1, {"cell_type": "markdown", "id": "site-run", "metadata": {}, "source": run_line(executed)})
    return {"cells": cells, "metadata": {"kernelspec": kernel, "language_info": language}, "nbformat": 4, "nbformat_minor": 5}


def site_links(source: str, part: str, pages: Container[str]) -> str:
    """Relative links of a notebook's prose as the site has them."""

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if target.startswith("../../book/"):  # pages of the book stand at the root of the site
            return f"[{text}](../../{target.removeprefix('../../book/')})"
        slug, ending = posixpath.splitext(posixpath.normpath(posixpath.join(part, target)))
        if ending != ".ipynb" or "://" in target or slug in pages:
            return found[0]
        return f"[{text}](../../diagnose.md)" if slug.startswith("diagnose/") else text

    return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", link, source)


def run_line(executed: Executed) -> str:
    """What ran, what came out, and how to run it oneself; HTML, since it stands in a page."""
    record = executed.record
    device = record.environment.get("device") or "cpu"
    words = [f"Executed {record.started[:10]} at preset <code>{escape(record.preset)}</code> on {escape(str(device))}"]
    words[0] += f" in {clock(record.seconds)}"
    if executed.headline:
        words.append(f"headline claim: {verdict(executed.headline['verdict'])}")
    command = f"<code>workbench run {escape(executed.slug)}</code>"
    clean = f'<a download href="../../download/{executed.part}/{executed.slug}.ipynb">notebook file</a>'
    return f'<p class="wb-run">{" · ".join(words)} · run it: {command} · {clean}</p>'


def verdict(name: str) -> str:
    """A verdict with its sign and colour."""
    sign, kind = MARKS.get(name, ("", "none"))
    return f'<span class="wb-verdict wb-{kind}">{sign} {escape(name)}</span>'


def clean_notebook(executed: Executed) -> str:
    """The notebook of the collection as a file to download: the committed one, outputs and all that a run added left out."""
    content = copy.deepcopy(executed.notebook.content)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def alternative(output: dict[str, Any], heading: str) -> str:
    """Words for a picture: those the figure gives of itself, or where it stands."""
    own = " ".join("".join(output["data"].get("text/plain", "")).split())
    if own.startswith("Figure. ") or ": Figure. " in own[:80]:  # an explorer says before it that it is one
        return own
    kind = "Explorer, its first frame" if output.get("metadata", {}).get("explorer") else "Figure"
    return f"{kind}, section “{re.sub(r'[$*`]', '', heading)}”"


def _output(output: dict[str, Any]) -> dict[str, Any] | None:
    """An output as it is shown, or None for what a page without a kernel cannot show (progress bars, live widgets)."""
    if output["output_type"] == "stream":
        return output if output["name"] == "stdout" else None
    if output["output_type"] == "error":
        return output
    data = {mime: value for mime, value in output["data"].items() if mime in SHOWN}
    live = WIDGET in output["data"]
    if live and not {"image/png", "image/svg+xml", "text/html"} & set(data):
        return None
    if not data:
        return None
    kept = {
        "output_type": output["output_type"],
        "data": data,
        "metadata": {k: v for k, v in output["metadata"].items() if k in data},
    }
    if output["output_type"] == "execute_result":
        kept["execution_count"] = output.get("execution_count")
    if live:
        kept["metadata"] = {**kept["metadata"], "explorer": True}
    return kept
