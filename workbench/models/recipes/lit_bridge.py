"""lit-bridge: small heads over frozen EfficientNet-Lite0 and MiniLM features, a CLIP-like model of natural pictures.

Everything is read from the stored features, so that neither training nor evaluation needs the two packages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.data import load
from workbench.losses import clip_loss
from workbench.metrics import modality_gap, recall_at_k
from workbench.models.bridge import build_bridge
from workbench.models.caches import cached_features
from workbench.models.recipes import _common as common
from workbench.models.recipes._picture import draw_curve
from workbench.training import batches, fit

IMAGE_ENCODER, TEXT_ENCODER = "efficientnet-lite0", "minilm"
BATCH = 512
KS = (1, 5, 10)
RIDGE = 100.0  # chosen on the validation titles


@dataclass(frozen=True)
class Variant:
    """One of the three bridges: what it learns from and how."""

    what: str
    stamps: bool
    hidden: int | None
    width: int
    temperature: float
    learned: bool
    steps: int
    lr: float
    dropout: float


VARIANTS = {
    "lit-bridge": Variant(
        "two perceptrons from EfficientNet-Lite0 and MiniLM to 128 numbers; clip art and stamps; learned temperature",
        stamps=True, hidden=256, width=128, temperature=0.07, learned=True, steps=1000, lr=1e-3, dropout=0.6,
    ),
    "lit-bridge-tau001": Variant(
        "as lit-bridge, at the fixed temperature 0.01: a space with a wide gap between pictures and texts",
        stamps=True, hidden=256, width=128, temperature=0.01, learned=False, steps=1000, lr=1e-3, dropout=0.6,
    ),
    "lit-bridge-linear": Variant(
        "a linear map from EfficientNet-Lite0 into the space of MiniLM, learned on clip-art titles alone; never saw a stamp",
        stamps=False, hidden=None, width=384, temperature=0.07, learned=True, steps=1000, lr=1e-3, dropout=0.6,
    ),
}  # fmt: skip


def train(preset: str = "cpu", out: Path | None = None, seed: int = 0, name: str = "lit-bridge") -> Path:
    """Train a bridge and write its folder; about a minute of one core at 'cpu'."""
    variant = VARIANTS[name]
    at = common.start(name, preset, out, seed, half=False)
    images, texts = _pairs("train", variant)
    if at.preset == "ci":
        images, texts = images[::4], [texts[0][::4], texts[1][::4]]
    config = {
        "model_type": "lit-bridge",
        "image_encoder": IMAGE_ENCODER,
        "text_encoder": TEXT_ENCODER,
        "image_features": images.shape[1],
        "text_features": texts[0].shape[1],
        "projection_dim": variant.width,
        "hidden": variant.hidden,
        "temperature": variant.temperature,
        "learn_temperature": variant.learned,
    }
    model = build_bridge(config)
    mean, std = images.mean(dim=0), images.std(dim=0) + 0.1
    generator = torch.Generator().manual_seed(seed)

    def loss_fn(rows: Tensor) -> Tensor:
        x = torch.nn.functional.dropout((images[rows] - mean) / std, variant.dropout)
        both = torch.stack([t[rows] for t in texts])
        t = both[torch.randint(2, (len(rows),), generator=generator), torch.arange(len(rows))]
        output = model(x, torch.nn.functional.normalize(torch.nn.functional.dropout(t, variant.dropout / 2), dim=1))
        return clip_loss(output.image_embeddings, output.text_embeddings, logit_scale=output.logit_scale)

    steps = at.pick(ci=12, cpu=variant.steps, gpu=variant.steps)
    size = at.pick(ci=128, cpu=BATCH, gpu=BATCH)
    order = batches(len(images), size, steps=steps, seed=seed)
    history = fit(model, loss_fn, order, steps=steps, lr=variant.lr, weight_decay=0.1, warmup=steps // 20 + 1, title=name)
    _fold(model.image_projection, mean, std)
    _store(at.folder, model, config)
    draw_curve(at.folder / "curve.svg", common.curve(history.losses), f"{name}: training loss")
    return common.finish(
        at,
        name,
        kind="bridge",
        what=variant.what,
        licence="MIT (heads); learned from public-domain clip art" + (" and GPL-2.0 stamps" if variant.stamps else ""),
        source=["clipart/train", *(["stamps/train"] if variant.stamps else [])],
        history=[history],
        evaluate=evaluate,
        headline=("clipart_r10", "stamps_folder_accuracy", "twemoji_group_accuracy"),
        baselines=baselines(variant),
        card=lambda stored: _card(stored, variant),
    )


def evaluate(folder: Path, device: str = "cpu") -> dict[str, float]:
    """Retrieval of held-out titles, zero-shot classes of stamps and of emoji it never saw, and the gap: the numbers of the card."""
    from workbench.models.hub import open_folder

    bridge = open_folder(Path(folder), device=device)
    found = {"temperature": 1 / float(bridge.model.logit_scale.detach())}
    sets = {
        "clipart": (load("clipart", "test", size=8), "picture", "title"),
        "stamps": (load("stamps", "test", size=8), "picture", "caption"),
        "twemoji": (load("emoji", "all", style="twemoji", size=8, flags=False), "twemoji", "name"),
    }
    for name, (data, picture, text) in sets.items():
        x = bridge.embed_images(cached_features(data, IMAGE_ENCODER, part=picture)[0])
        y = bridge.embed_texts(cached_features(data, TEXT_ENCODER, part=text)[0])  # type: ignore[arg-type]
        found |= {f"{name}_pairs": float(len(data)), **_recalls(name, x, y, data.captions)}
        gap = modality_gap(x, y)
        found[f"{name}_centroid_distance"] = gap.centroid_distance
        found |= {f"{name}_pair_cosine": gap.matched_cosine, f"{name}_separability": gap.separability}
        if name != "clipart":
            classes = {"folder": "subfolder"} if name == "stamps" else {"group": "subgroup"}
            for what, factor in classes.items():
                found |= _zero_shot(bridge, f"{name}_{what}", x, data.labels, data.name, "labels")
                found |= _zero_shot(bridge, f"{name}_{factor}", x, data.factors[factor], data.name, factor)
    return found


def baselines(variant: Variant) -> dict[str, float]:
    """The same held-out titles found by simpler means: chance, and the text of the most similar training picture."""
    images, texts = _pairs("train", variant)
    data = {split: load("clipart", split, size=32) for split in ("train", "test")}
    test = cached_features(data["test"], IMAGE_ENCODER)[0]
    titles = cached_features(data["test"], TEXT_ENCODER, part="title")[0]
    own = cached_features(data["train"], TEXT_ENCODER, part="title")[0]
    colours = {split: _colours(d.images) for split, d in data.items() if d.images is not None}
    mean, centre = images.mean(dim=0), texts[0].mean(dim=0)
    x = images - mean
    ridge = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ (texts[0] - centre))
    ways = {
        "text of the picture with the nearest colours": own[torch.cdist(colours["test"], colours["train"], p=1).argmin(dim=1)],
        "text of the nearest picture": texts[0][(_unit(test) @ _unit(images).T).argmax(dim=1)],
        "ridge regression": (test - mean) @ ridge + centre,
    }
    found = {"chance: clipart_r10": 10 / len(titles)}
    for way, queries in ways.items():
        recalls = _recalls("clipart", queries, titles, data["test"].captions, both=False)
        found |= {f"{way}: {key}": value for key, value in recalls.items()}
    emoji = load("emoji", "all", style="twemoji", size=8, flags=False)
    for name, labels in (("stamps_folder", load("stamps", "test", size=8).labels), ("twemoji_group", emoji.labels)):
        assert labels is not None
        found[f"chance: {name}_balanced"] = 1 / len(labels.unique())
        found[f"largest class: {name}_accuracy"] = float(labels.bincount().max() / len(labels))
    return found


def _pairs(split: str, variant: Variant) -> tuple[Tensor, list[Tensor]]:
    """Image features (n, 1280) and two texts for each, (n, 384): title, and title with tags (stamps: the caption twice)."""
    images = [cached_features("clipart", IMAGE_ENCODER, split=split)[0]]
    texts = [[cached_features("clipart", TEXT_ENCODER, part=p, split=split)[0] for p in ("title", "tags")]]
    if variant.stamps:
        images.append(cached_features("stamps", IMAGE_ENCODER, split=split)[0])
        texts.append([cached_features("stamps", TEXT_ENCODER, part="caption", split=split)[0]] * 2)
    return torch.cat(images), [torch.cat(part) for part in zip(*texts, strict=True)]


def _fold(head: Any, mean: Tensor, std: Tensor) -> None:
    """Put the standardisation of the inputs into the first linear map, so that the stored bridge takes features as they are."""
    first = head if isinstance(head, torch.nn.Linear) else head.layers[0]
    with torch.no_grad():
        weight = first.weight / std
        first.bias -= weight @ mean
        first.weight.copy_(weight)


def _store(folder: Path, model: Any, config: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().half().contiguous() for k, v in model.state_dict().items()}, folder / common.WEIGHTS)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", newline="\n")


def _recalls(name: str, images: Tensor, texts: Tensor, captions: Sequence[str], *, both: bool = True) -> dict[str, float]:
    """Share of pictures with their text among the first k (and the other way); pictures of one title share their texts."""
    code = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    labels = torch.tensor([code[text] for text in captions])
    there = recall_at_k(images, texts, k=KS, query_labels=labels, key_labels=labels)
    found = {f"{name}_r{k}": v for k, v in there.at.items()}
    if both:
        back = recall_at_k(texts, images, k=KS, query_labels=labels, key_labels=labels)
        found |= {f"{name}_text_r{k}": v for k, v in back.at.items()}
    return found


def _zero_shot(bridge: Any, name: str, x: Tensor, labels: Tensor | None, source: str, part: str) -> dict[str, float]:
    """Share of pictures whose class prompt is nearest, plain and as the mean over the classes that occur."""
    assert labels is not None
    prompts = bridge.embed_texts(cached_features(source, TEXT_ENCODER, part=part)[0])
    present = labels.unique()
    right = (present[(x @ prompts[present].T).argmax(dim=1)] == labels).float()
    balanced = torch.stack([right[labels == c].mean() for c in present]).mean()
    return {f"{name}_accuracy": float(right.mean()), f"{name}_balanced": float(balanced), f"{name}_classes": len(present)}


def _colours(images: Tensor) -> Tensor:
    """Histograms of 4 x 4 x 4 colours, (n, 64)."""
    codes = (images * 3.999).long().clamp(0, 3).flatten(2)
    index = codes[:, 0] * 16 + codes[:, 1] * 4 + codes[:, 2]
    return torch.nn.functional.one_hot(index, 64).float().mean(dim=1)


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


ROWS = {
    "clipart_r1": ("held-out clip art: its title among {clipart_pairs:.0f}, R@1", ("{}: clipart_r1",)),
    "clipart_r10": ("the same, R@10", ("{}: clipart_r10",)),
    "clipart_text_r10": ("held-out titles: their picture, R@10", ()),
    "stamps_r10": ("held-out stamps: their caption among {stamps_pairs:.0f}, R@10", ()),
    "stamps_folder_accuracy": (
        "held-out stamps into {stamps_folder_classes:.0f} folders, zero-shot accuracy",
        ("largest class: stamps_folder_accuracy",),
    ),
    "stamps_folder_balanced": ("the same, mean over folders", ("chance: stamps_folder_balanced",)),
    "twemoji_group_accuracy": ("Twemoji (never seen) into its groups, zero-shot", ("largest class: twemoji_group_accuracy",)),
    "twemoji_group_balanced": ("the same, mean over groups", ("chance: twemoji_group_balanced",)),
    "twemoji_subgroup_accuracy": ("Twemoji into its subgroups, zero-shot", ()),
    "twemoji_r10": ("Twemoji: its name among {twemoji_pairs:.0f}, R@10", ()),
    "temperature": ("temperature", ()),
    "clipart_centroid_distance": ("modality gap on held-out clip art: distance of the centres, 0 to 2", ()),
    "clipart_pair_cosine": ("mean cosine of pairs there", ()),
    "clipart_separability": ("accuracy of a linear classifier picture against text there (0.5: no gap)", ()),
}
WAYS = ("text of the picture with the nearest colours", "text of the nearest picture", "ridge regression")


def _card(stored: dict[str, Any], variant: Variant) -> str:
    name, baselines_ = stored["name"], stored["baselines"]
    rows = {
        key: (what.format(**stored["metrics"]), [b for o in others for b in ([o.format(w) for w in WAYS] if "{}" in o else [o])])
        for key, (what, others) in ROWS.items()
    }
    table = common.table(stored["metrics"], baselines_, rows)
    heads = (
        "one linear map takes the pictures into the space of MiniLM, whose vectors stay as they are"
        if variant.hidden is None
        else f"one perceptron with {variant.hidden} hidden units on each side, {variant.width} numbers out"
    )
    stamps = f" and {len(cached_features('stamps', TEXT_ENCODER)[0]):,} stamps with captions" if variant.stamps else "; no stamp"
    seen = f"{len(cached_features('clipart', TEXT_ENCODER)[0]):,} clip-art drawings with titles and tags{stamps}"
    temperature = "learned temperature" if variant.learned else f"fixed temperature {variant.temperature}"
    return f"""# {name}

{stored["what"][0].upper() + stored["what"][1:]}. Zero-shot classification and retrieval of natural pictures without any download.

```python
from workbench.models import cached_features, pretrained

bridge = pretrained("{name}")
x = bridge.embed_images(cached_features("stamps", "{IMAGE_ENCODER}", split="test")[0])  # stored features: no package needed
y = bridge.embed_texts(["a photograph of a bird"])  # new texts and pictures: `make weights`
```

## What it is

Both encoders are locked: EfficientNet-Lite0 (supervised on ImageNet) reads pictures at 112 pixels, all-MiniLM-L6-v2 reads
texts. Here {heads}. `config.json` names the encoders and the sizes; `model.safetensors` holds the heads in fp16.

## Data

Training splits only: {seen}. No emoji. Clip art is public domain{", stamps are under GPL-2.0" if variant.stamps else ""}.
EfficientNet-Lite0 has seen ImageNet photographs and MiniLM a billion sentence pairs: nothing here is learned from scratch.

## Training

`{stored["command"]}` on one core, seed {stored["seed"]}: {stored["steps"]} steps of {BATCH} pairs, InfoNCE both ways, {temperature},
AdamW 0.001, weight decay 0.1, dropout {variant.dropout} on image features and {variant.dropout / 2:g} on text features, in each step the title or the title
with tags. Sizes were chosen on the validation titles, everything below is measured on test rows. First and last loss:
{stored["curve"][0][1]:g} and {stored["curve"][-1][1]:g} nats.

![Loss of {name} over the steps of training](curve.svg)

## How good it is

{table}

Ways in the right column: the text of the training picture that is nearest by colours or by EfficientNet features, and ridge
regression from the same features into MiniLM.

## Where it fails

Its eyes are a classifier of ImageNet: what is not one of those things (gestures, symbols, faces, flags) it hardly tells apart, and it
knows neither number nor place nor relation. A drawing with a title that does not say what is seen stays unfound. English only.
{"Stamps are part of its training: only the test split of the stamps is unseen." if variant.stamps else "Stamps of every split are unseen."}

## Not to be used for

People: no identification, no judging of persons by pictures. Nothing that matters: it is a teaching model of half a million weights.
"""


__all__: Sequence[str] = ["VARIANTS", "baselines", "evaluate", "train"]
