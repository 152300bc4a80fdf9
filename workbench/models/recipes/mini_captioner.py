"""mini-captioner: image tokens into a small decoder with cross-attention; says what scenes and emoji show, also without a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.emoji import load_emoji
from workbench.data.files import data_dir
from workbench.data.scene_captions import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES, Description, describe
from workbench.data.scene_parser import parse_caption
from workbench.data.scene_table import TEXTURES
from workbench.data.scenes import load_scenes, scenes_of
from workbench.metrics import chair
from workbench.models.encode import evaluating
from workbench.models.recipes import _clip as clip
from workbench.models.recipes import _common as common
from workbench.models.recipes.mini_clip import HELD_OUT_STYLE, Source, load_sources, on_background
from workbench.models.text import Tokens, decode_texts, encode_texts, train_tokenizer
from workbench.training import fit

NAME = "mini-captioner"
LENGTH = 32
WIDTH = 96
IMAGE_DROPOUT = 0.12
FACTS = ("size", "texture", "colour", "shape", "relation")
OBJECTS = (1, 2)
WORLDS = ((1, 1), OBJECTS, (2, 2), (2, 2))  # a scene of one object alone has larger objects
SHAPE_WEIGHT = 3.0  # shapes are the slowest to learn; a weight on their tokens changes what is learned first, not the optimum
EMOJI_PRIOR = 0.3  # share of the target that is the unigram distribution of names: 1,500 names are soon known by heart
BLANKED = 0.25  # share of the words of a name that the decoder does not see when it predicts the next one
FACTORS = ("shape", "colour", "texture", "size")
WHAT = "captioner for pictures of 32 pixels: 17 image tokens, 2 decoder layers of width 96 with cross-attention; scenes and emoji"


def train(preset: str = "cpu", out: Path | None = None, seed: int = 0) -> Path:
    """Train mini-captioner and write its folder; about 25 minutes of one core at 'cpu'. Starts from the image tower of scenes-clip."""
    at = common.start(NAME, preset, out, seed, half=False)
    emoji = load_sources("train", every=at.pick(ci=20, cpu=1, gpu=1))[0]
    tokenizer = train_tokenizer([*emoji.texts, *_scene_words()], vocab_size=1536, max_length=LENGTH)
    model, origin = build(tokenizer)
    model.to(at.device)
    steps = at.pick(ci=4, cpu=14000, gpu=20000)
    generator = torch.Generator().manual_seed(seed)
    held, scenes = _emoji("val"), load_scenes("val", n=256, objects=OBJECTS, caption_level=FACTS)
    val: list[list[float]] = []
    weights = _token_weights(tokenizer).to(at.device)
    prior = torch.from_numpy(common.NGrams(_ids(tokenizer, emoji.names), len(tokenizer)).unigram).float().to(at.device)

    def loss_fn(batch: tuple[Tensor, Tokens, Tensor]) -> Tensor:
        images, texts, drawn = batch[0].to(at.device), batch[1].to(at.device), batch[2].to(at.device)
        keep = torch.rand(len(images), generator=generator) >= IMAGE_DROPOUT
        blank = (torch.rand(texts.ids.shape, generator=generator) < BLANKED).to(at.device) & drawn[:, None]
        blank[:, 0] = False
        states = image_states(model, images) * keep[:, None, None].to(at.device)
        ids = torch.where(blank, tokenizer.unk_token_id, texts.ids)[:, :-1]
        logs = model.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False).logits.float().log_softmax(2)
        said = logs.gather(2, texts.ids[:, 1:, None])[..., 0]
        said = torch.where(drawn[:, None], (1 - EMOJI_PRIOR) * said + EMOJI_PRIOR * (logs @ prior), said)
        weight = weights[texts.ids[:, 1:]] * texts.mask[:, 1:]
        return -(said * weight).sum() / weight.sum()

    def watch(state: Any) -> None:
        if common.due(state.step, steps):
            found = [mean_nats(model, tokenizer, ds.images, ds.captions) for ds in (scenes, held)]
            val.append([state.step, *(common.rounded(x) for x in found)])

    history = fit(
        model,
        loss_fn,
        stream(emoji, tokenizer, at.pick(ci=16, cpu=64, gpu=256), seed, chunk=at.pick(ci=1, cpu=16, gpu=16)),
        steps=steps,
        lr=1.5e-3,
        weight_decay=0.05,
        warmup=max(1, steps // 20),
        clip_norm=1.0,
        precision=at.precision,
        hooks=[watch],
        title=NAME,
    )
    common.store(at.folder, model, tokenizer, clip.image_processor())
    return common.finish(
        at,
        NAME,
        kind="captioner",
        what=WHAT,
        licence="CC-BY-4.0 AND Apache-2.0 AND MIT AND Unicode-3.0",
        source=["scenes", "emoji"],
        history=[history],
        evaluate=evaluate,
        headline=("single_exact", "chair_i", "scene_nats", "scene_nats_no_image"),
        baselines=_baselines(tokenizer, emoji, n=at.pick(ci=200, cpu=4096, gpu=4096)),
        card=lambda stored: CARD_TEXT.format(**stored, table=_table(stored), shown=_shown(at.folder)),
        extra={
            "validation": val,
            "validation_columns": ["step", "scene_nats", "emoji_nats"],
            "image_dropout": IMAGE_DROPOUT,
            "emoji_prior": EMOJI_PRIOR,
            "image_tower_from": origin,
        },
    )


def evaluate(folder: Path, device: str = "cpu") -> dict[str, float]:
    """Greedy captions of test scenes against their facts, and log-probabilities with the right picture, another one, and none."""
    model, tokenizer = load(folder, device)
    found = _single_metrics(model, tokenizer) | _pair_metrics(model, tokenizer)
    for name, ds in (("scene", load_scenes("test", n=400, objects=OBJECTS, caption_level=FACTS)), ("emoji", _emoji("test"))):
        assert ds.images is not None
        found[f"{name}_nats"] = mean_nats(model, tokenizer, ds.images, ds.captions)
        found[f"{name}_nats_other_image"] = mean_nats(model, tokenizer, ds.images.roll(1, 0), ds.captions)
        found[f"{name}_nats_no_image"] = mean_nats(model, tokenizer, None, ds.captions)
    return found | _style_metrics(model, tokenizer)


# ---- the model ---------------------------------------------------------------------------------------------------------------


def build(tokenizer: Any) -> tuple[Any, str]:
    """A VisionEncoderDecoderModel with the image tower of the shipped scenes-clip (or an untrained one), and where it came from."""
    from transformers import CLIPModel, CLIPVisionConfig, CLIPVisionModel, GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel

    tower = data_dir() / "models" / "scenes-clip"
    sizes: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 192}
    encoder = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=clip.SIZE, patch_size=clip.PATCH, hidden_act="gelu"))
    origin = "untrained"
    if (tower / common.WEIGHTS).exists():
        encoder.load_state_dict(CLIPModel.from_pretrained(tower).vision_model.state_dict())
        origin = "scenes-clip"
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=WIDTH,
        n_layer=2,
        n_head=3,
        n_positions=LENGTH,
        activation_function="gelu_pytorch_tanh",  # gelu_new in one kernel: a tenth less time a step
        add_cross_attention=True,
        resid_pdrop=0.0,  # scenes never repeat
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=GPT2LMHeadModel(config))
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = tokenizer.bos_token_id
        settings.pad_token_id = tokenizer.pad_token_id
        settings.eos_token_id = tokenizer.eos_token_id
    model.generation_config.max_length = LENGTH
    return model, origin


def image_states(model: Any, images: Tensor | None, n: int = 1) -> Tensor:
    """What the decoder reads: (n, 17, 96) image tokens of pictures in [0, 1], or one token of zeros a row, (n, 1, 96), for None."""
    if images is None:
        return torch.zeros(n, 1, WIDTH, device=model.device)
    return model.encoder(pixel_values=images * 2 - 1).last_hidden_state


def log_probs(model: Any, states: Tensor, texts: Tokens) -> Tensor:
    """Log-probability of each given token after the first, nats, (n, t - 1); 0 at padding."""
    logits = model.decoder(input_ids=texts.ids[:, :-1], encoder_hidden_states=states, use_cache=False).logits.float()
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts.ids[:, 1:].flatten(), reduction="none")
    return -nats.view(len(texts), -1) * texts.mask[:, 1:]


def mean_nats(model: Any, tokenizer: Any, images: Tensor | None, captions: Sequence[str]) -> float:
    """Nats a token of these captions, the end included; the lower the better."""
    total, tokens = 0.0, 0
    with evaluating(model):
        for at in range(0, len(captions), 256):
            texts = encode_texts(tokenizer, list(captions[at : at + 256]), max_length=LENGTH).to(model.device)
            part = None if images is None else images[at : at + 256].to(model.device)
            total -= float(log_probs(model, image_states(model, part, len(texts)), texts).sum())
            tokens += int(texts.mask[:, 1:].sum())
    return total / tokens


def captions_of(model: Any, tokenizer: Any, images: Tensor | None, n: int = 1, **options: Any) -> list[str]:
    """Captions by transformers' `generate`, greedy unless `options` say otherwise; for `images=None`, n from the language prior."""
    from transformers.modeling_outputs import BaseModelOutput

    with evaluating(model):
        part = None if images is None else images.to(model.device)
        states = BaseModelOutput(last_hidden_state=image_states(model, part, n))
        ids = model.generate(encoder_outputs=states, **{"do_sample": False, "max_length": LENGTH, **options})
    return decode_texts(tokenizer, ids)


def load(folder: Path, device: str = "cpu") -> tuple[Any, Any]:
    """Model and tokenizer of a stored folder."""
    from transformers import AutoTokenizer, VisionEncoderDecoderModel

    model: Any = VisionEncoderDecoderModel.from_pretrained(folder)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder)


# ---- pictures and captions ---------------------------------------------------------------------------------------------------


def stream(emoji: Source, tokenizer: Any, size: int, seed: int, chunk: int = 16) -> Iterator[tuple[Tensor, Tokens, Tensor]]:
    """Endless batches: eleven twelfths new scenes of one or two objects, the rest emoji with their names; (n,) bool says which."""
    generator, start = torch.Generator().manual_seed(seed), 0
    drawings = max(1, size // 12)
    each = size - drawings
    drawn = torch.arange(size) >= each
    while True:
        # Drawn for many batches at once: rendering a few pictures costs as much as rendering many.
        worlds = []
        for objects in WORLDS:
            worlds.append(load_scenes("train", n=each * chunk, seed=seed, start=start, objects=objects, caption_level=FACTS))
            start += each * chunk
        for turn in range(chunk * len(WORLDS)):
            ds, at = worlds[turn % len(WORLDS)], turn // len(WORLDS) * each
            assert ds.images is not None
            chosen = torch.multinomial(emoji.weights, drawings, generator=generator)
            style = torch.multinomial(emoji.drawn[chosen].float(), 1, generator=generator)[:, 0]
            images = torch.cat([ds.images[at : at + each], on_background(emoji.pixels[chosen, style], generator)])
            names = [emoji.names[row] for row in chosen.tolist()]
            yield images, encode_texts(tokenizer, [*ds.captions[at : at + each], *names], max_length=LENGTH), drawn


@lru_cache(maxsize=4)
def _emoji(split: str, style: str = "noto") -> Any:
    return load_emoji(split, style=style, flags=False)


@lru_cache(maxsize=1)
def _other_style() -> Any:
    """400 concepts of the train split, drawn in the style that training never shows."""
    ds = _emoji("train", HELD_OUT_STYLE)
    return ds.select(torch.randperm(len(ds), generator=torch.Generator().manual_seed(6))[:400])


def _scene_words() -> list[str]:
    words = [*COLOURS, *SHAPES, *SIZES, *TEXTURES, *BACKGROUNDS, *PLACES, *RELATIONS]
    return ["a an and at the on is which background , object", *words] * 200  # so often that each is one token


def _token_weights(tokenizer: Any) -> Tensor:
    """SHAPE_WEIGHT for the token of each shape, 1 for all others."""
    weights = torch.ones(len(tokenizer))
    weights[[tokenizer.convert_tokens_to_ids(shape) for shape in SHAPES]] = SHAPE_WEIGHT
    weights[tokenizer.unk_token_id] = 1.0
    return weights


# ---- what the card measures --------------------------------------------------------------------------------------------------


def _single_metrics(model: Any, tokenizer: Any) -> dict[str, float]:
    """One-object scenes: each fact of the greedy caption against the truth; a fact unsaid is wrong."""
    ds = load_scenes("test", n=400, objects=(1, 1))
    assert ds.images is not None
    said = [parse_caption(text, strict=False).objects for text in captions_of(model, tokenizer, ds.images)]
    right = {}
    for factor in FACTORS:
        truth = [ds.factor_names[factor][i] for i in ds.factors[factor].tolist()]
        right[factor] = np.array([len(o) == 1 and getattr(o[0], factor) == t for o, t in zip(said, truth, strict=True)])
    found = {f"single_{factor}": float(hits.mean()) for factor, hits in right.items()}
    return found | {"single_exact": float(np.all(list(right.values()), axis=0).mean())}


def _style_metrics(model: Any, tokenizer: Any) -> dict[str, float]:
    """Known emoji in a style never seen: nats a token of the name, and how often the greedy caption is exactly the name."""
    ds = _other_style()
    said = captions_of(model, tokenizer, ds.images)
    same = [a == b for a, b in zip(said, _as_decoded(tokenizer, ds.captions), strict=True)]
    return {"style_nats": mean_nats(model, tokenizer, ds.images, ds.captions), "style_named": float(np.mean(same))}


def _as_decoded(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    return decode_texts(tokenizer, encode_texts(tokenizer, list(texts), max_length=LENGTH).ids)


def _pair_metrics(model: Any, tokenizer: Any) -> dict[str, float]:
    """Two-object scenes: hallucinated shapes and objects (colour and shape), and the relation where both shapes are right."""
    ds = load_scenes("test", n=400, objects=(2, 2))
    assert ds.images is not None
    texts = captions_of(model, tokenizer, ds.images)
    said, truth = [parse_caption(text, strict=False) for text in texts], describe(scenes_of(ds), FACTS)
    shapes = chair(_names(said, False), _names(truth, False))
    objects = chair(_names(said, True), _names(truth, True))
    facts = [(_relation(s), _relation(t)) for s, t in zip(said, truth, strict=True)]
    both = [(s, t) for s, t in facts if s is not None and t is not None and {s[0], s[2]} == {t[0], t[2]}]
    return {
        "chair_i": shapes.chair_i if shapes.chair_i is not None else 1.0,
        "chair_s": shapes.chair_s,
        "shape_recall": shapes.recall or 0.0,
        "object_chair_i": objects.chair_i if objects.chair_i is not None else 1.0,
        "object_recall": objects.recall or 0.0,
        "both_shapes_right": len(both) / len(truth),
        "relation_right": sum(s == t for s, t in both) / max(1, len(both)),
        "relation_axis_right": sum(s[1] == t[1] for s, t in both) / max(1, len(both)),
        "words": float(np.mean([len(text.split()) for text in texts])),
    }


def _names(descriptions: Sequence[Description], colour: bool) -> list[list[str]]:
    return [[f"{o.colour} {o.shape}" if colour else str(o.shape) for o in one.objects if o.shape] for one in descriptions]


def _relation(one: Description) -> tuple[str | None, str, str | None] | None:
    """(shape, relation, shape) of the first relation, with 'left of' or 'above'; None where there is none."""
    placed = one.placed()
    return None if placed is None else (placed[0].shape, placed[1], placed[2].shape)


def _baselines(tokenizer: Any, emoji: Source, n: int) -> dict[str, float]:
    """Words by counting, and the caption of the training picture with the most similar colours."""
    train = load_scenes("train", n=n, objects=OBJECTS, caption_level=FACTS)
    found: dict[str, float] = {}
    texts = {"scene": load_scenes("test", n=400, objects=OBJECTS, caption_level=FACTS).captions, "emoji": _emoji("test").captions}
    texts["style"] = _other_style().captions
    seen = {"scene": list(train.captions), "emoji": emoji.names, "style": emoji.names}
    for name in texts:
        grams = common.NGrams(_ids(tokenizer, seen[name]), len(tokenizer), weight=3.0)
        rows = _ids(tokenizer, texts[name])
        before, after = (np.concatenate([np.array(row[cut]) for row in rows]) for cut in (slice(0, -1), slice(1, None)))
        single, pair = grams.log_probs(before, after)
        found |= {f"unigram: {name}_nats": -float(single.mean()), f"bigram: {name}_nats": -float(pair.mean())}
    ones, test = load_scenes("train", n=n, objects=(1, 1)), load_scenes("test", n=400, objects=(1, 1))
    assert ones.images is not None and test.images is not None
    both = clip.histograms(torch.cat([ones.images, test.images]))
    near = clip.nearest(both[: len(ones)], both[len(ones) :])
    hits = {factor: ones.factors[factor][near] == test.factors[factor] for factor in FACTORS}
    found |= {f"colour histogram, nearest neighbour: single_{f}": float(h.float().mean()) for f, h in hits.items()}
    found["colour histogram, nearest neighbour: style_named"] = _named_by_colours(emoji)
    exact = torch.stack(list(hits.values())).all(0).float().mean()
    guess = {"shape": 1 / 8, "colour": 1 / 8, "texture": 1 / 6, "size": 1 / 3}
    found |= {"colour histogram, nearest neighbour: single_exact": float(exact)}
    return (
        found
        | {f"chance: single_{factor}": p for factor, p in guess.items()}
        | {"two shapes at random: chair_i": 0.75}
        | {
            "chance: relation_right": 0.25,
            "chance: relation_axis_right": 0.5,
        }
    )


def _named_by_colours(emoji: Source) -> float:
    """Share of the known emoji of the held-out style whose nearest training picture, any style, has the same name."""
    row, style = emoji.drawn.nonzero(as_tuple=True)
    pixels = emoji.pixels[row, style].float() / 255
    images, test = pixels[:, :3] + 1 - pixels[:, 3:], _other_style()
    both = clip.histograms(torch.cat([images, test.images]))
    near = clip.nearest(both[: len(images)], both[len(images) :])
    return float(np.mean([emoji.names[row[i]] == name for i, name in zip(near.tolist(), test.captions, strict=True)]))


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), truncation=True, max_length=LENGTH)["input_ids"]


def _table(stored: dict[str, Any]) -> str:
    near = "colour histogram, nearest neighbour: single_{}"
    rows: dict[str, tuple[str, Sequence[str]]] = {
        "single_exact": ("one object: all four facts right", (near.format("exact"),)),
        **{f"single_{f}": (f"one object: {f} right", (near.format(f), f"chance: single_{f}")) for f in FACTORS},
        "chair_i": (
            "two objects: share of mentioned shapes that are not there (CHAIR_i; lower is better)",
            ("two shapes at random: chair_i",),
        ),
        "chair_s": ("two objects: captions with such a shape (CHAIR_s)", ()),
        "shape_recall": ("two objects: shapes there that are mentioned", ()),
        "object_chair_i": ("two objects: share of mentioned (colour, shape) that are not there", ()),
        "relation_right": ("two objects, both shapes right: relation right", ("chance: relation_right",)),
        "relation_axis_right": ("the same: side by side or one above the other", ("chance: relation_axis_right",)),
    }
    for name in ("scene", "emoji"):
        rows[f"{name}_nats"] = (f"{name}: nats a token, right picture", (f"unigram: {name}_nats", f"bigram: {name}_nats"))
        rows[f"{name}_nats_other_image"] = (f"{name}: nats a token, another picture", ())
        rows[f"{name}_nats_no_image"] = (f"{name}: nats a token, no picture (the language prior)", ())
    rows["style_nats"] = ("known emoji in a style never seen: nats a token", ("unigram: style_nats", "bigram: style_nats"))
    rows["style_named"] = (
        "known emoji in a style never seen: exactly the name",
        (near.format("x").replace("single_x", "style_named"),),
    )
    return common.table(stored["metrics"], stored["baselines"], rows)


def _shown(folder: Path) -> str:
    model, tokenizer = load(folder)
    ds = load_scenes("test", n=6, objects=OBJECTS, caption_level=FACTS)
    emoji = _emoji("test").select(slice(5, None, 110))
    lines = []
    for one in (ds, emoji):
        said = captions_of(model, tokenizer, one.images)
        lines += [f"- {text} -> *{guess}*" for text, guess in zip(one.captions, said, strict=True)]
    torch.manual_seed(0)
    prior = captions_of(model, tokenizer, None, n=4, do_sample=True, top_k=0)
    return "\n".join([*lines, "", "Four captions sampled without a picture: " + "; ".join(f"*{text}*" for text in prior) + "."])


CARD_TEXT = """
# mini-captioner

{what}. {parameters:,} weights.

```python
from transformers import AutoTokenizer, VisionEncoderDecoderModel
from transformers.modeling_outputs import BaseModelOutput

model = VisionEncoderDecoderModel.from_pretrained("data/models/mini-captioner")  # pictures (n, 3, 32, 32) in [-1, 1]
tokenizer = AutoTokenizer.from_pretrained("data/models/mini-captioner")
captions = tokenizer.batch_decode(model.generate(pictures), skip_special_tokens=True)

nothing = BaseModelOutput(last_hidden_state=torch.zeros(n, 1, 96))  # no picture: one image token of zeros a row
logits = model(encoder_outputs=nothing, decoder_input_ids=ids).logits
```

**No picture** is one image token of zeros. In training {image_dropout:.0%} of the rows had all their image tokens set to zero, which to attention is the same; so
log p(caption) without a picture is in distribution, and positions do not shift. A caption is `[CLS] words [SEP]`.

## What it saw

New rendered scenes in every step (one or two objects, all textures, sizes and backgrounds; captions tell size, texture, colour, shape and relation in
`load_scenes(caption_level=mini_captioner.FACTS)`), and one row in twelve an emoji of the train split in Noto, Twemoji or Fluent with its name (no skin
tones, no flags). OpenMoji and all val and test rows were held out. Order of mention in scenes follows no rule.

## How it was trained

`{command}`, seed {seed}: {steps:,} steps of 64 pairs, {seconds:,.0f} s of wall time on one thread; image tower started from {image_tower_from} and trained on. Cross entropy,
three times as much for the names of shapes; AdamW with a peak rate of 1.5e-3, weight decay 0.05, no dropout, warm-up and cosine. Names of emoji are few and soon known by
heart: {emoji_prior:.0%} of their target is the unigram distribution of names, and a quarter of their words is hidden from the decoder's input. So its
probabilities for emoji are blunt on purpose; those for scenes are plain maximum likelihood up to the weight. Choices were made on val scenes and val emoji (see `metrics.json`).

![Loss of {name} over the steps of training](curve.svg)

## What it knows

{table}

Test pictures (true caption -> what it says):

{shown}

## Where it fails

Who stands where: it sees whether two objects are side by side or one above the other, but hardly which of them is left or on top (relation right in
{metrics[relation_right]:.0%}, the axis alone in {metrics[relation_axis_right]:.0%}). Names of emoji: one row in twelve was too little. It seldom recognises one (a known emoji in a new style: {metrics[style_named]:.0%}
exactly right), and over names of new emoji it does no better than counting pairs of words. It knows no scene of three objects and no other language.

## Not for

Describing people or photographs; claims about captioners at scale.

## Licence

{licence}: those of the emoji it saw; scenes come from our own code (MIT). Lines to show: `data/emoji/ATTRIBUTION.md`.
"""
