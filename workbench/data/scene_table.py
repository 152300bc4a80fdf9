"""Procedural scenes as data: what is in each picture, drawn from a hash of (seed, index), before any pixel exists.

Scene i of a seed is the same in whatever batch, order or split it is asked for: every random number is a hash of
(seed, index, purpose), so nothing depends on the state of a generator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import UnknownNameError

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "diamond")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
TEXTURES = ("solid", "striped", "dotted", "checkered", "banded", "halved")
SIZES = ("small", "medium", "large")
BACKGROUNDS = ("white", "grey", "cream", "mint", "peach", "lilac", "azure", "navy")
VOCABULARY: dict[str, tuple[str, ...]] = {
    "background": BACKGROUNDS,
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "size": SIZES,
}
GRADIENTS = 5  # plain, and four directions of a soft gradient
UNIT = 1000  # x, y and radius are whole thousandths of the picture's side
MARGIN = 5  # free space around every object, so that two neighbours never touch

_OBJECT_COLUMNS = ("present", "shape", "colour", "texture", "size", "x", "y", "radius", "angle")
_SCENE_COLUMNS = ("index", "background", "gradient")


@dataclass(frozen=True, eq=False)
class SceneTable:
    """n scenes with up to k objects each, as tensors of integers; `dataclasses.replace` makes scenes of your own.

    Objects are painted in slot order, a later one over an earlier one. An empty slot holds zeros.

    Attributes:
        index: (n,) number of each scene; edits keep it.
        background: (n,) code in `BACKGROUNDS`.
        gradient: (n,) 0 for a plain background, 1 to 4 for the direction of a soft gradient.
        present: (n, k) True where the slot holds an object.
        shape, colour, texture, size: (n, k) codes in `SHAPES`, `COLOURS`, `TEXTURES`, `SIZES`.
        x, y: (n, k) centre, in thousandths of the side from the left and from the top.
        radius: (n, k) radius of the circle that encloses the object, in thousandths of the side.
        angle: (n, k) rotation in whole degrees, clockwise.
        seed: the seed that the scenes were drawn with.
        grid: objects stand in the cells of a grid x grid board, at most one in each.
        radii: radius of a small, a medium and a large object as a fraction of the side.
    """

    index: Tensor
    background: Tensor
    gradient: Tensor
    present: Tensor
    shape: Tensor
    colour: Tensor
    texture: Tensor
    size: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    seed: int = 0
    grid: int = 2
    radii: tuple[float, float, float] = (0.11, 0.155, 0.21)

    def __post_init__(self) -> None:
        if self.present.ndim != 2 or self.present.dtype != torch.bool:
            raise ValueError(f"present must be a (n, k) tensor of bool, got {self.present.dtype} {tuple(self.present.shape)}")
        for name, column in self.columns().items():
            wanted = self.present.shape if name in _OBJECT_COLUMNS else self.present.shape[:1]
            if column.shape != wanted:
                raise ValueError(f"{name} must have shape {tuple(wanted)}, got {tuple(column.shape)}")
            if name != "present" and column.dtype != torch.int64:
                raise TypeError(f"{name} must be int64, got {column.dtype}")
            codes = len(VOCABULARY[name]) if name in VOCABULARY else GRADIENTS if name == "gradient" else 0
            if codes and column.numel() and not 0 <= int(column.min()) <= int(column.max()) < codes:
                raise ValueError(f"{name} must lie in 0..{codes - 1}, got {int(column.min())}..{int(column.max())}")
        if (self.radius[self.present] <= 0).any():
            raise ValueError("radius must be positive wherever an object is present")

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"SceneTable({len(self):,} scenes of up to {self.slots} objects, seed {self.seed}, grid {self.grid})"

    @property
    def slots(self) -> int:
        """Largest number of objects in a scene."""
        return self.present.shape[1]

    @property
    def count(self) -> Tensor:
        """(n,) number of objects in each scene."""
        return self.present.sum(1)

    @property
    def cell(self) -> Tensor:
        """(n, k) cell of the grid that each object stands in, row by row from the top left; -1 for an empty slot."""
        column, row = (self.x * self.grid).div(UNIT, rounding_mode="floor"), (self.y * self.grid).div(UNIT, rounding_mode="floor")
        return torch.where(self.present, row.clamp(0, self.grid - 1) * self.grid + column.clamp(0, self.grid - 1), -1)

    def columns(self) -> dict[str, Tensor]:
        """Every tensor by name."""
        return {name: getattr(self, name) for name in (*_SCENE_COLUMNS, *_OBJECT_COLUMNS)}

    def select(self, rows: Tensor | Sequence[int] | slice) -> SceneTable:
        """The scenes of these rows: indices, a boolean mask or a slice."""
        key = rows if isinstance(rows, slice) else torch.as_tensor(rows, device=self.index.device)
        return self._with({name: column[key] for name, column in self.columns().items()})

    def to(self, device: str | torch.device) -> SceneTable:
        """The same scenes with their tensors on another device."""
        return self._with({name: column.to(device) for name, column in self.columns().items()})

    def _with(self, columns: dict[str, Any]) -> SceneTable:
        return dataclasses.replace(self, **columns)


def uniform(seed: int, index: Tensor, *purpose: int) -> Tensor:
    """(n,) float64 in [0, 1): a hash of (seed, index, purpose), the same for an index in any batch."""
    # The finaliser of splitmix64 is a bijection, so two scenes of one seed never share a number by collision of states.
    h = _mix(index * _GOLDEN + _signed(seed * 0xD1342543DE82EF95 + 0x632BE59BD9B4E019))
    for step in purpose:
        h = _mix(h ^ _signed((step + 1) * 0x9E3779B97F4A7C15))
    # 32 bits are exact in float64 and stay below 1 after any multiplication with a total.
    return ((h >> 32) & 0xFFFFFFFF).double() * 2.0**-32


def place_in_cell(cell: Tensor, u: Tensor, radius: Tensor, grid: int) -> Tensor:
    """Centre (one coordinate, in thousandths) of an object that keeps inside its cell; the cell's middle where it is too large."""
    low, high = reach(cell, radius, grid)
    return low + (u * (high - low + 1)).long()


def reach(cell: Tensor, radius: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest centre (one coordinate) that keep an object of this radius inside its cell, or at least the frame."""
    low = (cell * UNIT).div(grid, rounding_mode="floor") + radius + MARGIN
    high = ((cell + 1) * UNIT).div(grid, rounding_mode="floor") - radius - MARGIN
    middle = ((2 * cell + 1) * UNIT).div(2 * grid, rounding_mode="floor")
    middle = torch.minimum(torch.maximum(middle, radius + MARGIN), UNIT - radius - MARGIN)
    return torch.where(low <= high, low, middle), torch.where(low <= high, high, middle)


def pick(mass: Tensor, u: Tensor) -> Tensor:
    """(n,) codes drawn with probability proportional to the rows of `mass` (n, c), by inversion of u in [0, 1)."""
    edges = mass.cumsum(1)
    return (edges <= u[:, None] * edges[:, -1:]).sum(1).clamp(max=mass.shape[1] - 1)


def code_of(factor: str, name: str | int) -> int:
    """Code of a name in the vocabulary of `factor` (a code comes back as it is, checked)."""
    names = VOCABULARY[factor]
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool) and 0 <= name < len(names):
        return int(name)
    if name not in names:
        raise UnknownNameError(factor, name, names)
    return names.index(str(name))


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ ((z >> 30) & (2**34 - 1))) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & (2**37 - 1))) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & (2**33 - 1))
