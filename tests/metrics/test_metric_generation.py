"""Multiple choice, perplexity, repetition and MAUVE against loops, kept libraries and known answers."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import auc

from workbench import metrics
from workbench.metrics._parts_scores import mauve_
from workbench.metrics.generation import area, divergence_curve


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- multiple choice ---


def test_multiple_choice_equals_loops():
    """MC1, MC2, MC3 and the margin of random tables, counted answer by answer."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        true = [list(rng.normal(-5, 3, rng.integers(1, 5))) for _ in range(7)]
        false = [list(rng.normal(-6, 3, rng.integers(1, 6))) for _ in range(7)]
        best = [int(rng.integers(len(t))) for t in true]
        mc1 = mc2 = mc3 = margin = 0.0
        for t, f, b in zip(true, false, best, strict=True):
            mc1 += all(t[b] > s for s in f) / 7
            mc2 += sum(math.exp(s) for s in t) / sum(math.exp(s) for s in t + f) / 7
            mc3 += sum(all(s > u for u in f) for s in t) / len(t) / 7
            margin += (t[b] - max(f)) / 7
        found = metrics.multiple_choice(true, false, best=best)
        assert (found.mc1, found.mc2, found.mc3, found.margin) == pytest.approx((mc1, mc2, mc3, margin))


def test_multiple_choice_limits():
    """Very unlikely answers do not vanish; ties are lost; the first true answer is the best one where none is named."""
    far = metrics.multiple_choice([[-2000.0, -2000.0]], [[-2000.0, -2000.0]])
    assert far.mc2 == 0.5 and far.mc1 == far.mc3 == far.margin == 0
    assert metrics.multiple_choice([[-3.0, -1.0]], [[-2.0]]).mc1 == 0
    assert metrics.multiple_choice([[-3.0, -1.0]], [[-2.0]], best=[1]).mc1 == 1
    shifted = metrics.multiple_choice([[-3.0 - 50, -1.0 - 50]], [[-2.0 - 50]])
    assert shifted.mc2 == pytest.approx(metrics.multiple_choice([[-3.0, -1.0]], [[-2.0]]).mc2)


def test_chance_of_multiple_choice_is_that_of_exchangeable_scores():
    """Scores without meaning average to the stated chance."""
    true, false = gaussian(2500, 2, 1).tolist(), gaussian(2500, 3, 2).tolist()
    found = metrics.multiple_choice(true, false)
    assert found.chance == pytest.approx((1 / 4, 2 / 5, 1 / 4))
    assert (found.mc1, found.mc2, found.mc3) == pytest.approx(found.chance, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([[0.0]], [[0.0], [1.0]]), ValueError, "true and false"),
        (([], []), ValueError, "true is empty"),
        (([[]], [[1.0]]), ValueError, r"true\[0\]"),
        (([[1.0]], [[float("nan")]]), ValueError, r"false\[0\]"),
        (("ab", [[1.0]]), TypeError, "true"),
        (([["a"]], [[1.0]]), ValueError, r"true\[0\]"),
    ],
)
def test_multiple_choice_bad_input(arguments, error, match):
    """Uneven, empty or broken tables are refused by name."""
    with pytest.raises(error, match=match):
        metrics.multiple_choice(*arguments)
    with pytest.raises(ValueError, match="best"):
        metrics.multiple_choice([[1.0]], [[0.0]], best=[1])


# --- perplexity ---


def test_perplexity_equals_torchs_cross_entropy():
    """The exponential of torch's own cross entropy of the same logits, padded tokens ignored."""
    logits = gaussian(4, 6 * 11).reshape(4, 6, 11).float()
    target = torch.arange(24).reshape(4, 6) % 11
    mask = torch.arange(6)[None] < torch.tensor([6, 3, 1, 5])[:, None]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.where(mask, target, -100).flatten(), ignore_index=-100)
    logs = logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    assert float(metrics.perplexity(logs, mask)) == pytest.approx(math.exp(float(loss)), rel=1e-5)
    per_text = [math.exp(-float(row[keep].mean())) for row, keep in zip(logs.double(), mask, strict=True)]
    assert float(metrics.perplexity(logs, mask, average="texts")) == pytest.approx(np.mean(per_text), rel=1e-6)


def test_perplexity_of_a_uniform_model_is_its_vocabulary():
    """Equal probability of 50 tokens: 50, whatever lies under the mask; a certain model: 1."""
    logs = torch.full((3, 4), -math.log(50))
    logs[0, 3] = float("nan")
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 3] = False
    assert float(metrics.perplexity(logs, mask)) == pytest.approx(50, rel=1e-5)
    assert float(metrics.perplexity(torch.zeros(2, 3))) == 1
    for bad, match in (((logs,), "log_probs"), ((-logs[1:],), "log_probs"), ((logs, mask & False), "mask leaves 3")):
        with pytest.raises(ValueError, match=match):
            metrics.perplexity(*bad)


# --- repetition ---


def test_repetition_and_diversity_by_hand():
    """'a b a b a' has bigrams ab ba ab ba (2 of 4 unique) and trigrams aba bab aba (2 of 3); sums over texts, not means."""
    texts = [list("ababa"), list("cde")]
    assert metrics.repetition(texts, 2) == pytest.approx(1 - (2 + 2) / (4 + 2))
    assert metrics.repetition(texts, 3) == pytest.approx(1 - (2 + 1) / (3 + 1))
    assert metrics.repetition(texts, 2, average="texts") == pytest.approx((0.5 + 0) / 2)
    four = [1 - metrics.repetition(texts, n) for n in (2, 3, 4)]
    assert metrics.diversity(texts) == pytest.approx(four[0] * four[1] * four[2]) and four[2] == 1
    assert metrics.repetition([[7] * 101], 4) == pytest.approx(1 - 1 / 98), "ids are as good as words"
    assert metrics.repetition([["x", "y"], ["x", "y"]], 2) == 0, "texts do not repeat each other"


@pytest.mark.parametrize(
    ("texts", "n", "error", "match"),
    [
        (["a b c"], 2, TypeError, r"texts\[0\]"),
        ("abc", 2, TypeError, "texts"),
        ([], 2, ValueError, "texts is empty"),
        ([["a"]], 2, ValueError, "at least n=2"),
        ([["a", "b"]], 0, ValueError, "n must"),
    ],
)
def test_repetition_bad_input(texts, n, error, match):
    """A string is letters, not tokens; nothing to count is no zero."""
    with pytest.raises(error, match=match):
        metrics.repetition(texts, n)


# --- MAUVE ---


def slow_mauve(p, q, scale=5.0):
    """The frontier of two histograms with its end points, both areas by scikit-learn, as the paper averages them."""
    points = [(0.0, math.inf)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25):
        r = [weight * a + (1 - weight) * b for a, b in zip(p, q, strict=True)]
        points.append(tuple(sum(a * math.log(a / c) for a, c in zip(h, r, strict=True) if a > 0) for h in (q, p)))
    points.append((math.inf, 0.0))
    x, y = np.exp(-scale * np.array(points)).T
    return (auc(np.sort(x), y[np.argsort(x, kind="stable")]) + auc(np.sort(y), x[np.argsort(y, kind="stable")])) / 2


def test_area_equals_the_definition():
    """Histograms with empty bins: the area of the frontier written from the paper."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        p, q = rng.dirichlet(np.full(6, 0.5)), rng.dirichlet(np.full(6, 0.5))
        p[0], q[1] = 0, 0
        p, q = p / p.sum(), q / q.sum()
        assert area(divergence_curve(p, q, 5.0)) == pytest.approx(slow_mauve(p, q), rel=1e-6)


def test_mauve_of_equal_and_of_disjoint_texts():
    """The same rows twice: 1. Clouds apart: near 0. Two samples of one cloud: about the null, which is below 1."""
    x = gaussian(120, 5, 1)
    assert metrics.mauve(x, x.clone()).value == pytest.approx(1, abs=1e-6)
    far = metrics.mauve(x + 6, gaussian(120, 5, 2) - 6)
    assert far.value < 0.01 < far.null
    same = metrics.mauve(x, gaussian(120, 5, 2))
    assert same.null - 0.25 < same.value < 1 and same.value == pytest.approx(same.null, abs=0.2) and same.k == 12
    shifted = metrics.mauve(x, gaussian(120, 5, 2) + 0.7)
    assert far.value < shifted.value < same.value
    assert metrics.mauve(x, gaussian(120, 5, 2)) == same, "the seed decides"


def test_the_interval_of_mauve_resamples_rows_within_the_clusters():
    """The statistic of rows drawn again is the slow area of their histograms; sets of one distribution have 1 above, others not."""
    x, y = gaussian(200, 3, 1), gaussian(150, 3, 2) + 0.5
    parts = mauve_(x, y, k=5)
    drawn = np.random.default_rng(0).integers(350, size=350)
    counts = parts.rows[drawn].mean(0)
    p, q = counts[:5] / counts[:5].sum(), counts[5:] / counts[5:].sum()
    assert parts.statistic(counts) == pytest.approx(slow_mauve(p, q), rel=1e-6)
    both = parts.statistic(np.stack([counts, parts.rows.mean(0)]))
    assert both == pytest.approx([slow_mauve(p, q), metrics.mauve(x, y, k=5).value], rel=1e-6)
    near, far = metrics.estimate("mauve", x, gaussian(200, 3, 3), k=5), metrics.estimate("mauve", x, y, k=5)
    assert far.high < near.low and far.high < far.null and near.high > near.null - 0.01
    with pytest.raises(ValueError, match="variance"):
        metrics.estimate("mauve", x, y, variance=2.0)


def test_mauve_counts_are_those_of_its_clusters():
    """Separate clumps become clusters: the value is that of the known shares of the clumps."""
    centres = 20 * torch.eye(4, dtype=torch.float64)
    p = centres[torch.tensor([0] * 50 + [1] * 30 + [2] * 20)] + 0.01 * gaussian(100, 4, 1)
    q = centres[torch.tensor([0] * 20 + [1] * 30 + [3] * 50)] + 0.01 * gaussian(100, 4, 2)
    expected = slow_mauve([0.5, 0.3, 0.2, 0], [0.2, 0.3, 0, 0.5])
    assert metrics.mauve(p, q, k=4, variance=1.0).value == pytest.approx(expected, rel=1e-6)
    assert metrics.mauve(p, q, k=4, scale=1.0).value > metrics.mauve(p, q, k=4, scale=5.0).value
    with pytest.raises(ValueError, match="variance"):
        metrics.mauve(p, q, variance=1.5)
    with pytest.raises(ValueError, match="k must"):
        metrics.mauve(p, q, k=1)
