"""The Sphinx extension of the site, named in `book/_config.yml`: with it `jupyter-book build book/` needs no step before.

It writes the generated pages from a run folder ($WORKBENCH_RUNS, or `runs` beside the book), draws formulas as MathML, and
takes out what would ask the network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench.book.gather import gather
from workbench.book.mathml import visit_block, visit_inline
from workbench.book.pages import write_pages
from workbench.book.pictures import shrink
from workbench.errors import WorkbenchError

RUNS, PARTIAL, PRESET = "WORKBENCH_RUNS", "WORKBENCH_BOOK_PARTIAL", "WORKBENCH_BOOK_PRESET"
FOREIGN = ("thebe",)  # scripts that fetch others from the network


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.connect("config-inited", make_sources, priority=100)  # before the table of contents is read
    app.connect("html-page-context", without_foreign_scripts, priority=900)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def make_sources(app: Any, config: Any) -> None:
    """Write the pages that come from the runs."""
    from sphinx.errors import ExtensionError

    book = Path(app.srcdir)
    runs = Path(os.environ.get(RUNS) or book.parent / "runs")
    try:
        write_pages(book, gather(runs, os.environ.get(PRESET) or None, partial=bool(os.environ.get(PARTIAL))))
    except WorkbenchError as error:
        raise ExtensionError(str(error)) from None


def without_foreign_scripts(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave out scripts that are there to fetch others."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if not any(
            word in (str(getattr(script, "filename", script)) + str(getattr(script, "attributes", ""))) for word in FOREIGN
        )
    ]


def finish(app: Any, exception: Exception | None) -> None:
    """Pages that are no more go, and figures become small."""
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for folder in ("notebooks", "cards", "reference", "parts"):
        for page in (site / folder).rglob("*.html"):
            if page.relative_to(site).with_suffix("").as_posix() not in app.env.found_docs:
                page.unlink()
    shrink(site, site.parent / "webp")
