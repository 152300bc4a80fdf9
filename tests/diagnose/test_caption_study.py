"""Captions against the truth: what is put in is found, counted as the paper counts, marked, compared, and shown as text."""

import json
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import workbench.diagnose
from workbench.diagnose.caption_inputs import read_captions
from workbench.diagnose.caption_measure import Rules, measure_captions
from workbench.diagnose.records import lines, read_records
from workbench.diagnose.report import plain
from workbench.diagnose.vocabulary import named_objects, open_vocabulary, read_synonyms
from workbench.errors import DataError, UnknownNameError

SCHEMA = json.loads((Path(workbench.diagnose.__file__).parent / "schema.json").read_text())
WICKED = '</script><script>document.title = "caught"</script><img src=x onerror="document.title = 1">'
THINGS = ("dog", "cat", "car", "boat", "tree", "chair")


def made(n=120, wrong=0.3, seed=0):
    """Pictures with three things each, and captions of two mentions of which a share `wrong` is of a thing that is not there."""
    chance = np.random.default_rng(seed)
    objects, captions = {}, {}
    for i in range(n):
        there = chance.permutation(THINGS)
        said = [there[3 + k] if chance.random() < wrong else there[k] for k in range(2)]
        objects[f"p{i}"], captions[f"p{i}"] = list(there[:3]), f"A {said[0]} and a {said[1]}."
    return objects, captions


@pytest.fixture(scope="module")
def study():
    """Two systems, one of them much more often wrong, with a caption that would be code if it were not escaped."""
    objects, good = made(wrong=0.1)
    _, bad = made(wrong=0.5)
    absent = sorted(set(THINGS) - set(objects["p3"]))
    bad["p3"] = f"A $x$ {absent[0]} {WICKED} and a {absent[1]}."
    return workbench.diagnose.captions(good, bad, objects=objects, names=["careful", "loose <b> $1"])


def test_scores_are_those_of_a_count_by_hand(study):
    """CHAIR_i, CHAIR_s and coverage of both systems equal a loop over the words of each caption."""
    for system, name in enumerate(study.names):
        mentions = wrong = faulty = found = there = 0
        for caption, shown in zip(study.inputs.captions[system], study.inputs.objects, strict=True):
            said = [w.strip(".") for w in caption.split() if w.strip(".") in THINGS]
            false = [w for w in said if w not in shown]
            mentions, wrong, faulty = mentions + len(said), wrong + len(false), faulty + bool(false)
            found, there = found + len(set(said) & set(shown)), there + len(shown)
        assert 0 < wrong < mentions
        for measure, value in (
            ("chair_i", wrong / mentions),
            ("chair_s", faulty / len(study.inputs)),
            ("chair_recall", found / there),
        ):
            e = study.measures.find(measure, name)
            assert e.value == pytest.approx(value) and e.low < value < e.high
        assert sum(o.hallucinated for o in study.measures.objects if o.system == name) == wrong


def test_two_systems_are_compared_on_the_same_pictures(study):
    """The careful system is ahead under every set of rules, and McNemar's table adds up to the pictures."""
    first = next(v for v in study.verdicts if "fewer hallucinated" in v.sentence)
    assert first.sentence.startswith("careful has fewer") and study.measures.comparison["chair_i"].p_value < 0.01
    assert any("ahead" in v.sentence and v.level == "good" for v in study.verdicts)
    t = study.measures.mcnemar
    assert t.only_first + t.only_second + t.both + t.neither == len(study.inputs) and t.only_first > t.only_second
    by_hand = Counter(tuple(not any(study.measures.scored[n].false[i]) for n in study.names) for i in range(len(study.inputs)))
    assert (t.only_first, t.only_second) == (by_hand[True, False], by_hand[False, True])


def test_what_was_said_instead_is_counted(study):
    """In captions with one wrong and one missed thing the pair is counted; with three things shown there is no such caption."""
    assert study.measures.instead == ()
    objects = {str(i): ["dog"] for i in range(8)}
    swapped = workbench.diagnose.captions(
        {str(i): "a cat" if i < 6 else "a dog" for i in range(8)}, objects={**objects, "7": ["cat"]}
    )
    assert swapped.measures.instead == (("captions 1", "cat", "dog", 6), ("captions 1", "dog", "cat", 1))


def test_ids_that_do_not_belong_together_are_suspected():
    """Captions of other pictures are no better than chance, and the report asks about the ids."""
    objects, captions = made(n=200, wrong=0.1)
    keys = list(objects)
    moved = dict(zip(keys, [captions[k] for k in keys[1:] + keys[:1]], strict=True))
    found = workbench.diagnose.captions(moved, objects=objects).verdicts
    assert any(v.level == "warning" and "do not belong together" in v.next for v in found)


def test_rules_move_the_score_as_they_should():
    """Plurals, synonyms, kinds, repeated mentions and later sentences each count exactly where their rule says so."""
    objects = {str(i): ["dog", "sofa"] for i in range(4)}
    captions = {"0": "A cat. A boat.", "1": "puppies on a couch", "2": "a dog, a dog and a tree", "3": "dogs"}
    everything = {**objects, "4": ["cat", "boat", "tree"]}
    inputs = read_captions([{**captions, "4": "a cat"}], objects=everything)

    def mentions(**rules):
        m = measure_captions(inputs, rules=Rules(**rules))
        return [[x.name for x in row] for row in next(iter(m.scored.values())).mentions][:4]

    assert mentions(words="names") == [["cat", "boat"], [], ["dog", "dog", "tree"], ["dog"]]
    assert mentions(words="names", plurals=False)[3] == []
    assert mentions(words="synonyms")[1] == ["sofa"] and mentions(words="kinds")[1] == ["dog", "sofa"]
    assert mentions(words="kinds", sentences=1)[0] == ["cat"]
    once, each = (measure_captions(inputs, rules=Rules("names", count)) for count in ("object", "mention"))
    shares = [m.find("chair_i", "captions 1").value for m in (once, each)]
    assert shares == pytest.approx([3 / 6, 3 / 7])
    tried = {r.rules for r in each.rules}
    assert len(tried) == 6 and {r.sentences for r in tried} == {None, 1} and sum(r.chosen for r in each.rules) == 3
    with pytest.raises(UnknownNameError, match="choice of words 'table'"):
        measure_captions(inputs, rules=Rules("table"))


def test_words_of_wordnet_name_the_right_objects():
    """A couch is a sofa and a puppy a dog, a dining table a table; a hot dog is no dog and a teddy bear no bear, a black bear is."""
    v = named_objects(["dog", "Sofa", "dining_table", "table", "person", "bear"])
    wanted = {
        "couch": "sofa",
        "puppy": "dog",
        "police dog": "dog",
        "waiter": "person",
        "people": "person",
        "dining table": "dining table",
    }
    assert {w: v.table.get(w) for w in wanted} == wanted
    assert v.table["hot dog"] == "" and v.table["teddy bear"] == "" and "back" not in v.table and "black bear" in v.table
    assert "furniture" in v.meaning["table"]
    texts = ["a man walks a puppy", "two people and a dog on a boat, left of it at the back"]
    free = open_vocabulary(texts)
    assert (
        {"man", "puppy", "person", "dog", "boat"} == set(free.objects)
        and "dog" in free.kin["puppy"]
        and "man" in free.kin["person"]
    )


def test_references_alone_are_enough():
    """Without a list of objects, nouns are looked for; a more general word or a kind of what people wrote is right."""
    said = {"1": "a person and a dog", "2": "a boat", "3": "a cat"}
    truth = {"1": ["a man walks a puppy", "somebody"], "2": ["a boat on a lake"], "3": ["a dog on a sofa"]}
    study = workbench.diagnose.captions(said, references=truth)
    wrong = {row["id"]: row["hallucinated"] for row in study.captions.to_dict("records")}
    assert wrong == {"1": "", "2": "", "3": "cat"} and study.measures.vocabulary.kind == "wordnet"
    strict = workbench.diagnose.captions(said, references=truth, words="synonyms")
    assert strict.measures.find("chair_i", "captions 1").value > study.measures.find("chair_i", "captions 1").value
    both = workbench.diagnose.captions(said, references=truth, objects={"1": [], "2": [], "3": ["cat"]})
    assert both.measures.find("chair_i", "captions 1").value == 0


def test_a_table_of_ones_own(tmp_path):
    """Both forms of json and a csv give the same table; two objects for one word and other fields are refused by name."""
    (tmp_path / "a.json").write_text(json.dumps({"dog": ["puppy", "hound"], "": ["hot dog"]}))
    (tmp_path / "b.json").write_text(json.dumps({"dog": "dog", "puppy": "dog", "hound": "dog", "hot dog": ""}))
    (tmp_path / "c.csv").write_text("word,object\ndog,dog\npuppy,dog\nhound,dog\nhot dog,\n")
    a, b, c = (read_synonyms(tmp_path / name) for name in ("b.json", "b.json", "c.csv"))
    assert a == b == c == {"dog": "dog", "puppy": "dog", "hound": "dog", "hot dog": ""}
    objects = {"1": ["dog"], "2": ["cat"]}
    study = workbench.diagnose.captions(
        {"1": "a hound", "2": "a puppy with a hot dog"}, objects=objects, table=tmp_path / "c.csv"
    )
    assert study.measures.find("chair_i", "captions 1").value == 0.5 and study.measures.vocabulary.kind == "table"
    for content, words in (('{"a": "x", "b": ["a"]}', "stands for"), ('{"a": 1}', "want a word"), ('{"a": ""}', "has no words")):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match=words):
            read_synonyms(tmp_path / "bad.json")
    (tmp_path / "bad.csv").write_text("word,thing\na,b\n")
    with pytest.raises(DataError, match="fields word and object"):
        read_synonyms(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl", b'{"id": 1, "caption": "a"}\n{"id": 1, "caption": "b"}\n', "1 ids are repeated, in 2 rows .first: '1'"),
        ("x.jsonl", b'{"id": 1, "caption": "a"}\n{"id": 2, "caption": \xff}\n', "is not UTF-8"),
        ("x.jsonl", b'{"id": 1, "caption": "a"}\n{"id": 2, "capt\n', "line 2: not JSON"),
        ("x.jsonl", b'{"id": 1, "caption": "a"}\n{"id": 2, "caption": 5}\n', "1 of 2 captions are no text .first: row 1, 5"),
        ("x.jsonl", b'{"id": 1, "caption": "a"}\n{"id": 2}\n', "1 of 2 rows have no field caption"),
        ("x.jsonl", b'{"id": 1, "caption": "a"}\n{"caption": "b"}\n', "1 of 2 rows have no id"),
        ("x.jsonl", b'{"id": 1, "caption": "a", "id": 2}\n', "line 1: the key 'id' is repeated"),
        ("x.jsonl", b'{"id": 1, "sentence": "a"}\n', "no field caption or prediction or text; it has id, sentence"),
        ("x.jsonl", b"", "has no rows"),
        ("x.json", b"5", "want a list with one entry"),
        ("x.json", b'{"7": "a", "8": "b"}', "0 ids are in every file.*'7'.*'1'"),
        ("x.txt", b"a\nb\n", "has ids and .*x.txt has none"),
        ("x.md", b"", "ending .md; want"),
        ("none.jsonl", None, "no file"),
    ],
)
def test_a_bad_file_of_captions_is_one_sentence(tmp_path, name, content, words):
    """Repeated and unequal ids, other encodings, broken lines, missing fields: named, counted, one sentence."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_captions([tmp_path / name], objects={"1": ["dog"], "2": ["cat"]})
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_counted(tmp_path):
    """Ids of one file only, empty captions, unknown fields, joined references and missing pictures are each a counted warning."""
    rows = [{"id": i, "caption": "" if i == 2 else "a dog", "score": 0.5} for i in range(5)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    people = [{"image_id": i, "id": 10 * i + k, "caption": "a dog"} for i in range(1, 7) for k in range(2)]
    (tmp_path / "r.json").write_text(json.dumps({"annotations": people}))
    (tmp_path / "o.csv").write_text("id,objects\n" + "".join(f"{i},{'' if i == 3 else 'Dog; fire_hydrant'}\n" for i in range(5)))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "1.png")
    got = read_captions(
        [tmp_path / "p.jsonl"], references=tmp_path / "r.json", objects=tmp_path / "o.csv", images=tmp_path / "pictures"
    )
    assert got.ids == ("1", "2", "3", "4") and got.objects == (
        ("dog", "fire hydrant"),
        ("dog", "fire hydrant"),
        (),
        ("dog", "fire hydrant"),
    )
    said = "\n".join(got.warnings)
    for part in (
        "p.jsonl: the fields score are not used",
        "p.jsonl: 1 of 5 ids are not in every other file and are left out (first: '0')",
        "r.json: 12 rows about 6 pictures",
        "r.json: 2 of 6 ids",
        "1 of 4 captions are empty",
        "1 of 4 pictures list no object",
        "has no picture for 3 of 4 ids",
    ):
        assert part in said, part
    with pytest.raises(ValueError, match="references or objects must be given"):
        read_captions([["a", "b"]])
    with pytest.raises(DataError, match=r"2 rows, .* has 3 rows"):
        read_captions([["a", "b"]], objects=[["dog"], ["dog"], ["dog"]])
    with pytest.raises(DataError, match="at least 2 are needed"):
        read_captions([["a"]], objects=[["dog"]])


def test_a_caption_may_hold_any_character(tmp_path):
    """Line separators of Unicode inside a caption do not end its line."""
    (tmp_path / "x.jsonl").write_text('{"id": "a", "caption": "one\u2028two\x85three"}\n', encoding="utf8")
    assert read_records(tmp_path / "x.jsonl", ("caption",)).values == ("one\u2028two\x85three",)
    assert lines("a\r\nb\x0bc\n") == ["a", "b\x0bc"] and lines("") == []


def test_captions_without_any_object_are_a_finding():
    """Silence is not faithfulness: the report says that nothing was found, and what to do."""
    study = workbench.diagnose.captions(["so nice", "", "lovely"], objects=[["dog"], ["cat"], ["car"]])
    assert study.verdicts[0].level == "warning" and "no caption mentions" in study.verdicts[0].sentence
    assert any("chair_i" in s for s in study.measures.skipped) and len(study.figures()) >= 1
    jsonschema.validate(json.loads(json.dumps(plain(study.as_dict()))), SCHEMA)


def test_the_json_of_captions_is_what_the_schema_says(study):
    """The numbers validate, every marked mention lies where the caption has its words, and a field too many does not pass."""
    content = json.loads(json.dumps(plain(study.as_dict()), allow_nan=False))
    jsonschema.validate(content, SCHEMA)
    texts = {n: dict(zip(study.inputs.ids, study.inputs.captions[i], strict=True)) for i, n in enumerate(study.names)}
    assert content["hallucinations"] and all(
        texts[h["system"]][h["id"]][h["start"] : h["end"]] == h["text"] for h in content["hallucinations"]
    )
    for broken in (
        {**content, "gap": None},
        {**content, "kind": "embeddings"},
        {k: v for k, v in content.items() if k != "rules"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_the_page_shows_captions_as_text(study, tmp_path):
    """User text stands in the page only escaped, each wrong mention is marked, and no address of the network is named."""
    page = study.save(tmp_path / "r.html").read_text()
    assert WICKED not in page and "<img src=x" not in page and "loose &lt;b&gt; $1" in page and "&lt;script&gt;" in page
    assert "http://" not in page and "https://" not in page
    faulty = sum(any(row) for n in study.names for row in study.measures.scored[n].false)
    assert page.count("<li><div><q>") == faulty
    total = sum(sum(row) for n in study.names for row in study.measures.scored[n].false)
    assert page.count('<mark class="wb-false">') == total + 1  # and the one that explains the mark
    assert page.count('class="figure"') == 3 and json.loads((tmp_path / "r.json").read_text())["kind"] == "captions"


def test_the_widget_follows_its_controls(study):
    """Another object or another side shows other captions, marked and escaped."""
    box = study.explore()
    system, chosen, which, panel = box.children
    first = panel.value
    assert 'class="wb-false"' in first
    which.value = "missed"
    assert panel.value != first
    system.value = study.names[1]
    chosen.value = "boat"
    which.value = "hallucinated"
    assert "<script" not in panel.value and "boat" in panel.value
