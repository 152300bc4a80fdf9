"""Neighbours, spectra, rankings, correlations and the gap's subsamples: kept libraries, limits and known answers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, ndcg_score
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import normalize

from workbench import metrics


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- anisotropy, neighbours ---


def test_anisotropy_limits():
    """Orthogonal rows 0, one direction 1, two opposite rows -1; it is 1 minus half the mean squared distance."""
    assert float(metrics.anisotropy(torch.eye(5))) == pytest.approx(0, abs=1e-7)
    assert float(metrics.anisotropy(torch.rand(1, 5).repeat(9, 1))) == pytest.approx(1)
    assert float(metrics.anisotropy(torch.tensor([[1.0, 0.0], [-3.0, 0.0]]))) == -1


def test_nearest_neighbours_equal_scikit_learns():
    """Index and cosine of scikit-learn's search without the row itself, in any block; duplicates are neighbours."""
    x = gaussian(70, 5)
    distance, index = NearestNeighbors(metric="cosine").fit(x.numpy()).kneighbors(None, 6)
    for chunk_size in (None, 1, 13):
        found = metrics.nearest_neighbours(x, k=6, chunk_size=chunk_size)
        assert (found.index.numpy() == index).all() and found.k == 6
        np.testing.assert_allclose(found.cosine.numpy(), 1 - distance, atol=1e-12)
    twice = metrics.nearest_neighbours(x.repeat(2, 1), k=1)
    assert (twice.index[:, 0] == (torch.arange(140) + 70) % 140).all()
    assert int(metrics.k_occurrence(found).sum()) == 70 * 6


def test_stored_neighbours_serve_every_metric():
    """One search answers hubness, near-duplicates and overlap as the embeddings themselves do."""
    x, y = gaussian(50, 4, 1), gaussian(50, 7, 2)
    near, other = metrics.nearest_neighbours(x, k=5), metrics.nearest_neighbours(y, k=5)
    assert torch.equal(metrics.hubness(near), metrics.hubness(x, k=5))
    assert torch.equal(metrics.near_duplicates(near, threshold=0.9), metrics.near_duplicates(x, threshold=0.9))
    assert torch.equal(metrics.knn_overlap(near, other), metrics.knn_overlap(x, y, k=5))
    assert torch.equal(metrics.knn_overlap(near, y, k=5), metrics.knn_overlap(x, y, k=5))
    with pytest.raises(ValueError, match="neighbours of one shape"):
        metrics.knn_overlap(near, metrics.nearest_neighbours(y, k=4))
    with pytest.raises(ValueError, match="paired row by row"):
        metrics.knn_overlap(x, y[:9])


def test_hubs_sit_in_the_middle_of_a_cloud():
    """A star has one hub. Rows of a cone that lie near its axis become hubs; an even sphere has none, in 100 dimensions either."""
    star = torch.cat([torch.ones(1, 30, dtype=torch.float64), torch.eye(30, dtype=torch.float64)])
    assert float(metrics.hubness(star, k=1)) > 4
    noise, radius = gaussian(500, 100), torch.linspace(0.5, 1.5, 500, dtype=torch.float64)[:, None]
    cone = 0.8 + radius * noise
    assert float(metrics.hubness(noise, k=5)) < 0.8 < 2 < float(metrics.hubness(cone, k=5))
    counts = metrics.k_occurrence(metrics.nearest_neighbours(cone, k=5))
    assert counts[:50].sum() > 5 * counts[-50:].sum()
    assert float(metrics.hubness(torch.eye(2).repeat(2, 1), k=1)) == 0, "each row occurs once"


def test_near_duplicates_are_found_and_counted_once():
    """Three copies among ten rows: 0.3; the threshold decides."""
    x = torch.cat([gaussian(8, 30), gaussian(1, 30, 5).repeat(2, 1)])
    x[9] += 0.001
    x[0] = 3 * x[8]
    assert float(metrics.near_duplicates(x)) == pytest.approx(0.3)
    assert float(metrics.near_duplicates(x, threshold=0.01)) > 0.3


def test_cka_and_procrustes_are_blind_to_rotation_and_scale_only():
    """A rotated, scaled, moved copy is the same space (also in more dimensions); a stretched one is not."""
    x = gaussian(60, 4) * torch.tensor([3.0, 1, 1, 0.5])
    turned = 7 * x @ torch.linalg.qr(gaussian(4, 4, 3))[0] + 2
    wider = torch.cat([turned, torch.zeros(60, 3, dtype=torch.float64)], 1)
    for y in (turned, wider):
        assert (
            float(metrics.linear_cka(x, y)) == pytest.approx(1) == pytest.approx(float(metrics.linear_cka(x, y, debiased=True)))
        )
        assert float(metrics.procrustes(x, y)) == pytest.approx(0, abs=1e-12)
        assert float(metrics.procrustes(x, y, scale=False)) == pytest.approx(0, abs=1e-12)
    stretched = x * torch.tensor([0.1, 1, 1, 4])
    assert float(metrics.linear_cka(x, stretched)) < 0.5 and float(metrics.procrustes(x, stretched)) > 0.2


def test_debiased_cka_of_unrelated_sets_is_zero():
    """As many columns as rows: the plain value is far above 0, the debiased one averages to it."""
    pairs = [(gaussian(40, 60, s), gaussian(40, 60, s + 100)) for s in range(15)]
    plain = np.mean([float(metrics.linear_cka(*p)) for p in pairs])
    debiased = [float(metrics.linear_cka(*p, debiased=True)) for p in pairs]
    assert plain > 0.5 and abs(np.mean(debiased)) < 0.05 and min(debiased) < 0


# --- spectrum ---


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_decay_of_a_power_law_is_its_exponent(shape, alpha):
    """Variances k**-alpha give alpha in every range of ranks and with both weights."""
    u, v = torch.linalg.qr(gaussian(shape[0], 12, 1))[0], torch.linalg.qr(gaussian(shape[1], 12, 2))[0]
    x = u @ torch.diag(torch.arange(1.0, 13.0, dtype=torch.float64) ** (-alpha / 2)) @ v.T
    for options in ({}, {"weights": "equal"}, {"ranks": (3, 9)}):
        assert float(metrics.spectrum_decay(x, center=False, **options)) == pytest.approx(alpha, rel=1e-6)
    np.testing.assert_allclose(metrics.spectrum(x).numpy(), np.linalg.svd(x.numpy(), compute_uv=False), atol=1e-9)
    assert float(metrics.spectrum_decay(gaussian(20_000, 8))) == pytest.approx(0, abs=0.03), "a flat spectrum"


def test_decay_needs_two_ranks():
    """One direction has no slope."""
    with pytest.raises(ValueError, match="ranks must hold at least two"):
        metrics.spectrum_decay(gaussian(9, 1) @ gaussian(1, 4), center=False)


# --- rankings ---


def test_rankings_equal_scikit_learn():
    """MAP and nDCG of labels and of graded relevance: scikit-learn query by query, both gains, in blocks too."""
    query, key = gaussian(25, 5, 1), gaussian(40, 5, 2)
    of_query, of_key = torch.arange(25) % 4, torch.arange(40) % 4
    cosine = (normalize(query, dim=1) @ normalize(key, dim=1).T).numpy()
    same = (of_query[:, None] == of_key[None]).numpy()
    for chunk_size in (None, 7):
        found = metrics.ranking(query, key, query_labels=of_query, key_labels=of_key, k=(3, 10), chunk_size=chunk_size)
        assert found.map == pytest.approx(np.mean([average_precision_score(t, s) for t, s in zip(same, cosine, strict=True)]))
        for k in (3, 10):
            assert found.ndcg[k] == pytest.approx(ndcg_score(same.astype(float), cosine, k=k))
    graded = torch.randint(4, (25, 40), generator=torch.Generator().manual_seed(0))
    linear = metrics.ranking(query, key, relevance=graded, k=10)
    assert linear.ndcg[10] == pytest.approx(ndcg_score(graded.numpy(), cosine, k=10))
    steep = metrics.ranking(query, key, relevance=graded, k=10, gain="exponential")
    assert steep.ndcg[10] == pytest.approx(ndcg_score(2.0 ** graded.numpy() - 1, cosine, k=10)) != linear.ndcg[10]


def test_reciprocal_ranks_agree_with_recall():
    """MRR from stored ranks and from the ranking; cut off at k; recall@1 is MRR@1."""
    x = gaussian(50, 4, 1)
    y = x + gaussian(50, 4, 2)
    recall, ranking = metrics.recall_at_k(x, y), metrics.ranking(x, y)
    assert ranking.mrr == pytest.approx(float(metrics.mean_reciprocal_rank(recall.ranks)))
    expected = np.mean([1 / (r + 1) if r < 3 else 0 for r in recall.ranks.tolist()])
    assert float(metrics.mean_reciprocal_rank(recall.ranks, k=3)) == pytest.approx(expected)
    assert float(metrics.mean_reciprocal_rank(recall.ranks, k=1)) == recall.at[1] and 0.1 < recall.at[1] < 0.9
    assert ranking.map == ranking.mrr, "one relevant key: average precision is the reciprocal rank"
    with pytest.raises(ValueError, match="ranks"):
        metrics.mean_reciprocal_rank(torch.tensor([-1]))


def test_ties_and_the_row_itself_in_rankings():
    """A collapsed encoder ranks the relevant key last; a row does not find itself."""
    point = torch.ones(6, 3)
    worst = metrics.ranking(point, point, k=6)
    assert worst.map == worst.mrr == pytest.approx(1 / 6) and worst.ndcg[6] == pytest.approx(1 / math.log2(7))
    x, labels = gaussian(12, 3), torch.arange(12) % 3
    alone = metrics.ranking(x, x, query_labels=labels, key_labels=labels, exclude_self=True, k=11)
    assert alone.n_key == 11 and alone.mrr < 1 and set(alone.n_relevant.tolist()) == {3}
    assert metrics.ranking(x, x, query_labels=labels, key_labels=labels).mrr == 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"relevance": torch.ones(4, 3)}, ValueError, "relevance"),
        ({"relevance": -torch.ones(4, 4)}, ValueError, "relevance"),
        ({"relevance": torch.zeros(4, 4)}, ValueError, "no relevant key"),
        (
            {"relevance": torch.ones(4, 4), "query_labels": torch.arange(4), "key_labels": torch.arange(4)},
            ValueError,
            "relevance",
        ),
        ({"query_labels": torch.arange(4)}, ValueError, "together"),
        ({"gain": "log"}, ValueError, "gain"),
        ({"exclude_self": True}, ValueError, "exclude_self"),
        ({"k": 5}, ValueError, "k must"),
        ({"k": ()}, ValueError, "k must"),
    ],
)
def test_ranking_bad_input(options, error, match):
    """Relevance that is none, two kinds of it, and cut-offs beyond the keys are refused."""
    with pytest.raises(error, match=match):
        metrics.ranking(torch.eye(4), torch.eye(4), **{"k": 2, **options})


# --- correlations ---


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_equal_scipy(ties):
    """Pearson and Spearman of scipy, integers and ties included; a monotone map changes neither rank."""
    x, y = gaussian(50, 2).T
    y = x + y
    if ties:
        x, y = x.round(), (2 * y).round().long()
    assert float(metrics.pearson(x, y)) == pytest.approx(stats.pearsonr(x.numpy(), y.numpy()).statistic)
    assert float(metrics.spearman(x, y)) == pytest.approx(stats.spearmanr(x.numpy(), y.numpy()).statistic)
    assert float(metrics.spearman(x.exp(), y)) == pytest.approx(float(metrics.spearman(x, y)))
    assert float(metrics.spearman(x, -x)) == pytest.approx(-1) and float(metrics.pearson(1e30 * x, 3 * x)) == pytest.approx(1)


def test_spearmans_influence_is_the_effect_of_one_more_pair():
    """Ties included, the first-order effect of a row equals the change of scipy's value when the row is given more weight."""
    from workbench.metrics.similarity import spearman_influence

    x, y = (1.5 * gaussian(30, 2)).round().T
    rho, influence = spearman_influence(x, y)
    copies = 400  # each row 400 times, one of them 401 times
    a, b = np.repeat(x.numpy(), copies), np.repeat(y.numpy(), copies)
    for i in range(0, 30, 5):
        more = stats.spearmanr(np.append(a, x[i]), np.append(b, y[i])).statistic - stats.spearmanr(a, b).statistic
        assert more * (30 * copies + 1) == pytest.approx(influence[i], abs=0.005)
    assert np.abs(influence).max() > 0.5 and rho == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize(
    ("x", "y", "error", "match"),
    [
        (torch.ones(4), torch.arange(4.0), ValueError, "x is constant"),
        (torch.arange(4.0), torch.arange(5.0), ValueError, "paired"),
        (torch.arange(2.0), torch.arange(2.0), ValueError, "n >= 3"),
        (torch.tensor([0.0, 1.0, float("nan")]), torch.arange(3.0), ValueError, "x has 1 of 3"),
        (torch.arange(3) > 1, torch.arange(3.0), TypeError, "x must hold numbers"),
        ([1.0, 2.0, 3.0], torch.arange(3.0), TypeError, "x must be a torch tensor"),
    ],
)
def test_correlation_bad_input(x, y, error, match):
    """A constant has no correlation: an error, not NaN."""
    for correlation in (metrics.pearson, metrics.spearman):
        with pytest.raises(error, match=match):
            correlation(x, y)


# --- the modality gap of many rows, its direction and its shift ---


def test_recall_of_some_queries_is_that_of_all():
    """A random part of the queries among all keys: exactly their ranks; the result says how many."""
    x = gaussian(300, 6, 1)
    y = x + gaussian(300, 6, 2) + 0.5
    whole, part = metrics.modality_gap(x, y), metrics.modality_gap(x, y, max_queries=100, max_pairs=150, seed=1)
    assert (whole.n_query, part.n_query, part.n_separability, part.n) == (300, 100, 150, 300)
    rows = torch.randperm(300, generator=torch.Generator().manual_seed(1))[:100]
    for found, pair in ((part.recall_x2y, (x, y)), (part.recall_y2x, (y, x))):
        ranks = metrics.recall_at_k(*pair, k=1).ranks[rows]
        assert found == pytest.approx(float((ranks == 0).double().mean()))
    assert part.recall_x2y_shifted == pytest.approx(whole.recall_x2y_shifted, abs=0.12) and part.recall_x2y_shifted > 0
    assert (part.centroid_distance, part.relative_gap) == (whole.centroid_distance, whole.relative_gap), "these are exact"


def test_direction_and_spread_of_the_gap():
    """One common shift: share 1. Unrelated pairs around one centre: share about 0. The spread is the distance to the centre."""
    x = normalize(gaussian(400, 8, 1), dim=1)
    apart = metrics.modality_gap(torch.tensor([[1.0, 0.0]]).repeat(9, 1), torch.tensor([[0.0, 1.0]]).repeat(9, 1))
    assert apart.direction_share == pytest.approx(1) and apart.spread_x == pytest.approx(0, abs=1e-6)
    mixed = metrics.modality_gap(x, gaussian(400, 8, 2))
    assert mixed.direction_share < 0.02
    expected = float((x - x.mean(0)).square().sum(1).mean().sqrt())
    assert mixed.spread_x == pytest.approx(expected) and mixed.spread_y > 0.9
    assert metrics.modality_gap(x, x).direction_share == 0


def test_shifting_the_gap():
    """Nothing at 0, closed at 1/2 as the metric says, wider at -1/2; rows keep length one."""
    x, y = gaussian(200, 5, 1) + 1, gaussian(200, 5, 2)
    gap = metrics.modality_gap(x, y)
    moved = {amount: metrics.shift_gap(x, y, amount=amount) for amount in (0.0, 0.5, -0.5)}
    distance = {amount: metrics.modality_gap(*pair).centroid_distance for amount, pair in moved.items()}
    assert distance[0.0] == pytest.approx(gap.centroid_distance) and distance[0.5] == pytest.approx(gap.shifted_distance)
    assert distance[0.5] < distance[0.0] < distance[-0.5]
    torch.testing.assert_close(moved[-0.5][0].norm(dim=1), torch.ones(200, dtype=torch.float64))
    with pytest.raises(ValueError, match="amount"):
        metrics.shift_gap(x, y, amount=float("nan"))
    with pytest.raises(TypeError, match="amount"):
        metrics.shift_gap(x, y, amount="half")
