"""Reading what tells of the rows: texts, labels, factors and pictures, matched to embeddings row by row or by id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.diagnose.arrays import ID, TEXTS, read_table
from workbench.diagnose.records import read_rows
from workbench.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
LARGEST_TEXT = 2_000  # characters of one text that a report keeps


def read_texts(source: str | Path | Sequence[str], n: int, ids: Sequence[str] | None = None) -> list[str]:
    """One text for each of the n rows of a file of embeddings.

    Args:
        source: .txt (a line each), .csv, .tsv or .parquet (column text or caption), .jsonl or .json (texts, or objects with one of
            these keys), or a list of texts.
        n: rows of the embeddings, as stored.
        ids: their ids; a table with a column `id` is then matched by it and may have further rows.

    Raises:
        DataError: another number of texts, something else than text, an unknown id, or a file that cannot be read.
    """
    texts = list(source) if not isinstance(source, (str, Path)) else _column(Path(source), TEXTS, n, ids)
    where = "texts" if not isinstance(source, (str, Path)) else str(source)
    _same_length(texts, n, where)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{where}, row {row}: want a text, got {text!r:.60}")
    return [text[:LARGEST_TEXT] for text in texts]


def read_labels(
    source: str | Path | Sequence[Any], n: int, ids: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One class for each of the n rows: codes (n,) int64 and the names of the classes.

    Args:
        source: .txt (a line each), .npy (integers), .csv, .tsv or .parquet (column label), .json, .jsonl, or a list.
        n: rows of the embeddings, as stored.
        ids: their ids, to match a table with a column `id`.

    Raises:
        DataError: as `read_texts`; fewer than two classes, or an empty label.
    """
    where = str(source) if isinstance(source, (str, Path)) else "labels"
    if isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".npy":
        try:
            values = np.load(source, allow_pickle=False).tolist()
        except (OSError, ValueError) as error:
            raise DataError(f"{where} cannot be read as npy ({str(error).splitlines()[0][:120]})") from None
    else:
        values = (
            list(source) if not isinstance(source, (str, Path)) else _column(Path(source), ("label", "labels", "class"), n, ids)
        )
    _same_length(values, n, where)
    return code(values, where)


def read_factors(source: str | Path, n: int, ids: Sequence[str] | None = None) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """Named factors of variation, a column each: name -> codes (n,) and names of the values.

    Args:
        source: .csv, .tsv or .parquet; every column but `id` is a factor with two values or more.
        n: rows of the embeddings, as stored.
        ids: their ids, to match a column `id`.

    Raises:
        DataError: as `read_labels`.
    """
    table = _matched(read_table(Path(source)), Path(source), n, ids)
    names = [str(c) for c in table.columns if str(c) != ID]
    if not names:
        raise DataError(f"{source} has no column beside {ID}; want a column for each factor")
    return {name: code(table[name].tolist(), f"{source}, column {name}") for name in names}


def list_pictures(folder: str | Path, n: int, ids: Sequence[str] | None = None) -> list[Path]:
    """A picture file for each of the n rows: by id where the embeddings have ids, in the order of the names otherwise.

    Raises:
        DataError: no such folder, another number of pictures than rows, or an id without a picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give a folder of pictures ({', '.join(PICTURES)})")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
    if ids is not None:
        by_name = {p.stem: p for p in files} | {p.name: p for p in files}
        missing = [i for i in ids if i not in by_name]
        if not missing:
            return [by_name[i] for i in ids]
        if len(files) != n:
            raise DataError(f"{folder} has no picture for {len(missing)} of {n} ids (first: {missing[0][:60]!r})")
    if len(files) != n:
        raise DataError(f"{folder} holds {len(files)} pictures for {n} rows; name them by id, or give one for each row in order")
    return files


def code(values: Sequence[Any], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and sorted names of values that are texts, integers, truth values or round numbers."""
    names = []
    for row, value in enumerate(values):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, (str, int, np.integer)) or value == "":
            raise DataError(f"{where}, row {row}: want a text or an integer, got {value!r:.60}")
        names.append(str(value))
    known = sorted(set(names), key=_natural)
    if len(known) < 2:
        raise DataError(f"{where}: want at least two different values, all {len(names)} rows have {known[0][:60]!r}")
    at = {name: i for i, name in enumerate(known)}
    return np.array([at[name] for name in names], dtype=np.int64), tuple(known)


def _column(file: Path, names: Sequence[str], n: int, ids: Sequence[str] | None) -> list[Any]:
    if not file.is_file():
        raise DataError(f"no file {file}")
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv", ".parquet"):
        table = read_table(file)
        column = next((c for name in names for c in table.columns if str(c).lower() == name), None)
        if column is None:
            raise DataError(f"{file} has no column {' or '.join(names)}, it has {', '.join(map(str, table.columns))}")
        return _matched(table, file, n, ids)[column].tolist()
    if suffix not in (".txt", ".json", ".jsonl"):
        raise DataError(f"{file} has the ending {suffix or '(none)'}; want .txt, .csv, .tsv, .parquet, .json or .jsonl")
    rows = read_rows(file)
    if isinstance(rows, dict):
        raise DataError(f"{file}: want a list with one entry for each row, got an object")
    values = []
    for row, value in enumerate(rows):
        if isinstance(value, dict):
            key = next((name for name in names if name in value), None)
            if key is None:
                raise DataError(f"{file}, row {row}: want a key {' or '.join(names)}, got {', '.join(map(str, value))[:80]}")
            value = value[key]
        values.append(value)
    own = [str(row[ID]) for row in rows if isinstance(row, dict) and ID in row]
    if ids is None or len(own) < len(rows) or not rows:
        return values
    if len(set(own)) < len(own):
        raise DataError(f"{file}: the id {next(i for i in own if own.count(i) > 1)[:60]!r} is repeated")
    at = dict(zip(own, values, strict=True))
    if missing := [i for i in ids if i not in at]:
        raise DataError(f"{file} has no row for {len(missing)} of {n} ids (first: {missing[0][:60]!r})")
    return [at[i] for i in ids]


def _matched(table: Any, file: Path, n: int, ids: Sequence[str] | None) -> Any:
    """The rows of a table in the order of the ids, or as they stand where either side has none."""
    if ids is None or ID not in table.columns:
        return table
    own = table[ID].astype(str)
    if own.duplicated().any():
        raise DataError(f"{file}: the id {own[own.duplicated()].iloc[0][:60]!r} is repeated")
    missing = sorted(set(ids) - set(own))
    if missing:
        raise DataError(f"{file} has no row for {len(missing)} of {n} ids (first: {missing[0][:60]!r})")
    return table.set_index(own).loc[list(ids)]


def _same_length(values: Sequence[Any], n: int, where: str) -> None:
    if len(values) != n:
        raise DataError(f"{where} has {len(values)} entries for {n} rows of embeddings; want one for each row")


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.lstrip("-").isdigit() and len(name) < 18 else (1, 0, name)
