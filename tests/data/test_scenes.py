"""Procedural scenes: the same scene everywhere, the asked distribution, captions that are true, edits that change one thing."""

import dataclasses
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from workbench.data import scene_render
from workbench.data.scene_captions import FACTS, OPPOSITE, PLACES, Description
from workbench.data.scene_table import GRADIENTS, pick, uniform
from workbench.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    LEVELS,
    SHAPES,
    SIZES,
    SPLITS,
    TEXTURES,
    VOCABULARY,
    Mention,
    SceneTable,
    captions,
    counterfactual,
    describe,
    edit,
    editable,
    load_scenes,
    long_tail,
    masks,
    overlay_digits,
    parse_caption,
    render,
    sample_scenes,
    scenes_of,
    swap_attributes,
    swappable,
)
from workbench.errors import UnknownNameError

OBJECT_FACTORS = ("shape", "colour", "texture", "size")


def same(a: SceneTable, b: SceneTable) -> bool:
    return all(torch.equal(column, b.columns()[name]) for name, column in a.columns().items())


def one_object(shape: str, *, angle: int = 0, texture: str = "solid", colour: str = "blue", radius: int = 400) -> SceneTable:
    codes = {"shape": SHAPES.index(shape), "texture": TEXTURES.index(texture), "colour": COLOURS.index(colour), "size": 2}
    columns = {
        name: torch.tensor([[code]]) for name, code in {**codes, "x": 500, "y": 500, "radius": radius, "angle": angle}.items()
    }
    first = torch.tensor([0])
    return SceneTable(index=first, background=first, gradient=first, present=torch.tensor([[True]]), grid=1, **columns)


def distances(scenes: SceneTable) -> torch.Tensor:
    """Free space between every two present objects, in thousandths; infinite elsewhere."""
    dx, dy = (getattr(scenes, axis)[:, :, None] - getattr(scenes, axis)[:, None] for axis in ("x", "y"))
    gap = (dx * dx + dy * dy).double().sqrt() - (scenes.radius[:, :, None] + scenes.radius[:, None])
    both = scenes.present[:, :, None] & scenes.present[:, None] & ~torch.eye(scenes.slots, dtype=torch.bool)
    return torch.where(both, gap, torch.inf)


def inside(scenes: SceneTable) -> bool:
    return all(
        bool(((value - scenes.radius >= 0) & (value + scenes.radius <= 1000))[scenes.present].all())
        for value in (scenes.x, scenes.y)
    )


def chi_square(codes: torch.Tensor, k: int) -> float:
    return stats.chisquare(torch.bincount(codes.flatten(), minlength=k).numpy()).pvalue


# --- the same scene everywhere -------------------------------------------------------------------------------------------------


def test_a_scene_depends_on_seed_and_index_only():
    """Scene i is the same drawn alone, in a range, or in any order of numbers."""
    everything = sample_scenes(300, seed=4)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert same(sample_scenes(order, seed=4), everything.select(order))
    assert same(sample_scenes(50, seed=4, start=250), everything.select(slice(250, 300)))
    assert same(sample_scenes(1, seed=4, start=17), everything.select([17]))
    assert not torch.equal(sample_scenes(300, seed=5).shape, everything.shape)


@pytest.mark.parametrize("size", [32, 50])
def test_pixels_do_not_depend_on_the_batch(size, monkeypatch):
    """Bit for bit the same picture and masks in a batch of 1, of 7, in another order, and with another chunk size."""
    scenes = sample_scenes(40, seed=1)
    images, cover = render(scenes, size), masks(scenes, size)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    for rows in ([5], list(range(7)), order):
        assert torch.equal(render(scenes.select(rows), size), images[rows])
        assert torch.equal(masks(scenes.select(rows), size), cover[rows])
    monkeypatch.setattr(scene_render, "_CHUNK", size * size * 3)
    assert torch.equal(render(scenes, size), images)
    assert torch.equal(masks(scenes, size), cover)


def test_the_world_of_seed_0_stays():
    """Shipped weights and printed captions rest on these scenes: a change of the hash is a change of the data set."""
    assert captions(sample_scenes(3, seed=0), "relations") == FIRST_CAPTIONS
    assert uniform(0, torch.tensor([0, 1, 2**41]), 3, 1).tolist() == FIRST_NUMBERS


def test_hash_is_uniform_and_independent_of_its_neighbours():
    """Numbers of neighbouring scenes, slots, purposes and seeds are uniform and uncorrelated."""
    index = torch.arange(20_000)
    base = uniform(0, index, 1)
    assert stats.kstest(base.numpy(), "uniform").pvalue > 1e-3
    assert base.min() >= 0 and base.max() < 1 and len(base.unique()) > 19_990
    for other in (uniform(0, index + 1, 1), uniform(0, index, 2), uniform(0, index, 1, 0), uniform(1, index, 1)):
        assert stats.kstest(other.numpy(), "uniform").pvalue > 1e-3
        # 4.5 standard errors of a correlation of independent numbers
        assert abs(torch.corrcoef(torch.stack([base, other]))[0, 1]) < 4.5 / math.sqrt(20_000)


# --- the asked distribution ----------------------------------------------------------------------------------------------------


def test_plain_sampling_is_uniform():
    """Each factor, the number of objects, the cells and the angles follow their uniform distribution (chi-square)."""
    scenes = sample_scenes(8000, seed=0)
    assert chi_square(scenes.count - 1, 4) > 1e-3
    assert chi_square(scenes.background, len(BACKGROUNDS)) > 1e-3
    assert chi_square(scenes.gradient, GRADIENTS) > 1e-3
    for slot in range(4):
        rows = scenes.present[:, slot]
        for name in OBJECT_FACTORS:
            assert chi_square(getattr(scenes, name)[rows, slot], len(VOCABULARY[name])) > 1e-3, (name, slot)
        assert chi_square(scenes.cell[rows, slot], 4) > 1e-3
    turned = sample_scenes(8000, seed=0, objects=(1, 1), rotation=180).angle
    assert chi_square(turned.div(30, rounding_mode="floor"), 12) > 1e-3


def test_factors_are_independent():
    """No factor says anything about another one, nor about the next scene (contingency tables)."""
    scenes = sample_scenes(8000, seed=2, objects=(1, 1))
    columns = {name: getattr(scenes, name)[:, 0].numpy() for name in OBJECT_FACTORS} | {"background": scenes.background.numpy()}
    pairs = [(a, b) for a in columns for b in columns if a < b]
    for a, b in pairs:
        assert stats.contingency.chi2_contingency(stats.contingency.crosstab(columns[a], columns[b]).count).pvalue > 1e-3, (a, b)
    for name, column in columns.items():
        assert stats.contingency.chi2_contingency(stats.contingency.crosstab(column[:-1], column[1:]).count).pvalue > 1e-3, name


@pytest.mark.parametrize(
    "options", [{}, {"objects": (3, 9), "distinct": ()}, {"objects": (1, 1)}, {"objects": (1, 1), "grid": 3}]
)
def test_objects_stay_apart_and_inside(options):
    """No two enclosing circles touch, none leaves the picture, and every count between the bounds occurs."""
    scenes = sample_scenes(2000, seed=3, **options)
    few, many = options.get("objects", (1, 4))
    assert set(scenes.count.tolist()) == set(range(few, many + 1))
    assert inside(scenes)
    assert distances(scenes).min() > 0
    assert scenes.radius[scenes.present].float().std() > 10  # sizes do vary
    for name, column in scenes.columns().items():
        if column.shape == scenes.present.shape:
            assert not column[~scenes.present].any(), f"empty slots hold zeros in {name}"


def test_distinct_factors_do_not_repeat_within_a_scene():
    """Shapes differ within a scene by default, other factors when asked, and repeat when nothing is asked."""

    def repeats(scenes, name):
        column = torch.where(scenes.present, getattr(scenes, name), -torch.arange(scenes.slots) - 1)
        return int((column.sort(1).values.diff(dim=1) == 0).sum())

    plain, both, free = (sample_scenes(2000, **o) for o in ({}, {"distinct": ("shape", "colour")}, {"distinct": ()}))
    assert repeats(plain, "shape") == 0 and repeats(plain, "colour") > 100
    assert repeats(both, "shape") == 0 and repeats(both, "colour") == 0
    assert repeats(free, "shape") > 100


def within(successes: int, n: int, p: float) -> bool:
    return stats.binomtest(successes, n, p).pvalue > 1e-3


def test_co_occurrence_hits_its_probability():
    """P(red | circle) is the number asked for, the rest shares what is left evenly, and other shapes do not notice."""
    scenes = sample_scenes(6000, seed=1, co_occurrence={("circle", "red"): 0.9, ("circle", "blue"): 0.03, ("star", "pink"): 0.0})
    shape, colour = scenes.shape[scenes.present], scenes.colour[scenes.present]
    circle = colour[shape == SHAPES.index("circle")]
    assert len(circle) > 1500
    assert within(int((circle == COLOURS.index("red")).sum()), len(circle), 0.9)
    assert within(int((circle == COLOURS.index("blue")).sum()), len(circle), 0.03)
    rest = circle[(circle != COLOURS.index("red")) & (circle != COLOURS.index("blue"))]
    assert within(int((rest == COLOURS.index("green")).sum()), len(rest), 1 / 6)
    assert not (colour[shape == SHAPES.index("star")] == COLOURS.index("pink")).any()
    assert chi_square(colour[shape == SHAPES.index("heart")], len(COLOURS)) > 1e-3


def test_background_can_be_a_spurious_cue():
    """A background that comes with a shape does so at its rate, and shapes stay distinct in scenes of several objects."""
    wish = {("mint", "star"): 0.85, ("navy", "heart"): 0.85}
    single = sample_scenes(6000, seed=1, objects=(1, 1), co_occurrence=wish)
    on_mint = single.shape[single.background == BACKGROUNDS.index("mint"), 0]
    assert within(int((on_mint == SHAPES.index("star")).sum()), len(on_mint), 0.85)
    on_white = single.shape[single.background == BACKGROUNDS.index("white"), 0]
    assert chi_square(on_white, len(SHAPES)) > 1e-3


def test_companions_come_together():
    """Where the first object is a circle the second is a star at the asked rate; behind other shapes it is not."""
    scenes = sample_scenes(8000, seed=1, objects=(2, 3), companions={("circle", "star"): 0.8})
    circle = scenes.shape[:, 0] == SHAPES.index("circle")
    star = scenes.shape[:, 1] == SHAPES.index("star")
    assert within(int(star[circle].sum()), int(circle.sum()), 0.8)
    others = ~circle & (scenes.shape[:, 0] != SHAPES.index("star"))
    assert within(int(star[others].sum()), int(others.sum()), 1 / 7)


def test_companions_and_a_background_cue_live_together():
    """A companion wish decides only behind its own first object; elsewhere the background's cue keeps its rate."""
    options = {
        "companions": {("circle", "star"): 0.8},
        "co_occurrence": {("mint", "heart"): 0.6},
        "backgrounds": ("mint", "grey"),
    }
    scenes = sample_scenes(8000, seed=1, objects=(2, 2), **options)
    first, second = scenes.shape[:, 0], scenes.shape[:, 1]
    mint = scenes.background == BACKGROUNDS.index("mint")
    for rows, wished, p in (
        (first == SHAPES.index("circle"), "star", 0.8),
        (mint & (first == SHAPES.index("cross")), "heart", 0.6),
        (~mint & (first == SHAPES.index("cross")), "heart", 1 / 7),
    ):
        assert rows.sum() > 150
        assert within(int((second[rows] == SHAPES.index(wished)).sum()), int(rows.sum()), p)


def test_pick_never_takes_what_has_no_mass():
    """Inversion at the very ends of [0, 1) stays on names that may occur."""
    mass = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]], dtype=torch.float64).repeat(3, 1)
    assert pick(mass, torch.tensor([0.0, 0.3, 1 - 2.0**-32], dtype=torch.float64)).tolist() == [1, 3, 3]


def test_long_tail_and_subsets():
    """Weights give a geometric tail over shapes; a name that is left out never occurs."""
    scenes = sample_scenes(8000, seed=1, objects=(1, 1), weights={"shape": long_tail(SHAPES, 50)}, colours=("red", "blue"))
    counts = torch.bincount(scenes.shape[:, 0], minlength=8).double()
    expected = torch.tensor([50 ** (-i / 7) for i in range(8)], dtype=torch.float64)
    assert stats.chisquare(counts.numpy(), (8000 * expected / expected.sum()).numpy()).pvalue > 1e-3
    assert set(scenes.colour.flatten().tolist()) == {COLOURS.index("red"), COLOURS.index("blue")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": (3, 2)}, "objects"),
        ({"objects": 3}, "objects"),
        ({"objects": (0, 0)}, "objects"),
        ({"n": -1}, "n and start"),
        ({"n": torch.tensor([0.5])}, "scene numbers"),
        ({"shapes": ("hexagon",)}, "hexagon"),
        ({"shapes": ()}, "shape"),
        ({"shapes": "circle"}, "shape"),
        ({"shapes": ("circle", "star"), "objects": (1, 3)}, "distinct"),
        ({"distinct": ("angle",)}, "angle"),
        ({"grid": 1}, "grid"),
        ({"radii": (0.1, 0.2, 0.3)}, "radii"),
        ({"radii": (0.0, 0.1, 0.2)}, "radii"),
        ({"weights": {"hue": {}}}, "hue"),
        ({"weights": {"shape": {"circle": -1}}}, "weights"),
        ({"weights": {"shape": {"circle": math.nan}}}, "weights"),
        ({"weights": {"colour": dict.fromkeys(COLOURS, 0)}}, "colour"),
        ({"co_occurrence": {("circle", "red"): 1.5}}, "circle"),
        ({"co_occurrence": {("circle", "red"): 0.7, ("circle", "blue"): 0.7}}, "circle"),
        ({"co_occurrence": {("red", "circle"): 0.5}}, "before"),
        ({"co_occurrence": {("circle", "crimson"): 0.5}}, "crimson"),
        ({"co_occurrence": {("circle", "red"): 0.5, ("mint", "red"): 0.5}}, "two causes"),
        ({"co_occurrence": {("circle", "red"): 0.5}, "colours": ("red",)}, "no other"),
        ({"companions": {("circle", "red"): 0.5}}, "shapes"),
    ],
)
def test_impossible_wishes_are_refused(options, message):
    """Each impossible wish raises a ValueError that names it."""
    with pytest.raises(ValueError, match=message):
        sample_scenes(**{"n": 4, **options})


# --- pixels --------------------------------------------------------------------------------------------------------------------

# Areas in units of the enclosing radius squared, from the geometry of each shape.
AREAS = {
    "circle": math.pi * 0.9**2,
    "square": 1.44**2 - (4 - math.pi) * 0.06**2,
    "triangle": 3 * math.sqrt(3) / 4,
    "star": 5 * 0.46 * math.sin(math.radians(36)),
    "ring": math.pi * (0.94**2 - 0.44**2),
    "cross": 2 * 1.84 * 0.66 - 0.66**2,
    "heart": 0.79**2 * (2 + math.pi / 2),
    "diamond": 2 * 0.68,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_have_the_area_of_their_shape(shape):
    """The covered area is that of the drawn shape, at any angle, and lies within the enclosing circle."""
    for angle in (0, 33, 250):
        scenes = one_object(shape, angle=angle)
        cover = masks(scenes, 96)[0, 0]
        assert cover.sum().item() == pytest.approx(AREAS[shape] * (0.4 * 96) ** 2, rel=0.01)
        rows, columns = (cover > 0).nonzero(as_tuple=True)
        assert torch.hypot(rows - 47.5, columns - 47.5).max() <= 0.4 * 96 + 1


@pytest.mark.parametrize("shape", ["triangle", "star", "heart"])
def test_shapes_stand_upright_and_turn_clockwise(shape):
    """At angle 0 a triangle and a star point up and a heart points down; each 90 degrees is a quarter turn clockwise."""
    upright, *turned = [masks(one_object(shape, angle=angle), 65)[0, 0] for angle in (0, 90, 180, 270)]
    rows, columns = (upright > 0.2).nonzero(as_tuple=True)
    top, bottom = 32 - int(rows.min()), int(rows.max()) - 32
    assert top < bottom if shape == "heart" else top > bottom
    assert (
        columns[rows == (rows.max() if shape == "heart" else rows.min())].float().mean() - 32
    ).abs() < 1  # the tip is in the middle
    for quarter, picture in enumerate(turned, start=1):
        assert torch.allclose(picture, torch.rot90(upright, -quarter), atol=1e-4)
    assert not torch.allclose(turned[0], upright, atol=0.5)


def test_resolution_does_not_change_the_picture():
    """Drawn four times as large and averaged, a scene is what it is drawn small, up to the antialiasing."""
    scenes = sample_scenes(30, seed=8, textures=("solid", "halved"))
    small, large = render(scenes, 32), torch.nn.functional.avg_pool2d(render(scenes, 128), 4)
    assert (small - large).abs().mean() < 0.01
    assert torch.allclose(masks(scenes, 32), torch.nn.functional.avg_pool2d(masks(scenes, 128), 4), atol=0.45)  # sharp tips
    assert (masks(scenes, 32) - torch.nn.functional.avg_pool2d(masks(scenes, 128), 4)).abs().mean() < 1e-3


@pytest.mark.parametrize("size", [32, 64])
def test_a_mask_is_what_changes_when_its_object_goes(size):
    """Pixels that change when an object is taken away are the pixels of its mask; nothing else moves by a bit."""
    scenes = sample_scenes(120, seed=6, objects=(1, 4))
    images, cover = render(scenes, size), masks(scenes, size)
    assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
    for slot in range(4):
        rows = scenes.present[:, slot].nonzero().squeeze(1)
        gone = scenes.select(rows)
        for row in range(len(rows)):
            gone = edit(gone, row, slot, "presence", 0)
        changed = (render(gone, size) != images[rows]).any(1)
        mask = cover[rows, slot]
        assert not changed[mask == 0].any()
        # A thin edge over a background of nearly its colour may round to the same number.
        assert changed[mask > 0.05].float().mean() > 0.999
        assert (mask > 0.5).flatten(1).any(1).all()
    assert not cover[~scenes.present].any()


def test_a_later_object_hides_an_earlier_one():
    """Objects are painted in slot order, and the mask of the lower one ends where the upper one begins."""
    both = dataclasses.replace(
        one_object("circle"),
        **{
            name: getattr(one_object("circle"), name).repeat(1, 2)
            for name in ("present", "shape", "texture", "size", "x", "y", "angle")
        },
        colour=torch.tensor([[COLOURS.index("red"), COLOURS.index("blue")]]),
        radius=torch.tensor([[400, 200]]),
    )
    cover, image = masks(both, 64)[0], render(both, 64)[0]
    assert cover[0, 32, 32] == 0 and cover[1, 32, 32] == 1
    assert cover.sum(0).max() <= 1 + 1e-6
    assert image[2, 32, 32] > image[0, 32, 32]  # blue in the middle
    assert image[0, 32, 12] > image[2, 32, 12]  # red around it


@pytest.mark.parametrize("size", [24, 64])
def test_colours_and_backgrounds_are_what_they_are_called(size):
    """The mean colour of a solid object is nearest to its own name's colour, that of the rest to its background's."""
    scenes = sample_scenes(400, seed=5, textures=("solid",), objects=(1, 2), sizes=("medium", "large"))
    images, cover = render(scenes, size), masks(scenes, size)
    palette, tones = torch.tensor(scene_render.PALETTE) / 255, torch.tensor(scene_render.TONES).float().mean(1) / 255
    for slot in range(2):
        weight = (cover[:, slot] > 0.99).float()[:, None]
        rows = scenes.present[:, slot] & (weight.sum((1, 2, 3)) > 4)
        mean = ((images * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1))[rows]
        assert rows.sum() > 150
        assert torch.equal(torch.cdist(mean, palette).argmin(1), scenes.colour[rows, slot])
    free = (cover.sum(1) == 0).float()[:, None]
    mean = (images * free).sum((2, 3)) / free.sum((2, 3))
    assert torch.equal(torch.cdist(mean, tones).argmin(1), scenes.background)


def test_textures_can_be_told_apart_at_32_px():
    """Every texture changes a third of an object's pixels or more against every other one, and keeps the mask."""
    for shape in SHAPES:
        pictures = [render(one_object(shape, texture=texture), 32)[0] for texture in TEXTURES]
        inner = masks(one_object(shape), 32)[0, 0] > 0.9
        for i, a in enumerate(pictures):
            for b in pictures[:i]:
                assert ((a - b).abs().amax(0)[inner] > 0.1).float().mean() > 0.3, shape


def test_palette_is_distinguishable_with_each_kind_of_colour_blindness():
    """All pairs of colours differ by more than 20 CIELAB units, as seen by trichromats and by each kind of dichromat.

    Matrices: Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
    """
    seen = {
        "normal": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    srgb = np.array(scene_render.PALETTE) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for kind, matrix in seen.items():
        xyz = np.clip(linear @ np.array(matrix).T, 0, 1) @ to_xyz.T / to_xyz.sum(1)
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        gaps = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
        assert gaps.min() > 20, kind


def test_empty_batches_and_empty_scenes():
    """No rows give no pictures; a scene without objects is its background."""
    assert render(sample_scenes(0), 32).shape == (0, 3, 32, 32)
    assert captions(sample_scenes(0)) == []
    scenes = sample_scenes(60, seed=0, objects=(0, 1), gradients=False)
    empty = scenes.select(scenes.count == 0)
    assert len(empty) > 10
    assert (render(empty, 32).flatten(2).std(2) < 1e-6).all()
    assert set(captions(empty)) == {"an empty picture"}


@pytest.mark.parametrize("size", [0, 7, 32.0, True, "32"])
def test_bad_sizes_are_refused(size):
    """The side of a picture is a whole number of at least 8."""
    with pytest.raises(ValueError, match="size"):
        render(sample_scenes(1), size)


def test_bad_tables_are_refused():
    """A scene made by hand with wrong shapes, types, codes or radii says which column is wrong."""
    good = sample_scenes(3)
    for column, value in {
        "shape": good.shape + 8,
        "colour": good.colour.float(),
        "x": good.x[:, :1],
        "background": good.background - 20,
        "radius": good.radius * 0,
        "present": good.present.long(),
    }.items():
        with pytest.raises((ValueError, TypeError), match=column):
            dataclasses.replace(good, **{column: value})


# --- captions ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_captions_round_trip_on_10_000_scenes(level):
    """Every caption parses back into exactly what it says, in each wording and with facts left out."""
    for n, drop in ((10_000, 0.0), (2_000, 0.4)):
        said = describe(sample_scenes(n, seed=9, objects=(0, 4)), level, wording=None, drop=drop)
        for description in said:
            assert parse_caption(str(description)) == description
    assert len({str(description) for description in said}) > 100


def test_full_captions_tell_the_truth():
    """What a full caption says about every object, place, relation and background is so in the table of numbers."""
    scenes = sample_scenes(2000, seed=3)
    seen = Counter()
    for row, text in enumerate(captions(scenes, "full", wording=None)):
        description = parse_caption(text)
        slots = {SHAPES[int(scenes.shape[row, s])]: s for s in range(4) if scenes.present[row, s]}
        assert {mention.shape for mention in description.objects} == set(slots)  # nothing left out, nothing invented
        assert description.background == BACKGROUNDS[int(scenes.background[row])]
        where = []
        for mention in description.objects:
            slot = slots[mention.shape]
            x, y = int(scenes.x[row, slot]) / 1000, int(scenes.y[row, slot]) / 1000
            assert mention.colour == COLOURS[int(scenes.colour[row, slot])]
            assert mention.texture == TEXTURES[int(scenes.texture[row, slot])]
            assert mention.size == SIZES[int(scenes.size[row, slot])]
            words = mention.place.split()
            assert ("top" in words) == (y < 1 / 3) and ("bottom" in words) == (y >= 2 / 3)
            assert ("left" in words) == (x < 1 / 3) and ("right" in words) == (x >= 2 / 3)
            where.append((x, y))
        assert len(description.relations) == len(description.objects) - 1
        for i, relation, j in description.relations:
            (xi, yi), (xj, yj) = where[i], where[j]
            assert {"left of": xi < xj, "right of": xi > xj, "above": yi < yj, "below": yi > yj}[relation]
            seen[relation] += 1
    assert min(seen.values()) > 0.2 * sum(seen.values()) and len(seen) == 4  # all four relations are common


def test_levels_say_what_they_promise():
    """Each level names its facts and no others; a tuple of facts makes a level of one's own."""
    scenes = sample_scenes(200, seed=3, objects=(2, 2))
    for level in (*LEVELS.values(), ("size", "colour", "shape", "place"), ("colour",)):
        for description in describe(scenes, level):
            for fact in ("size", "texture", "colour", "shape", "place"):
                assert all((getattr(m, fact) is not None) == (fact in level) for m in description.objects)
            assert bool(description.relations) == ("relation" in level)
            assert (description.background is not None) == ("background" in level)
    assert all(re.fullmatch(r"an? \w+ object and an? \w+ object", text) for text in captions(scenes, ("colour",)))


def test_placed_is_the_same_in_every_wording_and_true():
    """The relation turned to 'left of' or 'above' does not depend on how it is told, and the centres bear it out."""
    scenes = sample_scenes(200, seed=5, objects=(2, 2))
    told = [[d.placed() for d in describe(scenes, "relations", wording=w)] for w in range(4)]
    assert told[0] == told[1] == told[2] == told[3] and {p[1] for p in told[0]} == {"left of", "above"}
    position = {"left of": scenes.x, "above": scenes.y}
    for row, (first, relation, second) in enumerate(told[0]):
        drawn = list(zip(scenes.shape[row].tolist(), scenes.colour[row].tolist(), strict=True))
        slots = [drawn.index((list(SHAPES).index(m.shape), list(COLOURS).index(m.colour))) for m in (first, second)]
        at = position[relation][row, slots]
        assert len(set(drawn)) < 2 or at[0] < at[1]
    assert Description().placed() is None


def test_wordings_are_four_and_mean_the_same():
    """The four wordings of a caption differ in words and agree in objects and relations; all are used by wording=None."""

    def meaning(d: Description):
        relations = set()
        for i, relation, j in d.relations:
            a, b = (i, j) if relation in ("left of", "above") else (j, i)
            relations.add((d.objects[a], OPPOSITE[relation] if a == j else relation, d.objects[b]))
        return frozenset(d.objects), frozenset(relations), d.background

    scenes = sample_scenes(200, seed=4, objects=(2, 4))
    texts = [captions(scenes, "relations", wording=w) for w in range(4)]
    mixed = captions(scenes, "relations", wording=None)
    used = Counter()
    for row in range(len(scenes)):
        four = [texts[w][row] for w in range(4)]
        assert len(set(four)) == 4
        assert len({meaning(parse_caption(text)) for text in four}) == 1
        used[four.index(mixed[row])] += 1
    assert min(used[w] for w in range(4)) > 30


def test_dropped_facts_are_dropped_at_their_rate():
    """With drop = 0.3, seven facts of ten are said, others for another seed, and every caption still says something."""
    scenes = sample_scenes(3000, seed=3, objects=(1, 1))
    said = describe(scenes, "attributes", drop=0.3, seed=1)
    facts = sum(getattr(d.objects[0], fact) is not None for d in said for fact in OBJECT_FACTORS)
    assert within(facts, 4 * len(said), 0.7)
    assert said != describe(scenes, "attributes", drop=0.3, seed=2)
    assert all(d.objects for d in describe(scenes, "attributes", drop=1.0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "a red",
        "a red red circle",
        "a circle red",
        "an red circle",
        "a orange circle",
        "a ring on a azure background",
        "red circle",
        "A red circle",
        "a red circle.",
        "a red circle and",
        "a red circle left of",
        "left of a red circle",
        "a crimson circle",
        "a solid large circle",
        "a red circle and a blue star and a ring",
        "a red circle on a red background",
        "a red circle on a mint",
        "a red circle, which is above a star",
        "a red circle left of a star, which is near a ring",
        "a unicorn left of a star",
    ],
)
def test_strict_parser_rejects_nonsense(text):
    """Anything but a caption of the grammar, word for word, is refused."""
    with pytest.raises(ValueError, match="not a caption of the grammar"):
        parse_caption(text)


def test_strict_parser_takes_the_grammar():
    """A caption written by hand by the rules of the grammar is read, vowels and all."""
    read = parse_caption("an orange circle at the left, left of a large object, which is above a ring on an azure background")
    assert read.objects == (Mention("circle", "orange", place="left"), Mention(size="large"), Mention("ring"))
    assert read.relations == ((0, "left of", 1), (1, "above", 2)) and read.background == "azure"
    assert parse_caption("an empty picture on a mint background") == Description(background="mint")


def test_parser_wants_text():
    """A caption is a string."""
    with pytest.raises(TypeError, match="text"):
        parse_caption(b"a red circle")


@pytest.mark.parametrize(
    ("text", "objects", "relations", "background"),
    [
        ("Two big circles and a tiny STAR!", ["a large circle", "a small star"], [], None),
        ("the star is blue and striped", ["a striped blue star"], [], None),
        ("a circle, red and dotted, and a star", ["a dotted red circle", "a star"], [], None),
        ("a ring with purple stripes", ["a striped purple ring"], [], None),
        ("a star-shaped object on a red background", ["a star"], [], None),
        ("a heart on a plain gray background", ["a heart"], [], "grey"),
        ("red ring is to the left of the heart", ["a red ring", "a heart"], [(0, "left of", 1)], None),
        ("To the right of a big blue star is a ring. The ring is green.", ["a large blue star", "a ring", "a green ring"], [(1, "right of", 0)], None),
        ("the heart on top of a purple cross", ["a heart", "a purple cross"], [(0, "above", 1)], None),
        ("a circle under a disc", ["a circle", "a circle"], [(0, "below", 1)], None),
        ("a circle in the upper left corner", ["a circle at the top left"], [], None),
        ("a circle in the middle of the picture and a ring", ["a circle at the centre", "a ring"], [], None),
        ("a dog chases a cat", [], [], None),
        ("a red thing and a checked chequered object", ["a red object", "a checkered object"], [], None),
        ("", [], [], None),
    ],
)  # fmt: skip
def test_free_text_is_read_for_what_it_mentions(text, objects, relations, background):
    """Objects, attributes, relations and background of any text over the vocabulary, for CHAIR-like scores."""
    read = parse_caption(text, strict=False)
    assert [str(mention) for mention in read.objects] == objects
    assert list(read.relations) == relations
    assert read.background == background


def test_unknown_levels_and_wordings_are_refused():
    """Levels, facts, wordings and drop rates that do not exist raise errors that name them."""
    scenes = sample_scenes(2)
    with pytest.raises(UnknownNameError, match="detailed"):
        captions(scenes, "detailed")
    with pytest.raises(UnknownNameError, match="mood"):
        captions(scenes, ("shape", "mood"))
    for options in ({"wording": 4}, {"drop": 1.5}, {"drop": math.nan}):
        with pytest.raises(ValueError, match=next(iter(options))):
            captions(scenes, **options)


# --- edits ---------------------------------------------------------------------------------------------------------------------

# Columns of the changed object that follow from the factor: a new size has another radius, and may move within its cell.
FOLLOWS = {"size": {"size", "radius", "x", "y"}, "position": {"x", "y"}, "relation": {"x", "y"}}
FACTORS = (*OBJECT_FACTORS, "position", "presence", "background", "relation")


def differing(a: SceneTable, b: SceneTable) -> dict[str, torch.Tensor]:
    return {
        name: column != b.columns()[name] for name, column in a.columns().items() if not torch.equal(column, b.columns()[name])
    }


@pytest.mark.parametrize("factor", FACTORS)
def test_a_counterfactual_changes_one_factor_of_one_object(factor):
    """Exactly the asked factor of exactly the named object differs, in every scene; objects stay apart and inside."""
    scenes = sample_scenes(500, seed=7, objects=(2, 3))
    result = counterfactual(scenes, factor, seed=1)
    difference = differing(scenes, result.scenes)
    rows = torch.arange(500)
    if factor == "background":
        assert set(difference) == {"background"} and difference["background"].all()
        assert (result.slots == -1).all()
        return
    touched = torch.zeros_like(scenes.present).scatter(1, result.slots.clamp(min=0), True)
    if factor != "relation":
        touched = torch.zeros_like(scenes.present).scatter(1, result.slots[:, :1], True)
        assert (result.slots[:, 1] == -1).all()
    for where in difference.values():
        assert not where[~touched].any()
    if factor == "presence":
        assert torch.equal(result.scenes.present, scenes.present & ~touched)
    else:
        assert set(difference) <= FOLLOWS.get(factor, {factor})
        changed = torch.stack(list(difference.values())).any(0)
        assert (changed.sum(1) == (2 if factor == "relation" else 1)).all()
    if factor in VOCABULARY:
        assert difference[factor][rows, result.slots[:, 0]].all()
    if factor == "size":  # the move stays in the cell, and most objects need none
        assert torch.equal(result.scenes.cell, scenes.cell)
        radii = torch.tensor(scenes.radii)[result.scenes.size[touched]] * 1000
        assert ((result.scenes.radius[touched] - radii).abs() / radii).max() < 0.06
    if factor == "position":
        new = result.scenes.cell[touched]
        assert not (scenes.cell == new[:, None]).any()
    if factor == "relation":
        flipped = result.slots.flip(1)
        assert torch.equal(result.scenes.cell.gather(1, result.slots), scenes.cell.gather(1, flipped))
    assert inside(result.scenes) and distances(result.scenes).min() > 0


@pytest.mark.parametrize("factor", FACTORS)
def test_a_counterfactual_leaves_other_pixels_alone(factor):
    """Outside the old and the new mask of the changed object not one bit differs; inside, something does."""
    scenes = sample_scenes(150, seed=8, objects=(2, 3))
    result = counterfactual(scenes, factor)
    changed = (render(scenes, 40) != render(result.scenes, 40)).any(1)
    assert changed.flatten(1).any(1).all()
    if factor == "background":
        assert torch.equal(masks(scenes, 40), masks(result.scenes, 40))
        return
    slots = torch.where(result.slots < 0, result.slots[:, :1], result.slots)[:, :, None, None].expand(-1, -1, 40, 40)
    region = torch.cat([masks(scenes, 40).gather(1, slots), masks(result.scenes, 40).gather(1, slots)], 1).amax(1) > 0
    assert not changed[~region].any()
    assert region.float().mean() < 0.5  # the claim is about most of the picture


@pytest.mark.parametrize("factor", FACTORS)
def test_a_counterfactual_caption_is_false_for_the_original(factor):
    """Both captions differ, in exactly the words of the factor, and the old objects are not what the new caption says."""
    scenes = sample_scenes(300, seed=9, objects=(2, 2))
    result = counterfactual(scenes, factor)
    # "above", not "left of", between two cells of a diagonal: a move may keep the relation, never the place.
    level = ("shape", "place") if factor == "position" else "relations"
    for old, new in zip(describe(scenes, level), describe(result.scenes, level), strict=True):
        if factor == "position":
            assert sum(a != b for a, b in zip(old.objects, new.objects, strict=True)) <= 1
        elif factor == "presence":
            assert len(new.objects) == 1 and new.objects[0] in old.objects and not new.relations
        elif factor == "relation":
            assert new.objects == old.objects and new.background == old.background
            assert new.relations == tuple((i, OPPOSITE[relation], j) for i, relation, j in old.relations)
        elif factor == "background":
            assert dataclasses.replace(new, background=old.background) == old and new != old
        else:
            pairs = [(a, b) for a, b in zip(old.objects, new.objects, strict=True) if a != b]
            assert len(pairs) == 1 and new.relations == old.relations and new.background == old.background
            before, after = pairs[0]
            assert dataclasses.replace(after, **{factor: getattr(before, factor)}) == before


def test_counterfactuals_do_not_depend_on_the_batch():
    """The edit of a scene is the same alone and in a batch, another one for another seed, and never repeats a shape."""
    scenes = sample_scenes(200, seed=2, objects=(2, 4))
    for factor in ("shape", "colour", "relation"):
        whole = counterfactual(scenes, factor, seed=3)
        assert same(counterfactual(scenes.select([11, 5]), factor, seed=3).scenes, whole.scenes.select([11, 5]))
        assert not same(counterfactual(scenes, factor, seed=4).scenes, whole.scenes)
    shapes = counterfactual(scenes, "shape").scenes
    column = torch.where(shapes.present, shapes.shape, -torch.arange(4) - 1).sort(1).values
    assert (column.diff(dim=1) != 0).all()


def test_new_values_are_uniform_over_the_allowed_ones():
    """All other colours are equally likely, `values` restricts them, and no object is preferred."""
    scenes = sample_scenes(7000, seed=2, objects=(2, 2), colours=("red", "blue"))
    result = counterfactual(scenes, "colour")
    rows = torch.arange(7000)
    was_red = scenes.colour[rows, result.slots[:, 0]] == COLOURS.index("red")
    new = result.scenes.colour[rows, result.slots[:, 0]][was_red]
    assert chi_square(new - 1, 7) > 1e-3
    assert within(int((result.slots[:, 0] == 0).sum()), 7000, 0.5)
    two = counterfactual(scenes, "colour", values=("red", "blue")).scenes.colour
    assert set(two.flatten().tolist()) == {COLOURS.index("red"), COLOURS.index("blue")}


def test_impossible_edits_are_refused_and_can_be_left_out():
    """Where nothing can change the error counts the scenes, and `editable` finds the others."""
    scenes = sample_scenes(100, seed=2, objects=(0, 4))
    for factor in ("shape", "position", "relation", "presence"):
        possible = editable(scenes, factor)
        assert 0 < int(possible.sum()) < 100
        with pytest.raises(ValueError, match=f"{int((~possible).sum())} of 100"):
            counterfactual(scenes, factor)
        counterfactual(scenes.select(possible), factor)
    assert editable(scenes, "background").all()
    with pytest.raises(UnknownNameError, match="mood"):
        counterfactual(scenes, "mood")
    with pytest.raises(UnknownNameError, match="crimson"):
        counterfactual(scenes, "colour", values=("crimson",))
    with pytest.raises(ValueError, match="values"):
        counterfactual(scenes, "position", values=("left",))


@pytest.mark.parametrize("factor", OBJECT_FACTORS)
def test_swapped_captions_keep_their_words_and_lose_their_truth(factor):
    """A swap exchanges one attribute of two objects: same words, other objects; a second swap undoes the first."""
    scenes = sample_scenes(400, seed=5, objects=(2, 3))
    scenes = scenes.select(swappable(scenes, factor))
    assert len(scenes) > 200
    result = swap_attributes(scenes, factor)
    assert set(differing(scenes, result.scenes)) <= FOLLOWS.get(factor, {factor})
    old, new = captions(scenes, "attributes"), captions(result.scenes, "attributes")
    for a, b in zip(old, new, strict=True):
        assert Counter(a.replace("an ", "a ").replace(",", "").split()) == Counter(
            b.replace("an ", "a ").replace(",", "").split()
        )
        assert set(parse_caption(a).objects) != set(parse_caption(b).objects)
    pair = scenes.count == 2
    back = swap_attributes(result.scenes.select(pair), factor)
    assert pair.sum() > 100 and torch.equal(getattr(back.scenes, factor), getattr(scenes, factor)[pair])
    assert inside(result.scenes) and distances(result.scenes).min() > 0


def test_swap_without_a_pair_is_refused():
    """One object, or two of one colour, have no colours to exchange."""
    with pytest.raises(ValueError, match="no two objects"):
        swap_attributes(sample_scenes(5, objects=(1, 1)), "colour")
    with pytest.raises(ValueError, match="no two objects"):
        swap_attributes(sample_scenes(5, objects=(2, 2), colours=("red",)), "colour")
    with pytest.raises(UnknownNameError, match="angle"):
        swap_attributes(sample_scenes(5, objects=(2, 2)), "angle")


def test_edit_sets_what_it_is_told():
    """A named value lands in the named slot of the named row, and nowhere else."""
    scenes = sample_scenes(5, seed=2, objects=(2, 2))
    for factor, value in (("shape", "heart"), ("colour", "pink"), ("texture", "halved")):
        after = edit(scenes, 3, 1, factor, value)
        assert int(getattr(after, factor)[3, 1]) == VOCABULARY[factor].index(value)
        assert int(torch.stack(list(differing(scenes, after).values()) or [torch.zeros(1)]).sum()) <= 1
    assert int(edit(scenes, 0, 0, "background", "navy").background[0]) == BACKGROUNDS.index("navy")
    free = next(cell for cell in range(4) if cell not in scenes.cell[2].tolist())
    assert int(edit(scenes, 2, 0, "position", free).cell[2, 0]) == free
    assert int(edit(scenes, 2, 0, "presence", 0).count[2]) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((9, 0, "shape", "star"), IndexError, "row 9"),
        ((0, 4, "shape", "star"), IndexError, "slot 4"),
        ((0, 1, "shape", "star"), ValueError, "empty"),
        ((0, 0, "mood", "star"), UnknownNameError, "mood"),
        ((0, 0, "shape", "hexagon"), UnknownNameError, "hexagon"),
        ((0, 0, "shape", 8), UnknownNameError, "8"),
        ((0, 0, "presence", 1), ValueError, "presence"),
        ((0, 0, "position", 4), ValueError, "position"),
    ],
)
def test_bad_edits_are_refused(arguments, error, message):
    """Each edit that cannot be made says why."""
    scenes = sample_scenes(20, seed=0, objects=(1, 2))
    scenes = scenes.select(scenes.count == 1)
    with pytest.raises(error, match=message):
        edit(scenes.select([0, 1]), *arguments)


# --- digits and the loader -----------------------------------------------------------------------------------------------------


def test_overlay_mixes_ink_by_opacity():
    """Opacity 0 keeps the picture, 1 puts pure ink where the digit is 1, and between them the mixture is linear."""
    images = render(sample_scenes(6, seed=0), 32)
    digits = torch.zeros(6, 28, 28)
    digits[:, 10:18, 10:18] = 1
    ink = torch.tensor([[1.0, 0.0, 0.0]]).expand(6, 3)
    assert torch.equal(overlay_digits(images, digits, opacity=0.0), images)
    full = overlay_digits(images, digits, ink=ink)
    assert torch.equal(full[:, :, 15, 15], ink)
    assert torch.equal(full[:, :, :8], images[:, :, :8])
    half = overlay_digits(images, digits, opacity=0.5, ink=ink)
    assert torch.allclose(half, (full + images) / 2, atol=1e-6)
    each = overlay_digits(images, digits, opacity=torch.tensor([0.0, 1, 0, 1, 0, 1]), ink=ink)
    assert torch.equal(each[0], images[0]) and torch.equal(each[1], full[1])
    plain = overlay_digits(images, digits)
    bright = images.mean((1, 2, 3)) > 0.5
    assert torch.equal(plain[:, 0, 15, 15] < 0.5, bright)  # dark ink on light pictures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digits": torch.zeros(3, 8, 8)}, "digits"),
        ({"digits": torch.zeros(2, 64)}, "digits"),
        ({"digits": torch.full((2, 8, 8), 16.0)}, "digits"),
        ({"opacity": 1.5}, "opacity"),
        ({"opacity": math.nan}, "opacity"),
        ({"opacity": torch.zeros(5)}, "opacity"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_bad_overlays_are_refused(options, message):
    """Lengths that differ and values outside [0, 1] are errors."""
    with pytest.raises(ValueError, match=message):
        overlay_digits(torch.zeros(2, 3, 32, 32), **{"digits": torch.zeros(2, 8, 8), **options})


@pytest.mark.parametrize("options", [{}, {"objects": (1, 1), "backgrounds": ("white",), "gradients": False}])
def test_splits_share_no_scene(options):
    """Disjoint scene numbers, and no two scenes alike in every factor, position, size and angle, within or across splits."""
    tables = [
        scenes_of(load_scenes(split, n=n, size=8, **options)) for split, n in (("train", 6000), ("val", 2000), ("test", 2000))
    ]
    assert len(torch.cat([table.index for table in tables]).unique()) == 10_000
    rows = torch.cat([torch.cat([c.view(len(t), -1) for name, c in t.columns().items() if name != "index"], 1) for t in tables])
    assert len(rows.unique(dim=0)) == 10_000


def test_loader_returns_pictures_captions_and_factors():
    """Fields, sizes, names and ranges of the returned data set; single-object scenes carry their factors and labels."""
    ds = load_scenes("val", n=50, size=24, objects=(1, 1), caption_level="attributes")
    assert ds.images.shape == (50, 3, 24, 24) and len(ds.captions) == 50 and ds.split == "val" and ds.name == "scenes"
    for row in (0, 13):
        words = [ds.factor_names[f][int(ds.factors[f][row])] for f in ("size", "texture", "colour", "shape")]
        assert ds.captions[row].split(" ", 1)[1] == " ".join(words)
        assert ds.label_names[int(ds.labels[row])] == words[-1]
    several = load_scenes("val", n=50)
    assert several.labels is None and set(several.factors) == {"background", "count"}
    assert [len(parse_caption(text).objects) for text in several.captions] == several.factors["count"].tolist()
    assert len(load_scenes("test", size=8)) == SPLITS["test"][1]


def test_loader_gives_its_scenes_back():
    """After any selection of rows, `scenes_of` renders the same pictures and writes the same captions."""
    ds = load_scenes(n=60, size=24, seed=3, objects=(1, 3)).select([7, 3, 41])
    scenes = scenes_of(ds)
    assert torch.equal(render(scenes, 24), ds.images)
    assert captions(scenes) == list(ds.captions)
    assert scenes.radii == sample_scenes(1, objects=(1, 3)).radii and scenes.seed == 3
    with pytest.raises(ValueError, match="load_scenes"):
        scenes_of(dataclasses.replace(ds, extras={}))


def test_loader_streams_without_repeating():
    """`start` goes on where the last call stopped: two calls are one longer call."""
    whole, first, second = load_scenes(n=20, size=8), load_scenes(n=10, size=8), load_scenes(n=10, size=8, start=10)
    assert torch.equal(torch.cat([first.images, second.images]), whole.images)


def test_loader_lays_digits_over_scenes():
    """A digit for every scene, independent of its shape, never shared between splits; opacity 0 leaves the scene as it is."""
    ds = load_scenes(n=3000, size=16, objects=(1, 1), digit="digits", opacity=0.8)
    plain = load_scenes(n=3000, size=16, objects=(1, 1))
    assert ds.factors["digit"].shape == (3000,) and ds.factor_names["digit"] == tuple("0123456789")
    assert not torch.equal(ds.images, plain.images) and ds.captions == plain.captions
    table = stats.contingency.crosstab(ds.factors["digit"].numpy(), ds.factors["shape"].numpy()).count
    assert stats.contingency.chi2_contingency(table).pvalue > 1e-3
    unseen = load_scenes(n=3000, size=16, objects=(1, 1), digit="digits", opacity=0.0)
    assert torch.equal(unseen.images, plain.images)
    own = load_scenes("test", n=9, size=16, digit=(torch.rand(2, 28, 28), torch.tensor([3, 4])))
    assert set(own.factors["digit"].tolist()) == {3, 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "dev"),
        ({"n": 0}, "n must"),
        ({"start": -1}, "start"),
        ({"digit": "svhn"}, "svhn"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_loader_refuses_what_does_not_exist(options, message):
    """Unknown splits, devices and digit sets, and empty requests, are errors that name the argument."""
    with pytest.raises(ValueError, match=message):
        load_scenes(**{"n": 4, "size": 8, **options})


def test_constants_fit_each_other():
    """Every name of the vocabulary belongs to one factor, so that a word in a skew or a caption is unambiguous."""
    words = [word for names in VOCABULARY.values() for word in names]
    assert len(words) == len(set(words))
    assert len(scene_render.PALETTE) == len(scene_render.TINTS) == len(COLOURS) and len(scene_render.TONES) == len(BACKGROUNDS)
    assert set(FACTS) == {fact for level in LEVELS.values() for fact in level}
    assert len(PLACES) == 9 and Mention().shape is None


FIRST_CAPTIONS = [
    "a medium solid green triangle right of a medium checkered red cross, which is above a large checkered green square, "
    "which is left of a small dotted red heart on a lilac background",
    "a medium banded blue cross left of a small dotted purple square, which is above a large checkered red circle, "
    "which is right of a small striped pink ring on an azure background",
    "a medium dotted green ring on a navy background",
]
FIRST_NUMBERS = [0.9447432537563145, 0.5719589777290821, 0.03622547280974686]
