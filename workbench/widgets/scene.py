"""A scene editor: change one thing in a picture, and see what two models make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.scene_captions import OPPOSITE, RELATIONS, describe
from workbench.data.scene_parser import parse_caption
from workbench.data.scene_render import render
from workbench.data.scene_table import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES, UNIT, SceneTable, code_of
from workbench.widgets.explorer import Explorer, labelled

if TYPE_CHECKING:
    from workbench.models import Pretrained

ATTRIBUTES: dict[str, tuple[str, ...]] = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES, "size": SIZES}
RADII = (0.11, 0.155, 0.21)  # of the scenes of two objects that the models saw
CELLS = {"left of": (0, 1), "right of": (1, 0), "above": (0, 2), "below": (2, 0)}
SAID = ("size", "texture", "colour", "shape", "relation")  # what the captioner's captions say
CLIP_SAID = ("colour", "shape", "relation")
NOTHING = "none"
START = {
    "first": {"shape": "star", "colour": "blue", "texture": "solid", "size": "large"},
    "second": {"shape": "circle", "colour": "red", "texture": "solid", "size": "large"},
}


def build_scene(
    first: Mapping[str, str], second: Mapping[str, str] | None = None, relation: str = "left of", background: str = "white"
) -> SceneTable:
    """One scene of one or two objects, each in the middle of its cell.

    Args:
        first: shape, colour, texture and size of an object, by name.
        second: of another one, or None.
        relation: where the first object stands, seen from the second: 'left of', 'right of', 'above' or 'below'.
        background: a name in `BACKGROUNDS`.

    Raises:
        UnknownNameError: a name that does not exist.
        ValueError: an attribute that is missing.

    Example:
        >>> from workbench.data.scenes import captions
        >>> captions(build_scene({"shape": "star", "colour": "blue", "texture": "solid", "size": "large"}))
        ['a blue star']
    """
    from workbench.errors import UnknownNameError

    if relation not in CELLS:
        raise UnknownNameError("relation", relation, RELATIONS)
    objects = [first] if second is None else [first, second]
    for one in objects:
        if missing := [name for name in ATTRIBUTES if name not in one]:
            raise ValueError(f"an object needs shape, colour, texture and size; {', '.join(missing)} missing in {dict(one)}")
    codes: dict[str, Any] = {name: torch.tensor([[code_of(name, one[name]) for one in objects]]) for name in ATTRIBUTES}
    grid = len(objects)
    cells = torch.tensor([CELLS[relation] if grid == 2 else (0,)])
    scale = UNIT * (2 if grid == 1 else 1)  # one object alone has the whole picture
    return SceneTable(
        index=torch.zeros(1, dtype=torch.long),
        background=torch.tensor([code_of("background", background)]),
        gradient=torch.zeros(1, dtype=torch.long),
        present=torch.ones(1, grid, dtype=torch.bool),
        **codes,
        x=(2 * (cells % grid) + 1) * UNIT // (2 * grid),
        y=(2 * (cells // grid) + 1) * UNIT // (2 * grid),
        radius=(torch.tensor(RADII)[codes["size"]] * scale).round().long(),
        angle=torch.zeros(1, grid, dtype=torch.long),
        grid=grid,
        radii=RADII if grid == 2 else (2 * RADII[0], 2 * RADII[1], 2 * RADII[2]),
    )


def rival_captions(scene: SceneTable, facts: Sequence[str] = CLIP_SAID) -> dict[str, str]:
    """Captions of one scene by what is wrong with them: 'true' first, the false ones one exchange or one word away."""
    true = describe(scene, facts)[0]
    rivals = {"true": true}
    a = true.objects[0]
    if len(true.objects) == 2:
        b = true.objects[1]
        rivals["places exchanged"] = replace(true, objects=(b, a))
        rivals["colours exchanged"] = replace(true, objects=(replace(a, colour=b.colour), replace(b, colour=a.colour)))
        i, relation, j = true.relations[0]
        rivals["the opposite"] = replace(true, relations=((i, OPPOSITE[relation], j),))
        rivals["one object left out"] = replace(true, objects=(a,), relations=())
    absent = [shape for shape in SHAPES if shape not in {o.shape for o in true.objects}]
    rivals["another shape"] = replace(true, objects=(replace(a, shape=absent[0]), *true.objects[1:]))
    other = next(c for c in COLOURS if c not in {o.colour for o in true.objects})
    rivals["another colour"] = replace(true, objects=(replace(a, colour=other), *true.objects[1:]))
    captions = {name: str(description) for name, description in rivals.items()}
    # Two objects of one colour make "colours exchanged" true: what is not false is no rival.
    return {name: text for name, text in captions.items() if name == "true" or text != captions["true"]}


def unsupported(caption: str, scene: SceneTable) -> list[bool]:
    """For each word of a caption: does it say something that is not in the picture?

    An attribute is judged against the objects of the shape that it is said of; where no such shape is there, the shape is wrong and
    the attribute is judged against all objects. Relations count where both of their objects are there.

    Example:
        >>> scene = build_scene({"shape": "star", "colour": "blue", "texture": "solid", "size": "large"})
        >>> [w for w, wrong in zip("a red star".split(), unsupported("a red star", scene)) if wrong]
        ['red']
    """
    words = caption.split()
    bare = [w.strip(".,;!?").lower() for w in words]
    wrong = [False] * len(words)
    table = scene.to("cpu")
    there = [
        {name: ATTRIBUTES[name][int(getattr(table, name)[0, slot])] for name in ATTRIBUTES}
        for slot in range(table.slots)
        if table.present[0, slot]
    ]
    start = 0
    for end, word in enumerate(bare):
        if word not in SHAPES:
            continue
        same = [o for o in there if o["shape"] == word]
        wrong[end] = not same
        for i in range(start, end):
            for name in ("colour", "texture", "size"):
                if bare[i] in ATTRIBUTES[name]:
                    wrong[i] = all(o[name] != bare[i] for o in same or there)
        start = end + 1
    if table.slots == 2 and bool(table.present.all()):
        for at in _false_relations(caption, table, bare):
            wrong[at] = True
    return wrong


def _false_relations(caption: str, scene: SceneTable, words: Sequence[str]) -> list[int]:
    """Places of the relation words of a caption that do not hold."""
    said = parse_caption(caption, strict=False)
    shapes = [SHAPES[int(c)] for c in scene.shape[0]]
    for i, relation, j in said.relations:
        pair = [said.objects[k].shape if k < len(said.objects) else None for k in (i, j)]
        if pair[0] not in shapes or pair[1] not in shapes or pair[0] == pair[1]:
            continue
        a, b = (shapes.index(str(shape)) for shape in pair)
        axis, sign = {"left of": ("x", 1), "right of": ("x", -1), "above": ("y", 1), "below": ("y", -1)}[relation]
        place = getattr(scene, axis)[0]
        if sign * int(place[b] - place[a]) <= 0:
            return [k for k, w in enumerate(words) if w in relation.split()]
    return []


@dataclass(frozen=True)
class SceneReading:
    """What two models make of one scene.

    Attributes:
        cosines: label of `rival_captions` -> (caption, cosine of the picture with it).
        words: what the captioner says, word by word; empty without a captioner.
        seen: (words,) log-probability of each word in nats, with the picture.
        blind: (words,) the same from the words before it alone, without the picture.
        wrong: for each word whether it says something that is not there.
        truth: log-probability of the true caption, in nats, with the picture and without.
    """

    cosines: dict[str, tuple[str, float]]
    words: list[str]
    seen: np.ndarray
    blind: np.ndarray
    wrong: list[bool]
    truth: tuple[float, float]


def read_scene(scene: SceneTable, clip: Pretrained, captioner: Pretrained | None = None, size: int = 32) -> SceneReading:
    """Ask both models about a scene.

    Args:
        scene: one scene.
        clip: a dual encoder, such as `pretrained("scenes-clip")`.
        captioner: a captioner, such as `pretrained("mini-captioner")`, or None.
        size: side of the picture that the models see.
    """
    image = render(scene, size)
    rivals = rival_captions(scene)
    cosines = (clip.embed_texts(list(rivals.values())) @ clip.embed_images(image)[0]).cpu().tolist()
    scored = {name: (text, float(c)) for (name, text), c in zip(rivals.items(), cosines, strict=True)}
    if captioner is None:
        return SceneReading(scored, [], np.zeros(0), np.zeros(0), [], (float("nan"), float("nan")))
    said, true = captioner.caption(image)[0], str(describe(scene, SAID)[0])
    both = [said, true]
    seen, blind = captioner.log_probs(both, image.expand(2, -1, -1, -1)), captioner.log_probs(both)
    words = said.split()
    parts = [words_of(captioner, said, nats[0]) for nats in (seen, blind)]
    return SceneReading(
        scored, words, parts[0], parts[1], unsupported(said, scene), (float(seen[1].sum()), float(blind[1].sum()))
    )


def words_of(model: Pretrained, text: str, nats: Tensor) -> np.ndarray:
    """(words,) log-probabilities of the words of a text from those of its tokens; a word of several tokens gets their sum."""
    assert model.tokenizer is not None
    encoded = model.tokenizer(text)
    words = text.split()
    if not getattr(model.tokenizer, "is_fast", False):
        raise ValueError("the captioner needs a fast tokenizer, which knows where its tokens stand in the text")
    starts = np.cumsum([0, *(len(w) + 1 for w in words)])
    result = np.zeros(len(words))
    for i, span in enumerate(encoded.encodings[0].offsets[1 : len(nats) + 1]):
        if span[1] > span[0]:  # special tokens cover nothing
            result[int(np.searchsorted(starts, span[0], side="right")) - 1] += float(nats[i])
    return result


def scene_explorer(clip: Pretrained, captioner: Pretrained | None = None, *, size: int = 32) -> Explorer:
    """Edit a scene of one or two objects and see CLIP's cosines with true and false captions and the captioner's words.

    Args:
        clip: a dual encoder, such as `pretrained("scenes-clip")`.
        captioner: a captioner, such as `pretrained("mini-captioner")`; without one there are only cosines.
        size: side of the picture that the models see.

    Returns:
        The explorer; every scene is read once, about 0.2 s, and remembered.
    """
    import ipywidgets

    @lru_cache(maxsize=512)
    def reading(values: tuple[str, ...]) -> tuple[SceneTable, SceneReading]:
        first, second = (dict(zip(ATTRIBUTES, part, strict=True)) for part in (values[:4], values[4:8]))
        scene = build_scene(first, None if second["shape"] == NOTHING else second, values[8], values[9])
        return scene, read_scene(scene, clip, captioner, size)

    def draw(**values: str) -> Any:
        scene, found = reading(tuple(values.values()))
        return scene_figure(scene, found, Path(clip.name).name, Path(captioner.name).name if captioner else None)

    controls: dict[str, Any] = {}
    for which in ("first", "second"):
        for name, words in ATTRIBUTES.items():
            options = [*words, NOTHING] if (which, name) == ("second", "shape") else list(words)
            label = f"{which} {name}" if name == "shape" else name
            tooltip = f"{name} of the {which} object"
            controls[f"{which}_{name}"] = labelled(
                ipywidgets.Dropdown,
                label,
                width="15em",
                label="6.3em",
                tooltip=tooltip,
                options=options,
                value=START[which][name],
            )
    controls["relation"] = labelled(
        ipywidgets.Dropdown,
        "first stands",
        label="6.3em",
        width="15em",
        tooltip="where the first object stands, seen from the second",
        options=RELATIONS,
    )
    controls["background"] = labelled(
        ipywidgets.Dropdown, "background", label="6.3em", width="15em", options=BACKGROUNDS, value="white"
    )
    rows = [[f"{which}_{name}" for name in ATTRIBUTES] for which in ("first", "second")]
    return Explorer(draw, controls, [*rows, ["relation", "background"]])


def scene_figure(scene: SceneTable, found: SceneReading, clip_name: str, captioner_name: str | None) -> Any:
    """The figure: the picture, CLIP's cosines, and under them the captioner's words with their log-probabilities."""
    import matplotlib.pyplot as plt

    from workbench.plots import COLOURS as HOUSE
    from workbench.plots import show_image

    with_captioner = captioner_name is not None
    figure = plt.figure(figsize=(10.5, 5.6 if with_captioner else 3.4), layout="none")
    low, high = (0.5, 0.85) if with_captioner else (0.17, 0.8)
    side = (high - low) * figure.get_figheight() / figure.get_figwidth()
    show_image(figure.add_axes((0.07, low, side, high - low)), render(scene, 128)[0], frame="#cccccc")
    ax = figure.add_axes((0.64, low, 0.34, high - low))
    names = list(found.cosines)
    best = max(found.cosines, key=lambda name: found.cosines[name][1])
    for i, name in enumerate(names):
        text, cosine = found.cosines[name]
        ax.barh(i, cosine, color=HOUSE[2] if name == "true" else "#b5b5b5", height=0.7)
        ax.annotate(f"{cosine:.2f}", (max(cosine, 0), i), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
        ax.annotate(
            text,
            (0, i),
            xycoords=("axes fraction", "data"),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8.5,
            fontweight="bold" if name == "true" else "normal",
        )
    lowest = min(0.0, *(c for _, c in found.cosines.values()))
    ax.set(xlim=(lowest, 1.12), ylim=(len(names) - 0.4, -0.6), yticks=[], xticks=(0, 0.5, 1))
    ax.set_title(f"{clip_name}: cosine with the picture (bold: true)", fontsize=10, x=1.0, ha="right", loc="left")
    if with_captioner:
        _words(figure.add_axes((0.07, 0.11, 0.91, 0.24)), found, str(captioner_name), HOUSE)
    right = "prefers the true caption" if best == "true" else f"prefers a false caption ({best})"
    said = ""
    if with_captioner:
        count = sum(found.wrong)
        said = (
            "; the captioner says nothing false"
            if not count
            else f"; {count} of {len(found.words)} words of the captioner are false"
        )
    figure.suptitle(f"{clip_name} {right}{said}", x=0.01, ha="left", fontsize=12)
    return figure


def _words(ax: Any, found: SceneReading, name: str, house: Sequence[str]) -> None:
    at = np.arange(len(found.words))
    ax.bar(
        at - 0.2,
        np.exp(found.seen),
        width=0.38,
        color=[house[1] if w else house[0] for w in found.wrong],
        label="with the picture",
    )
    ax.bar(at + 0.2, np.exp(found.blind), width=0.38, color="#b5b5b5", label="without it (habit)")
    ax.set_xticks(at, [f"{w}\n{round(float(s), 1) + 0.0:.1f}" for w, s in zip(found.words, found.seen, strict=True)], fontsize=9)
    for tick, wrong in zip(ax.get_xticklabels(), found.wrong, strict=True):
        if wrong:
            tick.set(color=house[1], fontweight="bold")
    ax.grid(axis="x", visible=False)
    ax.set(ylim=(0, 1.05), ylabel="probability", xlim=(-0.6, max(len(at), 6) - 0.4))
    seen, blind = found.truth
    ax.set_title(
        f"What {name} says, below each word its log-probability in nats (orange: not in the picture).\n"
        f"The true caption has {seen:.1f} nats with the picture and {blind:.1f} without",
        fontsize=10,
    )
    ax.legend(fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 1.42), borderaxespad=0, labelspacing=0.25)
