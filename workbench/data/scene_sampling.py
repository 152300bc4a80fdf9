"""Drawing scenes: uniform over every factor, or skewed (language prior, spurious correlation, long tail) by parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.data.scene_table import (
    BACKGROUNDS,
    COLOURS,
    GRADIENTS,
    MARGIN,
    SHAPES,
    SIZES,
    TEXTURES,
    UNIT,
    VOCABULARY,
    SceneTable,
    code_of,
    pick,
    place_in_cell,
    uniform,
)
from workbench.errors import UnknownNameError


def sample_scenes(
    n: int | Tensor,
    *,
    seed: int = 0,
    start: int = 0,
    objects: tuple[int, int] = (1, 4),
    shapes: Sequence[str] = SHAPES,
    colours: Sequence[str] = COLOURS,
    textures: Sequence[str] = TEXTURES,
    sizes: Sequence[str] = SIZES,
    backgrounds: Sequence[str] = BACKGROUNDS,
    gradients: bool = True,
    grid: int | None = None,
    radii: tuple[float, float, float] | None = None,
    size_jitter: float = 0.05,
    rotation: int = 20,
    distinct: Sequence[str] = ("shape",),
    weights: Mapping[str, Mapping[str, float]] | None = None,
    co_occurrence: Mapping[tuple[str, str], float] | None = None,
    companions: Mapping[tuple[str, str], float] | None = None,
) -> SceneTable:
    """Draw scenes; uniform over every factor unless a skew is asked for.

    Args:
        n: number of scenes, or a tensor of scene numbers (any order) to draw exactly those.
        seed: which world; scene i of a seed never changes.
        start: number of the first scene.
        objects: fewest and most objects in a scene, both inclusive.
        shapes, colours, textures, sizes, backgrounds: the names that may occur (default all).
        gradients: draw soft gradients in the background too, not only plain ones.
        grid: objects stand in different cells of a grid x grid board (default: the smallest board with room for them all).
        radii: radius of small, medium and large as fractions of the side (default (.22, .31, .42) / grid).
        size_jitter: each radius varies by up to this fraction.
        rotation: angles are uniform in [-rotation, rotation] degrees.
        distinct: factors whose values do not repeat within a scene.
        weights: relative frequency of names, such as {"shape": long_tail(SHAPES, 100)}; a name left out has weight 1.
        co_occurrence: conditional probabilities within an object, {("circle", "red"): 0.9} for P(red | circle) = 0.9, the rest
            by weight; 0 forbids a pair. The cause must come first in background, shape, colour, texture, size.
        companions: {("circle", "star"): 0.8}: where the first object is a circle, the second is a star with this probability.
            Where `distinct` leaves such a wish no choice, the weights decide.

    Returns:
        The scenes, on the CPU (`.to(device)` moves them).

    Raises:
        ValueError: an impossible wish, such as more distinct shapes than there are, or objects that do not fit their cells.
        UnknownNameError: a name outside the vocabulary.

    Example:
        >>> scenes = sample_scenes(1000, seed=0, co_occurrence={("circle", "red"): 0.9})
        >>> circles = scenes.present & (scenes.shape == SHAPES.index("circle"))
        >>> bool((scenes.colour[circles] == COLOURS.index("red")).float().mean() > 0.85)
        True
    """
    index = _scene_numbers(n, start)
    few, many = _check_objects(objects)
    grid = max(1, math.ceil(math.sqrt(many))) if grid is None else grid
    if grid * grid < many:
        raise ValueError(f"a grid of {grid} x {grid} has no room for {many} objects; ask for fewer objects or a larger grid")
    radii = radii or (0.22 / grid, 0.31 / grid, 0.42 / grid)
    room = math.ceil(max(radii) * (1 + size_jitter) * UNIT) + MARGIN
    if not min(radii) > 0 or not 0 <= size_jitter < 1 or 2 * room > UNIT / (grid if many > 1 else 1):
        raise ValueError(f"radii {radii} with size_jitter {size_jitter} do not fit the cells of a {grid} x {grid} grid")
    chances = _Chances(
        {"background": backgrounds, "shape": shapes, "colour": colours, "texture": textures, "size": sizes},
        weights or {},
        co_occurrence or {},
        companions or {},
    )
    for name in distinct:
        if name not in ("shape", "colour", "texture", "size"):
            raise UnknownNameError("distinct factor", name, ("shape", "colour", "texture", "size"))
        if int((chances.base[name] > 0).sum()) < many:
            raise ValueError(f"{many} objects cannot have distinct {name}s when only {int((chances.base[name] > 0).sum())} occur")

    count = few + (uniform(seed, index, 0) * (many - few + 1)).long()
    present = torch.arange(many) < count[:, None]
    cells = torch.stack([uniform(seed, index, 1, c) for c in range(grid * grid)], 1).argsort(dim=1, stable=True)[:, :many]
    drawn: dict[str, Tensor] = {"background": chances.draw("background", uniform(seed, index, 2), {})}
    for name in ("shape", "colour", "texture", "size"):
        drawn[name] = torch.zeros_like(cells)
        for slot in range(many):
            seen = {key: value if value.ndim == 1 else value[:, slot] for key, value in drawn.items()}
            used = drawn[name][:, :slot] if name in distinct else None
            first = drawn["shape"][:, 0] if name == "shape" and slot == 1 else None
            u = uniform(seed, index, 3, slot, list(VOCABULARY).index(name))
            drawn[name][:, slot] = chances.draw(name, u, seen, used=used, first=first)

    noise = torch.stack([torch.stack([uniform(seed, index, 4, slot, i) for slot in range(many)], 1) for i in range(4)])
    base_radius = torch.tensor(radii, dtype=torch.float64)[drawn["size"]] * UNIT
    radius = (base_radius * (1 + size_jitter * (2 * noise[0] - 1))).round().long()
    angle = torch.round((2 * noise[1] - 1) * rotation).long() % 360
    table = {
        **{name: drawn[name] for name in ("shape", "colour", "texture", "size")},
        "x": place_in_cell(cells % grid, noise[2], radius, grid),
        "y": place_in_cell(cells.div(grid, rounding_mode="floor"), noise[3], radius, grid),
        "radius": radius,
        "angle": angle,
    }
    return SceneTable(
        index=index,
        background=drawn["background"],
        gradient=(uniform(seed, index, 5) * GRADIENTS).long() * gradients,
        present=present,
        **{name: torch.where(present, column, 0) for name, column in table.items()},
        seed=seed,
        grid=grid,
        radii=radii,
    )


def long_tail(names: Sequence[str], imbalance: float = 100.0) -> dict[str, float]:
    """Weights that fall geometrically from 1 for the first name to 1 / imbalance for the last.

    Example:
        >>> {name: round(weight, 3) for name, weight in long_tail(SIZES, 100).items()}
        {'small': 1.0, 'medium': 0.1, 'large': 0.01}
    """
    if not imbalance >= 1 or math.isinf(imbalance):
        raise ValueError(f"imbalance must be a finite number of at least 1, got {imbalance}")
    return {name: imbalance ** (-i / max(1, len(names) - 1)) for i, name in enumerate(names)}


class _Chances:
    """Distribution of each factor: weights, conditional rows given another factor, and the second shape given the first."""

    def __init__(
        self,
        allowed: Mapping[str, Sequence[str]],
        weights: Mapping[str, Mapping[str, float]],
        co_occurrence: Mapping[tuple[str, str], float],
        companions: Mapping[tuple[str, str], float],
    ) -> None:
        self.base: dict[str, Tensor] = {}
        for factor, names in allowed.items():
            if isinstance(names, str) or not names:
                raise ValueError(f"{factor}s must be a sequence of names such as ({VOCABULARY[factor][0]!r},), got {names!r}")
            self.base[factor] = torch.zeros(len(VOCABULARY[factor]), dtype=torch.float64)
            self.base[factor][[code_of(factor, name) for name in names]] = 1.0
        for factor, table in weights.items():
            if factor not in VOCABULARY:
                raise UnknownNameError("factor", factor, VOCABULARY)
            for name, weight in table.items():
                if not 0 <= weight < math.inf:
                    raise ValueError(f"weights[{factor!r}][{name!r}] must be finite and not negative, got {weight}")
                self.base[factor][code_of(factor, name)] *= weight
        for factor, mass in self.base.items():
            if not mass.sum() > 0:
                raise ValueError(f"weights leave no {factor} that may occur")
        self.given: dict[str, tuple[str, tuple[Tensor, Tensor]]] = {}
        for cause, effect in {(_factor_of(a), _factor_of(b)) for a, b in co_occurrence}:
            order = list(VOCABULARY)
            if order.index(cause) >= order.index(effect):
                raise ValueError(
                    f"co_occurrence goes from {cause} to {effect}, but a cause must come before its effect in {order}"
                )
            if effect in self.given:
                raise ValueError(f"co_occurrence names two causes of {effect}; give it one")
            wishes = {key: p for key, p in co_occurrence.items() if (_factor_of(key[0]), _factor_of(key[1])) == (cause, effect)}
            self.given[effect] = (cause, self._rows(wishes, cause, effect))
        if companions and {_factor_of(name) for key in companions for name in key} != {"shape"}:
            raise ValueError(f"companions must be pairs of shapes, got {list(companions)}")
        self.second = self._rows(companions, "shape", "shape") if companions else None
        self.has_second = torch.zeros(len(SHAPES), dtype=torch.bool)
        self.has_second[[SHAPES.index(a) for a, _ in companions]] = True

    def _rows(self, wishes: Mapping[tuple[str, str], float], cause: str, effect: str) -> tuple[Tensor, Tensor]:
        """For each cause: the probabilities wished for, and the weights of all other names."""
        wish = torch.zeros(len(VOCABULARY[cause]), len(VOCABULARY[effect]), dtype=torch.float64)
        rest = self.base[effect].repeat(len(wish), 1)
        for (a, b), p in wishes.items():
            if not 0 <= p <= 1:
                raise ValueError(f"the probability of {b!r} given {a!r} must lie in [0, 1], got {p}")
            wish[code_of(cause, a), code_of(effect, b)] = p
            rest[code_of(cause, a), code_of(effect, b)] = 0.0
        for name, total, others in zip(VOCABULARY[cause], wish.sum(1).tolist(), rest.sum(1).tolist(), strict=True):
            if total > 1 + 1e-9:
                raise ValueError(f"probabilities given {name!r} must sum to at most 1, got {total}")
            if total < 1 - 1e-9 and others == 0:
                raise ValueError(f"probabilities given {name!r} sum to {total}, and no other {effect} may occur")
        return wish, rest

    def draw(
        self, factor: str, u: Tensor, seen: Mapping[str, Tensor], *, used: Tensor | None = None, first: Tensor | None = None
    ) -> Tensor:
        """(n,) codes of `factor`, given what is drawn already, without the codes in `used` (n, j)."""
        base = self.base[factor].expand(len(u), -1)
        wish, rest = torch.zeros_like(base), base
        if factor in self.given:
            cause, rows = self.given[factor]
            wish, rest = rows[0][seen[cause]], rows[1][seen[cause]]
        if first is not None and self.second is not None:
            named = self.has_second[first][:, None]
            wish, rest = (torch.where(named, rows[first], old) for rows, old in zip(self.second, (wish, rest), strict=True))
        if used is not None and used.shape[1]:
            # What is used leaves the rest, not the wish: P(star | circle) stays what was asked for.
            base, wish, rest = (mass.scatter(1, used, 0.0) for mass in (base, wish, rest))
        share = rest / rest.sum(1, keepdim=True).clamp(min=1e-300) * (1 - wish.sum(1, keepdim=True)).clamp(min=0)
        mass = wish + share
        return pick(torch.where(mass.sum(1, keepdim=True) > 0, mass, base), u)


def _factor_of(name: str) -> str:
    for factor, names in VOCABULARY.items():
        if name in names:
            return factor
    raise UnknownNameError("scene word", name, [name for names in VOCABULARY.values() for name in names])


def _scene_numbers(n: int | Tensor, start: int) -> Tensor:
    if isinstance(n, Tensor):
        if n.dtype != torch.int64 or n.ndim != 1 or (n < 0).any():
            raise ValueError(f"scene numbers must be a (n,) int64 tensor without negatives, got {n.dtype} {tuple(n.shape)}")
        return n.cpu() + start
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0 or start < 0:
        raise ValueError(f"n and start must be whole numbers of at least 0, got {n!r} and {start!r}")
    return torch.arange(start, start + int(n))


def _check_objects(objects: tuple[int, int]) -> tuple[int, int]:
    try:
        few, many = objects
    except (TypeError, ValueError):
        raise ValueError(f"objects must be a pair (fewest, most), got {objects!r}") from None
    if not (isinstance(few, int) and isinstance(many, int) and 0 <= few <= many and many >= 1):
        raise ValueError(f"objects must be a pair of whole numbers with 0 <= fewest <= most and most >= 1, got {objects!r}")
    return few, many
