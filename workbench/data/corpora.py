"""Text for the small language models: novels, verses, definitions, docstrings; and the tokenizers that go with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from workbench.data.dataset import Dataset
from workbench.data.files import read_bytes, require_split
from workbench.data.texts import columns_of, split_rows
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SOURCES = ("austen", "web", "kjv", "rv", "wordnet", "pycode", "emoji", "icd", "hpo")
DEFAULT_SOURCES = ("austen", "web", "kjv", "wordnet", "pycode", "emoji")  # English, nothing medical
TOKENIZERS = ("bpe-4k", "bpe-8k", "wordpiece-8k")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def load_corpora(
    split: str = "train", *, sources: str | Sequence[str] = DEFAULT_SOURCES, device: str | torch.device = "cpu"
) -> Dataset:
    """Running text from the stored sets, one short document a row, with the splits of those sets.

    A language model trained on 'train' has seen no novel chapter, no book of the Bible, no definition, module, emoji or medical subtree of
    'val' and 'test', so every task on those splits of the other sets stays clean.

    Args:
        split: 'train', 'val', 'test' or 'all'.
        sources: which texts, in this order:

            - 'austen': paragraphs of six novels; 'web', 'kjv', 'rv': verses (modern, archaic English; Spanish), by book;
            - 'wordnet': 'word: definition. Example.'; 'pycode': docstrings; 'emoji': 'name: keywords' in English;
            - 'icd': titles with inclusion terms; 'hpo': 'name: definition' (medical; not in the default, and not in the tokenizers).
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        captions: the texts; labels: their source, `label_names` the sources as asked for. About 10 million characters in the
        default train split. The first call takes 2 s and keeps 150 MB.

    Raises:
        UnknownNameError: split or a source.
        ValueError: no source, or one twice.
        DataError: a file of a set is missing or corrupt.

    Example:
        >>> ds = load_corpora("val", sources="austen")
        >>> len(ds.captions[0]) > 100, ds.label_names
        (True, ('austen',))
    """
    require_split(split, "corpora split")
    wanted = (sources,) if isinstance(sources, str) else tuple(sources)
    for source in wanted:
        if source not in SOURCES:
            raise UnknownNameError("text source", source, SOURCES)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"sources must name one or several different sources, got {sources!r}")
    place = resolve_device(device)
    parts = [corpus_texts(source, split) for source in wanted]
    labels = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(part) for part in parts]))
    return Dataset("corpora", split, None, labels, wanted, [text for part in parts for text in part]).to(place)


load_corpus = load_corpora


def corpus_texts(source: str, split: str) -> list[str]:
    """The documents of one source and split, in stored order."""
    if source == "austen":
        c = columns_of("corpora", "austen.parquet")
        return c["text"][split_rows(c, split, "corpora")].tolist()
    if source in ("web", "kjv", "rv"):
        c = columns_of("verses", "verses.parquet")
        return c[source][split_rows(c, split, "corpora")].tolist()
    if source == "wordnet":
        c = columns_of("wordnet", "synsets.parquet")
        rows = split_rows(c, split, "corpora")
        cells = zip(c["words"][rows].tolist(), c["definition"][rows].tolist(), c["examples"][rows].tolist(), strict=True)
        return [" ".join([f"{words[0]}: {text}.", *(_sentence(e) for e in examples)]) for words, text, examples in cells]
    if source == "pycode":
        c = columns_of("pycode", "functions.parquet")
        return list(dict.fromkeys(c["docstring"][split_rows(c, split, "corpora")].tolist()))
    if source == "emoji":
        c = columns_of("emoji", "items.parquet")
        concepts = [i for i in split_rows(c, split, "corpora").tolist() if c["tone"][i] == "none"]
        return [f"{c['name'][i]}: {', '.join(c['keywords'][i])}." for i in concepts]
    from workbench.data.clinical import load_clinical

    ds = load_clinical(split, source=source, view="concepts")
    more = ds.extras["synonyms"] if source == "icd" else [[d] if d else [] for d in ds.extras["definition"]]
    return [": ".join([title, "; ".join(m)]) if m else title for title, m in zip(ds.captions, more, strict=True)]


def load_tokenizer(name: str = "wordpiece-8k") -> Tokenizer:
    """A stored tokenizer: 'bpe-4k' and 'bpe-8k' (byte level, for generation), 'wordpiece-8k' (lower case, BERT's special tokens).

    Raises:
        UnknownNameError: name.
        DataError: the file is missing or corrupt.

    Example:
        >>> load_tokenizer("bpe-4k").get_vocab_size()
        4096
    """
    from tokenizers import Tokenizer

    if name not in TOKENIZERS:
        raise UnknownNameError("tokenizer", name, TOKENIZERS)
    return Tokenizer.from_str(read_bytes("corpora", f"{name}.json").decode())


def _sentence(text: str) -> str:
    """An example as a sentence: a capital first and a full stop last."""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
