"""Emoji: 1,911 concepts, each drawn in up to four styles and named in 26 languages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

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
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

STYLES = ("noto", "twemoji", "openmoji", "fluent")
HELD_OUT_STYLE = "openmoji"  # no shipped weights and no pretraining run may see it: it measures domain shift
# fmt: off
LANGUAGES = (
    "en", "bn", "da", "de", "es", "et", "fi", "fr", "hi", "hu", "it", "ja", "ko", "lt",
    "ms", "nb", "nl", "pl", "pt", "ru", "sv", "th", "uk", "vi", "zh", "zh-hant",
)
# fmt: on
VARIANT_KINDS = ("none", "gender", "direction", "gender and direction", "skin tone")


def load_emoji(
    split: str = "train",
    *,
    style: str | Sequence[str] = "noto",
    size: int = 32,
    language: str = "en",
    flags: bool = True,
    background: Sequence[float] | None = (1.0, 1.0, 1.0),
    variants: bool = False,
    device: str | torch.device = "cpu",
) -> Dataset:
    """Emoji pictures with names, keywords, groups and fixed splits by family of concepts.

    Rows come in the order of `factors["concept"]`, so two styles of one split are aligned wherever both have the concept.
    Several styles at once keep only the concepts that all of them draw, row by row.

    Args:
        split: 'train' (70 %), 'val' (10 %), 'test' (20 %) or 'all'. No family of concepts, hence no pair of near-identical
            pictures of any style, is in two splits.
        style: 'noto', 'twemoji', 'openmoji' (held out of all pretraining) or 'fluent' (1,595 concepts); or several: the first
            fills `images`, each other one `extras["images_<style>"]`.
        size: side of the pictures in pixels; stored at 64. Resized premultiplied, on `device`.
        language: language of the captions and keywords, one of `LANGUAGES`.
        flags: False drops the group 'Flags', 270 concepts that nobody can name from unseen pictures.
        background: colour behind the drawing, three numbers in [0, 1]; None gives 4 channels, premultiplied RGBA.
        variants: True adds the skin-tone variants, each after its concept and in its concept's split.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        images (n, 3, size, size); labels: the ten groups; captions: the names; factors, as codes:

        - subgroup, concept (0 to 1,910, Unicode order), family (its first concept), flag (0 or 1);
        - variant_of: the neutral concept of a gendered, turned or toned one, else -1; variant_kind; tone (skin tone);
        - twin: the first concept with exactly this picture in this style, -1 where the picture is unique
          (keep the rows with `(twin < 0) | (twin == concept)` to drop repeats); twin_<style> for the further styles.

        extras: hexcode, emoji (the character), keywords (a list for each row).
        The first call for a style decodes it, about 0.3 s, and keeps 31 MB (62 MB with variants) for the later ones.

    Raises:
        UnknownNameError: split, style or language.
        TypeError, ValueError: size or background.
        DataError: a file of the set is missing or corrupt.

    Example:
        >>> ds = load_emoji("test", style="twemoji")
        >>> ds.images.shape[1:], ds.captions[0], ds.label_names[ds.labels[0]]
        (torch.Size([3, 32, 32]), 'slightly smiling face', 'Smileys & Emotion')
    """
    require_split(split, "emoji split")
    styles = _require_styles(style)
    if language not in LANGUAGES:
        raise UnknownNameError("language", language, LANGUAGES)
    size, background = require_size(size), require_background(background)
    place = resolve_device(device)

    folder = str(data_dir())
    items = _items(folder)
    stored = {s: _pictures(folder, s, bool(variants)) for s in styles}
    keep = (items["split"] == split) | (split == "all")
    if not flags:
        keep &= items["group"] != "Flags"
    for rows, _ in stored.values():
        keep &= rows >= 0
    index = keep.nonzero()[0]
    index = index[np.argsort(items["concept"][index], kind="stable")]  # each variant right after its concept

    pictures = {}
    for s, (rows, pixels) in stored.items():
        pictures[s] = compose(pixels[torch.from_numpy(rows[index])].to(place), size, background)
    factors, factor_names = _factors(items, index, styles)
    names, keywords = (items["name"], items["keywords"]) if language == "en" else _names(folder, language)
    extras: dict[str, Any] = {
        "hexcode": items["hexcode"][index].tolist(),
        "emoji": ["".join(chr(int(c, 16)) for c in code.split("-")) for code in items["hexcode"][index]],
        "keywords": [list(words) for words in keywords[index]],
        **{f"images_{s}": pictures[s] for s in styles[1:]},
    }
    groups = list(dict.fromkeys(items["group"].tolist()))
    labels = _codes(items["group"][index], groups)
    data = Dataset("emoji", split, pictures[styles[0]], labels, groups, names[index].tolist(), factors, factor_names, extras)
    return data.to(place)


def _require_styles(style: object) -> tuple[str, ...]:
    styles = (style,) if isinstance(style, str) else tuple(style) if isinstance(style, Sequence) else (style,)
    for s in styles:
        if s not in STYLES:
            raise UnknownNameError("emoji style", s, STYLES)
    if not styles or len(set(styles)) < len(styles):
        raise ValueError(f"style must name one or several different styles of {', '.join(STYLES)}, got {style!r}")
    return styles


def _codes(values: np.ndarray, names: Sequence[str]) -> Tensor:
    code = {name: i for i, name in enumerate(names)}
    return torch.tensor([code[v] for v in values.tolist()], dtype=torch.int64)


def _factors(
    items: dict[str, np.ndarray], index: np.ndarray, styles: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, Sequence[str]]]:
    concepts = items["name"][items["tone"] == "none"].tolist()
    names: dict[str, Sequence[str]] = {
        "subgroup": list(dict.fromkeys(items["subgroup"].tolist())),
        "variant_kind": VARIANT_KINDS,
        "tone": list(dict.fromkeys(items["tone"].tolist())),
    }
    twin = {"twin": f"twin_{styles[0]}", **{f"twin_{s}": f"twin_{s}" for s in styles[1:]}}
    numbers = {"concept": "concept", "family": "family", "variant_of": "variant_of", **twin}
    factors = {name: _codes(items[name][index], codes) for name, codes in names.items()}
    factors |= {name: torch.from_numpy(items[column][index].astype(np.int64)) for name, column in numbers.items()}
    factors["flag"] = torch.from_numpy((items["group"][index] == "Flags").astype(np.int64))
    return factors, {**names, "concept": concepts, "family": concepts}


@lru_cache(maxsize=2)
def _items(folder: str) -> dict[str, np.ndarray]:
    table = read_table("emoji", "items.parquet")
    return {name: _column(table, name) for name in table.schema.names}


@lru_cache(maxsize=32)
def _names(folder: str, language: str) -> tuple[np.ndarray, np.ndarray]:
    columns = [f"name_{language}", f"keywords_{language}"]
    table = read_table("emoji", "names.parquet", columns=columns)
    return _column(table, columns[0]), _column(table, columns[1])


def _column(table: Any, name: str) -> np.ndarray:
    values = table[name].to_pylist()
    if values and isinstance(values[0], int):
        return np.array(values, dtype=np.int64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@lru_cache(maxsize=16)
def _pictures(folder: str, style: str, variants: bool) -> tuple[np.ndarray, Tensor]:
    """Row of each item in the pixels (-1: not drawn, or a variant that was not asked for), and the (n, 4, 64, 64) pixels."""
    # The first row group holds the concepts, the second the skin-tone variants.
    table = read_table("emoji", f"{style}.parquet", columns=["item", "image"], row_groups=[int(variants)])
    pixels = torch.from_numpy(decode_pictures(table["image"].to_pylist()))
    rows = np.full(len(_items(folder)["concept"]), -1)
    if variants:
        rows, concepts = _pictures(folder, style, False)
        rows, pixels = rows.copy(), torch.cat([concepts, pixels])
    item = table["item"].to_pylist()
    rows[item] = np.arange(len(pixels) - len(item), len(pixels))
    return rows, pixels
