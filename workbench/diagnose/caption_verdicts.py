"""What the scores of captions say, in plain words; the limits are conventions of this report, fixed beforehand."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.diagnose.caption_measure import CaptionMeasures, Rules
from workbench.diagnose.verdicts import LEVELS, Verdict
from workbench.metrics import Estimate

MANY = 0.1  # share of hallucinated mentions from which the whole interval must lie above for a warning
FEW = 0.02  # below which it must lie to be called good
SILENT = 0.5  # share of the shown objects below which captions say little
LONGER = 1.1  # ratio of mentions a caption from which two systems are of unlike length
OFTEN = 5  # hallucinated mentions that an object needs to be named
NAMES = {
    "chair_i": "share of hallucinated mentions (CHAIR_i)",
    "chair_s": "share of captions with one (CHAIR_s)",
    "chair_recall": "share of the shown objects that are mentioned",
}


def caption_verdicts(measures: CaptionMeasures, names: tuple[str, ...], rules: Rules) -> tuple[Verdict, ...]:
    """The findings on captions, warnings first."""
    found = [v for name in names for v in _one(measures, name, rules)]
    if len(names) == 2:
        found = [*_two(measures, names[0], names[1], rules), *found]
    if measures.vocabulary.kind == "wordnet":
        found.append(
            Verdict(
                "note",
                f"There was no list of objects: {len(measures.vocabulary.objects)} nouns that WordNet knows as things were looked for in all captions.",
                "vocabulary",
                len(measures.vocabulary.objects),
                "People leave out most of what a picture shows, so the numbers are too high. Give --objects or --table where you can.",
            )
        )
    return tuple(sorted(found, key=lambda v: -LEVELS.index(v.level)))


def _one(m: CaptionMeasures, name: str, rules: Rules) -> Iterator[Verdict]:
    share, captions, recall = (m.find(s, name) for s in ("chair_i", "chair_s", "chair_recall"))
    counts = m.scored[name].chair
    if share is None:
        yield Verdict(
            "warning",
            f"{name}: no caption mentions any known object, so nothing can be said about hallucination.",
            "chair_i",
            0.0,
            "Are the words of the objects those of the captions? Give a table of words with --table.",
        )
    else:
        level = "warning" if share.low > MANY else "good" if share.high < FEW else "note"
        also = f", in {_percent(captions)} of the captions" if captions else ""
        yield Verdict(
            level,
            f"{name}: {_percent(share)} of the {counts.n_mentions:,} mentions are of objects that are not in the picture{also}.",
            "chair_i",
            share.value,
            "Look at the marked captions below: a wrong word, a wrong object, or an annotation that is incomplete?"
            if level != "good"
            else "",
            "s-vco",
        )
        if share.null is not None:
            if share.high < share.null:
                yield Verdict(
                    "note",
                    f"{name}: under other pictures the same captions would have {share.null:.1%} wrong mentions, under their own {share.value:.1%}.",
                    "chair_i",
                    share.null - share.value,
                )
            else:
                yield Verdict(
                    "warning",
                    f"{name}: {_percent(share)} wrong mentions is no less than the {share.null:.1%} that the same captions have under other pictures.",
                    "chair_i",
                    share.value,
                    "Either the captions ignore the pictures, or the ids of captions and truth do not belong together.",
                )
    if recall is not None:
        few = recall.high < SILENT
        yield Verdict(
            "note",
            f"{name}: the captions mention {_percent(recall)} of the objects that are there.",
            "chair_recall",
            recall.value,
            "Read the share of hallucinated mentions beside this: who says little is seldom wrong." if few else "",
        )
    worst = [o for o in m.objects if o.system == name and o.hallucinated >= OFTEN and o.share is not None]
    if worst:
        told = "; ".join(f"{o.object} ({o.hallucinated} of {o.mentions} mentions)" for o in worst[:3])
        yield Verdict("note", f"{name}: most often named without being there: {told}.", "objects", worst[0].hallucinated)
    swaps = [row for row in m.instead if row[0] == name and row[3] >= OFTEN]
    if swaps:
        told = "; ".join(f"{said} where there is {shown} ({n} captions)" for _, said, shown, n in swaps[:3])
        yield Verdict("note", f"{name}: what is said instead of what is there: {told}.", "instead", swaps[0][3])
    yield from _rules(m, name, rules)


def _rules(m: CaptionMeasures, name: str, rules: Rules) -> Iterator[Verdict]:
    values = [(r.value, r.rules) for r in m.rules if r.system == name and r.name == "chair_i"]
    if len(values) > 1:
        (low, least), (high, most) = min(values, key=lambda v: v[0]), max(values, key=lambda v: v[0])
        if high - low < 0.005:
            yield Verdict(
                "good",
                f"{name}: under {len(values)} sets of rules CHAIR_i stays the same to half a point ({high:.1%}).",
                "rules",
                high - low,
            )
        else:
            yield Verdict(
                "note",
                f"{name}: the rules move CHAIR_i from {low:.1%} ({least.beside(rules)}) to {high:.1%} ({most.beside(rules)}).",
                "rules",
                high - low,
                "Name the rules with the number; compare only numbers of one rule set.",
            )


def _two(m: CaptionMeasures, a: str, b: str, rules: Rules) -> Iterator[Verdict]:
    c = m.comparison.get("chair_i")
    if c:
        d = c.difference
        clear = d.low > 0 or d.high < 0
        better, worse = (b, a) if d.value < 0 else (a, b)
        text = f"{b} minus {a} is {100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], p = {c.p_value:.2g}"
        sentence = (
            f"{better} has fewer hallucinated mentions than {worse}: {text}."
            if clear
            else f"{a} and {b} cannot be told apart by their hallucinated mentions: {text}."
        )
        yield Verdict("note", sentence, "chair_i", d.value, "" if clear else "More captions would narrow the interval.")
        signs = _signs(m, a, b)
        if clear and len(signs) > 1:
            same = sum(s == (1 if d.value > 0 else -1) for s in signs)
            yield Verdict(
                "good" if same == len(signs) else "warning",
                f"{better} is ahead of {worse} under {same} of {len(signs)} sets of rules.",
                "rules",
                same / len(signs),
                "" if same == len(signs) else "Which system is better depends on how mentions are counted: say how.",
            )
    r = m.comparison.get("chair_recall")
    if c and r and r.difference.value * c.difference.value > 0 and (r.difference.low > 0 or r.difference.high < 0):
        less, more = (a, b) if r.difference.value > 0 else (b, a)
        yield Verdict(
            "note",
            f"{less} also mentions fewer of the objects that are there ({100 * abs(r.difference.value):.1f} points less than {more}); part of being seldom wrong is saying less.",
            "chair_recall",
            r.difference.value,
            "Compare at like length: --sentences 1, or captions of one number of words.",
        )
    x, y = m.find("caption_mentions", a), m.find("caption_mentions", b)
    if x and y and min(x.value, y.value) > 0 and max(x.value, y.value) > LONGER * min(x.value, y.value):
        yield Verdict(
            "note",
            f"The captions are of unlike length: {x.value:.2f} mentions a caption of {a}, {y.value:.2f} of {b}.",
            "caption_mentions",
            y.value - x.value,
        )
    if (t := m.mcnemar) is not None:
        yield Verdict(
            "note",
            f"Only {a} has {t.only_first} captions without a fault, only {b} {t.only_second}, both {t.both}, neither {t.neither} "
            f"(McNemar's exact test, p = {t.p_value:.2g}).",
            "mcnemar",
            t.difference,
        )


def _signs(m: CaptionMeasures, a: str, b: str) -> list[int]:
    """For every set of rules the sign of CHAIR_i of b minus that of a."""
    values: dict[Rules, dict[str, float]] = {}
    for r in m.rules:
        if r.name == "chair_i":
            values.setdefault(r.rules, {})[r.system] = r.value
    both = [v for v in values.values() if len(v) == 2]
    return [(v[b] > v[a]) - (v[b] < v[a]) for v in both]


def _percent(e: Estimate) -> str:
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]"
