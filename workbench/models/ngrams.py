"""A language model that only counts: interpolated n-grams, an evaluator that shares nothing with a neural generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.checks import describe


class NGramModel:
    r"""Interpolated n-grams of token ids; every order shrinks towards the one below.

    .. math:: p(w \mid h) = \frac{c(h, w) + \kappa\, p(w \mid h')}{c(h) + \kappa}, \qquad p(w) = \frac{c(w) + 1}{N + V}

    where h' is the context h without its first token.

    Args:
        texts: token ids of the training texts; no n-gram crosses from one text to the next.
        vocabulary: number V of ids.
        order: longest n-gram, from 1 to 4.
        weight: kappa, positive: how many occurrences of a context outweigh the shorter one.

    Raises:
        ValueError: no texts, ids outside the vocabulary, an order or weight out of range.

    Source: Dirichlet smoothing, MacKay & Bauman Peto 1995.
    """

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary: int, *, order: int = 3, weight: float = 5.0):
        if not len(texts) or not sum(map(len, texts)):
            raise ValueError("texts is empty: at least one token is needed")
        if not 1 <= order <= 4 or vocabulary < 1 or vocabulary**order >= 2**63:
            raise ValueError(f"order must be from 1 to 4 and vocabulary**order below 2**63, got {order} and {vocabulary}")
        if not weight > 0:
            raise ValueError(f"weight must be positive, got {describe(weight)}")
        self.vocabulary, self.order, self.weight = vocabulary, order, float(weight)
        rows = [self._checked(text) for text in texts]
        flat = np.concatenate(rows)
        self.unigram = (np.bincount(flat, minlength=vocabulary) + 1) / (len(flat) + vocabulary)
        # Place of each token in its own text: an n-gram needs n - 1 tokens of the same text before it.
        place = np.concatenate([np.arange(len(row)) for row in rows])
        self.tables: list[tuple[np.ndarray, ...]] = []
        for n in range(2, order + 1):
            ends = np.flatnonzero(place >= n - 1)
            keys = self._keys(flat, ends, n)
            grams, counts = np.unique(keys, return_counts=True)
            contexts, totals = np.unique(keys // vocabulary, return_counts=True)
            self.tables.append((grams, counts, contexts, totals))

    def log_probs(self, text: Sequence[int], start: int = 0) -> np.ndarray:
        """Natural logarithm of the probability of each token of a text from position `start` on, given all before it."""
        ids = self._checked(text)
        if not 0 <= start < len(ids):
            raise ValueError(f"start must be a position in the text of {len(ids)} tokens, got {start}")
        p = self.unigram[ids]
        for n, (grams, counts, contexts, totals) in enumerate(self.tables, 2):
            ends = np.arange(n - 1, len(ids))
            if not len(ends):
                break
            keys = self._keys(ids, ends, n)
            together, alone = _lookup(grams, counts, keys), _lookup(contexts, totals, keys // self.vocabulary)
            p[ends] = (together + self.weight * p[ends]) / (alone + self.weight)
        return np.asarray(np.log(p[start:]))

    def _keys(self, ids: np.ndarray, ends: np.ndarray, n: int) -> np.ndarray:
        keys = np.zeros(len(ends), dtype=np.int64)
        for back in range(n - 1, -1, -1):
            keys = keys * self.vocabulary + ids[ends - back]
        return keys

    def _checked(self, text: Sequence[int]) -> np.ndarray:
        ids = np.asarray(text, dtype=np.int64)
        if ids.ndim != 1 or (len(ids) and not (ids.min() >= 0 and ids.max() < self.vocabulary)):
            raise ValueError(f"texts must hold ids from 0 to {self.vocabulary - 1}, got {describe(text)}")
        return ids


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64)
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
