"""Stored features of our data sets: what packaged encoders and the bridge give, so that nobody needs them installed or waits."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.checks import describe
from workbench.data.dataset import Dataset
from workbench.data.files import data_dir, read_bytes, require_split
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

FOLDER = "features"
ROW_IDS = {"emoji": "concept", "stamps": "stamp", "clipart": "drawing"}  # the factor that numbers the rows of a set
SPLITS = ("train", "val", "test")
CLASSES = 255  # the split of rows that are classes, not examples: they are part of every split


def available_features() -> dict[tuple[str, str], list[str]]:
    """What is stored: (data set, encoder) -> its parts, such as the styles of the emoji."""
    return {(name, encoder): list(_stored(str(data_dir()), name, encoder)[1]) for name, encoder in _names()}


def cached_features(
    data: str | Dataset, encoder: str, *, part: str | None = None, split: str = "train", device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    r"""Stored features of a data set, aligned with its rows, and the ids of these rows.

    Stored in 8 bits, $x = c \cdot s_j$ with one scale $s_j$ for each column: within 1 % of what the encoder gives.

    Args:
        data: a set as loaded, or its name; with the name the rows are those of `load(name, split)`.
        encoder: 'efficientnet-lite0' (pooled, 1,280), 'dinov2-s' (class token of hidden state 11, 384), both of pictures at 112
            pixels and not of length one; 'minilm' (384, unit) of names; 'lit-bridge' (128, unit) of augmented views.
        part: which pictures or texts: an emoji style ('noto', 'twemoji', ...); 'name' or 'keywords' (name and keywords) of emoji;
            'title' or 'tags' (title and tags) of clip art. The first one stored by default. For zero-shot classification
            'minilm' also has a row for each class, the mean of three prompts: 'labels', 'subgroup' of emoji, 'subfolder' of stamps.
        split: 'train', 'val', 'test' or 'all', where `data` is a name.
        device: where to put the tensors.

    Returns:
        features (n, d) float32, for augmented views (n, views, d); ids (n,) int64: `factors["concept"]` of emoji, `["stamp"]`,
        `["drawing"]` of clip art, codes of classes.

    Raises:
        UnknownNameError: a set, encoder, part or split without stored features.
        ValueError: rows that have none, such as skin tones.
        DataError: the file is missing or corrupt.

    Example:
        >>> features, concepts = cached_features("emoji", "minilm", part="name", split="test")
        >>> features.shape[1], bool((features.norm(dim=1) - 1).abs().max() < 0.02)
        (384, True)
    """
    name = data.name if isinstance(data, Dataset) else data
    stored = _names()
    if (name, encoder) not in stored:
        raise UnknownNameError("cached features", f"{name}/{encoder}", [f"{a}/{b}" for a, b in stored])
    scale, parts = _stored(str(data_dir()), name, encoder)
    part = part if part is not None else next(iter(parts))
    if part not in parts:
        raise UnknownNameError(f"part of the cached {encoder} features of {name}", part, parts)
    codes, ids, splits = parts[part]
    if len(splits) and splits[0] == CLASSES:
        at = np.arange(len(ids))
    elif isinstance(data, Dataset):
        wanted = _wanted(data)
        at = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
        absent = (ids[at] != wanted).nonzero()[0]
        if len(absent):
            raise ValueError(
                f"{len(absent)} of {len(wanted)} rows have no cached {encoder} features of {part!r} "
                f"(first: {ROW_IDS[name]} {wanted[absent[0]]}); choose the part that was loaded, or select the rows that have them"
            )
    else:
        require_split(split)
        at = np.arange(len(ids)) if split == "all" else (splits == SPLITS.index(split)).nonzero()[0]
    place = resolve_device(device)
    features = torch.from_numpy(codes[at]).to(place).float() * torch.from_numpy(scale).to(place)
    return features, torch.from_numpy(ids[at].astype(np.int64)).to(place)


def encode_features(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8-bit codes of the shape of `features` (..., d) and the scale of each column; unsigned where nothing is negative."""
    if not np.isfinite(features).all():
        raise ValueError(f"features must be finite, got {describe(torch.as_tensor(features))}")
    signed = bool((features < 0).any())
    steps, kind = (127, np.int8) if signed else (255, np.uint8)
    largest = np.abs(features).reshape(-1, features.shape[-1]).max(axis=0)
    scale = (np.where(largest > 0, largest, 1) / steps).astype(np.float32)
    return np.clip(np.round(features / scale), -steps if signed else 0, steps).astype(kind), scale


def write_features(path: Path, parts: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """Write a cache: part -> (features (n, ..., d), ids (n,), splits (n,) as in `SPLITS`); the same input gives the same bytes."""
    rows = [features.reshape(-1, features.shape[-1]) for features, _, _ in parts.values()]
    codes, scale = encode_features(np.concatenate(rows))
    arrays: dict[str, Any] = {"scale": scale}
    start = 0
    for part, (features, ids, splits) in parts.items():
        if not (np.diff(ids) > 0).all() or not len(features) == len(ids) == len(splits):
            raise ValueError(f"ids of part {part!r} must be increasing, one for each of {len(features)} rows")
        count = features.size // features.shape[-1]
        arrays[part] = codes[start : start + count].reshape(features.shape)
        arrays[f"{part}.ids"], arrays[f"{part}.splits"] = ids.astype(np.uint16), splits.astype(np.uint8)
        start += count
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def _names() -> list[tuple[str, str]]:
    paths = sorted((data_dir() / FOLDER).glob("*.npz"))
    return [(name, encoder) for name, _, encoder in (p.stem.partition("-") for p in paths)]


def _wanted(data: Dataset) -> np.ndarray:
    if "tone" in data.factors and bool((data.factors["tone"] > 0).any()):
        raise ValueError("skin-tone variants have no cached features; load the emoji with variants=False")
    return data.factors[ROW_IDS[data.name]].cpu().numpy()


@lru_cache(maxsize=8)
def _stored(folder: str, name: str, encoder: str) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Scale of the columns, and of each part its codes, row ids and splits."""
    with np.load(io.BytesIO(read_bytes(FOLDER, f"{name}-{encoder}.npz")), allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    parts = [key for key in arrays if "." not in key and key != "scale"]
    return arrays["scale"], {p: (arrays[p], arrays[f"{p}.ids"].astype(np.int64), arrays[f"{p}.splits"]) for p in parts}
