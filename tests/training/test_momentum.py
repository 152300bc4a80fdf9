"""The exponential moving average against its closed form and torch's AveragedModel."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workbench import UnknownNameError
from workbench.models import ConvEncoder
from workbench.training import MomentumEncoder, ema_update


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99, 1.0])
def test_closed_form_after_k_steps(momentum):
    """Towards a fixed source: source + m^k (start - source), for every parameter."""
    target, source = net(0), net(1)
    start = [p.detach().clone() for p in target.parameters()]
    for _ in range(7):
        ema_update(target, source, momentum)
    for t, s, t0 in zip(target.parameters(), source.parameters(), start, strict=True):
        torch.testing.assert_close(t.detach(), (s + momentum**7 * (t0 - s)).detach(), rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(p, q) for p, q in zip(source.parameters(), start, strict=True)), "vacuous: equal networks"


def test_equals_torchs_averaged_model():
    """Along a path of moving sources the average is that of torch.optim.swa_utils."""
    source = net(0)
    ours = MomentumEncoder(source, momentum=0.9)
    theirs = AveragedModel(source, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(source)  # its first update copies
    for step in range(5):
        torch.manual_seed(step)
        with torch.no_grad():
            for p in source.parameters():
                p.add_(torch.randn_like(p))
        ours.update(source)
        theirs.update_parameters(source)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q.requires_grad_(False))


@pytest.mark.parametrize(("policy", "expected"), [("average", 0.25 * 4.0), ("copy", 4.0), ("keep", 0.0)])
def test_buffer_policy(policy, expected):
    """Running statistics are averaged, copied or kept; counters are copied or kept."""
    target, source = net(0), net(1)
    source[1].running_mean.fill_(4.0)
    source[1].num_batches_tracked.fill_(7)
    ema_update(target, source, 0.75, buffers=policy)
    assert target[1].running_mean.tolist() == pytest.approx([expected] * 4)
    assert int(target[1].num_batches_tracked) == (0 if policy == "keep" else 7)


def test_momentum_encoder_is_a_copy_without_gradient():
    """It starts equal, shares no memory, gives no gradient, follows only on update, and the source is not touched."""
    source, x = net(0), torch.randn(5, 3)
    key = MomentumEncoder(source, momentum=0.9)
    torch.testing.assert_close(key(x), source(x).detach())
    assert not key(x).requires_grad and not any(p.requires_grad for p in key.parameters())
    before = [p.clone() for p in key.parameters()]
    with torch.no_grad():
        for p in source.parameters():
            p.add_(1.0)
    moved = [p.detach().clone() for p in source.parameters()]
    assert all(torch.equal(p, q) for p, q in zip(key.parameters(), before, strict=True))
    key.update(source)
    for p, q in zip(key.parameters(), before, strict=True):
        torch.testing.assert_close(p, q + 0.1)
    assert all(torch.equal(p, q) for p, q in zip(source.parameters(), moved, strict=True))
    key.update(source, momentum=0.0)
    assert all(torch.equal(p, q) for p, q in zip(key.parameters(), moved, strict=True))


def test_mode_is_the_users():
    """In training mode keys use the batch's statistics, in evaluation mode the averaged ones."""
    key = MomentumEncoder(ConvEncoder(widths=(4,)))
    images = torch.rand(4, 3, 8, 8)
    train = key.train()(images)
    assert not torch.allclose(train, key.eval()(images), atol=1e-3)


def test_bad_input():
    """Momentum, policy and architectures that differ."""
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 1.5"):
        ema_update(net(0), net(1), 1.5)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\]"):
        MomentumEncoder(net(0), momentum=-0.1)
    with pytest.raises(UnknownNameError, match="did you mean 'average'"):
        MomentumEncoder(net(0), buffers="avrage")
    with pytest.raises(ValueError, match=r"parameter '0\.weight' has shapes"):
        ema_update(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(3, 3)), 0.5)
    with pytest.raises(ValueError, match="only in one of them"):
        ema_update(nn.Sequential(nn.Linear(2, 3)), nn.Linear(2, 3), 0.5)
