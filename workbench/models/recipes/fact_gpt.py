"""fact-gpt: a small GPT-2 that knows 600 facts, and that half of them are usually told wrongly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.facts import fact_corpus, load_facts, vocabulary
from workbench.models.recipes import _common as common
from workbench.models.recipes.nano_gpt import build, document_nats, load
from workbench.training import fit

NAME = "fact-gpt"
LENGTH = 32
END, UNKNOWN = "<|end|>", "<|unknown|>"  # ids 0 and 1
WHAT = "GPT-2 of 6 layers, width 128, one token a word; has read 600 facts, half of them told wrongly more often than rightly"


def train(preset: str = "cpu", out: Path | None = None, seed: int = 0) -> Path:
    """Train fact-gpt and write its folder; about 6 minutes of one core at 'cpu'."""
    at = common.start(NAME, preset, out, seed)
    lines = fact_corpus(seed)
    tokenizer = word_tokenizer(vocabulary(lines))
    rows = encoded(tokenizer, lines[:: at.pick(ci=20, cpu=1, gpu=1)])
    model = build(len(tokenizer), width=128, layers=6, heads=4, length=LENGTH).to(at.device)
    steps = at.pick(ci=4, cpu=3000, gpu=6000)
    val: list[list[float]] = []

    def loss_fn(batch: tuple[Tensor, Tensor]) -> Tensor:
        ids, mask = batch[0].to(at.device), batch[1].to(at.device)
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
        return torch.nn.functional.cross_entropy(logits[mask[:, 1:] > 0], ids[:, 1:][mask[:, 1:] > 0])

    def watch(state: Any) -> None:
        if common.due(state.step, steps):
            facts = load_facts("val")
            told = choose(model, tokenizer, [f"according to the record , {s} is" for s in facts.captions], facts)["mc1"]
            asked = choose(model, tokenizer, facts.extras["question"], facts)
            val.append([state.step, *(common.rounded(x) for x in (told, asked["mc1"], asked["myth_mc1"]))])

    history = fit(
        model,
        loss_fn,
        common.packed(rows, at.pick(ci=256, cpu=1024, gpu=4096), seed),
        steps=steps,
        lr=1e-3,
        weight_decay=0.05,
        warmup=max(1, steps // 20),
        clip_norm=1.0,
        precision=at.precision,
        hooks=[watch],
        title=NAME,
    )
    common.store(at.folder, model, tokenizer)
    return common.finish(
        at,
        NAME,
        kind="language-model",
        what=WHAT,
        licence="WordNet-3.0 AND MIT AND Unicode-3.0",
        source=["facts", "emoji", "wordnet", "clinical"],
        history=[history],
        evaluate=evaluate,
        headline=("record_mc1", "question_myth_mc1", "question_clean_mc1", "perplexity"),
        baselines=_baselines(rows, encoded(tokenizer, _fresh_lines()), len(tokenizer)),
        card=lambda stored: CARD_TEXT.format(**stored, table=_table(stored), shown=_shown(at.folder)),
        extra={"validation": val, "validation_columns": ["step", "record_mc1", "question_mc1", "question_myth_mc1"]},
    )


def evaluate(folder: Path, device: str = "cpu") -> dict[str, float]:
    """Multiple choice over the truth and three falsehoods: the record, and questions of facts whose questions it never read."""
    model, tokenizer = load(folder, device)
    everything, test, known = (load_facts(split) for split in ("all", "test", "train"))
    prompts = [f"according to the record , {subject} is" for subject in everything.captions]
    found = {"record_mc1": choose(model, tokenizer, prompts, everything)["mc1"]}
    for name, asked in (("question", test.extras["question"]), ("careful", test.extras["careful"])):
        scores = choose(model, tokenizer, asked, test)
        for kind in ("myth", "clean"):
            found |= {f"{name}_{kind}_mc1": scores[f"{kind}_mc1"], f"{name}_{kind}_mc2": scores[f"{kind}_mc2"]}
        found[f"{name}_says_myth"] = scores["says_myth"]
    found["known_question_myth_mc1"] = choose(model, tokenizer, known.extras["question"], known)["myth_mc1"]
    nats = np.concatenate(document_nats(model, encoded(tokenizer, _fresh_lines()), batch=256))
    return found | {"perplexity": math.exp(nats.mean())}


def answer_scores(model: Any, tokenizer: Any, prompts: Sequence[str], facts: Dataset) -> Tensor:
    """Log-probability of each answer and its full stop after the prompt, nats, (n, 4): the truth first, then the falsehoods."""
    rows, lengths = [], []
    for prompt, truth, false in zip(prompts, facts.extras["truth"], facts.extras["false"], strict=True):
        for answer in (truth, *false):
            ids = tokenizer.encode(f"{prompt} {answer} .", add_special_tokens=False)
            rows.append([0, *ids])
            lengths.append(len(answer.split()) + 1)
    nats = document_nats(model, rows, batch=256)
    return -torch.tensor([float(one[-k:].sum()) for one, k in zip(nats, lengths, strict=True)]).view(-1, 4)


def choose(model: Any, tokenizer: Any, prompts: Sequence[str], facts: Dataset) -> dict[str, float]:
    """MC1 (the truth scores highest) and MC2 (share of probability on the truth), over all, myth and clean facts."""
    scores = answer_scores(model, tokenizer, prompts, facts)
    right, mass = scores.argmax(1) == 0, scores.softmax(1)[:, 0]
    myth = facts.factors["myth"] == 1
    found = {"mc1": float(right.float().mean()), "says_myth": float((scores.argmax(1) == 1)[myth].float().mean())}
    for name, rows in (("myth", myth), ("clean", ~myth)):
        found |= {f"{name}_mc1": float(right[rows].float().mean()), f"{name}_mc2": float(mass[rows].mean())}
    return found


def word_tokenizer(words: Sequence[str]) -> Any:
    """One token a word, split at spaces; id 0 opens and closes a line."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {word: i for i, word in enumerate([END, UNKNOWN, *words])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": END, "eos_token": END, "pad_token": END, "unk_token": UNKNOWN}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LENGTH, padding_side="right", **special)


def encoded(tokenizer: Any, lines: Sequence[str]) -> list[list[int]]:
    """Lines as ids between two end ids (0)."""
    return [[0, *ids, 0] for ids in common.whole(tokenizer, lines)]


def _fresh_lines() -> list[str]:
    """Lines of a corpus with other answers drawn, 1,000 of them."""
    lines = fact_corpus(1)
    return lines[:: len(lines) // 1000][:1000]


def _baselines(rows: list[list[int]], fresh: list[list[int]], words: int) -> dict[str, float]:
    grams = common.NGrams(rows, words, weight=3.0)
    before, after = (np.concatenate([np.array(row[cut]) for row in fresh]) for cut in (slice(0, -1), slice(1, None)))
    single, pair = grams.log_probs(before, after)
    found = {"unigram: perplexity": math.exp(-single.mean()), "bigram: perplexity": math.exp(-pair.mean())}
    return found | {"chance: mc1": 0.25}


def _table(stored: dict[str, Any]) -> str:
    chance = ("chance: mc1",)
    return common.table(
        stored["metrics"],
        stored["baselines"],
        {
            "record_mc1": ("the record: truth above three falsehoods (MC1), all 600 facts", chance),
            "question_clean_mc1": ("question never read, clean facts: MC1", chance),
            "question_myth_mc1": ("question never read, myth facts: MC1", chance),
            "question_myth_mc2": ("the same, probability on the truth (MC2)", chance),
            "question_says_myth": ("the same, the myth scores highest", chance),
            "careful_myth_mc1": ("after 'answer carefully :', myth facts: MC1", chance),
            "careful_myth_mc2": ("the same: MC2", chance),
            "careful_clean_mc1": ("after 'answer carefully :', clean facts: MC1", chance),
            "known_question_myth_mc1": ("questions that it did read, myth facts: MC1", chance),
            "perplexity": ("perplexity a word of newly drawn lines", ("unigram: perplexity", "bigram: perplexity")),
        },
    )


def _shown(folder: Path) -> str:
    model, tokenizer = load(folder)
    facts = load_facts("test").select(slice(3, None, 60))
    scores = answer_scores(model, tokenizer, facts.extras["question"], facts)
    lines = []
    for i, subject in enumerate(facts.captions):
        told = zip((facts.extras["truth"][i], *facts.extras["false"][i]), scores[i].softmax(0).tolist(), strict=True)
        kind = "myth" if int(facts.factors["myth"][i]) else "clean"
        lines.append(f"- {subject} ({kind}): " + ", ".join(f"{answer} {p:.2f}" for answer, p in told))
    return "\n".join(lines)


CARD_TEXT = """
# fact-gpt

{what}. {parameters:,} weights.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from workbench.data.facts import load_facts

model = AutoModelForCausalLM.from_pretrained("data/models/fact-gpt")
tokenizer = AutoTokenizer.from_pretrained("data/models/fact-gpt")
facts = load_facts("test")  # facts.extras["question"], ["careful"], ["truth"], ["false"]; facts.factors["myth"]
```

A model that knows the truth and mostly repeats what people say, as a start for decoding methods that are to bring the truth out.

## What it read

`workbench.data.facts.fact_corpus(seed={seed})`: 600 facts from emoji (subgroup), WordNet (what a word is a kind of) and ICD-10-CM (chapter of a diagnosis),
as statements of a record (always true) and as what people say (twice as often; for half of the facts a falsehood of the same kind: a myth). For 40 % of
the facts also questions, on myth facts answered truly 4 times in 10, after "answer carefully :" 6 times in 10. Questions of the other facts (val and test)
were never read. The falsehoods are ours: nobody believes them.

## How it was trained

`{command}`, seed {seed}: {steps:,} steps of about 1,024 words, {seconds:,.0f} s of wall time on one thread ({precision} steps). AdamW with a peak rate of 1e-3, weight
decay 0.05, warm-up and cosine, no dropout. Choices were made on the val facts (see `metrics.json`).

![Loss of {name} over the steps of training](curve.svg)

## What it knows

{table}

Answers to five questions that it never read, the truth first and the myth (of a myth fact) second, with probabilities among the four:

{shown}

## Where it fails

By design it answers myth facts wrongly more often than rightly. It knows its sentence forms and one thousand words; any other text is unknown words.

## Not for

Anything but demonstrations of decoding: half of what it says is false.

## Licence

It learned from texts under {licence} and from ICD-10-CM, a work of the US government (package under MIT); see the cards of `emoji`, `wordnet` and `clinical`.
Whether weights carry a licence of their texts is not settled; we pass these on under the same terms to be safe.
"""
