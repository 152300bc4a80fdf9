"""The training loop: equal to a loop written by hand, reproducible to the bit, and never silently wrong."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from workbench import UnknownNameError, WorkbenchError, seed_everything
from workbench.models import ConvEncoder, MLPEncoder
from workbench.training import DivergenceError, batches, fit, make_optimizer, warmup_cosine
from workbench.training import fit as fit_function

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = X @ torch.randn(6, 2, generator=torch.Generator().manual_seed(1)) + 0.5


def model(seed=0):
    torch.manual_seed(seed)
    return MLPEncoder(6, widths=(16, 2))


def squared(net):
    return lambda rows: ((net(X[rows]) - Y[rows]) ** 2).mean()


def run(seed=0, **options):
    net = model(seed)
    options = {"steps": 30, "lr": 1e-2, "title": None, **options}
    return net, fit(net, squared(net), batches(64, 16, seed=seed), **options)


def test_equals_a_loop_written_by_hand():
    """AdamW with warm-up, cosine and clipping, step by step, to the bit."""
    net, history = run(warmup=5, clip_norm=0.5, weight_decay=0.1)
    other = model()
    decayed, plain = [p for p in other.parameters() if p.ndim > 1], [p for p in other.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], lr=1.0)
    losses, lrs = [], []
    for step, rows in enumerate(batches(64, 16, steps=30, seed=0)):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * warmup_cosine(step, steps=30, warmup=5)
        optimizer.zero_grad()
        loss = squared(other)(rows)
        loss.backward()
        nn.utils.clip_grad_norm_([*decayed, *plain], 0.5)
        optimizer.step()
        losses.append(float(loss.detach()))
        lrs.append(optimizer.param_groups[0]["lr"])
    assert history.losses == tuple(losses) and history.lrs == tuple(lrs)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True))
    assert history.steps == 30 and history.stopped_by == "steps"


def test_same_seed_same_bits():
    """Two runs after one seed have equal histories and weights; another seed has others. Threads are not touched."""
    threads = torch.get_num_threads()
    results = []
    for seed in (0, 0, 1):
        seed_everything(seed)
        net = nn.Sequential(ConvEncoder(widths=(4, 8)), nn.Dropout(0.3), nn.Linear(8, 2))
        images = torch.rand(32, 3, 8, 8)
        history = fit(
            net,
            lambda rows, net=net, images=images: net(images[rows]).square().mean(),
            batches(32, 8, seed=seed),
            steps=12,
            title=None,
        )
        results.append((history.losses, history.grad_norms, [p.detach().clone() for p in net.parameters()]))
    assert results[0][:2] == results[1][:2] and results[0][0] != results[2][0]
    assert all(torch.equal(p, q) for p, q in zip(results[0][2], results[1][2], strict=True))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("optimizer", "lr"), [("adamw", 3e-2), ("adam", 3e-2), ("sgd", 3e-2)])
def test_overfits_one_batch(optimizer, lr):
    """Every optimiser brings the loss on one batch to nearly nothing."""
    net = model()
    history = fit(net, squared(net), [torch.arange(8)] * 500, steps=500, lr=lr, optimizer=optimizer, title=None)
    assert history.losses[0] > 0.5 and history.losses[-1] < 1e-3


def test_learning_rates_follow_the_closed_form():
    """The history's rates are the schedule's; 'constant' stays at its peak after the warm-up."""
    _, cosine = run(warmup=4, steps=20)
    assert cosine.lrs == pytest.approx([1e-2 * warmup_cosine(k, steps=20, warmup=4) for k in range(20)])
    _, constant = run(warmup=4, steps=20, schedule="constant")
    assert constant.lrs == pytest.approx([2.5e-3, 5e-3, 7.5e-3, *[1e-2] * 17])


def test_clipping_bounds_the_update():
    """Plain gradient descent moves by lr * clip_norm at most; the recorded norm is the one before clipping."""
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    history = fit([weight], lambda b: 100 * weight.square().sum(), [0], steps=1, optimizer=optimizer, clip_norm=2.0, title=None)
    assert history.grad_norms[0] == pytest.approx(1000.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([3.0, 4.0]) * (1 - 0.2 / 5), rtol=1e-5, atol=0)


def test_weight_decay_spares_biases_and_gains():
    """With a loss that has no gradient AdamW shrinks matrices by (1 - lr * decay) and leaves vectors alone."""
    net = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    fit(
        net,
        lambda b: 0 * sum(p.sum() for p in net.parameters()),
        [0],
        steps=1,
        lr=0.1,
        weight_decay=0.5,
        schedule="constant",
        title=None,
    )
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name] * (0.95 if name == "0.weight" else 1.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(bad):
    """The error names step, last losses and remedies; the weights are those before the bad step; modes are left clean."""
    net = model()
    kept = []

    def loss(rows):
        return squared(net)(rows) if len(kept) < 3 else squared(net)(rows) * bad

    with pytest.raises(
        DivergenceError, match=rf"loss is {bad} at step 4 \(lr .*fp32\); last finite losses: .*lower lr"
    ) as caught:
        fit(
            net,
            loss,
            batches(64, 16),
            steps=9,
            hooks=[lambda s: kept.append([p.detach().clone() for p in net.parameters()])],
            title=None,
        )
    assert caught.value.step == 4 and len(caught.value.losses) == 3 and all(map(math.isfinite, caught.value.losses))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), kept[-1], strict=True))
    assert isinstance(caught.value, WorkbenchError) and isinstance(caught.value, FloatingPointError)


def test_a_gradient_that_is_not_finite_stops_the_run():
    """sqrt(0) has a finite value and an infinite slope: the step is not taken."""
    weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(DivergenceError, match=r"gradient has length (inf|nan) at step 1 .*none, it was the first step"):
        fit([weight], lambda b: weight.sqrt().sum(), [0], steps=1, title=None)
    assert torch.equal(weight.detach(), torch.zeros(1))


def clock(monkeypatch, tick):
    """A clock that advances by `tick` seconds at every reading."""
    now = iter(range(10**6))
    module = __import__("sys").modules[fit_function.__module__]
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(now) * tick)


def test_time_budget_stops(monkeypatch):
    """With a clock of one second a reading (two readings a step) five seconds allow three steps, whatever `steps` says."""
    for steps in (None, 100):
        clock(monkeypatch, 1.0)
        _, history = run(steps=steps, seconds=5.0)
        assert history.stopped_by == "seconds" and history.steps == 3
        assert history.steps_per_second == pytest.approx(3 / history.seconds)


def test_schedule_follows_the_clock_without_steps(monkeypatch):
    """With a time budget only, the cosine runs over the seconds, and the warm-up over steps."""
    clock(monkeypatch, 1.0)
    _, history = run(steps=None, seconds=9.0, warmup=1)
    assert history.lrs == pytest.approx([1e-2, *(1e-2 * warmup_cosine(t, steps=9.0) for t in (3, 5, 7, 9)[: history.steps - 1])])
    assert history.steps == 5


def test_real_time_budget_ends():
    """On the real clock a run without a number of steps comes to its end."""
    _, history = run(steps=None, seconds=0.05)
    assert history.stopped_by == "seconds" and history.steps >= 1 and history.seconds >= 0.05


def test_hooks_see_every_step_and_may_end_the_run():
    """Each hook is called once a step with a frozen state; only a True ends the run, after all hooks of that step."""
    first, second = [], []
    _, history = run(hooks=[lambda s: first.append(s) or s.step == 7, lambda s: second.append(s) or s.step])
    assert [s.step for s in first] == [s.step for s in second] == list(range(1, 8))
    assert tuple(s.loss for s in first) == history.losses and tuple(s.lr for s in first) == history.lrs
    assert tuple(s.grad_norm for s in first) == history.grad_norms
    assert history.stopped_by == "hook" and history.steps == 7
    for frozen in (first[0], history):
        with pytest.raises(dataclasses.FrozenInstanceError):
            frozen.seconds = 0.0


def test_batches_that_run_out():
    """A finite list of batches ends the run and says so; an empty one is an error."""
    net = model()
    history = fit(net, squared(net), [torch.arange(4)] * 3, steps=9, title=None)
    assert history.stopped_by == "batches" and history.steps == 3
    with pytest.raises(ValueError, match="batches gave no batch"):
        fit(net, squared(net), iter([]), steps=9, title=None)


def test_frozen_parts_stand_still():
    """A frozen encoder keeps weights, batch statistics and evaluation mode while the head trains; all end in evaluation mode."""
    torch.manual_seed(0)
    encoder, head = ConvEncoder(widths=(4, 8)), nn.Linear(8, 2)
    encoder.requires_grad_(False)
    images, modes = torch.rand(16, 3, 8, 8), []
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    start = head.weight.detach().clone()
    fit(
        nn.Sequential(encoder, head),
        lambda rows: head(encoder(images[rows])).square().mean(),
        batches(16, 8),
        steps=5,
        hooks=[lambda s: modes.append((encoder.training, head.training))],
        title=None,
    )
    assert modes == [(False, True)] * 5
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert not torch.equal(head.weight, start) and not head.training


def test_several_modules_and_parameters():
    """Modules and single parameters are trained together."""
    net, scale = model(), nn.Parameter(torch.ones(()))
    start = [p.detach().clone() for p in net.parameters()]
    fit([net, scale], lambda rows: (net(X[rows]) * scale).square().mean(), batches(64, 8), steps=3, title=None)
    assert float(scale.detach()) != 1 and not any(torch.equal(p, q) for p, q in zip(net.parameters(), start, strict=True))


def test_bf16_runs_under_autocast_and_keeps_float32_weights():
    """Inside loss_fn matrix products are bfloat16; weights and history stay float32, close to the float32 run."""
    seen = []
    net = model()

    def loss(rows):
        out = net(X[rows])
        seen.append(out.dtype)
        return ((out.float() - Y[rows]) ** 2).mean()

    history = fit(net, loss, batches(64, 16, seed=0), steps=30, lr=1e-2, precision="bf16", title=None)
    assert set(seen) == {torch.bfloat16} and {p.dtype for p in net.parameters()} == {torch.float32}
    assert history.losses != run()[1].losses and history.losses[-1] == pytest.approx(run()[1].losses[-1], rel=0.1)


def test_given_optimizer_keeps_its_rates():
    """A built optimiser is scaled by the schedule and gets its own rates back."""
    net = model()
    optimizer = torch.optim.SGD(
        [{"params": net.layers[0].parameters(), "lr": 0.1}, {"params": net.layers[2].parameters(), "lr": 0.2}]
    )
    history = fit(net, squared(net), batches(64, 16), steps=4, optimizer=optimizer, title=None)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.2]
    assert history.lrs == pytest.approx([0.1 * warmup_cosine(k, steps=4) for k in range(4)])


def test_progress_names_the_run(capsys):
    """The bar shows title and loss; title None prints nothing."""
    run(title="night run")
    assert "night run" in capsys.readouterr().err
    run()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"steps": None}, ValueError, "give steps, seconds or both"),
        ({"steps": 0}, ValueError, "steps must be an integer of at least 1, got 0"),
        ({"steps": 2.5}, ValueError, "steps must be an integer"),
        ({"seconds": 0.0}, ValueError, "seconds must be a positive"),
        ({"warmup": 30}, ValueError, "warmup must be at least 0 and below steps"),
        ({"lr": 0.0}, ValueError, "lr must be a positive"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be at least 0"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm must be a positive"),
        ({"optimizer": "adamx"}, UnknownNameError, "did you mean"),
        ({"schedule": "cosin"}, UnknownNameError, "did you mean 'cosine'"),
        ({"precision": "fp16"}, UnknownNameError, "precision 'fp16'"),
    ],
)
def test_bad_settings(options, error, match):
    """Each is refused before the first step."""
    with pytest.raises(error, match=match):
        run(**options)


@pytest.mark.parametrize(
    ("loss", "error", "match"),
    [
        (lambda net: lambda rows: net(X[rows]), TypeError, r"one scalar tensor, got a float32 tensor of shape \(16, 2\)"),
        (lambda net: lambda rows: 0.5, TypeError, "one scalar tensor, got float"),
        (lambda net: lambda rows: net(X[rows]).mean().detach(), ValueError, "does not depend on any parameter"),
    ],
)
def test_bad_loss(loss, error, match):
    """A loss that cannot be minimised is named as such."""
    net = model()
    with pytest.raises(error, match=match):
        fit(net, loss(net), batches(64, 16), steps=2, title=None)


def test_the_wrong_model():
    """A loss that trains some other module than the one handed in is an error, not a run without effect."""
    net, other = model(), model(1)
    with pytest.raises(ValueError, match="depends on no parameter of model"):
        fit(net, squared(other), batches(64, 16), steps=2, title=None)


def test_an_error_of_the_loss_says_at_which_step():
    """An exception from loss_fn passes through unchanged, with a note that names the step."""
    net, seen = model(), []

    def loss(rows):
        seen.append(rows)
        if len(seen) == 3:
            raise KeyError("captions")
        return squared(net)(rows)

    with pytest.raises(KeyError, match="captions") as caught:
        fit(net, loss, batches(64, 16), steps=9, title=None)
    assert caught.value.__notes__ == ["raised by loss_fn at step 3 of fit"]


def test_nothing_to_train():
    """A frozen model, and something that is no model."""
    with pytest.raises(ValueError, match="nothing to train"):
        fit(model().requires_grad_(False), lambda b: 0, [0], steps=1, title=None)
    with pytest.raises(TypeError, match="a list of modules and parameters"):
        fit([torch.zeros(2)], lambda b: 0, [0], steps=1, title=None)
    with pytest.raises(UnknownNameError):
        make_optimizer("lion", model().parameters(), lr=1.0)
