"""An executed notebook as one HTML page that needs nothing from the network.

nbconvert's own page asks two content networks for MathJax and the widget scripts. Here formulas become MathML, which
browsers draw themselves, and a widget is shown by the picture of its first frame that every explorer carries.
"""

from __future__ import annotations

import base64
import html
import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STYLE = """<style>
body { margin: 0 auto; max-width: 60rem; padding: 0 1rem 4rem; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; }
.jp-RenderedHTMLCommon { line-height: 1.6; }
.jp-OutputArea-output img, .jp-RenderedImage img { max-width: 100%; height: auto; }
.jp-OutputArea-output { overflow-x: auto; }
.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"] { background: #f4f4f4; font-size: 85%; }
math { font-size: 1.08em; }
math[display=block] { margin: .6em 0; }
@media print { .jp-InputArea { break-inside: avoid; } }
</style>"""
SKIPPED_TYPES = {"application/vnd.jupyter.widget-view+json"}


def export_html(notebook: Path, target: Path) -> None:
    """Write `target`, one self-contained page, from an executed notebook."""
    nbformat = _nbformat()
    from traitlets.config import Config

    content = nbformat.read(notebook, as_version=4)
    content.metadata.pop("widgets", None)  # a page with widget state would ask for the widget scripts
    for cell in content.cells:
        # Cells and headings keep the title of the page out of nbconvert's hands: it would print the file name.
        cell.get("outputs", [])[:] = [o for o in cell.get("outputs", []) if not _only_widget(o)]
    exporter = _exporter(Config())
    page, _ = exporter.from_notebook_node(content)
    page = re.sub(r'<script[^>]*src="[^"]*"[^>]*>\s*</script>', "", page)
    page = re.sub(
        r"<script[^>]*>(?:(?!</script>).)*?(?:MathJax|mermaid|require)(?:(?!</script>).)*?</script>", "", page, flags=re.S
    )
    page = re.sub(r"<title>.*?</title>", f"<title>{html.escape(_title(content, notebook))}</title>", page, count=1, flags=re.S)
    page = page.replace("</head>", f"{STYLE}</head>", 1)
    target.write_text(page, encoding="utf8")


def export_thumbnail(content: Mapping[str, Any], target: Path, width: int = 480) -> None:
    """Write `target`, a small PNG of the notebook's first figure; nothing where it has none."""
    from PIL import Image

    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            encoded = output.get("data", {}).get("image/png")
            if encoded:
                picture = Image.open(io.BytesIO(base64.b64decode("".join(encoded))), formats=["PNG"]).convert("RGB")
                picture.thumbnail((width, width))
                picture.quantize(64).save(target, "PNG", optimize=True)
                return


def tex_to_mathml(tex: str, display: str = "inline") -> str:
    """A formula as MathML; the LaTeX source itself, in a code span, where it cannot be converted."""
    from latex2mathml.converter import convert

    # Two spellings the converter passes through as text; both have an equal that it knows.
    tex = re.sub(r"\\(?:big|Big|bigg|Bigg)[lrm]?\s*(?=\\[lr][vV]ert)", "", tex)
    tex = re.sub(r"(\\(?:begin|end)){aligned}", r"\1{align*}", tex)
    try:
        return convert(tex, display=display)
    except Exception:  # the converter raises a class of its own for each construct it does not know
        return f"<code>{html.escape(tex)}</code>"


def _nbformat():
    # jsonschema builds a grammar of international addresses at import, a second of work; the schema of a notebook has none.
    grammar = "rfc3987_syntax"
    spared = sys.modules.setdefault(grammar, None) is None  # type: ignore[arg-type]
    try:
        import nbformat
    finally:
        if spared:  # by pop: notebooks are exported in several threads
            sys.modules.pop(grammar, None)
    return nbformat


def _exporter(config):
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class MathMLRenderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return tex_to_mathml(body)

        def block_math(self, body: str) -> str:
            return f"<p>{tex_to_mathml(body, 'block')}</p>"

        def latex_environment(self, name: str, body: str) -> str:
            tex = rf"\begin{{{name}}}{body}\end{{{name}}}"
            return f"<p>{tex_to_mathml(tex, 'block')}</p>"

    def markdown2html(context, source: str) -> str:
        return MarkdownWithMath(renderer=MathMLRenderer(escape=False, anchor_link_text="")).render(source)

    from jinja2 import pass_context

    exporter = HTMLExporter(config=config, template_name="lab", sanitize_html=False)
    exporter.register_filter("markdown2html", pass_context(markdown2html))
    priority = [
        m for m in exporter.config.NbConvertBase.get("display_data_priority", []) or _default_priority() if m not in SKIPPED_TYPES
    ]
    exporter.config.NbConvertBase.display_data_priority = priority
    return HTMLExporter(config=exporter.config, template_name="lab", filters={"markdown2html": pass_context(markdown2html)})


def _default_priority() -> list[str]:
    return ["text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain"]


def _only_widget(output) -> bool:
    types = set(output.get("data", {}))
    return bool(types & SKIPPED_TYPES) and not types & {"image/png", "image/svg+xml", "text/html"}


def _title(content, notebook: Path) -> str:
    for cell in content.cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^#\s+(.+)$", cell.source, flags=re.M)):
            return match[1].strip()
    return notebook.stem
