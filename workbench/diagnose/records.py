"""Reading rows with ids from json, jsonl, csv, tsv, parquet and txt files: whatever is wrong is named and counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import DataError

IDS = ("image_id", "id")  # COCO's captions have both: their own id, and that of the image they belong to
KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
LARGEST_FILE = 2 * 2**30  # bytes


@dataclass(frozen=True)
class Records:
    """Rows of one file.

    Attributes:
        where: the file, for messages.
        ids: the id of each row as text, or None where the file has none.
        values: what each row says.
        unused: fields that nothing was read from.
    """

    where: str
    ids: tuple[str, ...] | None
    values: tuple[Any, ...]
    unused: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)


def read_records(source: str | Path | Sequence[Any] | Mapping[Any, Any], fields: Sequence[str], where: str = "") -> Records:
    """One value and, where there is one, an id for each row.

    Args:
        source: a file; .jsonl and .json hold objects with one of `fields` and an id (`id` or `image_id`), plain values, or (.json) one
            object id -> value; .csv, .tsv and .parquet have these columns; .txt has a value on each line. Or a list of values, or a
            mapping id -> value.
        fields: names under which the value may stand, the first one present counts.
        where: name for messages where `source` is no file.

    Raises:
        DataError: no such file, not UTF-8, damaged, a row without the field, ids in some rows only, or ids that are no text or integer.
    """
    if isinstance(source, Mapping):
        return _with_ids(where, [(key, value) for key, value in source.items()], ())
    if not isinstance(source, (str, Path)):
        return Records(where, None, tuple(source))
    file = Path(source)
    rows = read_rows(file)
    if isinstance(rows, Mapping):
        rows = [{"id": key, fields[0]: value} for key, value in rows.items()]
    if not rows:
        raise DataError(f"{file} has no rows")
    plain = [not isinstance(row, Mapping) for row in rows]
    if all(plain):
        return Records(str(file), None, tuple(rows))
    if any(plain):
        raise DataError(f"{file}: {sum(plain)} of {len(rows)} rows have no field names (first: row {plain.index(True)})")
    return _from_objects(rows, fields, str(file))


def read_rows(file: Path) -> list[Any] | dict[str, Any]:
    """The rows of a file as they are: objects, plain values, or (.json) one object.

    Raises:
        DataError: as `read_records`.
    """
    suffix = file.suffix.lower()
    if suffix not in KINDS:
        raise DataError(f"{file} has the ending {suffix or '(none)'}; want {', '.join(KINDS)}")
    if suffix in (".csv", ".tsv", ".parquet"):
        from workbench.diagnose.arrays import read_table

        if not file.is_file():
            raise DataError(f"no file {file}")
        table = read_table(file)
        return [dict(zip(map(str, table.columns), row, strict=True)) for row in table.itertuples(index=False, name=None)]
    content = read_text(file)
    if suffix == ".txt":
        return lines(content)
    if suffix == ".jsonl":
        rows = []
        for number, line in enumerate(lines(content), 1):
            if line.strip():
                rows.append(_parse(line, f"{file}, line {number}: not JSON"))
        return rows
    whole = _parse(content, f"{file} is not JSON")
    if isinstance(whole, dict) and isinstance(whole.get("annotations"), list):
        return whole["annotations"]  # COCO's annotation files
    if not isinstance(whole, (list, dict)):
        raise DataError(f"{file}: want a list with one entry for each row, got {type(whole).__name__}")
    return whole


def read_text(file: Path) -> str:
    """The text of a file.

    Raises:
        DataError: no such file, too large, or not UTF-8.
    """
    if not file.is_file():
        raise DataError(f"no file {file}")
    if file.stat().st_size > LARGEST_FILE:
        raise DataError(f"{file} has {file.stat().st_size / 2**30:.1f} GiB, the limit is {LARGEST_FILE / 2**30:.0f} GiB")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def lines(content: str) -> list[str]:
    """Lines by their ends alone: str.splitlines also breaks at characters that may stand inside a caption or a JSON text."""
    parts = content.replace("\r\n", "\n").split("\n")
    return parts[:-1] if parts and not parts[-1] else parts


def _from_objects(rows: Sequence[Mapping[str, Any]], fields: Sequence[str], where: str) -> Records:
    known = list(dict.fromkeys(str(key) for row in rows for key in row))
    field = next((name for name in fields if name in known), None)
    if field is None:
        raise DataError(f"{where} has no field {' or '.join(fields)}; it has {', '.join(known)[:200]}")
    missing = [i for i, row in enumerate(rows) if field not in row]
    if missing:
        raise DataError(f"{where}: {len(missing)} of {len(rows)} rows have no field {field} (first: row {missing[0]})")
    key = next((name for name in IDS if name in known), None)
    unused = tuple(name for name in known if name not in (field, key, *IDS))
    if key is None:
        return Records(where, None, tuple(row[field] for row in rows), unused)
    return _with_ids(where, [(row.get(key), row[field]) for row in rows], unused)


def _with_ids(where: str, rows: Sequence[tuple[Any, Any]], unused: tuple[str, ...]) -> Records:
    ids = []
    for i, (key, _) in enumerate(rows):
        if isinstance(key, float) and key.is_integer():
            key = int(key)  # what a table makes of integers beside a gap
        if isinstance(key, (bool, np.bool_)) or not isinstance(key, (str, int, np.integer)) or key == "":
            bad = sum(not isinstance(k, (str, int, float, np.integer)) or k == "" or k != k for k, _ in rows)
            raise DataError(f"{where}: {max(1, bad)} of {len(rows)} rows have no id (first: row {i}, {key!r:.40})")
        ids.append(str(key))
    return Records(where, tuple(ids), tuple(value for _, value in rows), unused)


def _parse(text: str, what: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _Twice as error:
        raise DataError(
            f"{what.split(': not')[0].removesuffix(' is not JSON')}: the key {str(error)[:60]!r} is repeated"
        ) from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{what} ({str(error)[:80]})") from None


class _Twice(Exception):
    """A key that occurs twice: Python would keep the last and say nothing."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found
