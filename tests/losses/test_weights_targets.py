"""InfoNCE with a weight for each negative, or with soft targets: the dense formula, with blocks, a queue and several processes."""

import math

import pytest
import ranks
import torch
import torch.distributed as dist
from splits import part_of
from torch.nn.functional import cross_entropy, normalize

from workbench import losses
from workbench.losses import blockwise

N, M, D, TAU = 11, 7, 5, 0.2


def make(n=N, m=M, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n + 100 * m)
    x, noise, queue = (torch.randn(k, D, generator=generator, dtype=torch.float64) for k in (n, n, m))
    weights = torch.rand(n, n + m, generator=generator, dtype=torch.float64) * 3
    weights[weights < 0.6] = 0  # some are left out
    targets = torch.rand(n, n + m, generator=generator, dtype=torch.float64) ** 4
    sides = [z.to(dtype).requires_grad_() for z in (x, x + 0.7 * noise, queue)]
    return *sides, weights, targets / targets.sum(1, keepdim=True)


def logits_of(query, key, queue, tau):
    candidates = key if queue is None else torch.cat([key, queue])
    return normalize(query) @ normalize(candidates).T / tau


def weighted(query, key, queue, tau, weights):
    """A loop over queries: the own key counts once, candidate u of the others w_u times."""
    logits, rows = logits_of(query, key, queue, tau), []
    for i in range(len(query)):
        terms = [logits[i, i].exp()] + [weights[i, u] * logits[i, u].exp() for u in range(logits.shape[1]) if u != i]
        rows.append(torch.stack(terms).sum().log() - logits[i, i])
    return torch.stack(rows)


def soft(query, key, queue, tau, targets):
    return -(targets * logits_of(query, key, queue, tau).log_softmax(1)).sum(1)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("with_queue", [False, True])
@pytest.mark.parametrize("kind", ["weights", "targets"])
def test_equals_the_dense_formula(kind, with_queue, reduction):
    """Value and gradients by both sides, queue and temperature, for blocks that divide the rows and that do not."""
    query, key, queue, weights, targets = make(m=M if with_queue else 1)
    queue = queue if with_queue else None
    n = N + (M if with_queue else 0)
    given = weights[:, :n] if kind == "weights" else targets[:, :n] / targets[:, :n].sum(1, keepdim=True)
    tau = torch.tensor(TAU, dtype=torch.float64, requires_grad=True)
    inputs = [z for z in (query, key, queue, tau) if z is not None]
    weigh = torch.linspace(0.5, 2, N, dtype=torch.float64)
    finish = (lambda each: (each * weigh).sum()) if reduction == "none" else (lambda each: each.mean())
    expected = (weighted if kind == "weights" else soft)(query, key, queue, tau, given)
    plain = losses.info_nce(query, key, queue=queue, temperature=tau, reduction="none")
    assert (plain - expected).abs().min() > 1e-3, "vacuous: the same as without"
    slopes = torch.autograd.grad(finish(expected), inputs)
    for block_size in (None, 1, 4, 64):
        options = {kind: given, "queue": queue, "temperature": tau, "block_size": block_size}
        found = losses.info_nce(query, key, reduction=reduction, **options)
        value = finish(found) if reduction == "none" else found
        torch.testing.assert_close(value, finish(expected), rtol=1e-10, atol=1e-12)
        for a, b in zip(torch.autograd.grad(value, inputs), slopes, strict=True):
            assert b.abs().max() > 1e-4
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_limiting_cases():
    """Weights of one, or one-hot targets, are InfoNCE; weights of zero leave nothing to lose; w = 2 is a negative met twice."""
    query, key, queue, _, _ = make()
    plain = losses.info_nce(query, key, queue=queue, temperature=TAU, reduction="none")
    ones = torch.ones(N, N + M, dtype=torch.float64)
    options = {"queue": queue, "temperature": TAU, "reduction": "none", "block_size": 4}
    torch.testing.assert_close(losses.info_nce(query, key, weights=ones, **options), plain)
    torch.testing.assert_close(losses.info_nce(query, key, weights=ones.bool(), **options), plain)
    torch.testing.assert_close(losses.info_nce(query, key, targets=torch.eye(N, N + M).double(), **options), plain)
    nothing = losses.info_nce(query, key, weights=0 * ones, **options)
    assert torch.equal(nothing, torch.zeros_like(nothing))
    (slope,) = torch.autograd.grad(losses.info_nce(query, key, weights=0 * ones, **options).sum(), query)
    assert torch.equal(slope, torch.zeros_like(slope))
    twice = ones.clone()
    twice[:, N:] = 2
    doubled = losses.info_nce(query, key, queue=torch.cat([queue, queue]), temperature=TAU, reduction="none")
    torch.testing.assert_close(losses.info_nce(query, key, weights=twice, **options), doubled)


def test_label_smoothing_is_a_case_of_targets():
    """torch's cross entropy with label smoothing is the oracle."""
    query, key, _, _, _ = make()
    smooth = 0.9 * torch.eye(N, dtype=torch.float64) + 0.1 / N
    logits = logits_of(query, key, None, TAU)
    expected = cross_entropy(logits, torch.arange(N), label_smoothing=0.1)
    torch.testing.assert_close(losses.info_nce(query, key, temperature=TAU, targets=smooth, block_size=3), expected)


def test_weights_of_a_queue_alone():
    """in_batch=False: the candidates are the rows of the queue, and the own key always counts."""
    query, key, queue, weights, _ = make()
    own = (normalize(query) * normalize(key)).sum(1) / TAU
    others = normalize(query) @ normalize(queue).T / TAU
    expected = (own.exp() + (weights[:, :M] * others.exp()).sum(1)).log() - own
    options = {"in_batch": False, "temperature": TAU, "reduction": "none", "block_size": 3}
    torch.testing.assert_close(losses.info_nce(query, key, queue=queue, weights=weights[:, :M], **options), expected)


def test_a_function_is_asked_block_by_block():
    """A function of two slices gives the same as its table, and is never asked for more than a block."""
    query, key, queue, weights, _ = make()
    asked = []

    def of(rows, columns):
        asked.append((rows.stop - rows.start, columns.stop - columns.start))
        return weights[rows, columns]

    options = {"queue": queue, "temperature": TAU, "block_size": 4}
    table, function = (losses.info_nce(query, key, weights=w, **options) for w in (weights, of))
    assert torch.equal(table, function) and max(map(max, asked)) <= 4
    for a, b in zip(torch.autograd.grad(table, (query, key)), torch.autograd.grad(function, (query, key)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_sparse_targets(layout):
    """Value and gradient as with the dense ones."""
    query, key, _, _, targets = make()
    targets = targets[:, :N] * (targets[:, :N] > 0.1)
    targets[:, 0] += 1 - targets.sum(1)
    assert (targets == 0).sum() > N
    sparse = getattr(targets, layout)()
    (a,), (b,) = (torch.autograd.grad(losses.info_nce(query, key, temperature=TAU, targets=t), query) for t in (targets, sparse))
    torch.testing.assert_close(a, b)


def test_gradcheck_and_second_derivatives():
    """Finite differences in float64, once and twice."""
    query, key, _, weights, targets = make(n=4, m=1)
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    targets = targets[:, :4] / targets[:, :4].sum(1, keepdim=True)
    for options in ({"weights": weights[:, :4]}, {"targets": targets}):

        def loss(x, y, t, options=options):
            return losses.info_nce(x, y, temperature=t, block_size=3, **options)

        assert torch.autograd.gradcheck(loss, (query, key, tau))
        assert torch.autograd.gradgradcheck(loss, (query, key, tau))
        # The gradients that can be differentiated again are made in another way; they must be the same.
        again = torch.autograd.grad(loss(query, key, tau), (query, key, tau), create_graph=True)
        for a, b in zip(again, torch.autograd.grad(loss(query, key, tau), (query, key, tau)), strict=True):
            torch.testing.assert_close(a.detach(), b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tau", [1e-3, 0.07, 1e2])
def test_float32_at_extreme_temperatures_and_weights(tau):
    """Weights from 1e-20 to 1e20 leave no sum outside the range of float32."""
    query, key, _, weights, _ = make(dtype=torch.float32)
    weights = weights[:, :N] * torch.logspace(-20, 20, N, dtype=torch.float64)
    logits = logits_of(query.detach().double(), key.detach().double(), None, tau)
    log_w = weights.log().masked_fill(torch.eye(N, dtype=torch.bool), 0.0)
    expected = (logits + log_w).logsumexp(1) - logits.diagonal()
    found = losses.info_nce(query, key, weights=weights, temperature=tau, reduction="none")
    assert found.dtype == torch.float32 and expected.max() > 40
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6 / tau)


def several(group, kind, gather):
    """Value and gradients of the own rows, on each of several processes."""
    blockwise.GATHER = gather
    query, key, queue, weights, targets = make()
    part = part_of(dist.get_rank(group), dist.get_world_size(group), N)
    x, y = (z.detach()[part].requires_grad_() for z in (query, key))
    u = queue.detach().requires_grad_()
    given = {"weights": weights, "targets": targets}[kind][part]
    loss = losses.info_nce(x, y, queue=u, temperature=TAU, group=group, block_size=4, **{kind: given})
    loss.backward()
    return loss.detach(), x.grad, y.grad, u.grad


@pytest.mark.ddp
@pytest.mark.parametrize("gather", [0, 2**30], ids=["passed_round", "gathered"])
@pytest.mark.parametrize("kind", ["weights", "targets"])
def test_processes_equal_one(kind, gather):
    """Three processes with uneven parts give the value and every gradient of one process with all rows."""
    query, key, queue, weights, targets = make()
    given = {"weights": weights, "targets": targets}[kind]
    whole = losses.info_nce(query, key, queue=queue, temperature=TAU, **{kind: given})
    slopes = torch.autograd.grad(whole, (query, key, queue))
    found = ranks.run(several, kind, gather, world=3)
    for value, *_ in found:
        torch.testing.assert_close(value, whole.detach())
    for place in (1, 2):
        torch.testing.assert_close(torch.cat([f[place] for f in found]), slopes[place - 1])
    torch.testing.assert_close(found[0][3], slopes[2])


def test_bad_input():
    """Each wrong argument is named."""
    query, key, queue, weights, targets = make()
    square, soft_square = weights[:, :N], targets[:, :N] / targets[:, :N].sum(1, keepdim=True)
    bad = square.clone()
    bad[2, 3] = math.nan
    for options, error, words in (
        ({"weights": square[:5]}, ValueError, "weights must have shape"),
        ({"weights": -square}, ValueError, "weights must be finite and not negative"),
        ({"weights": bad}, ValueError, "weights must be finite"),
        ({"weights": square.clone().requires_grad_()}, ValueError, "detach"),
        ({"weights": 3.0}, TypeError, "weights must be a tensor"),
        ({"weights": lambda rows, columns: torch.ones(2)}, ValueError, "weights must give numbers of shape"),
        ({"weights": square, "queue": queue}, ValueError, "weights must have shape"),
        ({"targets": square}, ValueError, "sum to one"),
        ({"targets": soft_square[:4]}, ValueError, "targets must have shape"),
        ({"targets": -soft_square}, ValueError, "not negative"),
        ({"targets": torch.arange(N)}, TypeError, "targets must be a floating"),
        ({"targets": soft_square, "weights": square}, ValueError, "take the place"),
        ({"targets": soft_square, "queue": queue, "in_batch": False}, ValueError, "take the place"),
    ):
        with pytest.raises(error, match=words):
            losses.info_nce(query, key, **options)
