"""POPE: yes-or-no questions about objects, their construction from an annotation, and the score of the answers."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.checks import describe
from workbench.metrics._blocks import require_int
from workbench.metrics.hallucination import _names


@dataclass(frozen=True, kw_only=True)
class Pope:
    """Scores of yes-or-no answers; 'yes' is the positive class.

    Attributes:
        accuracy: share of the questions answered rightly, in [0, 1].
        precision: share of the yes answers that are right; None where no answer is yes.
        recall: share of the questions with label yes that are answered yes; None where no label is yes.
        f1: 2 tp / (2 tp + fp + fn); None where there is neither a yes answer nor a yes label.
        yes_ratio: share of the counted ANSWERS that are yes (not of the labels, as some code has it).
        n: questions counted.
        n_unparsed: answers that are neither yes nor no.
        unparsed: how those count.
        counts: (true positives, false positives, false negatives, true negatives) of the parsed answers.
        questions: for each counted question (what was answered, the label); an unparsed answer is None.
    """

    accuracy: float
    precision: float | None
    recall: float | None
    f1: float | None
    yes_ratio: float
    n: int
    n_unparsed: int
    unparsed: str
    counts: tuple[int, int, int, int]
    questions: tuple[tuple[bool | None, bool], ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """For each counted question whether it was answered rightly."""
        return tuple(answer is label for answer, label in self.questions)


def pope(
    answers: Sequence[str | bool | None],
    labels: Sequence[bool],
    *,
    unparsed: Literal["wrong", "drop", "yes"] = "wrong",
    rule: Literal["first_word", "authors"] = "first_word",
) -> Pope:
    r"""Accuracy, precision, recall, F1 and yes-ratio of the answers to questions such as 'Is there a dog in the picture?'.

    .. math:: F_1 = \frac{2\,\mathrm{TP}}{2\,\mathrm{TP} + \mathrm{FP} + \mathrm{FN}}, \qquad
        \text{yes-ratio} = \frac{\#\,\text{yes answers}}{\#\,\text{answers}}

    Args:
        answers: texts, read by `rule`, or booleans; None is an answer that is neither.
        labels: whether the object is there.
        unparsed: an answer that is neither yes nor no is 'wrong' (a missed yes where the label is yes; no false alarm
            where it is no), 'drop' leaves it out, 'yes' counts it as a yes as the authors' code does.
        rule: see `parse_yes_no`.

    Returns:
        Pope. Half the questions of the benchmark have label yes; a model that always says yes has accuracy 1/2, recall 1
        and F1 2/3, so look at the yes-ratio first.

    Raises:
        ValueError, TypeError: no questions, different lengths, labels that are not booleans, nothing left to count.

    Source: Li et al. 2023 (arXiv 2305.10355), section 5. Their code takes every answer without a no for a yes.

    Example:
        >>> result = pope(["Yes.", "No, there is none.", "Yes", "It may be."], [True, True, False, False])
        >>> result.accuracy, result.yes_ratio, result.n_unparsed
        (0.25, 0.5, 1)
    """
    if unparsed not in ("wrong", "drop", "yes"):
        raise ValueError(f"unparsed must be 'wrong', 'drop' or 'yes', got {describe(unparsed)}")
    for value, name in ((answers, "answers"), (labels, "labels")):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError(f"{name} must be a list, got {describe(value)}")
    if len(answers) != len(labels):
        raise ValueError(f"answers and labels must have one entry a question, got {len(answers)} and {len(labels)}")
    for i, label in enumerate(labels):
        if not isinstance(label, bool):
            raise TypeError(f"labels[{i}] must be True or False, got {describe(label)}")
    said = [parse_yes_no(answer, rule=rule) for answer in answers]
    n_unparsed = said.count(None)
    pairs = list(zip(said, labels, strict=True))
    if unparsed == "drop":
        pairs = [pair for pair in pairs if pair[0] is not None]
    elif unparsed == "yes":
        pairs = [(True if answer is None else answer, label) for answer, label in pairs]
    if not pairs:
        raise ValueError(f"answers holds nothing to count: {len(answers)} answers, {n_unparsed} of them neither yes nor no")
    counts = Counter(pairs)
    tp, fp, fn, tn = counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    missed = fn + counts[None, True]
    return Pope(
        accuracy=(tp + tn) / len(pairs),
        precision=tp / (tp + fp) if tp + fp else None,
        recall=tp / (tp + missed) if tp + missed else None,
        f1=2 * tp / (2 * tp + fp + missed) if 2 * tp + fp + missed else None,
        yes_ratio=(tp + fp) / len(pairs),
        n=len(pairs),
        n_unparsed=n_unparsed,
        unparsed=unparsed,
        counts=(tp, fp, fn, tn),
        questions=tuple(pairs),
    )


def parse_yes_no(answer: object, *, rule: Literal["first_word", "authors"] = "first_word") -> bool | None:
    """Whether an answer says yes or no; None where it says neither.

    Args:
        answer: a text; booleans and None come back as they are.
        rule: 'first_word' reads the first word ('Yes, ...', 'no.'); 'authors' takes a first sentence with one of the words
            No, no, not for a no and everything else for a yes.

    Example:
        >>> parse_yes_no("Yes, there is a dog."), parse_yes_no("Perhaps."), parse_yes_no("There is not.", rule="authors")
        (True, None, False)
    """
    if rule not in ("first_word", "authors"):
        raise ValueError(f"rule must be 'first_word' or 'authors', got {describe(rule)}")
    if answer is None or isinstance(answer, bool):
        return answer
    if not isinstance(answer, str):
        raise TypeError(f"answers must hold texts, booleans or None, got {describe(answer)}")
    if rule == "authors":
        return not {"No", "no", "not"}.intersection(answer.split(".")[0].replace(",", "").split(" "))
    word = re.search(r"[^\W\d_]+", answer)
    return {"yes": True, "no": False}.get(word.group().lower()) if word else None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One question: is `name` in picture `image`? `label` is the right answer."""

    image: int
    name: str
    label: bool


def pope_probes(
    annotation: Sequence[Iterable[str]],
    *,
    strategy: Literal["random", "popular", "adversarial"] = "random",
    per_image: int = 3,
    seed: int = 0,
) -> tuple[Probe, ...]:
    """Balanced questions from any list of the objects in each picture: as many about what is there as about what is not.

    Args:
        annotation: for each picture the names of the objects it shows.
        strategy: what is asked that is not there: 'random' any absent object; 'popular' those that occur in most pictures;
            'adversarial' those that occur most often together with the objects that are there.
        per_image: questions of each kind per picture; a picture with fewer objects (or fewer absent ones) gets fewer
            pairs, one with none gets no question. The paper asks 3 of each.
        seed: draws the objects asked that are there, and the absent ones of 'random'.

    Returns:
        Probes, for each picture yes and no in turn.

    Raises:
        ValueError, TypeError: no pictures, names that are not strings, unknown strategy, no question possible.

    Source: Li et al. 2023 (arXiv 2305.10355), section 5.1. Ties of frequency go by name.

    Example:
        >>> shown = [["dog", "sofa"], ["dog", "tree"], ["cat"]]
        >>> [(p.name, p.label) for p in pope_probes(shown, strategy="popular", per_image=1)][-2:]
        [('cat', True), ('dog', False)]
    """
    if strategy not in ("random", "popular", "adversarial"):
        raise ValueError(f"strategy must be 'random', 'popular' or 'adversarial', got {describe(strategy)}")
    pictures = [sorted(set(names)) for names in _names(annotation, "annotation")]
    per_image, rng = require_int(per_image, "per_image", low=1), random.Random(require_int(seed, "seed", low=0))
    frequency = Counter(name for names in pictures for name in names)
    together: dict[str, Counter[str]] = {name: Counter() for name in frequency}
    for names in pictures:
        for name in names:
            together[name].update(names)
    probes = []
    for image, names in enumerate(pictures):
        absent = sorted(set(frequency).difference(names))
        if strategy == "random":
            rng.shuffle(absent)
        elif strategy == "popular":
            absent.sort(key=lambda name: (-frequency[name], name))
        else:
            company: Counter[str] = Counter()
            for name in names:
                company.update(together[name])
            absent.sort(key=lambda name: (-company[name], -frequency[name], name))
        count = min(per_image, len(names), len(absent))
        for there, missing in zip(rng.sample(names, count), absent[:count], strict=True):
            probes += [Probe(image=image, name=there, label=True), Probe(image=image, name=missing, label=False)]
    if not probes:
        raise ValueError("annotation gives no question: a picture with an object and another object that it lacks is needed")
    return tuple(probes)
