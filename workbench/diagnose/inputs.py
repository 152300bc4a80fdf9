"""Putting a user's files together: sets of embeddings on common rows, with what is known about each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.diagnose.arrays import Embeddings, read_embeddings
from workbench.diagnose.columns import LARGEST_TEXT, code, list_pictures, read_factors, read_labels, read_texts
from workbench.errors import DataError


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a diagnosis works on; every array has the same n rows, in the same order, where `aligned` is true.

    Attributes:
        sets: the embeddings, one for each file.
        paired: two modalities, row i of the first belongs to row i of the second.
        aligned: row i is the same thing in every set (always true for one set).
        rows: (n,) where the common rows stood in the first file.
        texts: a text for each row, or None.
        pictures: a picture file for each row, or None.
        labels: codes (n,) and names of the classes, or None.
        factors: name -> codes (n,) and names of the values.
        warnings: everything that was left out, counted.
    """

    sets: tuple[Embeddings, ...]
    paired: bool
    aligned: bool
    rows: np.ndarray
    texts: tuple[str, ...] | None = None
    pictures: tuple[Path, ...] | None = None
    labels: tuple[np.ndarray, tuple[str, ...]] | None = None
    factors: dict[str, tuple[np.ndarray, tuple[str, ...]]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def read_inputs(
    sources: Sequence[str | Path | np.ndarray],
    *,
    names: Sequence[str] | None = None,
    pairs: bool = False,
    labels: str | Path | Sequence[Any] | None = None,
    factors: str | Path | None = None,
    texts: str | Path | Sequence[str] | None = None,
    images: str | Path | None = None,
) -> Inputs:
    """Read and match everything that a diagnosis of embeddings is given.

    Args:
        sources: one set, two paired modalities (with `pairs`), or several models on the same rows; paths or arrays.
        names: a name for each set; by default the files' names.
        pairs: the two sets are paired modalities in one space.
        labels, factors, texts, images: files about the rows of the first set as it is stored.

    Raises:
        DataError: whatever is wrong with a file, sets of different lengths without ids, paired sets of different width.
        ValueError: no set, `pairs` with another number of sets than two, or names that do not fit.
    """
    if not sources:
        raise ValueError("sources must name at least one set of embeddings")
    if pairs and len(sources) != 2:
        raise ValueError(f"pairs needs two sets of embeddings, got {len(sources)}")
    if names is not None and len(names) != len(sources):
        raise ValueError(f"names must have one entry for each of {len(sources)} sets, got {len(names)}")
    sets = [read_embeddings(s, name=names[i] if names else None) for i, s in enumerate(sources)]
    if names is None:
        sets = _different_names(sets)
    warnings = [w for s in sets for w in s.warnings]
    if pairs and sets[0].values.shape[1] != sets[1].values.shape[1]:
        widths = " and ".join(f"{s.name} has {s.values.shape[1]} columns" for s in sets)
        raise DataError(f"paired modalities must share one space, but {widths}; leave out --pairs to compare them as two models")

    first, matched = sets[0], _places(sets)
    if matched is None:
        lengths = ", ".join(f"{s.name} has {s.length} rows" for s in sets)
        if pairs:
            raise DataError(f"{lengths}; row i of one must belong to row i of the other, or both need a column id")
        warnings.append(f"{lengths}: they are measured one by one, and not compared row by row")
        rows, aligned = first.rows, False
    else:
        rows, sets, lost = _common(sets, matched)
        aligned = True
        if len(rows) < 2:
            raise DataError(f"only {len(rows)} rows can be used in every set; at least 2 are needed")
        if lost:
            warnings.append(f"{lost} rows are in one set but not, or not usable, in another; {len(rows)} common rows are used")

    return Inputs(
        tuple(sets),
        pairs,
        aligned,
        rows,
        _texts(first, texts, rows),
        None if images is None else tuple(_pick(list_pictures(images, first.length, first.ids), rows)),
        _labels(first, labels, rows),
        {} if factors is None else {k: (c[rows], v) for k, (c, v) in read_factors(factors, first.length, first.ids).items()},
        tuple(warnings),
    )


def _different_names(sets: list[Embeddings]) -> list[Embeddings]:
    names = [s.name for s in sets]
    return [replace(s, name=s.name if names.count(s.name) == 1 else f"{s.name} ({i + 1})") for i, s in enumerate(sets)]


def _places(sets: Sequence[Embeddings]) -> list[dict[int, int]] | None:
    """For each set: row of the first file -> row of its own file; None where the sets cannot be matched."""
    first = sets[0]
    if all(s.ids is not None for s in sets) and len(sets) > 1:
        at = {name: i for i, name in enumerate(first.ids or ())}
        return [{at[name]: i for i, name in enumerate(s.ids or ()) if name in at} for s in sets]
    if any(s.length != first.length for s in sets):
        return None
    return [{i: i for i in range(s.length)} for s in sets]


def _common(sets: Sequence[Embeddings], places: Sequence[dict[int, int]]) -> tuple[np.ndarray, list[Embeddings], int]:
    """The rows that every set has and can use, the sets on these rows, and how many rows of any set that leaves out."""
    usable = [{int(r): i for i, r in enumerate(s.rows)} for s in sets]
    rows = [r for r in range(sets[0].length) if all(p.get(r, -1) in u for p, u in zip(places, usable, strict=True))]
    cut = []
    for s, p, u in zip(sets, places, usable, strict=True):
        index = np.array([u[p[r]] for r in rows], dtype=np.int64)
        cut.append(replace(s, values=s.values[index], rows=s.rows[index]))
    return np.array(rows, dtype=np.int64), cut, max(len(s.rows) for s in sets) - len(rows)


def _texts(first: Embeddings, source: str | Path | Sequence[str] | None, rows: np.ndarray) -> tuple[str, ...] | None:
    if source is not None:
        return tuple(_pick(read_texts(source, first.length, first.ids), rows))
    stored = first.columns.get("text", first.columns.get("caption"))
    return None if stored is None else tuple(_pick([str(t)[:LARGEST_TEXT] for t in stored], rows))


def _labels(
    first: Embeddings, source: str | Path | Sequence[Any] | None, rows: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    if source is None and "label" not in first.columns:
        return None
    codes, names = (
        code(first.columns["label"], f"column label of {first.name}")
        if source is None
        else read_labels(source, first.length, first.ids)
    )
    return codes[rows], names


def _pick(values: Sequence[Any], rows: np.ndarray) -> list[Any]:
    return [values[i] for i in rows]
