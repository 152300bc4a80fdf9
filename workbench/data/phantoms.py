"""Phantoms: drawn grey pictures laid out like a chest film, with reports. Nobody's body is shown and nothing is medical."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.files import require_size
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

FINDINGS = ("nodule", "cavity", "infiltrate", "line", "wedge", "enlarged heart", "fluid level")
SIDES = ("left", "right")
SPLITS = {"train": (0, 2_000), "val": (2**40, 500), "test": (2**41, 1_000)}  # number of the first phantom, rows by default
CHANCE = 0.22  # of each finding: 1.5 a picture on average, at most three are drawn
COUNT = 3

# Words of the drawings and of radiology; the first of each is the plain one.
WORDS = {
    "nodule": ("nodule", "round opacity", "coin lesion"),
    "cavity": ("cavity", "ring shadow", "cavitary lesion"),
    "infiltrate": ("infiltrate", "hatched opacity", "consolidation"),
    "line": ("line", "linear opacity", "band of atelectasis"),
    "wedge": ("wedge", "wedge-shaped opacity", "triangular opacity"),
    "enlarged heart": ("enlarged heart", "cardiomegaly", "widened cardiac silhouette"),
    "fluid level": ("fluid level", "pleural effusion", "blunted base"),
}
SIZES = ("small", "large")
_POSITIVE = (
    "There is a {size} {word} on the {side}.",
    "A {size} {word} is seen in the {side} field.",
    "{side_} side: {size} {word}.",
)
_HEART = ("There is {article}{word}.", "The heart shadow suggests {article}{word}.", "Impression: {word}.")
_NEGATIVE = ("No {word} is seen.", "There is no {word}.", "Negative for {word}.")
_FILLER = (
    "The picture is of adequate quality.",
    "Compared with the earlier picture, no change of position.",
    "The outline of the body is unremarkable.",
    "Follow-up as planned.",
    "Drawn in one projection.",
)


def load_phantoms(
    split: str = "train",
    *,
    n: int | None = None,
    size: int = 32,
    seed: int = 0,
    contrast: float = 1.0,
    negatives: int = 1,
    device: str | torch.device = "cpu",
) -> Dataset:
    """Radiograph-like drawings with known findings and reports of several sentences; drawn on the spot, nothing is stored.

    Args:
        split: 'train', 'val' or 'test': ranges of numbers that do not meet.
        n: number of phantoms (default 2,000 / 500 / 1,000); any number, each is new.
        size: side of the pictures in pixels.
        seed: which world; the same seed in all splits keeps them apart.
        contrast: how strongly findings stand out; 1 is faint on purpose.
        negatives: how many absent findings a report names ("No cavity is seen.").
        device: where the tensors live. Drawing happens on the CPU, so that every device has the same picture.

    Returns:
        images (n, 1, size, size); captions: whole reports; `extras["sentences"]` the sentences of each (one a finding, then negatives and
        one that says nothing) and `extras["findings"]` (n, 7) 0 or 1 in the order of `FINDINGS`; factors: one 0/1 column a finding,
        side_<finding> (0 left, 1 right, -1 absent; none for the heart), size_<finding> and count.

    Raises:
        UnknownNameError: split.
        TypeError, ValueError: n, size, contrast or negatives.

    Example:
        >>> ds = load_phantoms("val", n=4)
        >>> ds.images.shape, len(ds.extras["sentences"][0]) >= 2
        (torch.Size([4, 1, 32, 32]), True)
    """
    if split not in SPLITS:
        raise UnknownNameError("phantoms split", split, SPLITS)
    first, rows = SPLITS[split]
    rows = rows if n is None else n
    if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)):
        raise TypeError(f"n must be an integer, got {type(n).__name__} {n!r}")
    if not 1 <= rows < 2**40:
        raise ValueError(f"n must be at least 1 and below 2**40, got {n}")
    if not 0 < contrast < 100:
        raise ValueError(f"contrast must be above 0 and below 100, got {contrast}")
    if not 0 <= negatives <= len(FINDINGS) - COUNT:
        raise ValueError(f"negatives must be from 0 to {len(FINDINGS) - COUNT}, got {negatives}")
    size = require_size(size)
    index = first + torch.arange(rows)
    present, side, large = sample_findings(index, seed)
    images = draw(index, present, side, large, size=size, seed=seed, contrast=contrast)
    sentences = reports(index, present, side, large, seed=seed, negatives=negatives)
    factors: dict[str, Tensor] = {}
    for k, name in enumerate(FINDINGS):
        factors[name] = present[:, k].long()
        factors[f"size_{name}"] = torch.where(present[:, k], large[:, k].long(), -1)
        if name != "enlarged heart":
            factors[f"side_{name}"] = torch.where(present[:, k], side[:, k].long(), -1)
    factors["count"] = present.sum(1)
    extras = {"sentences": sentences, "findings": present.long(), "number": index}
    data = Dataset("phantoms", split, images, None, (), [" ".join(s) for s in sentences], factors, {}, extras)
    return data.to(resolve_device(device))


def sample_findings(index: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Present, on the right, large: three (n, 7) boolean tensors; at most three findings a picture."""
    u = _uniform(index, seed, 0, len(FINDINGS))
    rank = u.argsort(1).argsort(1)
    return (
        (u < CHANCE) & (rank < COUNT),
        _uniform(index, seed, 1, len(FINDINGS)) < 0.5,
        _uniform(index, seed, 2, len(FINDINGS)) < 0.5,
    )


def draw(
    index: Tensor, present: Tensor, side: Tensor, large: Tensor, *, size: int = 32, seed: int = 0, contrast: float = 1.0
) -> Tensor:
    """The pictures, (n, 1, size, size) in [0, 1]: a grey body, two dark fields, a heart, noise, and the findings at low contrast."""
    parts = [slice(a, a + 256) for a in range(0, len(index), 256)]
    return torch.cat([_draw(index[p], present[p], side[p], large[p], size, seed, contrast) for p in parts])


def _draw(index: Tensor, present: Tensor, side: Tensor, large: Tensor, size: int, seed: int, contrast: float) -> Tensor:
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = (c[None].expand(len(index), -1, -1) for c in torch.meshgrid(axis, axis, indexing="ij"))
    soft = 1.5 / size
    u = (_uniform(index, seed, 3, 40) * 2 - 1)[:, :, None, None]

    def inside(distance: Tensor) -> Tensor:
        return torch.sigmoid(-distance / soft)

    def oval(cx: Tensor | float, cy: Tensor | float, rx: Tensor | float, ry: Tensor | float) -> Tensor:
        return inside((((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2).sqrt() - 1)

    scale = 1 + 0.05 * u[:, 0]
    shift_x, shift_y = 0.05 * u[:, 1], 0.05 * u[:, 2]
    image = 0.08 + 0.47 * oval(shift_x, shift_y + 0.1, 0.92 * scale, 1.05 * scale)
    field = {s: oval(shift_x + s * 0.42 * scale, shift_y, 0.3 * scale, 0.62 * scale) for s in (-1, 1)}
    image = image - 0.3 * (field[-1] + field[1])
    heart = 0.22 * scale * (1 + 0.15 * u[:, 3])
    grown = heart * (1 + present[:, 5, None, None] * (0.2 + 0.2 * large[:, 5, None, None]) * min(contrast, 2.0))
    image = torch.maximum(image, 0.58 * oval(shift_x - 0.06, shift_y + 0.35, grown, heart * 1.15))
    strength = 0.11 * contrast

    for k, name in enumerate(FINDINGS):
        if name == "enlarged heart":
            continue
        sign = side[:, k, None, None].float() * 2 - 1
        big = large[:, k, None, None].float()
        cx = shift_x + sign * 0.42 + 0.1 * u[:, 4 + 3 * k]
        cy = shift_y - 0.05 + 0.28 * u[:, 5 + 3 * k]
        r = 0.075 + 0.06 * big
        distance = ((x - cx) ** 2 + (y - cy) ** 2).sqrt()
        turn = u[:, 6 + 3 * k] * 0.6
        along, across = (x - cx) * turn.cos() + (y - cy) * turn.sin(), (y - cy) * turn.cos() - (x - cx) * turn.sin()
        if name == "nodule":
            mark = inside(distance - r)
        elif name == "cavity":
            mark = inside((distance - 1.5 * r).abs() - 0.035)
        elif name == "infiltrate":
            mark = inside(distance - 2 * r) * (0.5 + 0.5 * torch.sin((x + y) * 22))
        elif name == "line":
            mark = inside(across.abs() - 0.025) * inside(along.abs() - 2.2 * r)
        elif name == "wedge":
            mark = inside(across.abs() - (along + 1.5 * r) * 0.5) * inside(along.abs() - 1.5 * r)
        else:  # fluid in the base of the field, with a level top
            whole = torch.where(sign > 0, field[1], field[-1])
            mark = whole * inside(shift_y + 0.42 - 0.16 * big - y) * 1.3
        image = image + present[:, k, None, None] * strength * mark
    noise = _uniform(index, seed, 4, size * size).reshape(-1, size, size) + _uniform(index, seed, 5, size * size).reshape(
        -1, size, size
    )
    return (image + 0.06 * (noise - 1)).clamp(0, 1)[:, None].float()


def reports(index: Tensor, present: Tensor, side: Tensor, large: Tensor, *, seed: int = 0, negatives: int = 1) -> list[list[str]]:
    """The sentences of every report, in a mixed order: one for each finding, `negatives` for absent ones, one that says nothing."""
    u = _uniform(index, seed, 6, 40).tolist()
    cells = zip(u, present.tolist(), side.tolist(), large.tolist(), strict=True)
    out = []
    for draws, there, right, big in cells:
        pick = partial(_pick, draws)
        sentences = []
        for k, name in enumerate(FINDINGS):
            if there[k]:
                word, where = pick(WORDS[name], k), SIDES[right[k]]
                form = pick(_HEART if name == "enlarged heart" else _POSITIVE, 7 + k)
                article = "" if word == "cardiomegaly" else "an " if word[0] in "aeiou" else "a "
                sentences.append(
                    form.format(word=word, article=article, size=SIZES[big[k]], side=where, side_=where.capitalize())
                )
        absent = sorted((k for k in range(len(FINDINGS)) if not there[k]), key=lambda k: draws[14 + k])[:negatives]
        sentences += [pick(_NEGATIVE, 21 + k).format(word=pick(WORDS[FINDINGS[k]], 28 + k)) for k in absent]
        sentences.append(pick(_FILLER, 35))
        turn = int(draws[36] * len(sentences))
        out.append(sentences[turn:] + sentences[:turn])
    return out


def _pick(draws: list[float], options: tuple[str, ...], at: int) -> str:
    return options[int(draws[at] * len(options))]


def _uniform(index: Tensor, seed: int, purpose: int, width: int) -> Tensor:
    """(n, width) float64 in [0, 1): a hash of (seed, number, purpose, column), the same in any batch, order or machine."""
    key = int.from_bytes(hashlib.sha256(f"phantoms {seed} {purpose}".encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        column = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (
            (index.numpy().astype(np.uint64)[:, None] + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03)
            + column[None]
            + np.uint64(key)
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return torch.from_numpy((x >> np.uint64(11)).astype(np.float64) / 2**53)
