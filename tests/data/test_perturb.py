"""Shuffled sentences and pictures: the same parts, in other places, as the paper cuts them."""

import collections
import itertools

import pytest
import torch

from workbench.data.perturb import LAYOUTS, WORD_ORDERS, shuffle_patches, shuffle_words
from workbench.errors import UnknownNameError

NOUNS, ADJECTIVES = ("star", "ring", "moon"), ("red", "blue", "green")
TEXT = "a red star left of the blue ring above a green moon."
CLASSES = {"nouns": NOUNS, "adjectives": ADJECTIVES}


@pytest.mark.parametrize("order", WORD_ORDERS)
def test_words_stay_the_same(order):
    """No word is lost or made, and over a hundred draws the order does change."""
    drawn = shuffle_words([TEXT] * 100, order, **CLASSES)
    assert all(sorted(text.split()) == sorted(TEXT.split()) for text in drawn)
    assert len(set(drawn)) > 3


@pytest.mark.parametrize("order", WORD_ORDERS)
def test_a_seed_gives_its_text(order):
    """Same seed, same texts; another seed, others."""
    first = shuffle_words([TEXT] * 20, order, seed=3, **CLASSES)
    assert first == shuffle_words([TEXT] * 20, order, seed=3, **CLASSES)
    assert first != shuffle_words([TEXT] * 20, order, seed=4, **CLASSES)


def kind(word):
    word = word.strip(".")
    return "noun" if word in NOUNS else "adjective" if word in ADJECTIVES else "other"


def test_each_kind_keeps_its_places():
    """Nouns move among nouns and adjectives among adjectives; or only the other words move."""
    pattern = [kind(w) for w in TEXT.split()]
    assert collections.Counter(pattern) == {"noun": 3, "adjective": 3, "other": 6}
    for text in shuffle_words([TEXT] * 50, "nouns and adjectives", **CLASSES):
        assert [kind(w) for w in text.split()] == pattern
        assert [w for w in text.split() if kind(w) == "other"] == [w for w in TEXT.split() if kind(w) == "other"]
    for text in shuffle_words([TEXT] * 50, "other words", **CLASSES):
        assert [w if kind(w) != "other" else "" for w in text.split()] == [w if kind(w) != "other" else "" for w in TEXT.split()]


def test_all_orders_are_equally_likely():
    """Each of the 6 orders of three words comes with frequency 1/6 (4 standard errors)."""
    drawn = collections.Counter(shuffle_words(["x y z"] * 6000, "all words"))
    assert set(drawn) == {" ".join(p) for p in itertools.permutations("xyz")}
    assert all(abs(count - 1000) < 4 * (6000 * 5 / 36) ** 0.5 for count in drawn.values())


def test_trigrams():
    """Inside trigrams a word stays in its group of three; the order of trigrams keeps each group as it is."""
    words = list("abcdefgh")
    groups = [words[0:3], words[3:6], words[6:8]]
    for text in shuffle_words([" ".join(words)] * 40, "within trigrams"):
        new = text.split()
        assert [sorted(new[i : i + 3]) for i in (0, 3, 6)] == groups
    wanted = {" ".join(itertools.chain(*p)) for p in itertools.permutations(groups)}
    assert set(shuffle_words([" ".join(words)] * 200, "trigrams")) == wanted


def test_bad_words():
    """Errors name what is wrong."""
    with pytest.raises(UnknownNameError, match="word order"):
        shuffle_words([TEXT], "words")
    with pytest.raises(ValueError, match="nouns, adjectives"):
        shuffle_words([TEXT], "other words")
    with pytest.raises(TypeError, match="single string"):
        shuffle_words(TEXT, "all words")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pieces_move_whole(layout):
    """Each piece of the result is a piece of the picture, every piece once; pictures get orders of their own."""
    down, across = LAYOUTS[layout]
    h, w = 12 // down, 12 // across
    image = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    moved = shuffle_patches(image.expand(8, 2, 12, 12), layout)

    def pieces(picture):
        return [picture[:, i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(down) for j in range(across)]

    orders = []
    for one in moved:
        found = [[i for i, p in enumerate(pieces(image)) if torch.equal(p, q)] for q in pieces(one)]
        orders.append(tuple(itertools.chain(*found)))
        assert sorted(orders[-1]) == list(range(down * across))
    assert len(set(orders)) > 2


def test_rest_of_a_side_stays():
    """32 pixels are no multiple of 3: the last two rows and columns stay where they are."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    moved = shuffle_patches(images, "patches", seed=2)
    assert torch.equal(moved[:, :, 30:], images[:, :, 30:]) and torch.equal(moved[..., 30:], images[..., 30:])
    assert not torch.equal(moved, images) and torch.equal(moved.flatten().sort().values, images.flatten().sort().values)


def test_bad_pictures():
    """Errors name what is wrong."""
    with pytest.raises(UnknownNameError, match="layout"):
        shuffle_patches(torch.rand(1, 3, 8, 8), "tiles")
    with pytest.raises(ValueError, match="h >= 4"):
        shuffle_patches(torch.rand(1, 3, 2, 8), "rows")
