"""Find texts that say nearly the same, so that builders can keep them in one split."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "for",
        "from",
        "has",
        "have",
        "he",
        "her",
        "him",
        "his",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "my",
        "no",
        "nor",
        "not",
        "of",
        "on",
        "one",
        "or",
        "other",
        "our",
        "she",
        "so",
        "some",
        "such",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "thou",
        "to",
        "thy",
        "unto",
        "up",
        "upon",
        "us",
        "was",
        "we",
        "were",
        "which",
        "who",
        "whom",
        "whose",
        "will",
        "with",
        "ye",
        "you",
        "your",
    ]
)


def content_words(text: str) -> frozenset[str]:
    """Words of a text in lower case without the commonest ones; all words where nothing else is left."""
    words = re.findall(r"[^\W_]+", text.lower())
    return frozenset(w for w in words if w not in STOP_WORDS) or frozenset(words)


def near_duplicates(texts: Sequence[str], threshold: float = 0.8) -> list[tuple[int, int]]:
    r"""Pairs of texts whose content words overlap by at least `threshold`; of equal sets only the first is compared further.

    .. math:: J(a, b) = |a \cap b| \, / \, |a \cup b|

    Connected through, the pairs give the families of nearly equal texts.

    Example:
        >>> near_duplicates(["a red house", "the red house", "a blue boat"])
        [(0, 1)]
    """
    group, links = _groups(texts, threshold)
    return sorted([(first, i) for i, first in enumerate(group) if first != i] + links)


def without_overlap(split: Sequence[str], texts: Iterable[tuple[int, str]], threshold: float = 0.8) -> list[str]:
    """The split, with every row set apart as 'overlap' that nearly repeats a row of a later one: train gives way to val, val to test.

    Args:
        split: 'train', 'val' or 'test' for every row.
        texts: (row, text); a row may have several texts, and is set apart if one of them repeats.
        threshold: overlap of content words from which two texts count as the same.

    Example:
        >>> without_overlap(["train", "test", "train"], [(0, "A red house."), (1, "the red house"), (2, "a blue boat")])
        ['overlap', 'test', 'train']
    """
    rows, contents = zip(*texts, strict=True)
    group, links = _groups(contents, threshold)
    rank = {"train": 0, "val": 1, "test": 2}
    latest: dict[int, int] = {}
    for row, g in zip(rows, group, strict=True):
        latest[g] = max(latest.get(g, 0), rank[split[row]])
    limit = dict(latest)
    for i, j in links:
        limit[i], limit[j] = max(limit[i], latest[j]), max(limit[j], latest[i])
    cleaned = list(split)
    for row, g in zip(rows, group, strict=True):
        if rank[split[row]] < limit[g]:
            cleaned[row] = "overlap"
    return cleaned


def _groups(texts: Sequence[str], threshold: float) -> tuple[list[int], list[tuple[int, int]]]:
    """For every text the first with the same content words; and the pairs of such firsts that overlap by `threshold` or more."""
    # Exact, by prefix filtering: two sets with J at least t share a word among the first |a| - ceil(t |a|) + 1 of each, when the
    # words of both are sorted from rare to common.
    sets = [content_words(text) for text in texts]
    common = Counter(word for words in sets for word in words)
    first: dict[frozenset[str], int] = {}
    group = [first.setdefault(words, i) for i, words in enumerate(sets)]
    links = []
    index: dict[str, list[int]] = defaultdict(list)
    for size, i in sorted((len(words), i) for words, i in first.items()):
        prefix = sorted(sets[i], key=lambda w: (common[w], w))[: size - math.ceil(threshold * size) + 1]
        seen: set[int] = set()
        for word in prefix:
            seen.update(j for j in index[word] if len(sets[j]) >= threshold * size)
            index[word].append(i)
        for j in seen:
            shared = len(sets[i] & sets[j])
            if shared >= threshold * (size + len(sets[j]) - shared):
                links.append((min(i, j), max(i, j)))
    return group, links
