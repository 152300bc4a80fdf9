"""The index page: every notebook with its verdicts; escaped, whole in one file, and readable on a phone."""

import base64
import io
import re

import pytest
from PIL import Image

from workbench.batch.html import export_thumbnail
from workbench.batch.index import index_page, write_index
from workbench.batch.progress import Board
from workbench.batch.records import Record, read_records, write_record
from workbench.papers import find_paper, judge

PAPER = find_paper("contrastive-loss-behaviour")
EVIL = "<script>alert('x')</script>\"&"


@pytest.fixture
def folder(tmp_path):
    """A paper with verdicts and a picture, a failure over a good run, a sweep, and names that try to be HTML."""
    claims = [
        vars(judge(c, v, slug=PAPER.slug, preset="ci")) for c, v in zip(PAPER.claims, ([0.9, 0.91], [0.0, 0.9]), strict=False)
    ]
    figure = {"cells": [{"outputs": [{"data": {"image/png": _png(1200, 700)}}]}]}
    (tmp_path / "ci" / PAPER.part).mkdir(parents=True)
    export_thumbnail(figure, tmp_path / "ci" / PAPER.part / "p.png")
    common = {"fingerprint": {}, "environment": {"device": "cpu"}, "memory_mb": 512.0}

    def add(slug, status="ok", day=1, parameters=None, **more):
        made = Record(slug, PAPER.part, "ci", parameters or {}, status, 61.0, f"2026-01-0{day}", **{**common, **more})
        write_record(made, tmp_path)

    add(PAPER.slug, claims=claims, html="p.html", thumb="p.png")
    add("broken", html="broken.html", metrics={"m": [1.0]})
    add(
        "broken",
        "timeout",
        2,
        error=f"over its limit {EVIL}",
        notebook="broken.timeout.ipynb",
        log="broken.timeout.log",
        earlier=["x"],
    )
    for i in range(30):
        add("swept", parameters={"tau": 0.1 * i, "word": EVIL + "long" * 20}, metrics={EVIL: [1.0, 2.0]}, html=f"s{i}#?.html")
    return tmp_path


def _png(width, height):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_index_shows_every_run_and_is_escaped_and_whole(folder):
    page = write_index(folder).read_text()
    assert PAPER.title in page and "32 runs" in page and "1 did not" in page and "reproduced" in page
    assert "time limit" in page and "last good run, 2026-01-01" in page and "attempt 2" in page and "30 points" in page
    assert "1:01" in page and "512 MB" in page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page) and page.count('src="data:image/png;base64,') == 1
    assert 'href="ci/01-geometry/s0%23%3F.html"' in page  # a name with # and ? still leads there
    assert index_page(read_records(folder), folder) == page


def test_thumbnails_are_small_and_optional(tmp_path):
    export_thumbnail({"cells": [{"outputs": [{"data": {"image/png": _png(2000, 1000)}}]}]}, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (480, 240) and (tmp_path / "a.png").stat().st_size < 30_000
    export_thumbnail({"cells": [{"outputs": [{"data": {"text/plain": "1"}}]}]}, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


@pytest.mark.browser
def test_index_fits_a_phone(folder, page):
    """At 375 pixels nothing is wider than the screen, the text is not small, and nothing is asked from the network."""
    target = write_index(folder)
    page.set_viewport_size({"width": 375, "height": 700})
    page.goto(target.as_uri())
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.small')).fontSize)") >= 12
    assert page.evaluate("document.querySelector('img').naturalWidth") == 480
    assert not page.problems and all(a.startswith(("file:", "data:")) for a in page.asked)


# ---- progress ----------------------------------------------------------------------------------------------------------------


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    """At 30 s, then at doubling distances up to ten minutes: five hours of one notebook are some 35 lines, each plain text."""
    said, now = [], [0.0]
    with Board(said.append, now=lambda: now[0]) as board:
        board.update("mochi", {"attempt": 1})
        for second in range(5 * 3600):
            now[0] = float(second)
            board.update("mochi", {"cell": 3, "cells": 12, "memory": 512.4})
        board.update("mochi", {"retry": "killed: x"})
        board.end("mochi")
    assert said[0] == "  running    mochi  cell 3/12      0:30     512 MB"
    assert 20 < len(said) < 40 and "4:5" in said[-2] and said[-1] == "  RETRY      mochi  killed: x"
    assert not any("\r" in line or "\x1b" in line for line in said)


def test_a_terminal_shows_the_running_notebooks_live(monkeypatch, capsys):
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    with Board() as board:
        board.update("mochi", {"attempt": 2, "cell": 1, "cells": 4, "memory": 80})
        board._live.refresh()
        board.print("  done       other")
    shown = sys.stdout.getvalue()
    assert "cell 1/4" in shown and "(attempt 2)" in shown and "done       other" in shown and "\x1b[" in shown


def test_jupyter_updates_one_text(monkeypatch):
    """In a kernel the running lines are one output that is replaced, not a growing list."""
    import IPython.display

    from workbench.batch import progress

    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    monkeypatch.setattr(progress, "_in_jupyter", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: Handle())
    with Board() as board:
        board.update("mochi", {"cell": 1, "cells": 4, "memory": 80})
        board.update("swav", {"cell": 2, "cells": 9})
        assert shown[-1].splitlines()[0].startswith("  running    mochi") and "cell 2/9" in shown[-1].splitlines()[1]
    assert shown[-1] == ""
