"""Series: the archives' sizes, exact values, padding and resampling."""

import pytest
import torch

from workbench.data.files import verify
from workbench.data.series import NAMES, load_series
from workbench.errors import UnknownNameError

SHAPES = {
    "GunPoint": (50, 150, 1, 150, 2),
    "ItalyPowerDemand": (67, 1029, 1, 24, 2),
    "ArrowHead": (36, 175, 1, 251, 3),
    "OSULeaf": (200, 242, 1, 427, 6),
    "BasicMotions": (40, 40, 6, 100, 4),
    "JapaneseVowels": (270, 370, 12, 29, 9),
    "PickupGestureWiimoteZ": (50, 50, 1, 361, 10),
    "Coffee": (28, 28, 1, 286, 2),
    "Trace": (100, 100, 1, 275, 4),
}


def test_checksums_and_names():
    """Files are as recorded and every set has a shape to check."""
    verify("series")
    assert set(NAMES) == set(SHAPES)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_of_the_archive(name):
    """Numbers of series, channels, points and classes; no series is in both parts; classes are the same in both."""
    train, test, n, m, channels, length, classes = load_series(name=name), load_series("test", name=name), *SHAPES[name]
    assert train.extras["series"].shape == (n, channels, length) and test.extras["series"].shape == (m, channels, length)
    assert len(train.label_names) == classes and train.labels.unique().numel() == test.labels.unique().numel() == classes
    assert torch.isfinite(train.extras["series"]).all()
    both = {s.numpy().tobytes() for s in train.extras["series"]} & {s.numpy().tobytes() for s in test.extras["series"]}
    assert not both
    assert len(load_series("all", name=name)) == n + m


def test_values_of_the_first_series():
    """The first GunPoint series begins as in the archive, and is z-normalised."""
    first = load_series().extras["series"][0, 0]
    torch.testing.assert_close(first[:3], torch.tensor([-0.6478854, -0.64199155, -0.63818632]))
    assert abs(first.mean()) < 1e-4 and abs(first.std() - 1) < 1e-3


def test_short_series_are_padded_and_resampling_keeps_the_ends():
    """Zeros after the end, lengths recorded; at another length the first and last points stay."""
    ds = load_series(name="JapaneseVowels")
    lengths = ds.factors["length"]
    assert lengths.min() == 7 and lengths.max() == 26
    row = int(lengths.argmin())
    assert (ds.extras["series"][row, :, 7:] == 0).all() and (ds.extras["series"][row, :, 6] != 0).any()
    other = load_series(name="JapaneseVowels", length=16)
    assert other.extras["series"].shape == (270, 12, 16)
    torch.testing.assert_close(other.extras["series"][row][:, [0, -1]], ds.extras["series"][row][:, [0, 6]])
    load_series().extras["series"].zero_()
    assert load_series().extras["series"].abs().sum() > 0


def test_classes_can_be_told_apart():
    """One nearest neighbour is far above chance, so labels belong to their series."""
    for name, least in (("GunPoint", 0.85), ("ItalyPowerDemand", 0.9), ("JapaneseVowels", 0.85), ("BasicMotions", 0.5)):
        train, test = load_series(name=name), load_series("test", name=name)
        near = torch.cdist(test.extras["series"].flatten(1), train.extras["series"].flatten(1)).argmin(1)
        assert (train.labels[near] == test.labels).float().mean() > least, name


def test_bad_options():
    """There is no val part; unknown sets and impossible lengths are refused."""
    for options, error in (
        ({"split": "val"}, UnknownNameError),
        ({"name": "ECG200"}, UnknownNameError),
        ({"length": 1}, ValueError),
        ({"length": 8.0}, TypeError),
    ):
        with pytest.raises(error):
            load_series(**options)
