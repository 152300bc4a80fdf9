"""Objects that captions mention although the pictures do not show them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.checks import describe

ROTATIONS = 20  # of the pictures, behind the null


@dataclass(frozen=True, kw_only=True)
class Chair:
    """CHAIR of a set of captions, with the counts behind it.

    Attributes:
        chair_i: share of the mentions (or objects) that are hallucinated, over all captions together, in [0, 1]; lower is
            better. None where no caption mentions anything: silence is not faithfulness.
        chair_s: share of the captions with at least one hallucinated object, in [0, 1]; lower is better.
        recall: share of the objects present that their captions mention, over all captions together, in [0, 1]. Read it
            beside the others, which a shorter caption lowers for nothing. None where no object is present.
        hallucinated: for each caption its hallucinated objects, each once, in the order of mention.
        n_mentions: mentions (or objects) counted.
        n_hallucinated: those of them that are hallucinated.
        n_captions: number of captions.
        count: the counting rule.
        per_caption: for each caption (mentions counted, hallucinated ones, objects present, present ones mentioned).
        null: (chair_i, chair_s, recall) of the same captions with the pictures exchanged among them: the mean over up to 20
            random rotations of the list. What a captioner would get that ignores its picture. None where undefined.
        by_object: object -> (mentions counted, hallucinated ones), most often hallucinated first.
    """

    chair_i: float | None
    chair_s: float
    recall: float | None
    hallucinated: tuple[tuple[str, ...], ...]
    n_mentions: int
    n_hallucinated: int
    n_captions: int
    count: str
    per_caption: tuple[tuple[int, int, int, int], ...]
    null: tuple[float | None, float | None, float | None]
    by_object: dict[str, tuple[int, int]]


def chair(
    mentioned: Sequence[Iterable[str]],
    present: Sequence[Iterable[str]],
    *,
    count: Literal["mention", "object"] = "mention",
) -> Chair:
    r"""CHAIR: how many of the objects that captions mention are not in the picture.

    .. math:: \mathrm{CHAIR}_i = \frac{\#\,\text{hallucinated mentions}}{\#\,\text{mentions}}, \qquad
        \mathrm{CHAIR}_s = \frac{\#\,\text{captions with a hallucination}}{\#\,\text{captions}}

    Args:
        mentioned: for each caption the names of the objects it mentions, in order, with repetitions.
        present: for each caption the names of the objects its picture shows. Names are compared as they are: bring
            case, plurals and synonyms to one form first.
        count: 'mention' counts every mention of an object, as the authors' code does; 'object' counts an object once a
            caption, as the words of the paper can be read.

    Returns:
        Chair.

    Raises:
        ValueError: no captions, different lengths, unknown `count`.
        TypeError: a string where a list of names belongs, a name that is not a string.

    Source: Rohrbach et al. 2018 (arXiv 1809.02156), section 2; recall (coverage) is later practice.

    Example:
        >>> result = chair([["dog", "cat", "cat"], ["sofa"]], [{"dog"}, {"sofa", "lamp"}])
        >>> result.chair_i, result.chair_s, result.hallucinated[0]
        (0.5, 0.5, ('cat',))
    """
    if count not in ("mention", "object"):
        raise ValueError(f"count must be 'mention' or 'object', got {describe(count)}")
    said, shown = _names(mentioned, "mentioned"), _names(present, "present")
    if len(said) != len(shown):
        raise ValueError(f"mentioned and present must have one entry a caption, got {len(said)} and {len(shown)}")
    if not said:
        raise ValueError("mentioned is empty: at least one caption is needed")
    if count == "object":
        said = [list(dict.fromkeys(names)) for names in said]
    pictures = [set(names) for names in shown]
    false = [[name for name in names if name not in picture] for names, picture in zip(said, pictures, strict=True)]
    n_mentions, n_false = sum(map(len, said)), sum(map(len, false))
    found = [len(picture.intersection(names)) for names, picture in zip(said, pictures, strict=True)]
    n_present, n_found = sum(map(len, pictures)), sum(found)
    all_said = Counter(name for names in said for name in names)
    all_false = Counter(name for names in false for name in names)
    return Chair(
        chair_i=n_false / n_mentions if n_mentions else None,
        chair_s=sum(map(bool, false)) / len(said),
        recall=n_found / n_present if n_present else None,
        hallucinated=tuple(tuple(dict.fromkeys(names)) for names in false),
        n_mentions=n_mentions,
        n_hallucinated=n_false,
        n_captions=len(said),
        count=count,
        per_caption=tuple(
            (len(names), len(wrong), len(picture), right)
            for names, wrong, picture, right in zip(said, false, pictures, found, strict=True)
        ),
        null=_exchanged(said, pictures),
        by_object={
            name: (all_said[name], all_false[name]) for name in sorted(all_said, key=lambda o: (-all_false[o], -all_said[o], o))
        },
    )


def _exchanged(said: list[list[str]], pictures: list[set[str]]) -> tuple[float | None, float | None, float | None]:
    n = len(said)
    if n < 2:
        return None, None, None
    steps = random.Random(0).sample(range(1, n), min(ROTATIONS, n - 1))
    wrong = captions = found = 0
    for step in steps:
        for names, picture in zip(said, pictures[step:] + pictures[:step], strict=True):
            false = sum(name not in picture for name in names)
            wrong, captions, found = wrong + false, captions + (false > 0), found + len(picture.intersection(names))
    mentions, present = sum(map(len, said)) * len(steps), sum(map(len, pictures)) * len(steps)
    return wrong / mentions if mentions else None, captions / (n * len(steps)), found / present if present else None


def _names(captions: object, argument: str) -> list[list[str]]:
    if isinstance(captions, str) or not isinstance(captions, Sequence):
        raise TypeError(f"{argument} must be a list with one list of names a caption, got {describe(captions)}")
    lists = []
    for i, names in enumerate(captions):
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"{argument}[{i}] must be a list or set of names, got {describe(names)}")
        names = list(names)
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise TypeError(f"{argument}[{i}] must hold strings, got {describe(wrong[0])}")
        lists.append(names)
    return lists
