"""Leaving a transformer early: what it says after every block, and an encoder that stops computing after some of them."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from workbench.models.text import TextEncoder, Tokens, pool_tokens, require_tokens


def layer_features(encoder: TextEncoder, texts: Tokens) -> tuple[Tensor, ...]:
    """Sentence features after every block, from one forward pass; differentiable.

    Each is pooled from the raw states of its block, without a norm or head of its own. That suits models with a norm at the end
    of each block (BERT); those with one at its beginning would need their final norm at every exit.

    Args:
        encoder: pooling 'mean', 'cls' or 'last'.
        texts: `Tokens` of shape (n, t).

    Returns:
        N tensors (n, d); the last one is `encoder(texts)`.

    Raises:
        ValueError: pooling 'pooler', which only the last state has; tokens that the model cannot read.
        TypeError: no `Tokens`.
    """
    if encoder.pooling == "pooler":
        raise ValueError("pooling must be 'mean', 'cls' or 'last' to leave early, got 'pooler', which reads the last state only")
    require_tokens(texts, encoder.vocab_size, encoder.max_length)
    output: Any = encoder.backbone(input_ids=texts.ids, attention_mask=texts.mask, output_hidden_states=True)
    return tuple(pool_tokens(state, texts.mask, encoder.pooling) for state in output.hidden_states[1:])


def early_exit(encoder: TextEncoder, layers: int) -> TextEncoder:
    """An encoder of the first blocks of another one, with the same weights (shared, not copied): the others are never computed.

    Args:
        encoder: on a transformers backbone whose blocks are one ModuleList, such as BertModel.
        layers: blocks to keep, from 1 to all of them.

    Returns:
        `TextEncoder`; its features are those of `layer_features` for that block.

    Raises:
        ValueError: layers out of range, pooling 'pooler', or a backbone without such a list.
    """
    config: Any = encoder.backbone.config
    count = int(config.num_hidden_layers)
    if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= count:
        raise ValueError(f"layers must be a whole number from 1 to the {count} blocks of the encoder, got {layers!r}")
    if encoder.pooling == "pooler":
        raise ValueError("pooling must be 'mean', 'cls' or 'last' to leave early, got 'pooler', which reads the last state only")
    lists = (n for n, m in encoder.backbone.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count)
    if (place := next(lists, None)) is None:
        raise ValueError(f"encoder has no list of {count} blocks to cut, got a {type(encoder.backbone).__name__}")
    short = _shallow(encoder)
    parent = short._modules["backbone"] = _shallow(encoder.backbone)
    parent.config = copy.copy(config)
    parent.config.num_hidden_layers = layers
    *path, name = place.split(".")
    for step in path:
        parent._modules[step] = parent = _shallow(parent._modules[step])
    blocks: Any = parent._modules[name]
    parent._modules[name] = blocks[:layers]
    return short


def _shallow(module: Any) -> Any:
    """Another module with the same parameters and submodules, whose list of submodules may be changed."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
