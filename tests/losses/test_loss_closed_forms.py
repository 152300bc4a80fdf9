"""Losses whose value can be worked out on paper, limits, and the relations between the losses."""

import math

import pytest
import torch

from workbench import losses

SOFTMAX = {  # loss of one-way or two-view kind -> number of candidates for n rows
    losses.info_nce: lambda n: n,
    losses.clip_loss: lambda n: n,
    losses.nt_xent: lambda n: 2 * n - 1,
}


def close(actual, expected, **tolerance):
    torch.testing.assert_close(actual.detach().double(), torch.as_tensor(expected, dtype=torch.float64), **tolerance)


def random_pair(n=8, d=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    return x, x + 0.7 * torch.randn(n, d, generator=generator, dtype=dtype)


@pytest.mark.parametrize("temperature", [1e-3, 0.07, 1.0, 1e2])
@pytest.mark.parametrize("loss", SOFTMAX, ids=lambda f: f.__name__)
def test_identical_rows_guess_at_random(loss, temperature):
    """When all rows are equal the loss is the logarithm of the number of candidates, at any temperature."""
    x = torch.tensor([[0.3, -2.0, 1.0]], dtype=torch.float64).repeat(5, 1)
    close(loss(x, 4 * x, temperature=temperature), math.log(SOFTMAX[loss](5)))


@pytest.mark.parametrize("temperature", [0.05, 0.5, 10.0])
@pytest.mark.parametrize("loss", SOFTMAX, ids=lambda f: f.__name__)
def test_orthonormal_rows(loss, temperature):
    """Aligned orthonormal pairs give log(1 + m exp(-1/tau)) with m negatives: every cosine is 1 or 0."""
    x = torch.eye(6, dtype=torch.float64)
    expected = math.log1p((SOFTMAX[loss](6) - 1) * math.exp(-1 / temperature))
    close(loss(x, x, temperature=temperature), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", SOFTMAX, ids=lambda f: f.__name__)
def test_tiny_losses_keep_their_digits(loss):
    """A loss of 1e-21 in float32 is not rounded to zero, and neither is its gradient."""
    x = torch.eye(4, requires_grad=True)
    turned = torch.eye(4).roll(1, dims=0) * 0.1 + torch.eye(4)
    value = loss(x, turned, temperature=0.02)
    exact = loss(x.detach().double(), turned.double(), temperature=0.02)
    assert 0 < exact < 1e-15
    close(value, exact, rtol=1e-3, atol=0)
    value.backward()
    assert x.grad.abs().max() > 0


def test_decoupled_is_the_logit_of_nt_xent():
    """NT-Xent is softplus of DCL anchor by anchor: only the positive in the denominator differs."""
    x, y = random_pair()
    decoupled = losses.dcl(x, y, temperature=0.2, reduction="none")
    coupled = losses.nt_xent(x, y, temperature=0.2, reduction="none")
    assert decoupled.min() < 0 < decoupled.max(), "vacuous: want both signs"
    torch.testing.assert_close(coupled, torch.log1p(decoupled.exp()))


def test_decoupled_closed_forms():
    """DCL of orthonormal aligned views is log(2n - 2) - 1/tau, of equal rows the same; it falls below zero."""
    x = torch.eye(5, dtype=torch.float64)
    close(losses.dcl(x, x, temperature=0.1), math.log(8) - 10)
    close(losses.dcl(x[:1].repeat(5, 1), x[:1].repeat(5, 1), temperature=0.1), math.log(8))


def test_decoupled_keeps_its_gradient_where_info_nce_loses_it():
    """The coupling factor: the gradient of NT-Xent is that of DCL times (1 - share of the positive), per anchor."""
    x, y = random_pair(seed=3)
    x.requires_grad_()
    y_all = y.detach()
    for anchor in range(4):
        nce = losses.nt_xent(x, y_all, temperature=0.2, reduction="none")[anchor]
        plain = losses.dcl(x, y_all, temperature=0.2, reduction="none")[anchor]
        (slope_nce,), (slope_dcl,) = torch.autograd.grad(nce, x), torch.autograd.grad(plain, x)
        q = 1 - torch.exp(-nce)
        assert 0.01 < q < 0.99 and slope_dcl.abs().max() > 0.1
        torch.testing.assert_close(slope_nce, q * slope_dcl)


def test_dclw_weights():
    """Equal agreement or a wide sigma gives DCL; detaching the weights keeps the value and changes the gradient."""
    x, y = random_pair()
    x.requires_grad_()
    close(losses.dclw(x, y, sigma=1e8), losses.dcl(x, y).detach(), rtol=1e-6, atol=1e-6)
    assert abs(losses.dclw(x, y) - losses.dcl(x, y)) > 1e-2
    free, fixed = losses.dclw(x, y), losses.dclw(x, y, detach_weight=True)
    close(free, fixed.detach())
    (slope_free,), (slope_fixed,) = torch.autograd.grad(free, x), torch.autograd.grad(fixed, x)
    assert (slope_free - slope_fixed).abs().max() > 1e-3


def test_queue_and_batch_negatives_are_the_same_thing():
    """For one query, a queue of the other keys (without the batch) gives the in-batch loss."""
    x, y = random_pair()
    each = losses.info_nce(x, y, temperature=0.3, reduction="none")
    for i in range(len(x)):
        others = torch.cat([y[:i], y[i + 1 :]])
        one = losses.info_nce(x[i : i + 1], y[i : i + 1], queue=others, in_batch=False, temperature=0.3)
        close(one, each[i])
    both = losses.info_nce(x[:4], y[:4], queue=y[4:], temperature=0.3, reduction="none")
    torch.testing.assert_close(both, each[:4])


def test_more_negatives_never_lower_the_loss():
    """Adding a queue raises the loss of every query."""
    x, y = random_pair()
    queue, _ = random_pair(n=6, seed=9)
    alone, more = (losses.info_nce(x, y, queue=q, reduction="none", temperature=0.5) for q in (None, queue))
    assert (more > alone).all()


def test_clip_is_the_mean_of_both_directions():
    """The two-tower loss is InfoNCE from image to text and from text to image, pair by pair."""
    x, y = random_pair()
    both = losses.clip_loss(x, y, temperature=0.2, reduction="none")
    there, back = (
        losses.info_nce(x, y, temperature=0.2, reduction="none"),
        losses.info_nce(y, x, temperature=0.2, reduction="none"),
    )
    assert (there - back).abs().max() > 1e-2
    torch.testing.assert_close(both, (there + back) / 2)


def test_clip_takes_one_name_for_the_scale():
    """logit_scale is 1 / temperature; both at once is an error, neither is CLIP's 0.07."""
    x, y = random_pair()
    close(losses.clip_loss(x, y, logit_scale=5.0), losses.clip_loss(x, y, temperature=0.2))
    close(losses.clip_loss(x, y), losses.clip_loss(x, y, temperature=0.07))
    with pytest.raises(ValueError, match="temperature and logit_scale"):
        losses.clip_loss(x, y, temperature=0.2, logit_scale=5.0)


def test_supcon_with_one_class_per_image_is_nt_xent():
    """Two stacked views labelled by their row are the self-supervised loss."""
    x, y = random_pair()
    stacked = losses.supcon(torch.cat([x, y]), torch.arange(8).repeat(2), temperature=0.3)
    close(stacked, losses.nt_xent(x, y, temperature=0.3))


def test_supcon_leaves_out_anchors_without_a_mate():
    """A row with a class of its own is a negative of the others, but no anchor; all on their own is an error."""
    x, _ = random_pair(n=5)
    labels = torch.tensor([7, -3, 7, 2, -3])
    each = losses.supcon(x, labels, temperature=0.3, reduction="none")
    assert each.shape == (5,) and each[3] == 0 and (each[[0, 1, 2, 4]] > 0).all()
    close(losses.supcon(x, labels, temperature=0.3), each.sum() / 4)
    close(losses.supcon(x, labels, temperature=0.3, reduction="sum"), each.sum())
    without = losses.supcon(x[[0, 1, 2, 4]], labels[[0, 1, 2, 4]], temperature=0.3)
    assert losses.supcon(x, labels, temperature=0.3) > without, "the lonely row must still count as a negative"
    with pytest.raises(ValueError, match=r"labels.*5 different classes"):
        losses.supcon(x, torch.arange(5))


def test_supcon_floor():
    """Collapsed, orthogonal classes of c rows reach log(c - 1) as the temperature falls, and log(n - 1) when all collapse."""
    x = torch.eye(3, dtype=torch.float64).repeat(4, 1)
    labels = torch.arange(3).repeat(4)
    close(losses.supcon(x, labels, temperature=0.02), math.log(3), rtol=1e-12, atol=1e-12)
    close(losses.supcon(x[:1].repeat(12, 1), labels, temperature=0.02), math.log(11))


def test_hard_with_everything_is_info_nce():
    """Keeping all negatives changes nothing; keeping fewer never raises a loss, and lowers some."""
    x, y = random_pair(n=12)
    full = losses.info_nce(x, y, temperature=0.5, reduction="none")
    torch.testing.assert_close(losses.hard_info_nce(x, y, temperature=0.5, top_fraction=1, reduction="none"), full)
    fewer = [losses.hard_info_nce(x, y, temperature=0.5, top_fraction=f, reduction="none") for f in (0.8, 0.4, 0.1)]
    for more, less in zip([full, *fewer], fewer, strict=False):
        assert (less < more).all()


@pytest.mark.parametrize(("n", "fraction", "kept"), [(101, 0.07, 7), (101, 0.071, 8), (4, 1e-6, 1), (4, 0.34, 2), (4, 1.0, 3)])
def test_number_of_negatives_kept(n, fraction, kept):
    """ceil(top_fraction (n - 1)) negatives stay, at least one; rounding in the product does not add another."""
    x, y = random_pair(n=n)
    row = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(y).T
    negatives = row[0, 1:].sort(descending=True).values[:kept]
    expected = torch.cat([row[0, :1], negatives]).logsumexp(0) - row[0, 0]
    close(losses.hard_info_nce(x, y, temperature=1.0, top_fraction=fraction, reduction="none")[0], expected)
    simple = losses.simple_contrastive(x, y, top_fraction=fraction, reduction="none")[0]
    close(simple, negatives.mean() - row[0, 0])


def test_ties_at_the_threshold_stay():
    """One negative asked for, two equally hard: both count. The positive never takes a place."""
    query = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    key = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]], dtype=torch.float64)
    each = losses.hard_info_nce(query, key, temperature=1.0, top_fraction=0.01, reduction="none")
    close(each[0], math.log(math.e + 2) - 1)  # two tied negatives at cosine 0
    close(each[3], math.log(math.exp(-1) + math.e) + 1)  # one negative at cosine 1
    close(losses.simple_contrastive(query, key, negative_weight=1.0, top_fraction=0.01), (-1 + 1 + 1 + 2) / 4)


def test_the_threshold_gets_no_gradient():
    """A negative below the threshold gets no gradient at all."""
    query = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2]], dtype=torch.float64)
    key = torch.tensor([[1.0, 0.0], [0.5, 0.5], [-1.0, 0.3]], dtype=torch.float64, requires_grad=True)
    first = losses.hard_info_nce(query, key, temperature=0.5, top_fraction=0.5, reduction="none")[0]
    first.backward()
    assert key.grad[2].abs().max() == 0
    assert key.grad[1].abs().max() > 1e-3


def test_simple_loss_is_the_hot_limit_of_info_nce():
    """tau (L - log n) tends to (n-1)/n times the simple loss as tau grows: hardness is what the temperature adds."""
    x, y = random_pair()
    scaled = 1e5 * (losses.info_nce(x, y, temperature=1e5) - math.log(8))
    close(scaled, losses.simple_contrastive(x, y) * 7 / 8, rtol=1e-4, atol=1e-4)


def test_alignment_extremes():
    """Equal pairs give 0, opposite pairs 2 ** alpha; alpha = 2 is 2 - 2 cos."""
    x, y = random_pair()
    for alpha in (0.5, 1, 2, 3):
        close(losses.alignment(x, 3 * x, alpha=alpha), 0.0, rtol=0, atol=1e-7 if alpha < 2 else 1e-12)
        close(losses.alignment(x, -x, alpha=alpha), 2.0**alpha)
    close(losses.alignment(x, y), 2 - 2 * torch.nn.functional.cosine_similarity(x, y).mean())


def test_near_duplicates_keep_their_digits():
    """Rows 1e-5 apart in float32: 2 - 2 cos would round to nothing, the difference does not."""
    x = torch.tensor([[1.0, 0.0], [1.0, 1e-5]])
    close(losses.alignment(x[:1], x[1:]), 1e-10, rtol=1e-5, atol=0)
    close(losses.alignment(x[:1], x[1:], alpha=1), 1e-5, rtol=1e-5, atol=0)
    t = 2.0**20
    close(losses.uniformity(x, t=t), -t * 1e-10, rtol=1e-3, atol=0)
    close(losses.cross_uniformity(x, x, t=t), -t * 1e-10, rtol=1e-3, atol=0)


def test_uniformity_closed_forms():
    """0 for equal rows, -4t for two opposite ones, -2t for orthogonal ones; a wide kernel does not underflow."""
    eye = torch.eye(6, dtype=torch.float64)
    for t in (0.5, 2, 1e4):
        close(losses.uniformity(eye[:1].repeat(4, 1), t=t), 0.0)
        close(losses.uniformity(torch.stack([eye[0], -eye[0]]), t=t), -4 * t)
        close(losses.uniformity(eye, t=t), -2 * t)
        close(losses.cross_uniformity(eye, eye, t=t), -2 * t)
        close(losses.cross_uniformity(eye[:1].repeat(4, 1), -eye[:1].repeat(4, 1), t=t), -4 * t)


def test_uniformity_of_the_uniform_distribution():
    """Random points on the circle approach the integral: mean of exp(-2t (1 - cos)) = exp(-2t) I0(2t)."""
    angle = 2 * math.pi * torch.rand(2_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = losses.uniformity(torch.stack([angle.cos(), angle.sin()], dim=1), t=2)
    close(value, -4 + torch.special.i0(torch.tensor(4.0, dtype=torch.float64)).log(), rtol=0, atol=0.02)


def test_uniformity_counts_no_pair_twice_and_no_row_with_itself():
    """Three points, one pair close: the mean runs over exactly three distances (six ordered ones across)."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    close(losses.uniformity(x, t=1), math.log((1 + 2 * math.exp(-4)) / 3))
    close(losses.cross_uniformity(x, x, t=1), math.log((1 + 2 * math.exp(-4)) / 3))


def test_cross_uniformity_leaves_out_matched_pairs():
    """Moving both halves of a pair together so that only matched distances change leaves the value alone."""
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    near = torch.tensor([[0.8, 0.0, 0.6], [0.0, 0.8, -0.6]], dtype=torch.float64)  # turned towards the own row
    close(losses.cross_uniformity(x, y), losses.cross_uniformity(x, near))
    assert losses.alignment(x, near) < losses.alignment(x, y) - 0.5


def test_sigmoid_closed_forms():
    """One pair is one log loss; orthonormal rows have n - 1 zero cosines each; the sum is divided by n, not n^2."""
    x = torch.eye(5, dtype=torch.float64)
    log_loss = lambda logit: math.log1p(math.exp(-logit))  # noqa: E731
    close(losses.sigmoid_loss(x[:1], x[:1], logit_scale=3.0, logit_bias=-1.0), log_loss(2.0))
    close(losses.sigmoid_loss(x, x, logit_scale=3.0, logit_bias=-1.0), log_loss(2.0) + 4 * log_loss(1.0))
    wrong = x.roll(1, dims=0)
    close(losses.sigmoid_loss(x, wrong, logit_scale=3.0, logit_bias=-1.0), log_loss(-1.0) + log_loss(-2.0) + 3 * log_loss(1.0))


def test_autocast_does_not_round_the_similarities():
    """Inside autocast, where matrix products become bfloat16, the losses are computed as outside."""
    x, y = random_pair(n=32, d=64, dtype=torch.float32)
    labels = torch.arange(32) % 4
    calls = [
        lambda: losses.info_nce(x, y),
        lambda: losses.info_nce(x, y, queue=y.flip(1)),
        lambda: losses.nt_xent(x, y),
        lambda: losses.clip_loss(x, y),
        lambda: losses.dcl(x, y),
        lambda: losses.dclw(x, y),
        lambda: losses.supcon(x, labels),
        lambda: losses.hard_info_nce(x, y, temperature=0.07, top_fraction=0.3),
        lambda: losses.simple_contrastive(x, y),
        lambda: losses.simple_contrastive(x, y, top_fraction=0.3),
        lambda: losses.uniformity(x),
        lambda: losses.cross_uniformity(x, y),
        lambda: losses.sigmoid_loss(x, y),
    ]
    outside = [call() for call in calls]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ y.T).dtype == torch.bfloat16, "vacuous: autocast is off"
        inside = [call() for call in calls]
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_rows_of_any_length_in_float32():
    """Rows of length 1e30 and 1e-30, whose squares leave float32, still have their direction."""
    x, y = random_pair(dtype=torch.float32)
    for factor in (1e30, 1e-30):
        close(losses.info_nce(x * factor, y), losses.info_nce(x, y), rtol=1e-5, atol=1e-6)
        close(losses.uniformity(x * factor), losses.uniformity(x), rtol=1e-5, atol=1e-6)


def test_only_the_tensors_are_positional():
    """Everything but the tensors is keyword-only, so that options can be added without breaking a call."""
    import inspect

    tensors = {"query", "key", "view1", "view2", "image", "text", "features", "labels", "x", "y"}
    tensors |= {"common", "salient", "target", "scores", "codes"}
    tensors |= {"student", "teacher", "x_layers", "y_layers", "loss"}  # the last is the loss that is applied to them
    tensors |= {"better", "worse", "match", "none", "mismatch", "first", "second"}
    needs_queue = {"queue_info_nce", "mochi_negatives"}  # elsewhere a queue is an option
    for name in losses.__all__:
        for parameter in inspect.signature(getattr(losses, name)).parameters.values():
            if parameter.kind == parameter.VAR_POSITIONAL:  # any number of tensors
                continue
            positional = parameter.name in tensors or (parameter.name == "queue" and name in needs_queue)
            assert (parameter.kind == parameter.POSITIONAL_OR_KEYWORD) == positional, (name, parameter)
