"""Pictures of any size, as our data sets hold them, to what an image model was trained on: resize, crop, normalise, on the device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.checks import describe, require_tensor
from workbench.data.files import resize
from workbench.errors import DataError

PREPROCESSOR = "preprocessor_config.json"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's codes, as preprocessor_config.json writes them


@dataclass(frozen=True)
class ImagePreparation:
    r"""Resize and normalise pictures, $x' = (x - \mu) / \sigma$ per channel.

    Attributes:
        size: height and width that the model gets.
        shortest: side to which the shorter edge is scaled before the centre is cut out; None stretches to `size`.
        mean: $\mu$ of each channel, for pictures in [0, 1].
        std: $\sigma$ of each channel.
        mode: 'bilinear', 'bicubic' or 'nearest'.
    """

    size: tuple[int, int]
    shortest: int | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    mode: str = "bilinear"

    def __call__(self, images: Tensor, *, size: int | None = None) -> Tensor:
        """Normalised float32 pictures (n, c, h, w); `size` asks for another side than the model's own.

        Args:
            images: (n, 3, h, w), uint8 or floating point in [0, 1]; (n, 1, h, w) is repeated over the channels.
            size: side in pixels, for models that take several.

        Raises:
            TypeError, ValueError: not such pictures.
        """
        images = require_pictures(images)
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        (height, width), shortest = ((size, size), None) if size else (self.size, self.shortest)
        h, w = images.shape[2:]
        if shortest and (h, w) != (shortest, shortest):
            scale = shortest / min(h, w)
            images = self._resized(images, max(round(h * scale), shortest), max(round(w * scale), shortest))
            h, w = images.shape[2:]
        if shortest:
            top, left = max(h - height, 0) // 2, max(w - width, 0) // 2
            images = images[:, :, top : top + height, left : left + width]
        images = self._resized(images, height, width)
        mean, std = (torch.tensor(list(v), device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def _resized(self, images: Tensor, height: int, width: int) -> Tensor:
        if tuple(images.shape[2:]) == (height, width):
            return images
        if height == width and images.shape[2] == images.shape[3] and self.mode == "bilinear":
            return resize(images, height)  # exactly what the loaders do, hence what our models were trained on
        options: dict[str, Any] = {} if self.mode == "nearest" else {"antialias": True, "align_corners": False}
        return torch.nn.functional.interpolate(images, size=(height, width), mode=self.mode, **options).clamp(0, 1)


def require_pictures(images: object) -> Tensor:
    """Return pictures (n, 1 or 3, h, w) as float32 in [0, 1].

    Raises:
        TypeError: not a tensor, or neither uint8 nor floating point.
        ValueError: another shape, no picture, NaN, or values outside [0, 1].
    """
    images = require_tensor(images, "images")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images must be uint8, or floating point in [0, 1], got {describe(images)}")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.numel() == 0:
        raise ValueError(f"images must have shape (n, 3, h, w) or (n, 1, h, w) with n >= 1, got {describe(images)}")
    if images.dtype == torch.uint8:
        return images.float() / 255
    low, high = (float(x) for x in images.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"images must be in [0, 1], got {low:.3g} to {high:.3g}; give pictures as they are, they are normalised here"
        )
    return images.float()


def read_preparation(folder: Path, config: Any) -> ImagePreparation:
    """What `preprocessor_config.json` asks for; without that file, the size in the model's configuration and ImageNet's colours.

    Raises:
        DataError: neither says which size the model takes, or the file cannot be read.
    """
    path = folder / PREPROCESSOR
    stored: Mapping[str, Any] = {}
    if path.exists():
        try:
            stored = json.loads(path.read_text(encoding="utf8"))
        except ValueError as error:
            raise DataError(f"{path} is not JSON ({error}); save the image processor again with save_pretrained") from None
    vision = getattr(config, "vision_config", None) or getattr(config, "encoder", None) or config
    asked = stored.get("size") if stored.get("do_resize", True) else None
    crop = stored.get("crop_size") if stored.get("do_center_crop") else None
    shortest = asked if isinstance(asked, int) and crop else asked.get("shortest_edge") if isinstance(asked, Mapping) else None
    # With a shorter edge and no crop a picture keeps its shape; our pictures are square, and so are the models' inputs.
    target = _sides(crop) or _sides(asked) or _sides(shortest) or _sides(getattr(vision, "image_size", None))
    if target is None:
        raise DataError(f"{folder} does not say which size of pictures it takes; add {PREPROCESSOR} with size and image_mean")
    normalise = stored.get("do_normalize", True)
    return ImagePreparation(
        size=target,
        shortest=int(shortest) if shortest and crop else None,
        mean=tuple(stored.get("image_mean", IMAGENET_MEAN)) if normalise else (0.0, 0.0, 0.0),
        std=tuple(stored.get("image_std", IMAGENET_STD)) if normalise else (1.0, 1.0, 1.0),
        mode=MODES.get(stored.get("resample", 2), "bilinear"),
    )


def _sides(value: object) -> tuple[int, int] | None:
    if isinstance(value, Mapping):
        if "height" in value and "width" in value:
            return int(value["height"]), int(value["width"])
        return _sides(value.get("shortest_edge"))
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return int(value[0]), int(value[1])
    return (int(value), int(value)) if isinstance(value, int) else None
