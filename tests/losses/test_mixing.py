"""Hard-negative mixing, against a slow loop written from the paper and in the limits where it must do nothing."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from workbench import losses
from workbench.losses.mixing import hardest_negatives, mix_negatives, mix_with_query, mochi_negatives, queue_info_nce


def some(n=5, m=20, d=4, seed=0):
    """Queries, their keys and a queue, float64, of unit length."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(n, d, generator=generator, dtype=torch.float64)
    key = query + 0.5 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    queue = torch.randn(m, d, generator=generator, dtype=torch.float64)
    return tuple(normalize(x, dim=1) for x in (query, key, queue))


def slow_loss(query, key, queue, extra, excluded, tau):
    """Mean over the queries of -log softmax at the positive, every term written out."""
    total = 0.0
    for i in range(len(query)):
        negatives = [queue[j] for j in range(len(queue)) if not excluded[i, j]] + list(extra[i])
        positive = math.exp(float(query[i] @ key[i]) / tau)
        total += -math.log(positive / (positive + sum(math.exp(float(query[i] @ n) / tau) for n in negatives)))
    return total / len(query)


def slow_mochi(query, queue, excluded, hardest, mixed, with_query, seed):
    """Top N, then both types point by point; the random numbers are drawn in the order that the package draws them."""
    n, g = len(query), torch.Generator().manual_seed(seed)
    i = torch.randint(hardest, (n, mixed), generator=g)
    j = (i + torch.randint(1, hardest, (n, mixed), generator=g)) % hardest
    alpha = torch.rand(n, mixed, 1, generator=g, dtype=torch.float64)
    chosen = torch.randint(hardest, (n, with_query), generator=g)
    beta = 0.5 * torch.rand(n, with_query, 1, generator=g, dtype=torch.float64)
    rows = []
    for a in range(n):
        allowed = [b for b in range(len(queue)) if not excluded[a, b]]
        top = sorted(allowed, key=lambda b: -float(query[a] @ queue[b]))[:hardest]
        points = []
        for s in range(mixed):
            h = alpha[a, s] * queue[top[i[a, s]]] + (1 - alpha[a, s]) * queue[top[j[a, s]]]
            points.append(h / h.norm())
        for s in range(with_query):
            h = beta[a, s] * query[a] + (1 - beta[a, s]) * queue[top[chosen[a, s]]]
            points.append(h / h.norm())
        rows.append(torch.stack(points))
    return torch.stack(rows)


def mask(n=5, m=20, seed=3):
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed)) < 0.3


def test_synthetic_negatives_are_the_papers():
    """Choice, both kinds of mixing and renormalisation equal the loop, with a mask, for every query."""
    query, _, queue = some()
    got = mochi_negatives(
        query, queue, hardest=6, mixed=7, with_query=4, excluded=mask(), generator=torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(got, slow_mochi(query, queue, mask(), 6, 7, 4, seed=1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0])
def test_loss_is_the_papers(tau):
    """Queue, mask and extra negatives enter the denominator of their own query only."""
    query, key, queue = some()
    extra = mochi_negatives(query, queue, hardest=5, mixed=3, with_query=2)
    value = queue_info_nce(query, key, queue, extra=extra, excluded=mask(), temperature=tau)
    assert float(value) == pytest.approx(slow_loss(query, key, queue, extra, mask(), tau), rel=1e-10)
    assert value > queue_info_nce(query, key, queue, excluded=mask(), temperature=tau), "more negatives, more loss"


def test_without_synthetic_negatives_it_is_info_nce():
    """s = s' = 0 is MoCo: value and gradient of `info_nce` against the queue."""
    query, key, queue = some()
    query.requires_grad_()
    extra = mochi_negatives(query, queue, hardest=4, mixed=0, with_query=0)
    assert extra.shape == (5, 0, 4)
    values = (
        queue_info_nce(query, key, queue, extra=extra),
        losses.info_nce(query, key, queue=queue, in_batch=False, temperature=0.2),
    )
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(v, query)[0] for v in values), rtol=1e-10, atol=1e-14)


def test_mixes_lie_on_the_sphere_and_are_harder_than_what_they_are_made_of():
    """Unit length; with all similarities positive a mix is no easier than its easier parent, with the query no easier than it."""
    query, _, queue = some(n=8, m=200)
    top = hardest_negatives(query, queue, 10)
    candidates = queue[top]
    easiest = (candidates @ query[:, :, None]).squeeze(2).min(dim=1).values
    assert (easiest > 0).all(), "the premise of the claim"
    for points in (mix_negatives(candidates, 50), mix_with_query(query, candidates, 50)):
        torch.testing.assert_close(points.norm(dim=2), torch.ones(8, 50, dtype=torch.float64))
        assert ((points @ query[:, :, None]).squeeze(2) >= easiest[:, None] - 1e-12).all()


def test_shares_are_uniform_and_the_query_never_dominates():
    """alpha covers (0, 1) evenly, beta (0, 1/2): read off orthogonal parents, where a share is a ratio of coordinates."""
    basis = torch.eye(3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    pairs = mix_negatives(basis[None, :2], 4000, generator=generator)[0]
    alpha = pairs[:, 0] / (pairs[:, 0] + pairs[:, 1])
    mixes = mix_with_query(basis[2:], basis[None, :1], 4000, generator=generator)[0]
    beta = mixes[:, 2] / (mixes[:, 0] + mixes[:, 2])
    for share, top in ((alpha, 1.0), (beta, 0.5)):
        assert share.min() >= 0 and share.max() <= top
        quantiles = share.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)) / top
        torch.testing.assert_close(quantiles, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), atol=0.03, rtol=0)


def test_two_parents_always_differ():
    """With two candidates, every mix of the first kind has a share of both."""
    points = mix_negatives(torch.eye(2, dtype=torch.float64)[None], 500)
    assert (points > 0).all()


def test_synthetic_negatives_are_constants():
    """No gradient reaches the query or the queue through a mix: the gradient is that of fixed extra negatives."""
    query, key, queue = (x.requires_grad_() for x in some())
    extra = mochi_negatives(query, queue, hardest=6, mixed=3, with_query=3)
    assert not extra.requires_grad
    gradient = torch.autograd.grad(queue_info_nce(query, key, queue, extra=extra), query)[0]
    constants = extra.clone()
    torch.testing.assert_close(gradient, torch.autograd.grad(queue_info_nce(query, key, queue, extra=constants), query)[0])
    s = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T, (constants @ query[:, :, None]).squeeze(2)], 1)
    plain = torch.nn.functional.cross_entropy(s / 0.2, torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(queue_info_nce(query, key, queue, extra=constants, normalize=False), plain)


def test_mask_comes_before_the_choice():
    """A query's own older view is never among the hardest, so it is never mixed in."""
    query, _, queue = some()
    queue = torch.cat([queue, query])  # rows 20 to 24: each query itself
    own = torch.arange(25)[None] == 20 + torch.arange(5)[:, None]
    assert (hardest_negatives(query, queue, 3)[:, 0] == 20 + torch.arange(5)).all(), "unmasked it would come first"
    assert (hardest_negatives(query, queue, 3, excluded=own) != 20 + torch.arange(5)[:, None]).all()
    value = queue_info_nce(query, query, queue, excluded=own)
    assert value < queue_info_nce(query, query, queue)


def test_each_query_has_mixes_of_its_own():
    """Two equal queries get different points: nothing is shared over the batch."""
    query, _, queue = some()
    points = mochi_negatives(query[:1].expand(2, -1), queue, hardest=6, mixed=4, with_query=4)
    assert (points[0] - points[1]).norm(dim=1).min() > 1e-6


def test_same_generator_same_points():
    query, _, queue = some()
    a, b = (
        mochi_negatives(query, queue, hardest=6, mixed=4, with_query=4, generator=torch.Generator().manual_seed(s))
        for s in (7, 7)
    )
    assert torch.equal(a, b)


BAD = [
    (lambda q, k, u: hardest_negatives(q, u, 21), ValueError, "count"),
    (lambda q, k, u: hardest_negatives(q, u, 0), ValueError, "count"),
    (lambda q, k, u: hardest_negatives(q, u, 2.0), TypeError, "count"),
    (lambda q, k, u: hardest_negatives(q, u, 18, excluded=mask()), ValueError, "count"),
    (lambda q, k, u: hardest_negatives(q, u, 2, excluded=mask(4)), ValueError, "excluded"),
    (lambda q, k, u: hardest_negatives(q, u, 2, excluded=mask().float()), TypeError, "excluded"),
    (lambda q, k, u: mix_negatives(u[None, :1], 3), ValueError, "candidates"),
    (lambda q, k, u: mix_negatives(u, 3), ValueError, "candidates"),
    (lambda q, k, u: mix_with_query(q, u[None, :3], 3), ValueError, "candidates"),
    (lambda q, k, u: mix_with_query(q[:1], u[None, :3], 3, largest_share=0.6), ValueError, "largest_share"),
    (lambda q, k, u: queue_info_nce(q, k, u, extra=u[:4, None]), ValueError, "extra"),
    (lambda q, k, u: queue_info_nce(q, k, u, excluded=torch.ones(5, 20, dtype=torch.bool)), ValueError, "excluded"),
    (lambda q, k, u: queue_info_nce(q, k, u * float("nan")), ValueError, "queue"),
    (lambda q, k, u: queue_info_nce(q, k, u, temperature=0.0), ValueError, "temperature"),
]


@pytest.mark.parametrize("call, error, name", BAD)
def test_bad_input_is_named(call, error, name):
    with pytest.raises(error, match=name):
        call(*some())
