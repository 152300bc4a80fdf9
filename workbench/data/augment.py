"""Batched augmentations on tensors, on any device: named recipes over kornia, each image with parameters of its own.

kornia draws from torch's global generators. Give `seed` to make one call reproducible and leave the global state as it was;
without it, `workbench.seed_everything` at the start makes a whole run reproducible.

Flips are off except in 'simclr': a mirrored digit, letter or arrow is another one, and "left of" becomes false.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from workbench.checks import describe, require_tensor
from workbench.errors import UnknownNameError


def _in_range(name: str, value: float, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    if not least <= value <= most or math.isinf(value):
        raise ValueError(f"{name} must lie in [{least:g}, {most:g}], got {value}")


@dataclass(frozen=True)
class Recipe:
    """Strength of each augmentation; a zero (or a range of (1, 1)) switches it off. Applied in the order listed.

    Attributes:
        crop: smallest and largest share of the area that a random crop (aspect 3/4 to 4/3) keeps, or None.
        rotation: largest rotation in degrees, either way.
        shift: largest shift as a fraction of the side, either way, in each direction.
        zoom: smallest and largest magnification (0.5 shows the picture at half size). What comes in at the edges repeats the border.
        shear: largest shear in degrees.
        flip: chance of a mirror image (left and right exchanged).
        colour: brightness, contrast and saturation change by a factor of up to 1 +- colour.
        hue: largest turn of the hue, as a share of the colour circle (at most 0.5).
        colour_chance: chance that an image gets its colour and hue changed.
        grey: chance of a grey picture.
        blur: chance of a Gaussian blur.
        blur_sigma: smallest and largest standard deviation of the blur, in pixels.
        noise: standard deviation of added Gaussian noise.
        erase: chance that a rectangle (2 to 33 % of the area) is set to 0.
    """

    crop: tuple[float, float] | None = None
    rotation: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    flip: float = 0.0
    colour: float = 0.0
    hue: float = 0.0
    colour_chance: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    noise: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "colour_chance", "grey", "blur", "erase"):
            _in_range(name, getattr(self, name), 0, 1)
        for name, most in (("rotation", 180), ("shift", 1), ("shear", 89), ("colour", 1), ("hue", 0.5), ("noise", math.inf)):
            _in_range(name, getattr(self, name), 0, most)
        for name, least, most in (("crop", 0.0, 1.0), ("zoom", 0.0, math.inf), ("blur_sigma", 0.0, math.inf)):
            value = getattr(self, name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, name, value)  # lists from a parameter file; a recipe must be hashable
            if value is not None and not (len(value) == 2 and least < value[0] <= value[1] <= most and math.isfinite(value[1])):
                raise ValueError(f"{name} must be a pair (smallest, largest) above {least:g} and at most {most:g}, got {value!r}")


RECIPES = {
    "none": Recipe(),
    # Area seen 0.6 to 1.1: on small pictures as good as harsher crops, and colour and crop must come together.
    "mild": Recipe(rotation=20, shift=0.1, zoom=(1.1**-0.5, 0.6**-0.5), colour=0.3, hue=0.03, grey=0.05),
    # SimCLR (Chen et al. 2020, arXiv 2002.05709), appendix B.9: the settings for small pictures, strength 0.5 and no blur.
    "simclr": Recipe(crop=(0.08, 1.0), flip=0.5, colour=0.4, hue=0.1, colour_chance=0.8, grey=0.2),
    # Digits and other signs: geometry only.
    "affine": Recipe(rotation=15, shift=0.1, zoom=(0.9, 1.1), shear=8),
}
Augmentation = str | Recipe | Callable[[Tensor], Tensor]


def augment(
    images: Tensor, recipe: Augmentation = "mild", *, size: int | None = None, seed: int | None = None, **changes: Any
) -> Tensor:
    """One random view of every image.

    Args:
        images: (n, c, h, w) floating point in [0, 1]; colour, hue and grey need c = 3.
        recipe: a name in `RECIPES`, a `Recipe`, or any function of a batch of images.
        size: side of the result in pixels (default: the input's).
        seed: makes this call reproducible without touching the global generators.
        **changes: fields of `Recipe` that replace those of the recipe, such as `flip=0.5`.

    Returns:
        (n, c, h, w) in [0, 1], or (n, c, size, size). The images themselves where the recipe does nothing.

    Raises:
        TypeError: not a floating point tensor.
        ValueError: wrong rank, no images, values outside [0, 1] or not finite, a strength out of range, or colour on grey images.
        UnknownNameError: an unknown recipe or field.

    Example:
        >>> images = torch.rand(8, 3, 32, 32)
        >>> augment(images, "simclr", size=24, seed=0).shape
        torch.Size([8, 3, 24, 24])
        >>> torch.equal(augment(images, "none"), images)
        True
    """
    images = _require_images(images)
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"size must be a whole number of pixels, got {size!r}")
    with _seeded(seed, images.device):
        if callable(recipe) and not isinstance(recipe, (str, Recipe)):
            if changes or size is not None:
                raise ValueError(f"a function as recipe takes no further options, got {sorted(changes) or ['size']}")
            return recipe(images)
        chosen = resolve_recipe(recipe, **changes)
        if images.shape[1] != 3 and (chosen.colour or chosen.hue or chosen.grey):
            raise ValueError(f"colour, hue and grey need images with 3 channels, got {describe(images)}; set them to 0")
        shape = (size, size) if size is not None else tuple(images.shape[-2:])
        resize = shape != tuple(images.shape[-2:])
        out = images
        for step in _steps(chosen, shape, resize, images.device):
            out = step(out)
    return out if out is images else out.clamp(0, 1)


def two_views(
    images: Tensor, recipe: Augmentation = "mild", *, size: int | None = None, seed: int | None = None, **changes: Any
) -> tuple[Tensor, Tensor]:
    """Two independent random views of every image: row i of both comes from image i. Arguments as in `augment`."""
    # The generators run on between the calls, so the views differ also with a seed.
    with _seeded(seed, require_tensor(images, "images").device):
        return augment(images, recipe, size=size, **changes), augment(images, recipe, size=size, **changes)


def multi_crop(
    images: Tensor,
    recipe: str | Recipe = "simclr",
    *,
    n_global: int = 2,
    n_local: int = 4,
    global_size: int | None = None,
    local_size: int | None = None,
    global_area: tuple[float, float] = (0.14, 1.0),
    local_area: tuple[float, float] = (0.05, 0.14),
    seed: int | None = None,
    **changes: Any,
) -> list[Tensor]:
    """A few large views and several small, cheap ones of every image.

    Args:
        images: (n, c, h, w) in [0, 1].
        recipe: everything but the crop.
        n_global, n_local: number of large and of small views.
        global_size, local_size: their sides in pixels (default: the image's, and half of it).
        global_area, local_area: share of the area that their crops keep.
        seed: makes this call reproducible.
        **changes: fields of `Recipe`.

    Returns:
        n_global tensors (n, c, global_size, global_size), then n_local tensors (n, c, local_size, local_size).

    Raises:
        ValueError: as `augment`, or a negative number of views.

    Source:
        SwAV (Caron et al. 2020, arXiv 2006.09882), section 3.2; areas as in the authors' code.

    Example:
        >>> [tuple(view.shape[-2:]) for view in multi_crop(torch.rand(2, 3, 32, 32), n_local=1)]
        [(32, 32), (32, 32), (16, 16)]
    """
    images = _require_images(images)
    if n_global < 0 or n_local < 0 or n_global + n_local == 0:
        raise ValueError(f"n_global and n_local must not be negative, and not both 0, got {n_global} and {n_local}")
    global_size = images.shape[-1] if global_size is None else global_size
    local_size = max(1, global_size // 2) if local_size is None else local_size
    chosen = resolve_recipe(recipe, **changes)
    plan = [(global_size, global_area)] * n_global + [(local_size, local_area)] * n_local
    with _seeded(seed, images.device):
        return [augment(images, replace(chosen, crop=area), size=size) for size, area in plan]


def resolve_recipe(recipe: str | Recipe = "mild", **changes: Any) -> Recipe:
    """The recipe of that name, with some fields changed.

    Raises:
        UnknownNameError: an unknown recipe or field.
        TypeError: neither a name nor a `Recipe`.

    Example:
        >>> resolve_recipe("affine", rotation=5).rotation
        5
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UnknownNameError("augmentation recipe", recipe, RECIPES)
        recipe = RECIPES[recipe]
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a name, a Recipe or a function, got {describe(recipe)}")
    known = [field.name for field in fields(Recipe)]
    for name in changes:
        if name not in known:
            raise UnknownNameError("augmentation option", name, known)
    return replace(recipe, **changes)


@functools.lru_cache(maxsize=64)
def _steps(recipe: Recipe, shape: tuple[int, int], resize: bool, device: torch.device) -> tuple[Callable[[Tensor], Tensor], ...]:
    import kornia.augmentation as K  # here: importing kornia costs a second

    steps: list[Callable[[Tensor], Tensor]] = []
    if recipe.crop is not None and recipe.crop != (1.0, 1.0):
        steps.append(K.RandomResizedCrop(shape, scale=recipe.crop, cropping_mode="resample"))
    elif resize:
        resample = functools.partial(torch.nn.functional.interpolate, size=shape, mode="bilinear", antialias=True)
        steps.append(resample)
    if recipe.rotation or recipe.shift or recipe.shear or recipe.zoom != (1.0, 1.0):
        shift, turn = (recipe.shift, recipe.shift), recipe.rotation
        steps.append(K.RandomAffine(turn, translate=shift, scale=recipe.zoom, shear=recipe.shear, p=1.0, padding_mode="border"))
    if recipe.flip:
        steps.append(K.RandomHorizontalFlip(p=recipe.flip))
    if (recipe.colour or recipe.hue) and recipe.colour_chance:
        steps.append(K.ColorJitter(recipe.colour, recipe.colour, recipe.colour, recipe.hue, p=recipe.colour_chance))
    if recipe.grey:
        # kornia 0.9.0 fails with its default weights; these are the luma weights of ITU-R BT.601.
        weights = torch.tensor([0.299, 0.587, 0.114], device=device)
        steps.append(K.RandomGrayscale(rgb_weights=weights, p=recipe.grey))
    if recipe.blur:
        # The kernel reaches two standard deviations to each side, and reflection needs it smaller than the picture.
        half = min(math.ceil(2 * recipe.blur_sigma[1]), min(shape) - 1)
        steps.append(K.RandomGaussianBlur((2 * half + 1, 2 * half + 1), recipe.blur_sigma, p=recipe.blur))
    if recipe.noise:
        steps.append(K.RandomGaussianNoise(std=recipe.noise, p=1.0))
    if recipe.erase:
        steps.append(K.RandomErasing(p=recipe.erase))
    return tuple(steps)


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed, which would also seed devices that are not restored here.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _require_images(images: object) -> Tensor:
    images = require_tensor(images, "images")
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point in [0, 1], got {describe(images)}; divide bytes by 255")
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"images must have shape (n, c, h, w) and not be empty, got {describe(images)}")
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):  # a NaN fails both
        raise ValueError(f"images must be finite and lie in [0, 1], got values from {low:g} to {high:g}")
    return images


__all__ = ["RECIPES", "Recipe", "augment", "multi_crop", "resolve_recipe", "two_views"]
