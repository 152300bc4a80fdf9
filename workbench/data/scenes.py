"""Procedural scenes: pictures with captions whose every factor is known, and edits that change exactly one of them.

    scenes = sample_scenes(1000, seed=0, objects=(2, 3))        # what is in the pictures, as integers
    images, text = render(scenes, size=64), captions(scenes, level="relations")
    edit = counterfactual(scenes, "colour")                      # one object of each scene in another colour
    images_edited, text_edited = render(edit.scenes, size=64), captions(edit.scenes, level="relations")

`load_scenes` wraps this in the shape that every loader returns.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.scene_captions import FACTS, LEVELS, PLACES, RELATIONS, Description, Mention, captions, describe
from workbench.data.scene_edits import FACTORS, Edit, counterfactual, edit, editable, swap_attributes, swappable
from workbench.data.scene_parser import parse_caption
from workbench.data.scene_render import masks, overlay_digits, render
from workbench.data.scene_sampling import long_tail, sample_scenes
from workbench.data.scene_table import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES, VOCABULARY, SceneTable, uniform
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

SPLITS = {"train": (0, 4096), "val": (2**40, 1024), "test": (2**41, 1024)}  # number of the first scene, rows by default


def load_scenes(
    split: str = "train",
    *,
    n: int | None = None,
    size: int = 32,
    seed: int = 0,
    start: int = 0,
    objects: tuple[int, int] = (1, 4),
    caption_level: str | Sequence[str] = "short",
    wording: int | None = 0,
    digit: str | tuple[Tensor, Tensor] | None = None,
    opacity: float = 1.0,
    device: str | torch.device = "cpu",
    **sampling: Any,
) -> Dataset:
    """Procedural scenes with captions and known factors, rendered on the spot; nothing is stored.

    Args:
        split: 'train', 'val' or 'test': ranges of scene numbers that do not meet.
        n: number of scenes (default 4,096 for train, 1,024 for val and test); any number, each scene is new.
        size: side of the pictures in pixels.
        seed: which world; the same seed in all splits keeps them apart.
        start: skip this many scenes of the split, to stream through it without repeating one.
        objects: fewest and most objects in a scene.
        caption_level: level of detail, see `describe`.
        wording: wording of the captions, see `describe`.
        digit: lay a digit over every picture: 'digits' or 'mnist' (those of this split), or your own (images (m, h, w) in [0, 1],
            labels (m,)), such as ten digits that come again and again.
        opacity: how easy the digit is to see, in [0, 1].
        device: where to render and keep the tensors.
        **sampling: vocabulary and skews, see `sample_scenes`.

    Returns:
        images, captions, and factors: shape, colour, texture, size and background for scenes of one object (labels are the
        shapes), count and background for others; digit where there is one. `scenes_of(dataset)` gives the scenes back, for masks,
        edits and other captions.

    Example:
        >>> ds = load_scenes("val", n=8, objects=(1, 1))
        >>> ds.images.shape, ds.captions[0]
        (torch.Size([8, 3, 32, 32]), 'a brown star')
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    first, rows = SPLITS[split]
    rows = rows if n is None else n
    if rows < 1 or start < 0 or start + rows > 2**40:
        raise ValueError(f"n must be at least 1 and start at least 0, and a split has 2**40 scenes; got n={rows}, start={start}")
    target = resolve_device(device)
    scenes = sample_scenes(rows, seed=seed, start=first + start, objects=objects, **sampling)
    images = render(scenes, size, device=target)
    single = tuple(objects) == (1, 1)
    factors: dict[str, Tensor] = {"background": scenes.background}
    if single:
        factors |= {name: getattr(scenes, name)[:, 0] for name in ("shape", "colour", "texture", "size")}
    else:
        factors |= {"count": scenes.count}
    names: dict[str, Sequence[str]] = {name: VOCABULARY[name] for name in factors if name in VOCABULARY}
    extras = dict(scenes.columns())
    world = {"seed": torch.tensor(scenes.seed), "grid": torch.tensor(scenes.grid), "radii": torch.tensor(scenes.radii)}
    extras |= {name: value.expand(rows, *value.shape) for name, value in world.items()}
    if digit is not None:
        drawings, values = _digits(digit, split) if isinstance(digit, str) else digit
        which = (uniform(seed, scenes.index, 300) * len(values)).long()
        images = overlay_digits(images, drawings[which.to(drawings.device)].to(target), opacity=opacity)
        factors["digit"], extras["digit_index"] = values[which.to(values.device)].long().cpu(), which
        names["digit"] = tuple(str(i) for i in range(10))
    return Dataset(
        name="scenes",
        split=split,
        images=images,
        labels=factors["shape"].to(target) if single else None,
        label_names=SHAPES if single else (),
        captions=captions(scenes, caption_level, wording=wording),
        factors={name: value.to(target) for name, value in factors.items()},
        factor_names=names,
        extras={name: value.to(target) for name, value in extras.items()},
    )


def scenes_of(dataset: Dataset) -> SceneTable:
    """The scenes behind the rows of a data set from `load_scenes`, also after `select`.

    Raises:
        ValueError: the data set did not come from `load_scenes`, or has no rows.
    """
    columns = [field.name for field in dataclasses.fields(SceneTable)]
    if not len(dataset) or not set(columns) <= set(dataset.extras):
        raise ValueError(f"dataset must come from load_scenes and have rows, got {dataset!r}")
    values: dict[str, Any] = {name: dataset.extras[name] for name in columns}
    values |= {"seed": int(values["seed"][0]), "grid": int(values["grid"][0])}
    return SceneTable(**{**values, "radii": tuple(round(float(r), 6) for r in values["radii"][0])})


def _digits(name: str, split: str) -> tuple[Tensor, Tensor]:
    if name not in ("digits", "mnist"):
        raise UnknownNameError("digit set", name, ("digits", "mnist"))
    source = getattr(importlib.import_module(f"workbench.data.{name}"), f"load_{name}")(split)
    return source.images[:, 0], source.labels


__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "FACTORS",
    "FACTS",
    "LEVELS",
    "PLACES",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "TEXTURES",
    "VOCABULARY",
    "Description",
    "Edit",
    "Mention",
    "SceneTable",
    "captions",
    "counterfactual",
    "describe",
    "edit",
    "editable",
    "load_scenes",
    "long_tail",
    "masks",
    "overlay_digits",
    "parse_caption",
    "render",
    "sample_scenes",
    "scenes_of",
    "swap_attributes",
    "swappable",
]
