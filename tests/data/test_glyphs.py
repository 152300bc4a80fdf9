"""Glyphs: counts, families held out, and pictures that are turned and sized by what their factors say."""

import numpy as np
import pytest
import torch

from workbench.data.glyphs import CHARACTERS, load_glyphs, turned
from workbench.errors import UnknownNameError

STORED = {"copies": 1, "angle": 0.0, "scale": (1.0, 1.0), "size": 48}


def test_counts_and_families_held_out():
    """37 faces of 62 characters; no family is in two splits; every split has every character."""
    whole = load_glyphs("all", **STORED)
    assert whole.images.shape == (37 * 62, 1, 48, 48) and whole.labels.bincount().tolist() == [37] * 62
    families = {s: set(load_glyphs(s, **STORED).factors["family"].tolist()) for s in ("train", "val", "test")}
    assert [len(f) for f in families.values()] == [9, 2, 4] and len(set.union(*families.values())) == 15
    assert all(load_glyphs(s, **STORED).labels.unique().numel() == 62 for s in families)
    assert load_glyphs("train", **STORED).labels[:100].unique().numel() > 40  # the rows are mixed


def test_nothing_is_cut_off():
    """No stored glyph has ink on the edge, and each has some."""
    x = load_glyphs("all", **STORED).images[:, 0]
    assert max(x[:, 0].max(), x[:, -1].max(), x[:, :, 0].max(), x[:, :, -1].max()) == 0
    assert x.flatten(1).sum(1).min() > 5


def test_a_quarter_turn_is_counter_clockwise_and_exact():
    """At 90 degrees the picture is numpy's rot90, at 180 twice that; the angle's sign is the mathematical one."""
    x = load_glyphs("test", **STORED).images[:30]
    one = torch.ones(30)
    for k in (1, 2, -1):
        torch.testing.assert_close(turned(x, 90.0 * k * one, one), torch.rot90(x, k, (2, 3)), atol=2e-3, rtol=0)
    assert (turned(x, 90 * one, one) - x).abs().mean() > 0.05


def test_angle_and_scale_are_what_the_picture_shows():
    """The spread of the ink shrinks with the scale squared in each row's own picture, and its main axis turns by the angle."""
    stored = load_glyphs("all", **STORED)
    ds = load_glyphs("all", copies=1, angle=45.0, scale=(0.6, 1.0), size=48, seed=3)
    before, after = moments(stored.images[ds.factors["glyph"]]), moments(ds.images)
    shrunk = (np.trace(after, axis1=1, axis2=2) / np.trace(before, axis1=1, axis2=2)) ** 0.5
    np.testing.assert_allclose(shrunk, ds.factors["scale"].numpy(), rtol=0.03)
    long = axis_ratio(before) > 4  # only a glyph with a clear main axis has an angle to measure
    assert long.sum() > 200
    turn = (main_axis(after) - main_axis(before) - ds.factors["angle"].numpy() + 90) % 180 - 90
    assert np.abs(turn[long]).max() < 3 and ds.factors["angle"].abs().max() > 40


def test_copies_differ_and_seeds_repeat():
    """Each copy has its own angle and size; one seed gives one set, another seed another."""
    a, b, other = (load_glyphs("val", copies=2, seed=s) for s in (0, 0, 1))
    assert torch.equal(a.images, b.images) and not torch.equal(a.images, other.images)
    half = len(a) // 2
    assert torch.equal(a.labels[:half], a.labels[half:]) and (a.factors["angle"][:half] != a.factors["angle"][half:]).all()


def test_letters_can_be_read_in_unseen_type():
    """A linear classifier on pixels reads upright characters of families it never saw far above chance: labels fit pictures."""
    from sklearn.linear_model import RidgeClassifier

    train, test = (load_glyphs(s, **{**STORED, "size": 16}) for s in ("train", "val"))
    score = RidgeClassifier(alpha=10.0).fit(train.images.flatten(1), train.labels).score(test.images.flatten(1), test.labels)
    assert score > 0.5 and len(CHARACTERS) == 62


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "dev"}, UnknownNameError, "glyphs split"),
        ({"copies": 0}, ValueError, "copies must be"),
        ({"copies": 1.0}, TypeError, "copies must be"),
        ({"angle": 200.0}, ValueError, "angle must be"),
        ({"scale": (0.0, 1.0)}, ValueError, "scale"),
        ({"scale": (0.9, 0.5)}, ValueError, "scale must be"),
        ({"scale": (0.9, float("nan"))}, ValueError, "scale must be"),
    ],
)
def test_bad_options(options, error, words):
    """Each bad option is refused by name."""
    with pytest.raises(error, match=words):
        load_glyphs(**options)


def moments(images):
    """Second moments of the ink about its centre, (n, 2, 2), x to the right and y up."""
    x = images[:, 0].numpy().astype(np.float64)
    side = x.shape[-1]
    grid = np.arange(side) - (side - 1) / 2
    mass = x.sum((1, 2))
    points = np.stack(np.broadcast_arrays(grid[None, :], -grid[:, None]))  # (2, h, w)
    mean = np.einsum("nhw,khw->nk", x, points) / mass[:, None]
    return np.einsum("nhw,khw,lhw->nkl", x, points, points) / mass[:, None, None] - mean[:, :, None] * mean[:, None, :]


def main_axis(m):
    """Direction of the largest spread in degrees."""
    return np.degrees(0.5 * np.arctan2(2 * m[:, 0, 1], m[:, 0, 0] - m[:, 1, 1]))


def axis_ratio(m):
    """Largest over smallest variance."""
    values = np.linalg.eigvalsh(m)
    return values[:, 1] / values[:, 0]
