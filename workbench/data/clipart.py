"""Clip art: public-domain drawings by many hands, with titles and tags."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.files import (
    compose,
    data_dir,
    decode_pictures,
    read_table,
    require_background,
    require_size,
    require_split,
)
from workbench.runtime import resolve_device


def load_clipart(
    split: str = "train",
    *,
    size: int = 32,
    own_titles: bool = False,
    background: Sequence[float] | None = (1.0, 1.0, 1.0),
    device: str | torch.device = "cpu",
) -> Dataset:
    """Clip art with titles and tags as people gave them, and fixed splits by family.

    Args:
        split: 'train' (70 %), 'val' (10 %), 'test' (20 %) or 'all'. No title, series of drawings or nearly identical picture is
            in two splits.
        size: side of the pictures in pixels; stored at 64. Resized premultiplied, on `device`.
        own_titles: True keeps only the drawings whose caption is their own title; the captions of the others come from their
            file names (or a tag), since their title names a collection.
        background: colour behind the drawing, three numbers in [0, 1]; None gives 4 channels, premultiplied RGBA.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        images (n, 3, size, size); labels: the 19 top folders; captions: titles without running numbers; factors: drawing (0 to
        n - 1 over all splits), family (its first drawing), own_title and flag (0 or 1); extras: tags (a list for each row),
        name (path of the file), creator. The first call takes 1.5 s and keeps 60 MB for the later ones.

    Raises:
        UnknownNameError: split.
        TypeError, ValueError: size, background or own_titles.
        DataError: a file of the set is missing or corrupt.

    Example:
        >>> ds = load_clipart("test")
        >>> ds.images.shape[1:], ds.captions[0], ds.extras["tags"][0][:3]
        (torch.Size([3, 32, 32]), 'dead frogs', ['animal', 'bog', 'dead'])
    """
    require_split(split, "clipart split")
    if not isinstance(own_titles, bool):
        raise TypeError(f"own_titles must be True or False, got {own_titles!r}")
    size, background = require_size(size), require_background(background)
    place = resolve_device(device)
    items, pixels = _items(str(data_dir()))
    keep = (items["split"] == split) | (split == "all")
    if own_titles:
        keep &= items["own_title"].astype(bool)
    index = keep.nonzero()[0]

    folders = list(dict.fromkeys(items["folder"].tolist()))
    code = {name: i for i, name in enumerate(folders)}
    labels = torch.tensor([code[f] for f in items["folder"][index]], dtype=torch.int64)
    flag = ["/flags/" in name for name in items["name"][index]]
    factors = {"drawing": torch.from_numpy(index), "flag": torch.tensor(flag, dtype=torch.int64)}
    factors |= {c: torch.from_numpy(items[c][index].astype(np.int64)) for c in ("family", "own_title")}
    names = items["name"].tolist()
    extras = {
        "tags": [list(tags) for tags in items["tags"][index]],
        "name": items["name"][index].tolist(),
        "creator": items["creator"][index].tolist(),
    }
    images = compose(pixels[torch.from_numpy(index)].to(place), size, background)
    factor_names = {"drawing": names, "family": names}
    captions = items["caption"][index].tolist()
    return Dataset("clipart", split, images, labels, folders, captions, factors, factor_names, extras).to(place)


@lru_cache(maxsize=2)
def _items(folder: str) -> tuple[dict[str, np.ndarray], Tensor]:
    table = read_table("clipart", "items.parquet")
    pixels = torch.from_numpy(decode_pictures(table["image"].to_pylist()))
    items = {c: np.array(table[c].to_pylist()) for c in ("family", "own_title")}
    for name in ("name", "folder", "caption", "tags", "creator", "split"):
        items[name] = np.empty(len(table), dtype=object)
        items[name][:] = table[name].to_pylist()
    return items, pixels
