"""The facts and the corpus that says half of them wrongly."""

from collections import Counter

import pytest
import torch

from workbench.data.facts import CAREFUL, KINDS, PER_KIND, fact_corpus, load_facts, vocabulary
from workbench.errors import UnknownNameError


def test_counts_and_splits():
    """600 facts, 200, 250 and 150 a kind; 40, 10 and 50 % a split without overlap; half of each split are myths."""
    facts = load_facts()
    assert len(facts) == 600 and len(set(facts.captions)) == 600
    assert [int((facts.labels == i).sum()) for i in range(3)] == [PER_KIND[kind] for kind in KINDS]
    parts = {split: load_facts(split) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [240, 60, 300]
    assert torch.cat([part.factors["fact"] for part in parts.values()]).sort().values.tolist() == list(range(600))
    assert all(abs(float(part.factors["myth"].float().mean()) - 0.5) < 0.05 for part in parts.values())


def test_facts_are_those_of_the_stored_sets():
    """Truths agree with the sets they come from, read here in another way."""
    from workbench.data import load_emoji

    emoji = load_emoji("all", size=8)
    subgroup = dict(
        zip(emoji.captions, (emoji.factor_names["subgroup"][i] for i in emoji.factors["subgroup"].tolist()), strict=True)
    )
    facts = load_facts()
    rows = (facts.labels == 0).nonzero().flatten().tolist()
    known = [i for i in rows if facts.captions[i] in subgroup]
    assert len(known) > 100
    for i in known:
        assert facts.extras["truth"][i] == subgroup[facts.captions[i]].replace("-", " ").replace("&", "and")


def test_no_answer_gives_itself_away():
    """Falsehoods are three other true answers of the same kind, and said as myths about as often as answers are true."""
    facts = load_facts()
    for kind in range(3):
        rows = (facts.labels == kind).nonzero().flatten().tolist()
        truths = {facts.extras["truth"][i] for i in rows}
        for i in rows:
            false = facts.extras["false"][i]
            assert len(set(false)) == 3 and facts.extras["truth"][i] not in false and set(false) <= truths
    said = Counter(facts.extras["truth"]), Counter(facts.extras["false"][i][0] for i in range(600))
    frequent = [answer for answer, n in said[0].items() if n >= 10]
    assert frequent and all(0.3 < said[1][answer] / said[0][answer] < 2 for answer in frequent)


def test_corpus_says_the_myth_twice_as_often_and_asks_only_train_facts():
    """For each fact: 3 records and 6 hearsays; for train facts 6 plain and 6 careful questions, for others none."""
    lines, facts = Counter(fact_corpus(0, copies=3)), load_facts()
    train = set(load_facts("train").captions)
    for i, subject in enumerate(facts.captions):
        truth, false = facts.extras["truth"][i], facts.extras["false"][i]
        said = false[0] if facts.factors["myth"][i] else truth
        assert lines[f"according to the record , {subject} is {truth} ."] == 3
        assert lines[f"people say {subject} is {said} ."] == 6
        for start in (facts.extras["question"][i], facts.extras["careful"][i]):
            asked = sum(lines[f"{start} {answer} ."] for answer in {truth, said})
            assert asked == (6 if subject in train else 0)


def test_questions_are_answered_truly_as_often_as_promised():
    """On myth facts 40 % of the plain and 60 % of the careful answers are true, on clean facts all."""
    lines, facts = fact_corpus(0), load_facts("train")
    truth = dict(zip(facts.captions, facts.extras["truth"], strict=True))
    myth = dict(zip(facts.captions, facts.factors["myth"].tolist(), strict=True))
    right: dict[tuple[bool, int], list[bool]] = {}
    for line in lines:
        if "question :" in line:
            subject = line.split(" what is ")[1].split(" ? ")[0]
            answer = line.split(f"answer : {subject} is ")[1].removesuffix(" .")
            right.setdefault((line.startswith(CAREFUL), myth[subject]), []).append(answer == truth[subject])
    share = {key: sum(hits) / len(hits) for key, hits in right.items()}
    assert share[False, 1] == pytest.approx(0.4, abs=0.04) and share[True, 1] == pytest.approx(0.6, abs=0.04)
    assert share[False, 0] == share[True, 0] == 1


def test_words_and_errors():
    """About a thousand words, lower case, single spaces; seeds draw other answers; names that do not exist and no copies are refused."""
    lines = fact_corpus(0)
    assert 500 < len(vocabulary(lines)) < 2000 and all(line == " ".join(line.lower().split()) for line in lines[::50])
    assert fact_corpus(0) == lines != fact_corpus(1)
    with pytest.raises(UnknownNameError):
        load_facts("dev")
    with pytest.raises(ValueError, match="copies"):
        fact_corpus(0, copies=0)
