"""The built site in a real browser, from small executed notebooks: no errors, nothing from outside, and everything works."""

import functools
import http.server
import json
import re
import shutil
import threading
from pathlib import Path

import nbformat
import pytest

from workbench.batch import records
from workbench.batch.notebooks import ROOT
from workbench.book import build_book
from workbench.book.pages import MADE
from workbench.papers import load_catalogue

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SLUG = "contrastive-loss-behaviour"
WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "x", "version_major": 2, "version_minor": 0}}


def bundle(thing, **more):
    """An output as a kernel would keep it."""
    import base64
    import io

    from matplotlib.figure import Figure

    data = thing._repr_mimebundle_() if hasattr(thing, "_repr_mimebundle_") else {}
    if isinstance(thing, Figure):
        from workbench.plots.style import describe_figure

        stream = io.BytesIO()
        thing.savefig(stream, dpi=60)
        size = {"width": int(thing.get_figwidth() * 100), "height": int(thing.get_figheight() * 100)}
        data |= {"image/png": base64.b64encode(stream.getvalue()).decode(), "text/plain": describe_figure(thing)}
        return nbformat.v4.new_output("display_data", data={**data, **more}, metadata={"image/png": size})
    return nbformat.v4.new_output("display_data", data={**data, **more})


def executed_notebook():
    """Formulas, figures, a dashboard, an explorer, a progress bar, claims and a folded solution: all that notebooks have."""
    import torch

    from workbench import plots
    from workbench.papers import report_claims

    v4, generator = nbformat.v4, torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 60, 8, generator=generator)
    models = {"cold": (x, x + 0.3 * y), "hot": (x, x + 0.6 * y), "none": (x, y)}
    probe = {"colour probe": {"cold": 0.9, "hot": 0.4, "none": 0.1}}
    dashboard = plots.geometry_dashboard(models, pair_names=("picture", "name"), extra=probe, title="Cold wins")
    values = {c.id: [0.2, 0.21, 0.22] for c in load_catalogue()[SLUG].claims}
    claims = report_claims(SLUG, values, preset="ci")
    still = bundle(dashboard)["data"]["image/png"]
    cells = [
        v4.new_markdown_cell("# Cold and hot\n\nInline $x_i^2$ and\n\n$$L = -\\log \\frac{e^{s/\\tau}}{\\sum_k e^{s_k/\\tau}}$$"),
        v4.new_code_cell('preset = "ci"', metadata={"tags": ["parameters"]}),
        v4.new_markdown_cell("## The geometry\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
        v4.new_code_cell("plots.geometry_dashboard(models)", outputs=[bundle(dashboard)]),
        v4.new_code_cell("explorer(draw)", outputs=[v4.new_output("display_data", data={**WIDGET, "image/png": still})]),
        v4.new_code_cell(
            "tqdm()", outputs=[v4.new_output("display_data", data=WIDGET), v4.new_output("stream", name="stderr", text="9 %")]
        ),
        v4.new_code_cell("report_claims()", outputs=[bundle(claims)]),
        v4.new_markdown_cell("<details><summary>Solution</summary>\n\n```python\nanswer = 42\n```\n\n</details>"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"c{number}"
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "widgets": {"state": {}}}
    return v4.new_notebook(cells=cells, metadata=kernel), claims.records()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    book = root / "book"
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("_build", *MADE))
    notebook, claims = executed_notebook()
    for part, slug in (("00-start", "tour"), ("01-geometry", SLUG)):
        source, there = root / "notebooks" / part, root / "runs" / "ci" / part
        source.mkdir(parents=True)
        there.mkdir(parents=True)
        for path in (source / f"{slug}.ipynb", there / f"{slug}.ipynb"):
            path.write_text(json.dumps(notebook))
        judged = claims if slug == SLUG else []
        ran = records.Record(
            slug, part, "ci", {}, "ok", 31.0, "2026-01-02T03:04:05+00:00", {}, notebook=f"{slug}.ipynb", claims=judged
        )
        records.write_record(ran, root / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_NOTEBOOKS", str(root / "notebooks"))
        built = build_book(root / "runs", book)
    return built


@pytest.fixture(scope="module")
def folder(site):
    return site.index.parent


@pytest.fixture(scope="module")
def server(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()


def page_names(folder):
    pages = [p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.html")]
    return sorted(name for name in pages if not name.startswith(("_static/", "genindex")))


def test_the_build_says_what_it_made(site):
    """Two notebooks, no warnings, and a size with room for forty times as many notebooks."""
    assert [e.slug for e in site.notebooks] == ["tour", SLUG]
    assert site.warnings == []
    assert site.megabytes < 20


def test_every_page_at_phone_width(folder, page):
    """No console error, no request outside, no picture without words or without pixels, one title, nothing wider than the screen."""
    names = page_names(folder)
    wanted = {
        "index",
        "scoreboard",
        "across",
        "data",
        "models",
        "metrics",
        "glossary",
        "bibliography",
        "cite",
        "benchmarks",
        "diagnose",
    }
    wanted |= {
        f"notebooks/01-geometry/{SLUG}",
        "reference/losses",
        "cards/data/emoji",
        "cards/models/lit-bridge",
        "parts/09-other-modalities",
    }
    assert wanted <= set(names)
    page.set_viewport_size({"width": 390, "height": 844})
    bad = {}
    for name in names:
        page.problems.clear()
        page.asked.clear()
        page.goto((folder / f"{name}.html").as_uri())
        found = page.evaluate(
            """() => ({
              broken: [...document.images].filter(i => i.loading !== 'lazy' && !(i.complete && i.naturalWidth)).map(i => i.src),
              wordless: [...document.querySelectorAll('.bd-article img')].filter(i => !i.hasAttribute('alt') || (!i.alt && !i.closest('a.wb-card'))).map(i => i.src),
              titles: document.querySelectorAll('.bd-article h1').length,
              wide: document.documentElement.scrollWidth > 391,
            })"""
        )
        found["outside"] = [a for a in page.asked if not a.startswith(("file:", "data:"))]
        found["problems"] = list(page.problems)
        found["titles"] = found["titles"] != 1 and name != "search"
        if any(found.values()):
            bad[name] = {k: v for k, v in found.items() if v}
    assert bad == {}


def test_no_page_names_a_script_style_or_font_elsewhere(folder):
    """Also not in what a browser would load later: script, link, import and url() name only files of the site."""
    pattern = re.compile(
        r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?https?://[^\"' >]+|url\([\"']?https?:[^)]+|@import [\"']https?:[^;]+"
    )
    found = {p.name: m for p in folder.rglob("*") if p.suffix in (".html", ".css") and (m := pattern.findall(p.read_text()))}
    assert found == {}


def test_page_weight(folder, server, page):
    """Each kind of page with all it loads stays below 3 MB."""
    for name in ("index", "scoreboard", f"notebooks/01-geometry/{SLUG}", "reference/metrics", "data", "search"):
        page.asked.clear()
        page.goto(f"{server}/{name}.html", wait_until="networkidle")
        files = {address.split("?")[0].removeprefix(server) for address in page.asked if address.startswith(server)}
        sizes = [(folder / file.lstrip("/")).stat().st_size for file in files]
        assert len(sizes) > 5 and sum(sizes) < 3e6, (name, sum(sizes))


def test_formulas_figures_and_stills_of_a_notebook(folder, page):
    """Fractions are two-dimensional; figures are WebP with the words of the figure; an explorer is a still picture that says so."""
    page.goto((folder / f"notebooks/01-geometry/{SLUG}.html").as_uri())
    assert page.locator("math").count() == 2 and "$" not in page.locator(".bd-article").inner_text()
    top, bottom = (page.locator("mfrac > *").nth(i).bounding_box() for i in (0, 1))
    assert top["y"] + top["height"] <= bottom["y"] + 2
    images = page.locator(".cell_output img")
    assert images.count() == 2 and images.first.get_attribute("src").endswith(".webp")
    assert images.first.get_attribute("alt").startswith("Figure. Cold wins. cold. hot. none.")
    stretched = "i => (i.clientWidth / i.clientHeight) / (i.naturalWidth / i.naturalHeight)"
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert images.first.evaluate(stretched) == pytest.approx(1, abs=0.02), "a figure keeps its shape"
    assert page.locator(".wb-still").count() == 1 and page.locator("script[type*=widget]").count() == 0
    assert page.locator("table.claims").count() == 1 and "9 %" not in page.locator(".bd-article").inner_text()
    assert "reproduced" in page.locator(".wb-run").inner_text()
    page.locator("summary", has_text="Solution").click()
    assert page.locator("details code, details pre").first.is_visible()
    link = page.locator(".wb-run a[download]").evaluate("a => a.href")
    clean = json.loads(Path(link.removeprefix("file://")).read_text())
    assert len(clean["cells"]) == 8 and not any(c.get("outputs") for c in clean["cells"])


def test_the_scoreboard_sorts_and_filters(folder, page):
    """All 83 headlines; sorting follows the numbers both ways, what is missing stays last; filters narrow, all claims widen."""
    page.goto((folder / "scoreboard.html").as_uri())
    visible = page.locator("#wb-scores tbody tr:visible")
    assert visible.count() == len(load_catalogue()) == 83
    first = visible.first.inner_text()
    assert "+0.21 [+0.185, +0.235]" in first and "reproduced" in first and "3 seeds" in first
    page.locator("#wb-scores th button", has_text="paper").first.click()
    titles = page.locator("#wb-scores tbody tr:visible td:first-child").evaluate_all("cells => cells.map(c => c.dataset.sort)")
    assert titles == sorted(titles, key=str.lower) or titles[0].startswith("2D")
    button = page.locator("#wb-scores th button", has_text="our effect")
    for direction in ("ascending", "descending"):
        button.focus()
        page.keyboard.press("Enter")
        assert button.locator("xpath=..").get_attribute("aria-sort") == direction
        assert "+0.21" in visible.first.inner_text()
    page.locator("select[name=verdict]").select_option("reproduced")
    assert visible.count() == 1 and page.locator("output").inner_text() == "1 claim"
    page.locator("input[name=all]").check()
    assert visible.count() == len(load_catalogue()[SLUG].claims) > 1
    page.locator("select[name=verdict]").select_option("")
    page.locator("input[name=text]").fill("modality gap")
    assert 0 < visible.count() < 20 and "Gap" in "".join(visible.all_inner_texts())
    page.locator("select[name=part]").select_option("01-geometry")
    assert visible.count() == 0


def test_the_scoreboard_reads_without_scripts(folder, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "scoreboard.html").as_uri())
    assert page.locator("#wb-scores tbody tr:visible").count() == 83
    context.close()


def test_models_of_all_notebooks_meet_in_one_plane(folder, page):
    """Three models in each of two notebooks: six marks a chart, reached with the keyboard, that say their numbers and lead on."""
    page.goto((folder / "across.html").as_uri())
    assert page.locator("#plane svg a").count() == 6 and page.locator("#gap svg a").count() == 6
    mark = page.locator("#plane svg a[data-label*='cold'][data-label*='contrastive']")
    mark.focus()
    assert "uniformity" in page.locator("#plane .wb-said").inner_text()
    x = {name: page.locator(f"#gap svg a[data-label^='{name}'] text").first.bounding_box() for name in ("cold", "none")}
    assert x["cold"]["y"] < x["none"]["y"], "better retrieval stands higher"
    assert page.locator(".wb-bar").count() == 6
    page.locator("#plane svg a[data-label*='cold'][data-label*='contrastive']").press("Enter")
    page.wait_for_url(f"**/notebooks/01-geometry/{SLUG}.html")


@pytest.mark.parametrize("served", [True, False])
def test_search_finds_the_modality_gap(served, folder, server, page):
    """Served, results come with a piece of the page; from a folder with titles. Both without an error or a request outside."""
    start = server if served else folder.as_uri()
    page.goto(f"{start}/search.html?q=modality+gap")
    for title in ("Metrics", "Glossary"):  # they come one after the other
        page.locator("#search-results li", has_text=title).first.wait_for(timeout=15_000)
    found = page.locator("#search-results").inner_text()
    assert "Metrics" in found and "Glossary" in found
    if served:
        page.locator("#search-results p.context").first.wait_for(timeout=15_000)
    assert page.problems == [] and [a for a in page.asked if not a.startswith((start, "data:"))] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_in_both_themes(theme, folder, browser):
    """Text against the nearest painted background has at least 4.5 to 1 (WCAG 2 AA), code and verdicts included."""
    context = browser.new_context(color_scheme=theme)
    page = context.new_page()
    for name in ("index", "scoreboard", "across", f"notebooks/01-geometry/{SLUG}"):
        page.goto((folder / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        poor = page.evaluate(
            """() => {
              const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
              const light = c => { const f = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                                   return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
              const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > .5) return c; } return [255, 255, 255, 1]; };
              const poor = [];
              for (const e of document.querySelectorAll('.bd-article p, .bd-article a, .bd-article td, .wb-verdict, .bd-article small, .bd-article code, .highlight span, .bd-links a')) {
                if (!e.innerText?.trim() || !e.checkVisibility() || e.closest('.headerlink')) continue;
                const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
                const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
                if (ratio < 4.5) poor.push([e.className || e.tagName, e.innerText.slice(0, 20), ratio.toFixed(2)]);
              }
              return poor;
            }"""
        )
        assert poor == [], (name, poor[:5])
    context.close()
