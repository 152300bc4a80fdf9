"""Clip art: counts, cleaned titles, splits that share no title, series or picture."""

import re
from collections import Counter
from functools import cache

import pytest
import torch

from workbench.data.clipart import load_clipart
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")
COUNTS = (2684, 370, 772)


@cache
def whole(**options):
    """All rows, loaded once for all tests with the same options."""
    return load_clipart("all", **options)


def test_counts():
    """Every drawing is in one split; shares are near 70 / 10 / 20 in every folder of 60 drawings or more."""
    ds = whole()
    assert ds.images.shape == (sum(COUNTS), 3, 32, 32)
    rows = {split: load_clipart(split, size=4) for split in SPLITS}
    assert tuple(len(rows[s]) for s in SPLITS) == COUNTS
    assert torch.equal(torch.cat([rows[s].factors["drawing"] for s in SPLITS]).sort().values, torch.arange(len(ds)))
    folders = torch.stack([rows[s].labels.bincount(minlength=len(ds.label_names)) for s in SPLITS]).float()
    big = folders.sum(0) >= 60
    share = folders[:, big] / folders.sum(0)[big]
    assert big.sum() >= 10 and (share - torch.tensor([[0.7], [0.1], [0.2]])).abs().max() < 0.12


def test_no_title_or_series_is_in_two_splits():
    """A title without numbers belongs to one split, and so does a series of file names; families are never divided."""
    owners = ({}, {}, {})
    repeats = 0
    for split in SPLITS:
        ds = load_clipart(split, size=4)
        for caption, name, family in zip(ds.captions, ds.extras["name"], ds.factors["family"].tolist(), strict=True):
            title = re.sub(r"[\W\d_]+", " ", caption.casefold()).strip()
            repeats += title in owners[0]
            for owner, key in zip(owners, (title, re.sub(r"\d+", "", name), family), strict=True):
                assert owner.setdefault(key, split) == split, key
    assert repeats > 300


def test_no_nearly_identical_picture_is_in_two_splits():
    """Pictures of different splits differ by more than 0.05 RMS at 32 px; inside a split some do not."""
    parts = [load_clipart(split, background=None).images.flatten(1) for split in SPLITS]
    scale = parts[0].shape[1] ** 0.5
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert torch.cdist(parts[i], parts[j]).min() / scale > 0.0499
    within = torch.cdist(parts[1], parts[1]) + torch.eye(len(parts[1])) * scale
    assert within.min() / scale < 0.05


def test_captions_are_cleaned():
    """Themes, computed stars, cards and logos are gone; captions have a word, no running number and no name of a collection."""
    ds = whole()
    for name in ds.extras["name"]:
        assert not name.startswith(("computer/icons/", "shapes/stars/", "recreation/games/cards/", "special/", "logos/"))
    assert all(re.search(r"[^\W\d_]{2}", c) and "_" not in c and c == c.strip() for c in ds.captions)
    assert not [c for c in ds.captions if re.search(r"Clipart by|Various Cliparts|AIGA|Flat Icon|\.svg", c)]
    assert sum(bool(re.search(r"\d$", c)) for c in ds.captions) < 0.01 * len(ds)
    assert Counter(ds.captions).most_common(1)[0][1] < 70
    row = {name: i for i, name in enumerate(ds.extras["name"])}
    for name, caption in (
        ("animals/mammals/big_cats/tigre03_architetto_franc_01", "Tigre"),
        ("signs_and_symbols/map_symbols/aiga_bus1", "bus"),
        ("signs_and_symbols/flags/america/brazil", "Brazil"),
        ("tools/weapons/sword_01", "Sword"),
    ):
        assert ds.captions[row[name]] == caption
    assert "hash" not in {t for tags in ds.extras["tags"] for t in tags}


def test_own_titles_are_a_subset():
    """own_titles=True keeps exactly the rows marked so."""
    titled = whole(own_titles=True)
    ds = whole()
    keep = ds.factors["own_title"] == 1
    assert 0.5 * len(ds) < len(titled) == int(keep.sum()) < len(ds)
    assert titled.captions == ds.select(keep).captions


def test_pictures_belong_to_their_rows():
    """The flags of Japan and Ireland, by name, have the colours of those countries."""
    ds = whole(size=32, background=(1.0, 1.0, 1.0))
    row = {name.rsplit("/", 1)[1]: i for i, name in enumerate(ds.extras["name"]) if ds.factors["flag"][i]}
    japan, ireland = ds.images[row["japan"]], ds.images[row["ireland"]]
    assert japan[0, 16, 16] > 0.6 and japan[1:, 16, 16].max() < 0.4 and japan[:, 16, 4].min() > 0.9
    assert ireland[:, 16, 5].argmax() == 1 and ireland[:, 16, 16].min() > 0.9 and ireland[:, 16, 27].argmax() == 0
    assert int(ds.factors["flag"].sum()) > 300


def test_a_set_is_not_changed_through_another():
    """Writing into a loaded set leaves the next load as it was."""
    first = load_clipart("val", size=8)
    first.images.zero_()
    first.factors["family"].zero_()
    first.extras["tags"][0].append("mine")
    again = load_clipart("val", size=8)
    assert again.images.sum() > 0 and again.factors["family"].sum() > 0 and "mine" not in again.extras["tags"][0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split": "dev"}, UnknownNameError, "clipart split 'dev'"),
        ({"own_titles": 1}, TypeError, "own_titles must be True or False"),
        ({"size": 2}, ValueError, "size must be from 4"),
        ({"background": 3}, ValueError, "background must be"),
    ],
)
def test_bad_options(options, error, words):
    """Each wrong option is refused with its name, what came and what is known."""
    with pytest.raises(error, match=re.escape(words)):
        load_clipart(**options)
