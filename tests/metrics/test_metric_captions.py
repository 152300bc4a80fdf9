"""Mentions, POPE and minimal pairs: by hand, against scikit-learn, and by loops."""

import random

import numpy as np
import pytest
import torch
from sklearn import metrics as peers

from workbench import metrics
from workbench.metrics.mentions import first_sentences

TABLE = {
    "dog": "dog",
    "puppy": "dog",
    "hot dog": "hot dog",
    "teddy bear": "toy",
    "bear": "bear",
    "mice": "mouse",
    "knife": "knife",
    "bear cub": "cub",
}


def names(caption, **options):
    return [m.name for m in metrics.find_mentions([caption], TABLE, **options)[0]]


# --- mentions ---


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A dog and two puppies.", ["dog", "dog"]),
        ("HOT DOGS, not a dog!", ["hot dog", "dog"]),
        ("A teddy bear beside a bear", ["toy", "bear"]),
        ("Bear cubs and a bear", ["cub", "bear"]),
        ("hot. dog", ["hot dog"]),
        ("Three mice with knives; doghouse, underdog", ["mouse", "knife"]),
        ("", []),
        ("Der Bär, ein dog’s life", []),
    ],
)
def test_mentions_take_the_longest_match(caption, expected):
    """Phrases before words, plurals, any case; parts of other words do not count."""
    assert names(caption) == expected


def test_mentions_know_where_they_are():
    """Start and end cut the words out of the caption, whatever stands before them."""
    caption = "«Zwei» <b>Hot Dogs</b> & a puppy"
    found = metrics.find_mentions([caption], TABLE)[0]
    assert [caption[m.start : m.end] for m in found] == [m.text for m in found] == ["Hot Dogs", "puppy"]


def test_rules_of_mentions():
    """Plurals can be left to the table, words can be hidden by an empty name, and only the first sentences read."""
    assert names("puppies dogs dog", plurals=False) == ["dog"]
    hidden = metrics.find_mentions(["a guard dog and a dog"], {**TABLE, "guard dog": ""})[0]
    assert [(m.name, m.start) for m in hidden] == [("dog", 18)]
    text = "A dog. It is 3.5 m long! A bear?\nA knife"
    assert [names(text, sentences=k) for k in (1, 2, 3, 4)] == [["dog"], ["dog"], ["dog", "bear"], ["dog", "bear", "knife"]]
    assert first_sentences(text, 2) == "A dog. It is 3.5 m long!"
    said = [[m.name for m in mentions] for mentions in metrics.find_mentions(["a puppy", "a bear"], TABLE)]
    assert metrics.chair(said, [["dog"], ["dog"]]).chair_i == 0.5


@pytest.mark.parametrize(
    ("captions", "table", "options", "error", "match"),
    [
        ("a dog", TABLE, {}, TypeError, "captions"),
        ([3], TABLE, {}, TypeError, r"captions\[0\]"),
        (["a"], {}, {}, ValueError, "synonyms is empty"),
        (["a"], {"!": "x"}, {}, ValueError, "without words"),
        (["a"], {"dog": 3}, {}, TypeError, "synonyms"),
        (["a"], ["dog"], {}, TypeError, "synonyms"),
        (["a"], TABLE, {"sentences": 0}, ValueError, "sentences"),
    ],
)
def test_mentions_bad_input(captions, table, options, error, match):
    """A string in place of a list, and tables without words, are refused."""
    with pytest.raises(error, match=match):
        metrics.find_mentions(captions, table, **options)


def test_chair_counts_by_caption_and_by_object():
    """The counts behind the score add up to it, and the worst object comes first."""
    result = metrics.chair([["dog", "dog", "cat"], ["cat", "cup"]], [["dog"], ["cup", "tree"]])
    assert result.per_caption == ((3, 1, 1, 1), (2, 1, 2, 1))
    assert result.by_object == {"cat": (2, 2), "dog": (2, 0), "cup": (1, 0)} and next(iter(result.by_object)) == "cat"


# --- POPE ---


def test_pope_equals_scikit_learn():
    """Accuracy, precision, recall and F1 of parsed answers; the yes-ratio is of the answers."""
    rng = random.Random(0)
    labels = [rng.random() < 0.4 for _ in range(200)]
    said = [label if rng.random() < 0.7 else rng.random() < 0.8 for label in labels]
    result = metrics.pope(["Yes, it is." if answer else "no" for answer in said], labels)
    assert result.accuracy == pytest.approx(peers.accuracy_score(labels, said))
    assert result.precision == pytest.approx(peers.precision_score(labels, said))
    assert result.recall == pytest.approx(peers.recall_score(labels, said))
    assert result.f1 == pytest.approx(peers.f1_score(labels, said))
    assert result.yes_ratio == np.mean(said) != np.mean(labels)
    assert result.counts == tuple(int(c) for c in np.array(peers.confusion_matrix(labels, said)).ravel()[[3, 1, 2, 0]])


def test_unparsed_answers_are_counted_and_ruled():
    """Three rules for 'perhaps': wrong (a missed yes, no false alarm), dropped, or yes as the authors' code has it."""
    answers, labels = ["yes", "perhaps", None, "no", "Yes!"], [True, True, False, False, False]
    wrong, drop, yes = (metrics.pope(answers, labels, unparsed=rule) for rule in ("wrong", "drop", "yes"))
    assert wrong.n_unparsed == drop.n_unparsed == yes.n_unparsed == 2
    assert (wrong.n, wrong.accuracy, wrong.recall, wrong.precision, wrong.yes_ratio) == (5, 2 / 5, 1 / 2, 1 / 2, 2 / 5)
    assert (drop.n, drop.accuracy, drop.recall, drop.yes_ratio) == (3, 2 / 3, 1, 2 / 3)
    assert (yes.n, yes.accuracy, yes.precision, yes.recall, yes.yes_ratio) == (5, 3 / 5, 2 / 4, 1, 4 / 5)
    assert wrong.f1 == pytest.approx(2 / (2 + 1 + 1)) and wrong.right == (True, False, False, True, False)


def test_pope_limits():
    """Always yes on balanced questions: 1/2, recall 1, F1 2/3. Always no: no precision and no division by zero."""
    labels = [True, False] * 5
    always, never = metrics.pope(["yes"] * 10, labels), metrics.pope([False] * 10, labels)
    assert (always.accuracy, always.recall, always.yes_ratio) == (0.5, 1, 1) and always.f1 == pytest.approx(2 / 3)
    assert (never.accuracy, never.precision, never.recall, never.f1, never.yes_ratio) == (0.5, None, 0, 0, 0)
    assert metrics.pope(["no"], [False]).recall is None


@pytest.mark.parametrize(
    ("answer", "first", "authors"),
    [
        ("Yes.", True, True),
        ("  'no', it is not", False, False),
        ("There is no dog.", None, False),
        ("Yes. There is no cat.", True, True),
        ("Not sure", None, True),
        ("nothing", None, True),
        ("", None, True),
        ("Noah is here", None, True),
    ],
)
def test_two_ways_to_read_an_answer(answer, first, authors):
    """The first word, or the authors' rule that all without a no is a yes."""
    assert metrics.parse_yes_no(answer) is first and metrics.parse_yes_no(answer, rule="authors") is authors


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((["yes"], []), {}, ValueError, "answers and labels"),
        (("yes", [True]), {}, TypeError, "answers"),
        ((["yes"], [1]), {}, TypeError, r"labels\[0\]"),
        ((["?"], [True]), {"unparsed": "drop"}, ValueError, "nothing to count"),
        (([3], [True]), {}, TypeError, "answers"),
        ((["yes"], [True]), {"unparsed": "no"}, ValueError, "unparsed"),
        ((["yes"], [True]), {"rule": "last"}, ValueError, "rule"),
    ],
)
def test_pope_bad_input(arguments, options, error, match):
    """Uneven lists, labels that are not booleans and unknown rules are refused by name."""
    with pytest.raises(error, match=match):
        metrics.pope(*arguments, **options)


SHOWN = [["cup", "spoon"], ["cup", "spoon", "dog"], ["dog", "tree"], ["cup", "spoon"], ["tree", "car", "tree"], []]


@pytest.mark.parametrize("strategy", ["random", "popular", "adversarial"])
def test_probes_are_balanced_and_true(strategy):
    """As many questions with yes as with no for each picture, each with the right answer, no object asked twice."""
    probes = metrics.pope_probes(SHOWN, strategy=strategy, per_image=3)
    assert sum(p.label for p in probes) * 2 == len(probes) == 2 * (2 + 2 + 2 + 2 + 2)
    assert all((p.name in SHOWN[p.image]) == p.label for p in probes) and all(p.image != 5 for p in probes)
    assert len({(p.image, p.name) for p in probes}) == len(probes)


def test_popular_and_adversarial_probes():
    """Popular asks the most frequent absent objects; adversarial those most often seen with what is there."""
    popular = [p.name for p in metrics.pope_probes(SHOWN, strategy="popular", per_image=1) if not p.label]
    assert popular == ["dog", "tree", "cup", "dog", "cup"]  # cup and spoon 3, dog and tree 2, car 1; ties by name
    rich = [*SHOWN[:5], ["spoon"]]
    adversarial = {p.image: p.name for p in metrics.pope_probes(rich, strategy="adversarial", per_image=1) if not p.label}
    assert adversarial[5] == "cup" and adversarial[0] == "dog" and adversarial[4] == "dog"
    draws = {tuple(p.name for p in metrics.pope_probes(SHOWN, seed=seed)) for seed in range(5)}
    assert len(draws) > 1 and metrics.pope_probes(SHOWN, seed=3) == metrics.pope_probes(SHOWN, seed=3)
    with pytest.raises(ValueError, match="annotation gives no question"):
        metrics.pope_probes([["dog"], ["dog"]])
    with pytest.raises(TypeError, match=r"annotation\[0\]"):
        metrics.pope_probes(["dog"])
    with pytest.raises(ValueError, match="strategy"):
        metrics.pope_probes(SHOWN, strategy="hard")


# --- minimal pairs ---


def test_minimal_pairs_equal_loops_and_chance():
    """Text, image and group accuracy pair by pair; scores without meaning reach 1/4, 1/4 and 1/6."""
    scores = torch.randn(8000, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    text = image = group = single = 0
    for (a, b), (c, d) in scores.tolist():  # a: own caption and picture, b: caption 0 with picture 1, ...
        text += a > c and d > b
        image += a > b and d > c
        group += a > c and d > b and a > b and d > c
        single += (a > c) + (d > b)
    found = metrics.minimal_pairs(scores)
    assert (found.text, found.image, found.group, found.single) == (text / 8000, image / 8000, group / 8000, single / 16000)
    assert (found.text, found.image, found.group) == pytest.approx((1 / 4, 1 / 4, 1 / 6), abs=0.02)


def test_minimal_pairs_limits():
    """Perfect, blind to the picture (captions differ, pictures do not), and all tied."""
    assert metrics.minimal_pairs(torch.eye(2).repeat(3, 1, 1)).group == 1
    blind = metrics.minimal_pairs(torch.tensor([[[0.9, 0.9], [0.1, 0.1]]]).repeat(4, 1, 1))
    assert (blind.text, blind.image, blind.single) == (0, 0, 0.5)
    assert metrics.minimal_pairs(torch.zeros(4, 2, 2)).single == 0
    for bad, error in (
        (torch.zeros(4, 2), ValueError),
        (torch.zeros(4, 3, 2), ValueError),
        (torch.zeros(2, 2, 2).long(), TypeError),
    ):
        with pytest.raises(error, match="scores"):
            metrics.minimal_pairs(bad)
    with pytest.raises(ValueError, match="scores has 4 entries"):
        metrics.minimal_pairs(torch.full((1, 2, 2), float("nan")))


def test_caption_choice_micro_and_macro():
    """A frequent easy relation lifts the micro average, not the macro one; rare categories are named and left out."""
    scores = torch.tensor([[2.0, 1.0]] * 8 + [[1.0, 2.0]] * 2 + [[2.0, 1.0]])
    categories = torch.tensor([4] * 8 + [7] * 2 + [9])
    found = metrics.caption_choice(scores, categories=categories, min_cases=2)
    assert (found.accuracy, found.macro, found.per_category, found.skipped) == (9 / 11, 0.5, {4: 1.0, 7: 0.0}, (9,))
    assert metrics.caption_choice(scores, categories=categories).macro == pytest.approx(2 / 3)


def test_caption_choice_against_a_blind_model():
    """Five options give chance 1/5, fewer where options are missing; half of what the blind model leaves is 0.5."""
    scores = torch.zeros(4, 5)
    scores[:, 0] = torch.tensor([1.0, 1.0, 1.0, -1.0])
    blind = torch.zeros(4, 5)
    blind[:2, 0] = 1.0
    found = metrics.caption_choice(scores, blind=blind)
    assert (found.accuracy, found.blind, found.above_blind, found.chance) == (0.75, 0.5, 0.5, pytest.approx(0.2))
    assert metrics.caption_choice(scores, blind=blind, ceiling=0.75).above_blind == 1
    short = scores.clone()
    short[:, 2:] = -torch.inf
    assert metrics.caption_choice(short).chance == 0.5
    assert metrics.caption_choice(torch.zeros(3, 2)).accuracy == 0, "ties are wrong"


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"scores": torch.zeros(3, 1)}, ValueError, "scores"),
        ({"scores": torch.full((3, 2), float("inf"))}, ValueError, "scores"),
        ({"blind": torch.zeros(3, 3)}, ValueError, "blind"),
        ({"ceiling": 0}, ValueError, "ceiling"),
        ({"ceiling": "1"}, TypeError, "ceiling"),
        ({"categories": torch.zeros(3)}, TypeError, "categories"),
        ({"categories": torch.zeros(3, dtype=torch.int64), "min_cases": 4}, ValueError, "at least 4 cases"),
    ],
)
def test_caption_choice_bad_input(options, error, match):
    """Shapes, numbers and categories that make no sense are refused by name."""
    with pytest.raises(error, match=match):
        metrics.caption_choice(**{"scores": torch.zeros(3, 2), **options})
