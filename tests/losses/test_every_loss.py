"""Every public loss through the shared tester, against loops written from the papers."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from tester import Case, Tester, labelled, make_inputs, pair, same, single

from workbench import losses

TEMPERATURES = (0.5, 0.07, 1e-3, 1e2)


# --- the slow way: rows are lists of floats, every sum is written out ---


def rows(x, normalize=True):
    vectors = x.detach().double().tolist()
    return [[a / math.hypot(*v) for a in v] for v in vectors] if normalize else vectors


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


def distance(a, b):
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def slow_info_nce(query, key, *, queue=None, temperature=0.07, in_batch=True, normalize=True):
    q, k = rows(query, normalize), rows(key, normalize)
    extra = [] if queue is None else rows(queue, normalize)
    per_query = []
    for i in range(len(q)):
        negatives = [k[j] for j in range(len(k)) if j != i] if in_batch else []
        positive = dot(q[i], k[i]) / temperature
        per_query.append(log_sum_exp([positive] + [dot(q[i], u) / temperature for u in negatives + extra]) - positive)
    return mean(per_query)


def slow_nt_xent(view1, view2, *, temperature=0.5, normalize=True):
    z, n = rows(view1, normalize) + rows(view2, normalize), len(view1)
    per_anchor = []
    for a in range(2 * n):
        others = [dot(z[a], z[b]) / temperature for b in range(2 * n) if b != a]
        per_anchor.append(log_sum_exp(others) - dot(z[a], z[(a + n) % (2 * n)]) / temperature)
    return mean(per_anchor)


def slow_clip_loss(image, text, *, temperature=None, logit_scale=None, normalize=True):
    x, y = rows(image, normalize), rows(text, normalize)
    s = logit_scale if logit_scale is not None else 1 / (temperature or 0.07)
    logits = [[s * dot(a, b) for b in y] for a in x]
    to_text = mean(log_sum_exp(logits[i]) - logits[i][i] for i in range(len(x)))
    to_image = mean(log_sum_exp([row[i] for row in logits]) - logits[i][i] for i in range(len(x)))
    return (to_text + to_image) / 2


def slow_dclw(view1, view2, *, temperature=0.1, sigma=0.5, detach_weight=False, normalize=True, weighted=True):
    views, n = (rows(view1, normalize), rows(view2, normalize)), len(view1)
    agreement = [dot(views[0][i], views[1][i]) for i in range(n)]
    per_anchor = []
    for i in range(n):
        weight = 1.0
        if weighted:
            weight = 2 - math.exp(agreement[i] / sigma) / mean(math.exp(a / sigma) for a in agreement)
        for k in (0, 1):
            negatives = [dot(views[k][i], views[m][j]) / temperature for m in (0, 1) for j in range(n) if j != i]
            per_anchor.append(-weight * agreement[i] / temperature + log_sum_exp(negatives))
    return mean(per_anchor)


def slow_dcl(view1, view2, *, temperature=0.1, normalize=True):
    return slow_dclw(view1, view2, temperature=temperature, normalize=normalize, weighted=False)


def slow_supcon(features, labels, *, temperature=0.07, normalize=True):
    z, label = rows(features, normalize), labels.tolist()
    per_anchor = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        mates = [p for p in others if label[p] == label[i]]
        if mates:
            denominator = log_sum_exp([dot(z[i], z[a]) / temperature for a in others])
            per_anchor.append(-mean(dot(z[i], z[p]) / temperature - denominator for p in mates))
    return mean(per_anchor)


def hardest(row, i, top_fraction):
    """The similarities of anchor i that reach its upper quantile."""
    negatives = sorted((s for k, s in enumerate(row) if k != i), reverse=True)
    threshold = negatives[max(1, math.ceil(top_fraction * len(negatives))) - 1]
    return [s for s in negatives if s >= threshold - 1e-12]


def slow_hard_info_nce(query, key, *, temperature, top_fraction, normalize=True):
    q, k = rows(query, normalize), rows(key, normalize)
    per_query = []
    for i in range(len(q)):
        row = [dot(q[i], u) for u in k]
        kept = hardest(row, i, top_fraction)
        per_query.append(log_sum_exp([s / temperature for s in [row[i], *kept]]) - row[i] / temperature)
    return mean(per_query)


def slow_simple(query, key, *, negative_weight=None, top_fraction=None, normalize=True):
    q, k = rows(query, normalize), rows(key, normalize)
    per_query = []
    for i in range(len(q)):
        row = [dot(q[i], u) for u in k]
        kept = hardest(row, i, 1.0 if top_fraction is None else top_fraction)
        per_query.append(-row[i] + sum(kept) * (1 / len(kept) if negative_weight is None else negative_weight))
    return mean(per_query)


def slow_alignment(x, y, *, alpha=2, normalize=True):
    return mean(distance(a, b) ** alpha for a, b in zip(rows(x, normalize), rows(y, normalize), strict=True))


def slow_uniformity(x, *, t=2, normalize=True):
    v = rows(x, normalize)
    return math.log(mean(math.exp(-t * distance(v[i], v[j]) ** 2) for i in range(len(v)) for j in range(i)))


def slow_cross_uniformity(x, y, *, t=2, normalize=True):
    a, b = rows(x, normalize), rows(y, normalize)
    return math.log(mean(math.exp(-t * distance(a[i], b[j]) ** 2) for i in range(len(a)) for j in range(len(b)) if i != j))


def slow_sigmoid_loss(image, text, *, logit_scale=10.0, logit_bias=-10.0, normalize=True):
    x, y = rows(image, normalize), rows(text, normalize)
    total = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            sign = 1 if i == j else -1
            total += log_sum_exp([0.0, -sign * (logit_scale * dot(x[i], y[j]) + logit_bias)])
    return total / len(x)


# --- the registry: one line (or two) a loss ---

BOTH_SIDES = frozenset({"permutation", "rotation", "scale", "swap"})
WITH_ONE_ROW = ((1, 4), (2, 3), (3, 1), (3, 4), (5, 2), (8, 16))
temperatures = tuple({"temperature": tau} for tau in TEMPERATURES)
bad_fractions = tuple(
    ({"top_fraction": v}, e) for v, e in ((0, ValueError), (1.01, ValueError), (float("nan"), ValueError), ("half", TypeError))
)

CASES = [
    Case(
        losses.info_nce,
        slow_info_nce,
        pair("query", "key"),
        options=temperatures,
        min_rows=2,
        learnable=("temperature",),
        bad_options=(({"in_batch": False}, ValueError),),
    ),
    Case(
        losses.info_nce,
        slow_info_nce,
        {**pair("query", "key"), "queue": "other"},
        options=tuple({**t, "in_batch": b} for b in (False, True) for t in temperatures),
        shapes=WITH_ONE_ROW,
        learnable=("temperature",),
        name="info_nce_queue",
    ),
    Case(
        losses.nt_xent,
        slow_nt_xent,
        pair("view1", "view2"),
        options=temperatures,
        min_rows=2,
        learnable=("temperature",),
        invariances=BOTH_SIDES,
    ),
    Case(
        losses.clip_loss,
        slow_clip_loss,
        pair("image", "text"),
        options=({}, *temperatures),
        min_rows=2,
        invariances=BOTH_SIDES,
    ),
    Case(
        losses.clip_loss,
        slow_clip_loss,
        pair("image", "text"),
        options=({"logit_scale": 14.3}, {"logit_scale": 1e3}),
        min_rows=2,
        learnable=("logit_scale",),
        invariances=BOTH_SIDES,
        name="clip_loss_scale",
    ),
    Case(
        losses.dcl,
        slow_dcl,
        pair("view1", "view2"),
        options=temperatures,
        min_rows=2,
        learnable=("temperature",),
        invariances=BOTH_SIDES,
    ),
    Case(
        losses.dclw,
        slow_dclw,
        pair("view1", "view2"),
        options=tuple({**t, "sigma": s} for t, s in zip(temperatures, (0.5, 0.1, 0.5, 2.0), strict=True)),
        min_rows=2,
        learnable=("temperature", "sigma"),
        invariances=BOTH_SIDES,
    ),
    Case(losses.supcon, slow_supcon, labelled("features"), options=temperatures, min_rows=2, learnable=("temperature",)),
    Case(
        losses.hard_info_nce,
        slow_hard_info_nce,
        pair("query", "key"),
        options=tuple({**t, "top_fraction": f} for f in (0.3, 0.5, 1) for t in temperatures),
        min_rows=2,
        learnable=("temperature",),
        bad_options=bad_fractions,
    ),
    Case(
        losses.simple_contrastive,
        slow_simple,
        pair("query", "key"),
        options=({}, {"negative_weight": 0.2}, {"top_fraction": 0.3}, {"top_fraction": 0.5, "negative_weight": 1.5}),
        min_rows=2,
        bad_options=(
            ({"negative_weight": -0.1}, ValueError),
            ({"negative_weight": float("nan")}, ValueError),
            ({"negative_weight": torch.ones(3)}, ValueError),
            ({"negative_weight": "1"}, TypeError),
            *bad_fractions,
        ),
    ),
    Case(
        losses.alignment,
        slow_alignment,
        pair("x", "y"),
        options=({}, {"alpha": 1}, {"alpha": 0.5}, {"alpha": 3.0}),
        shapes=WITH_ONE_ROW,
        invariances=BOTH_SIDES,
    ),
    Case(losses.uniformity, slow_uniformity, single("x"), options=({}, {"t": 0.5}, {"t": 10}), min_rows=2),
    Case(
        losses.cross_uniformity,
        slow_cross_uniformity,
        pair("x", "y"),
        options=({}, {"t": 0.5}, {"t": 10}),
        min_rows=2,
        invariances=BOTH_SIDES,
    ),
    Case(
        losses.sigmoid_loss,
        slow_sigmoid_loss,
        pair("image", "text"),
        options=({"logit_scale": 10.0, "logit_bias": -10.0}, {"logit_scale": 1e3, "logit_bias": 0.5}, {"logit_scale": 1e-2}),
        shapes=WITH_ONE_ROW,
        learnable=("logit_scale", "logit_bias"),
        invariances=BOTH_SIDES,
        bad_options=(
            ({"logit_bias": float("inf")}, ValueError),
            ({"logit_bias": torch.zeros(2)}, ValueError),
            ({"logit_bias": "0"}, TypeError),
        ),
    ),
]


class TestEveryLoss(Tester):
    """Rows are scaled to unit length inside."""

    cases = CASES


class TestEveryLossOnRowsAsTheyAre(Tester):
    """`normalize=False`: the formula on the rows as given; their length matters and zeros are allowed."""

    cases = [
        dataclasses.replace(
            case,
            options=({**case.options[0], "normalize": False},),
            bad_options=(),
            invariances=case.invariances - {"scale"},
            unit_rows=False,
            name=f"{case}_raw",
        )
        for case in CASES
    ]

    def test_row_length_matters(self, case: Case) -> None:
        """Twice as long rows give another value: nothing is normalised behind the caller's back."""
        inputs = make_inputs(case, 6, 4)
        doubled = {k: 2 * v if v.is_floating_point() else v for k, v in inputs.items()}
        assert abs(case(inputs) - case(doubled)) > 1e-4


# These take scores, codes, rewards, a queue, other losses or several variables and have files of their own.
ELSEWHERE = {"kernel_entropy", "kernel_mutual_information", "sepclr", "sinkhorn", "sinkhorn_codes", "swapped_prediction"}
ELSEWHERE |= {"preference", "s_vco", "vco", "npc_multiplier", "mochi_negatives", "queue_info_nce"}
ELSEWHERE |= {"feature_kl", "matryoshka", "matryoshka_2d"}


def test_every_public_loss_is_registered() -> None:
    """A loss that is exported but neither registered above nor named as tested elsewhere would go untested."""
    registered = {case.function.__name__ for case in CASES}
    assert registered | ELSEWHERE == set(losses.__all__) and not registered & ELSEWHERE
    files = ("transport", "separation", "preference", "coupling", "mixing", "matryoshka")
    own = "".join(Path(__file__).with_name(f"test_{name}.py").read_text() for name in files)
    assert all(f"{name}(" in own for name in ELSEWHERE)


REDUCED = [case for case in CASES if case.function.__name__ not in ("uniformity", "cross_uniformity", "supcon")]


@pytest.mark.parametrize("case", REDUCED, ids=str)
def test_reductions_agree(case: Case) -> None:
    """'none' gives one value per anchor; 'sum' and 'mean' are its sum and mean."""
    inputs = make_inputs(case, 6, 4)
    each = case.function(**inputs, **case.options[0], reduction="none")
    two_views = case.function in (losses.nt_xent, losses.dcl, losses.dclw)
    assert each.shape == ((12,) if two_views else (6,))
    assert each.std() > 1e-3, "vacuous: all anchors have the same loss"
    same(case(inputs, {**case.options[0], "reduction": "sum"}), each.sum())
    same(case(inputs, {**case.options[0], "reduction": "mean"}), each.mean())
