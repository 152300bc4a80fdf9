"""mini-clip: a dual encoder of drawings and their names; and mini-clip-tau001, the same at a fixed temperature of 0.01."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.data.augment import augment
from workbench.data.clipart import load_clipart
from workbench.data.dataset import Dataset
from workbench.data.emoji import HELD_OUT_STYLE, STYLES, load_emoji
from workbench.data.scene_captions import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES
from workbench.data.scene_table import TEXTURES
from workbench.data.scenes import load_scenes
from workbench.data.stamps import load_stamps
from workbench.metrics import factor_probe, modality_gap, uniformity
from workbench.models.recipes import _clip as clip
from workbench.models.recipes import _common as common
from workbench.models.text import Tokens, encode_texts, train_tokenizer
from workbench.training import fit

NAME, COLD = "mini-clip", "mini-clip-tau001"
LENGTH = 24
SEEN_STYLES = tuple(style for style in STYLES if style != HELD_OUT_STYLE)
SHARES = {"emoji": 0.45, "clipart": 0.25, "stamps": 0.1}  # of a batch; the rest are scenes
SCENES: tuple[tuple[str, tuple[int, int]], ...] = (
    ("attributes", (1, 1)),
    ("short", (1, 3)),
    ("places", (1, 1)),
    ("short", (2, 2)),
)
TEMPLATES = ("{}", "a drawing of {}", "a picture of {}", "an emoji of {}", "a small {}")
WHAT = {
    NAME: "CLIP for pictures of 32 pixels (4 layers, width 128, 16 patches; 2 text layers) of emoji, clip art, stamps and scenes",
    COLD: "mini-clip with the temperature fixed at 0.01 instead of learned, else trained alike: shows a wide modality gap",
}


def train(preset: str = "cpu", out: Path | None = None, seed: int = 0, *, name: str = NAME) -> Path:
    """Train mini-clip (learned temperature) or mini-clip-tau001 (fixed) and write its folder; about 15 minutes of one core at 'cpu'."""
    at = common.start(name, preset, out, seed, half=False)
    sources = load_sources("train", every=at.pick(ci=20, cpu=1, gpu=1))
    tokenizer = train_tokenizer(_texts(sources), vocab_size=4096, max_length=LENGTH)
    model = clip.build(
        tokenizer,
        projection=128,
        vision={"width": 128, "layers": 4, "heads": 4, "ffn": 512},
        text={"width": 128, "layers": 2, "heads": 4, "ffn": 512},
        length=LENGTH,
        temperature=0.07 if name == NAME else 1 / clip.MAX_LOGIT_SCALE,
    ).to(at.device)
    model.logit_scale.requires_grad_(name == NAME)
    steps = at.pick(ci=4, cpu=3000, gpu=8000)
    held = load_emoji("val", flags=False)
    val: list[list[float]] = []

    def watch(state: Any) -> None:
        if common.due(state.step, steps):
            assert held.images is not None
            images, texts = clip.embed_images(model, held.images), clip.embed_texts(model, tokenizer, held.captions)
            found = clip.recalls(images, texts, held.captions)
            val.append([state.step, *(common.rounded(found[key]) for key in ("i2t_r5", "i2t_r10"))])

    history = fit(
        model,
        lambda batch: clip.pair_loss(model, batch[0].to(at.device), batch[1].ids.to(at.device), batch[1].mask.to(at.device)),
        stream(sources, tokenizer, at.pick(ci=24, cpu=128, gpu=512), seed),
        steps=steps,
        lr=1e-3,
        weight_decay=0.2,
        warmup=max(1, steps // 20),
        clip_norm=1.0,
        precision=at.precision,
        hooks=[watch],
        title=name,
    )
    common.store(at.folder, model, tokenizer, clip.image_processor())
    return common.finish(
        at,
        name,
        kind="dual-encoder",
        what=WHAT[name],
        licence="GPL-2.0-only AND CC-BY-4.0 AND Apache-2.0 AND MIT AND Unicode-3.0",
        source=["emoji", "clipart", "stamps", "scenes"],
        history=[history],
        evaluate=evaluate,
        headline=("zero_shot_group", "openmoji_recognised_r1", "emoji_i2t_r10", "gap"),
        baselines=_baselines(every=at.pick(ci=8, cpu=1, gpu=1)),
        card=lambda stored: _card(stored, at.folder),
        extra={"validation": val, "validation_columns": ["step", "i2t_r5", "i2t_r10"], "held_out_style": HELD_OUT_STYLE},
    )


def evaluate(folder: Path, device: str = "cpu") -> dict[str, float]:
    """Zero-shot classes, retrieval, geometry and factor probes on test splits and on the style that training never saw."""
    model, tokenizer = clip.load(folder, device)
    known = load_emoji("train", flags=False, style=HELD_OUT_STYLE)
    names = clip.embed_texts(model, tokenizer, known.captions)
    drawn = load_emoji("train", flags=False)
    assert drawn.images is not None
    memory = clip.embed_images(model, drawn.images)
    found: dict[str, float] = {"temperature": float(1 / model.logit_scale.detach().exp())}
    for style, prefix in (("noto", ""), (HELD_OUT_STYLE, f"{HELD_OUT_STYLE}_")):
        ds = load_emoji("test", flags=False, style=style)
        assert ds.images is not None
        images, texts = clip.embed_images(model, ds.images), clip.embed_texts(model, tokenizer, ds.captions)
        for level in ("group", "subgroup"):
            found[f"{prefix}zero_shot_{level}"] = _zero_shot(images, _class_of(ds, level), names, _class_of(known, level))
            same = _class_of(drawn, level)[clip.nearest(memory, images)] == _class_of(ds, level)
            found[f"{prefix}nearest_{level}"] = float(same.float().mean())
        found |= {f"{prefix}emoji_{key}": value for key, value in clip.recalls(images, texts, ds.captions).items()}
        if not prefix:
            gap = modality_gap(images, texts)
            found |= {"gap": gap.centroid_distance, "separability": gap.separability}
            found |= {"uniformity_images": float(uniformity(images)), "uniformity_texts": float(uniformity(texts))}
    assert known.images is not None
    seen = clip.recalls(clip.embed_images(model, known.images), names, known.captions)
    found |= {f"{HELD_OUT_STYLE}_recognised_r1": seen["i2t_r1"], f"{HELD_OUT_STYLE}_recognised_r5": seen["i2t_r5"]}
    for name, other in (("stamps", load_stamps("test", size=clip.SIZE)), ("clipart", load_clipart("test"))):
        assert other.images is not None
        texts = clip.embed_texts(model, tokenizer, [plain(text) for text in other.captions])
        found |= {
            f"{name}_{k}": v for k, v in clip.recalls(clip.embed_images(model, other.images), texts, other.captions).items()
        }
    scenes = load_scenes("test", n=600, objects=(1, 1))
    assert scenes.images is not None
    return found | _probes(clip.embed_images(model, scenes.images), scenes)


# ---- pictures and captions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Premultiplied RGBA pictures (n, styles, 4, 32, 32) uint8 with a caption writer and the weight of each row.

    `drawn` says which rows each style has, (n, styles) bool; `texts` are all words of a row, for the tokenizer.
    """

    name: str
    pixels: Tensor
    drawn: Tensor
    weights: Tensor
    write: Callable[[int, random.Random], str]
    names: list[str]
    texts: list[str]


def load_sources(split: str, every: int = 1) -> list[Source]:
    """Emoji (three styles, no skin tones, no flags), clip art and stamps of one split."""
    return [_emoji_source(split, every), _clipart_source(split, every), _stamps_source(split, every)]


def stream(sources: Sequence[Source], tokenizer: Any, size: int, seed: int) -> Iterator[tuple[Tensor, Tokens]]:
    """Endless batches of augmented pictures with one of their captions; no concept twice in a batch."""
    generator, words = torch.Generator().manual_seed(seed), random.Random(seed)
    counts = {source.name: max(1, round(SHARES[source.name] * size)) for source in sources}
    scenes = _scene_stream(size - sum(counts.values()), seed)
    while True:
        drawings, captions = [], []
        for source in sources:
            rows = torch.multinomial(source.weights, counts[source.name], generator=generator)
            style = torch.multinomial(source.drawn[rows].float(), 1, generator=generator)[:, 0]
            drawings.append(source.pixels[rows, style])
            captions += [source.write(row, words) for row in rows.tolist()]
        pictures, more = next(scenes)
        images = torch.cat([on_background(torch.cat(drawings), generator), pictures])
        yield images, encode_texts(tokenizer, [plain(text) for text in captions + more], max_length=LENGTH)


def on_background(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Turned, shifted and zoomed, laid over white or (one time in four) a light colour, then other colours: (n, 3, h, w) in [0, 1]."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    drawn = augment(rgba.float() / 255, "affine", rotation=15, shift=0.1, zoom=(0.8, 1.15), shear=8, seed=seed)
    colour = 1 - 0.4 * torch.rand(len(rgba), 3, 1, 1, generator=generator)
    white = torch.rand(len(rgba), 1, 1, 1, generator=generator) < 0.75
    laid = (drawn[:, :3] + (1 - drawn[:, 3:]) * torch.where(white, torch.ones_like(colour), colour)).clamp(0, 1)
    return augment(laid, "none", colour=0.3, hue=0.04, grey=0.1, seed=seed + 1)


def plain(text: str) -> str:
    """A caption without its full stop."""
    return text.rstrip(". ")


def _emoji_source(split: str, every: int) -> Source:
    parts = {s: load_emoji(split, style=s, size=clip.SIZE, flags=False, background=None) for s in SEEN_STYLES}
    first = parts[SEEN_STYLES[0]]
    place = {code: i for i, code in enumerate(first.extras["hexcode"])}
    pixels = torch.zeros(len(first), len(parts), 4, clip.SIZE, clip.SIZE, dtype=torch.uint8)
    drawn = torch.zeros(len(first), len(parts), dtype=torch.bool)
    for k, ds in enumerate(parts.values()):
        rows = torch.tensor([place[code] for code in ds.extras["hexcode"]])
        assert ds.images is not None
        pixels[rows, k], drawn[rows, k] = (ds.images * 255).round().byte(), True
    keywords = first.extras["keywords"]

    def write(row: int, words: random.Random) -> str:
        name, some = first.captions[row], words.sample(keywords[row], min(3, len(keywords[row])))
        kind = words.random()
        if kind < 0.45 or not some:
            return name
        if kind < 0.65:
            return f"{name}: {', '.join(some[:2])}"
        return words.choice(TEMPLATES[1:]).format(name) if kind < 0.85 else ", ".join(some)

    texts = [f"{a}: {', '.join(k)}" for a, k in zip(first.captions, keywords, strict=True)]
    return _thinned(Source("emoji", pixels, drawn, torch.ones(len(first)), write, list(first.captions), texts), every)


def _clipart_source(split: str, every: int) -> Source:
    ds = load_clipart(split, size=clip.SIZE, background=None)
    tags = ds.extras["tags"]

    def write(row: int, words: random.Random) -> str:
        some = words.sample(tags[row], min(3, len(tags[row])))
        kind = words.random()
        if kind < 0.6 or not some:
            return ds.captions[row]
        return f"{ds.captions[row]}: {', '.join(some[:2])}" if kind < 0.8 else ", ".join(some)

    texts = [f"{a}: {', '.join(t)}" for a, t in zip(ds.captions, tags, strict=True)]
    return _thinned(_one_style("clipart", ds, write, texts), every)


def _stamps_source(split: str, every: int) -> Source:
    ds = load_stamps(split, size=clip.SIZE, background=None)
    return _thinned(_one_style("stamps", ds, lambda row, words: ds.captions[row], list(ds.captions)), every)


def _one_style(name: str, ds: Dataset, write: Callable[[int, random.Random], str], texts: list[str]) -> Source:
    assert ds.images is not None
    pixels = (ds.images * 255).round().byte()[:, None]
    return Source(name, pixels, torch.ones(len(ds), 1, dtype=torch.bool), torch.ones(len(ds)), write, list(ds.captions), texts)


def _thinned(source: Source, every: int) -> Source:
    keep = torch.arange(len(source.weights)) % every == 0
    return replace(source, weights=source.weights * keep)


def _scene_stream(size: int, seed: int, chunk: int = 16) -> Iterator[tuple[Tensor, list[str]]]:
    start, turn = 0, 0
    while True:
        level, objects = SCENES[turn % len(SCENES)]
        ds = load_scenes("train", n=chunk * size, seed=seed, start=start, objects=objects, caption_level=level, wording=None)
        start, turn = start + chunk * size, turn + 1
        assert ds.images is not None
        for at in range(0, chunk * size, size):
            yield ds.images[at : at + size], list(ds.captions[at : at + size])


def _texts(sources: Sequence[Source]) -> list[str]:
    words = " ".join([*COLOURS, *SHAPES, *SIZES, *TEXTURES, *BACKGROUNDS, *PLACES, *RELATIONS])
    return [*(plain(text) for source in sources for text in source.texts), *[words] * 3, *(t.format("and") for t in TEMPLATES)]


# ---- what the card measures --------------------------------------------------------------------------------------------------


def _class_of(ds: Dataset, level: str) -> Tensor:
    assert ds.labels is not None
    return ds.labels if level == "group" else ds.factors["subgroup"]


def _zero_shot(images: Tensor, labels: Tensor, names: Tensor, of_names: Tensor) -> float:
    """Accuracy with the mean text vector of the training names of a class as its prototype."""
    classes = of_names.unique()
    prototypes = torch.nn.functional.normalize(torch.stack([names[of_names == c].mean(0) for c in classes]), dim=1)
    return float((classes[(images @ prototypes.T).argmax(1)] == labels).float().mean())


def _probes(vectors: Tensor, scenes: Dataset) -> dict[str, float]:
    factors = {name: scenes.factors[name] for name in ("shape", "colour", "texture", "size")}
    accuracy = factor_probe(vectors, factors, probe="ridge").accuracy
    return {f"probe_{name}": value for name, value in accuracy.items()}


def _baselines(every: int = 1) -> dict[str, float]:
    """Colour histograms with the nearest training picture, chance, and the largest class."""
    train, test = load_emoji("train", flags=False).select(slice(None, None, every)), load_emoji("test", flags=False)
    other = load_emoji("train", flags=False, style=HELD_OUT_STYLE)
    odd = load_emoji("test", flags=False, style=HELD_OUT_STYLE)
    assert train.images is not None and test.images is not None and other.images is not None and odd.images is not None
    sizes = [len(train), len(test), len(other), len(odd)]
    h = clip.histograms(torch.cat([train.images, test.images, other.images, odd.images])).split(sizes)
    found = {}
    for ds, vectors, prefix in ((test, h[1], ""), (odd, h[3], f"{HELD_OUT_STYLE}_")):
        near = clip.nearest(h[0], vectors)
        for level in ("group", "subgroup"):
            truth, known = _class_of(ds, level), _class_of(train, level)
            found[f"colour histogram, nearest neighbour: {prefix}nearest_{level}"] = float((known[near] == truth).float().mean())
            found[f"largest class: {prefix}zero_shot_{level}"] = float((truth == known.mode().values).float().mean())
    same = train.factors["concept"][clip.nearest(h[0], h[2])] == other.factors["concept"]
    found[f"colour histogram, nearest neighbour: {HELD_OUT_STYLE}_recognised_r1"] = float(same.float().mean())
    found["chance: emoji_i2t_r10"], found["chance: emoji_i2t_r1"] = 10 / len(test), 1 / len(test)
    for name, n in (("stamps", len(load_stamps("test", size=8))), ("clipart", len(load_clipart("test", size=8)))):
        found[f"chance: {name}_i2t_r10"] = 10 / n
    scenes = load_scenes("test", n=600, objects=(1, 1))
    assert scenes.images is not None
    colours = _probes(clip.histograms(scenes.images), scenes)
    return found | {f"colour histogram, probe: {key}": value for key, value in colours.items()}


def _card(stored: dict[str, Any], folder: Path) -> str:
    near, most, style = "colour histogram, nearest neighbour: {}", "largest class: {}", HELD_OUT_STYLE
    rows: dict[str, tuple[str, Sequence[str]]] = {}
    for prefix, where in (("", "Noto pictures of unseen concepts"), (f"{style}_", "the same in the unseen style")):
        for level in ("group", "subgroup"):
            key, picture = f"{prefix}zero_shot_{level}", f"{prefix}nearest_{level}"
            rows[key] = (f"zero-shot {level} from names alone, {where}", (most.format(key),))
            rows[picture] = (f"{level} of the nearest Noto training picture, {where}", (near.format(picture),))
    key = f"{style}_recognised_r1"
    rows[key] = (f"{style} picture (unseen style) of a known concept to its name among 1,151", (near.format(key),))
    rows["emoji_i2t_r1"] = ("R@1, picture of an unseen concept to its name", ("chance: emoji_i2t_r1",))
    rows["emoji_i2t_r10"] = ("R@10 of the same", ("chance: emoji_i2t_r10",))
    rows["emoji_t2i_r10"] = ("R@10, name to picture", ("chance: emoji_i2t_r10",))
    for name in ("stamps", "clipart"):
        rows[f"{name}_i2t_r10"] = (f"R@10, picture to caption, {name} (test)", (f"chance: {name}_i2t_r10",))
        rows[f"{name}_t2i_r10"] = (f"R@10, caption to picture, {name} (test)", (f"chance: {name}_i2t_r10",))
    rows |= {
        "gap": ("modality gap, distance of the centroids", ()),
        "separability": ("linear separability of the modalities", ()),
    }
    rows |= {"uniformity_images": ("uniformity of pictures", ()), "uniformity_texts": ("uniformity of names", ())}
    for name in ("shape", "colour", "texture", "size"):
        rows[f"probe_{name}"] = (f"linear probe, {name} of one-object scenes", (f"colour histogram, probe: probe_{name}",))
    behind = [
        what for key, (what, beside) in rows.items() if any(stored["baselines"][name] > stored["metrics"][key] for name in beside)
    ]
    text = CARD_TEXT.replace("__TEMPERATURE__", _TEMPERATURE[stored["name"]])
    return text.format(
        behind="".join(f"\n- {what}" for what in behind) or " nowhere",
        **stored,
        table=common.table(stored["metrics"], stored["baselines"], rows),
        shown=_shown(folder),
        tau=stored["metrics"]["temperature"],
    )


def _shown(folder: Path) -> str:
    model, tokenizer = clip.load(folder)
    ds = load_emoji("test", flags=False).select(slice(5, None, 60))
    everything = load_emoji("test", flags=False).captions
    assert ds.images is not None
    cosine = clip.embed_images(model, ds.images) @ clip.embed_texts(model, tokenizer, everything).T
    lines = []
    for row, own in enumerate(ds.captions):
        top = cosine[row].topk(3)
        lines.append(
            f"- *{own}*: "
            + ", ".join(f"{everything[i]} {v:.2f}" for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True))
        )
    return "\n".join(lines)


_TEMPERATURE = {
    NAME: "The temperature started at 0.07 and was learned; it ended at {tau:g}.",
    COLD: "The temperature was fixed at {tau:g}; everything else, seed and batches included, is as in mini-clip.",
}
CARD_TEXT = """
# {name}

{what}. {parameters:,} weights.

```python
from transformers import AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained("data/models/{name}")  # pictures (n, 3, 32, 32) in [-1, 1]
tokenizer = AutoTokenizer.from_pretrained("data/models/{name}")
```

## What it saw

Train splits of emoji in the styles Noto, Twemoji and Fluent (no skin tones, no flags), of clip art and of stamps, and new rendered scenes in every
step. Captions: names, names with keywords, keywords alone, four templates; titles and tags of clip art; captions of stamps and scenes. **OpenMoji was
held out**, and so is every row of a val or test split: their families of concepts have never been seen in any style.

## How it was trained

`{command}`, seed {seed}: {steps:,} steps of 128 pairs (45 % emoji, 25 % clip art, 10 % stamps, 20 % scenes; no concept twice in a batch), {seconds:,.0f} s of wall time on
one thread. CLIP's loss, AdamW with a peak rate of 1e-3 and weight decay 0.2, warm-up and cosine. Pictures are turned by up to 15 degrees, shifted,
zoomed, laid over white or a light colour, and changed a little in colour. __TEMPERATURE__ Choices were made on the val split (see `metrics.json`).

![Loss of {name} over the steps of training](curve.svg)

## What it knows

{table}

A class is the mean vector of the names of its training concepts. Nearest names of some unseen test pictures (own name first, then the answers):

{shown}

## Where it fails

It has seen some thousand drawings of 32 pixels. Names of unseen concepts are found far more often than by chance and far less often than right; numbers near
the colour histogram's mean that it sees little more than colours there. It knows nothing of photographs, of text in pictures or of flags.
The trivial baseline of the table is ahead of it:{behind}

## Not for

Recognising or judging people, any use on photographs, claims about CLIP at scale.

## Licence

{licence} (clip art is in the public domain): those of its training pictures and names; the stamps are under the GPL, version 2. Whether weights carry
the licence of their data is not settled; we pass these on under the same terms to be safe, apart from the MIT code. Lines to show: `data/emoji/ATTRIBUTION.md`.
"""
