"""nano-gpt: a small GPT-2 for English, trained on novels, verses, definitions and docstrings; and language models in general."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.corpora import DEFAULT_SOURCES, corpus_texts, load_tokenizer
from workbench.models.encode import evaluating
from workbench.models.recipes import _common as common
from workbench.training import fit

NAME = "nano-gpt"
LENGTH = 128
END = "<|endoftext|>"  # id 0: before the first and after the last token of each document
PER_SOURCE = 3000  # test tokens of each source
WHAT = (
    "GPT-2 of 6 layers, width 240, 4k byte-level pieces, context 128; continues English prose, verse, definitions and docstrings"
)


def train(preset: str = "cpu", out: Path | None = None, seed: int = 0) -> Path:
    """Train nano-gpt and write its folder; about 35 minutes of one core at 'cpu'."""
    from transformers import PreTrainedTokenizerFast

    at = common.start(NAME, preset, out, seed)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=load_tokenizer("bpe-4k"),
        model_max_length=LENGTH,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        padding_side="right",
    )
    every = at.pick(ci=80, cpu=1, gpu=1)
    documents = encoded(tokenizer, [text for source in DEFAULT_SOURCES for text in corpus_texts(source, "train")[::every]])
    held = encoded(tokenizer, [t for s in DEFAULT_SOURCES for t in spread(corpus_texts(s, "val"), 40)])
    model = build(len(tokenizer), width=240, layers=6, heads=4, length=LENGTH).to(at.device)
    steps = at.pick(ci=3, cpu=5000, gpu=24000)
    val: list[list[float]] = []

    def loss_fn(rows: Tensor) -> Tensor:
        rows = rows.to(at.device)
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())

    def watch(state: Any) -> None:
        if common.due(state.step, steps):
            val.append([state.step, common.rounded(np.concatenate(document_nats(model, held)).mean())])

    history = fit(
        model,
        loss_fn,
        windows(documents, at.pick(ci=4, cpu=8, gpu=64), seed),
        steps=steps,
        lr=1e-3,
        weight_decay=0.1,
        warmup=max(1, steps // 30),
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
        licence="WordNet-3.0 AND PSF-2.0 AND MIT AND Unicode-3.0",
        source=[f"corpora/{name}" for name in DEFAULT_SOURCES],
        history=[history],
        evaluate=evaluate,
        headline=("perplexity", "bits_per_character"),
        baselines=_baselines(tokenizer, documents, held),
        card=lambda stored: _card(stored, at.folder),
        extra={"validation": val},
    )


def evaluate(folder: Path, device: str = "cpu") -> dict[str, float]:
    """Perplexity a token and bits a character on test documents, over all sources alike and for each."""
    model, tokenizer = load(folder, device)
    found, nats, characters = {}, [], 0
    for source, texts in test_texts(tokenizer).items():
        mine = np.concatenate(document_nats(model, encoded(tokenizer, texts)))
        found[f"perplexity_{source}"] = math.exp(mine.mean())
        nats.append(mine)
        characters += sum(len(text) for text in texts)
    every = np.concatenate(nats)
    return {"perplexity": math.exp(every.mean()), "bits_per_character": every.sum() / characters / math.log(2)} | found


# ---- shared by the language models -------------------------------------------------------------------------------------------


def build(vocabulary: int, *, width: int, layers: int, heads: int, length: int, end: int = 0) -> Any:
    """An untrained GPT2LMHeadModel without dropout; id `end` opens and closes a document."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_positions=length,
        activation_function="gelu_pytorch_tanh",  # gelu_new in one kernel: a tenth less time a step
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = GPT2LMHeadModel(config)
    model.generation_config.pad_token_id = end
    return model


def windows(documents: Sequence[Sequence[int]], size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches (size, 129): all documents in a new order each epoch, one after the other, cut into windows."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(documents))
        flat = np.concatenate([np.asarray(documents[i][:-1], dtype=np.int64) for i in order])
        usable = (len(flat) - 1) // LENGTH * LENGTH
        starts = generator.permutation(usable // LENGTH) * LENGTH
        for at in range(0, len(starts) - size + 1, size):
            yield torch.from_numpy(np.stack([flat[s : s + LENGTH + 1] for s in starts[at : at + size]]))


def document_nats(model: Any, documents: Sequence[Sequence[int]], batch: int = 32) -> list[np.ndarray]:
    """Negative log-probability of each token of each document after its first, nats; long documents in pieces of 128."""
    pieces = [(i, list(ids[at : at + LENGTH + 1])) for i, ids in enumerate(documents) for at in range(0, len(ids) - 1, LENGTH)]
    order = sorted(range(len(pieces)), key=lambda p: len(pieces[p][1]))
    parts: dict[int, np.ndarray] = {}
    device = next(model.parameters()).device
    with evaluating(model):
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            ids, mask = common.pad([pieces[p][1] for p in rows])
            logits = model(input_ids=ids[:, :-1].to(device), use_cache=False).logits.float()
            nats = (
                torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:].to(device), reduction="none").cpu().numpy()
            )
            for row, p in enumerate(rows):
                parts[p] = nats[row, : int(mask[row].sum()) - 1]
    found: list[list[np.ndarray]] = [[] for _ in documents]
    for p, (document, _) in enumerate(pieces):
        found[document].append(parts[p])
    return [np.concatenate(one) for one in found]


def encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Documents as ids between two end-of-text ids (0)."""
    return [[0, *ids, 0] for ids in common.whole(tokenizer, texts)]


def load(folder: Path, device: str = "cpu") -> tuple[Any, Any]:
    """Model and tokenizer of a stored folder."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model: Any = GPT2LMHeadModel.from_pretrained(folder)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder)


def spread(texts: Sequence[str], n: int) -> list[str]:
    """About n of the texts, evenly spread."""
    return list(texts[:: max(1, len(texts) // n)])[:n]


def test_texts(tokenizer: Any) -> dict[str, list[str]]:
    """Evenly spread test documents of each source, about 3,000 tokens each."""
    found = {}
    for source in DEFAULT_SOURCES:
        some = spread(corpus_texts(source, "test"), 400)
        lengths = np.cumsum([len(ids) for ids in encoded(tokenizer, some)])
        keep = max(1, int((lengths <= PER_SOURCE).sum()))
        found[source] = spread(some, keep)
    return found


def continuations(folder: Path, prefixes: Sequence[str], tokens: int = 32) -> list[str]:
    """Each prefix continued greedily and by nucleus sampling (p 0.95, seed 0), as lines of a card."""
    model, tokenizer = load(folder)
    lines = []
    for prefix in prefixes:
        ids = torch.tensor([[0, *tokenizer.encode(prefix, add_special_tokens=False)]])
        told = []
        for options in ({"do_sample": False}, {"do_sample": True, "top_p": 0.95, "top_k": 0}):
            torch.manual_seed(0)
            with torch.no_grad():
                out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **options)
            told.append(" ".join(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).split()))
        lines.append(f"- **{prefix}** greedy: *{told[0]}*; sampled: *{told[1]}*")
    return lines


def _baselines(tokenizer: Any, documents: list[list[int]], held: list[list[int]]) -> dict[str, float]:
    grams = common.NGrams(documents, len(tokenizer)).fit_weight(held)
    texts = test_texts(tokenizer)
    rows = [ids for part in texts.values() for ids in encoded(tokenizer, part)]
    before, after = (np.concatenate([np.array(row[cut]) for row in rows]) for cut in (slice(0, -1), slice(1, None)))
    characters = sum(len(text) for part in texts.values() for text in part)
    found = {}
    for name, logs in zip(("unigram", "bigram"), grams.log_probs(before, after), strict=True):
        found[f"{name}: perplexity"] = math.exp(-logs.mean())
        found[f"{name}: bits_per_character"] = -logs.sum() / characters / math.log(2)
    return found


def _card(stored: dict[str, Any], folder: Path) -> str:
    rows: dict[str, tuple[str, Sequence[str]]] = {
        "perplexity": ("perplexity a token, six sources alike", ("unigram: perplexity", "bigram: perplexity")),
        "bits_per_character": ("bits a character", ("unigram: bits_per_character", "bigram: bits_per_character")),
        **{f"perplexity_{source}": (f"perplexity, {source}", ()) for source in DEFAULT_SOURCES},
    }
    shown = continuations(
        folder, ("It is a truth universally acknowledged, that", "And it came to pass", "poodle:", "smiling cat:")
    )
    return CARD_TEXT.format(**stored, table=common.table(stored["metrics"], stored["baselines"], rows), shown="\n".join(shown))


CARD_TEXT = """
# {name}

{what}. {parameters:,} weights.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("data/models/{name}")
tokenizer = AutoTokenizer.from_pretrained("data/models/{name}")
ids = torch.tensor([[0, *tokenizer.encode("And it came to pass")]])  # id 0, <|endoftext|>, opens every document
```

## What it read

The train split of the corpora as `load_corpora("train")` gives it, once or twice: Austen's novels, the World English Bible and the King James Version
(books of the train split), WordNet entries (half of them), docstrings of Python's standard library, English emoji names with keywords. Documents in random
order, one after the other with `<|endoftext|>` between. No row of a val or test split.

## How it was trained

`{command}`, seed {seed}: {steps:,} steps of 8 windows of 128 tokens, {seconds:,.0f} s of wall time on one thread ({precision} steps). AdamW with a peak rate of
1e-3, weight decay 0.1, warm-up and cosine, no dropout. Validation loss along the way is in `metrics.json`.

![Loss of {name} over the steps of training](curve.svg)

## What it knows

{table}

Test documents, about 3,000 tokens of each source; unigram and bigram are counted on the same training text. Real continuations of 32 tokens:

{shown}

## Where it fails

Grammar of a clause, hardly a thought of two sentences; greedy text soon repeats itself (which the notebooks on decoding need). No facts, no code, no dialogue
of today.

## Not for

Text that people are to believe or rely on; claims about language models at scale. It repeats what its texts say of women, peoples and faith.

## Licence

It learned from texts in the public domain and from texts under {licence}: see the cards of `corpora`, `wordnet`, `pycode` and `emoji`. Whether weights carry
a licence of their texts is not settled; we pass these on under the same terms to be safe.
"""
