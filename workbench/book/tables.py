"""Fragments of pages that come from the catalogue and the runs: scoreboard, map of a part, bibliography, landing page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from workbench.book.gather import Executed
from workbench.book.notebooks import MARKS, verdict
from workbench.papers import Paper, load_catalogue
from workbench.papers.catalogue import PARTS
from workbench.papers.claims import ClaimResult, format_effect, format_wanted, interval_svg

PLANNED = "planned"
COLUMNS = ("paper", "claim", "our effect, 95 % interval", "the paper", "verdict", "preset")


def by_slug(found: Sequence[Executed]) -> dict[str, Executed]:
    """The executed notebooks of papers."""
    return {e.slug: e for e in found if e.paper}


def scoreboard(found: Sequence[Executed]) -> str:
    """The table of all claims of all papers, headlines first in view; site.js sorts and filters it."""
    done, rows = by_slug(found), []
    for paper in load_catalogue().values():
        executed = done.get(paper.slug)
        judged = {c["claim"]: c for c in executed.record.claims} if executed else {}
        for claim in paper.claims:
            rows.append(_score_row(paper, claim, executed, judged.get(claim.id)))
    options = "".join(f'<option value="{p}">{escape(t)}</option>' for p, t in PARTS.items() if p != "00-start")
    verdicts = "".join(f"<option>{v}</option>" for v in (*MARKS, PLANNED))
    form = (
        '<form class="wb-filter" data-table="wb-scores">'
        '<label>Find <input type="search" name="text" placeholder="paper, claim, author"></label>'
        f'<label>Part <select name="part"><option value="">all</option>{options}</select></label>'
        f'<label>Verdict <select name="verdict"><option value="">all</option>{verdicts}</select></label>'
        '<label><input type="checkbox" name="all"> all claims, not only the headlines</label>'
        '<output aria-live="polite"></output></form>'
    )
    head = "".join(f"<th>{c}</th>" for c in COLUMNS)
    return (
        f'{form}<div class="wb-scroll"><table id="wb-scores" class="wb-table wb-sort wb-cards"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _score_row(paper: Paper, claim: Any, executed: Executed | None, judged: dict[str, Any] | None) -> str:
    name = f'<a href="{executed.page}.html">{escape(paper.title)}</a>' if executed else escape(paper.title)
    first = f'{name}<br><small>{escape(paper.venue)} {paper.year} · <a href="{paper.link}">arXiv {paper.arxiv}</a></small>'
    statement = escape(claim.statement)
    if judged:
        result = ClaimResult(**judged)
        relative = result.effect / abs(result.min_effect) if result.min_effect else result.effect
        # Effects have different units: sorted by how many times the wanted minimum effect they are.
        effect = (
            f"{interval_svg(result)}<br>{escape(format_effect(result))}"
            f"<br><small>wanted {escape(format_wanted(result))}, {len(result.values)} seeds</small>"
        )
        outcome, preset = result.verdict, result.preset
        reason = f"<br><small><i>{escape(result.reason)}</i></small>" if result.reason and outcome != "reproduced" else ""
        sort = f"{relative:.6g}"
    else:
        effect, sort, preset, reason = "–", "", "–", ""
        outcome = PLANNED
    cells = (
        (first, paper.title),
        (statement + reason, claim.statement),
        (effect, sort),
        (escape(claim.paper_value), claim.paper_value),
        (verdict(outcome), str((*MARKS, PLANNED).index(outcome))),
        (escape(preset), preset),
    )
    columns = "".join(
        f'<td data-label="{label}" data-sort="{escape(str(key))}">{cell}</td>'
        for label, (cell, key) in zip(COLUMNS, cells, strict=True)
    )
    hidden = "" if claim.headline else " hidden"
    find = escape(f"{paper.title} {paper.authors} {paper.slug} {claim.id} {claim.statement}".lower())
    return (
        f'<tr data-part="{paper.part}" data-verdict="{outcome}" data-headline="{int(claim.headline)}" data-find="{find}"{hidden}>'
        f"{columns}</tr>"
    )


def counts(found: Sequence[Executed]) -> str:
    """How many papers there are, how many are measured, and with which outcome."""
    headlines = [e.headline["verdict"] for e in by_slug(found).values() if e.headline]
    total = len(load_catalogue())
    parts = [f"{headlines.count(name)} {verdict(name)}" for name in MARKS]
    return (
        f'<p class="wb-counts"><b>{total}</b> papers, <b>{len(headlines)}</b> of them measured so far; headline claims: '
        f"{', '.join(parts)}; {total - len(headlines)} {verdict(PLANNED)}.</p>"
    )


def part_map(part: str, found: Sequence[Executed]) -> str:
    """Cards of a part's notebooks, then of the papers still to be written."""
    here = [e for e in found if e.part == part]
    done = by_slug(found)
    papers = [p for p in load_catalogue().values() if p.part == part]
    ordered = [done[p.slug] for p in papers if p.slug in done] + sorted(
        (e for e in here if not e.paper), key=lambda e: e.slug != "tour"
    )
    cards = "".join(_card(e, "../") for e in ordered)
    text = f'<div class="wb-grid">{cards}</div>' if cards else ""
    waiting = [p for p in papers if p.slug not in done]
    if waiting:
        items = "".join(
            f'<li><a href="{p.link}">{escape(p.title)}</a> <small>{escape(p.venue)} {p.year}</small><br>'
            f"<small>{escape(p.headline.statement)}</small></li>"
            for p in waiting
        )
        text += f'\n\n## Planned\n\nIn the catalogue with their claims; no notebook yet.\n\n<ul class="wb-planned">{items}</ul>'
    return text


def _card(executed: Executed, up: str, words: str = "") -> str:
    paper, headline = executed.paper, executed.headline
    source = f"<small>{escape(paper.title)} · {escape(paper.venue)} {paper.year}</small>" if paper else ""
    result = ""
    if headline:
        effect = escape(format_effect(ClaimResult(**headline)))
        result = f"<p>{escape(headline['statement'])}</p><p>{verdict(headline['verdict'])} <small>{effect}</small></p>"
    picture = f'<img src="{up}_static/thumbs/{executed.slug}.webp" alt="" loading="lazy">'
    return (
        f'<a class="wb-card" href="{up}{executed.page}.html">{picture}<div><b>{escape(_plain(executed.title))}</b><br>{source}'
        f"{result or words}</div></a>"
    )


def newest(found: Sequence[Executed], count: int = 6) -> str:
    """Cards for the landing page: one measured paper of each part in turn."""
    queue: dict[str, list[Executed]] = {}
    for executed in by_slug(found).values():
        queue.setdefault(executed.part, []).append(executed)
    chosen: list[Executed] = []
    while len(chosen) < count and any(queue.values()):
        for rest in queue.values():
            if rest and len(chosen) < count:
                chosen.append(rest.pop(0))
    return f'<div class="wb-grid">{"".join(_card(e, "") for e in chosen)}</div>'


def parts_table(found: Sequence[Executed]) -> str:
    """The parts with how many papers of each are measured; for the landing page."""
    rows = []
    for part, title in PARTS.items():
        papers = [p for p in load_catalogue().values() if p.part == part]
        done = sum(e.part == part for e in found)
        total = max(len(papers), done)
        rows.append(f"| [{title}](parts/{part}.md) | {done} of {total} |")
    return "\n".join(["| part | notebooks |", "|---|---|", *rows])


def bibliography(found: Sequence[Executed]) -> str:
    """All papers of the catalogue, by part and year."""
    done, text = by_slug(found), []
    for part, title in PARTS.items():
        papers = sorted((p for p in load_catalogue().values() if p.part == part), key=lambda p: (p.year, p.title))
        if papers:
            text.append(f"## {title}\n")
        for p in papers:
            here = f" · [notebook](notebooks/{part}/{p.slug}.ipynb)" if p.slug in done else ""
            text.append(f"- {p.authors} ({p.year}). **{p.title}.** {p.venue}. [arXiv {p.arxiv}]({p.link}){here}")
        text.append("")
    return "\n".join(text)


def bibtex() -> str:
    """The same as BibTeX."""
    entries = []
    for p in load_catalogue().values():
        authors = " and ".join(a.strip() for a in p.authors.split(","))
        fields = {"title": f"{{{p.title}}}", "author": authors, "year": p.year, "howpublished": p.venue, "eprint": p.arxiv}
        fields |= {"archiveprefix": "arXiv", "url": p.link}
        lines = ",\n".join(f"  {k} = {{{v}}}" for k, v in fields.items())
        entries.append(f"@misc{{{p.slug},\n{lines}\n}}")
    return "\n\n".join(entries) + "\n"


def _plain(title: str) -> str:
    return title.replace("`", "").replace("$", "")
