"""Build the wordnet set: meanings with definitions, the relations between them, and graded pairs of definitions.

    python data/wordnet/build.py [--out FOLDER]

Needs apt and dpkg. About two minutes on one core.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa

from workbench.data.build import Package, assign_splits, connected, run, unpacked, write_table
from workbench.data.near_duplicates import near_duplicates
from workbench.data.wordnet_graph import wu_palmer

PACKAGE = Package(
    "apt",
    "wordnet-base",
    "1:3.0-37",
    "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    "wordnet-base_1%3a3.0-37_all.deb",
)
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
# Lexicographer files, by their number in the data files (man 5 lexnames).
_NAMES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person "
    "noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state noun.substance "
    "noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption verb.contact "
    "verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
)
FILES = _NAMES.split()
# One direction of each relation: the others (hyponym, meronym) are the same links read backwards.
KINDS = {
    "@": "hypernym", "@i": "instance hypernym", "#p": "part of", "#m": "member of", "#s": "substance of", "!": "antonym",
    "&": "similar to", "+": "derivation", "*": "entailment", ">": "cause", "^": "also see", "$": "verb group", "=": "attribute",
    "\\": "pertainym", "<": "participle", ";c": "topic", ";r": "region", ";u": "usage",
}  # fmt: skip
FRACTIONS = {"train": 0.5, "val": 0.1, "test": 0.4}
PAIRS = {"train": 4_000, "val": 500, "test": 2_000}
BINS, LOWEST, HIGHEST = 10, 0.1, 0.95  # grades of the pairs: equally many in each bin
SHORTEST, LONGEST = 4, 24  # words of a definition in a pair


def read_synsets(folder: Path) -> list[dict]:
    """One record a meaning, in the order of the data files of nouns, verbs, adjectives and adverbs."""
    counts = tag_counts(folder / "cntlist.rev")
    synsets = []
    for part, letter in PARTS.items():
        for line in (folder / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):
                continue
            data, gloss = line.split(" | ", 1)
            field = data.split()
            n = int(field[3], 16)
            words = [re.sub(r"\((a|p|ip)\)$", "", w).replace("_", " ") for w in field[4 : 4 + 2 * n : 2]]
            numbers = [int(i, 16) for i in field[5 : 5 + 2 * n : 2]]
            pointers = field[5 + 2 * n : 5 + 2 * n + 4 * int(field[4 + 2 * n])]
            definition, examples = split_gloss(gloss)
            keys = [(w.replace(" ", "_").lower(), field[2], int(field[1]), i) for w, i in zip(words, numbers, strict=True)]
            synsets.append(
                {
                    "synset": letter + field[0],
                    "file": FILES[int(field[1])],
                    "words": words,
                    "definition": definition,
                    "examples": examples,
                    "count": sum(counts[key] for key in keys),
                    "pointers": [pointers[i : i + 4] for i in range(0, len(pointers), 4)],
                }
            )
    return synsets


def split_gloss(gloss: str) -> tuple[str, list[str]]:
    """Definition and example sentences of a gloss."""
    at = min((i for i in (gloss.find('; "'), gloss.find(': "')) if i >= 0), default=len(gloss))
    return gloss[:at].strip(" ;"), [e.strip() for e in re.findall(r'"([^"]+)"', gloss[at:]) if e.strip()]


def tag_counts(path: Path) -> Counter:
    """How often each word was tagged with each meaning in the concordance that comes with WordNet."""
    letters = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "s"}
    counts: Counter = Counter()
    for line in path.read_text().splitlines():
        key, _, count = line.split()
        word, sense = key.split("%")
        kind, file, number = sense.split(":")[:3]
        # A satellite adjective's key also names its head; two that differ in nothing else share their count here.
        counts[word, letters[kind], int(file), int(number)] += int(count)
    return counts


def read_relations(synsets: list[dict]) -> dict[str, list]:
    """Columns of the relations table: source and target by row, kind, and which words are meant (0: all words)."""
    row = {s["synset"]: i for i, s in enumerate(synsets)}
    columns: dict[str, list] = {name: [] for name in ("source", "target", "kind", "source_word", "target_word")}
    for i, synset in enumerate(synsets):
        for symbol, offset, part, words in synset["pointers"]:
            if symbol in KINDS:
                cells = (i, row[part + offset], KINDS[symbol], int(words[:2], 16), int(words[2:], 16))
                for column, value in zip(columns.values(), cells, strict=True):
                    column.append(value)
    return columns


def graded_pairs(synsets: list[dict], split: list[str], relations: dict[str, list]) -> dict[str, list]:
    """Pairs of noun definitions with their Wu-Palmer similarity, equally many in each bin, each definition in one pair at most."""
    parents: dict[int, list[int]] = {}
    children: dict[int, list[int]] = {}
    for source, target, kind in zip(relations["source"], relations["target"], relations["kind"], strict=True):
        if kind in ("hypernym", "instance hypernym"):
            parents.setdefault(source, []).append(target)
            children.setdefault(target, []).append(source)
    ups = lambda at: parents.get(at, ())  # noqa: E731
    draw = random.Random("wordnet pairs")
    pick = lambda options: options[int(draw.random() * len(options))]  # noqa: E731
    columns: dict[str, list] = {name: [] for name in ("first", "second", "similarity", "split")}
    for name, total in PAIRS.items():
        usable = {
            i
            for i, s in enumerate(synsets)
            if split[i] == name and s["synset"][0] == "n" and SHORTEST <= len(s["definition"].split()) <= LONGEST
        }
        pool, used, filled = sorted(usable), set(), Counter()
        while sum(filled.values()) < total:
            first = pick(pool)
            # A random meaning is far away; one reached by some steps up and a walk down is near.
            second, climb = pick(pool), int(draw.random() * 8)
            if climb:
                second = first
                for _ in range(climb):
                    second = pick(list(ups(second)) or [second])
                while second in children and (second not in usable or draw.random() < 0.7):
                    second = pick(children[second])
            if first == second or second not in usable or first in used or second in used:
                continue
            similarity = wu_palmer(first, second, ups)
            grade = int((similarity - LOWEST) / (HIGHEST - LOWEST) * BINS)
            if not LOWEST <= similarity < HIGHEST or filled[grade] >= total / BINS:
                continue
            filled[grade] += 1
            used |= {first, second}
            for column, value in zip(columns.values(), (first, second, similarity, name), strict=True):
                column.append(value)
    return columns


def build(folder: Path) -> None:
    """Write synsets, relations and pairs into `folder`."""
    with unpacked(PACKAGE) as source:
        synsets = read_synsets(source / "usr" / "share" / "wordnet")
    relations = read_relations(synsets)
    family = connected(len(synsets), near_duplicates([s["definition"] for s in synsets]))
    split = assign_splits([synsets[f]["synset"] for f in family], [s["file"] for s in synsets], FRACTIONS)
    depths = longest_depths(len(synsets), relations)
    columns = {
        **{name: [s[name] for s in synsets] for name in ("synset", "file", "words", "definition", "examples")},
        "count": pa.array([s["count"] for s in synsets], pa.int32()),
        "depth": pa.array(depths, pa.int8()),
        "family": pa.array(family, pa.int32()),
        "split": split,
    }
    pairs = graded_pairs(synsets, split, relations)
    write_table(folder / "synsets.parquet", pa.table(columns))
    kinds = {"source": pa.int32(), "target": pa.int32(), "kind": pa.string(), "source_word": pa.int8(), "target_word": pa.int8()}
    write_table(folder / "relations.parquet", pa.table({n: pa.array(relations[n], t) for n, t in kinds.items()}))
    pairs |= {n: pa.array(pairs[n], pa.int32()) for n in ("first", "second")}
    write_table(folder / "pairs.parquet", pa.table(pairs))


def longest_depths(n: int, relations: dict[str, list]) -> list[int]:
    """Steps on the longest way up to a root, for every meaning."""
    parents: dict[int, list[int]] = {}
    for source, target, kind in zip(relations["source"], relations["target"], relations["kind"], strict=True):
        if kind in ("hypernym", "instance hypernym"):
            parents.setdefault(source, []).append(target)
    found: dict[int, int] = {}

    def down(at: int) -> int:
        if at not in found:
            found[at] = max((down(up) + 1 for up in parents.get(at, ())), default=0)
        return found[at]

    return [down(i) for i in range(n)]


if __name__ == "__main__":
    run(build, __file__)
