"""Formulas become MathML, whatever their spelling; what cannot be converted is shown as it was written."""

import pytest

from workbench.batch.html import tex_to_mathml


@pytest.mark.parametrize(
    "tex",
    [
        r"\mathcal{L}_i = -\log \frac{e^{s_{ii}/\tau}}{\sum_{k \neq i} e^{s_{ik}/\tau}}",
        r"\Bigl\lVert \frac1n \sum_i x_i \Bigr\rVert",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\mathbb{E}_{x \neq y}\left[f(x)^\top f(y) \mid l(x) = l(y)\right]",
        r"\underbrace{\|x - y\|_2^2}_{\text{alignment}}",
    ],
)
def test_nothing_of_the_source_is_left(tex):
    mathml = tex_to_mathml(tex, "block")
    assert mathml.startswith("<math") and "\\" not in mathml and "<mi>&</mi>" not in mathml and "&amp;" not in mathml


def test_a_broken_formula_is_shown_as_escaped_source():
    assert tex_to_mathml(r"\left( 1 < x") == r"<code>\left( 1 &lt; x</code>"
