"""Writes what the site is made from beside the pages written by hand: executed notebooks, cards, reference, fragments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from workbench.book import across, cards, pictures, tables
from workbench.book.api import api_pages
from workbench.book.gather import Executed
from workbench.book.notebooks import clean_notebook, page_notebook
from workbench.papers.catalogue import PARTS

MADE = ("notebooks", "cards", "reference", "made")  # folders of the book that are written here and never committed
HERO = ("contrastive-loss-behaviour", "on_a_sphere(")  # the notebook and the code of the figure on the landing page


class Writer:
    """Writes files below the book and knows which ones; a file with the same content is left alone, so builds are incremental."""

    def __init__(self, book: Path):
        self.book, self.written = book, set[Path]()

    def __call__(self, name: str, content: str | bytes) -> None:
        """Write one file, by its path below the book."""
        path = self.book / name
        data = content.encode() if isinstance(content, str) else content
        self.written.add(path)
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def tidy(self) -> None:
        """Remove what an earlier build wrote and this one did not."""
        for folder in MADE:
            for path in (self.book / folder).rglob("*"):
                if path.is_file() and path not in self.written:
                    path.unlink()


def write_pages(book: Path, found: Sequence[Executed]) -> None:
    """Write all generated sources of the site.

    Args:
        book: the folder with `_config.yml` and `_toc.yml`.
        found: the executed notebooks.
    """
    write = Writer(book)
    there = {f"{executed.part}/{executed.slug}" for executed in found}
    for executed in found:
        write(f"{executed.page}.ipynb", json.dumps(page_notebook(executed, there), ensure_ascii=False))
        write(f"made/site/download/{executed.part}/{executed.slug}.ipynb", clean_notebook(executed))
        if figures := pictures.figures_of(executed.content):
            write(f"made/site/_static/thumbs/{executed.slug}.webp", pictures.thumbnail(figures[0]))
    if hero := hero_figure(found):
        write("made/hero.png", hero)
    for part in PARTS:
        write(f"made/parts/{part}.md", tables.part_map(part, found))
    write("made/tools.md", tables.part_map("diagnose", found))
    write("made/counts.md", tables.counts(found))
    write("made/newest.md", tables.newest(found))
    write("made/parts.md", tables.parts_table(found))
    write("made/scoreboard.md", tables.scoreboard(found))
    write("made/bibliography.md", tables.bibliography(found))
    write("made/site/download/references.bib", tables.bibtex())
    write_charts(write, found)
    pages, grid = cards.data_pages()
    for name, page in pages.items():
        write(f"cards/data/{name}.md", page)
    write("made/data.md", grid)
    model_pages, curves, table = cards.model_pages()
    for name, page in model_pages.items():
        write(f"cards/models/{name}.md", page)
    for name, curve in curves.items():
        write(f"cards/models/{name}-curve.svg", curve)
    write("made/models.md", table)
    write_data_files(write)
    for name, page in api_pages().items():
        write(f"reference/{name}.md", page)
    write.tidy()


def write_charts(write: Writer, found: Sequence[Executed]) -> None:
    """The charts and tables of the page across papers."""
    plane = across.points(found, "uniformity", "alignment")
    gap = across.points(found, "modality gap", across.RETRIEVAL)
    chart = across.scatter(plane, x="uniformity", y="alignment", title="All models: uniformity against alignment", name="plane")
    write("made/plane.md", chart)
    title = "Models of two modalities: gap against retrieval"
    write("made/gap.md", across.scatter(gap, x="modality gap", y=across.RETRIEVAL, title=title, name="gap"))
    write("made/factors.md", across.factor_table(found))
    write("made/all-models.md", across.model_table(found))


def write_data_files(write: Writer) -> None:
    """Sheets of samples of the data sets, and the names of authors that licences ask for."""
    from workbench.data.files import data_dir

    for sheet in ("thumbnails.webp", "thumbnails-stamps.webp"):
        if (data_dir() / sheet).exists():
            write(f"made/{sheet}", (data_dir() / sheet).read_bytes())
    for path in data_dir().glob("*/ATTRIBUTION.md"):
        write(f"made/site/download/{path.parent.name}-ATTRIBUTION.txt", path.read_bytes())


def hero_figure(found: Sequence[Executed]) -> bytes | None:
    """The figure of the landing page: three losses on the sphere, or the first figure there is."""
    slug, code = HERO
    chosen = [figure for e in found if e.slug == slug for figure in pictures.figures_of(e.content, code)]
    chosen = chosen or [figure for e in found for figure in pictures.figures_of(e.content)[:1]]
    return chosen[-1] if chosen else None
