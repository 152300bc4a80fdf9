"""Intervals and nulls: against scipy, by simulation with a known truth, and that every estimate is its bare function."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from workbench import metrics
from workbench.errors import UnknownNameError
from workbench.metrics.intervals import Contributions, difference, first, interval, ratio


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parts_of(rows, statistic=first, **rest):
    rows = np.asarray(rows, dtype=float)
    rows = rows[:, None] if rows.ndim == 1 else rows
    return Contributions(name="x", rows=rows, statistic=statistic, null=None, null_is="", convention="", **rest)


# --- the mechanism ---


@pytest.mark.parametrize("hits", [[1] * 30, [0] * 7, [1] * 9 + [0] * 31])
def test_shares_of_hits_have_wilsons_interval(hits):
    """Independent hits: scipy's Wilson interval (with the variance's n - 1), never without width, also where all are right."""
    found = interval(parts_of(hits, share=True, bounds=(0, 1)), level=0.9)
    n, k = len(hits), sum(hits)
    expected = stats.binomtest(k, n).proportion_ci(0.9, method="wilson")
    assert found.method == "wilson" and found.high - found.low > 0.05
    tolerance = 1e-12 if k in (0, n) else 0.003
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=tolerance)


@pytest.mark.parametrize("seed", range(2))
def test_bca_equals_scipys_bootstrap(seed):
    """A skewed mean and a ratio of means: scipy's BCa interval, up to the small-sample widening and the noise of the draws."""
    rng = np.random.default_rng(seed)
    x, y = rng.exponential(size=400), rng.exponential(size=400) + 0.5
    found = interval(parts_of(np.stack([x, y], 1), ratio), draws=6000)
    expected = stats.bootstrap((x, y), lambda a, b, axis: a.mean(axis) / b.mean(axis), paired=True, vectorized=True,
                               n_resamples=6000, random_state=1).confidence_interval  # fmt: skip
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.high, abs=0.06 * width)
    assert found.method == "bca"


def test_skewed_rows_lean_the_interval_as_scipys_bca_does():
    """Forty numbers with a long tail: the upper arm is about 2.3 times the lower one, as scipy's BCa has it (percentiles: 1.3)."""
    x = np.random.default_rng(0).exponential(size=40) ** 1.5
    found = interval(parts_of(x), draws=8000)
    peer = stats.bootstrap((x,), np.mean, n_resamples=8000, random_state=1, batch=1000).confidence_interval
    lean, expected = ((e.high - x.mean()) / (x.mean() - e.low) for e in (found, peer))
    assert lean == pytest.approx(expected, rel=0.25) and expected > 2


def test_few_rows_widen_the_interval_as_t_does():
    """Eight symmetric numbers: about the t interval, which the plain percentile interval falls short of by a fifth."""
    x = np.array([-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0])
    found = interval(parts_of(x), draws=20_000)
    half = stats.t.ppf(0.975, 7) * x.std(ddof=1) / math.sqrt(8)
    assert found.high == pytest.approx(half, rel=0.1) and found.low == pytest.approx(-half, rel=0.1)


CASES = {
    "clustered hits": (lambda r: _clustered(r, 0.7), 0.7),
    "ratio of counts": (lambda r: (_counts(r), ratio, None), 1 / 7),
    "mean of exponentials": (lambda r: (r.exponential(size=60), first, None), 1.0),
    "rare misses": (lambda r: (r.random(80) < 0.96, first, None), 0.96),
}


def _clustered(rng, p, groups=60):
    chance = rng.beta(3 * p, 3 * (1 - p), size=groups)
    size = rng.integers(1, 6, groups)
    labels = np.repeat(np.arange(groups), size)
    return rng.random(len(labels)) < chance[labels], first, labels


def _counts(rng):
    mentions = rng.poisson(4, 80)
    return np.stack([rng.binomial(mentions, rng.beta(1, 6, 80)), mentions], 1)


@pytest.mark.parametrize("name", CASES)
def test_95_percent_intervals_cover_95_percent_of_the_time(name):
    """200 simulated data sets with known truth: the coverage is 0.95 within the binomial error of 200 trials (3 sigma)."""
    make, truth = CASES[name]
    covered = 0
    for seed in range(200):
        rows, statistic, labels = make(np.random.default_rng(seed))
        found = interval(parts_of(rows, statistic, share=True, bounds=(0, 99)), groups=labels, draws=600)
        covered += found.low <= truth <= found.high
    assert abs(covered / 200 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 200) + 0.005


@pytest.mark.parametrize("name", ["uniformity", "cross_uniformity", "alignment", "relative_gap", "anisotropy", "spearman"])
def test_projected_pairs_cover_the_truth(name):
    """Means over pairs of rows, through one number per row: 120 samples of 80 rows cover the value of 4000 rows."""

    def sample(n, seed):
        x = gaussian(n, 6, seed) * torch.linspace(2, 0.3, 6, dtype=torch.float64)
        x[:, 0] += 1.5
        y = 0.8 * x + 0.7 * gaussian(n, 6, seed + 10**6) + 0.4
        if name == "spearman":
            return x[:, 0], y[:, 0]
        return (x,) if name in ("uniformity", "anisotropy") else (x, y)

    data = sample(4000, 999)
    truth = metrics.contributions(name, *data).value
    trials = [metrics.estimate(name, *sample(80, seed), draws=400) for seed in range(120)]
    covered = np.mean([t.low <= truth <= t.high for t in trials])
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 120) + 0.005, f"{covered}"


def test_groups_are_drawn_whole():
    """Five identical captions of each image tell what one does: the interval is that of the images, sqrt 5 times wider."""
    x = np.random.default_rng(0).normal(size=200)
    once = interval(parts_of(x))
    copies, labels = np.repeat(x, 5), np.repeat(np.arange(200), 5)
    grouped, naive = interval(parts_of(copies), groups=labels), interval(parts_of(copies))
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.02)
    assert (once.high - once.low) / (naive.high - naive.low) == pytest.approx(math.sqrt(5), rel=0.1)
    assert (grouped.n, grouped.units) == (1000, 200)


def test_many_rows_are_added_up_without_losing_variance():
    """Above 10,000 rows random sums of rows are drawn: the interval is that of the normal approximation."""
    x = np.random.default_rng(0).exponential(size=25_000)
    found = interval(parts_of(x))
    half = 1.96 * x.std() / math.sqrt(len(x))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)


def test_the_interval_is_reproducible_and_grows_with_the_level():
    """Equal seeds give equal bits; a higher level contains the lower one; the value is inside."""
    parts = parts_of(np.random.default_rng(3).exponential(size=90))
    assert interval(parts, seed=4) == interval(parts, seed=4)
    narrow, wide = interval(parts, level=0.5), interval(parts, level=0.99)
    assert wide.low < narrow.low < float(narrow) < narrow.high < wide.high


def test_what_does_not_differ_has_no_width():
    """Equal contributions give a point, not NaN."""
    found = interval(parts_of(np.full(12, 0.3)))
    assert found.low == found.value == found.high == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"level": 1.0}, ValueError, "level"),
        ({"level": "0.9"}, TypeError, "level"),
        ({"draws": 10}, ValueError, "draws"),
        ({"seed": -1}, ValueError, "seed"),
        ({"groups": [0, 1]}, ValueError, "groups"),
        ({"groups": [0.5] * 6}, TypeError, "groups"),
        ({"groups": [0] * 6}, ValueError, "at least two independent"),
    ],
)
def test_bad_options(change, error, match):
    """Impossible levels, draws, seeds and groups are refused by name; so is one row."""
    with pytest.raises(error, match=match):
        interval(parts_of(np.arange(6.0)), **change)
    with pytest.raises(ValueError, match="at least two independent"):
        interval(parts_of([1.0]))


# --- every estimate ---


def data():
    """name -> (arguments, options, the value that the bare function gives)."""
    x, y = gaussian(40, 6, 1) + 0.4, gaussian(40, 6, 2)
    y = x + y
    labels = torch.arange(40) % 4
    m = metrics
    gap, found = m.modality_gap(x, y), m.ranking(x, y, query_labels=labels, key_labels=labels, k=5)
    said = [["dog", "cat"], ["sofa"], ["dog", "lamp", "cup"], ["cat", "cat"], []]
    chair = m.chair(said, [["dog"], ["sofa"], ["dog", "cup"], ["dog"], ["cup"]])
    pope = m.pope(["yes", "no", "yes", "no", "?", "yes"], [True, True, False, False, True, True])
    pairs = m.minimal_pairs(gaussian(30, 4).reshape(30, 2, 2))
    choice = m.caption_choice(gaussian(30, 3))
    mc = m.multiple_choice(gaussian(9, 3, 1).tolist(), gaussian(9, 2, 2).tolist())
    logs, texts = -gaussian(8, 5).abs(), [list("abcabdabc"), list("aaaabbbb"), list("abcdefgh")]
    probe = (x, labels, y, labels)
    return {
        "alignment": ((x, y), {"alpha": 1.0}, m.alignment(x, y, alpha=1.0)),
        "uniformity": ((x,), {"t": 3.0}, m.uniformity(x, t=3.0)),
        "cross_uniformity": ((x, y), {}, m.cross_uniformity(x, y)),
        "anisotropy": ((x,), {}, m.anisotropy(x)),
        "tolerance": ((x, labels), {}, m.tolerance(x, labels)),
        "effective_rank": ((x,), {"center": True}, m.effective_rank(x, center=True)),
        "rankme": ((x,), {}, m.rankme(x)),
        "spectrum_decay": ((x,), {}, m.spectrum_decay(x)),
        "hubness": ((x,), {"k": 3}, m.hubness(x, k=3)),
        "near_duplicates": ((x,), {"threshold": 0.9}, m.near_duplicates(x, threshold=0.9)),
        "knn_overlap": ((x, y), {"k": 3}, m.knn_overlap(x, y, k=3)),
        "linear_cka": ((x, y), {}, m.linear_cka(x, y)),
        "procrustes": ((x, y), {}, m.procrustes(x, y)),
        "pearson": ((x[:, 0], y[:, 0]), {}, m.pearson(x[:, 0], y[:, 0])),
        "spearman": ((x[:, 0], y[:, 0].round()), {}, m.spearman(x[:, 0], y[:, 0].round())),
        "centroid_distance": ((x, y), {}, gap.centroid_distance),
        "matched_cosine": ((x, y), {}, gap.matched_cosine),
        "relative_gap": ((x, y), {}, gap.relative_gap),
        "separability": ((x, y), {}, gap.separability),
        "recall_at_k": ((x, y), {"k": 2}, m.recall_at_k(x, y, k=2).at[2]),
        "mrr": ((x, y), {"k": 5}, m.mean_reciprocal_rank(m.recall_at_k(x, y, k=5).ranks, k=5)),
        "map": ((found,), {}, found.map),
        "ndcg": ((x, y), {"k": 5, "query_labels": labels, "key_labels": labels}, found.ndcg[5]),
        "knn_accuracy": (probe, {"k": 3}, m.knn_accuracy(*probe, k=3)),
        "linear_probe": (probe, {}, m.linear_probe(*probe).accuracy),
        "factor_probe": ((x, labels), {"probe": "ridge"}, m.factor_probe(x, {"a": labels}, probe="ridge").accuracy["a"]),
        "chair_i": ((chair,), {}, chair.chair_i),
        "chair_s": ((chair,), {}, chair.chair_s),
        "chair_recall": ((chair,), {}, chair.recall),
        "pope_accuracy": ((pope,), {}, pope.accuracy),
        "pope_precision": ((pope,), {}, pope.precision),
        "pope_recall": ((pope,), {}, pope.recall),
        "pope_f1": ((pope,), {}, pope.f1),
        "pope_yes_ratio": ((pope,), {}, pope.yes_ratio),
        "pairs_text": ((pairs,), {}, pairs.text),
        "pairs_image": ((pairs,), {}, pairs.image),
        "pairs_group": ((pairs,), {}, pairs.group),
        "caption_choice": ((choice,), {}, choice.accuracy),
        "mc1": ((mc,), {}, mc.mc1),
        "mc2": ((mc,), {}, mc.mc2),
        "mc3": ((mc,), {}, mc.mc3),
        "mc_margin": ((mc,), {}, mc.margin),
        "perplexity": ((logs,), {}, m.perplexity(logs)),
        "repetition": ((texts, 2), {}, m.repetition(texts, 2)),
        "diversity": ((texts,), {}, m.diversity(texts)),
        "mauve": ((x, y), {"k": 4}, m.mauve(x, y, k=4).value),
    }


@pytest.fixture(scope="module")
def every():
    return data()


def test_every_estimate_is_tested(every):
    """The table above holds every name that `estimate` knows."""
    assert set(every) == set(metrics.estimate_names())


@pytest.mark.parametrize("name", metrics.estimate_names())
def test_the_estimate_is_the_bare_function_with_an_interval(every, name):
    """Value of the bare function; a finite interval of some width around it; a null in words; a readable line; plain JSON."""
    arguments, options, value = every[name]
    found = metrics.estimate(name, *arguments, draws=300, **options)
    assert float(found) == pytest.approx(float(value), rel=1e-6, abs=1e-9) and found.name == name
    assert found.low <= found.value <= found.high and found.low < found.high
    assert found.null_is and found.convention
    if found.null is None:
        assert name in ("perplexity", "repetition", "diversity")
    else:
        assert math.isfinite(found.null)
    assert name in repr(found) and "95%" in repr(found) and str(found.n) in repr(found)
    assert all(isinstance(v, (str, int, float, type(None))) for v in found.as_dict().values())


def test_unknown_metric():
    """A name that does not exist is answered with one that does."""
    with pytest.raises(UnknownNameError, match="did you mean 'uniformity'"):
        metrics.estimate("uniformty", gaussian(4, 2))


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("recall_at_k", (gaussian(5, 2),), "key is missing"),
        ("chair_i", ([["dog"]],), r"chair\(\.\.\.\)"),
        ("mc2", (3,), "multiple_choice"),
        ("pope_f1", ("yes",), "pope"),
    ],
)
def test_wrong_data(name, data, match):
    """What is not the result that a metric needs is refused with the call that makes one."""
    with pytest.raises(TypeError, match=match):
        metrics.estimate(name, *data)


# --- nulls, where they can be simulated ---


def test_nulls_of_pairs_are_the_mean_over_shuffled_partners():
    """Alignment, matched cosine, relative gap, CKA and Procrustes of really shuffled partners average to the stated null."""
    x = gaussian(60, 5, 1) + 0.5
    y = x + 0.5 * gaussian(60, 5, 2)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(60, generator=generator) for _ in range(60)]
    for name, far in (
        ("alignment", 0.2),
        ("matched_cosine", 0.1),
        ("relative_gap", 0.1),
        ("linear_cka", 0.1),
        ("procrustes", 0.2),
    ):
        found = metrics.estimate(name, x, y)
        shuffled = np.mean([metrics.contributions(name, x, y[order]).value for order in orders])
        assert found.null == pytest.approx(shuffled, abs=0.02), name
        assert abs(found.value - found.null) > far, "vacuous: the pairs do not matter"


def test_null_of_uniformity_is_the_even_sphere():
    """Points drawn evenly from the sphere reach the null, in a few and in very many dimensions."""
    for d in (1, 3, 512):
        found = metrics.estimate("uniformity", gaussian(1500, d, d))
        assert found.null == pytest.approx(found.value, abs=0.01)


def test_null_of_ranks_is_the_isotropic_cloud():
    """Independent Gaussian entries have the effective rank, RankMe and spectral decay of the null, tall or wide."""
    for n, d in ((300, 20), (15, 40)):
        for name in ("effective_rank", "rankme", "spectrum_decay"):
            found = np.mean([metrics.contributions(name, gaussian(n, d, s)).value for s in range(6)])
            assert metrics.contributions(name, gaussian(n, d)).null == pytest.approx(found, rel=0.08), (name, n)


def test_null_of_tolerance_and_neighbours():
    """Shuffled labels, unrelated spaces, and even points on a sphere behave as their nulls say."""
    x, labels = gaussian(120, 4) + 0.4, torch.arange(120) % 5
    generator = torch.Generator().manual_seed(0)
    shuffled = [metrics.tolerance(x, labels[torch.randperm(120, generator=generator)]) for _ in range(60)]
    assert metrics.estimate("tolerance", x, labels).null == pytest.approx(float(np.mean(shuffled)), abs=0.005)
    overlap = np.mean([metrics.estimate("knn_overlap", gaussian(120, 4, s), gaussian(120, 4, s + 50)).value for s in range(20)])
    assert overlap == pytest.approx(metrics.contributions("knn_overlap", x, x).null, abs=0.005)
    for d in (2, 4):
        share = [metrics.contributions("near_duplicates", gaussian(60, d, s), threshold=0.98) for s in range(40)]
        assert np.mean([p.value for p in share]) == pytest.approx(share[0].null, abs=0.03)


def test_nulls_of_rankings_are_those_of_random_order():
    """Recall, MRR, MAP and nDCG of unrelated embeddings average to their nulls, with one and with several relevant keys."""
    labels, of_key = torch.arange(40) % 4, torch.arange(30) % 5 % 4
    several = {"query_labels": labels, "key_labels": of_key}
    for name, options in (
        ("recall_at_k", {"k": 3, **several}),
        ("mrr", several),
        ("map", several),
        ("ndcg", {"k": 5, **several}),
        ("mrr", {"k": 3}),
    ):
        n_key = 30 if "query_labels" in options else 40
        found = [metrics.contributions(name, gaussian(40, 8, s), gaussian(n_key, 8, s + 999), **options) for s in range(40)]
        assert np.mean([p.value for p in found]) == pytest.approx(found[0].null, abs=0.015), (name, options)


def test_null_of_hubness_is_random_neighbours():
    """Counts of neighbours drawn at random have the skewness of the null."""
    rng = np.random.default_rng(0)
    n, k = 400, 5
    skew = []
    for _trial in range(15):
        counts = np.zeros(n)
        for _ in range(n):
            counts[rng.choice(n - 1, k, replace=False)] += 1
        skew.append(stats.skew(counts[: n - 1]))
    assert metrics.contributions("hubness", gaussian(n, 3), k=k).null == pytest.approx(np.mean(skew), abs=0.05)


def test_null_of_chair_is_captions_of_other_pictures():
    """The counts of CHAIR with the pictures exchanged, by a loop over all pairs of captions and other pictures."""
    rng = np.random.default_rng(0)
    said = [list(rng.choice(list("abcdef"), rng.integers(0, 5))) for _ in range(15)]
    said = [[str(name) for name in names] for names in said]
    shown = [[str(name) for name in rng.choice(list("abcdef"), 3, replace=False)] for _ in range(15)]
    wrong = mentions = bad = found = present = 0
    for i in range(15):
        for j in range(15):
            if i != j:
                false = [name not in shown[j] for name in said[i]]
                wrong, mentions, bad = wrong + sum(false), mentions + len(false), bad + any(false)
                found, present = found + len(set(said[i]) & set(shown[j])), present + 3
    assert metrics.chair(said, shown).null == pytest.approx((wrong / mentions, bad / (15 * 14), found / present))


# --- two systems ---


def test_a_paired_difference_is_narrower_and_right():
    """Two systems that fail on the same queries: the paired interval covers the true difference and is far narrower."""
    covered, widths = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        hard = rng.normal(size=100)
        a, b = parts_of(hard + 0.3 * rng.normal(size=100)), parts_of(hard + 0.2 + 0.3 * rng.normal(size=100))
        both = interval(difference(a, b), draws=400)
        covered += both.low <= 0.2 <= both.high
        widths.append((both.high - both.low) / (interval(a, draws=400).high - interval(a, draws=400).low))
    assert covered >= 53 and np.mean(widths) < 0.6


def test_compare_agrees_with_a_t_test():
    """The paired bootstrap's p-value is about that of scipy's paired t test; equal systems have p = 1."""
    x, y = gaussian(80, 6, 1), gaussian(80, 6, 1) + 0.5 * gaussian(80, 6, 2)
    z = gaussian(80, 6, 1) + 0.55 * gaussian(80, 6, 3)
    found = metrics.compare("matched_cosine", (x, y), (x, z))
    a, b = (metrics.contributions("matched_cosine", x, other).rows[:, 0] for other in (y, z))
    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.04)
    assert found.difference.value == pytest.approx(found.second.value - found.first.value) and found.difference.null == 0
    assert metrics.compare("matched_cosine", (x, y), (x, y)).p_value == 1
    with pytest.raises(ValueError, match="same rows"):
        metrics.compare("matched_cosine", (x, y), (x[:5], y[:5]))
    with pytest.raises(TypeError, match="first must be a tuple"):
        metrics.compare("matched_cosine", x, (x, y))


def test_mcnemar_by_hand_and_by_scipy():
    """Only the discordant questions decide: scipy's exact binomial test of them; the interval covers the difference."""
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.6, rng.random(200) < 0.75
    found = metrics.mcnemar(a, torch.as_tensor(b))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    assert (found.only_first, found.only_second) == (only_a, only_b) and found.both + found.neither + only_a + only_b == 200
    assert found.p_value == pytest.approx(stats.binomtest(only_b, only_a + only_b).pvalue)
    assert found.difference == pytest.approx(b.mean() - a.mean()) and found.low < found.difference < found.high
    same = metrics.mcnemar([True, False], [True, False])
    assert same.p_value == 1 and same.difference == 0 and same.high > 0.3
    for bad, error in ((([True], [True, False]), ValueError), (([1], [0]), TypeError), (([], []), TypeError)):
        with pytest.raises(error):
            metrics.mcnemar(*bad)
