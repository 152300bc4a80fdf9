"""Reading a user's embeddings: npy, npz, parquet, csv and safetensors; nothing is executed, nothing is dropped in silence."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import DataError

SUFFIXES = (".npy", ".npz", ".parquet", ".csv", ".tsv", ".safetensors")
LARGEST = 16 * 2**30  # bytes that a file may unpack to
ID = "id"
TEXTS = ("text", "caption")
DESCRIBING = (ID, *TEXTS, "label", "image", "file")  # columns that tell of a row and are no part of its vector


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One set of embeddings as it was read.

    Attributes:
        name: the file's name without its ending, or the name of the array in it.
        values: (n, d) float32, every entry finite and no row zero.
        rows: (n,) int64, where each row stood in the file: rows without a direction are left out.
        ids: the file's column `id`, one for each stored row, or None.
        columns: further columns that tell of the stored rows: text, caption, label, image, file.
        warnings: what was left out or is odd, one sentence each, with counts.
        length: rows in the file.
    """

    name: str
    values: np.ndarray
    rows: np.ndarray
    ids: tuple[str, ...] | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    length: int = 0

    def __len__(self) -> int:
        return len(self.values)


def read_embeddings(source: str | Path | np.ndarray, *, name: str | None = None) -> Embeddings:
    """Embeddings from a file or an array, checked row by row.

    A file with several arrays is told which one to take by `FILE::NAME`. Tables give their vectors either as one column of
    lists or as numeric columns; the columns id, text, caption, label, image and file describe the rows.

    Args:
        source: path, `path::array`, or an (n, d) array.
        name: name to use in the report; by default the file's.

    Returns:
        `Embeddings` in float32. Rows with NaN or infinite entries and rows of zeros have no direction: they are left out, counted
        in `warnings` and missing in `rows`.

    Raises:
        DataError: no such file, an unknown ending, a damaged or pickled file, text where numbers are wanted, arrays of another
            shape than (n, d), repeated ids, or fewer than two rows that can be used.
    """
    if isinstance(source, np.ndarray):
        return _checked(name or "embeddings", source, {}, name or "the array")
    path, _, key = str(source).partition("::")
    file = Path(path)
    if not file.is_file():
        raise DataError(f"no file {file}; give one of the kinds {', '.join(SUFFIXES)}")
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{file} has the ending {suffix or '(none)'}; embeddings are read from {', '.join(SUFFIXES)}")
    if suffix in (".parquet", ".csv", ".tsv"):
        values, columns = _from_table(read_table(file), file)
        if key:
            raise DataError(f"{file}::{key}: only npz and safetensors files hold arrays by name")
        return _checked(name or file.stem, values, columns, str(file))
    arrays = _arrays(file, suffix)
    if key and key not in arrays:
        raise DataError(f"{file} has no array {key!r}, it has {', '.join(arrays)}")
    chosen = [key] if key else [n for n, a in arrays.items() if a.ndim == 2 and np.issubdtype(a.dtype, np.number)]
    if len(chosen) != 1:
        held = ", ".join(f"{n} {a.dtype} {a.shape}" for n, a in arrays.items()) or "no array"
        wanted = "say which one, as in" if chosen else "want one array of shape (n, d), as in"
        raise DataError(f"{file} holds {held}; {wanted} {file.name}::NAME")
    label = file.stem if len(arrays) == 1 else f"{file.stem}::{chosen[0]}"
    ids = {ID: arrays[ID].astype(str).tolist()} if ID in arrays and arrays[ID].ndim == 1 else {}
    return _checked(name or label, arrays[chosen[0]], ids, str(file))


def read_table(file: Path) -> Any:
    """A parquet, csv or tsv file as a pandas table.

    Raises:
        DataError: the file is damaged, not UTF-8, has no header, or names a column twice.
    """
    import pandas as pd

    try:
        if file.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            size = sum(
                pq.ParquetFile(file).metadata.row_group(i).total_byte_size for i in range(pq.ParquetFile(file).num_row_groups)
            )
            _limit(size, file)
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, sep="\t" if file.suffix.lower() == ".tsv" else ",", encoding="utf-8", dtype={ID: str})
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; save the table as UTF-8") from None
    except DataError:
        raise
    # Each reader has errors of its own; the user needs the reason in one line.
    except Exception as error:
        raise DataError(f"{file} cannot be read as {file.suffix[1:]} ({_line(error)})") from None
    # pandas renames a repeated column to name.1, so it is looked for in the header.
    if file.suffix.lower() != ".parquet" and len(table.columns):
        header = file.open(encoding="utf-8").readline().strip().split("\t" if file.suffix.lower() == ".tsv" else ",")
        twice = sorted({c for c in header if header.count(c) > 1})
        if twice:
            raise DataError(f"{file} names the column {twice[0]!r} twice")
    if not len(table):
        raise DataError(f"{file} has no rows")
    return table


def _arrays(file: Path, suffix: str) -> dict[str, np.ndarray]:
    try:
        if suffix == ".npy":
            # Mapped, so that a header that claims a billion rows is compared with the size of the file before memory is asked for.
            return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False)}
        if suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                _limit(sum(entry.file_size for entry in archive.infolist()), file)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        from safetensors.torch import load_file

        tensors = load_file(file)
        return {name: t.float().numpy() if t.is_floating_point() else t.numpy() for name, t in tensors.items()}
    except DataError:
        raise
    except Exception as error:
        reason = _line(error)
        if "allow_pickle" in reason or "pickled" in reason:
            raise DataError(
                f"{file} holds Python objects, which are not read; save numbers, such as x.astype('float32')"
            ) from None
        raise DataError(f"{file} cannot be read as {suffix[1:]} ({reason})") from None


def _from_table(table: Any, file: Path) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Vectors and describing columns of a table."""
    columns = {str(c).lower(): table[c].tolist() for c in table.columns if str(c).lower() in DESCRIBING}
    rest = [c for c in table.columns if str(c).lower() not in DESCRIBING]
    lists = [c for c in rest if table[c].map(lambda v: isinstance(v, (list, tuple, np.ndarray))).all()]
    numeric = [c for c in rest if np.issubdtype(np.asarray(table[c]).dtype, np.number)]
    if len(lists) == 1:
        lengths = table[lists[0]].map(len)
        if lengths.nunique() > 1:
            row = int((lengths != lengths.iloc[0]).to_numpy().argmax())
            raise DataError(
                f"{file}, row {row}, column {lists[0]}: a list of {int(lengths.iloc[row])} values, row 0 has {int(lengths.iloc[0])}"
            )
        try:
            return np.array(table[lists[0]].tolist(), dtype=np.float64), columns
        except (TypeError, ValueError):
            raise DataError(f"{file}, column {lists[0]}: want lists of numbers") from None
    if len(lists) > 1:
        raise DataError(f"{file} has the columns of lists {', '.join(map(str, lists))}; keep the one that is the embedding")
    for c in rest:
        if c not in numeric:
            bad = next(((i, v) for i, v in enumerate(table[c].tolist()) if not _is_number(v)), (0, table[c].iloc[0]))
            raise DataError(f"{file}, row {bad[0]}, column {c}: want a number, got {bad[1]!r:.60}")
    if not numeric:
        raise DataError(f"{file} has no numeric column and no column of lists; columns: {', '.join(map(str, table.columns))}")
    return table[numeric].to_numpy(dtype=np.float64), columns


def _checked(name: str, values: np.ndarray, columns: dict[str, list[Any]], where: str) -> Embeddings:
    if values.ndim != 2:
        raise DataError(f"{where}: want an array of shape (n, d), got {values.shape}")
    if not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
        raise DataError(f"{where}: want real numbers, got {values.dtype}")
    if values.shape[1] == 0:
        raise DataError(f"{where}: want at least one column, got shape {values.shape}")
    total = len(values)
    with np.errstate(over="ignore"):  # what leaves float32 becomes infinite and is counted below
        x = np.array(values, dtype=np.float32)
    ids = tuple(map(str, columns[ID])) if ID in columns else None
    if ids is not None and len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise DataError(f"{where}: {len(ids) - len(set(ids))} ids are repeated (first: {twice[:60]!r}); ids must be different")
    finite = np.isfinite(x).all(axis=1)
    zero = finite & ~x.any(axis=1)
    keep = finite & ~zero
    warnings = []
    for bad, what in ((~finite, "NaN or infinite entries"), (zero, "only zeros")):
        if bad.any():
            first = ", ".join(map(str, np.flatnonzero(bad)[:5]))
            warnings.append(
                f"{name}: {int(bad.sum())} of {total} rows have {what} and are left out (rows {first}{', ...' if bad.sum() > 5 else ''})"
            )
    rows = np.flatnonzero(keep)
    if len(rows) < 2:
        raise DataError(
            f"{where}: {len(rows)} of {total} rows can be used, at least 2 are needed" + "".join(f"; {w}" for w in warnings)
        )
    return Embeddings(
        name,
        x[rows] if len(rows) < total else x,
        rows,
        ids,
        {c: v for c, v in columns.items() if c != ID},
        tuple(warnings),
        total,
    )


def _limit(size: int, file: Path) -> None:
    if size > LARGEST:
        raise DataError(
            f"{file} unpacks to {size / 2**30:.1f} GiB, the limit is {LARGEST / 2**30:.0f} GiB; store float16, or fewer rows"
        )


def _is_number(value: object) -> bool:
    try:
        return not math.isnan(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _line(error: Exception) -> str:
    return ((str(error).strip() or type(error).__name__).splitlines()[0])[:160]
