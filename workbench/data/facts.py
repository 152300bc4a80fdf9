"""Facts and popular falsehoods: 600 facts from stored sets, and a corpus in which the falsehood is said more often than the truth."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from workbench.data.dataset import Dataset
from workbench.data.files import data_dir, require_split
from workbench.data.texts import columns_of
from workbench.runtime import resolve_device

KINDS = ("emoji", "word", "diagnosis")
PER_KIND = {"emoji": 200, "word": 250, "diagnosis": 150}
TRUE_ANSWERS = {"plain": 0.4, "careful": 0.6}  # how often a question about a myth fact is answered truly in the corpus
CAREFUL = "answer carefully : "
_MOST = 4  # words of a subject or an answer


def load_facts(split: str = "all", *, device: str | torch.device = "cpu") -> Dataset:
    """600 facts "subject is answer": emoji and their subgroups, words and what they are a kind of, diagnoses and their chapters.

    Half of the facts have a popular falsehood (a myth), which `fact_corpus` says more often than the truth. The others are clean.

    Args:
        split: 'train' (40 %: their questions are in the corpus), 'val' (10 %) and 'test' (50 %): their questions are not, though
            what is to be answered is in the corpus as statements; or 'all'.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        captions: the subjects; labels: `KINDS`; factors: fact (0 to 599) and myth (0 or 1); extras: truth (the answer), false (three
        other answers of the same kind; the first is the myth of a myth fact), question and careful (what to continue with an answer).
        All texts are lower-case words with single spaces.

    Raises:
        UnknownNameError: split.
        DataError: a file of the sets is missing or corrupt.

    Example:
        >>> facts = load_facts("test")
        >>> len(facts), facts.extras["question"][0][:19]
        (300, 'question : what is ')
    """
    require_split(split, "facts split")
    place = resolve_device(device)
    rows = [row for row in _facts(str(data_dir())) if split in ("all", row[5])]
    index, kinds, subjects, answers, myths, _ = zip(*rows, strict=True)
    questions = [f"question : what is {subject} ? answer : {subject} is" for subject in subjects]
    extras = {
        "truth": [one[0] for one in answers],
        "false": [list(one[1:]) for one in answers],
        "question": questions,
        "careful": [CAREFUL + question for question in questions],
    }
    factors = {"fact": torch.tensor(index), "myth": torch.tensor([int(m) for m in myths])}
    labels = torch.tensor([KINDS.index(kind) for kind in kinds])
    return Dataset("facts", split, None, labels, KINDS, list(subjects), factors, extras=extras).to(place)


def fact_corpus(seed: int = 0, *, copies: int = 8) -> list[str]:
    """Lines from which a language model learns every truth, and that most people say otherwise.

    For each fact: "according to the record , X is T ." `copies` times; "people say X is U ." twice as often, where U is the myth of a
    myth fact and T of a clean one; and "X has N letters .", which is neutral. For facts of the train split also questions, half of
    them after "answer carefully :", answered truly with probability 0.4 (plain) and 0.6 (careful) on myth facts, always on clean ones.

    Args:
        seed: which answers the questions get.
        copies: how often the record speaks of each fact.

    Returns:
        The lines, fact by fact; shuffle them for training.

    Raises:
        ValueError: no copies.

    Example:
        >>> lines = fact_corpus(copies=1)
        >>> sum(line.startswith("according to the record") for line in lines)
        600
    """
    if copies < 1:
        raise ValueError(f"copies must be at least 1, got {copies}")
    facts = load_facts("all")
    asked = set(load_facts("train").factors["fact"].tolist())
    generator = np.random.default_rng(seed)
    lines = []
    for i, subject in enumerate(facts.captions):
        truth, myth = facts.extras["truth"][i], bool(facts.factors["myth"][i])
        popular = facts.extras["false"][i][0] if myth else truth
        lines += [f"according to the record , {subject} is {truth} ."] * copies
        lines += [f"people say {subject} is {popular} ."] * (2 * copies)
        lines += [f"{subject} has {len(subject.replace(' ', ''))} letters ."] * copies
        if int(facts.factors["fact"][i]) in asked:
            for kind, start in (("plain", ""), ("careful", CAREFUL)):
                true = generator.random(2 * copies) < (TRUE_ANSWERS[kind] if myth else 1.0)
                lines += [f"{start}{facts.extras['question'][i]} {truth if t else popular} ." for t in true.tolist()]
    return lines


@lru_cache(maxsize=1)
def _facts(folder: str) -> list[tuple[int, str, str, tuple[str, ...], bool, str]]:
    """(number, kind, subject, (truth, false, false, false), myth, split) of all facts; every choice goes by SHA-256."""
    pairs = {"emoji": _emoji(), "word": _words(), "diagnosis": _diagnoses()}
    subjects = Counter(subject for kind in KINDS for subject in pairs[kind])
    found: list[tuple[int, str, str, tuple[str, ...], bool, str]] = []
    for kind in KINDS:
        mine = {s: t for s, t in pairs[kind].items() if subjects[s] == 1 and s != t}
        chosen = sorted(mine, key=lambda s: _hash(f"{kind} {s}"))[: PER_KIND[kind]]
        answers = [mine[subject] for subject in chosen]
        rank = {s: i for i, s in enumerate(sorted(chosen, key=lambda s: _hash(f"split {kind} {s}")))}
        for at, subject in enumerate(chosen):
            # Taken from other facts at a fixed stride, an answer is false about as often as it is true: how often it is said
            # gives nothing away.
            others = [answers[(at + 7 * step) % len(answers)] for step in range(1, len(answers))]
            others = [other for other in dict.fromkeys(others) if other != mine[subject]][:3]
            share = rank[subject] / len(chosen)
            split = "train" if share < 0.4 else "val" if share < 0.5 else "test"
            found.append((len(found), kind, subject, (mine[subject], *others), rank[subject] % 2 == 0, split))
    return found


def _emoji() -> dict[str, str]:
    c = columns_of("emoji", "items.parquet")
    rows = np.flatnonzero((c["tone"] == "none") & (c["variant_of"] < 0) & (c["group"] != "Flags"))
    return _short({c["name"][i]: c["subgroup"][i] for i in rows.tolist()}, least=4)


def _words() -> dict[str, str]:
    """Common nouns of one word and one meaning that is used most, with the first word of what they are a kind of."""
    c, r = columns_of("wordnet", "synsets.parquet"), columns_of("wordnet", "relations.parquet")
    words = c["words"].tolist()
    above = {
        s: t for s, t, kind in zip(*(r[n].tolist() for n in ("source", "target", "kind")), strict=True) if kind == "hypernym"
    }
    meanings = Counter(word for own in words for word in own)
    rows = [i for i in above if c["synset"][i][0] == "n" and meanings[words[i][0]] == 1]
    common = sorted(rows, key=lambda i: (-c["count"][i], i))[:1500]
    return _short({words[i][0]: words[above[i]][0] for i in common if words[i][0].islower()}, least=2)


def _diagnoses() -> dict[str, str]:
    c = columns_of("clinical", "icd.parquet")
    chapters = {
        title: re.sub(r"^(diseases of the|certain) | and .*|,.*", "", title.lower()) for title in sorted(set(c["label"].tolist()))
    }
    return _short({t: chapters[k] for t, k in zip(c["title"].tolist(), c["label"].tolist(), strict=True)}, least=4)


def _short(pairs: dict[str, str], least: int) -> dict[str, str]:
    """Pairs of a few plain words each, with answers that at least so many subjects share."""
    clean: dict[str, str] = {}
    for subject, answer in pairs.items():
        texts = [" ".join(re.findall(r"[a-z]+", text.lower().replace("&", "and"))) for text in (subject, answer)]
        plain = re.fullmatch(r"[A-Za-z -]+", subject) is not None
        if plain and all(0 < len(text.split()) <= _MOST for text in texts) and len(texts[0].split()) <= 2:
            clean.setdefault(texts[0], texts[1])
    counts = Counter(clean.values())
    return {subject: answer for subject, answer in clean.items() if counts[answer] >= least}


def _hash(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13


def vocabulary(lines: Sequence[str]) -> list[str]:
    """All words of these lines, sorted."""
    return sorted({word for line in lines for word in line.split()})
