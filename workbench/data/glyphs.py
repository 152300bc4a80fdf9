"""Glyphs: letters and digits of fifteen font families, turned and sized by known amounts."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from workbench.checks import require_positive
from workbench.data.dataset import Dataset
from workbench.data.files import data_dir, read_table, require_size, require_split, resize
from workbench.runtime import resolve_device

CHARACTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
FACES = ("regular", "bold", "italic")
STORED = 48  # pixels


def load_glyphs(
    split: str = "train",
    *,
    copies: int = 4,
    angle: float = 45.0,
    scale: tuple[float, float] = (0.6, 1.0),
    size: int = 32,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Dataset:
    """62 characters in the faces of fifteen font families, each drawn `copies` times at a random angle and size: regression targets.

    Whole font families are held out: val and test show the same characters in families that train never shows.

    Args:
        split: 'train' (nine families), 'val' (two), 'test' (four) or 'all'.
        copies: pictures of each stored glyph.
        angle: largest turn in degrees; angles are uniform in [-angle, angle].
        scale: smallest and largest size, 1 being the stored one; uniform between them.
        size: side in pixels; stored at 48.
        seed: of angles and sizes; the same seed gives the same pictures on every device.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        images (n, 1, size, size), ink 1 on paper 0; labels: the character; factors angle (degrees, counter-clockwise), scale,
        family, face and glyph (row of the stored picture). The first call takes 0.3 s and keeps 6 MB for the later ones.

    Raises:
        UnknownNameError: split.
        TypeError, ValueError: copies, angle, scale or size.
        DataError: the file of the set is missing or corrupt.

    Example:
        >>> ds = load_glyphs("test", copies=1)
        >>> ds.images.shape, sorted(ds.factors)
        (torch.Size([558, 1, 32, 32]), ['angle', 'face', 'family', 'glyph', 'scale'])
    """
    require_split(split, "glyphs split")
    size, place = require_size(size), resolve_device(device)
    if isinstance(copies, bool) or not isinstance(copies, int):
        raise TypeError(f"copies must be a positive integer, got {copies!r}")
    if copies < 1:
        raise ValueError(f"copies must be a positive integer, got {copies}")
    if not 0 <= angle <= 180:
        raise ValueError(f"angle must be in [0, 180] degrees, got {angle}")
    least, most = scale
    require_positive(least, "scale[0]")
    if not least <= most <= 1:
        raise ValueError(f"scale must be (smallest, largest) with smallest <= largest <= 1, got {scale}")

    pixels, columns, families = _glyphs(str(data_dir()))
    stored = np.flatnonzero((columns["split"] == split) | (split == "all"))
    rows = np.tile(stored, copies)
    chance = np.random.default_rng(seed)
    turns = torch.from_numpy(chance.uniform(-angle, angle, len(rows)).astype(np.float32))
    sizes = torch.from_numpy(chance.uniform(least, most, len(rows)).astype(np.float32))
    images = pixels[torch.from_numpy(rows)].to(place).float() / 255
    return Dataset(
        "glyphs",
        split,
        images=resize(turned(images, turns.to(place), sizes.to(place)), size),
        labels=torch.from_numpy(columns["character"][rows]).to(place),
        label_names=CHARACTERS,
        factors={
            "angle": turns.to(place),
            "scale": sizes.to(place),
            "family": torch.from_numpy(columns["family"][rows]).to(place),
            "face": torch.from_numpy(columns["face"][rows]).to(place),
            "glyph": torch.from_numpy(rows).to(place),
        },
        factor_names={"family": families, "face": FACES},
    )


def turned(images: Tensor, degrees: Tensor, scale: Tensor) -> Tensor:
    """Pictures (n, c, h, h) turned counter-clockwise about the centre by `degrees` (n,) and shrunk to `scale` (n,)."""
    radians = degrees * (math.pi / 180)
    # The grid says where each output pixel comes from (the inverse map), with y pointing down.
    cos, sin, zero = radians.cos() / scale, radians.sin() / scale, torch.zeros_like(scale)
    theta = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@lru_cache(maxsize=2)
def _glyphs(folder: str) -> tuple[Tensor, dict[str, np.ndarray], tuple[str, ...]]:
    table = read_table("glyphs", "glyphs.parquet")
    pixels = np.frombuffer(b"".join(table["pixels"].to_pylist()), dtype=np.uint8).reshape(-1, 1, STORED, STORED)
    texts = {c: table[c].to_pylist() for c in ("character", "family", "face", "split")}
    families = tuple(sorted(set(texts["family"])))
    codes = {"character": CHARACTERS, "family": families, "face": FACES}
    columns = {c: np.array([names.index(t) for t in texts[c]], dtype=np.int64) for c, names in codes.items()}
    columns["split"] = np.array(texts["split"], dtype=object)
    return torch.from_numpy(pixels.copy()), columns, families
