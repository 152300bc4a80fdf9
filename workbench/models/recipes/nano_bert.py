"""nano-bert and nano-bert-multilingual: small BERTs trained on definitions, verses, novels and names with masked words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.corpora import DEFAULT_SOURCES, corpus_texts, load_tokenizer
from workbench.data.emoji import LANGUAGES
from workbench.data.files import data_dir
from workbench.data.texts import columns_of
from workbench.data.verses import load_verses
from workbench.data.wordnet import load_wordnet
from workbench.metrics import recall_at_k, spearman
from workbench.models.encode import embed, evaluating
from workbench.models.recipes import _common as common
from workbench.models.text import TextEncoder, encode_texts, train_tokenizer
from workbench.training import fit

NAME, MULTILINGUAL = "nano-bert", "nano-bert-multilingual"
LENGTH = 128
MASKED = 0.15
HEADLINES = {
    NAME: ("masked_accuracy", "masked_perplexity", "definition_spearman"),
    MULTILINGUAL: ("masked_accuracy", "masked_perplexity", "verse_r1"),
}
PER_SOURCE = 250  # test documents of each source on which masked words are guessed


def train(preset: str = "cpu", out: Path | None = None, seed: int = 0, *, name: str = NAME) -> Path:
    """Train nano-bert or nano-bert-multilingual and write its folder; about 20 minutes of one core each at 'cpu'.

    nano-bert-multilingual starts from the weights of the shipped nano-bert, where there is one.
    """
    at = common.start(name, preset, out, seed)
    world = _WORLDS[name]
    every = at.pick(ci=60, cpu=1, gpu=1)
    texts = {split: {key: part[::every] for key, part in world.texts(split).items()} for split in ("train", "val")}
    tokenizer = world.tokenizer(texts["train"])
    steps = at.pick(ci=6, cpu=world.steps, gpu=24000)
    random = TextEncoder(untrained(tokenizer, world.layers).bert, pooling="mean")
    before = sentence_metrics(lambda texts: _embedded(random, tokenizer, texts), world.language)
    model = untrained(tokenizer, world.layers)
    shared = start_from(NAME, model, tokenizer) if name == MULTILINGUAL else 0
    pairs = encoded_pairs(tokenizer, translations("train")[::every]) if name == MULTILINGUAL else []
    history, val = pretrain(at, model, tokenizer, texts["train"], texts["val"], pairs=pairs, steps=steps)
    common.store(at.folder, model, tokenizer)
    baselines = counted(tokenizer, texts["train"], texts["val"], world.test())
    baselines |= bags(texts["train"]["wordnet"], world.language) | {f"untrained: {key}": value for key, value in before.items()}
    return common.finish(
        at,
        name,
        kind="masked-language-model",
        what=world.what,
        licence=world.licence,
        source=world.sources,
        history=[history],
        evaluate=lambda folder: evaluate(folder, name=name),
        headline=HEADLINES[name],
        baselines=baselines,
        card=lambda stored: _card(stored, at.folder),
        extra={"validation": val} | ({"pieces_from_nano_bert": shared, "translation_pairs": len(pairs)} if pairs else {}),
    )


def evaluate(folder: Path, device: str = "cpu", *, name: str | None = None) -> dict[str, float]:
    """Masked words of test documents, graded pairs of definitions, verses said otherwise: the numbers of the card."""
    model, tokenizer = _load(folder, device)
    world = _WORLDS[name or json.loads((folder / common.METRICS).read_text(encoding="utf8"))["name"]]
    found = masked_metrics(model, tokenizer, world.test())
    encoder = TextEncoder(model.bert, pooling="mean")
    return found | sentence_metrics(lambda texts: _embedded(encoder, tokenizer, texts), world.language)


# ---- what each of the two reads ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _World:
    """Texts, tokenizer and size of one of the two models."""

    what: str
    layers: int
    steps: int
    texts: Callable[[str], dict[str, list[str]]]
    tokenizer: Callable[[dict[str, list[str]]], Any]
    language: str  # of the verses that are to be found
    licence: str
    sources: tuple[str, ...]

    def test(self) -> dict[str, list[str]]:
        """Evenly spread test documents of each source."""
        return {key: spread(part, PER_SOURCE) for key, part in self.texts("test").items()}


def english_texts(split: str) -> dict[str, list[str]]:
    """Documents of the default corpora, by source."""
    return {source: corpus_texts(source, split) for source in DEFAULT_SOURCES}


def world_texts(split: str) -> dict[str, list[str]]:
    """English and Spanish verses, English definitions, emoji in 26 languages and stamp captions in 58, by source.

    Verses come from chapters that are in the split by book AND by chapter, so that tasks on either split find unseen verses.
    """
    columns = columns_of("verses", "verses.parquet")
    rows = ((columns["split"] == split) & (columns["split_by_chapter"] == split)).nonzero()[0]
    found = {name: columns[name][rows].tolist() for name in ("web", "kjv", "rv")}
    found["wordnet"] = corpus_texts("wordnet", split)
    items, names = columns_of("emoji", "items.parquet"), columns_of("emoji", "names.parquet")
    rows = ((items["split"] == split) & (items["tone"] == "none")).nonzero()[0].tolist()
    found["emoji"] = []
    for language in LANGUAGES:
        table, end = (items, "") if language == "en" else (names, f"_{language}")
        found["emoji"] += [f"{table[f'name{end}'][i]}: {', '.join(table[f'keywords{end}'][i])}." for i in rows]
    stamps = columns_of("stamps", "items.parquet")
    captions = {"en": stamps["caption"], **columns_of("stamps", "captions.parquet")}
    rows = (stamps["split"] == split).nonzero()[0].tolist()
    found["stamps"] = [str(column[i]) for column in captions.values() for i in rows if column[i]]
    return found


def translations(split: str) -> list[tuple[str, str]]:
    """Pairs of English and another language: verses and Spanish, names of emoji in 25 languages, stamp captions in 57."""
    columns = columns_of("verses", "verses.parquet")
    rows = ((columns["split"] == split) & (columns["split_by_chapter"] == split)).nonzero()[0].tolist()
    found = [(str(columns[name][i]), str(columns["rv"][i])) for name in ("web", "kjv") for i in rows]
    items, names = columns_of("emoji", "items.parquet"), columns_of("emoji", "names.parquet")
    rows = ((items["split"] == split) & (items["tone"] == "none")).nonzero()[0].tolist()
    others = [language for language in LANGUAGES if language != "en"]
    found += [(str(items["name"][i]), str(names[f"name_{language}"][i])) for language in others for i in rows]
    stamps = columns_of("stamps", "items.parquet")
    rows = (stamps["split"] == split).nonzero()[0].tolist()
    for column in columns_of("stamps", "captions.parquet").values():
        found += [(str(stamps["caption"][i]), str(column[i])) for i in rows if column[i]]
    return found


def _stored_tokenizer(texts: dict[str, list[str]]) -> Any:
    from transformers import PreTrainedTokenizerFast

    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=load_tokenizer("wordpiece-8k"), model_max_length=LENGTH, **special)


def _own_tokenizer(texts: dict[str, list[str]]) -> Any:
    return train_tokenizer([text for part in texts.values() for text in part], vocab_size=8192, max_length=LENGTH)


_WORLDS = {
    NAME: _World(
        what="BERT of 2 layers, width 128, 8k English word pieces; guesses masked words; start of the sentence-embedding papers",
        layers=2,
        steps=10000,
        texts=english_texts,
        tokenizer=_stored_tokenizer,
        language="kjv",
        licence="WordNet-3.0 AND PSF-2.0 AND MIT AND Unicode-3.0",
        sources=tuple(f"corpora/{name}" for name in DEFAULT_SOURCES),
    ),
    MULTILINGUAL: _World(
        what="BERT of 2 layers, width 128, 8k word pieces of many languages: English and Spanish, names of things in the others; aligned by translations",
        layers=2,
        steps=10000,
        texts=world_texts,
        tokenizer=_own_tokenizer,
        language="rv",
        licence="GPL-2.0-only AND WordNet-3.0 AND MIT AND Unicode-3.0",
        sources=("verses", "wordnet", "emoji", "stamps"),
    ),
}


# ---- training and measuring --------------------------------------------------------------------------------------------------


def pretrain(
    at: common.Start,
    model: Any,
    tokenizer: Any,
    train_texts: dict[str, list[str]],
    val_texts: dict[str, list[str]],
    *,
    pairs: Sequence[Sequence[int]] = (),
    steps: int,
) -> tuple[Any, list[list[float]]]:
    """Train on masked words, every other batch on `pairs` if there are any; the history, and [step, validation loss] along the way."""
    model.to(at.device)
    rows = encoded(tokenizer, [text for part in train_texts.values() for text in part])
    held_out = encoded(tokenizer, [text for part in val_texts.values() for text in part[:: max(1, len(part) // 100)]])
    generator = torch.Generator().manual_seed(at.seed)
    val: list[list[float]] = []

    def loss_fn(batch: tuple[Tensor, Tensor]) -> Tensor:
        ids, mask = batch
        inputs, chosen = corrupt(ids, generator, len(tokenizer))
        places = positions(ids, tokenizer.sep_token_id) if pairs else None
        logits = masked_logits(model, inputs.to(at.device), mask.to(at.device), chosen.to(at.device), places)
        return torch.nn.functional.cross_entropy(logits.float(), ids[chosen].to(at.device))

    def watch(state: Any) -> None:
        if common.due(state.step, steps):
            val.append([state.step, common.rounded(masked_scores(model, held_out)[0].mean())])

    size = at.pick(ci=1024, cpu=4096, gpu=16384)
    batches = common.packed(rows, size, at.seed)
    if pairs:
        batches = (batch for two in zip(batches, common.packed(pairs, size, at.seed + 1), strict=True) for batch in two)
    history = fit(
        model,
        loss_fn,
        batches,
        steps=steps,
        lr=at.pick(ci=1e-3, cpu=2e-3, gpu=2e-3),
        weight_decay=0.01,
        warmup=max(1, steps // 20),
        clip_norm=1.0,
        precision=at.precision,
        hooks=[watch],
        title="nano-bert",
    )
    return history, val


def start_from(name: str, model: Any, tokenizer: Any) -> int:
    """Copy the layers of a shipped model, and the vectors of the word pieces that both know; how many these are (0: not shipped)."""
    folder = data_dir() / "models" / name
    if not (folder / common.WEIGHTS).exists():
        return 0
    other, its = _load(folder, "cpu")
    mine, theirs = tokenizer.get_vocab(), its.get_vocab()
    both = sorted(mine.keys() & theirs.keys())
    here, there = (torch.tensor([vocabulary[piece] for piece in both]) for vocabulary in (mine, theirs))
    state, source = model.state_dict(), other.state_dict()
    for key, value in source.items():
        if value.shape == state[key].shape and len(value) != len(theirs):
            state[key] = value
        else:
            state[key][here] = value[there]
    model.load_state_dict(state)
    return len(both)


def encoded_pairs(tokenizer: Any, pairs: Sequence[tuple[str, str]], half: int = 62) -> list[list[int]]:
    """[CLS] a [SEP] b [SEP] for each pair, every other one with b first; texts are cut at `half` pieces."""
    sides = [[ids[:half] for ids in common.whole(tokenizer, [pair[k] for pair in pairs])] for k in (0, 1)]
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    return [
        [first, *(b if i % 2 else a), last, *(a if i % 2 else b), last]
        for i, (a, b) in enumerate(zip(*sides, strict=True))
        if a and b
    ]


def positions(ids: Tensor, sep: int) -> Tensor:
    """Positions (n, t) that begin again at 1 after the first [SEP], so that a translation has the places it has when alone."""
    place = torch.arange(ids.shape[1]).expand_as(ids)
    end = (ids == sep).int().argmax(1, keepdim=True)
    return torch.where(place > end, place - end, place)


def untrained(tokenizer: Any, layers: int) -> Any:
    """A BertForMaskedLM of width 128 with random weights."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        pad_token_id=0,
    )
    return BertForMaskedLM(config)


def encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Documents as ids, [CLS] ... [SEP], long ones in pieces of 128."""
    ids = common.whole(tokenizer, texts)
    return common.chunks(ids, LENGTH, tokenizer.cls_token_id, tokenizer.sep_token_id)


def corrupt(ids: Tensor, generator: torch.Generator, vocabulary: int) -> tuple[Tensor, Tensor]:
    """BERT's masking: 15 % of the words are to be guessed; of these 80 % show [MASK], 10 % a random id, 10 % themselves.

    Returns:
        What the model reads, (n, t), and which places it must guess, (n, t) bool; at least one of each batch.
    """
    chosen = (torch.rand(ids.shape, generator=generator) < MASKED) & (ids > 4)
    if not chosen.any():
        chosen = (ids > 4) & ((ids > 4).flatten().cumsum(0).view_as(ids) == 1)
    fate = torch.rand(ids.shape, generator=generator)
    random = torch.randint(5, vocabulary, ids.shape, generator=generator)
    inputs = torch.where(chosen & (fate < 0.8), torch.full_like(ids, 4), ids)
    return torch.where(chosen & (fate >= 0.9), random, inputs), chosen


def masked_logits(model: Any, ids: Tensor, mask: Tensor, chosen: Tensor, places: Tensor | None = None) -> Tensor:
    """Logits (k, vocabulary) of the k chosen places only: the head is most of the cost."""
    places = None if places is None else places.to(ids.device)
    return model.cls(model.bert(input_ids=ids, attention_mask=mask, position_ids=places).last_hidden_state[chosen])


def masked_scores(model: Any, rows: Sequence[Sequence[int]], seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-probability (nats) and hit (bool) of each masked place; always [MASK], places drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    nats, hits = [], []
    with evaluating(model):
        for at in range(0, len(rows), 64):
            ids, mask = common.pad(rows[at : at + 64])
            inputs, chosen = fixed_masks(ids, generator)
            if chosen.any():
                logits = masked_logits(model, inputs.to(device), mask.to(device), chosen.to(device)).float().cpu()
                nats.append(torch.nn.functional.cross_entropy(logits, ids[chosen], reduction="none").numpy())
                hits.append((logits.argmax(1) == ids[chosen]).numpy())
    return np.concatenate(nats), np.concatenate(hits)


def fixed_masks(ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """15 % of the words replaced by [MASK], and where."""
    chosen = (torch.rand(ids.shape, generator=generator) < MASKED) & (ids > 4)
    return torch.where(chosen, torch.full_like(ids, 4), ids), chosen


def spread(texts: Sequence[str], n: int) -> list[str]:
    """About n of the texts, evenly spread."""
    return list(texts[:: max(1, len(texts) // n)])[:n]


def masked_metrics(model: Any, tokenizer: Any, texts: dict[str, list[str]]) -> dict[str, float]:
    """Accuracy and perplexity over masked word pieces, over all sources together and for each."""
    parts = {name: masked_scores(model, encoded(tokenizer, part)) for name, part in texts.items()}
    nats, hits = (np.concatenate([part[i] for part in parts.values()]) for i in (0, 1))
    found = {"masked_accuracy": float(hits.mean()), "masked_perplexity": math.exp(nats.mean())}
    return found | {f"masked_accuracy_{name}": float(part[1].mean()) for name, part in parts.items()}


def counted(
    tokenizer: Any, train_texts: dict[str, list[str]], val_texts: dict[str, list[str]], test: dict[str, list[str]]
) -> dict[str, float]:
    """The same guesses by counting: the most frequent piece, and the most frequent one after the piece on the left."""
    grams = common.NGrams(encoded(tokenizer, [t for part in train_texts.values() for t in part]), len(tokenizer))
    grams.fit_weight(encoded(tokenizer, [t for part in val_texts.values() for t in part[:: max(1, len(part) // 100)]]))
    best_next: dict[int, int] = {}
    for pair in grams.pairs[np.argsort(grams.counts, kind="stable")].tolist():
        best_next[pair // grams.vocabulary] = pair % grams.vocabulary
    top = int(grams.unigram[5:].argmax()) + 5  # special pieces are never asked for
    before, after = [], []
    for part in test.values():
        generator = torch.Generator().manual_seed(7)
        rows = encoded(tokenizer, part)
        for at in range(0, len(rows), 64):
            ids, _ = common.pad(rows[at : at + 64])
            _, chosen = fixed_masks(ids, generator)
            after.append(ids[chosen].numpy())
            before.append(ids.roll(1, 1)[chosen].numpy())
    left, right = np.concatenate(before), np.concatenate(after)
    # The end of a text is never asked for, so counting need not spend probability on it.
    ends = grams.log_probs(left, np.full_like(left, tokenizer.sep_token_id))
    single, pair_logs = (logs - np.log1p(-np.exp(end)) for logs, end in zip(grams.log_probs(left, right), ends, strict=True))
    guesses = np.array([best_next.get(a, top) for a in left.tolist()])
    return {
        "unigram: masked_accuracy": float((right == top).mean()),
        "unigram: masked_perplexity": math.exp(-single.mean()),
        "bigram: masked_accuracy": float((right == guesses).mean()),
        "bigram: masked_perplexity": math.exp(-pair_logs.mean()),
    }


def sentence_metrics(vectors: Callable[[Sequence[str]], Tensor], language: str) -> dict[str, float]:
    """How an embedding of sentences does, untuned, on test splits: graded definitions, and verses of the World English Bible that
    are to be found in another translation ('kjv' or 'rv') among 1,000."""
    pairs = load_wordnet("test", view="pairs")
    verses = load_verses("test", partner=language)
    rows = list(range(0, len(verses), max(1, len(verses) // 1000)))[:1000]
    same = torch.nn.functional.cosine_similarity(vectors(pairs.captions), vectors(pairs.extras["partner"]))
    web, other = vectors([verses.captions[i] for i in rows]), vectors([verses.extras["partner"][i] for i in rows])
    recall = recall_at_k(web, other, k=(1, 10)).at
    return {
        "definition_spearman": float(spearman(same, pairs.factors["similarity"])),
        "verse_r1": recall[1],
        "verse_r10": recall[10],
    }


def bags(train_texts: Sequence[str], language: str) -> dict[str, float]:
    """`sentence_metrics` of a bag of words: TF-IDF fitted on training definitions; of character trigrams across languages."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    kind = {"analyzer": "char_wb", "ngram_range": (3, 3)} if language == "rv" else {}
    weights = TfidfVectorizer(min_df=2, dtype=np.float32, **kind).fit(train_texts)

    def vectors(texts: Sequence[str]) -> Tensor:
        # A text of unknown words only is no direction at all; a trace of everything makes it one.
        return torch.from_numpy(weights.transform(texts).toarray()) + 1e-9

    return {f"TF-IDF: {key}": value for key, value in sentence_metrics(vectors, language).items()}


def _embedded(encoder: TextEncoder, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    return embed(encoder, encode_texts(tokenizer, list(texts), max_length=64)).cpu()


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, BertForMaskedLM

    model: Any = BertForMaskedLM.from_pretrained(folder)
    return model.to(device).eval(), AutoTokenizer.from_pretrained(folder)


def guesses(folder: Path, sentences: Sequence[str], k: int = 5) -> list[str]:
    """The k most probable words for the [MASK] of each sentence, with probabilities, as one line each."""
    model, tokenizer = _load(folder, "cpu")
    lines = []
    for sentence in sentences:
        ids = tokenizer(sentence, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            p = model(ids).logits[0, (ids[0] == 4).nonzero()[0, 0]].softmax(0)
        top = p.topk(k)
        words = ", ".join(
            f"{tokenizer.decode([i])} {v:.2f}" for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        )
        lines.append(f"- {sentence} -> {words}")
    return lines


def _card(stored: dict[str, Any], folder: Path) -> str:
    metrics, english = stored["metrics"], stored["name"] == NAME
    grams = ("unigram: masked_{}", "bigram: masked_{}")
    other = "the King James Version" if english else "the Spanish Bible"
    rows: dict[str, tuple[str, Sequence[str]]] = {
        "masked_accuracy": ("masked word pieces guessed right", [g.format("accuracy") for g in grams]),
        "masked_perplexity": ("perplexity of masked pieces", [g.format("perplexity") for g in grams]),
        **{key: (f"guessed right, {key.split('_')[-1]}", ()) for key in metrics if key.startswith("masked_accuracy_")},
        "definition_spearman": (
            "Spearman, graded pairs of definitions (mean pooling, untuned)",
            ("TF-IDF: definition_spearman", "untrained: definition_spearman"),
        ),
        "verse_r1": (
            f"R@1, verse of the World English Bible to {other}, 1,000 verses",
            ("TF-IDF: verse_r1", "untrained: verse_r1"),
        ),
        "verse_r10": ("R@10 of the same", ("TF-IDF: verse_r10", "untrained: verse_r10")),
    }
    sentences = ENGLISH_GAPS if english else WORLD_GAPS
    shown = "\n".join(guesses(folder, sentences))
    text = CARD_TEXT.replace("__READ__", READ[stored["name"]]).replace("__FAILS__", FAILS[stored["name"]])
    return text.format(**stored, table=common.table(metrics, stored["baselines"], rows), shown=shown)


ENGLISH_GAPS = (
    "And the [MASK] of the Lord came to me.",
    "Poodle: a breed of [MASK] with curly hair.",
    "She was very [MASK] to see him.",
    "The capital of France is [MASK].",
)
WORLD_GAPS = (
    "And the [MASK] of the Lord came to me.",
    "Y la [MASK] de Jehová vino a mí.",
    "Poodle: a breed of [MASK] with curly hair.",
    "Un [MASK] rojo.",
)
READ = {
    NAME: """The train split of the corpora as `load_corpora("train")` gives it: Austen's novels, the World English Bible and the King James Version (books of the
train split), WordNet entries (half of them), docstrings of Python's standard library, English emoji names with keywords. Nothing medical, no
stamp captions, no row of a val or test split of any set: so clinical terms, held-out books and definitions stay unseen for the notebooks that start
here. The specifications also call it `tiny-mlm`.""",
    MULTILINGUAL: """WordNet entries (train half), verses of the World English Bible, the King James Version and the Reina-Valera (Spanish), emoji names with keywords in 26
languages, stamp captions in 58. Verses only from chapters that are in the train split by book and by chapter; no row of a val or test split of
any set. In every other batch a text stands next to its translation ({translation_pairs:,} pairs: verses in English and Spanish, names of emoji, stamp captions),
and words are masked in both, with positions counted from the start of each (translation language modelling: Lample & Conneau 2019). Held-out verses were
seen in neither language. Layers and the {pieces_from_nano_bert:,} word pieces that nano-bert knows too started from nano-bert.""",
}
FAILS = {
    NAME: """It knows words and grammar of old novels, scripture and dictionaries, and hardly a fact. Cosines of its mean-pooled vectors are high between any two
sentences: it is a start for the sentence-embedding methods, not an embedding. Untuned, TF-IDF and even the same network with
random weights (a bag of words, near enough) find more verses again: see the table.""",
    MULTILINGUAL: """Beyond English and Spanish it has read single names and captions only, lower-cased and without accents, so most other languages are little more than
spelling to it. Its mean-pooled vectors, untuned, are a start and not an embedding: TF-IDF of character trigrams, which sees that names are spelt
alike in both languages, puts the Spanish verse first more often, and orders pairs of definitions better. Among the first ten the model is ahead.""",
}
CARD_TEXT = """
# {name}

{what}. {parameters:,} weights.

```python
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("data/models/{name}")
tokenizer = AutoTokenizer.from_pretrained("data/models/{name}")
```

## What it read

__READ__

## How it was trained

`{command}`, seed {seed}: {steps:,} steps of about 4,096 word pieces, {seconds:,.0f} s of wall time on one thread ({precision} steps). 15 % of the pieces
masked (80 / 10 / 10), AdamW with a peak rate of 2e-3, warm-up and cosine, dropout 0.1. The validation loss is in `metrics.json`; the test split was used
for the table below only.

![Loss of {name} over the steps of training](curve.svg)

## What it knows

{table}

Real outputs, most probable words with their probabilities:

{shown}

## Where it fails

__FAILS__

## Not for

Any use on people; claims about BERT at scale. It repeats what its texts say of women, peoples and faith.

## Licence

It learned from texts in the public domain and from texts under {licence}: see the cards of the sets it read. Whether weights carry a licence of
their texts is not settled; we pass these on under the same terms to be safe.
"""
