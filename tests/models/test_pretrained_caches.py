"""Stored features: aligned with the rows of the data, in 8 bits within their bound, and every wrong request is named."""

import numpy as np
import pytest
import torch

from workbench.data import Dataset, load
from workbench.data.emoji import STYLES
from workbench.data.files import data_dir
from workbench.errors import DataError, UnknownNameError
from workbench.metrics import recall_at_k
from workbench.models import available_features, cached_features
from workbench.models.caches import ROW_IDS, SPLITS, _stored, encode_features, write_features

IDS = {"emoji": "concept", "stamps": "stamp", "clipart": "drawing"}


@pytest.mark.parametrize("style", STYLES)
def test_rows_are_those_of_the_loader(style):
    """By name and split, by data set, and after select: the ids are the data set's own, in its order."""
    for split in SPLITS:
        data = load("emoji", split, style=style, size=8)
        features, ids = cached_features("emoji", "efficientnet-lite0", part=style, split=split)
        assert torch.equal(ids, data.factors["concept"]) and features.shape == (len(data), 1280)
        assert torch.equal(cached_features(data, "efficientnet-lite0", part=style)[0], features)
    mixed = data.select([5, 2, 2, 9])
    assert torch.equal(cached_features(mixed, "efficientnet-lite0", part=style)[0], features[[5, 2, 2, 9]])


@pytest.mark.parametrize("name", ["stamps", "clipart"])
def test_splits_of_the_other_sets(name):
    """The stored splits are the loader's, and all three together are 'all'."""
    for encoder in ("efficientnet-lite0", "minilm"):
        parts = [cached_features(name, encoder, split=s)[1] for s in SPLITS]
        for split, ids in zip(SPLITS, parts, strict=True):
            assert torch.equal(ids, load(name, split, size=8).factors[IDS[name]])
        assert torch.equal(torch.cat(parts).sort().values, cached_features(name, encoder, split="all")[1])


def test_features_mean_something():
    """Image features find the same emoji in another style far above chance, and names find their own keywords."""
    data = load("emoji", "test", style=("noto", "twemoji"), size=8)
    a, b = (cached_features(data, "efficientnet-lite0", part=p)[0] for p in ("noto", "twemoji"))
    assert recall_at_k(a, b).at[1] > 0.4 > 100 / len(data)
    names, keywords = (cached_features(data, "minilm", part=p)[0] for p in ("name", "keywords"))
    assert recall_at_k(names, keywords).at[1] > 0.8
    # One image off by a row would leave chance.
    assert recall_at_k(a, b.roll(1, dims=0)).at[1] < 0.1


def test_class_prompts_are_one_row_a_class():
    """Rows follow label_names and factor_names, whatever the split; animals are nearest to animals."""
    stamps = load("stamps", "test", size=8)
    prompts, codes = cached_features(stamps, "minilm", part="labels")
    assert len(prompts) == len(stamps.label_names) and codes.tolist() == list(range(len(prompts)))
    assert len(cached_features("emoji", "minilm", part="subgroup", split="val")[0]) == len(load("emoji").factor_names["subgroup"])
    captions = cached_features(stamps, "minilm")[0]
    right = ((captions @ prompts.T).argmax(dim=1) == stamps.labels).float().mean()
    assert right > 0.5


def test_unit_rows_stay_unit():
    """Texts were stored at length one; rounding moves the length by less than a percent."""
    for name in IDS:
        rows = cached_features(name, "minilm", split="all")[0]
        assert (rows.norm(dim=1) - 1).abs().max() < 0.01


def test_rounding_is_within_half_a_step(tmp_path):
    """|x - c s| <= s / 2 for every entry, signed and unsigned; a column of zeros stays zero."""
    rng = np.random.default_rng(0)
    for features in (rng.normal(size=(50, 7)), rng.random((50, 7))):
        features[:, 3] = 0
        codes, scale = encode_features(features.astype(np.float32))
        assert (np.abs(codes * scale - features) <= scale / 2 + 1e-6).all()
        assert codes.dtype == (np.int8 if (features < 0).any() else np.uint8) and (codes[:, 3] == 0).all()
    with pytest.raises(ValueError, match="must be finite"):
        encode_features(np.array([[np.nan]]))
    rows = (features.astype(np.float32), np.arange(50), np.zeros(50))
    for file in ("a.npz", "b.npz"):
        write_features(tmp_path / file, {"x": rows, "y": (np.repeat(rows[0][:, None], 2, axis=1), *rows[1:])})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(ValueError, match="must be increasing"):
        write_features(tmp_path / "c.npz", {"x": (rows[0], np.zeros(50, dtype=int), rows[2])})


def test_wrong_requests_are_named():
    """Sets, encoders, parts, splits and rows that have no stored features."""
    with pytest.raises(UnknownNameError, match="did you mean 'emoji/dinov2-s'"):
        cached_features("emoji", "dinov2")
    with pytest.raises(UnknownNameError, match="cached features 'mnist/minilm'"):
        cached_features("mnist", "minilm")
    with pytest.raises(UnknownNameError, match="part of the cached minilm features of stamps 'title'; known: caption"):
        cached_features("stamps", "minilm", part="title")
    with pytest.raises(UnknownNameError, match="split 'dev'"):
        cached_features("stamps", "minilm", split="dev")
    with pytest.raises(ValueError, match=r"61 of 378 rows have no cached .* features of 'fluent'"):
        cached_features(load("emoji", "test", size=8), "efficientnet-lite0", part="fluent")
    with pytest.raises(ValueError, match="skin-tone variants have no cached features"):
        cached_features(load("emoji", "test", size=8, variants=True), "minilm")
    with pytest.raises(UnknownNameError, match="'own/minilm'"):
        cached_features(Dataset("own", captions=["a"]), "minilm")


def test_damaged_cache_is_refused(tmp_path, monkeypatch):
    """A flipped byte is found by its checksum before anything is unpacked."""
    folder = tmp_path / "features"
    folder.mkdir()
    for file in ("SHA256SUMS", "stamps-minilm.npz"):
        (folder / file).write_bytes((data_dir() / "features" / file).read_bytes())
    content = bytearray((folder / "stamps-minilm.npz").read_bytes())
    content[1000] ^= 1
    (folder / "stamps-minilm.npz").write_bytes(content)
    monkeypatch.setenv("WORKBENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match="corrupt"):
        cached_features("stamps", "minilm")
    _stored.cache_clear()


def test_everything_listed_opens():
    """Every stored file belongs to a set with row ids, and holds finite features in every part."""
    found = available_features()
    assert len(found) >= 8
    for (name, encoder), parts in found.items():
        assert name in ROW_IDS
        for part in parts:
            features, ids = cached_features(name, encoder, part=part, split="all")
            assert torch.isfinite(features).all() and len(features) == len(ids) > 0 and features.abs().sum() > 0
