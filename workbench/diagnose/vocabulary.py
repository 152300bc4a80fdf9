"""Which words name which object: a table of one's own, the names of the annotation with WordNet's synonyms, or WordNet alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.diagnose.caption_inputs import canonical
from workbench.diagnose.records import read_rows
from workbench.errors import DataError

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # as in workbench.metrics.mentions, which would bring torch
WORDS = ("names", "synonyms", "kinds")
# Lexicographer files of things that a picture can show; the substances that WordNet lists are mostly chemistry.
PICTURED = ("animal", "artifact", "body", "food", "object", "person", "plant", "shape")
GENERAL = ("animal", "food", "person", "plant")  # nouns above all files that captions do use
NOT_NOUNS = frozenset(("can", "set", "like", "well", "back", "being", "past", "lot", "bit"))  # in captions hardly ever things
MOSTLY = 0.3  # share of a word's tagged uses that must be of the picturable meaning
FAR = 99  # steps of people that WordNet does not call so
LONGEST = 3  # words of an entry of WordNet
PLAIN = {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray"}
PLAIN |= {"big", "little", "small", "large", "old", "young", "new"}
IRREGULAR = {"men": "man", "women": "woman", "people": "person", "children": "child", "mice": "mouse", "geese": "goose"}
IRREGULAR |= {"feet": "foot", "teeth": "tooth", "oxen": "ox", "calves": "calf", "halves": "half", "dice": "die"}


@dataclass(frozen=True)
class Vocabulary:
    """Words and the objects they name.

    Attributes:
        kind: 'table' (given), 'objects' (names of the annotation) or 'wordnet' (all picturable nouns).
        words: which words count: 'table', 'names', 'synonyms' or 'kinds'.
        table: word or phrase -> object; '' hides the words in it.
        meaning: object -> the definition by which WordNet's words were found.
        kin: object -> objects that are more general or a kind of it; a mention of one of them is right as well.
    """

    kind: str
    words: str
    table: dict[str, str]
    meaning: dict[str, str] = field(default_factory=dict)
    kin: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def objects(self) -> tuple[str, ...]:
        """The objects, each once."""
        return tuple(dict.fromkeys(name for name in self.table.values() if name))


def read_synonyms(source: str | Path | Mapping[str, Any]) -> dict[str, str]:
    """A table of words of one's own: word -> object.

    Args:
        source: .json with object -> list of words, or word -> object; .csv, .tsv, .parquet or .jsonl with `word` and `object`; or a
            mapping of either form. A word that maps to '' hides the words in it ("hot dog").

    Raises:
        DataError: the file cannot be read, has other columns, or gives one word two objects.
    """
    where = str(source) if isinstance(source, (str, Path)) else "table"
    rows: Any = read_rows(Path(source)) if isinstance(source, (str, Path)) else dict(source)
    pairs: list[tuple[Any, Any]] = []
    if isinstance(rows, Mapping):
        for key, value in rows.items():
            pairs += [(word, key) for word in (key, *value)] if isinstance(value, (list, tuple)) else [(key, value)]
    else:
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping) or not {"word", "object"} <= set(row):
                raise DataError(f"{where}, row {i}: want the fields word and object, got {row!r:.60}")
            pairs.append((row["word"], "" if row["object"] != row["object"] else row["object"]))
    table: dict[str, str] = {}
    for word, name in pairs:
        if not isinstance(word, str) or not isinstance(name, str) or not WORD.search(word):
            raise DataError(f"{where}: want a word and the name of an object, got {word!r:.40} -> {name!r:.40}")
        word, name = canonical(word), canonical(name)
        if table.setdefault(word, name) != name:
            raise DataError(f"{where}: the word {word!r:.40} stands for {table[word]!r:.40} and for {name!r:.40}")
    if not any(table.values()):
        raise DataError(f"{where} has no words")
    return table


def given_table(table: Mapping[str, str], words: str = "table") -> Vocabulary:
    """A vocabulary of one's own; with 'names' only the objects' own names count."""
    kept = dict(table) if words == "table" else {w: n for w, n in table.items() if n in (w, "")}
    return Vocabulary("table", words, {**{n: n for n in table.values() if n}, **kept})


def named_objects(names: Iterable[str], words: str = "kinds") -> Vocabulary:
    """The objects of an annotation, with the words that WordNet has for them.

    Args:
        names: the objects.
        words: 'names' alone, with 'synonyms' (words of the same meaning), or also 'kinds' (words for kinds of it: puppy for dog). Each
            name is taken in one meaning, stated in `meaning`. Longer nouns that only contain a name are no mention of it ("hot dog")
            unless they end in it and are a kind of it ("dining table").
    """
    objects = sorted(dict.fromkeys(canonical(n) for n in names))
    table = {name: name for name in objects}
    if words == "names":
        return Vocabulary("objects", words, _with_irregular(table))
    net = _net()
    senses = {name: found for name in objects if (found := net.near_senses(name))}
    nearest: dict[str, tuple[int, str]] = {}
    for name, several in senses.items():
        kinds = net.below(several)
        for below, steps in kinds.items():
            for lemma in net.words[below]:
                wanted = words == "kinds" or steps == 0 or (" " in lemma and lemma.split()[-1] == name)
                if wanted and net.mostly(lemma, kinds):
                    nearest[lemma] = min(nearest.get(lemma, (steps, name)), (steps, name))
    for lemma, (_, name) in nearest.items():
        table.setdefault(lemma, name)
    for phrase in net.phrases_with({w for w in table if " " not in w}):
        table.setdefault(phrase, "")
    return Vocabulary("objects", words, _with_irregular(table), {n: net.definition[s[0]] for n, s in senses.items()})


def open_vocabulary(texts: Iterable[str], words: str = "kinds") -> Vocabulary:
    """Every noun in the texts that WordNet knows as something a picture can show; for references without a list of objects.

    Args:
        texts: predictions and references.
        words: 'synonyms': a mention must have the meaning of a reference; 'kinds': a more general word or a kind of it is right as well
            (person for man, puppy for dog).
    """
    net = _net()
    found: dict[str, int] = {}
    for phrase in _phrases(texts):
        for form in _singulars(phrase):
            if form in net.senses and form not in found and (sense := net.plain_sense(form)) is not None:
                found[form] = sense
    table = {form: net.words[sense][0] for form, sense in found.items()}
    kin: dict[str, frozenset[str]] = {}
    if words == "kinds":
        from workbench.data.wordnet_graph import ancestors

        name_of = {sense: net.words[sense][0] for sense in found.values()}
        pairs = [(name, name_of[up]) for s, name in name_of.items() for up in ancestors(s) if up != s and up in name_of]
        both: dict[str, set[str]] = {}
        for a, b in pairs:
            both.setdefault(a, set()).add(b)
            both.setdefault(b, set()).add(a)
        kin = {name: frozenset(others) for name, others in both.items()}
    if not table:
        raise DataError(
            "no caption and no reference names a thing that WordNet knows; give a list of objects or a table of words"
        )
    return Vocabulary("wordnet", words, _with_irregular(table), {net.words[s][0]: net.definition[s] for s in found.values()}, kin)


class _Net:
    """What is needed of WordNet's nouns, by number of the meaning."""

    def __init__(self) -> None:
        from workbench.data.texts import columns_of

        c = columns_of("wordnet", "synsets.parquet")
        self.file, self.count, self.definition = c["file"].tolist(), c["count"].tolist(), c["definition"].tolist()
        self.words: list[list[str]] = c["words"].tolist()
        self.senses: dict[str, list[int]] = {}
        self.uses: dict[str, int] = {}
        for number, words in enumerate(self.words):
            noun = self.file[number].startswith("noun.")
            for word in words:
                if word == word.lower():  # names and symbols of elements are no words of captions
                    self.uses[word] = self.uses.get(word, 0) + self.count[number]
                    if noun:
                        self.senses.setdefault(word, []).append(number)

    def sense(self, name: str) -> int | None:
        """The meaning of a name that is known to be an object: picturable first, then where it is the first word, then by use."""
        numbers = self.senses.get(name, [])
        shown = [s for s in numbers if self._pictured(s)] or numbers
        return max(shown, key=lambda s: (-self.words[s].index(name), self.count[s], -s), default=None)

    def near_senses(self, name: str) -> list[int]:
        """Its meaning first, then others of the same file that are in use: WordNet has two tables to eat at."""
        first = self.sense(name)
        if first is None:
            return []
        alike = [s for s in self.senses[name] if self.file[s] == self.file[first] and self.count[s] and s != first]
        return [first, *alike]

    def plain_sense(self, word: str) -> int | None:
        """The meaning of a word in a text, where it mostly is a thing; None for others."""
        sense = self.sense(word)
        if sense is None or word in NOT_NOUNS or not (self.file[sense][5:] in PICTURED or self.words[sense][0] in GENERAL):
            return None
        total = self.uses[word]
        return sense if " " in word or total == 0 or self.count[sense] >= MOSTLY * total else None

    def below(self, senses: Sequence[int]) -> dict[int, int]:
        """The meanings and all kinds of them, with the steps down."""
        steps = dict.fromkeys(senses, 0)
        queue = list(senses)
        for at in queue:
            for down in _children().get(at, ()):
                if down not in steps:
                    steps[down] = steps[at] + 1
                    queue.append(down)
        if any(self.words[s][0] == "person" for s in senses):  # WordNet has drivers as agents, not as people
            steps |= {s: FAR for s, file in enumerate(self.file) if file == "noun.person" and s not in steps}
        return steps

    def mostly(self, word: str, meanings: Mapping[int, int]) -> bool:
        """Whether a word is mostly used in one of these meanings, as far as tagged texts tell: 'back' is hardly ever a player."""
        if word != word.lower():
            return False
        senses = self.senses[word]
        inside = [s for s in senses if s in meanings]
        # A synonym is compared with its other meanings as a noun, a kind with all its uses: "birds fly" names no insect.
        exact = any(meanings[s] == 0 for s in inside)
        total = sum(self.count[s] for s in senses) if exact else self.uses[word]
        return sum(self.count[s] for s in inside) >= MOSTLY * total if total else 2 * len(inside) >= len(senses)

    def phrases_with(self, words: set[str]) -> list[str]:
        """Nouns of several words of which one is in `words`; a purple heart is a heart, whatever else WordNet calls so."""
        several = [(p, p.split()) for p in self.senses if " " in p]
        return [p for p, parts in several if len(parts) <= LONGEST and parts[0] not in PLAIN and not words.isdisjoint(parts)]

    def _pictured(self, sense: int) -> bool:
        return self.file[sense][5:] in (*PICTURED, "Tops")


@lru_cache(maxsize=1)
def _net() -> _Net:
    return _Net()


@lru_cache(maxsize=1)
def _children() -> dict[int, list[int]]:
    from workbench.data.wordnet_graph import hypernyms

    found: dict[int, list[int]] = {}
    for number in {s for numbers in _net().senses.values() for s in numbers}:
        for up in hypernyms(number):
            found.setdefault(up, []).append(number)
    return found


def _phrases(texts: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for text in texts:
        words = [w.group().lower().replace("’", "'") for w in WORD.finditer(text)]
        for length in range(1, LONGEST + 1):
            found.update(" ".join(words[i : i + length]) for i in range(len(words) - length + 1))
    return found


def _with_irregular(table: dict[str, str]) -> dict[str, str]:
    return {**{plural: table[one] for plural, one in IRREGULAR.items() if one in table}, **table}


def _singulars(phrase: str) -> Sequence[str]:
    """The phrase and what it may be the plural of."""
    forms = [phrase, *([IRREGULAR[phrase]] if phrase in IRREGULAR else [])]
    if phrase.endswith("ies"):
        forms.append(phrase[:-3] + "y")
    if phrase.endswith("ves"):
        forms += [phrase[:-3] + "f", phrase[:-3] + "fe"]
    if phrase.endswith("es"):
        forms.append(phrase[:-2])
    if phrase.endswith("s") and not phrase.endswith("ss"):
        forms.append(phrase[:-1])
    return forms
