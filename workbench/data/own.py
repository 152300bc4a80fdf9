"""Your own data in the shape of the embedded sets: a folder of pictures with a table, a parquet file, or an npz file."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.files import compose, require_background, require_size
from workbench.errors import DataError, UnknownNameError
from workbench.runtime import resolve_device

TABLE = "captions.csv"
LARGEST_PICTURE = 50_000_000  # pixels
LARGEST_ARRAYS = 8 * 2**30  # bytes
KNOWN = ("file", "image", "caption", "label", "split")


def load_own(
    path: str | Path,
    split: str = "all",
    *,
    size: int = 64,
    background: Sequence[float] | None = (1.0, 1.0, 1.0),
    device: str | torch.device = "cpu",
) -> Dataset:
    """Your own data as a `Dataset`, from a folder, a parquet file or an npz file; nothing in it is executed.

    - Folder: pictures (png, jpeg, webp, gif, bmp) and `captions.csv` in UTF-8 with a header. Column `file` names the picture,
      inside the folder; `caption`, `label` and `split` are optional.
    - Parquet: the same columns, but for `image`: encoded bytes, or a struct with `bytes` (as Hugging Face `datasets` writes it).
    - npz (without pickle): `images` (n, c, h, w) or (n, h, w, c), uint8 or floats in [0, 1], and `captions`, `labels`, `split`.

    Every other column of numbers becomes a float32 factor, and every other column of texts a factor of codes.

    Args:
        path: the folder or file.
        split: 'all', or a name that stands in the column `split`.
        size: side of the pictures in pixels. Pictures from files keep their proportions and are centred; arrays of another size
            are refused, not resized, unless they are square.
        background: colour around and behind pictures; None gives 4 channels, premultiplied RGBA. Arrays are left as they are.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        A `Dataset` named after the file or folder. Labels are codes of the sorted distinct values.

    Raises:
        DataError: something in the data is missing, damaged or not what its column wants; file, row and column are named.
        UnknownNameError: no row has that split.
        TypeError, ValueError: size or background.
    """
    path, place = Path(path), resolve_device(device)
    size, background = require_size(size), require_background(background)
    if path.is_dir():
        columns, where = _read_folder(path)
    elif not path.is_file():
        raise DataError(f"no file or folder {path}; give a folder with {TABLE}, a .parquet or a .npz file")
    elif path.suffix == ".parquet":
        columns, where = _read_parquet(path)
    elif path.suffix == ".npz":
        columns, where = _read_npz(path)
    else:
        raise DataError(f"{path} is neither a folder with {TABLE} nor a .parquet nor a .npz file")

    n = len(next(iter(columns.values())))
    if n == 0:
        raise DataError(f"{where} has no rows")
    rows = np.arange(n)
    if "split" in columns:
        names = [str(s) for s in columns.pop("split")]
        if split != "all":
            rows = np.flatnonzero([s == split for s in names])
            if not len(rows):
                raise UnknownNameError(f"split of {where}", split, [*sorted(set(names)), "all"])
    elif split != "all":
        raise UnknownNameError(f"split of {where} (it has no column split)", split, ["all"])
    columns = {name: column[rows] for name, column in columns.items()}

    images = None
    if "images" in columns:
        images = _array_pictures(columns.pop("images"), size, where)
    elif "image" in columns:
        images = _decode(columns.pop("image"), rows, size, background, where)
    captions = _captions(columns.pop("caption"), rows, where) if "caption" in columns else ()
    labels: Tensor | None = None
    label_names: list[str] = []
    if "label" in columns:
        labels, label_names = _coded(columns.pop("label"), rows, where, "label")
    extras = {"file": columns.pop("file").tolist()} if "file" in columns else {}
    factors: dict[str, Tensor] = {}
    factor_names: dict[str, Sequence[str]] = {}
    for name, column in columns.items():
        numbers = _numbers(column, rows, where, name)
        if numbers is not None:
            factors[name] = numbers
        else:
            factors[name], factor_names[name] = _coded(column, rows, where, name)
    data = Dataset(path.stem, split, images, labels, label_names, captions, factors, factor_names, extras)
    return data.to(place)


load_folder = load_own


# ---- reading -----------------------------------------------------------------------------------------------------------------


def _read_folder(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    table = folder / TABLE
    if not table.is_file():
        raise DataError(f"{folder} has no {TABLE}; write one with a header such as 'file,caption' and a row for each picture")
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = table.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{table}, line {row}: not UTF-8; save the table as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _require_header(header, table)
        records = []
        for record in reader:
            if not record:
                continue
            if len(record) != len(header):
                raise DataError(
                    f"{table}, line {reader.line_num}: {len(record)} fields, the header has {len(header)} ({', '.join(header)}); "
                    "put texts with commas in double quotes"
                )
            records.append(record)
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: not a csv table ({error})") from None
    if "file" not in header:
        raise DataError(f"{table}: no column 'file'; the header has {', '.join(header)}")
    columns = {name: _objects([record[i] for record in records]) for i, name in enumerate(header)}
    root, pictures = folder.resolve(), []
    for row, name in enumerate(columns["file"].tolist()):
        try:
            file = (root / name).resolve()
            inside = file.is_relative_to(root) and file.is_file()
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise DataError(f"{table}, row {row}, column file: no picture {name[:80]!r} inside {folder}")
        pictures.append(file)
    columns["image"] = _objects(pictures)
    return columns, str(table)


def _read_parquet(path: Path) -> tuple[dict[str, np.ndarray], str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet ({str(error).splitlines()[0][:120]})") from None
    _require_header(table.schema.names, path)
    columns = {}
    for name in table.schema.names:
        values = table[name].to_pylist()
        if name == "image":
            values = [v.get("bytes") if isinstance(v, Mapping) else v for v in values]
        columns[name] = _objects(values)
    return columns, str(path)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str]:
    columns = {}
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > LARGEST_ARRAYS:
            raise DataError(f"{path} holds {total / 2**30:.1f} GiB of arrays, the limit is {LARGEST_ARRAYS / 2**30:.0f} GiB")
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                try:
                    columns[{"captions": "caption", "labels": "label"}.get(name, name)] = arrays[name]
                except ValueError as error:
                    remedy = "save numbers or fixed-width texts, such as np.array(texts, dtype=str)"
                    raise DataError(f"{path}, array {name}: {error}; {remedy}") from None
    # A header may claim more rows than there is memory, or than fit into a number.
    except (zipfile.BadZipFile, OSError, EOFError, MemoryError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as npz ({str(error)[:120]})") from None
    _require_header(list(columns), path)
    lengths = {name: len(a) if a.ndim else 0 for name, a in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: all arrays must have one length, got {lengths}")
    for name, a in columns.items():
        if name != "images" and a.ndim != 1:
            raise DataError(f"{path}, array {name}: want shape ({lengths[name]},), got {a.shape}")
    return columns, str(path)


def _require_header(names: Sequence[str], where: Path) -> None:
    if not names:
        raise DataError(f"{where} is empty")
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated or "" in names:
        raise DataError(f"{where}: column names must be different and not empty, got {', '.join(map(repr, names))}")


# ---- columns -----------------------------------------------------------------------------------------------------------------


def _objects(values: Sequence[Any]) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _captions(column: np.ndarray, rows: np.ndarray, where: str) -> list[str]:
    for row, caption in zip(rows, column.tolist(), strict=True):
        if not isinstance(caption, str) or not caption.strip():
            raise DataError(f"{where}, row {row}, column caption: want a text, got {caption!r:.80}")
    return column.tolist()


def _coded(column: np.ndarray, rows: np.ndarray, where: str, name: str) -> tuple[Tensor, list[str]]:
    values = column.tolist()
    for row, value in zip(rows, values, strict=True):
        if isinstance(value, float) or not isinstance(value, (str, int)) or value == "":
            raise DataError(f"{where}, row {row}, column {name}: want a text or an integer, got {value!r:.80}")
    # Integers in the order of numbers, also when they come as text.
    whole = all(isinstance(v, int) or v.strip().lstrip("-").isdecimal() for v in values)
    known = sorted(set(values), key=(lambda v: (int(v), str(v))) if whole else str)
    code = {value: i for i, value in enumerate(known)}
    return torch.tensor([code[v] for v in values], dtype=torch.int64), [str(v) for v in known]


def _numbers(column: np.ndarray, rows: np.ndarray, where: str, name: str) -> Tensor | None:
    """The column as float32, or None where it holds texts that are not numbers."""
    try:
        numbers = [math.nan if v is None else float(v) for v in column.tolist()]
    except (TypeError, ValueError):
        return None
    for row, number in zip(rows, numbers, strict=True):
        if not math.isfinite(number):
            raise DataError(f"{where}, row {row}, column {name}: want a finite number, got {number}")
    return torch.tensor(numbers, dtype=torch.float32)


# ---- pictures ----------------------------------------------------------------------------------------------------------------


def _decode(column: np.ndarray, rows: np.ndarray, size: int, background: tuple[float, float, float] | None, where: str) -> Tensor:
    from PIL import Image

    squares = torch.zeros(len(column), 4, size, size, dtype=torch.uint8)
    for i, (row, source) in enumerate(zip(rows, column.tolist(), strict=True)):
        name = source.name if isinstance(source, Path) else "image"
        if not isinstance(source, (bytes, Path)):
            raise DataError(f"{where}, row {row}, column image: want the bytes of a picture, got {type(source).__name__}")
        try:
            formats = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
            with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=formats) as image:
                if image.width * image.height > LARGEST_PICTURE:
                    raise ValueError(f"{image.width} x {image.height} pixels, the limit is {LARGEST_PICTURE:,}")
                image.draft("RGB", (2 * size, 2 * size))
                picture = image.convert("RGBA").convert("RGBa")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{where}, row {row}: {name} is not a picture that can be read ({error})") from None
        scale = size / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        pixels = torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")))
        top, left = (size - height) // 2, (size - width) // 2
        squares[i, :, top : top + height, left : left + width] = pixels.permute(2, 0, 1)
    return compose(squares, size, background)


def _array_pictures(x: np.ndarray, size: int, where: str) -> Tensor:
    from workbench.data.files import resize

    if x.ndim != 4 or x.dtype.kind not in "uf" or (x.dtype.kind == "u" and x.dtype != np.uint8):
        raise DataError(
            f"{where}, array images: want uint8 or floats of shape (n, c, h, w) or (n, h, w, c), got {x.dtype} {x.shape}"
        )
    if x.shape[1] not in (1, 3, 4) and x.shape[3] in (1, 3, 4):
        x = x.transpose(0, 3, 1, 2)
    if x.shape[1] not in (1, 3, 4):
        raise DataError(f"{where}, array images: want 1, 3 or 4 channels, got shape {x.shape}")
    if x.shape[2] != x.shape[3]:
        raise DataError(f"{where}, array images: want square pictures, got {x.shape[2]} x {x.shape[3]}")
    images = torch.from_numpy(np.ascontiguousarray(x)).float()
    if x.dtype == np.uint8:
        images /= 255
    bad = ~((images >= 0) & (images <= 1)).flatten(1).all(1)
    if bad.any():
        raise DataError(f"{where}, array images, row {int(bad.nonzero()[0])}: floats must be in [0, 1] and not NaN")
    return resize(images, size)
