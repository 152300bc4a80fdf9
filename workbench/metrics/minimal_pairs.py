"""Tests of composition: minimal pairs of pictures and captions, and captions with a wrong order, attribute or relation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.checks import describe, require_labels, require_tensor
from workbench.metrics._blocks import full_precision, require_int


@dataclass(frozen=True, kw_only=True, eq=False)
class MinimalPairs:
    """Accuracy on minimal pairs, two pictures and two captions that differ in one detail.

    Attributes:
        text: share of the pairs where both pictures score their own caption higher; chance 1/4.
        image: share where both captions score their own picture higher; chance 1/4.
        group: share where both hold; chance 1/6.
        single: share of single comparisons of a picture's two captions won; chance 1/2.
        text_right: (n,) booleans, and so on for the others.
        image_right: (n,).
        n: number of pairs.
    """

    text: float
    image: float
    group: float
    single: float
    text_right: Tensor
    image_right: Tensor
    n: int


@full_precision
def minimal_pairs(scores: Tensor) -> MinimalPairs:
    r"""Text, image and group accuracy of minimal pairs (Winoground's names; MMVP counts pairs as `text` does).

    .. math:: \text{text} = \frac1n \sum_i [\, s_{i00} > s_{i10} \wedge s_{i11} > s_{i01} \,]

    Args:
        scores: (n, 2, 2) score of caption a with picture b at [i, a, b]; the diagonal is right. Ties are wrong. A preference
            method may train one direction only: never report one alone.

    Returns:
        MinimalPairs.

    Raises:
        ValueError, TypeError: another shape, NaN.

    Source: Thrush et al. 2022 (arXiv 2204.03162), equations 1 to 3; pairs as in Tong et al. 2024 (arXiv 2401.06209, MMVP).

    Example:
        >>> minimal_pairs(torch.tensor([[[0.9, 0.2], [0.5, 0.4]]])).text, minimal_pairs(torch.eye(2)[None]).group
        (1.0, 1.0)
    """
    scores = _scores(scores, "scores", 3)
    if scores.shape[1:] != (2, 2):
        raise ValueError(f"scores must have shape (n, 2, 2), caption by picture, got {describe(scores)}")
    right0, right1 = scores[:, 0, 0], scores[:, 1, 1]
    own = torch.stack([right0 > scores[:, 1, 0], right1 > scores[:, 0, 1]], 1)
    text = own.all(1)
    image = (right0 > scores[:, 0, 1]) & (right1 > scores[:, 1, 0])
    return MinimalPairs(
        text=_share(text),
        image=_share(image),
        group=_share(text & image),
        single=_share(own.flatten()),
        text_right=text,
        image_right=image,
        n=len(scores),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionChoice:
    """Choice of the true caption among perturbed ones.

    Attributes:
        accuracy: share of the cases won, in [0, 1] (micro average).
        macro: mean over categories of their accuracy, categories with few cases left out; None without categories.
        per_category: category -> accuracy, of those that count.
        chance: mean of 1 / options.
        blind: accuracy of a model that does not see the picture; None where not given. A test that it solves says
            little about seeing.
        above_blind: (accuracy - blind) / (ceiling - blind); None without a blind model or where that leaves no room.
        ceiling: accuracy that can be reached (people, or an oracle).
        right: (n,) booleans.
        skipped: categories with too few cases.
        n: number of cases.
    """

    accuracy: float
    macro: float | None
    per_category: dict[int, float]
    chance: float
    blind: float | None
    above_blind: float | None
    ceiling: float
    right: Tensor
    skipped: tuple[int, ...]
    n: int


@full_precision
def caption_choice(
    scores: Tensor,
    *,
    categories: Tensor | None = None,
    min_cases: int = 1,
    blind: Tensor | None = None,
    ceiling: float = 1.0,
) -> CaptionChoice:
    r"""How often the true caption scores above all its perturbations: ARO's order, attribute and relation tests.

    .. math:: \frac1n \sum_i \Big[\, s_{i0} > \max_{j > 0} s_{ij} \,\Big]

    Args:
        scores: (n, options) scores with the picture, the true caption first. Ties are wrong. Options that a case does not
            have are -inf.
        categories: (n,) relation or attribute pair of each case. ARO averages over them (macro), so that a frequent relation
            does not decide.
        min_cases: categories with fewer cases are left out of `macro` (ARO: 25 for attributes) and named in `skipped`.
        blind: (n, options) scores of the same captions without the picture, such as log-probabilities of a language model.
        ceiling: accuracy that can be reached.

    Returns:
        CaptionChoice.

    Raises:
        ValueError, TypeError: another shape, NaN, one option, no category with enough cases.

    Source: Yuksekgonul et al. 2023 (arXiv 2210.01936); text-only baselines: Hsieh et al. 2023 (arXiv 2306.14610).

    Example:
        >>> result = caption_choice(torch.tensor([[2.0, 1.0], [1.0, 2.0], [3.0, 0.0]]), categories=torch.tensor([0, 0, 1]))
        >>> round(result.accuracy, 3), result.macro, result.chance
        (0.667, 0.75, 0.5)
    """
    right, chance = _choices(scores, "scores")
    if isinstance(ceiling, bool) or not isinstance(ceiling, (int, float)):
        raise TypeError(f"ceiling must be a number, got {describe(ceiling)}")
    if not 0 < ceiling <= 1:
        raise ValueError(f"ceiling must be above 0 and at most 1, got {ceiling}")
    unseen = None
    if blind is not None:
        if not isinstance(blind, Tensor) or blind.shape != scores.shape:
            raise ValueError(f"blind must have the shape of scores, {tuple(scores.shape)}, got {describe(blind)}")
        unseen = _share(_choices(blind, "blind")[0])
    macro, per_category, skipped = None, {}, []
    if categories is not None:
        categories = require_labels(categories, len(right), "categories").to(right.device)
        least = require_int(min_cases, "min_cases", low=1)
        for category in categories.unique().tolist():
            cases = right[categories == category]
            if len(cases) < least:
                skipped.append(category)
            else:
                per_category[category] = _share(cases)
        if not per_category:
            raise ValueError(f"categories has none with at least {least} cases")
        macro = sum(per_category.values()) / len(per_category)
    accuracy = _share(right)
    room = ceiling - unseen if unseen is not None else 0.0
    return CaptionChoice(
        accuracy=accuracy,
        macro=macro,
        per_category=per_category,
        chance=chance,
        blind=unseen,
        above_blind=(accuracy - unseen) / room if unseen is not None and room > 0 else None,
        ceiling=float(ceiling),
        right=right,
        skipped=tuple(skipped),
        n=len(right),
    )


def _choices(scores: Tensor, name: str) -> tuple[Tensor, float]:
    scores = _scores(scores, name, 2, options=True)
    options = (~torch.isneginf(scores)).sum(1)
    if scores.shape[1] < 2 or int(options.min()) < 2 or bool(torch.isneginf(scores[:, 0]).any()):
        raise ValueError(f"{name} must have the true caption and at least one other option in each row, got {describe(scores)}")
    return scores[:, 0] > scores[:, 1:].amax(1), float((1 / options.double()).mean())


def _scores(scores: Tensor, name: str, ndim: int, *, options: bool = False) -> Tensor:
    scores = require_tensor(scores, name)
    if not scores.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {describe(scores)}")
    if scores.ndim != ndim or not len(scores):
        raise ValueError(f"{name} must have {ndim} dimensions and at least one row, got {describe(scores)}")
    bad = ~torch.isfinite(scores) & ~(torch.isneginf(scores) if options else torch.zeros_like(scores, dtype=torch.bool))
    if bad.any():
        raise ValueError(f"{name} has {int(bad.sum())} entries that are NaN or infinite")
    return scores


def _share(right: Tensor) -> float:
    return float(right.double().mean())
