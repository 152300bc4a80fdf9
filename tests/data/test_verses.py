"""Verses: alignment of three translations, clean text, splits by book and by chapter without repeats."""

import re

import pytest

from workbench.data.files import verify
from workbench.data.near_duplicates import content_words
from workbench.data.verses import BOOKS, KINDS, TRANSLATIONS, load_verses
from workbench.errors import UnknownNameError

SPLITS = ("train", "val", "test")


def test_counts_and_known_verses():
    """31,068 verses of 66 books; known verses stand beside each other in all three translations."""
    verify("verses")
    ds = load_verses("all", partner=("kjv", "rv"))
    assert len(ds) == 31_068 and len(BOOKS) == 66 and ds.factors["book"].unique().numel() == 66
    assert ds.factors["chapter"].unique().numel() == 1189
    row = ds.extras["reference"].index("John 11:35")
    assert (ds.captions[row], ds.extras["partner"][row], ds.extras["partner_rv"][row]) == (
        "Jesus wept.",
        "Jesus wept.",
        "Y lloró Jesús.",
    )
    last = ds.extras["reference"].index("Revelation of John 22:21")
    assert ds.captions[last] == "The grace of the Lord Jesus Christ be with all the saints. Amen."


def test_texts_are_clean_and_of_like_length():
    """No markup, no double spaces, no words glued by a removed footnote; no verse far longer than its partners."""
    ds = load_verses("all", partner=("kjv", "rv"))
    for text in (*ds.captions, *ds.extras["partner_kjv"]):
        assert text == text.strip() and not re.search(r"[<>¶]|  |[a-z][A-Z]", text), text
    for texts in zip(ds.captions, ds.extras["partner_kjv"], ds.extras["partner_rv"], strict=True):
        lengths = sorted(map(len, texts))
        assert lengths[0] > 5 and lengths[2] <= 2.6 * lengths[1] + 20


@pytest.mark.parametrize(("by", "sizes"), [("book", [17175, 2258, 11409]), ("chapter", [21314, 3068, 6187])])
def test_no_book_chapter_or_repeated_verse_crosses_splits(by, sizes):
    """Groups are whole, and equal content words of any translation are in one split; there is something to leak."""
    parts = {s: load_verses(s, split_by=by, translation="kjv", partner=("web", "rv")) for s in SPLITS}
    assert [len(p) for p in parts.values()] == sizes
    groups, repeats = {}, 0
    for split, ds in parts.items():
        for group in ds.factors[by].tolist():
            assert groups.setdefault(group, split) == split
    for column in ("captions", "partner_web", "partner_rv"):
        seen = {}
        for split, ds in parts.items():
            for text in ds.captions if column == "captions" else ds.extras[column]:
                words = content_words(text)
                repeats += words in seen
                assert seen.setdefault(words, split) == split, text
    assert repeats > 100


def test_no_near_repeat_of_a_sampled_test_verse():
    """A search over all train verses finds none that shares four fifths of its words with a sampled test verse."""
    train = [content_words(t) for t in load_verses("train").captions]
    for text in load_verses("test").captions[::250]:
        words = content_words(text)
        assert max(len(words & w) / len(words | w) for w in train) < 0.8


def test_partners_and_labels():
    """Every translation can be text or partner; chapter splits have all six kinds in each split."""
    ab, ba = load_verses("val", translation="kjv", partner="rv"), load_verses("val", translation="rv", partner="kjv")
    assert ab.captions == ba.extras["partner"] and ab.extras["partner"] == ba.captions and len(TRANSLATIONS) == 3
    for split in SPLITS:
        ds = load_verses(split, split_by="chapter")
        assert (ds.labels.bincount(minlength=6) > 300).all() and list(ds.label_names) == list(KINDS)
    assert ds.label_names[ds.labels[0]] == "law"


def test_bad_options():
    """Unknown names are refused, and a verse is not paired with itself."""
    for options in ({"split": "dev"}, {"translation": "vulgate"}, {"partner": "esv"}, {"split_by": "verse"}):
        with pytest.raises(UnknownNameError, match=str(next(iter(options.values())))):
            load_verses(**options)
    with pytest.raises(ValueError, match="different translations"):
        load_verses(translation="kjv")
