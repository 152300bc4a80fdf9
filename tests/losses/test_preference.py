"""DPO's logistic loss and S-VCO: closed forms, limiting cases, invariances, the peer library's formula, gradients."""

import math

import pytest
import torch

from workbench.losses import preference, s_vco, vco


def rewards(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(first, second, attend, reject):
    """The four terms of the paper, one pair and one text at a time."""
    losses = []
    for i in range(len(first[0])):
        loss = 0.0
        for match, none, mismatch in (first, second):
            loss += math.log1p(math.exp(-attend * (match[i].item() - none[i].item())))
            loss += math.log1p(math.exp(-reject * (none[i].item() - mismatch[i].item())))
        losses.append(loss)
    return losses


def test_s_vco_is_the_papers_four_terms():
    """Added, not averaged, and then the mean over pairs."""
    x = 5 * rewards(2, 3, 7)
    wanted = by_hand(x[0], x[1], 0.3, 0.7)
    found = s_vco(tuple(x[0]), tuple(x[1]), attend_beta=0.3, reject_beta=0.7, reduction="none")
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)
    assert s_vco(tuple(x[0]), tuple(x[1]), attend_beta=0.3, reject_beta=0.7).item() == pytest.approx(sum(wanted) / 7, rel=1e-12)


def test_first_step_is_four_log_two_and_leaves_the_blank_alone():
    """All rewards equal: 4 log 2 a pair; Attend and Reject cancel on the text without a picture, not at other slopes."""
    x = torch.zeros(2, 3, 5, dtype=torch.float64, requires_grad=True)
    loss = s_vco(tuple(x[0]), tuple(x[1]), reduction="sum")
    assert loss.item() == pytest.approx(5 * 4 * math.log(2), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.equal(gradient[:, 1], torch.zeros(2, 5, dtype=torch.float64))
    assert torch.allclose(gradient[:, 0], torch.tensor(-0.05, dtype=torch.float64)) and (gradient[:, 2] == 0.05).all()
    (gradient,) = torch.autograd.grad(s_vco(tuple(x[0]), tuple(x[1]), attend_beta=0.2), x)
    assert (gradient[:, 1] > 0).all()


def test_symmetry_and_shift():
    """Roles may be exchanged; a constant added to all rewards of one text changes nothing; other exchanges do."""
    x = rewards(2, 3, 6, seed=1)
    loss = s_vco(tuple(x[0]), tuple(x[1]))
    assert torch.allclose(s_vco(tuple(x[1]), tuple(x[0])), loss, rtol=1e-12)
    assert torch.allclose(s_vco(tuple(x[0] + rewards(6, seed=2)), tuple(x[1] - 3)), loss, rtol=1e-10)
    assert abs(s_vco(tuple(x[0].flip(0)), tuple(x[1])) - loss) > 1e-3
    assert s_vco(tuple(x[0]), tuple(x[1])).item() == pytest.approx((vco(*x[0]) + vco(*x[1])).item(), rel=1e-12)


def test_vco_is_two_preferences():
    """Attend prefers the picture to none, Reject prefers none to the wrong picture."""
    m, o, x = rewards(3, 9, seed=3)
    wanted = preference(m, o, beta=0.2) + preference(o, x, beta=0.9)
    assert torch.allclose(vco(m, o, x, attend_beta=0.2, reject_beta=0.9), wanted, rtol=1e-12)


def test_limits():
    """Far on the right side nothing is left; far on the wrong side the loss is linear with slope beta, without overflow."""
    far = torch.full((2,), 1e5)
    assert preference(far, -far).item() == 0.0
    assert preference(-far, far, beta=0.1).item() == pytest.approx(2e4, rel=1e-6)
    zero = torch.zeros(2)
    assert vco(far, zero, -far).item() == 0.0
    # Each term alone can be had for nothing by moving the blank; together they cannot.
    for blank in (-1e5, 1e5):
        assert vco(zero, torch.full((2,), blank), zero).item() == pytest.approx(1e4, rel=1e-4)


def test_preference_is_dpo_of_a_classifier():
    """For one pair DPO's loss is the binary cross entropy of the logit beta (r_w - r_l), the form that peers compute."""
    better, worse = rewards(2, 8, seed=4)
    logit = 0.1 * (better - worse)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.ones_like(logit), reduction="none")
    assert torch.allclose(preference(better, worse, reduction="none"), wanted, rtol=1e-12)
    turned = preference(worse, better, reduction="none")
    assert torch.allclose(turned - preference(better, worse, reduction="none"), logit, rtol=1e-9)


def test_the_best_policy_for_certain_preferences_in_closed_form():
    """Where a share p of the judges prefers y_w, the loss is least at r_w - r_l = logit(p) / beta (Bradley and Terry)."""
    gap = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    zero, p, beta = torch.zeros(1, dtype=torch.float64), 0.8, 0.5
    adam = torch.optim.LBFGS([gap], lr=1, max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def loss():
        adam.zero_grad()
        value = p * preference(gap, zero, beta=beta) + (1 - p) * preference(zero, gap, beta=beta)
        value.backward()
        return value

    adam.step(loss)
    assert gap.item() == pytest.approx(math.log(p / (1 - p)) / beta, abs=1e-5)


def test_gradients():
    """Analytic gradients equal differences of the function."""
    x = (4 * rewards(2, 3, 4, seed=5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: s_vco(tuple(x[0]), tuple(x[1]), attend_beta=0.4), x)


def test_half_precision_is_computed_in_float32():
    """Log-probabilities of -200 in bfloat16 would differ by whole nats; at least the loss adds nothing to that."""
    x = (20 * rewards(2, 3, 4, seed=6)).bfloat16()
    assert s_vco(tuple(x[0]), tuple(x[1])).dtype == torch.float32
    assert torch.allclose(s_vco(tuple(x[0]), tuple(x[1])), s_vco(tuple(x[0].float()), tuple(x[1].float())))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: preference(z, z[:2]), "worse"),
        (lambda z: preference(z[:, None], z), r"better must have shape \(n,\)"),
        (lambda z: preference(z / 0, z), "better"),
        (lambda z: preference(z, z, beta=0.0), "beta"),
        (lambda z: preference(z, z, reduction="max"), "reduction"),
        (lambda z: vco(z, z, z, reject_beta=-1.0), "reject_beta"),
        (lambda z: s_vco((z, z), (z, z, z)), "first must be three"),
        (lambda z: s_vco((z, z, z), (z[:1], z[:1], z[:1])), "one entry a pair"),
        (lambda z: preference(z[:0], z[:0]), r"shape \(n,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    """Nothing without an answer passes."""
    with pytest.raises(ValueError, match=message):
        call(torch.ones(3))


def test_lists_are_refused_by_name():
    """A list of numbers is no tensor."""
    with pytest.raises(TypeError, match="better"):
        preference([1.0], torch.ones(1))
