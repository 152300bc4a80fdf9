"""Captions of one system or two, with the truth about the same pictures: matched by id, nothing dropped without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.diagnose.columns import PICTURES
from workbench.diagnose.records import Records, read_records
from workbench.errors import DataError

CAPTION = ("caption", "prediction", "text")
REFERENCES = ("captions", "references", "caption", "reference", "text")
OBJECTS = ("objects", "labels", "object", "label")
Source = str | Path | Sequence[Any] | Mapping[Any, Any]


@dataclass(frozen=True, eq=False)
class CaptionInputs:
    """What a diagnosis of captions works on; entry i of every list is about the same picture.

    Attributes:
        names: of the systems, one or two.
        ids: of the pictures.
        captions: for each system its caption of each picture.
        references: for each picture what people wrote about it, or None.
        objects: for each picture the objects it shows, in lower case, or None.
        pictures: for each picture its file or None; None without a folder.
        warnings: everything that was left out or is odd, counted.
        stored: captions in each system's file.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    references: tuple[tuple[str, ...], ...] | None
    objects: tuple[tuple[str, ...], ...] | None
    pictures: tuple[Path | None, ...] | None
    warnings: tuple[str, ...]
    stored: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


def read_captions(
    predictions: Sequence[Source],
    *,
    references: Source | None = None,
    objects: Source | None = None,
    images: str | Path | None = None,
    names: Sequence[str] | None = None,
) -> CaptionInputs:
    """Read and match captions and the truth about their pictures.

    Args:
        predictions: one or two systems; each a file with `id` and `caption`, a list of captions, or a mapping id -> caption.
        references: captions by people: `captions` (a list) or `caption`, several rows of one id are joined.
        objects: what each picture shows: `objects`, a list of names (in csv: separated by semicolons).
        images: folder of pictures named by id.
        names: of the systems; by default those of the files.

    Raises:
        DataError: a file that cannot be read, ids repeated within one system, no common id, other numbers of rows without ids.
        ValueError: neither references nor objects, or another number of systems than one or two.
    """
    if not 1 <= len(predictions) <= 2:
        raise ValueError(f"predictions must be one system or two, got {len(predictions)}")
    if references is None and objects is None:
        raise ValueError("references or objects must be given: without the truth about a picture nothing can be called wrong")
    if names is not None and len(names) != len(predictions):
        raise ValueError(f"names must have one entry for each of {len(predictions)} systems, got {len(names)}")
    systems = [read_records(p, CAPTION, f"predictions {i + 1}") for i, p in enumerate(predictions)]
    called = tuple(names) if names else _names(predictions)
    warnings = [f"{r.where}: the fields {', '.join(r.unused)} are not used" for r in systems if r.unused]
    parts: list[tuple[str, dict[str, Any] | list[Any]]] = [(r.where, _by_id(r, _texts(r))) for r in systems]
    for source, read in ((references, _references), (objects, _objects)):
        if source is not None:
            parts.append(read(source, warnings))

    ids, columns = _matched(parts, warnings)
    truth = columns[len(systems) :]
    said = tuple(tuple(c) for c in columns[: len(systems)])
    for name, texts in zip(called, said, strict=True):
        if empty := sum(not t.strip() for t in texts):
            warnings.append(
                f"{name}: {empty} of {len(texts)} captions are empty; they stay in, mention nothing, and so count as captions without a fault"
            )
    shown = truth.pop(0) if references is not None else None
    listed = truth.pop(0) if objects is not None else None
    if listed is not None and (bare := sum(not v for v in listed)):
        warnings.append(f"{bare} of {len(ids)} pictures list no object; every mention in their captions counts as wrong")
    pictures = None if images is None else _pictures(Path(images), ids, warnings)
    return CaptionInputs(
        called,
        ids,
        said,
        None if shown is None else tuple(tuple(v) for v in shown),
        None if listed is None else tuple(tuple(v) for v in listed),
        pictures,
        tuple(warnings),
        tuple(len(r) for r in systems),
    )


def canonical(name: str) -> str:
    """An object's name in lower case with single spaces; '_' as in label files is a space."""
    return " ".join(name.replace("_", " ").lower().split())


def _names(predictions: Sequence[Source]) -> tuple[str, ...]:
    stems = [Path(p).stem if isinstance(p, (str, Path)) else f"captions {i + 1}" for i, p in enumerate(predictions)]
    return tuple(s if stems.count(s) == 1 else f"{s} ({i + 1})" for i, s in enumerate(stems))


def _texts(records: Records) -> tuple[str, ...]:
    bad = [i for i, v in enumerate(records.values) if not isinstance(v, str)]
    if bad:
        raise DataError(
            f"{records.where}: {len(bad)} of {len(records)} captions are no text (first: row {bad[0]}, {records.values[bad[0]]!r:.60})"
        )
    return records.values


def _by_id(records: Records, values: Sequence[Any]) -> dict[str, Any] | list[Any]:
    if records.ids is None:
        return list(values)
    counts = Counter(records.ids)
    if twice := [i for i, n in counts.items() if n > 1]:
        raise DataError(
            f"{records.where}: {len(twice)} ids are repeated, in {sum(counts[i] for i in twice)} rows (first: {twice[0]!r:.60}); "
            "want one row for each picture"
        )
    return dict(zip(records.ids, values, strict=True))


def _references(source: Source, warnings: list[str]) -> tuple[str, dict[str, Any] | list[Any]]:
    records = read_records(source, REFERENCES, "references")
    if records.unused:
        warnings.append(f"{records.where}: the fields {', '.join(records.unused)} are not used")
    values = [_list(v, f"{records.where}, row {i}", "a caption or a list of captions") for i, v in enumerate(records.values)]
    if without := sum(not any(t.strip() for t in v) for v in values):
        warnings.append(
            f"{records.where}: {without} of {len(values)} rows have no reference text; nothing in them counts as shown"
        )
    if records.ids is None:
        return records.where, values
    joined: dict[str, list[str]] = {}
    for key, texts in zip(records.ids, values, strict=True):
        joined.setdefault(key, []).extend(texts)
    if len(joined) < len(values):
        warnings.append(f"{records.where}: {len(values)} rows about {len(joined)} pictures; the references of one id are joined")
    return records.where, joined


def _objects(source: Source, warnings: list[str]) -> tuple[str, dict[str, Any] | list[Any]]:
    records = read_records(source, OBJECTS, "objects")
    if records.unused:
        warnings.append(f"{records.where}: the fields {', '.join(records.unused)} are not used")
    values = []
    for i, value in enumerate(records.values):
        if isinstance(value, str):
            value = [part for part in value.split(";") if part.strip()]
        elif isinstance(value, float) and value != value:
            value = []  # an empty cell of a table
        names = _list(value, f"{records.where}, row {i}", "a list of names")
        values.append([name for name in dict.fromkeys(map(canonical, names)) if name])
    return records.where, _by_id(records, values)


def _list(value: Any, where: str, wanted: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(v, str) for v in value):
        raise DataError(f"{where}: want {wanted}, got {value!r:.60}")
    return sorted(value) if isinstance(value, (set, frozenset)) else list(value)


def _matched(
    parts: Sequence[tuple[str, dict[str, Any] | list[Any]]], warnings: list[str]
) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Common ids and the columns in their order; by place where no file has ids."""
    with_ids = [isinstance(values, dict) for _, values in parts]
    if not any(with_ids):
        if len({len(values) for _, values in parts}) > 1:
            sizes = ", ".join(f"{where} has {len(values)} rows" for where, values in parts)
            raise DataError(f"{sizes}; without ids row i of each must be about the same picture")
        n = len(parts[0][1])
        if n < 2:
            raise DataError(f"{n} caption{'s' * (n != 1)} can be used, at least 2 are needed")
        return tuple(map(str, range(n))), [list(values) for _, values in parts]
    if not all(with_ids):
        none = ", ".join(where for (where, _), has in zip(parts, with_ids, strict=True) if not has)
        some = ", ".join(where for (where, _), has in zip(parts, with_ids, strict=True) if has)
        raise DataError(f"{some} has ids and {none} has none; give every row an id, or none")
    tables: list[dict[str, Any]] = [values for _, values in parts if isinstance(values, dict)]
    ids = [i for i in tables[0] if all(i in t for t in tables[1:])]
    if len(ids) < 2:
        firsts = ", ".join(f"{where} begins with {next(iter(t), '')!r:.40}" for (where, _), t in zip(parts, tables, strict=True))
        raise DataError(f"{len(ids)} ids are in every file, at least 2 are needed; {firsts}")
    common = set(ids)
    for (where, _), table in zip(parts, tables, strict=True):
        if extra := [i for i in table if i not in common]:
            warnings.append(
                f"{where}: {len(extra)} of {len(table)} ids are not in every other file and are left out (first: {extra[0]!r:.60})"
            )
    return tuple(ids), [[t[i] for i in ids] for t in tables]


def _pictures(folder: Path, ids: Sequence[str], warnings: list[str]) -> tuple[Path | None, ...]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give a folder of pictures ({', '.join(PICTURES)})")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
    by_name = {p.stem: p for p in files} | {p.name: p for p in files}
    found = tuple(by_name.get(i) for i in ids)
    if missing := sum(p is None for p in found):
        if missing == len(ids):
            raise DataError(f"{folder} has no picture named by an id (first id: {ids[0]!r:.60}; {len(files)} pictures there)")
        first = ids[found.index(None)]
        warnings.append(f"{folder} has no picture for {missing} of {len(ids)} ids (first: {first!r:.60})")
    return found
