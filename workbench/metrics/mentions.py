"""Which objects a caption mentions, and where: the first half of CHAIR, with its rules as parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.checks import describe
from workbench.metrics._blocks import require_int

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
SENTENCE_END = re.compile(r"[.!?]+(?:\s+|$)|\n\s*")


@dataclass(frozen=True, kw_only=True)
class Mention:
    """One mention of an object in a text.

    Attributes:
        name: the object, as the synonym table calls it.
        text: the words of the caption.
        start: position of their first character.
        end: position after the last one.
    """

    name: str
    text: str
    start: int
    end: int


def find_mentions(
    captions: Sequence[str],
    synonyms: Mapping[str, str],
    *,
    plurals: bool = True,
    sentences: int | None = None,
) -> tuple[tuple[Mention, ...], ...]:
    """Mentions of known objects in each caption, the longest match first: 'hot dog' is not a dog, 'teddy bear' is not a bear.

    Case does not count. The names for `chair` are `[m.name for m in mentions]`.

    Args:
        captions: texts.
        synonyms: word or phrase -> object, such as {'dog': 'dog', 'puppy': 'dog', 'hot dog': 'hot dog'}; lemmas of a WordNet
            synset make such a table. A phrase that maps to '' hides the words in it from the shorter entries.
        plurals: also take the English plural of the last word of an entry (-s, -es, -ies, -ves); irregular ones ('mice')
            belong in the table.
        sentences: look at the first so many sentences only, for a comparison at like length; None: all. A sentence ends
            with . ! or ? before white space, or with a line.

    Returns:
        For each caption its mentions from left to right.

    Raises:
        ValueError: an empty table or entry, sentences below 1.
        TypeError: captions that are one string, entries that are not strings.

    Source: the matching of Rohrbach et al. 2018 (arXiv 1809.02156) is by words of a table, with a list of double words.

    Example:
        >>> table = {"dog": "dog", "puppy": "dog", "hot dog": "hot dog"}
        >>> [m.name for m in find_mentions(["Two puppies eat a hot dog."], table)[0]]
        ['dog', 'hot dog']
    """
    entries = _table(synonyms, plurals)
    longest = max(len(words) for words in entries)
    if sentences is not None:
        sentences = require_int(sentences, "sentences", low=1)
    if isinstance(captions, str) or not isinstance(captions, Sequence):
        raise TypeError(f"captions must be a list of texts, got {describe(captions)}")
    result = []
    for i, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise TypeError(f"captions[{i}] must be a text, got {describe(caption)}")
        words = list(WORD.finditer(caption if sentences is None else first_sentences(caption, sentences)))
        lower = [word.group().lower().replace("’", "'") for word in words]
        found, at = [], 0
        while at < len(words):
            for length in range(min(longest, len(words) - at), 0, -1):
                name = entries.get(tuple(lower[at : at + length]))
                if name is not None:
                    start, end = words[at].start(), words[at + length - 1].end()
                    if name:
                        found.append(Mention(name=name, text=caption[start:end], start=start, end=end))
                    at += length
                    break
            else:
                at += 1
        result.append(tuple(found))
    return tuple(result)


def first_sentences(text: str, count: int) -> str:
    """The text up to the end of its first `count` sentences."""
    for number, end in enumerate(SENTENCE_END.finditer(text.rstrip()), start=1):
        if number == count:
            return text[: end.end()].rstrip()
    return text


def _table(synonyms: Mapping[str, str], plurals: bool) -> dict[tuple[str, ...], str]:
    if not isinstance(synonyms, Mapping):
        raise TypeError(f"synonyms must map words to objects, got {describe(synonyms)}")
    table: dict[tuple[str, ...], str] = {}
    several: dict[tuple[str, ...], str] = {}
    for phrase, name in synonyms.items():
        if not isinstance(phrase, str) or not isinstance(name, str):
            raise TypeError(f"synonyms must map strings to strings, got {describe(phrase)} -> {describe(name)}")
        words = tuple(word.group().lower().replace("’", "'") for word in WORD.finditer(phrase))
        if not words:
            raise ValueError(f"synonyms has an entry without words: {phrase!r}")
        table[words] = name
        if plurals:
            for form in _plurals(words[-1]):
                several.setdefault((*words[:-1], form), name)
    if not table:
        raise ValueError("synonyms is empty: no object could be found")
    return {**several, **table}


def _plurals(word: str) -> list[str]:
    forms = [word + "s"]
    if re.search(r"(s|x|z|ch|sh|o)$", word):
        forms.append(word + "es")
    if re.search(r"[^aeiou]y$", word):
        forms.append(word[:-1] + "ies")
    if re.search(r"(f|fe)$", word):
        forms.append(re.sub(r"fe?$", "ves", word))
    return forms
