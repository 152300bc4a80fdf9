"""Measuring captions against the truth about their pictures: hallucination with intervals, by object, and under other rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from workbench import metrics
from workbench.diagnose.caption_inputs import CaptionInputs, canonical
from workbench.diagnose.measure import Measured
from workbench.diagnose.vocabulary import Vocabulary, given_table, named_objects, open_vocabulary
from workbench.errors import UnknownNameError
from workbench.metrics import Chair, Comparison, Estimate, McNemar, Mention
from workbench.metrics.intervals import DRAWS, mean_of
from workbench.metrics.mentions import first_sentences

SCORES = ("chair_i", "chair_s", "chair_recall")
COUNTS = ("mention", "object")


@dataclass(frozen=True)
class Rules:
    """How mentions are found and counted.

    Attributes:
        words: 'table', 'names', 'synonyms' or 'kinds', see `workbench.diagnose.vocabulary`.
        count: 'mention', or 'object' once a caption.
        sentences: only the first so many sentences; None for all.
        plurals: regular plurals count as well.
    """

    words: str = "kinds"
    count: str = "mention"
    sentences: int | None = None
    plurals: bool = True

    def __str__(self) -> str:
        words = {
            "table": "words of the given table",
            "names": "names of the objects only",
            "synonyms": "names and synonyms",
            "kinds": "names, synonyms and kinds",
        }[self.words]
        cut = "" if self.sentences is None else f", first sentence{'s' if self.sentences > 1 else ''}"
        cut += f" ({self.sentences})" if self.sentences and self.sentences > 1 else ""
        return f"{words}, each {self.count} counted{cut}" + ("" if self.plurals else ", no plurals")

    def beside(self, chosen: Rules) -> str:
        """In which point these rules differ from the chosen ones, in words."""
        if self == chosen:
            return f"chosen: {self}"
        parts = []
        if self.words != chosen.words:
            parts.append(str(replace(self, sentences=None, plurals=True)).split(", each")[0])
        if self.count != chosen.count:
            parts.append("each object once a caption" if self.count == "object" else "each mention")
        if self.sentences != chosen.sentences:
            parts.append(
                "all sentences" if self.sentences is None else "first sentence" if self.sentences == 1 else "first two sentences"
            )
        if self.plurals != chosen.plurals:
            parts.append("plurals" if self.plurals else "no plurals")
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Scored:
    """Captions of one system under one set of rules.

    Attributes:
        chair: the counts.
        mentions: of each caption.
        false: for each mention whether it is not in the picture.
        present: for each picture what it shows.
    """

    chair: Chair
    mentions: tuple[tuple[Mention, ...], ...]
    false: tuple[tuple[bool, ...], ...]
    present: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class ObjectScore:
    """One object in the captions of one system: how often it is mentioned, wrongly, and how often it is found where it is."""

    system: str
    object: str
    mentions: int
    hallucinated: int
    share: float | None
    low: float | None
    high: float | None
    shown: int
    found: int
    coverage: float | None
    coverage_low: float | None
    coverage_high: float | None
    meaning: str


@dataclass(frozen=True)
class RuleScore:
    """One score of one system under one set of rules."""

    system: str
    rules: Rules
    name: str
    value: float
    low: float
    high: float
    mentions: int
    chosen: bool


@dataclass(frozen=True, eq=False)
class CaptionMeasures:
    """Everything that was measured about captions.

    Attributes:
        estimates: the scores with intervals and nulls.
        scored: for each system its mentions under the chosen rules.
        vocabulary: the words.
        objects: each object in each system.
        rules: every score under every set of rules.
        instead: (system, object said, object shown and unsaid, captions), most frequent first.
        comparison: score -> paired comparison of the two systems.
        mcnemar: captions without a fault, two systems; None for one.
        skipped: what could not be measured, and why.
    """

    estimates: tuple[Measured, ...]
    scored: dict[str, Scored]
    vocabulary: Vocabulary
    objects: tuple[ObjectScore, ...]
    rules: tuple[RuleScore, ...]
    instead: tuple[tuple[str, str, str, int], ...]
    comparison: dict[str, Comparison]
    mcnemar: McNemar | None
    skipped: tuple[str, ...]

    def find(self, name: str, of: str) -> Estimate | None:
        """The estimate of that name and system, or None."""
        return next((m.estimate for m in self.estimates if m.estimate.name == name and m.of == of), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "estimates": [m.as_dict() for m in self.estimates],
            "objects": [asdict(o) for o in self.objects],
            "rules": [{**asdict(r), "rules": asdict(r.rules)} for r in self.rules],
            "instead": [dict(zip(("system", "said", "shown", "captions"), row, strict=True)) for row in self.instead],
            "comparison": {
                name: {
                    "first": c.first.value,
                    "second": c.second.value,
                    "difference": c.difference.value,
                    "low": c.difference.low,
                    "high": c.difference.high,
                    "p_value": c.p_value,
                }
                for name, c in self.comparison.items()
            },
            "mcnemar": None if self.mcnemar is None else asdict(self.mcnemar),
            "skipped": list(self.skipped),
        }


def vocabulary_for(inputs: CaptionInputs, table: dict[str, str] | None, words: str) -> Vocabulary:
    """The words that count: those of a table, else those of the annotated objects, else all that WordNet knows as things.

    Raises:
        UnknownNameError: words that this kind of vocabulary cannot choose.
    """
    choices = word_choices(inputs, table)
    if words == "auto":
        words = choices[0]
    if words not in choices:
        raise UnknownNameError("choice of words", words, choices)
    if table is not None:
        return given_table(table, words)
    if inputs.objects is not None:
        return named_objects((name for names in inputs.objects for name in names), words)
    texts = [t for side in inputs.captions for t in side] + [t for many in inputs.references or () for t in many]
    return open_vocabulary(texts, words)


def word_choices(inputs: CaptionInputs, table: dict[str, str] | None) -> tuple[str, ...]:
    """Choices of words that can be made, the usual one first."""
    if table is not None:
        return "table", "names"
    return ("kinds", "synonyms", "names") if inputs.objects is not None else ("kinds", "synonyms")


def score(inputs: CaptionInputs, system: int, vocabulary: Vocabulary, rules: Rules) -> Scored:
    """Mentions of one system's captions, which of them are not in the picture, and CHAIR of them.

    A picture shows the objects of its annotation and whatever its references mention. A word that is more general than something
    shown, or a kind of it, counts as that thing where the vocabulary says so.
    """
    found = metrics.find_mentions(inputs.captions[system], vocabulary.table, plurals=rules.plurals, sentences=rules.sentences)
    present = _present(inputs, vocabulary)
    said = [[_resolve(m.name, shown, vocabulary) for m in row] for row, shown in zip(found, present, strict=True)]
    chair = metrics.chair(said, present, count="object" if rules.count == "object" else "mention")
    false = tuple(tuple(n not in shown for n in names) for names, shown in zip(said, present, strict=True))
    return Scored(chair, found, false, present)


def measure_captions(
    inputs: CaptionInputs, *, rules: Rules, table: dict[str, str] | None = None, level: float = 0.95, seed: int = 0
) -> CaptionMeasures:
    """Score one system or two, by object and under every other set of rules.

    Args:
        inputs: from `read_captions`.
        rules: the rules of the headline numbers.
        table: words of one's own.
        level: confidence of the intervals.
        seed: of the bootstrap.

    Raises:
        UnknownNameError: rules that do not exist.
        DataError: nothing that captions name could be found at all.
    """
    if rules.count not in COUNTS:
        raise UnknownNameError("rule of counting", rules.count, COUNTS)
    vocabularies = {w: vocabulary_for(inputs, table, w) for w in word_choices(inputs, table)}
    rules = replace(rules, words=next(iter(vocabularies)) if rules.words == "auto" else rules.words)
    if rules.words not in vocabularies:
        raise UnknownNameError("choice of words", rules.words, vocabularies)
    skipped: list[str] = []
    estimates: list[Measured] = []
    every: dict[tuple[Rules, str], Scored] = {}
    rows: list[RuleScore] = []
    for setting in _variants(inputs, rules, tuple(vocabularies)):
        for i, name in enumerate(inputs.names):
            one = every[setting, name] = score(inputs, i, vocabularies[setting.words], setting)
            for measure in SCORES:
                try:
                    draws = DRAWS if setting == rules else DRAWS // 4
                    e = metrics.estimate(measure, one.chair, level=level, seed=seed, draws=draws)
                except ValueError as error:
                    skipped.append(f"{measure} of {name} ({setting}): {str(error).splitlines()[0]}")
                    continue
                rows.append(RuleScore(name, setting, measure, e.value, e.low, e.high, one.chair.n_mentions, setting == rules))
                if setting == rules:
                    estimates.append(Measured(e, name))
    scored = {name: every[rules, name] for name in inputs.names}
    for i, name in enumerate(inputs.names):
        for what, numbers in (
            ("caption_mentions", [len(m) for m in scored[name].mentions]),
            ("caption_words", [len(t.split()) for t in inputs.captions[i]]),
        ):
            parts = mean_of(what, numbers, null=None, null_is="", convention="mean over captions", bounds=(0.0, np.inf))
            estimates.append(Measured(metrics.interval(parts, level=level, seed=seed), name))
    vocabulary = vocabularies[rules.words]
    comparison, exact = _compared(inputs, scored, level, seed, skipped)
    return CaptionMeasures(
        tuple(estimates),
        scored,
        vocabulary,
        tuple(o for name in inputs.names for o in _by_object(name, scored[name], vocabulary, level)),
        tuple(rows),
        tuple(row for name in inputs.names for row in _instead(name, scored[name])),
        comparison,
        exact,
        tuple(dict.fromkeys(skipped)),
    )


def _present(inputs: CaptionInputs, vocabulary: Vocabulary) -> tuple[frozenset[str], ...]:
    shown: list[set[str]] = [set() for _ in inputs.ids]
    if inputs.objects is not None:
        known = set(vocabulary.table.values())
        for into, names in zip(shown, inputs.objects, strict=True):
            into.update(n if n in known else vocabulary.table.get(canonical(n), n) or n for n in names)
    if inputs.references is not None:
        flat = [text for texts in inputs.references for text in texts]
        owner = [i for i, texts in enumerate(inputs.references) for _ in texts]
        for i, mentions in zip(owner, metrics.find_mentions(flat, vocabulary.table) if flat else (), strict=True):
            shown[i].update(m.name for m in mentions)
    return tuple(frozenset(s) for s in shown)


def _resolve(name: str, shown: frozenset[str], vocabulary: Vocabulary) -> str:
    """The name itself, or the shown thing that it also is: a kind of it, or a more general word."""
    if name in shown:
        return name
    return min(vocabulary.kin.get(name, frozenset()) & shown, default=name)


def _variants(inputs: CaptionInputs, rules: Rules, words: tuple[str, ...]) -> list[Rules]:
    """The chosen rules first, then every set that differs from them in one point."""
    texts = [t.rstrip() for side in inputs.captions for t in side]
    cuts: list[int | None] = [None, *(k for k in (1, 2) if any(first_sentences(t, k) != t for t in texts))]
    found = [rules]
    found += [replace(rules, words=w) for w in words]
    found += [replace(rules, count=c) for c in COUNTS]
    found += [replace(rules, sentences=k) for k in cuts]
    found += [replace(rules, plurals=p) for p in (True, False)]
    return list(dict.fromkeys(found))


def _by_object(system: str, scored: Scored, vocabulary: Vocabulary, level: float) -> list[ObjectScore]:
    """Counts and intervals of every object that is mentioned or shown, most often hallucinated first."""
    wrong: dict[str, list[tuple[int, bool]]] = {}
    for i, (mentions, false) in enumerate(zip(scored.mentions, scored.false, strict=True)):
        for m, bad in zip(mentions, false, strict=True):
            wrong.setdefault(_resolve(m.name, scored.present[i], vocabulary), []).append((i, bad))
    shown: dict[str, list[int]] = {}
    for i, names in enumerate(scored.present):
        for name in names:
            shown.setdefault(name, []).append(i)
    found = []
    for name in wrong.keys() | shown.keys():
        said = wrong.get(name, [])
        where = {i for i, _ in said}
        hits = [i in where for i in shown.get(name, [])]
        found.append(
            ObjectScore(
                system,
                name,
                len(said),
                sum(bad for _, bad in said),
                *_share([bad for _, bad in said], [i for i, _ in said], level),
                len(hits),
                sum(hits),
                *_share(hits, list(range(len(hits))), level),
                vocabulary.meaning.get(name, ""),
            )
        )
    return sorted(found, key=lambda o: (-o.hallucinated, -o.mentions, o.object))


def _share(hits: list[bool], groups: list[int], level: float) -> tuple[float | None, float | None, float | None]:
    """A share of hits with Wilson's interval; mentions of one caption belong together."""
    if not hits:
        return None, None, None
    if len(set(groups)) < 2:
        return sum(hits) / len(hits), None, None
    parts = mean_of("share", hits, null=None, null_is="", convention="", bounds=(0.0, 1.0), share=True)
    e = metrics.interval(parts, level=level, groups=np.array(groups))
    return e.value, e.low, e.high


def _instead(system: str, scored: Scored) -> list[tuple[str, str, str, int]]:
    """What is said where one shown object stays unsaid and one that is not there is named."""
    pairs: Counter[tuple[str, str]] = Counter()
    for mentions, false, shown in zip(scored.mentions, scored.false, scored.present, strict=True):
        wrong = {m.name for m, bad in zip(mentions, false, strict=True) if bad}
        unsaid = shown - {m.name for m, bad in zip(mentions, false, strict=True) if not bad}
        if len(wrong) == len(unsaid) == 1:
            pairs[next(iter(wrong)), next(iter(unsaid))] += 1
    return [(system, a, b, n) for (a, b), n in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:20]]


def _compared(
    inputs: CaptionInputs, scored: dict[str, Scored], level: float, seed: int, skipped: list[str]
) -> tuple[dict[str, Comparison], McNemar | None]:
    if len(inputs.names) < 2:
        return {}, None
    first, second = (scored[name] for name in inputs.names)
    found = {}
    for measure in SCORES:
        try:
            found[measure] = metrics.compare(measure, (first.chair,), (second.chair,), level=level, seed=seed)
        except ValueError as error:
            skipped.append(f"difference of {measure}: {str(error).splitlines()[0]}")
    whole = [np.array([not any(row) for row in s.false]) for s in (first, second)]
    return found, metrics.mcnemar(whole[0].tolist(), whole[1].tolist(), level=level)
