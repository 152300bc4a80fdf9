"""WordNet: counts, splits by meaning, grades from the graph, and human sets that are only read."""

import sys

import pytest
import torch

from workbench.data.near_duplicates import content_words, near_duplicates, without_overlap
from workbench.data.similarity import load_similarity
from workbench.data.wordnet import load_wordnet, word_split
from workbench.data.wordnet_graph import ancestors, depth, wu_palmer
from workbench.errors import DataError, UnknownNameError

SPLITS = ("train", "val", "test")


def test_counts_and_known_entries():
    """117,659 meanings and 206,978 entries in 45 files; the first noun is 'entity'; 'dog' is an animal."""
    ds = load_wordnet("all")
    assert len(ds) == 117_659 and len(ds.label_names) == 45
    assert sum(map(len, ds.extras["words"])) == 206_978
    assert ds.extras["words"][0] == ["entity"] and ds.extras["id"][0] == "n00001740"
    row = next(i for i, words in enumerate(ds.extras["words"]) if words[:2] == ["dog", "domestic dog"])
    assert ds.label_names[ds.labels[row]] == "noun.animal" and ds.captions[row].startswith("a member of the genus Canis")
    assert ds.extras["examples"][row] == ["the dog barked all night"] and ds.factors["count"][row] == 42
    assert all(ds.captions)


def test_splits_keep_families_and_near_identical_definitions_together():
    """Splits add up to the whole; no family and no pair of definitions with one set of content words crosses them."""
    seen, family = {}, {}
    sizes = []
    for split in SPLITS:
        ds = load_wordnet(split)
        sizes.append(len(ds))
        for text, one in zip(ds.captions, ds.factors["family"].tolist(), strict=True):
            assert seen.setdefault(content_words(text), split) == split, text
            assert family.setdefault(one, split) == split
    assert sizes == [58_835, 11_763, 47_061] and len(seen) < sum(sizes)  # there are repeats to leak


def test_no_near_duplicate_crosses_splits():
    """A slow search over all pairs of a sample finds no definition in another split that shares four fifths of its words."""
    train = [content_words(t) for t in load_wordnet("train", part="noun").captions]
    test = [content_words(t) for t in load_wordnet("test", part="noun").captions[:4000:100]]
    near = [max(len(a & b) / len(a | b) for b in train) for a in test]
    assert max(near) < 0.8 and max(near) > 0.4


def test_near_duplicates_equal_a_search_over_all_pairs():
    """Prefix filtering loses no pair: linked components equal those of the brute-force search."""
    from workbench.data.build import connected

    texts = load_wordnet("val", part="noun").captions[:700]
    texts = texts + [t + " indeed so" for t in texts[::5]] + texts[:20]
    sets = [content_words(t) for t in texts]
    slow = [
        (i, j)
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8
    ]
    fast = near_duplicates(texts, 0.8)
    assert connected(len(texts), fast) == connected(len(texts), slow) and len(slow) > 50
    assert set(fast) <= set(slow)


def test_repeats_give_way_to_the_later_split():
    """Of equal and of nearly equal texts only those of the latest split stay, whichever comes first and through whichever text."""
    same = ["one red house", "the one red house", "one of red house", "a boat"]
    split = ["val", "train", "test", "train"]
    assert without_overlap(split, enumerate(same)) == ["overlap", "overlap", "test", "train"]
    near = [(0, "alpha beta gamma delta"), (1, "x"), (1, "alpha beta gamma delta epsilon"), (2, "alpha beta")]
    assert without_overlap(["train", "test", "train"], near) == ["overlap", "test", "train"]


def test_wu_palmer_on_a_small_graph():
    """Hand-made tree: 0 is the root, 1 and 2 below it, 3 and 4 below 1; the grade of 3 and 4 is 2*2/(1+1+2*2)."""
    parents = {1: [0], 2: [0], 3: [1], 4: [1], 5: [2, 3]}
    up = lambda at: parents.get(at, ())  # noqa: E731
    assert wu_palmer(3, 4, up) == pytest.approx(2 / 3) and wu_palmer(3, 3, up) == 1.0
    assert wu_palmer(3, 2, up) == pytest.approx(2 / 5) and wu_palmer(3, 9, up) == 0.0
    assert depth(5, up) == 3 and ancestors(5, up) == {5: 0, 2: 1, 3: 1, 0: 2, 1: 2}


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_are_flat_held_out_and_graded_by_the_graph(split):
    """Ten equal bins from 0.10 to 0.95; both definitions lie in the split; each is used once; grades follow from the stored graph."""
    ds, mine = load_wordnet(split, view="pairs"), set(load_wordnet(split).factors["synset"].tolist())
    s = ds.factors["similarity"]
    bins = ((s - 0.1) / 0.085).long().clamp(max=9).bincount(minlength=10)
    assert (bins - len(ds) // 10).abs().max() <= 1 and len(ds) == {"train": 4000, "val": 500, "test": 2000}[split]
    ends = ds.factors["synset"].tolist() + ds.factors["synset_partner"].tolist()
    assert len(set(ends)) == len(ends) and set(ends) <= mine
    for i in range(0, len(ds), 40):
        grade = wu_palmer(int(ds.factors["synset"][i]), int(ds.factors["synset_partner"][i]))
        assert grade == pytest.approx(float(s[i]), abs=1e-6)


def test_the_graph_has_one_root_of_nouns():
    """Every noun climbs to 'entity', and stored depths are those of the graph."""
    nouns = load_wordnet("val", part="noun")
    for number, deep in list(zip(nouns.factors["synset"].tolist(), nouns.factors["depth"].tolist(), strict=True))[::97]:
        assert 0 in ancestors(number) and depth(number) == deep


def test_relations_are_split_by_word():
    """A word of a test relation is in no train relation; kinds and directions are right for known words."""
    words = {}
    for split in SPLITS:
        ds = load_wordnet(split, view="relations")
        mine = {w.lower() for w in ds.captions} | {w.lower() for w in ds.extras["partner"]}
        assert all(word_split(w) == split for w in mine) and not mine & set(words)
        words |= dict.fromkeys(mine, split)
    ds = load_wordnet("all", view="relations")
    found = {(a, ds.label_names[k], b) for a, k, b in zip(ds.captions, ds.labels.tolist(), ds.extras["partner"], strict=True)}
    assert ("wheel", "part of", "wheeled vehicle") in found and ("hot", "antonym", "cold") in found
    assert ("dog", "hypernym", "canine") in found and ("dog", "member of", "Canis") in found


def test_human_scores_are_read_from_gensim_only(monkeypatch, tmp_path):
    """Without gensim the message says what to install; a file of its format is read; a broken line is named."""
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises((DataError, ValueError), match="gensim"):
        load_similarity()
    (tmp_path / "simlex999.txt").write_text("# words\nold\tnew\t1.58\nsmart\tintelligent\t9.2\n")
    ds = load_similarity("simlex999", folder=tmp_path)
    assert ds.captions == ["old", "smart"] and ds.extras["partner"] == ["new", "intelligent"]
    torch.testing.assert_close(ds.factors["similarity"], torch.tensor([1.58, 9.2]))
    (tmp_path / "simlex999.txt").write_text("old new 1.58\n")
    with pytest.raises(DataError, match="line 1"):
        load_similarity("simlex999", folder=tmp_path)


def test_unknown_names():
    """Splits, views and parts of speech that do not exist are refused by name."""
    for options in ({"split": "dev"}, {"view": "words"}, {"part": "article"}):
        with pytest.raises(UnknownNameError, match=str(next(iter(options.values())))):
            load_wordnet(**options)
