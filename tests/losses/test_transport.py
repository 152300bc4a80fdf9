"""Optimal transport against a linear program, a loop written from the papers, and its limits; the swapped prediction."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from workbench.losses import sinkhorn, sinkhorn_codes, swapped_prediction

SHAPES = [(1, 1), (1, 4), (6, 1), (5, 3), (4, 4), (3, 7), (20, 6)]


def cosines(n, m, seed=0):
    return 2 * torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def by_hand(scores, epsilon, iterations):
    """The codes as the paper's text gives them: prototypes in rows, each row to 1 / K, each column to 1 / B, then times B."""
    q = [[math.exp(float(s) / epsilon) for s in row] for row in scores.T]
    total = sum(map(sum, q))
    q = [[v / total for v in row] for row in q]
    k, b = len(q), len(q[0])
    for _ in range(iterations):
        q = [[v / sum(row) / k for v in row] for row in q]
        sums = [sum(row[j] for row in q) for j in range(b)]
        q = [[v / sums[j] / b for j, v in enumerate(row)] for row in q]
    return b * np.array(q).T


@pytest.mark.parametrize(("n", "m"), SHAPES)
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_codes_equal_a_loop_on_plain_numbers(n, m, iterations):
    """Log domain or not, the codes are those of alternating scalings written as loops."""
    scores = cosines(n, m, seed=n)
    torch.testing.assert_close(
        sinkhorn_codes(scores, epsilon=0.1, iterations=iterations).numpy(),
        by_hand(scores, 0.1, iterations),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_marginals(n, m):
    """Rows sum to their mass exactly after any number of scalings, columns in the limit; also with unequal masses."""
    scores = cosines(n, m, seed=1)
    a, b = torch.arange(1.0, n + 1).double(), torch.arange(2.0, m + 2).double()
    for options in ({}, {"row_weights": a, "column_weights": b}):
        rows = options.get("row_weights", torch.ones(n).double())
        columns = options.get("column_weights", torch.ones(m).double())
        for iterations in (0, 1, 500):
            plan = sinkhorn(scores, epsilon=0.2, iterations=iterations, **options)
            assert (plan >= 0).all()
            torch.testing.assert_close(plan.sum(1), rows / rows.sum(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(plan.sum(0), columns / columns.sum(), rtol=1e-6, atol=1e-9)


def test_plan_is_optimal_among_all_plans():
    """The converged plan beats every feasible neighbour in its own objective (transport gain plus entropy)."""
    scores, epsilon = cosines(5, 4, seed=2), 0.15
    plan = sinkhorn(scores, epsilon=epsilon, iterations=2000)

    def objective(p):
        return float((p * scores).sum() + epsilon * torch.special.entr(p).sum())

    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        (i, k), (j, m) = torch.randperm(5, generator=generator)[:2], torch.randperm(4, generator=generator)[:2]
        other = plan.clone()
        amount = 0.5 * min(float(other[i, j]), float(other[k, m]))
        other[i, j] -= amount
        other[k, m] -= amount
        other[i, m] += amount
        other[k, j] += amount
        assert objective(other) < objective(plan)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (6, 3), (3, 5)])
def test_small_epsilon_is_the_linear_program(n, m):
    """Towards epsilon = 0 the plan gains what the transport linear program gains (scipy), and no more."""
    scores = cosines(n, m, seed=3)
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    masses = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    best = -linprog(-scores.numpy().ravel(), A_eq=np.concatenate([rows, columns]), b_eq=masses).fun
    plan = sinkhorn(scores, epsilon=0.005, iterations=4_000)
    gain = float((plan * scores).sum())
    greedy = float(scores.max(1).values.mean())
    assert gain == pytest.approx(best, abs=2e-3) and greedy > best + 0.01, "vacuous: greed is balanced here by itself"


def test_large_epsilon_says_nothing():
    """Towards infinite epsilon every code is uniform, and with masses the plan is their product."""
    torch.testing.assert_close(
        sinkhorn_codes(cosines(6, 3), epsilon=1e6), torch.full((6, 3), 1 / 3, dtype=torch.float64), rtol=1e-5, atol=1e-6
    )
    a, b = torch.tensor([1.0, 3.0]).double(), torch.tensor([2.0, 1.0, 1.0]).double()
    plan = sinkhorn(cosines(2, 3), epsilon=1e6, iterations=50, row_weights=a, column_weights=b)
    torch.testing.assert_close(plan, torch.outer(a / 4, b / 4), rtol=1e-5, atol=1e-7)


def test_no_iterations_is_a_softmax():
    """Without balance a code is the softmax of its row: the collapse control."""
    scores = cosines(7, 3)
    torch.testing.assert_close(sinkhorn_codes(scores, epsilon=0.3, iterations=0), (scores / 0.3).softmax(1))


def test_a_common_preference_is_balanced_away():
    """Adding a constant to one prototype's scores changes the softmax but not the converged codes."""
    scores = cosines(8, 4)
    shifted = scores + torch.tensor([0.5, 0.0, 0.0, 0.0]).double()
    same = [sinkhorn_codes(s, epsilon=0.1, iterations=3000) for s in (scores, shifted)]
    torch.testing.assert_close(*same, rtol=1e-6, atol=1e-9)
    plain = [sinkhorn_codes(s, epsilon=0.1, iterations=0) for s in (scores, shifted)]
    assert (plain[0] - plain[1]).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_overflow(dtype):
    """Scores of 1 at epsilon 0.01 (e^100) and of 60,000 stay finite and balanced in every precision."""
    for scale, epsilon in ((1.0, 0.01), (60_000.0, 0.05)):
        codes = sinkhorn_codes((scale * torch.eye(4)).to(dtype), epsilon=epsilon)
        assert codes.dtype == torch.float32
        torch.testing.assert_close(codes, torch.eye(4), rtol=0, atol=1e-6)


def test_codes_carry_no_gradient():
    """Neither the codes nor the loss's targets send a gradient back."""
    scores = cosines(4, 3).requires_grad_()
    assert not sinkhorn_codes(scores).requires_grad
    q = cosines(4, 3).softmax(1).requires_grad_()
    swapped_prediction([scores, scores], [q]).backward()
    assert q.grad is None and scores.grad.abs().sum() > 0


def loop_loss(scores, codes, tau):
    """Every code against every other view, row by row, written as in the specification of multi-crop."""
    total = 0.0
    for i, q in enumerate(codes):
        others = [s for v, s in enumerate(scores) if v != i]
        for s in others:
            for row, target in zip(s.tolist(), q.tolist(), strict=True):
                z = math.log(sum(math.exp(v / tau) for v in row))
                total -= sum(t * (v / tau - z) for v, t in zip(row, target, strict=True)) / len(others)
    return total / len(codes) / len(scores[0])


@pytest.mark.parametrize(("views", "large"), [(2, 2), (2, 1), (6, 2), (3, 3)])
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_loss_equals_the_loop(views, large, tau):
    """The loss is the loop for two views, for multi-crop (divisor: views minus one) and for one code only."""
    scores = [cosines(5, 4, seed=s) for s in range(views)]
    codes = [sinkhorn_codes(s) for s in scores[:large]]
    expected = loop_loss(scores, codes, tau)
    assert float(swapped_prediction(scores, codes, temperature=tau)) == pytest.approx(expected, rel=1e-10)
    rows = swapped_prediction(scores, codes, temperature=tau, reduction="none")
    assert rows.shape == (5,) and float(rows.mean()) == pytest.approx(expected, rel=1e-10)
    assert float(swapped_prediction(scores, codes, temperature=tau, reduction="sum")) == pytest.approx(5 * expected, rel=1e-10)


def test_loss_swaps():
    """A view is never asked to predict its own code: with views that disagree the loss is high, with exchanged codes low."""
    one, two = 20 * torch.eye(3), 20 * torch.eye(3).roll(1, dims=1)
    q = [torch.eye(3), torch.eye(3).roll(1, dims=1)]
    assert swapped_prediction([one, two], q, temperature=1.0) > 19
    assert swapped_prediction([one, two], q[::-1], temperature=1.0) < 1e-6


def test_least_loss_is_the_entropy_of_the_codes():
    """Where every view predicts exactly the code, the loss is the code's entropy."""
    q = cosines(6, 5).softmax(1)
    loss = swapped_prediction([0.1 * q.log()] * 3, [q, q], temperature=0.1)
    assert float(loss) == pytest.approx(float(torch.special.entr(q).sum(1).mean()), rel=1e-9)


def test_gradient():
    """Autograd agrees with finite differences, also through a learnable temperature."""
    scores = [cosines(3, 4, seed=s).requires_grad_() for s in range(3)]
    tau = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    codes = [sinkhorn_codes(s.detach()) for s in scores[:2]]
    assert torch.autograd.gradcheck(lambda t, *s: swapped_prediction(s, codes, temperature=t), (tau, *scores))


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"scores": torch.tensor([[float("nan"), 0.0]])}, ValueError, "scores"),
        ({"scores": torch.ones(3)}, ValueError, "scores"),
        ({"scores": torch.ones(2, 2).long()}, TypeError, "scores"),
        ({"epsilon": 0.0}, ValueError, "epsilon"),
        ({"iterations": -1}, ValueError, "iterations"),
        ({"iterations": 2.0}, TypeError, "iterations"),
        ({"row_weights": torch.ones(4)}, ValueError, "row_weights"),
        ({"column_weights": torch.tensor([1.0, 0.0])}, ValueError, "column_weights"),
        ({"column_weights": [0.5, 0.5]}, TypeError, "column_weights"),
    ],
)
def test_sinkhorn_refuses(change, error, name):
    """Bad input is named."""
    with pytest.raises(error, match=name):
        sinkhorn(**{"scores": torch.rand(3, 2), **change})


@pytest.mark.parametrize(
    ("scores", "codes", "options", "error", "name"),
    [
        ([torch.rand(3, 2)], [torch.full((3, 2), 0.5)], {}, ValueError, "two views"),
        ([torch.rand(3, 2)] * 2, [], {}, ValueError, "codes"),
        ([torch.rand(3, 2)] * 2, [torch.full((3, 2), 0.5)] * 3, {}, ValueError, "codes"),
        ([torch.rand(3, 2), torch.rand(4, 2)], [torch.full((3, 2), 0.5)], {}, ValueError, "scores"),
        ([torch.rand(3, 2)] * 2, [torch.full((3, 3), 1 / 3)], {}, ValueError, "codes"),
        ([torch.rand(3, 2)] * 2, [torch.full((3, 2), 0.1)], {}, ValueError, "codes"),
        ([torch.rand(3, 2)] * 2, [torch.full((3, 2), 0.5)], {"temperature": 0.0}, ValueError, "temperature"),
        ([torch.rand(3, 2)] * 2, [torch.full((3, 2), 0.5)], {"reduction": "average"}, ValueError, "reduction"),
        ([torch.rand(3, 2), torch.full((3, 2), float("inf"))], [torch.full((3, 2), 0.5)], {}, ValueError, "scores"),
    ],
)
def test_loss_refuses(scores, codes, options, error, name):
    """Bad input is named; codes that do not sum to one (scaled last by prototype) are the usual mistake."""
    with pytest.raises(error, match=name):
        swapped_prediction(scores, codes, **options)
