"""How a language model continues a text: its distribution at each token, and what a decoding rule leaves of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.widgets.explorer import Explorer, labelled

if TYPE_CHECKING:
    from workbench.models import Pretrained

BARS = 12
GREEDY, DRAW = "take the best", "draw"


@dataclass(frozen=True)
class Step:
    """One token of a continuation.

    Attributes:
        token: id of the chosen token.
        text: the token as text.
        raw: (vocabulary,) the model's own probabilities.
        kept: (vocabulary,) what temperature, top-k and top-p made of them; sums to 1.
    """

    token: int
    text: str
    raw: Tensor
    kept: Tensor

    @property
    def entropy(self) -> float:
        """Entropy of the model's own distribution, in nats."""
        return float(torch.special.entr(self.raw).sum())


def reshaped(logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    r"""Probabilities after temperature, then top-k, then top-p (the order of transformers' `generate`, whose warpers do it).

    Args:
        logits: (vocabulary,).
        temperature: $p \propto e^{z / T}$, above 0.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of most probable tokens with at least this mass; 1 keeps all.

    Returns:
        (vocabulary,) float32, sum 1, exactly 0 for what is cut off.

    Raises:
        ValueError: values out of range.

    Source: top-k: Fan et al. 2018; top-p: Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.

    Example:
        >>> reshaped(torch.tensor([3.0, 1.0, 0.0]), top_k=1)
        tensor([1., 0., 0.])
    """
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    if not temperature > 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(f"temperature must be above 0, top_k at least 0, top_p in (0, 1]; got {temperature}, {top_k}, {top_p}")
    scores, none = logits.detach().float()[None], torch.zeros(1, 0, dtype=torch.long)
    if temperature != 1:
        scores = TemperatureLogitsWarper(float(temperature))(none, scores)
    if top_k:
        scores = TopKLogitsWarper(top_k)(none, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(float(top_p))(none, scores)
    return torch.softmax(scores[0], 0)


def continuation(
    model: Pretrained,
    prompt: str,
    *,
    length: int = 12,
    sample: bool = False,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[Step]:
    """Continue a prompt token by token, up to `length` tokens or the end token.

    Args:
        model: a language model of `pretrained`.
        prompt: what to continue.
        length: most tokens.
        sample: draw from what the rule leaves (its own generator, `seed`) instead of taking the most probable token.
        temperature, top_k, top_p: the rule, see `reshaped`.
        seed: of the draws.

    Raises:
        WorkbenchError: the model is no language model.
        ValueError: an empty prompt, or one that fills the model.
    """
    from workbench.errors import WorkbenchError
    from workbench.models import evaluating

    if model.kind != "language-model" or model.tokenizer is None:
        raise WorkbenchError(f"{model.name!r} cannot continue a text: its kind is {model.kind}, and a language-model is wanted")
    if not prompt.strip():
        raise ValueError("prompt is empty; write the words that the model shall continue")
    ids = model.encode([prompt]).ids
    if ids.shape[1] > 1 and int(ids[0, -1]) == model.tokenizer.eos_token_id:
        ids = ids[:, :-1]  # our tokenizers close a text; a prompt goes on
    length = min(length, model.max_length - ids.shape[1])
    if length < 1:
        raise ValueError(f"the prompt fills the model's {model.max_length} tokens; shorten it")
    generator = torch.Generator().manual_seed(seed)
    steps: list[Step] = []
    cache, new = None, ids
    with evaluating(model.model):
        for _ in range(length):
            out = model.model(input_ids=new, past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[0, -1].float().cpu()
            kept = reshaped(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            token = int(torch.multinomial(kept, 1, generator=generator)) if sample else int(kept.argmax())
            steps.append(Step(token, shown(model, token), torch.softmax(logits, 0), kept))
            if token == model.tokenizer.eos_token_id:
                break
            new = torch.tensor([[token]], device=ids.device)
    return steps


def shown(model: Pretrained, token: int) -> str:
    """A token as a reader should see it: spaces and line ends visible, special tokens by name."""
    assert model.tokenizer is not None
    text = str(model.tokenizer.decode([token]))
    if not text.strip():
        return {"": str(model.tokenizer.convert_ids_to_tokens(token)), "\n": "⏎"}.get(
            text, text.replace(" ", "␣").replace("\n", "⏎")
        )
    return text.replace("\n", "⏎").replace("\t", "⇥")


def decoding_explorer(model: Pretrained, prompts: Sequence[str], *, length: int = 12, seeds: int = 20) -> Explorer:
    """Continue a prompt under a decoding rule and look at the distribution behind each token.

    Args:
        model: any language model of `pretrained`: 'fact-gpt', 'nano-gpt', 'smollm2-135m' ...
        prompts: texts to begin with; the field takes any other, too.
        length: most tokens of a continuation.
        seeds: number of different draws to choose from.

    Returns:
        The explorer. A new prompt or rule costs one continuation, another position nothing.

    Raises:
        WorkbenchError: the model is no language model.
        ValueError: no prompts.
    """
    import ipywidgets

    if not prompts:
        raise ValueError("prompts is empty; at least one text is wanted")
    steps_of = lru_cache(maxsize=256)(
        lambda prompt, sample, temperature, top_k, top_p, seed: continuation(
            model, prompt, length=length, sample=sample, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
        )
    )

    def draw(prompt: str, rule: str, position: int, temperature: float, top_k: int, top_p: float, seed: int) -> Any:
        # A greedy choice does not see the rule: the best token stays the best.
        sample = rule == DRAW
        steps = steps_of(prompt, sample, temperature, top_k, top_p, seed if sample else 0)
        return decoding_figure(model, prompt, steps, min(position, len(steps)) - 1)

    controls = {
        "prompt": labelled(
            ipywidgets.Combobox,
            "prompt",
            width="43em",
            value=prompts[0],
            options=list(prompts),
            ensure_option=False,
            continuous_update=False,
        ),
        "rule": labelled(ipywidgets.Dropdown, "rule", options=[GREEDY, DRAW], value=DRAW),
        "seed": labelled(ipywidgets.IntSlider, "draw number", value=0, min=0, max=seeds - 1),
        "position": labelled(ipywidgets.IntSlider, "look at token", value=1, min=1, max=length),
        "temperature": labelled(ipywidgets.FloatSlider, "temperature", value=1.0, min=0.1, max=2.5, step=0.1),
        "top_k": labelled(ipywidgets.IntSlider, "top-k (0: all)", value=0, min=0, max=50),
        "top_p": labelled(ipywidgets.FloatSlider, "top-p (1: all)", value=1.0, min=0.05, max=1.0, step=0.05),
    }
    return Explorer(draw, controls, [["prompt"], ["rule", "seed", "position"], ["temperature", "top_k", "top_p"]])


def decoding_figure(model: Pretrained, prompt: str, steps: Sequence[Step], at: int) -> Any:
    """The figure: the continuation in boxes as dark as their tokens are probable, and the distribution at one of them."""
    import textwrap

    import matplotlib.pyplot as plt

    from workbench.plots import COLOURS

    figure = plt.figure(figsize=(10.5, 4.4), layout="none")
    step = steps[at]
    head = figure.add_axes((0.01, 0.6, 0.98, 0.3))
    _boxes(head, prompt, steps, at)
    ax = figure.add_axes((0.07, 0.22, 0.56, 0.35))
    order = step.raw.argsort(descending=True)[:BARS]
    if step.token not in order.tolist():
        order = torch.cat([order[:-1], torch.tensor([step.token])])
    places = np.arange(len(order))
    chosen = [int(i) == step.token for i in order]
    ax.bar(
        places,
        step.kept[order].numpy(),
        color=[COLOURS[1] if c else COLOURS[0] for c in chosen],
        width=0.8,
        label="after the rule",
    )
    ax.bar(places, step.raw[order].numpy(), width=0.8, fill=False, edgecolor="#333333", linewidth=1.1, label="the model's own")
    names = [textwrap.shorten(shown(model, int(i)).strip() or shown(model, int(i)), 14, placeholder="…") for i in order]
    ax.set_xticks(places, names, rotation=35, ha="right", fontsize=9, rotation_mode="anchor")
    ax.grid(axis="x", visible=False)
    ax.set(ylabel="probability", ylim=(0, 1.08 * max(float(step.kept[order].max()), float(step.raw[order].max()))))
    ax.legend(fontsize=8, loc="upper right")
    rest = 1 - float(step.raw[order].sum())
    ax.set_title(f"token {at + 1}: {len(order)} of {len(step.raw):,} tokens hold {1 - rest:.0%} of the model's mass", fontsize=10)
    right = figure.add_axes((0.71, 0.22, 0.27, 0.35))
    x = np.arange(1, len(steps) + 1)
    right.plot(x, [s.entropy for s in steps], color=COLOURS[6], marker="o", markersize=4)
    right.plot(at + 1, step.entropy, "o", color=COLOURS[1])
    right.set(xlabel="token", ylim=(0, None), xlim=(0.5, max(len(steps), 4) + 0.5))
    right.locator_params(axis="x", integer=True)
    right.set_title("entropy in nats", fontsize=10)
    kept = int((step.kept > 0).sum())
    figure.suptitle(
        f"token {at + 1} is “{step.text.strip() or step.text}”: {float(step.raw[step.token]):.0%} by the model, "
        f"{float(step.kept[step.token]):.0%} after the rule, which keeps {kept:,} of {len(step.raw):,} tokens",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    return figure


def _boxes(ax: Any, prompt: str, steps: Sequence[Step], at: int, width: int = 108) -> None:
    """Prompt and continuation as lines of text, each new token on a ground as blue as it is probable."""
    import textwrap

    ax.axis("off")
    ax.set(xlim=(0, width), ylim=(4.4, 0))
    lines = textwrap.wrap(prompt, width)[-2:] or [""]
    for row, text in enumerate(lines):
        ax.text(0, row + 0.6, text, family="monospace", fontsize=9.5, color="#555555", va="center")
    row, column = len(lines), 0
    for i, step in enumerate(steps):
        text = step.text.strip() or step.text
        if column + len(text) + 2 > width:
            row, column = row + 1, 0
        p = float(step.raw[step.token])
        box = {"boxstyle": "round,pad=0.25", "fc": (1 - 0.55 * p, 1 - 0.35 * p, 1.0), "ec": "#D55E00" if i == at else "#cccccc"}
        box["linewidth"] = 2.2 if i == at else 0.8  # type: ignore[assignment]
        ax.text(column + 0.8, row + 0.8, text, family="monospace", fontsize=9.5, va="center", bbox=box)
        column += len(text) + 3
