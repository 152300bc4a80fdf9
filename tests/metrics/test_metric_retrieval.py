"""Recall against scikit-learn, ties, and labels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import normalize

from workbench.metrics import recall_at_k
from workbench.metrics.retrieval import paired_ranks


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_recall_equals_scikit_learns_top_k_accuracy():
    """With one positive per query, recall@k is the top-k accuracy of the similarity rows."""
    query = gaussian(200, 8, 1)
    key = query + 1.5 * gaussian(200, 8, 2)
    cosine = (normalize(query, dim=1) @ normalize(key, dim=1).T).numpy()
    result = recall_at_k(query, key)
    for k in (1, 5, 10):
        assert result.at[k] == pytest.approx(top_k_accuracy_score(np.arange(200), cosine, k=k))
    assert 0.05 < result.at[1] < result.at[5] < result.at[10] < 0.95, "vacuous: too easy or too hard"
    better = (cosine > np.diag(cosine)[:, None]).sum(1)
    assert (result.ranks.numpy() == better).all()
    assert result.median_rank == np.sort(better)[99]


def test_recall_with_labels_equals_scikit_learns_neighbours():
    """Several positives per query: the share of queries with a key of their label among scikit-learn's k neighbours."""
    query, key = gaussian(40, 6, 1), gaussian(90, 6, 2)
    of_query, of_key = torch.arange(40) % 9, torch.arange(90) % 9
    neighbours = NearestNeighbors(metric="cosine").fit(key.numpy()).kneighbors(query.numpy(), 5, return_distance=False)
    hits = of_key.numpy()[neighbours] == of_query.numpy()[:, None]
    result = recall_at_k(query, key, k=(1, 5), query_labels=of_query, key_labels=of_key)
    for k in (1, 5):
        assert result.at[k] == pytest.approx(hits[:, :k].any(1).mean())
    assert 0 < result.at[1] < result.at[5] < 1, "vacuous: too easy or too hard"
    assert (result.n_query, result.n_key) == (40, 90)
    assert result.n_positive.tolist() == [10] * 40


def test_recall_within_one_set_is_leave_one_out():
    """With exclude_self a row is found by another row of its class, never by itself."""
    x, labels = gaussian(60, 5), torch.arange(60) % 6
    cosine = normalize(x, dim=1) @ normalize(x, dim=1).T
    cosine.fill_diagonal_(-2)
    expected = float((labels[cosine.argmax(1)] == labels).double().mean())
    result = recall_at_k(x, x, k=1, query_labels=labels, key_labels=labels, exclude_self=True)
    assert result.at[1] == pytest.approx(expected) and 0 < expected < 1
    assert recall_at_k(x, x, k=1, query_labels=labels, key_labels=labels).at[1] == 1, "with itself it is always a hit"
    assert result.n_key == 59


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("d", [1, 33, 512])
def test_a_collapsed_encoder_retrieves_nothing(dtype, d):
    """All rows at one point (up to their length): every key ties, and ties count against the query."""
    point = gaussian(1, d) + 1.0
    query = (point * torch.linspace(1, 3, 120)[:, None]).to(dtype)
    key = (point * torch.linspace(2, 5, 120)[:, None]).to(dtype)
    if dtype == torch.bfloat16:
        query, key = query[:1].repeat(120, 1), key[:1].repeat(120, 1)  # scaling moves bfloat16 rows apart
    labels = torch.arange(120) % 10
    for k in (1, 10):
        assert recall_at_k(query, key, k=k).at[k] == 0
        assert recall_at_k(query, key, k=k, query_labels=labels, key_labels=labels).at[k] == 0


def test_a_duplicate_of_the_key_costs_one_rank():
    """Each key twice: the partner ties with its copy, so recall@1 is 0 and recall@2 is 1."""
    x = gaussian(30, 8).repeat(2, 1)
    result = recall_at_k(x, x, k=(1, 2))
    assert result.at == {1: 0.0, 2: 1.0}
    labels = torch.arange(30).repeat(2)
    assert recall_at_k(x, x, k=1, query_labels=labels, key_labels=labels).at[1] == 1, "two positives may tie with each other"


def test_blocks_do_not_change_the_ranks():
    """Any block of rows gives the ranks of the dense matrix, in both directions."""
    x = normalize(gaussian(37, 4, 1), dim=1)
    y = normalize(x + gaussian(37, 4, 2), dim=1)
    cosine = x @ y.T
    x_ranks = (cosine > cosine.diagonal()[:, None]).sum(1)
    y_ranks = (cosine > cosine.diagonal()[None]).sum(0)
    assert not torch.equal(x_ranks, y_ranks)
    for chunk_size in (1, 5, 36, 37, 100):
        ranks = paired_ranks(x, y, chunk_size=chunk_size)
        assert torch.equal(ranks[0], x_ranks) and torch.equal(ranks[1], y_ranks)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"query_labels": torch.arange(4)}, "query_labels and key_labels must be given together"),
        ({"exclude_self": True, "k": 1}, "exclude_self needs query_labels"),
        ({"query_labels": torch.tensor([0, 1, 9, 9]), "key_labels": torch.arange(4), "k": 1}, "query_labels of 2 of 4"),
        ({"query_labels": torch.arange(4), "key_labels": torch.arange(4), "k": 1, "exclude_self": True}, "no other key"),
        ({"k": ()}, "k must hold at least one number"),
        ({"k": 4}, "k must be between 1 and 3"),
    ],
)
def test_bad_options(options, match):
    """Labels by halves, queries without a positive and cut-offs that everything would reach are refused."""
    with pytest.raises(ValueError, match=match):
        recall_at_k(torch.eye(4), torch.eye(4), **options)
