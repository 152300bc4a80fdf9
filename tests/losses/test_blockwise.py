"""The block-wise kernel: exact at every size, temperature and precision, and what it promises about speed and memory.

`test_every_loss.py` compares each loss, with blocks, with a loop written from its paper. Here the kernel is compared with the
dense formula at more extreme places, and looked at from inside.
"""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid, normalize

from workbench import losses
from workbench.losses import _blocks, _kernel, _products, _rules


def dense_clip(x, y, tau):
    logits = normalize(x) @ normalize(y).T / tau
    pairs = logits.diagonal()
    return ((logits.logsumexp(1) + logits.logsumexp(0)) / 2 - pairs).mean()


def dense_info_nce(x, y, tau):
    logits = normalize(x) @ normalize(y).T / tau
    return (logits.logsumexp(1) - logits.diagonal()).mean()


def dense_nt_xent(x, y, tau, decoupled=False):
    z, n = normalize(torch.cat([x, y])), len(x)
    logits = z @ z.T / tau
    pairs = torch.cat([logits.diagonal(n), logits.diagonal(-n)])
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -math.inf)
    if decoupled:
        logits = logits.masked_fill(torch.eye(n, dtype=torch.bool).repeat(2, 2), -math.inf)
    return (logits.logsumexp(1) - pairs).mean()


def dense_dcl(x, y, tau):
    return dense_nt_xent(x, y, tau, decoupled=True)


def dense_supcon(x, y, tau):
    z = normalize(torch.cat([x, y]))
    labels = torch.arange(len(z)) // 3  # the last class may have one row
    mates = (labels == labels[:, None]) & ~torch.eye(len(z), dtype=torch.bool)
    logits = (z @ z.T / tau).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    anchors = mates.any(1)
    own = logits.masked_fill(~mates, 0.0).sum(1) / mates.sum(1).clamp(min=1)
    return (logits.logsumexp(1) - own)[anchors].mean()


def dense_sigmoid(x, y, tau):
    logits = normalize(x) @ normalize(y).T / tau - 2
    return -logsigmoid(logits * (2 * torch.eye(len(x)) - 1)).sum() / len(x)


LOSSES = {
    "info_nce": (lambda x, y, tau, **o: losses.info_nce(x, y, temperature=tau, **o), dense_info_nce, 2),
    "clip": (lambda x, y, tau, **o: losses.clip_loss(x, y, temperature=tau, **o), dense_clip, 2),
    "nt_xent": (lambda x, y, tau, **o: losses.nt_xent(x, y, temperature=tau, **o), dense_nt_xent, 2),
    "dcl": (lambda x, y, tau, **o: losses.dcl(x, y, temperature=tau, **o), dense_dcl, 2),
    "supcon": (
        lambda x, y, tau, **o: losses.supcon(torch.cat([x, y]), torch.arange(len(x) + len(y)) // 3, temperature=tau, **o),
        dense_supcon,
        1,
    ),
    "sigmoid": (
        lambda x, y, tau, **o: losses.sigmoid_loss(x, y, logit_scale=1 / tau, logit_bias=-2.0, **o),
        dense_sigmoid,
        1,
    ),
}
EACH = pytest.mark.parametrize("name", LOSSES)


def make(n, d, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(100 * seed + n)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = x + 0.8 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()


def value_and_gradients(loss, x, y, tau, **options):
    """The value and its derivatives by both sides and the temperature."""
    tau = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
    value = loss(x, y, tau, **options)
    return value.detach(), torch.autograd.grad(value, (x, y, tau))


def agree(found, expected, tau, rtol, claim):
    """Value and gradients, each within `rtol` of its largest entry; beyond, only the rounding of logits of size 1 / tau."""
    parts = (("value", 1), ("x", 1), ("y", 1), ("temperature", 2))
    for (part, power), a, b in zip(parts, (found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        error, size = float((a - b).abs().max()), float(b.abs().max())
        assert error <= rtol * size + 1e-13 / min(1.0, tau) ** power, f"{claim}: {part} is off by {error:.2g} of {size:.2g}"


@EACH
@pytest.mark.parametrize("temperature", [1e-3, 0.01, 0.07, 1.0, 1e2])
def test_equals_the_dense_formula(name, temperature):
    """Value and gradients in float64: one row to 33, width 1 and 6, blocks that divide the rows and that do not."""
    loss, dense, fewest = LOSSES[name]
    for n, d in ((1, 4), (2, 3), (3, 1), (8, 6), (33, 6)):
        if n < fewest:
            continue
        x, y = make(n, d)
        expected = value_and_gradients(dense, x, y, temperature)
        assert d == 1 or n <= 3 or expected[1][0].abs().max() > 1e-12, "vacuous: no gradient"
        for block_size in (None, 1, 4, 5, 64):
            found = value_and_gradients(loss, x, y, temperature, block_size=block_size)
            agree(found, expected, temperature, 1e-9, f"{name}, n={n}, d={d}, block_size={block_size}")


@EACH
def test_degenerate_rows(name):
    """All rows equal, each row twice, opposite rows: the dense value, and its gradient."""
    loss, dense, _ = LOSSES[name]
    x, _ = make(12, 5)
    rows = {
        "equal": x.detach()[:1].repeat(12, 1),
        "twice": x.detach()[torch.arange(12) // 2],
        "opposite": x.detach()[:1] * (1 - 2 * (torch.arange(12) % 2))[:, None],
    }
    for kind, z in rows.items():
        for temperature in (1e-3, 0.07, 1e2):
            a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
            expected = value_and_gradients(dense, a, b, temperature)
            for block_size in (None, 5):
                found = value_and_gradients(loss, a, b, temperature, block_size=block_size)
                # Gradients that are zero in exact arithmetic come out as rounding noise, divided by the temperature.
                for f, e in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
                    assert torch.isfinite(f).all(), f"{kind}, temperature {temperature}, block_size={block_size}"
                    torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-10 / temperature**2)


@EACH
def test_float32_is_float32_of_the_exact_value(name):
    """float32 rows at every temperature: value to 1e-5, gradients to 1e-4 of the float64 formula on the same rows."""
    loss, dense, _ = LOSSES[name]
    for temperature in (1e-3, 0.01, 0.07, 1.0, 1e2):
        x, y = make(150, 16, dtype=torch.float32)
        wide = [z.detach().double().requires_grad_() for z in (x, y)]
        expected = value_and_gradients(dense, *wide, temperature)
        # Cosines are right to 1e-7, logits to 1e-7 / temperature: that, relative to the loss, is what float32 can give.
        rtol = max(1e-5, 3e-7 / temperature)
        for block_size in (None, 64):
            found = value_and_gradients(loss, x, y, temperature, block_size=block_size)
            assert found[0].dtype == torch.float32
            for a, b, times in zip((found[0], *found[1]), (expected[0], *expected[1]), (1, 10, 10, 10), strict=True):
                assert b.norm() > 0
                assert (a - b).norm() <= times * rtol * b.norm(), f"{name}, temperature {temperature}, block_size={block_size}"


@EACH
@pytest.mark.parametrize("block_size", [None, 3])
def test_gradcheck(name, block_size):
    """Finite differences in float64, sides and temperature."""
    loss, _, _ = LOSSES[name]
    x, y = make(7, 3)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: loss(*a, block_size=block_size), (x, y, tau))


@EACH
def test_second_derivatives(name):
    """create_graph=True gives gradients that can be differentiated again, exactly, with blocks too."""
    loss, _, _ = LOSSES[name]
    x, y = make(4, 3)
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *a: loss(*a, block_size=3), (x, y, tau))
    slopes = torch.autograd.grad(loss(x, y, tau, block_size=3), (x, y, tau), create_graph=True)
    # They are made in another way than the usual gradients and must be the same.
    for a, b in zip(slopes, torch.autograd.grad(loss(x, y, tau, block_size=3), (x, y, tau)), strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-9, atol=1e-12)
    slope = slopes[0]
    (curvature,) = torch.autograd.grad(slope.square().sum(), y)
    assert curvature.abs().max() > 1e-3, "vacuous: no second derivative"


def test_queue_with_blocks():
    """A queue longer than a block, with the batch and without, and for a single query."""
    query, key = make(9, 5)
    queue = make(40, 5, seed=1)[0]
    for n, in_batch in ((9, True), (9, False), (1, True), (1, False)):
        q, k, u = (normalize(z) for z in (query[:n], key[:n], queue))
        logits = torch.cat([q @ (k if in_batch else k[:0]).T, q @ u.T], dim=1) / 0.2
        pairs = (q * k).sum(1) / 0.2
        candidates = logits if in_batch else torch.cat([pairs[:, None], logits], dim=1)
        expected = (candidates.logsumexp(1) - pairs).mean()
        slopes = torch.autograd.grad(expected, (query, key, queue))
        assert slopes[2].abs().max() > 1e-4
        for block_size in (None, 4, 7):
            options = {"temperature": 0.2, "in_batch": in_batch, "block_size": block_size}
            found = losses.info_nce(query[:n], key[:n], queue=queue, **options)
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
            for a, b in zip(torch.autograd.grad(found, (query, key, queue)), slopes, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_rows_without_a_mate_in_blocks():
    """Anchors that have no positive get no loss of their own and still push as negatives."""
    x, _ = make(10, 4)
    labels = torch.tensor([0, 1, 2, 3, 0, 4, 5, 6, 7, 8])
    each = losses.supcon(x, labels, block_size=3, reduction="none")
    assert (each != 0).tolist() == [label == 0 for label in labels]
    (slope,) = torch.autograd.grad(losses.supcon(x, labels, block_size=3), x)
    assert slope.norm(dim=1).min() > 0
    torch.testing.assert_close(slope, torch.autograd.grad(losses.supcon(x, labels), x)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@EACH
def test_half_precision(name, dtype):
    """Half precision rows are summed in float32: value and gradient within 0.1 % of float64 on the same rounded rows."""
    loss, dense, _ = LOSSES[name]
    x, y = make(200, 32, dtype=dtype)
    wide = [z.detach().double().requires_grad_() for z in (x, y)]
    value, slopes = value_and_gradients(dense, *wide, 0.07)
    for block_size in (None, 64):
        found, others = value_and_gradients(loss, x, y, 0.07, block_size=block_size)
        assert found.dtype == torch.float32 and others[0].dtype == dtype
        assert abs(found - value) < 1e-5 * abs(value)
        for a, b in zip(others, slopes, strict=True):
            # What is left is the rounding of the gradient itself to half precision, entry by entry.
            assert (a.double() - b).norm() < (1e-3 if dtype == torch.float16 else 3e-3) * b.norm()


def test_half_precision_with_rows_of_another_dtype():
    """One side, or the queue, in another precision: as if both were float32."""
    x, y = make(20, 8, dtype=torch.float32)
    low = x.detach().bfloat16()
    torch.testing.assert_close(losses.clip_loss(low, y), losses.clip_loss(low.float(), y))
    queue = make(30, 8, seed=2, dtype=torch.float32)[0]
    found = losses.info_nce(low, low, queue=queue)
    torch.testing.assert_close(found, losses.info_nce(low.float(), low.float(), queue=queue))


def test_sigmoid_where_the_exponential_would_overflow():
    """Logits of 200 and a bias of 20 in float32: the sum of log(1 + e^z) is z there, and small terms keep their digits."""
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    for scale, bias in ((200.0, 20.0), (10.0, -10.0), (1.0, -30.0)):
        found = losses.sigmoid_loss(x, x, logit_scale=scale, logit_bias=bias, reduction="none")
        logits = scale * x.double() @ x.double().T + bias
        expected = torch.nn.functional.softplus(logits * (1 - 2 * torch.eye(3)), threshold=1e9).sum(1)
        torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=1e-37)  # the smallest of float32


def rules_used(monkeypatch):
    """A list to which each pass adds its rule: 'bound', 'checked bound' or 'running'."""
    used = []
    forward = _kernel._Work.forward

    def watched(self, rule):
        used.append("running" if rule.shift is None else "checked bound" if rule.floor else "bound")
        return forward(self, rule)

    monkeypatch.setattr(_kernel._Work, "forward", watched)
    return used


def test_the_bound_replaces_the_maximum_only_where_that_is_exact(monkeypatch):
    """Scale 14 needs no check, 100 passes it, opposite rows fail it, 1,000 does not try; every one is exact in float32."""
    used = rules_used(monkeypatch)
    x, y = make(64, 8, dtype=torch.float32)
    away = torch.cat([x[:32].detach(), -x[:32].detach()]).requires_grad_()
    for name, left, right, scale, expected in (
        ("usual", x, y, 14.3, ["bound"]),
        ("CLIP's end", x, y, 100.0, ["checked bound"]),
        ("opposite", x[:2], -x[:2], 100.0, ["checked bound", "running"]),
        ("cold", away, y, 1000.0, ["running"]),
    ):
        used.clear()
        left, right = left.detach().requires_grad_(), right.detach()
        if name == "opposite":  # all negatives of a row are far from it: their sum would be zero
            left = torch.tensor([[1.0, 0.0], [1.0, 1e-3]], requires_grad=True)
            right = -left.detach()
        found = losses.clip_loss(left, right, logit_scale=scale, block_size=16)
        found.backward()
        assert used == expected, name
        wide = left.detach().double().requires_grad_()
        exact = dense_clip(wide, right.double(), 1 / scale)
        exact.backward()
        assert abs(found.detach().double() - exact.detach()) < 1e-6 * max(1.0, scale / 30) * exact.detach() + 1e-6, name
        assert (left.grad.double() - wide.grad).norm() < 1e-4 * wide.grad.norm() + 1e-9, name


def test_wrong_bound_would_be_seen(monkeypatch):
    """Not vacuous: without the check of the sums the opposite rows of the test above give a wrong loss."""
    monkeypatch.setattr(_rules.Softmax, "certain", lambda self, *states: True)
    left = torch.tensor([[1.0, 0.0], [1.0, 1e-3]])
    found = losses.clip_loss(left, -left, logit_scale=100.0)
    assert not abs(found - dense_clip(left.double(), -left.double(), 0.01)) < 1e-3


@EACH
def test_only_what_is_asked_for(name):
    """Any subset of sides and temperature may need a gradient, or none; each gets what it gets together with the others."""
    loss, _, _ = LOSSES[name]
    x, y = make(9, 4)
    _, slopes = value_and_gradients(loss, x, y, 0.3)
    values = (x.detach(), y.detach(), torch.tensor(0.3, dtype=torch.float64))
    for chosen in ((0,), (1,), (2,), (0, 2), (1, 2)):
        leaves = [v.clone().requires_grad_(i in chosen) for i, v in enumerate(values)]
        for block_size in (None, 4):
            found = torch.autograd.grad(loss(*leaves, block_size=block_size), [leaves[i] for i in chosen])
            for i, slope in zip(chosen, found, strict=True):
                torch.testing.assert_close(slope, slopes[i], rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(loss(x, y, 0.3, block_size=4), loss(x, y, 0.3).detach())
        assert not loss(x, y, 0.3, block_size=4).requires_grad


@EACH
def test_backward_twice_and_scaled(name):
    """retain_graph gives the same gradient again, and a factor on the loss is a factor on the gradient."""
    loss, _, _ = LOSSES[name]
    x, y = make(9, 4)
    for block_size, reduction in ((None, "mean"), (None, "none"), (4, "mean")):
        value = loss(x, y, 0.3, block_size=block_size, reduction=reduction).sum()
        (first,) = torch.autograd.grad(value, x, retain_graph=True)
        kept = first.clone()
        (second,) = torch.autograd.grad(value, x, retain_graph=True)
        (scaled,) = torch.autograd.grad(-3 * value, x)
        assert kept.abs().max() > 1e-4
        assert torch.equal(first, kept) and torch.equal(second, kept)
        torch.testing.assert_close(scaled, -3 * kept)


def test_symmetric_sides_need_half_of_the_blocks(monkeypatch):
    """NT-Xent makes the blocks on and above the diagonal only: 10 of 16; CLIP makes all."""
    made = []
    monkeypatch.setattr(_blocks, "product", lambda x, y: made.append(0) or _products.product(x, y))
    x, y = make(8, 3)
    with torch.no_grad():
        losses.nt_xent(x, y, block_size=4)
        assert len(made) == 4 * 5 // 2
        made.clear()
        losses.clip_loss(torch.cat([x, y]), torch.cat([y, x]), block_size=4)
        assert len(made) == 4 * 4


@pytest.mark.parametrize(
    ("name", "products"), [("info_nce", 3), ("sigmoid", 3), ("clip", 4), ("nt_xent", 2), ("supcon", 2), ("dcl", 2)]
)
def test_number_of_products(name, products, monkeypatch):
    """Multiplications, in units of n^2 d: 3 where rows stand alone, 4 for both directions, 2 where both sides are one."""
    done = [0]
    monkeypatch.setattr(_blocks, "product", lambda x, y: done.append(x.numel() * len(y)) or _products.product(x, y))
    monkeypatch.setattr(
        _blocks, "add_product", lambda o, w, y: done.append(w.numel() * y.shape[1]) or _products.add_product(o, w, y)
    )
    loss, _, _ = LOSSES[name]
    x, y = make(64, 2)
    loss(x, y, 0.3, block_size=2).backward()
    rows = 2 * 64 if name in ("nt_xent", "supcon", "dcl") else 64
    assert products <= sum(done) / (rows**2 * 2) < 1.05 * products


def test_few_blocks_are_kept(monkeypatch):
    """With block_size=None a batch of a few hundred keeps its blocks: three products even for both directions."""
    done = [0]
    monkeypatch.setattr(_blocks, "product", lambda x, y: done.append(1) or _products.product(x, y))
    x, y = make(64, 4)
    losses.clip_loss(x, y).backward()
    assert sum(done) == 1
    losses.clip_loss(x, y, block_size=64).backward()
    assert sum(done) == 3, "vacuous: a given block size makes them again"


def test_both_libraries_of_products(monkeypatch):
    """oneDNN's product and torch's own give the same loss to the rounding of float32; the choice is seen."""
    if not _products._has_onednn():
        pytest.skip("torch was built without oneDNN")
    x, y = make(300, 64, dtype=torch.float32)
    called = []
    onednn = _products._onednn
    monkeypatch.setattr(_products, "_onednn", lambda a, b: called.append(0) or onednn(a, b))
    first = value_and_gradients(LOSSES["clip"][0], x, y, 0.07)
    assert called
    monkeypatch.setattr(_products, "_has_onednn", lambda: False)
    called.clear()
    second = value_and_gradients(LOSSES["clip"][0], x, y, 0.07)
    assert not called
    for a, b in zip((first[0], *first[1]), (second[0], *second[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_compiled_callers_see_one_break():
    """torch.compile: the same value and gradients, and the loss is one break in the graph, not a graph for each block."""
    graphs = []

    def backend(graph, inputs):
        graphs.append([node.op for node in graph.graph.nodes if node.op.startswith("call")])
        return graph.forward

    def step(x, y, weight, scale):
        return 2 * losses.clip_loss(x @ weight, y @ weight, logit_scale=scale, block_size=4)

    x, y = make(30, 5)
    leaves = (torch.eye(5, dtype=torch.float64).requires_grad_(), torch.tensor(9.0, dtype=torch.float64, requires_grad=True))
    expected = step(x, y, *leaves)
    found = torch.compile(step, backend=backend)(x, y, *leaves)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(a, b)
    assert len(graphs) == 2 and sum(map(len, graphs)) < 6


@EACH
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"block_size": 0}, ValueError),
        ({"block_size": -1}, ValueError),
        ({"block_size": 1.5}, TypeError),
        ({"block_size": True}, TypeError),
        ({"block_size": "8"}, TypeError),
        ({"group": 3}, TypeError),
    ],
)
def test_bad_options(name, options, error):
    """Options of the wrong kind are named."""
    loss, _, _ = LOSSES[name]
    with pytest.raises(error, match=next(iter(options))):
        loss(*make(4, 3), 0.3, **options)


def test_rows_too_long():
    """Without scaling, rows whose logits leave the dtype are an error, not a NaN."""
    x, y = make(5, 3, dtype=torch.float32)
    for loss in (losses.info_nce, losses.clip_loss, losses.nt_xent, losses.sigmoid_loss):
        assert torch.isfinite(loss(1e3 * x, 1e3 * y, normalize=False, block_size=2))
        with pytest.raises(ValueError, match="too long"):
            loss(1e19 * x, 1e19 * y, normalize=False)


def test_same_bits():
    """The same rows give the same bits, forward and backward."""
    for name, (loss, _, _) in LOSSES.items():
        for block_size in (None, 100):
            first, second = (
                value_and_gradients(loss, *make(300, 16, dtype=torch.float32), 0.07, block_size=block_size) for _ in "12"
            )
            for a, b in zip((first[0], *first[1]), (second[0], *second[1]), strict=True):
                assert torch.equal(a, b), name
