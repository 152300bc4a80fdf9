"""Every metric that is one number through the shared tester, against loops written from the papers."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, spatial, stats
from tester import Case, Tester, labelled, make_inputs, pair, single

from workbench import metrics

# --- the slow way: rows are lists of floats, every sum is written out ---


def rows(x):
    return [[a / math.hypot(*v) for a in v] for v in x.detach().double().tolist()]


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def distance(a, b):
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def slow_alignment(x, y, *, alpha=2.0):
    return mean(distance(a, b) ** alpha for a, b in zip(rows(x), rows(y), strict=True))


def slow_uniformity(x, *, t=2.0, chunk_size=None):
    z = rows(x)
    return math.log(mean(math.exp(-t * distance(z[i], z[j]) ** 2) for i in range(len(z)) for j in range(i)))


def slow_cross_uniformity(x, y, *, t=2.0, chunk_size=None):
    a, b = rows(x), rows(y)
    return math.log(mean(math.exp(-t * distance(a[i], b[j]) ** 2) for i in range(len(a)) for j in range(len(b)) if i != j))


def slow_tolerance(x, labels):
    z, l = rows(x), labels.tolist()  # noqa: E741
    return mean(dot(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j and l[i] == l[j])


def slow_effective_rank(x, *, center=False, spectrum="singular"):
    matrix = x.numpy() - (x.numpy().mean(0) if center else 0)
    weights = np.linalg.svd(matrix, compute_uv=False) ** {"singular": 1, "variance": 2}[spectrum]
    p = [w / sum(weights) for w in weights if w > 1e-7 * max(weights)]
    return math.exp(-sum(q * math.log(q) for q in p))


def slow_rankme(x, *, epsilon=1e-7):
    values = np.linalg.svd(x.numpy(), compute_uv=False)
    p = [v / sum(values) + epsilon for v in values]
    return math.exp(-sum(q * math.log(q) for q in p))


def slow_anisotropy(x):
    z = rows(x)
    return mean(dot(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j)


def slow_neighbours(x, k):
    z = rows(x)
    return [sorted((j for j in range(len(z)) if j != i), key=lambda j: -dot(z[i], z[j]))[:k] for i in range(len(z))]


def slow_hubness(x, *, k=2, chunk_size=None):
    found = [j for near in slow_neighbours(x, k) for j in near]
    counts = [found.count(j) for j in range(len(x))]
    return float(stats.skew(counts)) if len(set(counts)) > 1 else 0.0


def slow_near_duplicates(x, *, threshold=0.99, chunk_size=None):
    z = rows(x)
    return mean(any(dot(z[i], z[j]) >= threshold for j in range(len(z)) if j != i) for i in range(len(z)))


def slow_overlap(x, y, *, k=2, chunk_size=None):
    return mean(len(set(a) & set(b)) / k for a, b in zip(slow_neighbours(x, k), slow_neighbours(y, k), strict=True))


def slow_cka(x, y, *, debiased=False):
    """Through the n x n matrices of the definition of HSIC, biased or unbiased."""
    n = len(x)
    k, l = (z.numpy() @ z.numpy().T for z in (x, y))  # noqa: E741
    if not debiased:
        h = np.eye(n) - 1 / n

        def hsic(a, b):
            return np.trace(a @ h @ b @ h)
    else:

        def hsic(a, b):
            a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
            return np.trace(a @ b) + a.sum() * b.sum() / (n - 1) / (n - 2) - 2 / (n - 2) * (a @ b).sum()

    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


def slow_procrustes(x, y, *, scale=True):
    if scale:
        return spatial.procrustes(x.numpy(), y.numpy())[2]
    a, b = ((z - z.mean(0)) / np.linalg.norm(z - z.mean(0)) for z in (x.numpy(), y.numpy()))
    rotation, _ = linalg.orthogonal_procrustes(a, b)
    return ((a @ rotation - b) ** 2).sum()


def slow_decay(x, *, ranks=None, center=True, weights="harmonic"):
    values = np.linalg.svd(x.numpy() - center * x.numpy().mean(0), compute_uv=False) ** 2
    values = values[values > 1e-12 * values[0]]
    low, high = ranks or (1, len(values))
    k = np.arange(low, min(high, len(values)) + 1)
    weight = np.sqrt(1 / k) if weights == "harmonic" else None
    return -np.polyfit(np.log(k), np.log(values[k - 1]), 1, w=weight)[0]


def slow_average_precision(query, key, query_labels, key_labels):
    q, keys, of_key, result = rows(query), rows(key), key_labels.tolist(), []
    for z, label in zip(q, query_labels.tolist(), strict=True):
        order = sorted(range(len(keys)), key=lambda j: -dot(z, keys[j]))
        right = [of_key[j] == label for j in order]
        result.append(mean(sum(right[: r + 1]) / (r + 1) for r in range(len(order)) if right[r]))
    return mean(result)


def slow_weights(query, key, temperature):
    """Row i: the relative penalties of the negatives of anchor i, and where they are."""
    q, k = rows(query), rows(key)
    for i in range(len(q)):
        logits = {j: dot(q[i], k[j]) / temperature for j in range(len(k)) if j != i}
        top = max(logits.values())
        total = sum(math.exp(v - top) for v in logits.values())
        yield i, {j: math.exp(v - top) / total for j, v in logits.items()}


def slow_entropy(query, key, *, temperature, chunk_size=None):
    return mean(-sum(r * math.log(r) for r in w.values() if r > 0) for _, w in slow_weights(query, key, temperature))


def slow_classmate_share(query, key, labels, *, temperature, chunk_size=None):
    of = labels.tolist()
    return mean(sum(r for j, r in w.items() if of[j] == of[i]) for i, w in slow_weights(query, key, temperature))


def slow_recall(query, key, query_labels=None, key_labels=None, *, k=1, exclude_self=False, chunk_size=None):
    q, keys = rows(query), rows(key)
    of_query = query_labels.tolist() if query_labels is not None else range(len(q))
    of_key = key_labels.tolist() if key_labels is not None else range(len(keys))
    hits = []
    for i in range(len(q)):
        others = [j for j in range(len(keys)) if not (exclude_self and i == j)]
        best = max(dot(q[i], keys[j]) for j in others if of_key[j] == of_query[i])
        hits.append(sum(dot(q[i], keys[j]) >= best - 1e-12 for j in others if of_key[j] != of_query[i]) < k)
    return mean(hits)


def slow_knn_accuracy(train_x, train_y, test_x, test_y, *, k=1, chunk_size=None):
    train, test, classes = rows(train_x), rows(test_x), train_y.tolist()
    right = []
    for z, truth in zip(test, test_y.tolist(), strict=True):
        nearest = sorted(range(len(train)), key=lambda j: -dot(z, train[j]))[:k]
        votes = [classes[j] for j in nearest]
        right.append(min(set(votes), key=lambda c: (-votes.count(c), c)) == truth)
    return mean(right)


def slow_centroids(x, y):
    a, b = rows(x), rows(y)
    return distance([mean(c) for c in zip(*a, strict=True)], [mean(c) for c in zip(*b, strict=True)])


def slow_unmatched(x, y):
    a, b = rows(x), rows(y)
    return mean(dot(a[i], b[j]) for i in range(len(a)) for j in range(len(b)) if i != j)


def slow_relative_gap(x, y):
    a, b = rows(x), rows(y)
    matched = mean((1 - dot(u, v)) / 2 for u, v in zip(a, b, strict=True))
    within = sum((1 - dot(z[i], z[j])) / 2 for z in (a, b) for i in range(len(z)) for j in range(len(z)) if i != j)
    return matched / (within / (2 * len(a) * (len(a) - 1)) + matched)


def slow_shift(x, y):
    """Both sets moved half the gap towards each other, rows of length one again."""
    a, b = np.array(rows(x)), np.array(rows(y))
    gap = a.mean(0) - b.mean(0)
    return torch.tensor(a - gap / 2), torch.tensor(b + gap / 2)


# --- the fields of results, as functions ---


def recall(query, key, query_labels=None, key_labels=None, *, k=1, chunk_size=None):
    options = {"k": k, "chunk_size": chunk_size}
    return metrics.recall_at_k(query, key, query_labels=query_labels, key_labels=key_labels, **options).at[k]


def centroid_distance(x, y):
    return metrics.modality_gap(x, y).centroid_distance


def relative_gap(x, y):
    return metrics.modality_gap(x, y).relative_gap


def unmatched_cosine(x, y):
    return metrics.modality_gap(x, y).unmatched_cosine


def shifted_distance(x, y):
    return metrics.modality_gap(x, y).shifted_distance


def recall_shifted(x, y):
    return metrics.modality_gap(x, y).recall_y2x_shifted


def mean_average_precision(query, key, query_labels, key_labels):
    return metrics.ranking(query, key, query_labels=query_labels, key_labels=key_labels, k=1).map


POSES = frozenset({"permutation", "rotation", "scale"})
QUERIES = {"query": "rows", "key": "partner"}
UNPAIRED = {"query": "rows", "query_labels": "labels", "key": "other", "key_labels": "other_labels"}
TRAIN_TEST = {"train_x": "rows", "train_y": "labels", "test_x": "other", "test_y": "other_labels"}
BLOCKS = ({}, {"chunk_size": 1}, {"chunk_size": 3})
BAD_BLOCK = (({"chunk_size": 0}, ValueError), ({"chunk_size": 2.0}, TypeError))
TEMPERATURES = tuple({"temperature": tau} for tau in (0.5, 0.07, 1e2)) + tuple({"temperature": 0.2, **b} for b in BLOCKS[1:])
# Rows with several equally near neighbours have no defined nearest one: no embeddings of one column here.
WIDE = ((2, 3), (3, 4), (5, 2), (8, 16))

CASES = [
    Case(
        metrics.alignment,
        slow_alignment,
        pair("x", "y"),
        options=({}, {"alpha": 1.0}, {"alpha": 0.5}),
        differentiable=False,
        invariances=POSES | {"swap"},
    ),
    Case(
        metrics.uniformity,
        slow_uniformity,
        single("x"),
        options=({}, {"t": 0.5}, {"t": 50.0}, *BLOCKS[1:]),
        min_rows=2,
        differentiable=False,
        bad_options=BAD_BLOCK,
    ),
    Case(
        metrics.cross_uniformity,
        slow_cross_uniformity,
        pair("x", "y"),
        options=({}, {"t": 0.5}, {"t": 50.0}, *BLOCKS[1:]),
        min_rows=2,
        differentiable=False,
        invariances=POSES | {"swap"},
        bad_options=BAD_BLOCK,
    ),
    Case(metrics.tolerance, slow_tolerance, labelled("x"), min_rows=2, differentiable=False),
    Case(
        metrics.effective_rank,
        slow_effective_rank,
        single("x"),
        options=({}, {"spectrum": "variance"}),
        differentiable=False,
        unit_rows=False,
        invariances=frozenset({"permutation", "rotation"}),
        bad_options=(({"spectrum": "eigen"}, ValueError),),
    ),
    Case(
        metrics.rankme,
        slow_rankme,
        single("x"),
        options=({}, {"epsilon": 1e-3}),
        differentiable=False,
        unit_rows=False,
        invariances=frozenset({"permutation", "rotation"}),
        bad_options=(({"epsilon": 0}, ValueError), ({"epsilon": "small"}, TypeError)),
        rtol=1e-6,  # singular values that vanish are zero to 1e-8 of the largest only, epsilon is 1e-7
    ),
    Case(metrics.anisotropy, slow_anisotropy, single("x"), min_rows=2, differentiable=False),
    Case(
        metrics.hubness,
        slow_hubness,
        single("x"),
        options=({"k": 2}, {"k": 1}, {"k": 2, "chunk_size": 3}),
        shapes=((4, 3), (5, 2), (8, 16), (12, 3)),
        differentiable=False,
        bad_options=(*BAD_BLOCK, ({"k": 0}, ValueError), ({"k": 99}, ValueError), ({"k": 1.0}, TypeError)),
    ),
    Case(
        metrics.near_duplicates,
        slow_near_duplicates,
        single("x"),
        options=({"threshold": 0.5}, {"threshold": 0.9}, {"threshold": 0.2, "chunk_size": 3}),
        min_rows=2,
        differentiable=False,
        bad_options=(*BAD_BLOCK, ({"threshold": 1.0}, ValueError), ({"threshold": "0.9"}, TypeError)),
    ),
    Case(
        mean_average_precision,
        slow_average_precision,
        UNPAIRED,
        shapes=((4, 3), (8, 16), (12, 3)),
        differentiable=False,
        name="mean_average_precision",
    ),
    Case(
        metrics.negative_weight_entropy,
        slow_entropy,
        pair("query", "key"),
        options=TEMPERATURES,
        min_rows=2,
        differentiable=False,
        bad_options=BAD_BLOCK,
    ),
    Case(
        metrics.classmate_share,
        slow_classmate_share,
        {**pair("query", "key"), "labels": "labels"},
        options=TEMPERATURES,
        min_rows=2,
        differentiable=False,
        bad_options=BAD_BLOCK,
    ),
    Case(
        recall,
        slow_recall,
        QUERIES,
        options=(*BLOCKS, {"k": 1, "chunk_size": 2}),
        min_rows=2,
        differentiable=False,
        bad_options=(
            *BAD_BLOCK,
            ({"k": 0}, ValueError),
            ({"k": 99}, ValueError),
            ({"k": "1"}, TypeError),
            ({"k": [1.0]}, TypeError),
        ),
        name="recall_at_k",
    ),
    Case(
        recall,
        slow_recall,
        QUERIES,
        options=({"k": 2},),
        min_rows=3,
        shapes=((4, 2), (5, 2), (12, 1), (20, 3)),
        differentiable=False,
        name="recall_at_2",
    ),
    Case(recall, slow_recall, UNPAIRED, options=BLOCKS, differentiable=False, name="recall_at_k-labels"),
    Case(
        metrics.knn_accuracy,
        slow_knn_accuracy,
        TRAIN_TEST,
        options=({}, {"k": 2}, {"chunk_size": 3}),
        shapes=WIDE,
        differentiable=False,
        bad_options=(*BAD_BLOCK, ({"k": 0}, ValueError), ({"k": 99}, ValueError), ({"k": 1.0}, TypeError)),
    ),
    Case(centroid_distance, slow_centroids, pair("x", "y"), min_rows=2, differentiable=False, invariances=POSES | {"swap"}),
    Case(relative_gap, slow_relative_gap, pair("x", "y"), min_rows=2, differentiable=False, invariances=POSES | {"swap"}),
    Case(unmatched_cosine, slow_unmatched, pair("x", "y"), min_rows=2, differentiable=False, invariances=POSES | {"swap"}),
    Case(
        shifted_distance,
        lambda x, y: slow_centroids(*slow_shift(x, y)),
        pair("x", "y"),
        min_rows=2,
        shapes=WIDE,
        differentiable=False,
    ),
    Case(
        recall_shifted,
        lambda x, y: slow_recall(*reversed(slow_shift(x, y))),
        pair("x", "y"),
        min_rows=2,
        shapes=((4, 3), (5, 2), (8, 16), (12, 3)),
        differentiable=False,
    ),
]


class TestEveryMetric(Tester):
    cases = CASES


# Two spaces of the same things: their widths may differ, and a set of equal rows cannot be compared with anything.
SPACES = [
    Case(
        metrics.knn_overlap,
        slow_overlap,
        pair("x", "y"),
        options=({"k": 2}, {"k": 1}, {"k": 2, "chunk_size": 3}),
        shapes=((4, 3), (5, 2), (8, 16), (12, 3)),
        differentiable=False,
        invariances=POSES | {"swap"},
        bad_options=(*BAD_BLOCK, ({"k": 0}, ValueError), ({"k": 99}, ValueError)),
    ),
    Case(
        metrics.linear_cka,
        slow_cka,
        pair("x", "y"),
        min_rows=2,
        differentiable=False,
        unit_rows=False,
        invariances=frozenset({"permutation", "rotation", "swap"}),
    ),
    Case(
        metrics.linear_cka,
        slow_cka,
        pair("x", "y"),
        options=({"debiased": True},),
        min_rows=4,
        shapes=((4, 3), (5, 2), (8, 16), (12, 3)),
        differentiable=False,
        unit_rows=False,
        invariances=frozenset({"permutation", "rotation", "swap"}),
        name="linear_cka-debiased",
    ),
    Case(
        metrics.procrustes,
        slow_procrustes,
        pair("x", "y"),
        options=({}, {"scale": False}),
        min_rows=2,
        shapes=WIDE[1:],
        differentiable=False,
        unit_rows=False,
        invariances=frozenset({"permutation", "rotation", "swap"}),
        rtol=1e-7,
    ),
    Case(
        metrics.spectrum_decay,
        slow_decay,
        single("x"),
        options=({}, {"weights": "equal"}, {"center": False, "ranks": (1, 3)}),
        min_rows=2,
        shapes=((5, 2), (6, 4), (8, 16)),
        differentiable=False,
        unit_rows=False,
        invariances=frozenset({"permutation", "rotation"}),
        bad_options=(({"weights": "none"}, ValueError), ({"ranks": (3, 2)}, ValueError), ({"ranks": 3}, TypeError)),
    ),
]


class TestTwoSpaces(Tester):
    cases = SPACES
    test_degenerate_rows_have_finite_gradient = None

    def test_bad_input(self, case, bad):
        """As for every metric, but a second space of another width is welcome."""
        if not bad.label.endswith("too_wide"):
            super().test_bad_input(case, bad)
            return
        inputs = make_inputs(case, 6, 3)
        bad.spoil(inputs)
        assert torch.isfinite(case(inputs))

    def test_equal_rows(self, case):
        """Equal rows have no spectrum and no distances: refused by name, or an overlap of ties."""
        inputs = make_inputs(case, 6, 4)
        inputs["x"] = inputs["x"][:1].repeat(6, 1)
        if case.function is metrics.knn_overlap:
            assert 0 <= case(inputs) <= 1
            return
        with pytest.raises(ValueError, match="x has 6 equal rows"):
            case(inputs)
