"""WordNet 3.0: words, definitions, examples, relations, and pairs of definitions graded by the hypernym graph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.files import require_split
from workbench.data.texts import codes, columns_of, floats, integers, lists, split_rows
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

VIEWS = ("synsets", "entries", "relations", "pairs")
PARTS = ("noun", "verb", "adj", "adv")


def load_wordnet(
    split: str = "train", *, view: str = "synsets", part: str | None = None, device: str | torch.device = "cpu"
) -> Dataset:
    """Meanings of English words with their definitions, split by families of near-identical definitions.

    Args:
        split: 'train' (50 %, the half that language models may be pretrained on), 'val' (10 %), 'test' (40 %) or 'all'.
        view: what a row is.

            - 'synsets', a meaning: captions are the definitions, `extras["words"]` and `extras["examples"]` lists;
            - 'entries', a word in one meaning: captions are the words, `extras["partner"]` the definitions;
            - 'relations', two related words: captions and `extras["partner"]` are the words, labels the kinds; split by word;
            - 'pairs', two definitions of nouns: captions and `extras["partner"]`, graded by `factors["similarity"]` (Wu-Palmer,
              `workbench.data.wordnet_graph.wu_palmer`), flat from 0.10 to 0.95: 4,000 / 500 / 2,000 pairs of one split each.
        part: keep one part of speech, 'noun', 'verb', 'adj' or 'adv' (in relations and pairs: of the first meaning).
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        labels of synsets and entries: the 45 lexicographer files, such as 'noun.animal' (supersenses). Factors synset (number of
        the meaning, for `wordnet_graph`; concept in entries), depth (steps to the root), count (uses in the tagged concordance),
        family; relations and pairs have synset and synset_partner. The first call takes about 1 s and keeps 120 MB.

    Raises:
        UnknownNameError: split, view or part.
        DataError: a file of the set is missing or corrupt.

    Example:
        >>> ds = load_wordnet("test", view="pairs")
        >>> len(ds), ds.factors["similarity"].min() >= 0.1
        (2000, tensor(True))
    """
    require_split(split, "wordnet split")
    if view not in VIEWS:
        raise UnknownNameError("wordnet view", view, VIEWS)
    if part is not None and part not in PARTS:
        raise UnknownNameError("part of speech", part, PARTS)
    place = resolve_device(device)
    build: dict[str, Callable[[str, str | None], Dataset]] = {
        "synsets": _synsets,
        "entries": _entries,
        "relations": _relations,
        "pairs": _pairs,
    }
    return build[view](split, part).to(place)


def word_split(word: str) -> str:
    """The split of a word in the view 'relations': half of all words train, a tenth val, the rest test, by SHA-256."""
    place = int(hashlib.sha256(word.lower().encode()).hexdigest()[:8], 16) / 16**8
    return "train" if place < 0.5 else "val" if place < 0.6 else "test"


def _of_part(columns: dict[str, np.ndarray], rows: np.ndarray, part: str | None) -> np.ndarray:
    if part is None:
        return np.ones(len(rows), dtype=bool)
    letter = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}[part]
    return np.array([s[0] == letter for s in columns["synset"][rows].tolist()], dtype=bool)


def _synsets(split: str, part: str | None) -> Dataset:
    c = columns_of("wordnet", "synsets.parquet")
    rows = split_rows(c, split, "wordnet")
    rows = rows[_of_part(c, rows, part)]
    files = sorted(set(c["file"].tolist()))
    factors = {"synset": torch.from_numpy(rows), **{n: integers(c[n][rows]) for n in ("depth", "count", "family")}}
    extras = {"id": c["synset"][rows].tolist(), "words": lists(c["words"][rows]), "examples": lists(c["examples"][rows])}
    labels = codes(c["file"][rows], files)
    return Dataset("wordnet", split, None, labels, files, c["definition"][rows].tolist(), factors, extras=extras)


def _entries(split: str, part: str | None) -> Dataset:
    ds = _synsets(split, part)
    index = np.repeat(np.arange(len(ds)), [len(words) for words in ds.extras["words"]])
    words = [word for words in ds.extras["words"] for word in words]
    at = torch.from_numpy(index)
    factors = {name: values[at] for name, values in ds.factors.items()}
    factors["concept"] = factors["synset"].clone()
    assert ds.labels is not None
    extras = {"partner": [ds.captions[i] for i in index.tolist()], "id": [ds.extras["id"][i] for i in index.tolist()]}
    return Dataset("wordnet", split, None, ds.labels[at], ds.label_names, words, factors, extras=extras)


def _relations(split: str, part: str | None) -> Dataset:
    c, r = columns_of("wordnet", "synsets.parquet"), columns_of("wordnet", "relations.parquet")
    words = c["words"].tolist()
    # Relations of whole meanings are shown by the first word of each.
    left = [words[s][max(w, 1) - 1] for s, w in zip(r["source"].tolist(), r["source_word"].tolist(), strict=True)]
    right = [words[t][max(w, 1) - 1] for t, w in zip(r["target"].tolist(), r["target_word"].tolist(), strict=True)]
    keep = _of_part(c, r["source"], part)
    if split != "all":
        mine = {word: word_split(word) == split for word in {*left, *right}}
        keep &= np.array([mine[a] and mine[b] for a, b in zip(left, right, strict=True)], dtype=bool)
    rows = np.flatnonzero(keep)
    kinds = sorted(set(r["kind"].tolist()))
    factors = {"synset": integers(r["source"][rows]), "synset_partner": integers(r["target"][rows])}
    extras: dict[str, Any] = {
        "partner": [right[i] for i in rows],
        "definition": c["definition"][r["source"][rows]].tolist(),
        "partner_definition": c["definition"][r["target"][rows]].tolist(),
    }
    captions = [left[i] for i in rows]
    return Dataset("wordnet", split, None, codes(r["kind"][rows], kinds), kinds, captions, factors, extras=extras)


def _pairs(split: str, part: str | None) -> Dataset:
    c, p = columns_of("wordnet", "synsets.parquet"), columns_of("wordnet", "pairs.parquet")
    rows = split_rows(p, split, "wordnet")
    rows = rows[_of_part(c, p["first"][rows], part)]
    first, second = p["first"][rows], p["second"][rows]
    factors: dict[str, Tensor] = {
        "similarity": floats(p["similarity"][rows]),
        "synset": integers(first),
        "synset_partner": integers(second),
    }
    partner = c["definition"][second].tolist()
    return Dataset("wordnet", split, captions=c["definition"][first].tolist(), factors=factors, extras={"partner": partner})
