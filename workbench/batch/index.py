"""The page of a run folder: every notebook with a picture, its verdicts, time and memory; needs nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from workbench.batch.progress import clock
from workbench.batch.records import Record, read_records, write_atomic
from workbench.papers import load_catalogue
from workbench.papers.catalogue import PARTS
from workbench.papers.claims import ClaimResult, format_effect

INDEX = "index.html"
MARKS = {"reproduced": ("✔", "good"), "not reproduced": ("✘", "bad"), "inconclusive": ("?", "open")}
ENDED = {"failed": "a cell failed", "killed": "killed", "timeout": "time limit", "memory": "memory limit", "stopped": "stopped"}
STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #00694f; --bad: #b03a00; --open: #5f5f5f; }
@media (prefers-color-scheme: dark) { :root { --good: #4cc9a4; --bad: #ff9d6b; --open: #b5b5b5; } }
* { box-sizing: border-box; }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .2em 0; } h2 { font-size: 1.15rem; margin: 1.6em 0 .5em; }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); align-items: start; }
.card { border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; padding-bottom: .6rem; }
.card > * { margin: .4rem .8rem; overflow-wrap: anywhere; }
.card > a.picture { margin: 0; display: block; background: #fff; }
.card img { display: block; width: 100%; height: 9rem; object-fit: contain; }
.card img.sweep { height: auto; }
.name { font-weight: 600; } .small { font-size: .85rem; } ul { padding: 0; list-style: none; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .85rem; }
td, th { text-align: left; padding: .15rem .6rem .15rem 0; vertical-align: top; }
"""


def write_index(out: Path) -> Path:
    """Write `index.html` of a run folder from its records."""
    write_atomic(out / INDEX, index_page(read_records(out), out))
    return out / INDEX


def index_page(records: Sequence[Record], out: Path) -> str:
    """The page as text. A notebook whose last run ended badly shows that run, and links the last good one."""
    last: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        last.setdefault((record.preset, record.part, record.name), []).append(record)
    groups: dict[tuple[str, str], dict[str, list[list[Record]]]] = {}
    for (preset, part, _), runs in last.items():
        slugs = groups.setdefault((preset, part), {})
        slugs.setdefault(runs[0].slug, []).append(sorted(runs, key=lambda r: r.started, reverse=True))
    newest = [runs[0] for slugs in groups.values() for several in slugs.values() for runs in several]
    bad = sum(not r.ok for r in newest)
    verdicts = [c["verdict"] for r in newest if not r.parameters for c in r.claims]
    summary = f"{len(newest)} runs, {len(newest) - bad} finished" + (f', <b class="bad">{bad} did not</b>' if bad else "")
    for verdict, (sign, kind) in MARKS.items():
        if verdict in verdicts:
            summary += f' · <span class="{kind}">{sign} {verdicts.count(verdict)} {verdict}</span>'
    body = "".join(
        f"<h2>{escape(PARTS.get(part, part))} · preset {escape(preset)}</h2><div class='cards'>"
        + "".join(_card(several, out) for several in slugs.values())
        + "</div>"
        for (preset, part), slugs in groups.items()
    )
    title = f"Results in {out.resolve().name}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{summary}</p>{body}</body></html>\n"
    )


def _card(several: list[list[Record]], out: Path) -> str:
    """One notebook: its run with default parameters, and its sweep."""
    plain = next((runs for runs in several if not runs[0].parameters), None)
    swept = [runs for runs in several if runs[0].parameters]
    shown = plain or swept[0]
    record = shown[0]
    paper = load_catalogue().get(record.slug)
    folder = f"{record.preset}/{record.part}/"
    parts = []
    page = next((folder + r.html for r in shown if r.html), None)
    if plain:
        thumb = next((folder + r.thumb for r in plain if r.thumb), None)
        parts.append(_picture(out, thumb, page or thumb, "first figure"))
    parts.append(f'<p class="name">{_link(page if plain else None, paper.title if paper else record.slug)}</p>')
    if plain:
        parts.append(f'<p class="small">{_how(record)}</p>')
        if not record.ok:
            parts.append(f'<p class="small bad">{escape(record.error or "")}</p>')
            files = [(record.notebook, "partial notebook"), (record.html, "partial page"), (record.log, "log")]
            files += [(r.html, f"last good run, {r.started[:10]}") for r in plain[1:] if r.ok]
            parts.append(f'<p class="small">{" · ".join(_link(folder + f, text) for f, text in files if f)}</p>')
        parts.append(f"<ul>{''.join(map(_verdict, record.claims))}{_metrics(record)}</ul>")
    if swept:
        plot = f"{folder}{record.slug}.sweep.png"
        parts.append(_picture(out, plot, plot, "sweep", "sweep"))
        rows = "".join(_row(runs[0], folder) for runs in swept)
        parts.append(f"<details><summary>{len(swept)} points</summary><table>{rows}</table></details>")
    return f"<section class='card'>{''.join(parts)}</section>"


def _row(record: Record, folder: str) -> str:
    where = ", ".join(f"{k}={v}" for k, v in record.parameters.items())
    file = record.html or record.notebook or record.log
    found = "".join(map(_verdict, record.claims)) + _metrics(record) if record.ok else escape(record.error or "")
    return f"<tr><td>{_link(file and folder + file, where)}</td><td>{_how(record)}</td><td><ul>{found}</ul></td></tr>"


def _how(record: Record) -> str:
    status = "" if record.ok else f'<b class="bad">{ENDED[record.status]}</b> · '
    memory = f" · {record.memory_mb:.0f} MB" if record.memory_mb else ""
    tries = f" · attempt {len(record.earlier) + 1}" if record.earlier else ""
    device = record.environment.get("device")
    return f"{status}{clock(record.seconds)}{memory}{tries}" + (f" · {escape(str(device))}" if device else "")


def _verdict(claim: dict) -> str:
    sign, kind = MARKS.get(claim["verdict"], ("", "open"))
    surprise = "" if claim.get("expected") in (None, claim["verdict"]) else f" (expected: {claim['expected']})"
    try:
        effect = f" {format_effect(ClaimResult(**claim))}"
    except TypeError:  # written by a version with other fields
        effect = ""
    name = escape(str(claim.get("claim", "")))
    name = f"<b>{name}</b>" if claim.get("headline") else name
    return (
        f'<li class="small"><span class="{kind}">{sign} {escape(claim["verdict"] + surprise)}</span> {name}{escape(effect)}</li>'
    )


def _metrics(record: Record) -> str:
    return "".join(
        f'<li class="small">{escape(name)} = {sum(values) / len(values):.4g}</li>' for name, values in record.metrics.items()
    )


def _picture(out: Path, file: str | None, target: str | None, words: str, kind: str = "") -> str:
    """A picture inside the page, so that the page can be sent on alone."""
    try:
        content = base64.b64encode((out / str(file)).read_bytes()).decode()
    except OSError:
        return ""
    image = f'<img class="{kind}" alt="{words}" src="data:image/png;base64,{content}">'
    return f'<a class="picture" href="{quote(str(target))}">{image}</a>'


def _link(file: str | None, text: str) -> str:
    return f'<a href="{quote(file)}">{escape(text)}</a>' if file else escape(text)
