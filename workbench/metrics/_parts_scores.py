"""What each query, caption or question contributes to the metrics of answers, and their nulls; used by `estimate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.checks import describe
from workbench.metrics._blocks import full_precision, require_int, to_numpy
from workbench.metrics.classification import knn_hits, linear_hits
from workbench.metrics.feature_suppression import factor_hits
from workbench.metrics.generation import (
    MultipleChoice,
    area,
    clustered_mauve,
    divergence_curve,
    ngram_counts,
    token_sums,
)
from workbench.metrics.hallucination import Chair
from workbench.metrics.intervals import Contributions, mean_of, ratio
from workbench.metrics.minimal_pairs import CaptionChoice, MinimalPairs
from workbench.metrics.pope import Pope
from workbench.metrics.ranking import (
    Ranking,
    chance_average_precision,
    chance_recall,
    chance_reciprocal_rank,
    ranking,
)
from workbench.metrics.retrieval import Recall, recall_at_k, reciprocal_ranks

UNIT: Any = {"bounds": (0.0, 1.0), "share": True}


# --- retrieval and probes ---


@full_precision
def recall(query: Tensor | Recall, key: Tensor | None = None, *, k: int = 1, **options: Any) -> Contributions:
    result = query if isinstance(query, Recall) else recall_at_k(query, _given(key, "key"), k=k, **options)
    k = require_int(k, "k", low=1, high=result.n_key - 1)
    return mean_of(
        "recall_at_k",
        result.ranks < k,
        null=float(chance_recall(result.n_positive, result.n_key, k).mean()),
        null_is="keys in random order",
        convention=f"k = {k}, ties count against the query",
        d=None if isinstance(query, Recall) else query.shape[1],
        **UNIT,
    )


@full_precision
def mrr(query: Tensor | Recall | Ranking, key: Tensor | None = None, *, k: int | None = None, **options: Any) -> Contributions:
    if isinstance(query, Recall):
        values, relevant, n_key = reciprocal_ranks(query.ranks, k), query.n_positive.cpu(), query.n_key
    else:
        found = query if isinstance(query, Ranking) else ranking(query, _given(key, "key"), k=1, **options)
        values, relevant, n_key = found.reciprocal_rank, found.n_relevant.cpu(), found.n_key
        if k is not None:
            values = torch.where(values * require_int(k, "k", low=1) >= 1 - 1e-9, values, 0.0)
    null = float(chance_reciprocal_rank(relevant, n_key).mean()) if k is None else None
    null_is = "keys in random order" if k is None else "not known for a cut-off"
    if k is not None and int(relevant.max()) == 1:
        null, null_is = sum(1 / place for place in range(1, min(k, n_key) + 1)) / n_key, "keys in random order"
    convention = f"rank of the first relevant key, {'no cut-off' if k is None else f'0 beyond place {k}'}"
    return mean_of("mrr", values, null=null, null_is=null_is, convention=convention, **UNIT)


@full_precision
def mean_average_precision(query: Tensor | Ranking, key: Tensor | None = None, **options: Any) -> Contributions:
    result = query if isinstance(query, Ranking) else ranking(query, _given(key, "key"), k=1, **options)
    return mean_of(
        "map",
        result.average_precision,
        null=float(chance_average_precision(result.n_relevant.cpu(), result.n_key).mean()),
        null_is="keys in random order",
        convention="no cut-off, ties count against the query",
        **UNIT,
    )


@full_precision
def ndcg(query: Tensor | Ranking, key: Tensor | None = None, *, k: int = 10, **options: Any) -> Contributions:
    result = query if isinstance(query, Ranking) else ranking(query, _given(key, "key"), k=k, **options)
    if k not in result.ndcg_rows:
        raise ValueError(f"k must be one of the cut-offs {sorted(result.ndcg_rows)} of the ranking, got {k}")
    null = None
    if options.get("relevance") is None and not isinstance(query, Ranking):
        # Each place is relevant with probability R / n; the ideal gain has R places filled.
        gain = torch.cat([torch.zeros(1), (1 / (torch.arange(1.0, k + 1) + 1).log2()).cumsum(0)]).double()
        relevant = result.n_relevant.cpu()
        null = float((relevant / result.n_key * gain[-1] / gain[relevant.clamp(max=k)]).mean())
    return mean_of(
        "ndcg",
        result.ndcg_rows[k],
        null=null,
        null_is="keys in random order" if null is not None else "not known for graded relevance or a stored ranking",
        convention=f"k = {k}, {result.gain} gain",
        **UNIT,
    )


@full_precision
def knn_accuracy(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, *, k: int = 1) -> Contributions:
    right = knn_hits(train_x, train_y, test_x, test_y, k=k)
    classes, counts = train_y.unique(return_counts=True)
    return mean_of(
        "knn_accuracy",
        right,
        null=float((test_y == classes[counts.argmax()]).double().mean()),
        null_is="always the most frequent training class",
        convention=f"k = {k}, one vote each; interval over test rows, training rows fixed",
        d=train_x.shape[1],
        **UNIT,
    )


@full_precision
def linear_probe(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, **options: Any) -> Contributions:
    _, right, classes, counts = linear_hits(train_x, train_y, test_x, test_y, **options)
    return mean_of(
        "linear_probe",
        right,
        null=float((test_y == classes[counts.argmax()]).double().mean()),
        null_is="always the most frequent training class",
        convention=f"logistic regression, c = {options.get('c', 1.0):g}; interval over test rows, training rows fixed",
        d=train_x.shape[1],
        **UNIT,
    )


@full_precision
def factor(embeddings: Tensor, values: Tensor, *, probe: str = "logistic", **options: Any) -> Contributions:
    hits, chance = factor_hits(embeddings, {"values": values}, probe=probe, **options)
    return mean_of(
        "factor_probe",
        hits["values"],
        null=chance["values"],
        null_is="always the most frequent value",
        convention=f"{probe} probe, cross-validated, each row held out once",
        d=embeddings.shape[1],
        **UNIT,
    )


# --- captions ---


def chair_part(which: str) -> Callable[[Chair], Contributions]:
    """Contributions of 'chair_i', 'chair_s' or 'chair_recall'."""

    def parts(result: Chair) -> Contributions:
        _require(result, Chair, "chair(...)")
        counts = np.array(result.per_caption, dtype=float)
        null = dict(zip(("chair_i", "chair_s", "chair_recall"), result.null, strict=True))[which]
        words: dict[str, Any] = {
            "null": null,
            "null_is": "the same captions with the pictures exchanged" if null is not None else "needs two captions",
            "convention": f"counting each {result.count}; interval over captions",
        }
        if which == "chair_s":
            return mean_of(which, counts[:, 1] > 0, **words, **UNIT)
        columns = counts[:, [1, 0]] if which == "chair_i" else counts[:, [3, 2]]
        if not columns[:, 1].any():
            raise ValueError(f"{which} has no value: there is nothing to count in {len(counts)} captions")
        return Contributions(name=which, rows=columns, statistic=ratio, **words, **UNIT)

    return parts


def pope_part(which: str) -> Callable[[Pope], Contributions]:
    """Contributions of 'pope_accuracy', 'pope_precision', 'pope_recall', 'pope_f1' or 'pope_yes_ratio'."""

    def parts(result: Pope) -> Contributions:
        _require(result, Pope, "pope(...)")
        yes = np.array([answer is True for answer, _ in result.questions], dtype=float)
        label = np.array([label for _, label in result.questions], dtype=float)
        right, base, said = np.array(result.right, dtype=float), label.mean(), yes.mean()
        both = yes * label
        table: dict[str, tuple[np.ndarray, float, str]] = {
            "pope_accuracy": (right[:, None], max(base, 1 - base), "the better constant answer"),
            "pope_precision": (np.stack([both, yes], 1), base, "answers that do not depend on the picture"),
            "pope_recall": (np.stack([both, label], 1), said, "answers that do not depend on the picture, as many yes"),
            "pope_f1": (np.stack([2 * both, yes + label], 1), 2 * base / (1 + base), "always yes"),
            "pope_yes_ratio": (yes[:, None], base, "the share of yes among the labels"),
        }
        rows, null, null_is = table[which]
        words: dict[str, Any] = {
            "null": float(null),
            "null_is": null_is,
            "convention": f"unparsed answers: {result.unparsed} ({result.n_unparsed} of them)",
        }
        if rows.shape[1] == 1:
            return mean_of(which, rows, **words, **UNIT)
        if not rows[:, 1].any():
            raise ValueError(f"{which} has no value: nothing to divide by in {len(rows)} questions")
        return Contributions(name=which, rows=rows, statistic=ratio, **words, **UNIT)

    return parts


def pairs_part(which: str, null: float) -> Callable[[MinimalPairs], Contributions]:
    """Contributions of 'text', 'image' or 'group' accuracy of minimal pairs."""

    def parts(result: MinimalPairs) -> Contributions:
        _require(result, MinimalPairs, "minimal_pairs(...)")
        right = {"text": result.text_right, "image": result.image_right, "group": result.text_right & result.image_right}[which]
        return mean_of(f"pairs_{which}", right, null=null, null_is="scores in random order", convention="ties are wrong", **UNIT)

    return parts


def caption_choice(result: CaptionChoice) -> Contributions:
    _require(result, CaptionChoice, "caption_choice(...)")
    return mean_of(
        "caption_choice",
        result.right,
        null=result.chance if result.blind is None else result.blind,
        null_is="scores in random order" if result.blind is None else "the model that does not see the picture",
        convention="micro average, ties are wrong",
        **UNIT,
    )


# --- language models ---


def choice_part(column: int) -> Callable[[MultipleChoice], Contributions]:
    """Contributions of MC1, MC2, MC3 or the margin."""
    name = ("mc1", "mc2", "mc3", "mc_margin")[column]

    def parts(result: MultipleChoice) -> Contributions:
        _require(result, MultipleChoice, "multiple_choice(...)")
        values = np.array(result.per_question)[:, column]
        words: Any = UNIT if column < 3 else {}
        return mean_of(
            name,
            values,
            null=result.chance[column] if column < 3 else 0.0,
            null_is="scores in random order" if column < 3 else "best true and best false answer alike",
            convention="sums of log-probabilities, ties are lost",
            **words,
        )

    return parts


def perplexity(log_probs: Tensor, mask: Tensor | None = None) -> Contributions:
    total, count = token_sums(log_probs, mask)
    return Contributions(
        name="perplexity",
        rows=to_numpy(torch.stack([-total, count], 1)),
        statistic=lambda means: np.exp(means[..., 0] / means[..., 1]),
        null=None,
        null_is="the number of tokens in the vocabulary, which is not known here",
        convention="every token weighs alike; interval over texts",
        bounds=(1.0, math.inf),
    )


def repetition(texts: Sequence[Sequence[Hashable]], n: int = 4) -> Contributions:
    counts = ngram_counts(texts, n)
    if not counts[:, 1].any():
        raise ValueError(f"texts has none with at least n={n} tokens")
    return Contributions(
        name="repetition",
        rows=np.stack([counts[:, 1] - counts[:, 0], counts[:, 1]], 1),
        statistic=ratio,
        null=None,
        null_is="that of human texts of the same length; give them as a second set",
        convention=f"n = {n}, numerators and denominators summed over texts",
        bounds=(0.0, 1.0),
    )


def diversity(texts: Sequence[Sequence[Hashable]]) -> Contributions:
    counts = [ngram_counts(texts, n) for n in (2, 3, 4)]
    if not counts[2][:, 1].any():
        raise ValueError("texts has none with at least four tokens")
    return Contributions(
        name="diversity",
        rows=np.concatenate(counts, axis=1),
        statistic=lambda m: m[..., 0] * m[..., 2] * m[..., 4] / np.maximum(m[..., 1] * m[..., 3] * m[..., 5], 1e-300),
        null=None,
        null_is="that of human texts of the same length; give them as a second set",
        convention="product over n = 2, 3, 4; interval over texts",
        bounds=(0.0, 1.0),
    )


@full_precision
def mauve_(p: Tensor, q: Tensor, *, scale: float = 5.0, **options: Any) -> Contributions:
    result, labels = clustered_mauve(p, q, scale=scale, **options)
    clusters = result.k
    rows = np.zeros((len(labels), 2 * clusters))  # the cluster of a row of p, then that of a row of q
    rows[np.arange(len(labels)), labels + clusters * (np.arange(len(labels)) >= len(p))] = 1

    def statistic(means: np.ndarray) -> np.ndarray:
        parts = np.maximum(means[..., :clusters], 0), np.maximum(means[..., clusters:], 0)
        one, other = (part / np.maximum(part.sum(-1, keepdims=True), 1e-300) for part in parts)
        return area(divergence_curve(one, other, scale))

    return Contributions(
        name="mauve",
        rows=rows,
        statistic=statistic,
        null=result.null,
        null_is="random halves of both sets",
        convention=f"k-means in common with {clusters} clusters, which the draws keep; 25 mixtures, c = {scale:g}",
        d=p.shape[1],
        bounds=(0.0, 1.0),
    )


def _given(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise TypeError(f"{name} is missing: give two sets of embeddings, or a stored result in their place")
    return value


def _require(result: object, kind: type, call: str) -> None:
    if not isinstance(result, kind):
        raise TypeError(f"the result of {call} is wanted, got {describe(result)}")
