"""The NPC multiplier of decoupled contrastive learning, against the paper's formulas and against autograd."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from workbench import losses
from workbench.losses.coupling import npc_multiplier


def random_pair(n=6, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, x + 0.7 * torch.randn(n, d, generator=generator, dtype=torch.float64)


def slow_multiplier(view1, view2, tau):
    """1 - e^(s/tau) / (e^(s/tau) + U), anchor by anchor, both views."""
    views, n = (normalize(view1, dim=1).tolist(), normalize(view2, dim=1).tolist()), len(view1)

    def power(a, b):
        return math.exp(sum(p * q for p, q in zip(a, b, strict=True)) / tau)

    values = []
    for k in (0, 1):
        for i in range(n):
            positive = power(views[0][i], views[1][i])
            negatives = sum(power(views[k][i], views[m][j]) for m in (0, 1) for j in range(n) if j != i)
            values.append(1 - positive / (positive + negatives))
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_multiplier_is_the_papers_formula(tau):
    """Both views are anchors; neither the anchor itself nor its positive is among the negatives."""
    x, y = random_pair()
    torch.testing.assert_close(npc_multiplier(x, y, temperature=tau), slow_multiplier(x, y, tau), rtol=1e-10, atol=0)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_gradient_of_every_anchor_is_that_of_dcl_times_the_multiplier(tau):
    """The identity the paper starts from: all gradients of one anchor's InfoNCE share the factor q."""
    x, y = (v.requires_grad_() for v in random_pair())
    q = npc_multiplier(x, y, temperature=tau).detach()
    assert q.max() > 1.2 * q.min(), "the anchors must differ, or the factor could be a constant"
    for anchor in range(2 * len(x)):
        coupled = torch.autograd.grad(losses.nt_xent(x, y, temperature=tau, reduction="none")[anchor], (x, y))
        decoupled = torch.autograd.grad(losses.dcl(x, y, temperature=tau, reduction="none")[anchor], (x, y))
        for with_positive, without in zip(coupled, decoupled, strict=True):
            torch.testing.assert_close(with_positive, q[anchor] * without, rtol=1e-9, atol=1e-14)


def test_gradient_of_one_anchor_is_the_papers_bracket():
    """By the anchor itself: -(q / tau) (positive - mean of the negatives under their softmax), on unit vectors."""
    tau = 0.2
    x, y = (normalize(v, dim=1).requires_grad_() for v in random_pair())
    losses.nt_xent(x, y, temperature=tau, normalize=False, reduction="none")[0].backward()
    with torch.no_grad():
        q = npc_multiplier(x, y, temperature=tau, normalize=False)[0]
        others = torch.cat([x[1:], y[1:]])
        bracket = y[0] - torch.softmax(others @ x[0] / tau, dim=0) @ others
    torch.testing.assert_close(x.grad[0], -q / tau * bracket, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(y.grad[0], -q / tau * x[0].detach(), rtol=1e-10, atol=1e-14)


def test_limits():
    """Equal rows: chance level. A perfect pair far from all else at a low temperature: nothing is left, without underflow."""
    x = torch.tensor([[0.3, -2.0, 1.0]], dtype=torch.float64).repeat(5, 1)
    torch.testing.assert_close(npc_multiplier(x, x), torch.full((10,), 8 / 9, dtype=torch.float64))
    eye = torch.eye(4)
    q = npc_multiplier(eye, eye, temperature=0.02)
    torch.testing.assert_close(q.double(), torch.full((8,), 6 * math.exp(-50), dtype=torch.float64), rtol=1e-4, atol=0)


def test_more_negatives_raise_the_multiplier():
    """q of the same anchors in a larger batch is larger, for every one of them."""
    x, y = random_pair(32)
    small = npc_multiplier(x[:4], y[:4])
    large = npc_multiplier(x, y)
    assert (large[:4] > small[:4]).all() and (large[32:36] > small[4:]).all()


def test_bad_input_is_named():
    """As the losses of the family."""
    x, y = random_pair()
    with pytest.raises(ValueError, match="temperature"):
        npc_multiplier(x, y, temperature=0.0)
    with pytest.raises(ValueError, match="view"):
        npc_multiplier(x[:1], y[:1])
    with pytest.raises(ValueError, match="view2"):
        npc_multiplier(x, y * float("nan"))
