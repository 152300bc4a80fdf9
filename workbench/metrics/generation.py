"""Language models: truthfulness by log-probabilities, perplexity, repetition, and the distance of two sets of texts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workbench.checks import describe, require_embeddings, require_positive, require_same_width, require_tensor, require_unit_rows
from workbench.metrics._blocks import full_precision, require_int, to_numpy


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """Truthfulness of a language model by the scores of true and false answers.

    Attributes:
        mc1: share of the questions whose best true answer beats every false one.
        mc2: mean share of the probability that is on true answers, among the answers given.
        mc3: mean share of the true answers that beat every false one.
        margin: mean of the score of the best true answer minus that of the best false one, in nats.
        per_question: for each question (mc1, mc2, mc3, margin).
        chance: (mc1, mc2, mc3) that equal scores in random order would give on average.
        n: number of questions.
    """

    mc1: float
    mc2: float
    mc3: float
    margin: float
    per_question: tuple[tuple[float, float, float, float], ...]
    chance: tuple[float, float, float]
    n: int


def multiple_choice(
    true: Sequence[Sequence[float]], false: Sequence[Sequence[float]], *, best: Sequence[int] | None = None
) -> MultipleChoice:
    r"""MC1, MC2 and MC3 from tables of log-probabilities, as for TruthfulQA.

    .. math:: \mathrm{MC2} = \frac{\sum_{a \in T} e^{s(a)}}{\sum_{a \in T \cup U} e^{s(a)}}, \qquad
        s(a) = \sum_t \log p(a_t \mid q, a_{<t})

    Args:
        true: for each question the scores of its true answers: sums over tokens (a mean per token is another score, under
            which long answers fare better).
        false: for each question the scores of its false answers.
        best: for each question which true answer is the best one, for MC1; None: the first, as in the benchmark's file.

    Returns:
        MultipleChoice. Ties count as lost.

    Raises:
        ValueError, TypeError: different lengths, a question without true or false answers, NaN.

    Source: Lin, Hilton & Evans 2022 (arXiv 2109.07958), MC1 and MC2; MC3: the code of Chuang et al. 2024 (arXiv 2309.03883).

    Example:
        >>> result = multiple_choice([[-1.0, -3.0]], [[-2.0]])
        >>> result.mc1, round(result.mc2, 3), result.mc3, result.margin
        (1.0, 0.755, 0.5, 1.0)
    """
    right, wrong = _table(true, "true"), _table(false, "false")
    if len(right) != len(wrong):
        raise ValueError(f"true and false must have one entry a question, got {len(right)} and {len(wrong)}")
    chosen = [0] * len(right) if best is None else list(best)
    if len(chosen) != len(right):
        raise ValueError(f"best must have one entry a question, got {len(chosen)} for {len(right)}")
    rows, chance = [], []
    for i, (t, f) in enumerate(zip(right, wrong, strict=True)):
        first = require_int(chosen[i], "best", low=0, high=len(t) - 1)
        top = max(t.max(), f.max())
        mass = np.exp(t - top).sum()
        rows.append((float(t[first] > f.max()), float(mass / (mass + np.exp(f - top).sum())), float((t > f.max()).mean()),
                     float(t[first] - f.max())))  # fmt: skip
        chance.append((1 / (1 + len(f)), len(t) / (len(t) + len(f)), 1 / (1 + len(f))))
    mean, by_chance = np.mean(rows, axis=0), np.mean(chance, axis=0)
    return MultipleChoice(
        mc1=float(mean[0]),
        mc2=float(mean[1]),
        mc3=float(mean[2]),
        margin=float(mean[3]),
        per_question=tuple(rows),
        chance=(float(by_chance[0]), float(by_chance[1]), float(by_chance[2])),
        n=len(rows),
    )


@full_precision
def perplexity(log_probs: Tensor, mask: Tensor | None = None, *, average: Literal["tokens", "texts"] = "tokens") -> Tensor:
    r"""Perplexity from the log-probabilities of the tokens of some texts; lower is better predicted.

    .. math:: \exp\Big( -\frac{\sum_{i,t} m_{it} \log p_{it}}{\sum_{i,t} m_{it}} \Big)

    Minus its logarithm is the coherence of Su et al. 2022 (arXiv 2202.06417) where the log-probabilities of a
    continuation come from another model.

    Args:
        log_probs: (n, length) natural logarithms, at most 0.
        mask: (n, length) booleans, True where there is a token; None: everywhere. Masked entries may be anything.
        average: 'tokens' weighs every token alike (a corpus's perplexity); 'texts' is the mean of the perplexities of
            the texts, which a single bad text can dominate.

    Returns:
        Scalar of at least 1, in float64.

    Raises:
        ValueError, TypeError: another shape, log-probabilities above 0 or NaN, a text without tokens.

    Example:
        >>> perplexity(torch.tensor([[0.5, 0.25]]).log())
        tensor(2.8284, dtype=torch.float64)
    """
    if average not in ("tokens", "texts"):
        raise ValueError(f"average must be 'tokens' or 'texts', got {describe(average)}")
    total, count = token_sums(log_probs, mask)
    if average == "texts":
        return (-total / count).exp().mean()
    return (-total.sum() / count.sum()).exp()


def token_sums(log_probs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """For each text the sum of the log-probabilities of its tokens, and their number, in float64."""
    log_probs = require_tensor(log_probs, "log_probs")
    if not log_probs.is_floating_point():
        raise TypeError(f"log_probs must be floating point, got {describe(log_probs)}")
    if log_probs.ndim != 2 or not log_probs.numel():
        raise ValueError(f"log_probs must have shape (n, length), got {describe(log_probs)}")
    if mask is None:
        mask = torch.ones_like(log_probs, dtype=torch.bool)
    mask = require_tensor(mask, "mask")
    if mask.dtype != torch.bool or mask.shape != log_probs.shape:
        raise ValueError(f"mask must be booleans of shape {tuple(log_probs.shape)}, got {describe(mask)}")
    kept = torch.where(mask, log_probs, 0.0).double()
    if not torch.isfinite(kept).all() or kept.max() > 1e-5:
        raise ValueError("log_probs must be finite and at most 0 wherever there is a token")
    count = mask.sum(1).double()
    if not count.all():
        raise ValueError(f"mask leaves {int((count == 0).sum())} texts without a token")
    return kept.clamp(max=0).sum(1), count


def repetition(texts: Sequence[Sequence[Hashable]], n: int, *, average: Literal["corpus", "texts"] = "corpus") -> float:
    r"""rep-n: share of the n-grams of a text that repeat one before; lower is better.

    .. math:: \mathrm{rep}_n = 1 - \frac{\sum_i \#\,\text{unique n-grams of text } i}{\sum_i \#\,\text{n-grams of text } i}

    Args:
        texts: for each text its tokens (words, as in `text.split()`, or ids).
        n: length of the n-grams.
        average: 'corpus' adds up numerators and denominators (Su et al. 2022); 'texts' is the mean of the texts' own shares,
            texts shorter than n left out (Welleck et al. 2020 average so).

    Returns:
        Share in [0, 1), not percent; 0 where nothing repeats.

    Raises:
        ValueError, TypeError: no text of n tokens, a string in place of tokens, n below 1.

    Source: Su et al. 2022 (arXiv 2202.06417), section 5.1; n-grams are unique within their text.

    Example:
        >>> repetition(["the cat and the cat".split()], 2)
        0.25
    """
    if average not in ("corpus", "texts"):
        raise ValueError(f"average must be 'corpus' or 'texts', got {describe(average)}")
    counts = ngram_counts(texts, n)
    unique, total = counts[:, 0], counts[:, 1]
    if not total.any():
        raise ValueError(f"texts has none with at least n={n} tokens")
    if average == "texts":
        return float(np.mean(1 - unique[total > 0] / total[total > 0]))
    return float(1 - unique.sum() / total.sum())


def diversity(texts: Sequence[Sequence[Hashable]]) -> float:
    r"""Product of the shares of n-grams that do not repeat, n = 2 to 4; near the value of human text is good.

    .. math:: \prod_{n=2}^{4} (1 - \mathrm{rep}_n)

    Args:
        texts: for each text its tokens; at least one has four.

    Returns:
        Value in (0, 1]; 1 where no pair of tokens repeats within a text.

    Raises:
        ValueError, TypeError: as `repetition`.

    Source: Su et al. 2022 (arXiv 2202.06417), section 5.1.

    Example:
        >>> diversity(["a b c d e".split()])
        1.0
    """
    return math.prod(1 - repetition(texts, n) for n in (2, 3, 4))


def ngram_counts(texts: Sequence[Sequence[Hashable]], n: int) -> np.ndarray:
    """(texts, 2): unique n-grams and all n-grams of each text."""
    n = require_int(n, "n", low=1)
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise TypeError(f"texts must be a list with one list of tokens a text, got {describe(texts)}")
    if not texts:
        raise ValueError("texts is empty: at least one text is needed")
    counts = []
    for i, tokens in enumerate(texts):
        if isinstance(tokens, str) or not isinstance(tokens, Sequence):
            raise TypeError(f"texts[{i}] must be a list of tokens, got {describe(tokens)}; use text.split()")
        grams = [tuple(tokens[j : j + n]) for j in range(len(tokens) - n + 1)]
        counts.append((len(set(grams)), len(grams)))
    return np.array(counts, dtype=float)


@dataclass(frozen=True, kw_only=True)
class Mauve:
    """Closeness of two sets of texts through the histograms of their features.

    Attributes:
        value: area under the divergence curve, in (0, 1]; 1 for equal histograms.
        null: the mean of the same for random halves of both sets together, which is below 1 by chance alone.
        curve: (exp(-c KL(q | r)), exp(-c KL(p | r))) from one end to the other.
        k: clusters.
        n: (rows of p, rows of q).
    """

    value: float
    null: float
    curve: tuple[tuple[float, float], ...]
    k: int
    n: tuple[int, int]


@full_precision
def mauve(
    p: Tensor,
    q: Tensor,
    *,
    k: int | None = None,
    scale: float = 5.0,
    variance: float = 0.9,
    null_draws: int = 5,
    seed: int = 0,
) -> Mauve:
    r"""MAUVE of two sets of features: clusters in common, then the area under the divergence frontier.

    .. math:: \Big\{ \big( e^{-c\,\mathrm{KL}(Q \| R_\lambda)},\ e^{-c\,\mathrm{KL}(P \| R_\lambda)} \big) :
        R_\lambda = \lambda P + (1 - \lambda) Q \Big\}

    Args:
        p: (n, d) features of human texts, normalised inside.
        q: (m, d) features of generated texts by the same encoder.
        k: clusters; None: a tenth of the smaller set, at least 2.
        scale: c, 5 in the paper.
        variance: share of the variance that the principal components before k-means keep.
        null_draws: random halvings of both sets together for `null`.
        seed: seed of k-means (scikit-learn, five starts) and of the halvings.

    Returns:
        Mauve. Values depend on the features, k and c: compare only within one setting. The paper's features are
        GPT-2's last hidden state; hundreds of rows are needed.

    Raises:
        ValueError, TypeError: bad features, different widths, k out of range.

    Source: Pillutla et al. 2021 (arXiv 2102.01454), equations 1 to 3; 25 mixtures as in the authors' code.
    """
    return clustered_mauve(p, q, k=k, scale=scale, variance=variance, null_draws=null_draws, seed=seed)[0]


def clustered_mauve(
    p: Tensor, q: Tensor, *, k: int | None = None, scale: float = 5.0, variance: float = 0.9, null_draws: int = 5, seed: int = 0
) -> tuple[Mauve, np.ndarray]:
    """As `mauve`, with the cluster (n + m,) of each row."""
    c = float(require_positive(scale, "scale"))
    draws = require_int(null_draws, "null_draws", low=1)
    labels, clusters = _common_clusters(p, q, k=k, variance=variance, seed=seed)
    curve = divergence_curve(*_histograms(labels, np.arange(len(labels)) < len(p), clusters), c)
    rng = np.random.default_rng(seed)
    nulls = []
    for _ in range(draws):
        first = np.zeros(len(labels), dtype=bool)
        first[rng.permutation(len(labels))[: len(p)]] = True
        nulls.append(area(divergence_curve(*_histograms(labels, first, clusters), c)))
    result = Mauve(
        value=float(area(curve)),
        null=float(np.mean(nulls)),
        curve=tuple((float(a), float(b)) for a, b in curve),
        k=clusters,
        n=(len(p), len(q)),
    )
    return result, labels


def _common_clusters(p: Tensor, q: Tensor, *, k: int | None, variance: float, seed: int) -> tuple[np.ndarray, int]:
    """Labels (n + m,) of both sets after k-means on the principal components of all rows, and the number of clusters."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    p, q = require_unit_rows(p, "p", min_rows=4), require_unit_rows(q, "q", min_rows=4)
    require_same_width(p, q, "p", "q")
    keep = float(require_positive(variance, "variance"))
    if keep > 1:
        raise ValueError(f"variance must be at most 1, got {keep}")
    seed = require_int(seed, "seed", low=0)
    clusters = max(2, round(min(len(p), len(q)) / 10)) if k is None else k
    clusters = require_int(clusters, "k", low=2, high=len(p) + len(q), why="the number of rows")
    rows = to_numpy(require_embeddings(torch.cat([p, q]), "p and q")).astype(np.float64)
    if np.ptp(rows, axis=0).max() > 1e-9:
        pca = PCA(random_state=seed).fit(rows)
        width = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), keep - 1e-12)) + 1
        rows = pca.transform(rows)[:, :width]
    clusters = min(clusters, len(np.unique(rows, axis=0)))
    return KMeans(clusters, n_init=5, max_iter=500, random_state=seed).fit_predict(rows), clusters


def divergence_curve(p: np.ndarray, q: np.ndarray, scale: float) -> np.ndarray:
    """(..., 27, 2) points of the frontier of histograms (..., k), ends included."""
    points = [np.broadcast_to([1.0, 0.0], (*p.shape[:-1], 2))]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25):
        mixture = weight * p + (1 - weight) * q
        points.append(np.exp(-scale * np.stack([_kl(q, mixture), _kl(p, mixture)], axis=-1)))
    return np.stack([*points, np.broadcast_to([0.0, 1.0], points[0].shape)], axis=-2)


def area(curve: np.ndarray) -> np.ndarray:
    """Areas (...) under curves (..., points, 2), by trapezia."""
    x, y = curve[..., ::-1, 0], curve[..., ::-1, 1]
    return np.trapezoid(y, x, axis=-1)


def _histograms(labels: np.ndarray, first: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [np.bincount(labels[rows], minlength=k) for rows in (first, ~first)]
    return counts[0] / counts[0].sum(), counts[1] / counts[1].sum()


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    # q is a mixture with a part of p: it is zero only where p is.
    return (p * np.log(np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0))).sum(-1)


def _table(scores: Sequence[Sequence[float]], name: str) -> list[np.ndarray]:
    if isinstance(scores, (str, Tensor)) or not isinstance(scores, Sequence):
        raise TypeError(f"{name} must be a list with one list of scores a question, got {describe(scores)}")
    if not scores:
        raise ValueError(f"{name} is empty: at least one question is needed")
    rows = []
    for i, row in enumerate(scores):
        values = np.asarray(row.tolist() if isinstance(row, Tensor) else row)
        if values.ndim != 1 or not len(values) or values.dtype.kind not in "fi":
            raise ValueError(f"{name}[{i}] must be at least one number, got {describe(row)}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name}[{i}] has a score that is NaN or infinite")
        rows.append(values.astype(float))
    return rows
