"""Augmentations: nothing at zero strength, the asked rate and range otherwise, each image on its own, reproducible by seed."""

import dataclasses
import math

import pytest
import torch
from scipy import stats

from workbench.data.augment import RECIPES, Recipe, augment, multi_crop, resolve_recipe, two_views
from workbench.data.scenes import render, sample_scenes
from workbench.errors import UnknownNameError

STRONG = {
    "crop": {"crop": (0.3, 0.6)},
    "rotation": {"rotation": 40},
    "shift": {"shift": 0.3},
    "zoom": {"zoom": (0.6, 1.6)},
    "shear": {"shear": 30},
    "flip": {"flip": 0.5},
    "colour": {"colour": 0.8},
    "hue": {"hue": 0.4},
    "grey": {"grey": 0.5},
    "blur": {"blur": 0.9, "blur_sigma": (0.8, 2.0)},
    "noise": {"noise": 0.1},
    "erase": {"erase": 0.9},
}
EVERYTHING = {key: value for options in STRONG.values() for key, value in options.items()}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return render(sample_scenes(64, seed=0), 32)


def one_pixel(size: int = 33) -> torch.Tensor:
    """A white disc of 3 pixels in the middle of a black picture, 200 times."""
    picture = torch.zeros(200, 1, size, size)
    picture[:, :, size // 2 - 1 : size // 2 + 2, size // 2 - 1 : size // 2 + 2] = 1
    return picture


def centre(pictures: torch.Tensor) -> torch.Tensor:
    """(n, 2) centre of mass in pixels (x, y), from the middle of the picture."""
    ticks = torch.arange(pictures.shape[-1], dtype=torch.float32) - (pictures.shape[-1] - 1) / 2
    mass = pictures.sum((1, 2, 3))
    return torch.stack([(pictures.sum((1, 2)) * ticks).sum(1) / mass, (pictures.sum((1, 3)) * ticks).sum(1) / mass], 1)


def test_zero_strength_returns_the_input(images):
    """The empty recipe is the identity, and so is each augmentation with a range or a chance of zero."""
    assert augment(images, "none") is images
    zeros = {f.name: 0.0 for f in dataclasses.fields(Recipe) if f.type == "float"}
    assert augment(images, "mild", **zeros, zoom=(1.0, 1.0)) is images
    assert augment(images, "simclr", **zeros, crop=(1.0, 1.0)) is images
    for name in ("colour", "hue", "noise", "rotation", "shift", "shear"):
        assert torch.allclose(augment(images, "none", **{name: 1e-6}), images, atol=1e-3), name
    assert torch.allclose(augment(images, "none", zoom=(1.0, 1.0 + 1e-6)), images, atol=1e-3)
    assert torch.allclose(augment(images, "none", blur=1.0, blur_sigma=(0.01, 0.02)), images, atol=1e-3)


@pytest.mark.parametrize("name", STRONG)
def test_each_augmentation_stays_in_range_and_does_something(images, name):
    """Values stay finite in [0, 1], shape and type stay, most images change, and the input is not written to."""
    before = images.clone()
    out = augment(images, "none", seed=0, **STRONG[name])
    assert torch.equal(images, before)
    assert out.shape == images.shape and out.dtype == images.dtype
    assert out.min() >= 0 and out.max() <= 1
    changed = ((out - images).abs().flatten(1).amax(1) > 1e-3).float().mean()
    assert 0.25 < changed < 0.75 if name in ("flip", "grey") else changed > 0.8


@pytest.mark.parametrize("name", STRONG)
def test_each_image_gets_parameters_of_its_own(images, name):
    """Sixty-four copies of one image come out in many versions (two, for a flip or a loss of colour)."""
    copies = images[:1].expand(64, -1, -1, -1).contiguous()
    versions = len(augment(copies, "none", seed=0, **STRONG[name]).flatten(1).unique(dim=0))
    assert versions == 2 if name in ("flip", "grey") else versions > 50


@pytest.mark.parametrize("recipe", ["mild", "simclr", "affine", Recipe(**EVERYTHING)])
def test_same_seed_same_views_and_the_global_state_is_left_alone(images, recipe):
    """A seed fixes a call and touches no generator; without one, torch's own seed fixes it."""
    state = torch.get_rng_state()
    first, second = augment(images, recipe, seed=5), augment(images, recipe, seed=5)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, augment(images, recipe, seed=6))
    torch.manual_seed(1)
    a, b = augment(images, recipe), augment(images, recipe)
    torch.manual_seed(1)
    assert torch.equal(augment(images, recipe), a)
    assert not torch.equal(a, b)


def test_flip_is_an_involution_that_mirrors_left_and_right(images):
    """A flip is the mirror image, and flipping twice is nothing."""
    flipped = augment(images, "none", flip=1.0)
    assert torch.equal(flipped, images.flip(-1))
    assert torch.equal(augment(flipped, "none", flip=1.0), images)
    many = images[:1].expand(4000, -1, -1, -1).contiguous()[:, :, ::4, ::4].contiguous()
    share = (augment(many, "none", flip=0.3, seed=0) != many).flatten(1).any(1)
    assert stats.binomtest(int(share.sum()), 4000, 0.3).pvalue > 1e-3


def test_recipes_for_signs_and_captions_do_not_mirror():
    """Only 'simclr' mirrors: 'affine' and 'mild' keep a mark on the left half on the left half."""
    assert {name for name, recipe in RECIPES.items() if recipe.flip} == {"simclr"}
    left = torch.zeros(200, 3, 33, 33)
    left[:, :, 14:19, 4:9] = 1.0
    for name in ("affine", "mild"):
        out = augment(left, name, seed=0, colour=0.0, hue=0.0, grey=0.0)
        seen = out.sum((1, 2, 3)) > 1
        assert seen.float().mean() > 0.8
        assert (centre(out[seen].mean(1, keepdim=True))[:, 0] < 0).all()


def test_shift_reaches_its_range_and_no_further():
    """Centres of mass move evenly up to the asked fraction of the side, in both directions and both axes."""
    moved = centre(augment(one_pixel(), "none", shift=0.2, seed=0))
    assert moved.abs().max() <= 0.2 * 33 + 0.1
    assert stats.kstest((moved.flatten() / (0.4 * 33) + 0.5).numpy(), "uniform").pvalue > 1e-3


def test_zoom_scales_areas():
    """A magnification by z multiplies the area of a shape by z squared; 0.5 shows the picture at half its size."""
    ticks = torch.arange(65.0) - 32
    blob = torch.exp(-(ticks[:, None] ** 2 + ticks**2) / 50).expand(400, 1, 65, 65).contiguous()
    for z in (0.5, 1.5):
        area = augment(blob, "none", zoom=(z, z)).sum((1, 2, 3)) / blob.sum((1, 2, 3))
        assert torch.allclose(area, torch.tensor(z * z), rtol=0.01)
    drawn = (augment(blob, "none", zoom=(0.5, 1.5), seed=0).sum((1, 2, 3)) / blob.sum((1, 2, 3))).sqrt()
    assert stats.kstest((drawn - 0.5).numpy(), "uniform").pvalue > 1e-3


def test_rotation_turns_by_up_to_its_angle():
    """A mark at three o'clock moves on a circle by at most the asked angle, both ways, and keeps its distance."""
    mark = torch.zeros(300, 1, 65, 65)
    mark[:, :, 31:34, 52:55] = 1
    x, y = centre(augment(mark, "none", rotation=30, seed=0)).unbind(1)
    angle = torch.rad2deg(torch.atan2(y, x))
    assert torch.allclose(torch.hypot(x, y), torch.tensor(21.0), atol=0.3)
    assert angle.abs().max() < 30.5
    assert stats.kstest((angle / 60 + 0.5).numpy(), "uniform").pvalue > 1e-3


def test_crop_keeps_the_asked_area():
    """On a picture whose colours are its coordinates, a crop spans between the smallest and the largest area asked for."""
    ramp = (torch.arange(64.0) + 0.5) / 64
    picture = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.zeros(64, 64)]).expand(300, -1, -1, -1)
    out = augment(picture.contiguous(), "none", crop=(0.25, 0.5), seed=0)
    width, height = ((out[:, c].flatten(1).amax(1) - out[:, c].flatten(1).amin(1)) for c in (0, 1))
    area = width * height
    assert 0.2 < area.min() < 0.28 and 0.42 < area.max() < 0.53
    assert (width / height).min() > 0.7 and (width / height).max() < 1.4
    assert out[:, 0, 0, 0].std() > 0.05  # and not always in the same place


def test_edges_repeat_the_border():
    """A picture of one colour stays so under crops, shifts, rotations and blur: no dark frame that gives the augmentation away."""
    plain = torch.full((64, 3, 32, 32), 0.7)
    for name in ("crop", "rotation", "shift", "zoom", "shear", "blur"):
        assert torch.allclose(augment(plain, "none", seed=0, **STRONG[name]), plain, atol=1e-4), name


def test_grey_and_colour_do_what_they_say(images):
    """A grey picture has equal channels with BT.601 luma; brightness scales; hue keeps a grey picture."""
    grey = augment(images, "none", grey=1.0)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 1], grey[:, 2])
    luma = (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    assert torch.allclose(grey[:, 0], luma, atol=1e-5)
    assert torch.allclose(augment(grey, "none", hue=0.5, seed=0), grey, atol=1e-4)
    flat = torch.full((400, 3, 8, 8), 0.5)  # no contrast, no saturation: only brightness is left
    level = augment(flat, "none", colour=0.4, seed=0).mean((1, 2, 3))
    assert 0.29 < level.min() < 0.33 and 0.67 < level.max() < 0.71
    rare = augment(images[:1].expand(1000, -1, -1, -1).contiguous(), "none", colour=0.4, colour_chance=0.2, seed=0)
    changed = (rare != images[:1]).flatten(1).any(1)
    assert stats.binomtest(int(changed.sum()), 1000, 0.2).pvalue > 1e-3


def test_noise_and_erase_have_their_strength():
    """Noise has the asked standard deviation and no mean; erased rectangles are 0 and cover 2 to 33 % of the area."""
    flat = torch.full((64, 3, 32, 32), 0.5)
    noise = augment(flat, "none", noise=0.05, seed=0) - flat
    assert noise.std().item() == pytest.approx(0.05, rel=0.02) and abs(noise.mean()) < 1e-3
    erased = (augment(flat, "none", erase=1.0, seed=0) == 0).all(1).float().mean((1, 2))
    assert erased.min() > 0.015 and erased.max() < 0.36 and erased.std() > 0.03


def test_two_views_come_from_the_same_image_and_differ(images):
    """Views differ from each other, are reproducible, and each is nearest to the other view of its own image."""
    a, b = two_views(images, "affine", seed=3)
    again = two_views(images, "affine", seed=3)
    assert torch.equal(a, again[0]) and torch.equal(b, again[1])
    assert not torch.equal(a, b)
    plain = torch.rand(64, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(64, 3, 32, 32).contiguous()
    rows = torch.cdist(*(view.flatten(1) for view in two_views(plain, "affine", noise=0.01, seed=0))).argmin(1)
    assert torch.equal(rows, torch.arange(64))
    first, second = two_views(images, lambda x: x * torch.rand(len(x), 1, 1, 1), seed=1)
    assert not torch.equal(first, second)


def test_multi_crop_shapes_areas_and_rows(images):
    """Large views, then small ones, all of every image, in the asked sizes; local crops see less of it."""
    views = multi_crop(images, global_size=24, local_size=12, n_local=3, seed=0)
    assert [tuple(view.shape) for view in views] == [(64, 3, 24, 24)] * 2 + [(64, 3, 12, 12)] * 3
    assert len({float(view.sum()) for view in views}) == 5
    assert [view.shape[-1] for view in multi_crop(images, n_global=1, n_local=1)] == [32, 16]
    ramp = ((torch.arange(64.0) + 0.5) / 64).expand(50, 3, 64, 64).contiguous()
    wide, narrow = multi_crop(ramp, Recipe(), n_global=1, n_local=1, seed=0)
    assert (wide.amax((1, 2, 3)) - wide.amin((1, 2, 3))).mean() > 2 * (narrow.amax((1, 2, 3)) - narrow.amin((1, 2, 3))).mean()
    again = multi_crop(images, global_size=24, local_size=12, n_local=3, seed=0)
    assert all(torch.equal(x, y) for x, y in zip(views, again, strict=True))


def test_size_resizes_with_and_without_a_crop(images):
    """The result has the asked side; without a crop it is the picture itself, averaged down."""
    assert augment(images, "simclr", size=20).shape == (64, 3, 20, 20)
    small = augment(images, "none", size=16)
    assert (small - torch.nn.functional.avg_pool2d(images, 2)).abs().mean() < 0.01


def test_grey_pictures_take_geometry_only():
    """One-channel pictures go through 'affine'; colour on them is refused by name."""
    digits = torch.rand(4, 1, 28, 28)
    assert augment(digits, "affine").shape == digits.shape
    with pytest.raises(ValueError, match="3 channels"):
        augment(digits, "mild")


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([[0.5]], TypeError, "images"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), TypeError, "255"),
        (torch.zeros(3, 8, 8), ValueError, "images"),
        (torch.zeros(0, 3, 8, 8), ValueError, "empty"),
        (torch.full((1, 3, 8, 8), 255.0), ValueError, "images"),
        (torch.full((1, 3, 8, 8), -0.1), ValueError, "images"),
        (torch.tensor([0.5, math.nan]).repeat(96).reshape(1, 3, 8, 8), ValueError, "images"),
        (torch.full((1, 3, 8, 8), math.inf), ValueError, "images"),
    ],
)
def test_bad_images_are_refused(images, error, message):
    """Not a batch of finite pictures in [0, 1]: refused by each of the three functions."""
    for function in (augment, two_views, multi_crop):
        with pytest.raises(error, match=message):
            function(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "hard"}, "hard"),
        ({"recipe": 3}, "recipe"),
        ({"sharpness": 1.0}, "sharpness"),
        ({"flip": 1.5}, "flip"),
        ({"flip": math.nan}, "flip"),
        ({"flip": True}, "flip"),
        ({"noise": -1.0}, "noise"),
        ({"noise": math.inf}, "noise"),
        ({"hue": 0.6}, "hue"),
        ({"crop": (0.0, 1.0)}, "crop"),
        ({"crop": (0.8, 0.2)}, "crop"),
        ({"crop": (0.5, 1.5)}, "crop"),
        ({"zoom": (1.0, math.inf)}, "zoom"),
        ({"size": 0}, "size"),
        ({"size": 16.0}, "size"),
        ({"recipe": torch.sigmoid, "flip": 0.5}, "flip"),
    ],
)
def test_bad_options_are_refused(images, options, message):
    """Unknown recipes and fields, and strengths out of range, are errors that name them."""
    with pytest.raises((ValueError, TypeError), match=message):
        augment(images, **options)


def test_recipes_are_values():
    """A recipe resolves by name, takes changes without altering the named one, and accepts the lists of a parameter file."""
    assert resolve_recipe("mild", flip=0.5).flip == 0.5 and RECIPES["mild"].flip == 0.0
    assert resolve_recipe("none", crop=[0.5, 1.0]) == Recipe(crop=(0.5, 1.0))
    assert 1 / RECIPES["mild"].zoom[1] ** 2 == pytest.approx(0.6) and 1 / RECIPES["mild"].zoom[0] ** 2 == pytest.approx(1.1)
    with pytest.raises(UnknownNameError, match="mild"):
        resolve_recipe("midl")
    with pytest.raises(ValueError, match="n_local"):
        multi_crop(torch.rand(2, 3, 8, 8), n_local=-1)
