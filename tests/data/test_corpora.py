"""Corpora: what the mix holds, splits that agree with the other sets, tokenizers that keep text."""

import pytest

from workbench.data.corpora import DEFAULT_SOURCES, SOURCES, SPECIAL_TOKENS, TOKENIZERS, load_corpora, load_corpus, load_tokenizer
from workbench.data.files import verify
from workbench.data.texts import columns_of
from workbench.data.verses import load_verses
from workbench.data.wordnet import load_wordnet
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")


def test_counts():
    """10,003 paragraphs of six novels; 14 million characters in the default train split; no empty document."""
    verify("corpora")
    assert len(load_corpora("all", sources="austen")) == 10_003
    assert len(set(columns_of("corpora", "austen.parquet")["novel"].tolist())) == 6
    ds = load_corpus("train")
    assert 13e6 < sum(map(len, ds.captions)) < 15e6 and all(text.strip() for text in ds.captions)
    assert tuple(ds.label_names) == DEFAULT_SOURCES and ds.labels.bincount().min() > 1000


def test_novels_are_running_prose():
    """Paragraphs are joined lines without headings; chapters are whole in one split; the first sentence of Emma is there."""
    c = columns_of("corpora", "austen.parquet")
    split = {}
    for novel, chapter, text, s in zip(c["novel"], c["chapter"].tolist(), c["text"], c["split"], strict=True):
        assert split.setdefault((novel, chapter), s) == s and "\n" not in text
        assert not text.lower().startswith(("chapter ", "volume "))
    assert len(split) == 269 and set(split.values()) == set(SPLITS)
    assert any(t.startswith("Emma Woodhouse, handsome, clever, and rich") for t in c["text"])
    assert any(t.startswith("It is a truth universally acknowledged") for t in c["text"])


def test_a_model_trained_on_train_has_not_met_other_splits():
    """Test verses and definitions of their own sets are in no train document."""
    train = set(load_corpora("train").captions)
    assert not train & set(load_verses("test").captions) and not train & set(load_verses("test").extras["partner"])
    assert set(load_verses("train").captions) <= train
    definitions = {
        text.split(": ", 1)[1].split(". ")[0].rstrip(".") for text in load_corpora("train", sources="wordnet").captions
    }
    assert not definitions & {d for d in load_wordnet("test").captions if len(d.split()) > 3 and ". " not in d}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        for source in SOURCES:
            if source != "austen":  # a short paragraph of dialogue may come twice
                assert not set(load_corpora(a, sources=source).captions) & set(load_corpora(b, sources=source).captions), source


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers(name):
    """Sizes are as named; byte-level BPE gives any text back, WordPiece gives lower-case English back and hardly meets an unknown."""
    tokenizer = load_tokenizer(name)
    assert tokenizer.get_vocab_size() == {"4k": 4096, "8k": 8192}[name.split("-")[1]]
    texts = load_corpora("test", sources=("austen", "wordnet")).captions[::700]
    for text in texts:
        code = tokenizer.encode(text, add_special_tokens=False)
        assert 0 < len(code.ids) < len(text.encode())
        if name.startswith("bpe"):
            assert tokenizer.decode(code.ids) == text
    if name.startswith("bpe"):
        assert tokenizer.decode(tokenizer.encode("Ünïcödé 漢字 \U0001f600").ids) == "Ünïcödé 漢字 \U0001f600"
    else:
        assert [tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
        assert tokenizer.encode("the house").tokens == ["[CLS]", "the", "house", "[SEP]"]
        assert tokenizer.decode(tokenizer.encode("the old house by the river").ids) == "the old house by the river"
        unknown = [tokenizer.encode(t).ids.count(1) for t in texts]
        assert sum(unknown) < 0.001 * sum(len(tokenizer.encode(t).ids) for t in texts)


def test_bad_options():
    """Unknown sources and tokenizers are refused by name, as are none and repeats."""
    with pytest.raises(UnknownNameError, match="gutenberg"):
        load_corpora(sources="gutenberg")
    with pytest.raises(ValueError, match="different sources"):
        load_corpora(sources=("web", "web"))
    with pytest.raises(UnknownNameError, match="bpe-16k"):
        load_tokenizer("bpe-16k")
