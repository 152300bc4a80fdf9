"""Captions of procedural scenes at several levels of detail, and a parser that reads them, and free text, back.

The grammar says every fact in full ("solid" too), so that a caption holds exactly the facts of its level:

    {relation} {object} is {object}        or   {object} {relation} {object}        , which is {relation} {object}
    object: a [size] [texture] [colour] shape|object [at the place]                 on a {background} background
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench.data.scene_table import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES, UNIT, SceneTable, uniform
from workbench.errors import UnknownNameError

FACTS = ("size", "texture", "colour", "shape", "place", "relation", "background")
LEVELS: dict[str, tuple[str, ...]] = {
    "shapes": ("shape",),
    "short": ("colour", "shape"),
    "attributes": ("size", "texture", "colour", "shape"),
    "places": ("size", "texture", "colour", "shape", "place"),
    "relations": ("size", "texture", "colour", "shape", "relation", "background"),
    "full": FACTS,
}
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
WORDINGS = 4
_EMPTY = "an empty picture"
_ATTRIBUTES = ("size", "texture", "colour", "shape", "place")


@dataclass(frozen=True)
class Mention:
    """One object as a text describes it; what the text does not say is None."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None
    size: str | None = None
    place: str | None = None

    def __str__(self) -> str:
        words = [word for word in (self.size, self.texture, self.colour, self.shape or "object") if word]
        return _article(" ".join(words)) + (f" at the {self.place}" if self.place else "")


@dataclass(frozen=True)
class Description:
    """What a caption says: objects in the order of mention, relations (i, relation, j) between them, the background.

    `str(description)` is the caption, and `parse_caption` of that is the description again.
    """

    objects: tuple[Mention, ...] = ()
    relations: tuple[tuple[int, str, int], ...] = ()
    background: str | None = None

    def __str__(self) -> str:
        names = [str(mention) for mention in self.objects]
        if not names:
            text = _EMPTY
        elif self._is_chain():
            first, relation, _ = self.relations[0]
            if first == 1:
                text = f"{relation} {names[0]} is {names[1]}"
            else:
                # The comma parts "at the left" from "left of".
                text = f"{names[0]}{',' if self.objects[0].place else ''} {relation} {names[1]}"
            for i, relation, j in self.relations[1:]:
                text += f"{',' if i else ''} which is {relation} {names[j]}"
        else:
            text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        return text + (f" on {_article(self.background)} background" if self.background else "")

    def placed(self) -> tuple[Mention, str, Mention] | None:
        """The first relation as 'left of' or 'above', in whichever order it is told; None where there is none.

        >>> Description((Mention("ring"), Mention("star")), ((0, "below", 1),)).placed()[1]
        'above'
        """
        if not self.relations:
            return None
        i, relation, j = self.relations[0]
        if relation in ("right of", "below"):
            i, relation, j = j, OPPOSITE[relation], i
        return self.objects[i], relation, self.objects[j]

    def _is_chain(self) -> bool:
        steps = [(i, j) for i, _, j in self.relations]
        chain = [(i, i + 1) for i in range(len(self.objects) - 1)]
        return bool(steps) and steps[1:] == chain[1:] and steps[0] in [*chain[:1], (1, 0)]


def describe(
    scenes: SceneTable, level: str | Sequence[str] = "short", *, wording: int | None = 0, drop: float = 0.0, seed: int = 0
) -> list[Description]:
    """What a caption of this level says about each scene.

    Args:
        scenes: the scenes.
        level: a name in `LEVELS` or the facts to say, out of `FACTS`.
        wording: 0 to 3: from the first object or from the last, "A left of B" or "right of A is B"; None takes one of the four for
            each scene, by a hash of its index.
        drop: each fact is left unsaid with this probability (an object of which nothing is said is not mentioned).
        seed: which facts are dropped.

    Returns:
        One description a scene. Relations join each object with the next one mentioned, along the axis in which their cells
        differ more; between cells on a diagonal "left" and "above" are both true, and the diagonal decides which is said.

    Raises:
        UnknownNameError: a level or a fact that does not exist.
        ValueError: `wording` or `drop` out of range.
    """
    facts = _facts(level)
    if wording is not None and wording not in range(WORDINGS):
        raise ValueError(f"wording must be None or 0 to {WORDINGS - 1}, got {wording!r}")
    if not 0 <= drop <= 1:
        raise ValueError(f"drop must lie in [0, 1], got {drop}")
    table = scenes.to("cpu")
    styles = (uniform(table.seed, table.index, 100) * WORDINGS).long().tolist() if wording is None else [wording] * len(table)
    kept = {
        fact: torch.stack([uniform(seed, table.index, 101, FACTS.index(fact), s) >= drop for s in range(table.slots)], 1).tolist()
        for fact in facts
    }
    names = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES, "size": SIZES}
    codes = {fact: getattr(table, fact).tolist() for fact in facts if fact in names}
    x, y, cell, present = table.x.tolist(), table.y.tolist(), table.cell.tolist(), table.present.tolist()
    background = table.background.tolist()
    result = []
    for row in range(len(table)):
        mentions: list[tuple[Mention, int]] = []
        for slot in range(table.slots):
            if not present[row][slot]:
                continue
            said = {fact: names[fact][codes[fact][row][slot]] for fact in codes if kept[fact][row][slot]}
            if "place" in facts and kept["place"][row][slot]:
                said["place"] = _place(x[row][slot], y[row][slot])
            if said:
                mentions.append((Mention(**said), slot))
        if not mentions and any(present[row]):
            mentions.append((Mention(), present[row].index(True)))
        if styles[row] & 1:
            mentions.reverse()
        slots = [slot for _, slot in mentions]
        relations = []
        if "relation" in facts and kept["relation"][row][0]:
            for i, (a, b) in enumerate(itertools.pairwise(slots)):
                name = _relation((cell[row][a], cell[row][b]), table.grid, x[row][a] - x[row][b], y[row][a] - y[row][b])
                relations.append((1, OPPOSITE[name], 0) if i == 0 and styles[row] & 2 else (i, name, i + 1))
        tone = BACKGROUNDS[background[row]] if "background" in facts and kept["background"][row][0] else None
        result.append(Description(tuple(mention for mention, _ in mentions), tuple(relations), tone))
    return result


def captions(
    scenes: SceneTable, level: str | Sequence[str] = "short", *, wording: int | None = 0, drop: float = 0.0, seed: int = 0
) -> list[str]:
    """One caption a scene; see `describe` for the arguments.

    Example:
        >>> from workbench.data.scene_sampling import sample_scenes
        >>> scenes = sample_scenes(1, seed=2, objects=(2, 2))
        >>> captions(scenes)
        ['a pink circle and a purple diamond']
        >>> captions(scenes, level="relations")
        ['a large dotted pink circle above a small dotted purple diamond on a navy background']
    """
    return [str(description) for description in describe(scenes, level, wording=wording, drop=drop, seed=seed)]


def _facts(level: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(level, str):
        if level not in LEVELS:
            raise UnknownNameError("caption level", level, LEVELS)
        return LEVELS[level]
    for fact in level:
        if fact not in FACTS:
            raise UnknownNameError("fact", fact, FACTS)
    return tuple(fact for fact in FACTS if fact in level)


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _place(x: int, y: int) -> str:
    return PLACES[3 * min(2, y * 3 // UNIT) + min(2, x * 3 // UNIT)]


def _relation(cells: tuple[int, int], grid: int, dx: int, dy: int) -> str:
    """Where the first object is, seen from the second."""
    across, down = cells[0] % grid - cells[1] % grid, cells[0] // grid - cells[1] // grid
    if across == down == 0:
        across, down = dx, dy
    # On a diagonal both words are true: one diagonal says left or right, the other above or below, so that all four occur.
    if abs(across) > abs(down) or (abs(across) == abs(down) and across * down > 0):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"
