"""Emoji: counts, splits that leak nothing, rows that stay aligned, pictures and names that are what they claim."""

import re
from functools import cache

import numpy as np
import pytest
import torch

from workbench.data.emoji import HELD_OUT_STYLE, LANGUAGES, STYLES, VARIANT_KINDS, load_emoji
from workbench.data.files import read_table
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")


@cache
def whole(style="noto", size=32, background=(1.0, 1.0, 1.0), variants=False):
    """All rows of one style, loaded once for all tests."""
    return load_emoji("all", style=style, size=size, background=background, variants=variants)


def caption_rows(ds):
    """Row of each caption."""
    return {caption: i for i, caption in enumerate(ds.captions)}


def test_counts():
    """1,911 concepts in three styles, 1,595 in Fluent, 1,875 skin-tone variants, ten groups, 99 subgroups, 270 flags."""
    for style, concepts, variants in (
        ("noto", 1911, 1875),
        ("twemoji", 1911, 1875),
        ("openmoji", 1911, 1875),
        ("fluent", 1595, 1550),
    ):
        assert len(whole(style)) == concepts
        assert len(whole(style, size=8, variants=True)) == concepts + variants
    ds = whole()
    assert ds.images.shape == (1911, 3, 32, 32) and ds.images.dtype == torch.float32
    counts = dict(zip(ds.label_names, ds.labels.bincount().tolist(), strict=True))
    assert counts == {
        "Smileys & Emotion": 169,
        "People & Body": 386,
        "Component": 5,
        "Animals & Nature": 159,
        "Food & Drink": 131,
        "Travel & Places": 218,
        "Activities": 85,
        "Objects": 264,
        "Symbols": 224,
        "Flags": 270,
    }
    assert len(ds.factor_names["subgroup"]) == 99 and ds.factors["flag"].sum() == 270
    assert len(set(ds.captions)) == len(set(ds.extras["hexcode"])) == len(set(ds.extras["emoji"])) == 1911
    assert HELD_OUT_STYLE == "openmoji" and HELD_OUT_STYLE in STYLES


def test_split_sizes():
    """About 70 / 10 / 20 in all, and every group but the five swatches is in every split near its share."""
    rows = {split: load_emoji(split, size=8) for split in SPLITS}
    assert [len(rows[s]) for s in SPLITS] == [1341, 192, 378]
    groups = torch.stack([rows[s].labels.bincount(minlength=10) for s in SPLITS]).float()
    share = groups / groups.sum(0)
    big = groups.sum(0) > 5
    assert big.sum() == 9 and (share[:, big] - torch.tensor([[0.7], [0.1], [0.2]])).abs().max() < 0.05
    assert torch.equal(torch.cat([rows[s].factors["concept"] for s in SPLITS]).sort().values, torch.arange(1911))


def test_families_never_cross_splits():
    """A family, a concept and a variant of a concept have one split, with variants and without."""
    for variants in (False, True):
        seen = {"family": {}, "concept": {}}
        for split in SPLITS:
            ds = load_emoji(split, size=8, variants=variants)
            for name, owner in seen.items():
                for code in ds.factors[name].tolist():
                    assert owner.setdefault(code, split) == split, (name, code)
            of = ds.factors["variant_of"]
            assert torch.isin(of[of >= 0], ds.factors["concept"]).all()
        assert len(seen["concept"]) == 1911 and len(seen["family"]) == 1516


@pytest.mark.parametrize("style", STYLES)
def test_no_picture_is_in_two_splits(style):
    """No two pixel-identical pictures of a style, variants included, and no two concepts that look nearly alike, cross splits."""
    owner, repeats = {}, 0
    for split in SPLITS:
        ds = load_emoji(split, style=style, size=64, background=None, variants=True)
        for picture in ds.images:
            key = picture.numpy().tobytes()
            repeats += key in owner
            assert owner.setdefault(key, split) == split
    assert repeats > 0  # there are twins to leak
    parts = [load_emoji(split, style=style, background=None).images.flatten(1) for split in SPLITS]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert torch.cdist(parts[i], parts[j]).min() / parts[0].shape[1] ** 0.5 > 0.0499


def test_names_that_differ_in_who_is_shown_share_a_family():
    """'man X', 'woman X' and 'person X' are one family: checked by substitution on all 1,911 names, without the builder's rule."""
    ds, found = whole(), 0
    row = caption_rows(ds)
    for caption, i in row.items():
        for other in ("man", "person"):
            swapped = re.sub(r"\bwoman\b", other, caption)
            if swapped != caption and swapped in row:
                found += 1
                assert ds.factors["family"][row[swapped]] == ds.factors["family"][i], (caption, swapped)
    assert found > 80
    for names in (("farmer", "man farmer"), ("prince", "princess"), ("merman", "mermaid"), ("keycap: 3", "keycap: 8")):
        assert len({int(ds.factors["family"][row[n]]) for n in names}) == 1, names
    for names in (("dog face", "cat face"), ("pizza", "hamburger"), ("teacher", "judge")):
        assert len({int(ds.factors["family"][row[n]]) for n in names}) == 2, names


def test_variants_say_what_they_are_variants_of():
    """Gender, direction and skin tone are links to the neutral concept, by name; every toned row follows its concept."""
    ds = whole(size=8, variants=True)
    row, concept = caption_rows(ds), ds.factors["concept"]
    names = ds.factor_names["concept"]

    def facts(caption):
        i = row[caption]
        of = int(ds.factors["variant_of"][i])
        kind, tone = VARIANT_KINDS[ds.factors["variant_kind"][i]], ds.factor_names["tone"][ds.factors["tone"][i]]
        return names[of] if of >= 0 else None, kind, tone

    assert facts("woman farmer") == ("farmer", "gender", "none")
    assert facts("person walking: facing right") == ("person walking", "direction", "none")
    assert facts("man walking: facing right") == ("person walking", "gender and direction", "none")
    assert facts("farmer: dark skin tone") == ("farmer", "skin tone", "dark")
    assert facts("farmer") == facts("pizza") == (None, "none", "none")
    toned = ds.factors["tone"] > 0
    assert toned.sum() == 1875 and torch.equal(ds.factors["variant_of"][toned], concept[toned])
    assert torch.equal(concept, concept.sort().values)
    first = torch.cat([torch.tensor([True]), concept[1:] != concept[:-1]])
    assert torch.equal(first, ~toned)


def test_twins_are_exactly_the_identical_pictures():
    """The twin factor equals a search by pixels in every style; dropping repeats leaves every picture once."""
    for style, concepts, pictures in (("noto", 25, 11), ("twemoji", 43, 10), ("openmoji", 65, 32), ("fluent", 2, 1)):
        ds = whole(style, size=64, background=None)
        groups: dict[bytes, list[int]] = {}
        for picture, concept in zip(ds.images, ds.factors["concept"].tolist(), strict=True):
            groups.setdefault(picture.numpy().tobytes(), []).append(concept)
        expected = {c: min(g) for g in groups.values() if len(g) > 1 for c in g}
        twin, concept = ds.factors["twin"], ds.factors["concept"]
        assert {int(c): int(t) for c, t in zip(concept, twin, strict=True) if t >= 0} == expected
        assert len(expected) == concepts and len(set(expected.values())) == pictures
        assert int(((twin < 0) | (twin == concept)).sum()) == len(groups)


@pytest.mark.parametrize("split", ["test", "all"])
def test_styles_are_aligned_row_by_row(split):
    """Two styles of a split have the same concepts in the same order; asking for both at once gives the same pictures."""
    noto, twemoji = load_emoji(split), load_emoji(split, style="twemoji")
    assert torch.equal(noto.factors["concept"], twemoji.factors["concept"]) and noto.captions == twemoji.captions
    both = load_emoji(split, style=("noto", "twemoji"))
    assert torch.equal(both.images, noto.images) and torch.equal(both.extras["images_twemoji"], twemoji.images)
    assert torch.equal(both.factors["twin_twemoji"], twemoji.factors["twin"])
    assert torch.equal(both.factors["twin"], noto.factors["twin"])
    assert not torch.equal(noto.factors["twin"], twemoji.factors["twin"])
    assert not torch.equal(noto.images, twemoji.images)
    fluent, three = load_emoji(split, style="fluent"), load_emoji(split, style=("openmoji", "fluent"))
    assert torch.equal(three.factors["concept"], fluent.factors["concept"]) and len(fluent) < len(noto)
    assert torch.equal(three.extras["images_fluent"], fluent.images)
    at = torch.searchsorted(noto.factors["concept"], fluent.factors["concept"])
    assert [noto.captions[i] for i in at.tolist()] == fluent.captions


def test_styles_show_the_same_things():
    """Colour and shape find the same concept in another style far above chance: pictures belong to their rows."""
    noto = torch.nn.functional.avg_pool2d(whole().images, 4).flatten(1)
    have = whole("fluent").factors["concept"]
    for style, at_least in (("twemoji", 0.3), ("openmoji", 0.05), ("fluent", 0.15)):
        other = torch.nn.functional.avg_pool2d(whole(style).images, 4).flatten(1)
        concepts = have if style == "fluent" else torch.arange(1911)
        found = torch.cdist(other, noto).argmin(1)
        assert (found == concepts).float().mean() > at_least, style
    row = caption_rows(whole())
    for name, channel in (("red heart", 0), ("green heart", 1), ("blue heart", 2)):
        for style in STYLES:
            ds = whole(style)
            centre = ds.images[caption_rows(ds)[name], :, 14:18, 12:20].mean((1, 2))
            assert int(centre.argmax()) == channel, (name, style)
        assert row[name] < 1911


def test_sizes_and_backgrounds_come_from_the_same_drawing():
    """32 px is the block mean of 64 px; None gives premultiplied colour; a background is laid under it."""
    full = load_emoji("val", size=64, background=None).images
    assert full.shape == (192, 4, 64, 64)
    assert (full[:, :3] <= full[:, 3:] + 1e-6).all() and 0.05 < full[:, 3].mean() < 0.95
    half = load_emoji("val", background=None).images
    np.testing.assert_allclose(half.numpy(), full.numpy().reshape(192, 4, 32, 2, 32, 2).mean((3, 5)), atol=1e-6)
    grey = load_emoji("val", background=(0.2, 0.4, 0.6)).images
    under = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1) * (1 - half[:, 3:])
    torch.testing.assert_close(grey, half[:, :3] + under)
    assert load_emoji("val", size=50).images.shape == (192, 3, 50, 50)


def test_names_in_every_language():
    """Each concept and variant has a name and each concept keywords in 26 languages, and languages are aligned by concept."""
    assert len(LANGUAGES) == len(set(LANGUAGES)) == 26
    tables = {"en": read_table("emoji", "items.parquet"), "xx": read_table("emoji", "names.parquet")}
    for language in LANGUAGES:
        names, keywords = ("name", "keywords") if language == "en" else (f"name_{language}", f"keywords_{language}")
        table = tables["en" if language == "en" else "xx"]
        captions = table[names].to_pylist()
        assert len(captions) == 3786 and all(c.strip() for c in captions) and all(table[keywords].to_pylist())
        assert len(set(captions[:1911])) == 1911  # no two concepts share a name, so no translation pair can cross splits
    row = caption_rows(whole())
    for language, dog, pizza in (("fr", "tête de chien", "pizza"), ("de", "Hundegesicht", "Pizza"), ("ja", "イヌの顔", "ピザ")):
        ds = load_emoji("all", size=4, language=language)
        assert ds.captions == tables["xx"][f"name_{language}"].to_pylist()[:1911]
        assert ds.captions[row["dog face"]].lower() == dog.lower() and ds.captions[row["pizza"]].lower() == pizza.lower()
    assert "dog" in whole().extras["keywords"][row["dog face"]] and whole().extras["emoji"][row["dog face"]] == "\N{DOG FACE}"


def test_flags_can_be_dropped():
    """flags=False removes the group Flags and nothing else."""
    with_flags, without = load_emoji("test"), load_emoji("test", flags=False)
    keep = with_flags.factors["flag"] == 0
    assert 0 < len(without) == int(keep.sum()) < len(with_flags)
    assert without.captions == with_flags.select(keep).captions
    assert "Flags" not in {without.label_names[i] for i in without.labels.tolist()}


def test_a_set_is_not_changed_through_another():
    """Writing into a loaded set leaves the next load as it was."""
    first = load_emoji("val")
    first.images.zero_()
    first.factors["concept"].zero_()
    first.extras["keywords"][0].clear()
    again = load_emoji("val")
    assert again.images.sum() > 0 and again.factors["concept"].sum() > 0 and again.extras["keywords"][0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "validation"}, UnknownNameError, "emoji split 'validation'"),
        ({"style": "apple"}, UnknownNameError, "emoji style 'apple'"),
        ({"style": "openmojis"}, UnknownNameError, "did you mean 'openmoji'"),
        ({"style": ("noto", "apple")}, UnknownNameError, "emoji style 'apple'"),
        ({"style": ("noto", "noto")}, ValueError, "different styles"),
        ({"style": ()}, ValueError, "one or several"),
        ({"style": 3}, UnknownNameError, "emoji style 3"),
        ({"language": "klingon"}, UnknownNameError, "language 'klingon'"),
        ({"size": 0}, ValueError, "size must be from 4"),
        ({"size": 32.5}, TypeError, "size must be an integer"),
        ({"background": (0, 0, 255)}, ValueError, "divide 8-bit colours by 255"),
        ({"device": "tpu9"}, UnknownNameError, "device 'tpu9'"),
    ],
)
def test_bad_options(options, error, words):
    """Each wrong option is refused with its name, what came and what is known."""
    with pytest.raises(error, match=re.escape(words)):
        load_emoji(**options)
