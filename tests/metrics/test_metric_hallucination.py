"""CHAIR by hand, under both counting rules."""

import random

import pytest

from workbench.metrics import chair

SAID = [["dog", "dog", "cat"], ["sofa"], [], ["cup", "spoon", "spoon", "spoon"]]
SHOWN = [{"dog"}, {"sofa", "lamp"}, {"tree"}, ["cup", "cup"]]


def test_chair_by_hand():
    """8 mentions, 4 of them false (cat, spoon x 3); 2 of 4 captions; 3 of 5 objects named."""
    result = chair(SAID, SHOWN)
    assert (result.n_mentions, result.n_hallucinated, result.n_captions) == (8, 4, 4)
    assert (result.chair_i, result.chair_s, result.recall) == (4 / 8, 2 / 4, 3 / 5)
    assert result.hallucinated == (("cat",), (), (), ("spoon",))


def test_counting_objects_once():
    """5 objects, 2 of them false; the shares of captions and of named objects do not depend on the rule."""
    result = chair(SAID, SHOWN, count="object")
    assert (result.chair_i, result.chair_s, result.recall) == (2 / 5, 2 / 4, 3 / 5)
    assert result.hallucinated == chair(SAID, SHOWN).hallucinated and result.count == "object"


@pytest.mark.parametrize("count", ["mention", "object"])
def test_chair_equals_a_slow_loop(count):
    """Random captions against loops that count one name at a time."""
    rng = random.Random(0)
    names = "abcdefgh"
    for _ in range(20):
        said = [[rng.choice(names) for _ in range(rng.randrange(6))] for _ in range(12)]
        shown = [set(rng.sample(names, rng.randrange(1, 5))) for _ in range(12)]
        total = false = bad = found = 0
        for caption, picture in zip(said, shown, strict=True):
            seen = []
            for name in caption:
                if count == "object" and name in seen:
                    continue
                seen.append(name)
                total += 1
                false += name not in picture
            bad += any(name not in picture for name in caption)
            found += sum(name in caption for name in picture)
        result = chair(said, shown, count=count)
        assert (result.chair_i, result.chair_s) == (false / total, bad / 12)
        assert result.recall == found / sum(map(len, shown))


def test_limits():
    """Faithful captions score 0, captions of nothing but inventions 1; saying nothing has no CHAIR_i, and no recall."""
    assert chair([["a"]], [["a"]]).chair_i == chair([["a"]], [["a"]]).chair_s == 0
    assert chair([["a"]], [["b"]]).chair_i == chair([["a"]], [["b"]]).chair_s == 1
    silent = chair([[], []], [["a"], ["b"]])
    assert silent.chair_i is None and silent.chair_s == 0 and silent.recall == 0
    assert chair([["a"]], [[]]).recall is None


@pytest.mark.parametrize(
    ("mentioned", "present", "options", "error", "match"),
    [
        (["a dog"], [["dog"]], {}, TypeError, r"mentioned\[0\]"),
        ([["dog"]], ["dog"], {}, TypeError, r"present\[0\]"),
        ("dog", [["dog"]], {}, TypeError, "mentioned"),
        ({"dog"}, [["dog"]], {}, TypeError, "mentioned"),
        ([["dog", 3]], [["dog"]], {}, TypeError, r"mentioned\[0\]"),
        ([["dog", None]], [["dog"]], {}, TypeError, r"mentioned\[0\]"),
        ([None], [["dog"]], {}, TypeError, r"mentioned\[0\]"),
        ([["dog"]], [["dog"], ["cat"]], {}, ValueError, "mentioned and present"),
        ([], [], {}, ValueError, "mentioned is empty"),
        ([["dog"]], [["dog"]], {"count": "word"}, ValueError, "count"),
    ],
)
def test_bad_input(mentioned, present, options, error, match):
    """A caption in place of its objects would be read letter by letter: it is refused, as is all that is no list of names."""
    with pytest.raises(error, match=match):
        chair(mentioned, present, **options)
