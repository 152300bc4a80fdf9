"""Edits of scenes that change one known thing: counterfactual pictures, and captions that are false by one word."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.data.scene_table import MARGIN, UNIT, VOCABULARY, SceneTable, code_of, pick, place_in_cell, reach, uniform
from workbench.errors import UnknownNameError

FACTORS = ("shape", "colour", "texture", "size", "position", "presence", "background", "relation")
_SWAPS = ("shape", "colour", "texture", "size")


@dataclass(frozen=True, eq=False)
class Edit:
    """Scenes after an edit.

    Attributes:
        scenes: the edited scenes; row i comes from row i of the originals.
        factor: what was changed.
        slots: (n, 2) slots of the objects concerned; -1 where there is no second object, or none at all (background).
    """

    scenes: SceneTable
    factor: str
    slots: Tensor


def edit(scenes: SceneTable, row: int, slot: int, factor: str, value: str | int) -> SceneTable:
    """The same scenes with one factor of one object of one scene set to a value.

    Args:
        scenes: the scenes.
        row: the scene to change.
        slot: the object to change (any, for the background).
        factor: 'shape', 'colour', 'texture', 'size', 'position', 'presence' or 'background'.
        value: a name of the factor's vocabulary or its code; a cell of the grid for 'position'; 0 (take it away) for 'presence'.
            A new size keeps the object in its cell, so its centre may move a little.

    Raises:
        IndexError: no such row or slot.
        UnknownNameError: a factor or name that does not exist.
        ValueError: an empty slot, or a cell that is taken or outside the grid.
    """
    if not 0 <= row < len(scenes) or not 0 <= slot < scenes.slots:
        raise IndexError(f"row {row}, slot {slot} is out of range for {len(scenes)} scenes of {scenes.slots} slots")
    if factor not in FACTORS[:-1]:
        raise UnknownNameError("factor of one object", factor, FACTORS[:-1])
    if factor != "background" and not scenes.present[row, slot]:
        raise ValueError(f"slot {slot} of row {row} is empty; there is no {factor} to change")
    if factor in VOCABULARY:
        value = code_of(factor, value)
    elif factor == "presence" and value != 0:
        raise ValueError(
            f"presence can only be set to 0, got {value!r}; dataclasses.replace fills a slot with an object of your own"
        )
    elif factor == "position" and (value not in range(scenes.grid**2) or value in scenes.cell[row].tolist()):
        raise ValueError(f"position must be a free cell of 0..{scenes.grid**2 - 1}, got {value!r}")
    one = torch.arange(len(scenes), device=scenes.index.device) == row
    return _set(scenes, one, torch.full_like(scenes.index, slot), factor, torch.full_like(scenes.index, int(value)))


def editable(scenes: SceneTable, factor: str, *, values: Sequence[str] | None = None) -> Tensor:
    """(n,) bool: the scenes in which `counterfactual` can change this factor."""
    if factor == "relation":
        return scenes.count >= 2
    return _choices(scenes, factor, values).flatten(1).any(1)


def counterfactual(scenes: SceneTable, factor: str, *, seed: int = 0, values: Sequence[str] | None = None) -> Edit:
    """Change exactly one factor of exactly one object in every scene (for 'relation', two objects change places).

    Pixels outside the object's old and new mask keep their bits (except for 'background'). A new shape is never that of another
    object in the scene, so the caption of the original is false for the edit at every level that names the factor.

    Args:
        scenes: the originals.
        factor: one of 'shape', 'colour', 'texture', 'size', 'position' (another cell), 'presence' (an object is taken away),
            'background', 'relation'.
        seed: which object and which new value; the choice depends on the scene's index, not on its row.
        values: names that the new value may take (default: the whole vocabulary).

    Returns:
        The edited scenes. Both captions: `captions(scenes)` and `captions(edit.scenes)`.

    Raises:
        UnknownNameError: a factor or value that does not exist.
        ValueError: scenes in which nothing can be changed; `scenes.select(editable(scenes, factor))` leaves them out.

    Example:
        >>> from workbench.data.scenes import captions, sample_scenes
        >>> scenes = sample_scenes(1, seed=2, objects=(2, 2))
        >>> captions(scenes) + captions(counterfactual(scenes, "shape").scenes)
        ['a pink circle and a purple diamond', 'a pink circle and a purple triangle']
    """
    home, scenes = scenes.index.device, scenes.to("cpu")  # float64, which the draws need, does not exist on every device
    if factor == "relation":
        slots = _pair(scenes, torch.ones(scenes.slots, scenes.slots, dtype=torch.bool), seed, "relation")
        return Edit(_exchange(scenes, slots, ("x", "y"), refit=True).to(home), factor, slots.to(home))
    choices = _choices(scenes, factor, values)
    _require(choices.flatten(1).any(1), f"cannot change the {factor}", f"scenes.select(editable(scenes, {factor!r}))")
    key = FACTORS.index(factor)
    slot = pick(choices.any(2).double(), uniform(seed, scenes.index, 200, key))
    value = pick(choices[torch.arange(len(scenes)), slot].double(), uniform(seed, scenes.index, 201, key))
    edited = _set(scenes, torch.ones_like(slot, dtype=torch.bool), slot, factor, value)
    nobody = torch.full_like(slot, -1)
    slots = torch.stack([nobody if factor == "background" else slot, nobody], 1)
    return Edit(edited.to(home), factor, slots.to(home))


def swap_attributes(scenes: SceneTable, factor: str = "colour", *, seed: int = 0) -> Edit:
    """Exchange one attribute between two objects: "a red circle and a blue star" becomes "a blue circle and a red star".

    The two objects differ in that attribute and in shape (in colour, for a swap of shapes), so the new caption has the same words
    and, where no shape occurs twice, is false for the old picture: the hard negative for a bag of words.
    `counterfactual(scenes, "relation")` is its counterpart for word order.

    Raises:
        UnknownNameError: not one of 'shape', 'colour', 'texture', 'size'.
        ValueError: scenes without such a pair.
    """
    if factor not in _SWAPS:
        raise UnknownNameError("attribute", factor, _SWAPS)
    home, scenes = scenes.index.device, scenes.to("cpu")
    slots = _pair(scenes, _swappable(scenes, factor), seed, f"attribute {factor}")
    names = ("size", "radius") if factor == "size" else (factor,)
    return Edit(_exchange(scenes, slots, names, refit=factor == "size").to(home), factor, slots.to(home))


def swappable(scenes: SceneTable, factor: str = "colour") -> Tensor:
    """(n,) bool: the scenes in which `swap_attributes` finds a pair of objects."""
    both = scenes.present[:, :, None] & scenes.present[:, None]
    return (_swappable(scenes, factor) & both).flatten(1).any(1)


def _require(possible: Tensor, what: str, remedy: str) -> None:
    if not bool(possible.all()):
        raise ValueError(f"{what} in {int((~possible).sum())} of {len(possible)} scenes; leave them out: {remedy}")


def _choices(scenes: SceneTable, factor: str, values: Sequence[str] | None) -> Tensor:
    """(n, k, c) bool: the objects that may change, and the values each may take."""
    if factor not in FACTORS[:-1]:
        raise UnknownNameError("factor", factor, FACTORS)
    if values is not None and factor not in VOCABULARY:
        raise ValueError(f"values can only be given for {list(VOCABULARY)}, not for {factor!r}")
    device = scenes.index.device
    if factor == "presence":
        return scenes.present[:, :, None]
    if factor == "position":
        taken = (scenes.cell[:, :, None] == torch.arange(scenes.grid**2, device=device)).any(1)
        return scenes.present[:, :, None] & ~taken[:, None]
    wanted = torch.zeros(len(VOCABULARY[factor]), dtype=torch.bool, device=device)
    wanted[[code_of(factor, name) for name in (VOCABULARY[factor] if values is None else values)]] = True
    codes = torch.arange(len(wanted), device=device)
    now = scenes.background[:, None] if factor == "background" else getattr(scenes, factor)
    allowed = wanted & (now[:, :, None] != codes)
    if factor == "background":
        return allowed
    if factor in ("shape", "colour"):
        other = scenes.present[:, None] & ~torch.eye(scenes.slots, dtype=torch.bool, device=device)
        if factor == "colour":
            other = other & (scenes.shape[:, :, None] == scenes.shape[:, None])
        allowed = allowed & ~(other[..., None] & (now[:, None, :, None] == codes)).any(2)
    return allowed & scenes.present[:, :, None]


def _set(scenes: SceneTable, rows: Tensor, slot: Tensor, factor: str, value: Tensor) -> SceneTable:
    """Write `value` (n,) into `factor` of the object in `slot` (n,), in the rows where `rows` is True."""
    if factor == "background":
        return dataclasses.replace(scenes, background=torch.where(rows, value, scenes.background))
    at = (torch.arange(scenes.slots, device=slot.device) == slot[:, None]) & rows[:, None]
    columns: dict[str, Any] = {}
    if factor == "presence":
        names = ("shape", "colour", "texture", "size", "x", "y", "radius", "angle")
        columns = {name: torch.where(at, 0, getattr(scenes, name)) for name in names} | {"present": scenes.present & ~at}
    elif factor == "position":
        half = torch.full_like(slot, 0.5, dtype=torch.float32)[:, None]
        target = {"x": value % scenes.grid, "y": value.div(scenes.grid, rounding_mode="floor")}
        columns = {
            axis: torch.where(at, place_in_cell(cell[:, None], half, scenes.radius, scenes.grid), getattr(scenes, axis))
            for axis, cell in target.items()
        }
    else:
        columns = {factor: torch.where(at, value[:, None], getattr(scenes, factor))}
    edited = dataclasses.replace(scenes, **columns)
    if factor != "size":
        return edited
    radii = torch.tensor(scenes.radii, device=slot.device)
    grown = (scenes.radius * radii[edited.size] / radii[scenes.size]).round().long()
    if scenes.slots > 1:
        # Radii are rounded to thousandths: growth must not carry the rounding over the edge of the cell.
        grown = torch.minimum(grown, scenes.radius.clamp(min=UNIT // (2 * scenes.grid) - MARGIN))
    return _refit(dataclasses.replace(edited, radius=torch.where(at, grown, scenes.radius)), at, scenes.cell)


def _refit(scenes: SceneTable, at: Tensor, cell: Tensor) -> SceneTable:
    """Move the objects where `at` (n, k) is True by as little as keeps them inside their cells."""
    where = {"x": cell % scenes.grid, "y": cell.div(scenes.grid, rounding_mode="floor")}
    moved: dict[str, Any] = {}
    for axis, index in where.items():
        low, high = reach(index, scenes.radius, scenes.grid)
        old = getattr(scenes, axis)
        moved[axis] = torch.where(at, torch.minimum(torch.maximum(old, low), high), old)
    return dataclasses.replace(scenes, **moved)


def _swappable(scenes: SceneTable, factor: str) -> Tensor:
    other = "colour" if factor == "shape" else "shape"
    differs = [getattr(scenes, name)[:, :, None] != getattr(scenes, name)[:, None] for name in (factor, other)]
    return differs[0] & differs[1]


def _pair(scenes: SceneTable, allowed: Tensor, seed: int, what: str) -> Tensor:
    """(n, 2) slots of two present objects for which `allowed` (n, k, k) is True."""
    k = scenes.slots
    upper = torch.ones(k, k, dtype=torch.bool, device=allowed.device).triu(1)
    mass = (allowed & scenes.present[:, :, None] & scenes.present[:, None] & upper).flatten(1)
    remedy = "editable(scenes, 'relation')" if what == "relation" else f"swappable(scenes, {what.split()[-1]!r})"
    _require(mass.any(1), f"no two objects can exchange their {what}", f"scenes.select({remedy})")
    chosen = pick(mass.double(), uniform(seed, scenes.index, 202))
    return torch.stack([chosen.div(k, rounding_mode="floor"), chosen % k], 1)


def _exchange(scenes: SceneTable, slots: Tensor, names: Sequence[str], *, refit: bool) -> SceneTable:
    """Exchange these columns between the two objects of each scene."""
    flipped = slots.flip(1)
    columns: dict[str, Any] = {}
    for name in names:
        column = getattr(scenes, name)
        columns[name] = column.scatter(1, slots, column.gather(1, flipped))
    edited = dataclasses.replace(scenes, **columns)
    if not refit:
        return edited
    at = torch.zeros_like(scenes.present).scatter(1, slots, True)
    return _refit(edited, at, edited.cell)
