"""What the site is made from: alternative texts, reference from docstrings, small pictures, the record of the dashboards."""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from workbench import plots
from workbench.batch import records
from workbench.book import across, api, cards, gather
from workbench.book.notebooks import STILL, alternative, page_notebook, site_links
from workbench.book.pictures import thin_icons, webp
from workbench.errors import WorkbenchError
from workbench.papers.geometry import GEOMETRY_MIME, geometry_of
from workbench.plots.dashboard import right_among
from workbench.plots.style import describe_figure


def test_right_among_ten_is_the_expectation_over_random_candidates():
    """Equal to counting subsets of nine among the others, row by row; 1 for equal sets; near 0.1 for strangers; not dependent on n."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(60, 6, generator=generator)
    y = x + torch.randn(60, 6, generator=generator)
    u, v = (torch.nn.functional.normalize(z, dim=1) for z in (x, y))
    s = (u @ v.T).numpy()

    def slow(s):
        n = len(s)
        worse = [sum(s[i, j] < s[i, i] for j in range(n) if j != i) for i in range(n)]
        return sum(math.comb(w, 9) / math.comb(n - 1, 9) for w in worse) / n

    assert 0.2 < right_among(x, y) < 0.95
    assert right_among(x, y) == pytest.approx((slow(s) + slow(s.T)) / 2, abs=1e-9)
    assert right_among(x, x) == 1
    many = [right_among(*torch.randn(2, n, 6, generator=generator)) for n in (400, 1500)]
    assert many == pytest.approx([0.1, 0.1], abs=0.03)
    with pytest.raises(ValueError, match="at least 10 rows"):
        right_among(x[:9], y[:9])


def test_a_dashboard_carries_its_numbers_into_the_notebook():
    """The bundle of a dashboard holds what is drawn, for each model; retrieval only where the partners are another modality."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 40, 8, generator=generator)
    extra = {"colour probe": {"a": 0.5, "b": 0.75}}
    both = {"a": (x, y), "b": (x, x)}
    two = plots.geometry_dashboard(both, pair_names=("picture", "name"), extra=extra)
    cell = {"outputs": [{"output_type": "display_data", "data": two._repr_mimebundle_()}]}
    found = geometry_of({"cells": [{"cell_type": "markdown"}, cell]})
    assert [m["model"] for m in found] == ["a", "b"] and found[0]["rows"] == 40 and found[0]["width"] == 8
    assert found[1]["numbers"]["alignment"] == pytest.approx(0, abs=1e-6)
    assert found[1]["numbers"][across.RETRIEVAL] == 1 and found[1]["numbers"]["colour probe"] == 0.75
    views = plots.geometry_dashboard(both)._repr_mimebundle_()[GEOMETRY_MIME]
    assert across.RETRIEVAL not in views[0]["numbers"] and "modality gap" not in views[0]["numbers"]


def test_a_figure_says_its_titles_and_axes():
    figure, axes = plt.subplots(1, 2)
    figure.suptitle("Cold is even.")
    axes[0].set(title="τ = 1 spreads least", xlabel="temperature", ylabel="uniformity")
    image = axes[1].imshow(np.eye(3))
    figure.colorbar(image, ax=axes[1])
    assert describe_figure(figure) == "Figure. Cold is even. τ = 1 spreads least (uniformity against temperature)."
    plt.close(figure)


def test_pages_show_pictures_with_words_and_no_live_widgets():
    class Ran:
        content = {
            "metadata": {"widgets": {"state": 1}},
            "cells": [
                {"cell_type": "markdown", "metadata": {}, "source": "# Title\n\n## The `gap`\n\n[words](../../book/glossary.md)"},
                {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "preset = 1", "outputs": []},
                {
                    "cell_type": "code",
                    "metadata": {"papermill": {}},
                    "source": "x",
                    "outputs": [
                        {"output_type": "stream", "name": "stderr", "text": "100 %"},
                        {"output_type": "display_data", "metadata": {}, "data": {"application/vnd.jupyter.widget-view+json": {}}},
                        {
                            "output_type": "display_data",
                            "metadata": {},
                            "data": {
                                "application/vnd.jupyter.widget-view+json": {},
                                "image/png": "AA",
                                "text/plain": "An interactive figure",
                            },
                        },
                    ],
                },
            ],
        }
        title, slug, part, headline = "Title", "tour", "00-start", None
        record = records.Record("tour", "00-start", "ci", {}, "ok", 61.0, "2026-01-02T03:04:05+00:00", {})

    page = page_notebook(Ran())
    assert "widgets" not in page["metadata"] and len(page["cells"]) == 3
    assert "(../../glossary.md)" in page["cells"][0]["source"]  # where the site has it
    line, cell = page["cells"][1], page["cells"][2]
    assert "2026-01-02" in line["source"] and "workbench run tour" in line["source"]
    assert [set(o["data"]) for o in cell["outputs"]] == [{"image/png", "text/plain"}, {"text/html", "text/plain"}]
    assert STILL in cell["outputs"][1]["data"]["text/html"]
    assert cell["metadata"]["mystnb"]["image"]["alt"] == "Explorer, its first frame, section “The gap”"
    own = {"data": {"text/plain": "Figure. Cold is even."}, "metadata": {}}
    assert alternative(own, "x") == "Figure. Cold is even."


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        ("[a](swav.ipynb)", "[a](swav.ipynb)"),  # a page of the same part
        ("[a](../00-start/tour.ipynb)", "[a](../00-start/tour.ipynb)"),
        ("[a `b`](mochi.ipynb)", "a `b`"),  # did not run
        ("[a](../diagnose/model.ipynb)", "[a](../../diagnose.md)"),  # a tool, told of in the book
        ("[a](../../book/glossary.md)", "[a](../../glossary.md)"),
        ("[a](https://example.org/x.ipynb), ![b](c.png)", "[a](https://example.org/x.ipynb), ![b](c.png)"),
    ],
)
def test_links_of_a_notebook_lead_somewhere_on_the_site(link, on_the_site):
    assert site_links(f"See {link}.", "01-geometry", {"01-geometry/swav", "00-start/tour"}) == f"See {on_the_site}."


@pytest.mark.parametrize("kind", ["chart", "photograph", "transparent"])
def test_small_pictures_look_the_same(kind):
    """Mean error below 3 grey levels against the PNG, and less than half its size; transparency becomes white paper."""
    generator = np.random.default_rng(0)
    if kind == "photograph":
        smooth = np.cumsum(np.cumsum(generator.normal(size=(200, 300, 3)), 0), 1)
        pixels = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
        picture = Image.fromarray(pixels)
        wanted = pixels
    else:
        figure, ax = plt.subplots(figsize=(6, 4), dpi=100)
        ax.plot(generator.normal(size=50).cumsum())
        stream = io.BytesIO()
        figure.savefig(stream, transparent=kind == "transparent")
        plt.close(figure)
        picture = Image.open(stream)
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(picture.convert("RGBA"))
        wanted = np.asarray(paper.convert("RGB"))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    small = webp(stream.getvalue())
    got = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"), dtype=int)
    assert np.abs(got - wanted).mean() < 3 and len(small) < 0.6 * len(stream.getvalue())


def sample(x: int, *, rate: "float | None" = 0.1) -> float:
    r"""Something of x; lower is better.

    .. math:: \frac1n \sum_i
        x_i

    Args:
        x: at least 1, written
            over two lines as 2**x < 3.
        rate: share in [0, 1].

    Returns:
        A number.

    Source: Somebody 2020, eq. 1.

    Example:
        >>> sample(1)
        1.0
    """
    return float(x)


def test_a_docstring_becomes_markdown():
    """Formula, lists, code and escapes: nothing of a docstring is taken for Markdown that is not."""
    text = api.docstring(api._doc(sample))
    assert r"$$\frac1n \sum_i x_i$$" in text
    assert r"- `x`: at least 1, written over two lines as 2\*\*x &lt; 3." in text and r"- `rate`: share in \[0, 1]." in text
    assert "**Returns.** A number." in text and "**Source.** Somebody 2020, eq. 1." in text
    assert "```pycon\n>>> sample(1)\n1.0\n```" in text
    assert api.signature("sample", sample) == "sample(x: int, *, rate: float | None = 0.1) -> float"
    assert api.first_sentence(sample.__doc__) == "Something of x; lower is better."


def test_every_public_name_of_losses_and_metrics_is_in_the_reference():
    from workbench import losses, metrics

    pages = api.api_pages()
    for module in (losses, metrics):
        page = pages[module.__name__.rpartition(".")[2]]
        assert len(module.__all__) > 10 and all(f"\n## {name}\n" in page for name in module.__all__)
    labels = [line for page in pages.values() for line in page.splitlines() if line.startswith("(api-")]
    assert len(set(labels)) == len(labels)


def test_charts_put_marks_where_the_numbers_are():
    """Right means more, up means more, on the scale of the ticks."""
    import re

    marks = [across.Point(x, y, f"m{x}", "a.html", "01-geometry") for x, y in ((-4.0, 0.2), (-2.0, 0.6), (-3.0, 0.4))]
    chart = across.scatter(marks, x="uniformity", y="alignment", title="t", name="n")
    found = re.findall(r'data-label="m(.*?)">.*?x="([\d.]+)" y="([\d.]+)"', chart)
    at = {float(value): (float(x), float(y)) for value, x, y in found}
    assert at[-4][0] < at[-3][0] < at[-2][0] and at[-4][1] > at[-3][1] > at[-2][1]
    assert at[-3][0] == pytest.approx((at[-4][0] + at[-2][0]) / 2, abs=0.2)
    ticks = {float(v): float(x) for x, v in re.findall(r'<text x="([\d.]+)"[^>]*middle">(-[\d.]+)</text>', chart)}
    (v0, x0), (v1, x1) = min(ticks.items()), max(ticks.items())
    assert v1 - v0 > 1 and x0 + (-3 - v0) / (v1 - v0) * (x1 - x0) == pytest.approx(at[-3][0], abs=0.3)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("colour probe", "colour"),
        ("suppression of shape", "shape"),
        ("suppression: size", "size"),
        ("hue suppression", "hue"),
        ("knn", None),
    ],
)
def test_names_of_numbers_about_a_factor(name, factor):
    match = across.FACTOR.match(name)
    assert (match and (match["a"] or match["b"])) == factor


def test_a_site_without_runs_is_refused_by_name(tmp_path, monkeypatch):
    """The message names the notebooks that lack a run and how to make one; a run that ended badly does not count."""
    folder = tmp_path / "notebooks" / "01-geometry"
    folder.mkdir(parents=True)
    empty = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    (folder / "mochi.ipynb").write_text(empty)
    (folder / "swav.ipynb").write_text(empty)
    monkeypatch.setenv("WORKBENCH_NOTEBOOKS", str(tmp_path / "notebooks"))
    runs = tmp_path / "runs"
    with pytest.raises(WorkbenchError, match="no finished run"):
        gather(runs)
    there = runs / "ci" / "01-geometry"
    there.mkdir(parents=True)
    for slug, status in (("mochi", "ok"), ("swav", "failed")):
        (there / f"{slug}.ipynb").write_text(empty)
        ran = records.Record(slug, "01-geometry", "ci", {}, status, 1.0, "2026-01-01", {}, notebook=f"{slug}.ipynb")
        records.write_record(ran, runs)
    with pytest.raises(WorkbenchError, match=r"1 notebooks .* swav; run them with: workbench run swav"):
        gather(runs)
    assert [e.slug for e in gather(runs, partial=True)] == ["mochi"]


def test_cards_are_read():
    front, body = cards.split_card("---\nname: a\nrows: 3\n---\n\n# a\n\nThree rows\nof things.\n\n## More\n")
    assert front == {"name": "a", "rows": 3} and cards.first_paragraph(body) == "Three rows of things."


def test_icons_that_no_page_uses_lose_their_outline():
    """Used ones, also by an older name, stay; the script keeps its shape."""
    script = 'x={"sun":[5,6,[9728],"f185","M1z"],moon:[3,5,[127769,"night"],"f186","M2z"],dog:[2,2,[],"f6d3",["M3z","M4z"]]}'
    assert thin_icons(script, {"sun", "night"}) == script.replace('["M3z","M4z"]', '""')
    assert thin_icons(script, set()).count('""') == 3
