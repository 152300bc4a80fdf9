"""The pages that `workbench run` makes, in a real browser: figures, formulas, no network, phone width."""

import json

import nbformat
import pytest

from workbench.batch.html import export_html

pytestmark = pytest.mark.browser
FORMULA = r"$$L_i = -\log \frac{e^{s_{ii}/\tau}}{\sum_{k} e^{s_{ik}/\tau}}$$"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    v4 = nbformat.v4
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "x", "version_major": 2, "version_minor": 0},
        "image/png": PIXEL,
    }
    code = v4.new_code_cell(
        "1 < 2", outputs=[v4.new_output("display_data", data={"image/png": PIXEL}), v4.new_output("display_data", data=widget)]
    )
    stray = v4.new_code_cell(
        "slider", outputs=[v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}})]
    )
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell(
                f"# A <title> & more\n\nInline $x_i^2$ and\n\n{FORMULA}\n\n[a link](https://arxiv.org/abs/2012.09740)"
            ),
            code,
            stray,
        ]
    )
    notebook.metadata["widgets"] = {
        "application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}
    }
    folder = tmp_path_factory.mktemp("page")
    (folder / "x.ipynb").write_text(json.dumps(notebook))
    export_html(folder / "x.ipynb", folder / "x.html")
    return folder / "x.html"


def test_the_page_asks_nobody_and_logs_no_error(made, page):
    page.goto(made.as_uri())
    assert page.problems == []
    assert [a for a in page.asked if not a.startswith(("file:", "data:"))] == []


def test_formulas_are_drawn_as_formulas(made, page):
    """The fraction is two-dimensional: its numerator stands above its denominator."""
    page.goto(made.as_uri())
    assert page.locator("math").count() == 2 and "$" not in page.locator("body").inner_text()
    top, bottom = (page.locator("mfrac > *").nth(i).bounding_box() for i in (0, 1))
    assert top["y"] + top["height"] <= bottom["y"] + 2


def test_a_widget_is_shown_by_its_first_frame(made, page):
    page.goto(made.as_uri())
    images = page.locator("img")
    assert images.count() == 2
    assert all(images.nth(i).evaluate("i => i.complete && i.naturalWidth > 0") for i in range(2))


def test_title_and_phone_width(made, page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(made.as_uri())
    assert page.title() == "A <title> & more"
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
