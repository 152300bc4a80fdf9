"""Small time-series classification sets of the UCR and UEA archives, with the archives' train and test parts."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.files import data_dir, read_table
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

NAMES = (
    "GunPoint",
    "ItalyPowerDemand",
    "ArrowHead",
    "OSULeaf",
    "BasicMotions",
    "JapaneseVowels",
    "PickupGestureWiimoteZ",
    "Coffee",
    "Trace",
)
SPLITS = ("train", "test", "all")


def load_series(
    split: str = "train", *, name: str = "GunPoint", length: int | None = None, device: str | torch.device = "cpu"
) -> Dataset:
    """Series of one set with its archive's split; there is no validation part (take it from train).

    Args:
        split: 'train', 'test' or 'all' (train, then test).
        name: one of `NAMES`.
        length: resample every series to this many points by linear interpolation between its own first and last point; None
            keeps the points, with zeros after the end of the shorter ones.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        `extras["series"]`: (n, channels, length) float32, as stored (most sets are z-normalised by their authors); labels: the
        classes, `label_names` their names in the archive; factors length: points of each series before any resampling. The first call
        takes 0.1 s and keeps less than 2 MB a set.

    Raises:
        UnknownNameError: split or name.
        TypeError, ValueError: length.
        DataError: the file of the set is missing or corrupt.

    Example:
        >>> ds = load_series("test", name="ItalyPowerDemand")
        >>> ds.extras["series"].shape
        torch.Size([1029, 1, 24])
    """
    if split not in SPLITS:
        raise UnknownNameError("series split", split, SPLITS)
    if name not in NAMES:
        raise UnknownNameError("series set", name, NAMES)
    if length is not None and (isinstance(length, bool) or not isinstance(length, (int, np.integer))):
        raise TypeError(f"length must be an integer number of points or None, got {type(length).__name__} {length!r}")
    if length is not None and length < 2:
        raise ValueError(f"length must be at least 2 points, got {length}")
    place = resolve_device(device)
    values, labels, splits = _series(str(data_dir()), name)
    rows = np.flatnonzero((splits == split) | (split == "all"))
    # Numbers of classes sort as numbers.
    names = sorted(set(labels.tolist()), key=lambda s: (len(s), s) if s.isdigit() else (0, s))
    points = torch.tensor([values[i].shape[1] for i in rows])
    widest = max(v.shape[1] for v in values) if length is None else length
    series = torch.zeros(len(rows), values[0].shape[0], widest)
    for at, i in enumerate(rows.tolist()):
        one = values[i]
        if length is not None and one.shape[1] != length:
            one = torch.nn.functional.interpolate(one[None], size=length, mode="linear", align_corners=True)[0]
        series[at, :, : one.shape[1]] = one
    codes = torch.tensor([names.index(label) for label in labels[rows]])
    return Dataset("series", split, None, codes, names, (), {"length": points}, extras={"series": series}).to(place)


@lru_cache(maxsize=16)
def _series(folder: str, name: str) -> tuple[list[Tensor], np.ndarray, np.ndarray]:
    table = read_table("series", "series.parquet", row_groups=[NAMES.index(name)])
    cells = zip(table["values"].to_pylist(), table["channels"].to_pylist(), strict=True)
    values = [torch.from_numpy(np.frombuffer(v, dtype="<f4").reshape(channels, -1).copy()) for v, channels in cells]
    return values, np.array(table["label"].to_pylist(), dtype=object), np.array(table["split"].to_pylist(), dtype=object)
