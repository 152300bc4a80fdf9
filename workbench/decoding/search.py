"""Contrastive search: a probable token whose state is unlike those already written; and how spread out such states are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from workbench.checks import describe, require_tensor, require_unit_rows
from workbench.models.encode import evaluating


@dataclass(frozen=True)
class Search:
    """What contrastive search wrote, and every choice it had.

    Attributes:
        tokens: (n, new) the tokens chosen, without the prefix; after an `end` token only `end`.
        candidates: (n, new, k) the tokens it chose from, most probable first.
        probability: (n, new, k) their probabilities under the model; the k do not sum to one.
        penalty: (n, new, k) largest cosine of each candidate's state with a state of the context, in [-1, 1].
        states: (n, prefix + new, d) last-layer states of prefix and continuation, of length one.
    """

    tokens: Tensor
    candidates: Tensor
    probability: Tensor
    penalty: Tensor
    states: Tensor


def contrastive_scores(probability: Tensor, penalty: Tensor, *, alpha: float = 0.6) -> Tensor:
    r"""Score of each candidate: model confidence against degeneration penalty.

    .. math:: (1 - \alpha)\, p_\theta(v \mid x_{<t}) - \alpha \max_{j < t} s(h_v, h_{x_j})

    Args:
        probability: (..., k) probabilities, not logarithms: those have another scale than cosines.
        penalty: (..., k) largest cosine with the context.
        alpha: in [0, 1]; 0 is greedy search, 1 looks at the states alone.

    Raises:
        ValueError: alpha outside [0, 1], probabilities outside [0, 1].

    Source: Su & Collier 2023 (arXiv 2210.14140), equation 2.

    Example:
        >>> contrastive_scores(torch.tensor([0.6, 0.3]), torch.tensor([0.9, 0.1]), alpha=0.5)
        tensor([-0.1500,  0.1000])
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    if probability.numel() and not (probability.min() >= 0 and probability.max() <= 1):
        raise ValueError(f"probability must be in [0, 1], not logarithms, got {describe(probability)}")
    return (1 - alpha) * probability - alpha * penalty


def contrastive_search(
    model: Any,
    prefix: Tensor,
    *,
    k: int = 5,
    alpha: float = 0.6,
    new_tokens: int = 48,
    end: int | None = None,
    suppress: Sequence[int] = (),
) -> Search:
    r"""Continue prefixes of one length with contrastive search, one forward pass a step on a repeated cache.

    .. math:: x_t = \arg\max_{v \in V^{(k)}} \Big\{ (1 - \alpha)\, p_\theta(v \mid x_{<t})
        - \alpha \max_{1 \le j \le t - 1} s(h_v, h_{x_j}) \Big\}

    Each candidate is appended and read, so its state is the one it would have in the text; the candidate itself is not part of
    the context. Probabilities are those of the full softmax, the k of them are not renormalised.

    Args:
        model: a transformers causal language model.
        prefix: (n, t) token ids without padding; they are part of the context.
        k: candidates a step.
        alpha: weight of the degeneration penalty; 0 gives greedy search.
        new_tokens: tokens to add.
        end: token after which a text is finished; None never stops.
        suppress: tokens that may never be chosen, such as the end of a text where all are to have one length.

    Returns:
        `Search`. Nothing is drawn at random.

    Raises:
        TypeError, ValueError: a prefix of another kind, k or new_tokens below one, alpha outside [0, 1], more tokens than the
            model has positions.

    Source: Su & Collier 2023 (arXiv 2210.14140), equation 2, k = 5 and alpha = 0.6 as there.
    """
    prefix = require_tensor(prefix, "prefix")
    if prefix.ndim != 2 or prefix.dtype != torch.int64 or not prefix.numel():
        raise ValueError(f"prefix must be int64 token ids of shape (n, t), got {describe(prefix)}")
    for name, value in (("k", k), ("new_tokens", new_tokens)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {describe(value)}")
    longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    if longest and prefix.shape[1] + new_tokens > longest:
        raise ValueError(f"new_tokens and prefix must fit the model's {longest} tokens, got {prefix.shape[1]} + {new_tokens}")
    n = len(prefix)
    first = torch.arange(n, device=prefix.device) * k
    forbidden = torch.tensor(list(suppress), dtype=torch.int64, device=prefix.device)
    done = torch.zeros(n, dtype=torch.bool, device=prefix.device)
    history: dict[str, list[Tensor]] = {"tokens": [], "candidates": [], "probability": [], "penalty": []}
    with evaluating(model):
        out = model(input_ids=prefix, use_cache=True, output_hidden_states=True)
        cache, logits, states = out.past_key_values, out.logits[:, -1], normalize(out.hidden_states[-1].float(), dim=-1)
        for _ in range(new_tokens):
            logits = logits.float().index_fill(-1, forbidden, -torch.inf)
            probability, candidates = logits.softmax(-1).topk(k, dim=-1)
            cache.batch_repeat_interleave(k)
            out = model(input_ids=candidates.reshape(-1, 1), past_key_values=cache, use_cache=True, output_hidden_states=True)
            own = normalize(out.hidden_states[-1][:, -1].float(), dim=-1).view(n, k, -1)
            penalty = (own @ states.transpose(1, 2)).amax(-1)
            chosen = contrastive_scores(probability, penalty, alpha=alpha).argmax(-1)
            cache = out.past_key_values
            cache.batch_select_indices(first + chosen)
            logits = out.logits[first + chosen, -1]
            states = torch.cat([states, own[torch.arange(n), chosen][:, None]], 1)
            token = candidates.gather(1, chosen[:, None])[:, 0]
            if end is not None:
                token = torch.where(done, end, token)
                done = done | (token == end)
            for name, value in zip(history, (token, candidates, probability, penalty), strict=True):
                history[name].append(value)
            if bool(done.all()):
                break
    return Search(states=states, **{name: torch.stack(values, 1) for name, values in history.items()})


def isotropy(states: Sequence[Tensor]) -> float:
    r"""How spread out the states of a text are: one minus the mean cosine of two of its tokens.

    .. math:: 1 - \frac{\sum_x \sum_{i \ne j} s(h_i, h_j)}{\sum_x n_x (n_x - 1)}

    Args:
        states: for each text its (n, d) last-layer states; at least one has two rows.

    Returns:
        0 where all states point in one direction, 1 where they cancel, above 1 only for very short texts.

    Raises:
        ValueError, TypeError: no texts, a row of zeros or NaN, texts of one token only.

    Source: Su & Collier 2023 (arXiv 2210.14140), section 2, pooled over texts as in the authors' code.

    Example:
        >>> isotropy([torch.eye(3)]), isotropy([-torch.eye(2)[:1].repeat(4, 1)])
        (1.0, 0.0)
    """
    if isinstance(states, Tensor) or not isinstance(states, Sequence) or not states:
        raise ValueError(f"states must be a list with one (n, d) tensor a text, got {describe(states)}")
    total, pairs = 0.0, 0
    for i, text in enumerate(states):
        unit = require_unit_rows(text, f"states[{i}]").double()
        total += float(unit.sum(0).square().sum() - len(unit))
        pairs += len(unit) * (len(unit) - 1)
    if not pairs:
        raise ValueError("states has no text of at least two tokens")
    return round(1 - total / pairs, 12)
