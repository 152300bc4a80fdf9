"""What the two dual encoders share: a small CLIPModel, its pictures and texts, and baselines made of colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.losses import clip_loss
from workbench.metrics import recall_at_k
from workbench.models.encode import evaluating
from workbench.models.text import encode_texts

SIZE = 32
PATCH = 8
MAX_LOGIT_SCALE = 100.0


def build(
    tokenizer: Any,
    *,
    projection: int,
    vision: dict[str, int],
    text: dict[str, int],
    length: int,
    temperature: float = 0.07,
) -> Any:
    """An untrained CLIPModel for pictures of 32 pixels in 16 patches; `vision` and `text` give width, layers, heads and ffn."""
    from transformers import CLIPConfig, CLIPModel

    def sizes(part: dict[str, int]) -> dict[str, int]:
        return {
            "hidden_size": part["width"],
            "num_hidden_layers": part["layers"],
            "num_attention_heads": part["heads"],
            "intermediate_size": part["ffn"],
            "projection_dim": projection,
        }

    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={
            **sizes(text),
            **special,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": length,
            "hidden_act": "gelu",
        },
        vision_config={**sizes(vision), "image_size": SIZE, "patch_size": PATCH, "hidden_act": "gelu"},
        projection_dim=projection,
        logit_scale_init_value=math.log(1 / temperature),
    )
    return CLIPModel(config)


def image_processor() -> Any:
    """Resize to 32 pixels and map [0, 255] to [-1, 1], in the form that transformers reads back."""
    from transformers import CLIPImageProcessorPil

    half = [0.5, 0.5, 0.5]
    side = {"height": SIZE, "width": SIZE}
    return CLIPImageProcessorPil(size=side, do_center_crop=False, crop_size=side, image_mean=half, image_std=half)


def image_vectors(model: Any, images: Tensor) -> Tensor:
    """Projected vectors (n, d), not normalised, of pictures (n, 3, 32, 32) in [0, 1]; gradients flow."""
    return model.visual_projection(model.vision_model(pixel_values=images * 2 - 1).pooler_output)


def text_vectors(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Projected vectors (n, d), not normalised, of token ids (n, t); gradients flow."""
    return model.text_projection(model.text_model(input_ids=ids, attention_mask=mask).pooler_output)


def pair_loss(model: Any, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """CLIP's loss of a batch of pairs at the model's temperature."""
    scale = model.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
    return clip_loss(image_vectors(model, images).float(), text_vectors(model, ids, mask).float(), logit_scale=scale)


def embed_images(model: Any, images: Tensor, batch: int = 256) -> Tensor:
    """Unit vectors (n, d) of pictures, on the CPU."""
    device = model.logit_scale.device
    with evaluating(model):
        parts = [image_vectors(model, part.to(device)).float().cpu() for part in images.split(batch)]
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


def embed_texts(model: Any, tokenizer: Any, texts: Sequence[str], batch: int = 512) -> Tensor:
    """Unit vectors (n, d) of texts, on the CPU; equal texts are computed once."""
    device = model.logit_scale.device
    each = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(each)}
    with evaluating(model):
        parts = []
        for at in range(0, len(each), batch):
            tokens = encode_texts(tokenizer, each[at : at + batch], max_length=model.config.text_config.max_position_embeddings)
            parts.append(text_vectors(model, tokens.ids.to(device), tokens.mask.to(device)).float().cpu())
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)[[place[text] for text in texts]]


def load(folder: Path, device: str = "cpu") -> tuple[Any, Any]:
    """Model and tokenizer of a stored folder."""
    from transformers import AutoTokenizer, CLIPModel

    model: Any = CLIPModel.from_pretrained(folder)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder)


def recalls(images: Tensor, texts: Tensor, captions: Sequence[str], at: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recall both ways; every picture or caption with the same words is a right answer."""
    codes = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    labels = torch.tensor([codes[text] for text in captions])
    found: dict[str, float] = {}
    for way, query, key in (("i2t", images, texts), ("t2i", texts, images)):
        hits = recall_at_k(query, key, k=at, query_labels=labels, key_labels=labels).at
        found |= {f"{way}_r{k}": hits[k] for k in at}
    return found


def histograms(images: Tensor, bins: int = 4) -> Tensor:
    """Centred joint colour histograms (n, bins^3): the baseline that sees colours and nothing else."""
    codes = (images.clamp(0, 0.999) * bins).long()
    flat = (codes[:, 0] * bins + codes[:, 1]) * bins + codes[:, 2]
    counts = torch.nn.functional.one_hot(flat.flatten(1), bins**3).float().mean(1)
    return counts.sqrt() - counts.sqrt().mean(0)


def nearest(train_x: Tensor, test_x: Tensor) -> Tensor:
    """Row of the most similar training row for each test row."""
    unit = torch.nn.functional.normalize
    return (unit(test_x, dim=1) @ unit(train_x, dim=1).T).argmax(1)
