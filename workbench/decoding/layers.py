"""Early exit: what a language model would say at each of its layers, through its own final norm and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.checks import describe
from workbench.models.encode import evaluating


@dataclass(frozen=True)
class LayerScores:
    """Distributions over the next token at the positions that predict the tokens of some continuations.

    Attributes:
        log_probs: (layers, n, t, vocabulary) natural logarithms; padding at the end of short continuations is arbitrary.
        layers: the layers in that order; 0 is the embedding, the number of blocks is the last layer.
        targets: (n, t) the continuations' tokens.
        mask: (n, t) True where there is a token.
    """

    log_probs: Tensor
    layers: tuple[int, ...]
    targets: Tensor
    mask: Tensor

    def at(self, layer: int) -> Tensor:
        """The (n, t, vocabulary) log-probabilities at one layer."""
        if layer not in self.layers:
            raise ValueError(f"layer must be one of the layers that were read, {list(self.layers)}, got {layer}")
        return self.log_probs[self.layers.index(layer)]


def last_layer(model: Any) -> int:
    """Number of blocks of a transformers language model, which is the number of its last layer."""
    return int(model.config.num_hidden_layers)


def final_norm(model: Any) -> nn.Module:
    """The norm between the last block and the head of a transformers language model (GPT-2 and Llama kinds).

    Raises:
        TypeError: a model without such a norm where these kinds have it.
    """
    inner = getattr(model, "base_model", model)
    for name in ("ln_f", "norm", "final_layer_norm"):
        if isinstance(norm := getattr(inner, name, None), nn.Module):
            return norm
    raise TypeError(f"model must be a language model of the GPT-2 or Llama kind with a final norm, got {type(model).__name__}")


def exit_log_probs(model: Any, hidden: Tensor, layer: int, *, exit_norm: bool = True) -> Tensor:
    r"""Log-probabilities of the next token from the hidden states of one layer: an early exit with the model's own head.

    .. math:: \ell^{(n)}(x_t \mid c) = \log\mathrm{softmax}\big( W_{lm}\, \mathrm{LN}_f(h_t^{(n)}) \big)

    Args:
        model: a transformers causal language model.
        hidden: (..., d) states of that layer as `hidden_states[layer]` of its output; those of the last layer have passed
            the norm already, and it is not applied again.
        layer: 0 (the embedding) to the number of blocks.
        exit_norm: apply the final norm at lower layers too. The code of DoLa and ICD does not: False is the literal variant.

    Returns:
        (..., vocabulary) float32.

    Raises:
        ValueError: no such layer.
        TypeError: a model without a final norm.

    Source: Chen et al. 2024 (arXiv 2408.08769); early exit as in Chuang et al. 2024 (arXiv 2309.03883).
    """
    _require_layer(model, layer)
    if layer < last_layer(model) and exit_norm:
        hidden = final_norm(model)(hidden)
    logits: Tensor = model.get_output_embeddings()(hidden)
    return logits.float().log_softmax(-1)


def score_continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    layers: Sequence[int] | None = None,
    exit_norm: bool = True,
    batch_size: int = 256,
) -> LayerScores:
    """Read each prompt with its continuation once and keep, layer by layer, the distributions that predict the continuation.

    Every decoding rule that mixes layers and models is then arithmetic on the results, without another forward pass.

    Args:
        model: a transformers causal language model.
        prompts: for each text the token ids that come first, at least one.
        continuations: for each text the token ids to be predicted, at least one.
        layers: layers to keep; None: the last one. 0 is the embedding.
        exit_norm: see `exit_log_probs`.
        batch_size: texts read at once; changes memory and speed, not the result.

    Returns:
        `LayerScores` on the model's device. The token at position i of a text is predicted from position i - 1.

    Raises:
        ValueError: lists of different length, an empty prompt or continuation, a text that is too long, no such layer.

    Source: Chuang et al. 2024 (arXiv 2309.03883), scoring of multiple choice.
    """
    if len(prompts) != len(continuations) or not len(prompts):
        raise ValueError(f"prompts and continuations must have one entry a text, got {len(prompts)} and {len(continuations)}")
    kept = (last_layer(model),) if layers is None else tuple(layers)
    for layer in kept:
        _require_layer(model, layer)
    for name, rows in (("prompts", prompts), ("continuations", continuations)):
        if empty := [i for i, row in enumerate(rows) if not len(row)]:
            raise ValueError(f"{name}[{empty[0]}] is empty; at least one token is wanted")
    texts = [[*p, *c] for p, c in zip(prompts, continuations, strict=True)]
    longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    if longest and max(map(len, texts)) > longest:
        raise ValueError(f"prompts with continuations must fit the model's {longest} tokens, got {max(map(len, texts))}")
    device = next(model.parameters()).device
    width = max(map(len, continuations))
    steps = torch.arange(width)
    counts, starts = (torch.tensor([len(row) for row in rows]) for rows in (continuations, prompts))
    mask = steps < counts[:, None]
    positions = torch.minimum(steps, counts[:, None] - 1) + starts[:, None]
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    for i, text in enumerate(texts):
        ids[i, : len(text)] = torch.tensor(text)
    parts = []
    with evaluating(model):
        for rows in torch.arange(len(texts)).split(batch_size):
            # Padding stands at the end, where causal attention hides it from every token that counts.
            states = model.base_model(input_ids=ids[rows].to(device), output_hidden_states=True, use_cache=False).hidden_states
            at = (torch.arange(len(rows))[:, None].to(device), (positions[rows] - 1).to(device))
            parts.append(torch.stack([exit_log_probs(model, states[n][at], n, exit_norm=exit_norm) for n in kept]))
    return LayerScores(torch.cat(parts, 1), kept, ids.gather(1, positions).to(device), mask.to(device))


def _require_layer(model: Any, layer: int) -> None:
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer <= last_layer(model):
        raise ValueError(f"layer must be an integer from 0 to {last_layer(model)}, got {describe(layer)}")
