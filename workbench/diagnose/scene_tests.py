"""Tests of a model on rendered scenes, where every factor is known: zero-shot, minimal pairs, and word order on the user's own captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from workbench import metrics
from workbench.diagnose.measure import Measured
from workbench.metrics.intervals import mean_of

if TYPE_CHECKING:
    from workbench.models.wrappers import Pretrained

ZERO_SHOT = ("shape", "colour", "texture", "size", "background")
FACTS = {
    "shape": ("colour", "shape"),
    "colour": ("colour", "shape"),
    "texture": ("texture", "colour", "shape"),
    "size": ("size", "colour", "shape"),
    "background": ("colour", "shape", "background"),
    "relation": ("colour", "shape", "relation"),
    "colours exchanged": ("colour", "shape", "relation"),
}
SIDE = 112  # pixels of a scene at most
ORDERS = 4  # other orders of a caption's words
FEWEST = 20  # captions for a test of word order


@dataclass(frozen=True, eq=False)
class SceneTests:
    """Results of the tests, and what could not be tested."""

    estimates: tuple[Measured, ...]
    skipped: tuple[str, ...]
    scenes: int


def scene_tests(loaded: Pretrained, *, n: int, side: int, level: float = 0.95, seed: int = 0) -> SceneTests:
    """Zero-shot accuracy and minimal pairs on scenes that the shipped models did not see.

    Args:
        loaded: a model with pictures and texts in one space, or pictures alone (then only how far an edit moves its embedding).
        n: scenes of each test.
        side: of the model's pictures in pixels.
        level: confidence of the intervals.
        seed: of the edits and of the bootstrap.

    Returns:
        zero_shot, pairs_text, pairs_image and pairs_group by factor, and pair_cosine, the cosine of two pictures that differ in it.
    """
    from workbench.data.scenes import captions, counterfactual, load_scenes, render, scenes_of, swap_attributes, swappable

    side = min(side, SIDE)
    both = loaded.kind in ("dual-encoder", "bridge")
    found: list[Measured] = []
    single = load_scenes("test", n=n, objects=(1, 1), size=side)
    double = load_scenes("test", n=n, objects=(2, 2), size=side)
    assert single.images is not None and double.images is not None
    seen = {1: loaded.embed_images(single.images).cpu(), 2: loaded.embed_images(double.images).cpu()}
    if both:
        for factor in ZERO_SHOT:
            names = single.factor_names[factor]
            prompts = loaded.embed_texts([prompt(factor, name) for name in names]).cpu()
            found.append(_zero_shot(loaded.name, factor, seen[1] @ prompts.T, single.factors[factor], level))
    for factor, facts in FACTS.items():
        objects = 2 if factor in ("relation", "colours exchanged") else 1
        scenes, images = scenes_of(double if objects == 2 else single), seen[objects]
        if factor == "colours exchanged":
            rows = swappable(scenes)
            scenes, images = scenes.select(rows), images[rows]
            edited = swap_attributes(scenes, "colour", seed=seed).scenes
        else:
            edited = counterfactual(scenes, factor, seed=seed).scenes
        others = loaded.embed_images(render(edited, side)).cpu()
        moved = metrics.minimal_pair_sensitivity({factor: (images, others)}, level=level, seed=seed)[factor].cosine
        found.append(Measured(replace(moved, name="pair_cosine"), loaded.name, factor))
        if both:
            told = [loaded.embed_texts(captions(s, facts)).cpu() for s in (scenes, edited)]
            scores = torch.stack([(t * v).sum(1) for t in told for v in (images, others)], 1).view(-1, 2, 2)
            result = metrics.minimal_pairs(scores)
            for kind in ("pairs_text", "pairs_image", "pairs_group"):
                found.append(Measured(metrics.estimate(kind, result, level=level, seed=seed), loaded.name, factor))
    skipped = (
        ()
        if both
        else (f"zero-shot and minimal pairs of {loaded.name}: its kind is {loaded.kind}, without texts in the space of pictures",)
    )
    return SceneTests(tuple(found), skipped, n)


def prompt(factor: str, name: str) -> str:
    """What a scene of one object with this value is called: "a circle", "a red object", "an object on a navy background"."""
    from workbench.data.scene_captions import Description, Mention

    if factor == "background":
        return str(Description((Mention(),), (), name))
    return str(Description((Mention(**{factor: name}),)))


def word_order(
    loaded: Pretrained, images: Tensor, captions: Sequence[str], *, level: float = 0.95, seed: int = 0, most: int = 500
) -> tuple[Measured | None, str | None]:
    """Whether pictures prefer their captions to the same words in other orders, against a score that does not see the picture.

    The text-only baseline scores a text by its cosine with the mean picture: what the text encoder alone prefers.

    Args:
        loaded: a dual encoder.
        images: (n, d) embeddings of the pictures, rows of length one.
        captions: their captions.
        level: confidence of the interval.
        seed: of the orders.
        most: captions at most.

    Returns:
        The estimate, whose null is the text-only baseline, or None and the reason.
    """
    chance = np.random.default_rng(seed)
    rows: list[int] = []
    texts: list[list[str]] = []
    for i in chance.permutation(len(captions)).tolist():
        words = captions[i].split()
        orders = {" ".join(words[j] for j in chance.permutation(len(words))) for _ in range(3 * ORDERS)} - {" ".join(words)}
        if len(set(words)) >= 3 and len(orders) >= ORDERS and len(rows) < most:
            rows.append(i)
            texts.append([" ".join(words), *sorted(orders)[:ORDERS]])
    if len(rows) < FEWEST:
        return None, f"word order of {loaded.name}: {len(rows)} captions have three different words or more, {FEWEST} are needed"
    told = loaded.embed_texts([t for options in texts for t in options]).cpu().view(len(rows), ORDERS + 1, -1)
    scores = torch.einsum("nd,nod->no", images[torch.tensor(rows)], told)
    blind = told @ normalize(images.mean(0), dim=0)
    choice = metrics.caption_choice(scores, blind=blind)
    return Measured(metrics.estimate("caption_choice", choice, level=level, seed=seed), loaded.name, "word order"), None


def _zero_shot(name: str, factor: str, scores: Tensor, truth: Tensor, level: float) -> Measured:
    hits = scores.argmax(1) == truth
    words: dict[str, Any] = {
        "null": float(truth.bincount().max() / len(truth)),
        "null_is": "always the most frequent value",
        "convention": "nearest of the names' embeddings, one prompt each",
    }
    parts = mean_of("zero_shot", hits, bounds=(0.0, 1.0), share=True, **words)
    return Measured(metrics.interval(parts, level=level), name, factor)
