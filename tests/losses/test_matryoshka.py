"""Matryoshka losses, in width and in depth, against loops written out and in the limits where they are the plain loss."""

import functools
import math

import pytest
import torch
from scipy.special import rel_entr, softmax
from torch.nn.functional import cross_entropy, normalize

from workbench import losses
from workbench.losses.matryoshka import feature_kl, matryoshka, matryoshka_2d

LOSS = functools.partial(losses.info_nce, temperature=0.1)


def layers(count=4, n=6, d=8, seed=0):
    """What an encoder might give after each layer, float64."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=g, dtype=torch.float64) for _ in range(count)]


def slow(x, y):
    """InfoNCE of one way, written out; the rows are cut before they are scaled."""
    x, y = normalize(x, dim=1), normalize(y, dim=1)
    return float(cross_entropy(x @ y.T / 0.1, torch.arange(len(x))))


def slow_kl(student, teacher, temperature):
    """scipy's relative entropy, mean over rows."""
    p, q = (softmax(v.numpy() / temperature, axis=1) for v in (teacher, student))
    return float(rel_entr(p, q).sum(1).mean())


def test_widths_are_the_mean_of_prefixes():
    """Cut, then scale, then average; scaling first would give another number."""
    x, y = layers(2)
    value = float(matryoshka(LOSS, x, y, widths=(2, 5, 8)))
    assert math.isclose(value, sum(slow(x[:, :w], y[:, :w]) for w in (2, 5, 8)) / 3, rel_tol=1e-9)
    unit = [normalize(v, dim=1) for v in (x, y)]
    wrong = sum(float(losses.info_nce(*(v[:, :w] for v in unit), temperature=0.1, normalize=False)) for w in (2, 5, 8)) / 3
    assert abs(wrong - value) > 0.01


def test_full_width_alone_is_the_plain_loss():
    """With one width, the whole one, nothing is added."""
    x, y = layers(2)
    torch.testing.assert_close(matryoshka(LOSS, x, y, widths=[8]), LOSS(x, y))


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_2d_is_the_five_terms(layer, width):
    """Last and sampled layer, whole and cut, and the agreement of both sides together."""
    x, y = layers(), layers(seed=1)
    value = float(matryoshka_2d(LOSS, x, y, layer=layer, width=width, layer_weight=0.5, kl_weight=2.0, kl_temperature=0.7))
    expected = 0.0
    for weight, i in ((1.0, -1), (0.5, layer - 1)):
        expected += weight * (slow(x[i], y[i]) + slow(x[i][:, :width], y[i][:, :width]))
    agreement = [slow_kl(v[layer - 1], v[-1], 0.7) for v in (x, y)]
    assert math.isclose(value, expected + 2.0 * 0.7 * sum(agreement) / 2, rel_tol=1e-9)


def test_2d_without_extras_is_twice_the_plain_loss():
    """Full width, no early layer, no agreement: the last layer's loss, counted twice."""
    x, y = layers(), layers(seed=1)
    value = matryoshka_2d(LOSS, x, y, layer=2, width=8, layer_weight=0, kl_weight=0)
    torch.testing.assert_close(value, 2 * LOSS(x[-1], y[-1]))


def test_kl_against_scipy_and_its_zero():
    """Relative entropy in the order teacher, student; zero for equal rows, and for rows shifted by a constant."""
    student, teacher = layers(2)
    assert math.isclose(float(feature_kl(student, teacher)), slow_kl(student, teacher, 0.3), rel_tol=1e-9)
    assert abs(float(feature_kl(student, teacher)) - slow_kl(teacher, student, 0.3)) > 0.01
    assert abs(float(feature_kl(student + 5, student))) < 1e-12


def test_teacher_learns_only_where_asked():
    """Detached, the agreement moves the student alone; the other way round both get a gradient."""
    for detach in (True, False):
        student, teacher = (v.requires_grad_() for v in layers(2))
        feature_kl(student, teacher, detach_teacher=detach).backward()
        assert student.grad.abs().max() > 0
        assert (teacher.grad is None) == detach


def test_gradients():
    """gradcheck of all five terms, with the teacher in the graph."""
    x, y = ([v.requires_grad_() for v in layers(2, n=3, d=4, seed=s)] for s in (0, 1))

    def total(a, b, c, d):
        return matryoshka_2d(LOSS, (a, b), (c, d), layer=1, width=2, detach_teacher=False)

    assert torch.autograd.gradcheck(total, (*x, *y))


def test_unused_layers_get_no_gradient():
    """Only the last and the sampled layer are trained by a step."""
    x, y = [v.requires_grad_() for v in layers()], layers(seed=1)
    matryoshka_2d(LOSS, x, y, layer=2, width=4).backward()
    assert [v.grad is not None for v in x] == [False, True, False, True]


def test_bad_input():
    """Layers and widths out of range, sides that differ, negative weights."""
    x, y = layers(), layers(seed=1)
    for layer in (0, 4, -1, 1.0, True):
        with pytest.raises(ValueError, match="layer must be a whole number from 1 to 3"):
            matryoshka_2d(LOSS, x, y, layer=layer, width=2)
    for width in (0, 9):
        with pytest.raises(ValueError, match="width must be a whole number from 1 to 8"):
            matryoshka_2d(LOSS, x, y, layer=1, width=width)
        with pytest.raises(ValueError, match="widths must be a whole number from 1 to 8"):
            matryoshka(LOSS, x[0], y[0], widths=[4, width])
    with pytest.raises(ValueError, match="two or more tensors each, got 1 and 1"):
        matryoshka_2d(LOSS, x[:1], y[:1], layer=1, width=2)
    with pytest.raises(ValueError, match="got 4 and 3"):
        matryoshka_2d(LOSS, x, y[:3], layer=1, width=2)
    with pytest.raises(ValueError, match="kl_weight must be at least 0"):
        matryoshka_2d(LOSS, x, y, layer=1, width=2, kl_weight=-1)
    with pytest.raises(ValueError, match="widths must be a list of at least one"):
        matryoshka(LOSS, x[0], y[0], widths=[])
    with pytest.raises(ValueError, match="temperature must be a positive"):
        feature_kl(x[0], y[0], temperature=0)
    with pytest.raises(ValueError, match="1 of 6 rows with NaN"):
        feature_kl(x[0].index_fill(0, torch.tensor([2]), torch.nan), y[0])
