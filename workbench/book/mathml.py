"""Formulas as MathML, made at build time: no script, no fonts, nothing from the network."""

from __future__ import annotations

from typing import Any

from docutils import nodes

from workbench.batch.html import tex_to_mathml


def visit_inline(self: Any, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(f'<span class="math notranslate nohighlight">{tex_to_mathml(node.astext())}</span>')
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """A formula of its own, with its number where it has one; wide ones scroll."""
    from sphinx.util.math import get_node_equation_number

    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight", tabindex="0"))
    if node.get("number"):
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(tex_to_mathml(node.astext(), "block"))
    self.body.append("</div>\n")
    raise nodes.SkipNode
