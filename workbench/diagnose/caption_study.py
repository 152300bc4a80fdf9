"""The diagnosis of captions as one object: scores, findings, marked captions, objects, rules, figures, and the report."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench
from workbench.diagnose.caption_inputs import CaptionInputs, Source, read_captions
from workbench.diagnose.caption_measure import CaptionMeasures, Rules, measure_captions
from workbench.diagnose.caption_verdicts import NAMES, caption_verdicts
from workbench.diagnose.hover import thumbnail
from workbench.diagnose.study import SCHEMA, findings_html
from workbench.diagnose.verdicts import Verdict
from workbench.diagnose.vocabulary import read_synonyms

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WORST = 12  # captions of each system that are shown first, with their pictures
LISTED = 500  # further captions with a hallucination that the page lists
LONGEST = 2_000  # characters of a caption that the page shows
STYLE = """<style>
.wb-captions { font: 15px/1.55 system-ui, sans-serif; list-style: none; padding: 0; }
.wb-captions li { display: flex; gap: .8rem; margin: .4rem 0; padding: .4rem .7rem; border: 1px solid #ddd; border-radius: 4px; color: #111; background: #fff; }
.wb-captions li > div { min-width: 0; overflow-wrap: anywhere; } .wb-captions img { width: 64px; height: 64px; object-fit: contain; flex: none; background: #f4f4f4; }
.wb-captions small { color: #444; display: block; } .wb-captions q { quotes: none; white-space: pre-wrap; }
mark.wb-false { background: #fbd3b8; color: #111; border-bottom: 2px solid #D55E00; } mark.wb-true { background: none; color: #111; border-bottom: 2px solid #009E73; }
</style>"""


@dataclass(frozen=True, eq=False)
class CaptionStudy:
    """A diagnosis of captions.

    Attributes:
        inputs: what was read.
        measures: what was measured.
        verdicts: what it says, warnings first.
        settings: level, seed and rules.
    """

    inputs: CaptionInputs
    measures: CaptionMeasures
    verdicts: tuple[Verdict, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the systems."""
        return self.inputs.names

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every score with its interval, its null and its convention, a row each."""
        import pandas as pd

        columns = ["set", "name", "value", "low", "high", "null", "null_is", "n", "convention"]
        return pd.DataFrame([m.as_dict() for m in self.measures.estimates], columns=columns).rename(columns={"set": "system"})

    @cached_property
    def objects(self) -> pd.DataFrame:
        """Each object in each system's captions, most often hallucinated first."""
        import pandas as pd

        return pd.DataFrame([vars(o) for o in self.measures.objects])

    @cached_property
    def rules(self) -> pd.DataFrame:
        """Every score of every system under every set of rules."""
        import pandas as pd

        rows = [
            {"system": r.system, "rules": str(r.rules), "score": r.name, "value": r.value, "low": r.low, "high": r.high}
            | {"mentions": r.mentions, "chosen": r.chosen}
            for r in self.measures.rules
        ]
        return pd.DataFrame(rows)

    @cached_property
    def captions(self) -> pd.DataFrame:
        """Every caption with its hallucinated, right and missed objects, worst first."""
        import pandas as pd

        rows = []
        for system, name in enumerate(self.names):
            for i in self._order(name):
                false, true, missed = self._sides(name, i)
                rows.append(
                    {"system": name, "id": self.inputs.ids[i], "hallucinated": ", ".join(false), "right": ", ".join(true)}
                    | {"missed": ", ".join(missed), "caption": self.inputs.captions[system][i]}
                )
        return pd.DataFrame(rows)

    def figures(self) -> dict[str, Figure]:
        """The figures of the report by name, drawn anew at each call."""
        from workbench.diagnose.caption_figures import caption_figures

        return caption_figures(self)

    def findings_html(self) -> str:
        """The findings as a list."""
        return findings_html(self.verdicts)

    def notes_html(self) -> str:
        """What was left out or could not be measured."""
        notes = [*self.inputs.warnings, *self.measures.skipped]
        for name in self.names:
            faulty = sum(map(any, self.measures.scored[name].false))
            if faulty > WORST + LISTED:
                notes.append(
                    f"the page shows {WORST + LISTED} of the {faulty} captions of {name} with a hallucination, the worst first"
                )
        if not notes:
            return "<p>Nothing was left out.</p>"
        return "<ul>" + "".join(f"<li>{html.escape(n)}</li>" for n in notes) + "</ul>"

    def marked_html(self, first: int = WORST, further: int = LISTED) -> str:
        """Captions with their mentions marked: the worst ones with pictures, all others with a hallucination folded."""
        parts = [
            '<p><mark class="wb-false">Marked</mark>: not in the picture. <mark class="wb-true">Underlined</mark>: in the picture.</p>'
        ]
        for name in self.names:
            order = [i for i in self._order(name) if any(self.measures.scored[name].false[i])]
            head = f"<h3>{html.escape(name)}: {len(order):,} of {len(self.inputs):,} captions with a hallucination</h3>"
            body = "".join(self._item(name, i, picture=True) for i in order[:first])
            rest = order[first : first + further]
            more = "".join(self._item(name, i, picture=False) for i in rest)
            folded = (
                f"<details><summary>{len(rest):,} more</summary><ul class='wb-captions'>{more}</ul></details>" if rest else ""
            )
            parts.append(head + (f'<ul class="wb-captions">{body}</ul>{folded}' if order else "<p>None.</p>"))
        return STYLE + "".join(parts)

    def objects_html(self, most: int = 60) -> str:
        """The objects as a table."""
        rows = []
        several = len(self.names) > 1
        for o in self.measures.objects:
            if o.mentions or o.shown:
                share, cover = _range(o.share, o.low, o.high), _range(o.coverage, o.coverage_low, o.coverage_high)
                cells = [
                    *([html.escape(o.system)] if several else []),
                    f'<span title="{html.escape(o.meaning, quote=True)}">{html.escape(o.object)}</span>',
                ]
                numbers = [f"{o.mentions:,}", f"{o.hallucinated:,}", share, f"{o.shown:,}", cover]
                rows.append(
                    "<tr>"
                    + "".join(f"<td>{c}</td>" for c in cells)
                    + "".join(f'<td class="n">{c}</td>' for c in numbers)
                    + "</tr>"
                )
        heads = [
            *(["system"] if several else []),
            "object",
            "mentions",
            "wrong",
            "share wrong",
            "pictures with it",
            "of these mentioned",
        ]
        left = len(rows) - most * len(self.names)
        table = _table(heads, rows[: most * len(self.names)])
        return table + (f"<p>{left} more objects are in the JSON.</p>" if left > 0 else "") + self._instead_html()

    def rules_html(self) -> str:
        """Every score under every set of rules."""
        rows = []
        chosen = next((r.rules for r in self.measures.rules if r.chosen), Rules())
        for r in self.measures.rules:
            cells = [
                html.escape(r.system),
                html.escape(r.rules.beside(chosen)),
                NAMES[r.name].split(" (")[0],
            ]
            rows.append(
                "<tr>"
                + "".join(f"<td>{c}</td>" for c in cells)
                + f'<td class="n">{r.value:.1%}</td><td class="n">{r.low:.1%} to {r.high:.1%}</td><td class="n">{r.mentions:,}</td></tr>'
            )
        return _table(["system", "rules", "score", "value", "interval", "mentions"], rows)

    def explore(self) -> Any:
        """A widget for JupyterLab: choose a system and an object, see the captions that mention it, marked."""
        from workbench.diagnose.explore import explore_captions

        return explore_captions(self)

    def about(self, object_name: str, system: str, which: str = "hallucinated", most: int = 24) -> str:
        """The captions of one system that mention an object ('hallucinated' or 'right'), or that miss it ('missed'), marked."""
        side = ("hallucinated", "right", "missed").index(which)
        at = [i for i in range(len(self.inputs)) if object_name in self._sides(system, i)[side]]
        items = "".join(self._item(system, i, picture=True) for i in at[:most])
        more = f"<p>and {len(at) - most} more</p>" if len(at) > most else ""
        return STYLE + (f'<ul class="wb-captions">{items}</ul>{more}' if at else "<p>No caption.</p>")

    @property
    def title(self) -> str:
        """Heading of the report."""
        return "Captions of " + " and ".join(self.names)

    @property
    def summary(self) -> str:
        """One sentence on what was read."""
        truth = [w for w, v in (("references", self.inputs.references), ("objects", self.inputs.objects)) if v is not None]
        stored = "; ".join(f"{n}: {k:,} captions" for n, k in zip(self.names, self.inputs.stored, strict=True))
        return f"{stored}; {len(self.inputs):,} pictures with {' and '.join(truth)}; rules: {self.settings['rules_in_words']}"

    def sections(self) -> dict[str, str]:
        """Title and HTML of each part of the report."""
        from workbench.diagnose.report import figures_html, meanings, numbers_table

        return {
            "What it says": self.findings_html(),
            "Captions, worst first": self.marked_html(),
            "Objects": "<p>Point at an object for the meaning that WordNet's words were taken from.</p>" + self.objects_html(),
            "Other rules": "<p>How much of a score is the rule? Each line differs from the chosen rules in one point.</p>"
            + self.rules_html(),
            "Figures": figures_html(self),
            "Numbers": numbers_table(self),
            "What was left out": self.notes_html(),
            "How to read the numbers": meanings(self),
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and texts, in the form of the published schema."""
        v = self.measures.vocabulary
        return {
            "schema": SCHEMA,
            "kind": "captions",
            "workbench": workbench.__version__,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": {
                "systems": [
                    {"name": n, "stored": k, "used": len(self.inputs)}
                    for n, k in zip(self.names, self.inputs.stored, strict=True)
                ],
                "rows": len(self.inputs),
                "references": self.inputs.references is not None,
                "objects": self.inputs.objects is not None,
                "pictures": sum(p is not None for p in self.inputs.pictures or ()),
            },
            "settings": {k: x for k, x in self.settings.items() if k != "rules_in_words"},
            "vocabulary": {"kind": v.kind, "words": v.words, "objects": len(v.objects), "entries": len(v.table)},
            "verdicts": [vars(x) for x in self.verdicts],
            "warnings": list(self.inputs.warnings),
            **self.measures.as_dict(),
            "hallucinations": [
                {"system": name, "id": self.inputs.ids[i], "object": m.name, "text": m.text, "start": m.start, "end": m.end}
                for name in self.names
                for i, mentions in enumerate(self.measures.scored[name].mentions)
                for m, false in zip(mentions, self.measures.scored[name].false[i], strict=True)
                if false
            ],
        }

    def save(self, path: str | Path) -> Path:
        """Write `path`, one self-contained HTML page, and the numbers beside it as JSON.

        Raises:
            DataError: the folder does not exist or cannot be written.
        """
        from workbench.diagnose.report import write_report

        return write_report(self, Path(path))

    def _repr_html_(self) -> str:
        return self.findings_html()

    def _order(self, name: str) -> list[int]:
        """Captions by the number of their hallucinated mentions, then by their share."""
        false = self.measures.scored[name].false
        return sorted(range(len(false)), key=lambda i: (-sum(false[i]), -sum(false[i]) / max(1, len(false[i])), i))

    def _sides(self, name: str, i: int) -> tuple[list[str], list[str], list[str]]:
        """Hallucinated, rightly mentioned and missed objects of one caption."""
        s = self.measures.scored[name]
        pairs = list(zip(s.mentions[i], s.false[i], strict=True))
        false = list(dict.fromkeys(m.name for m, bad in pairs if bad))
        true = list(dict.fromkeys(m.name for m, bad in pairs if not bad))
        kin = self.measures.vocabulary.kin
        missed = sorted(o for o in s.present[i] if o not in true and not any(t in kin.get(o, ()) for t in true))
        return false, true, missed

    def _item(self, name: str, i: int, *, picture: bool) -> str:
        s, system = self.measures.scored[name], self.names.index(name)
        caption, at, parts = self.inputs.captions[system][i], 0, []
        for m, bad in zip(s.mentions[i], s.false[i], strict=True):
            if m.end > LONGEST:
                break
            parts.append(html.escape(caption[at : m.start]))
            parts.append(f'<mark class="{"wb-false" if bad else "wb-true"}">{html.escape(caption[m.start : m.end])}</mark>')
            at = m.end
        parts.append(html.escape(caption[at : max(at, LONGEST)]) + (" …" if len(caption) > LONGEST else ""))
        missed = self._sides(name, i)[2]
        tail = f"; not mentioned: {html.escape(', '.join(missed)[:200])}" if missed else ""
        files = self.inputs.pictures
        source = thumbnail(file) if picture and files is not None and (file := files[i]) is not None else None
        image = f'<img src="{source}" alt="picture {html.escape(self.inputs.ids[i], quote=True)}">' if source else ""
        return f"<li>{image}<div><q>{''.join(parts)}</q><small>{html.escape(self.inputs.ids[i][:80])}{tail}</small></div></li>"

    def _instead_html(self) -> str:
        shown_first = [row for name in self.names for row in [r for r in self.measures.instead if r[0] == name][:6]]
        rows = [
            f'<tr><td>{html.escape(system)}</td><td>{html.escape(said)}</td><td>{html.escape(shown)}</td><td class="n">{n}</td></tr>'
            for system, said, shown, n in shown_first
        ]
        if not rows:
            return ""
        head = "<p>In captions with one wrong and one missed object: what was said, and what was there.</p>"
        return head + _table(["system", "said", "shown", "captions"], rows)


def study_captions(
    *predictions: Source,
    references: Source | None = None,
    objects: Source | None = None,
    table: Any = None,
    images: str | Path | None = None,
    names: Any = None,
    words: str = "auto",
    count: str = "mention",
    sentences: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> CaptionStudy:
    """Read, match and score captions of one system or two.

    Args:
        predictions: one or two systems: files (json, jsonl, csv, tsv, parquet, txt), lists of captions, or mappings id -> caption.
        references: what people wrote about the same pictures.
        objects: what the pictures show.
        table: words of your own, see `workbench.diagnose.vocabulary.read_synonyms`.
        images: folder of pictures named by id.
        names: of the systems.
        words: 'auto', 'table', 'names', 'synonyms' or 'kinds': which words count as a mention of an object.
        count: 'mention', as CHAIR's code does, or 'object', once a caption.
        sentences: only the first so many sentences of each caption.
        level: confidence of all intervals.
        seed: of the bootstrap.

    Raises:
        DataError: what is wrong with a file, in one sentence.
        ValueError: what is wrong with an argument.
    """
    synonyms = None if table is None else read_synonyms(table)
    inputs = read_captions(predictions, references=references, objects=objects, images=images, names=names)
    measures = measure_captions(inputs, rules=Rules(words, count, sentences), table=synonyms, level=level, seed=seed)
    rules = Rules(measures.vocabulary.words, count, sentences)
    found = caption_verdicts(measures, inputs.names, rules)
    settings = {"level": level, "seed": seed, "words": rules.words, "count": count, "sentences": sentences}
    return CaptionStudy(inputs, measures, found, {**settings, "rules_in_words": str(rules)})


def _table(heads: list[str], rows: list[str]) -> str:
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _range(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0%}" + ("" if low is None else f" ({low:.0%} to {high:.0%})")
