"""Embedded files: where they lie, whether they are intact, and how tables and pictures are read from them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

SPLITS = ("train", "val", "test", "all")
CHECKSUMS = "SHA256SUMS"
CARD = "card.md"
CARD_FIELDS = ("name", "title", "version", "rows", "modalities", "licence", "embedded")


def data_dir() -> Path:
    """The folder of the embedded sets: `$WORKBENCH_DATA`, or `data/` beside the package.

    Raises:
        DataError: there is no such folder.
    """
    chosen = os.environ.get("WORKBENCH_DATA")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "data"
    if not folder.is_dir():
        why = "named by WORKBENCH_DATA" if chosen else "beside the package"
        raise DataError(
            f"no data folder {folder} ({why}); set WORKBENCH_DATA to the data/ folder of a checkout of the repository"
        )
    return folder


def set_names() -> list[str]:
    """Names of the sets that have a card in the data folder, sorted."""
    return sorted(card.parent.name for card in data_dir().glob(f"*/{CARD}"))


def require_split(split: str, kind: str = "split") -> None:
    """Raise UnknownNameError unless `split` is 'train', 'val', 'test' or 'all'."""
    if split not in SPLITS:
        raise UnknownNameError(kind, split, SPLITS)


# ---- integrity ---------------------------------------------------------------------------------------------------------------


def checksums(name: str) -> dict[str, str]:
    """The recorded SHA-256 of each file of a set, from `data/<name>/SHA256SUMS` (the format of `sha256sum`).

    Raises:
        DataError: the list is missing or unreadable.
    """
    path = data_dir() / name / CHECKSUMS
    sums = {}
    for number, line in enumerate(_read(name, path).decode(errors="replace").splitlines(), start=1):
        digest, _, file = line.partition("  ")
        if len(digest) != 64 or not file:
            raise DataError(f"{path}, line {number}: want '<64 hex digits>  <file>', got {line[:80]!r}; {_remedy(name, path)}")
        sums[file] = digest
    return sums


def verify(name: str) -> None:
    """Check every stored file of one set against its recorded SHA-256. A set that stores no files always passes.

    Raises:
        UnknownNameError: no set of that name.
        DataError: a file is missing or differs; the message names it and says how to get it back.
    """
    if name not in set_names():
        raise UnknownNameError("data set", name, set_names())
    if read_card(name)["embedded"]:
        for file in checksums(name):
            read_bytes(name, file)


def read_bytes(name: str, file: str) -> bytes:
    """Contents of one stored file of a set, checked against its recorded SHA-256.

    Raises:
        DataError: the file is missing, not listed, or differs from what was built.
    """
    path = data_dir() / name / file
    sums = checksums(name)
    if file not in sums:
        raise DataError(f"{path} is not listed in {path.parent / CHECKSUMS}; {_remedy(name, path)}")
    content = _read(name, path)
    if hashlib.sha256(content).hexdigest() != sums[file]:
        raise DataError(f"{path} is corrupt: its SHA-256 is not the recorded one ({len(content):,} bytes); {_remedy(name, path)}")
    return content


def read_card(name: str) -> dict[str, Any]:
    """The YAML front matter of `data/<name>/card.md`.

    Raises:
        DataError: the card is missing, has no front matter, or lacks a field.
    """
    import yaml

    path = data_dir() / name / CARD
    parts = _read(name, path).decode(errors="replace").split("---\n", 2)
    try:
        card = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError as error:
        raise DataError(f"{path}: the front matter is not YAML ({error}); {_remedy(name, path)}") from None
    card = card if isinstance(card, dict) else {}
    missing = [f for f in CARD_FIELDS if f not in card]
    if missing:
        raise DataError(f"{path}: the front matter lacks {', '.join(missing)}; {_remedy(name, path)}")
    return card


def describe_all() -> list[dict[str, Any]]:
    """One row for each set: name, title, rows, modalities, licence, bytes, checksum_ok and problem (None when all is well).

    A damaged set is a row with `checksum_ok` False, so that the others are still listed.
    """
    rows = []
    for name in set_names():
        row: dict[str, Any] = {"name": name, "title": name, "rows": 0, "modalities": [], "licence": "", "bytes": 0}
        row |= {"checksum_ok": True, "problem": None}
        try:
            card = read_card(name)
            row |= {field: card[field] for field in ("title", "rows", "modalities", "licence")}
            if card["embedded"]:
                stored = [data_dir() / name / file for file in checksums(name)]
                row["bytes"] = sum(path.stat().st_size for path in stored if path.is_file())
            verify(name)
        except DataError as error:
            row |= {"checksum_ok": False, "problem": str(error)}
        rows.append(row)
    return rows


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {_remedy(name, path)}") from None


def _remedy(name: str, path: Path) -> str:
    return f"bring it back with `git checkout -- data/{name}/{path.name}` or rebuild the set with `python data/{name}/build.py`"


# ---- tables and pictures -----------------------------------------------------------------------------------------------------


def read_table(
    name: str, file: str, *, columns: Sequence[str] | None = None, row_groups: Sequence[int] | None = None
) -> pa.Table:
    """A parquet file of a set (or these columns and row groups of it), after the checksum check.

    Raises:
        DataError: the file is missing or corrupt.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(pa.BufferReader(read_bytes(name, file)))
    groups = range(table.num_row_groups) if row_groups is None else row_groups
    return table.read_row_groups(list(groups), columns=None if columns is None else list(columns), use_threads=False)


def decode_pictures(encoded: Iterable[bytes], mode: str = "RGBA") -> np.ndarray:
    """Decode webp or png bytes of one common size to a (n, channels, h, w) uint8 array."""
    # Naming the formats and importing their plugins keeps Pillow from loading all its others (a second on a slow machine).
    from PIL import Image, PngImagePlugin, WebPImagePlugin  # noqa: F401

    pictures = [np.asarray(Image.open(io.BytesIO(one), formats=("WEBP", "PNG")).convert(mode)) for one in encoded]
    stacked = np.stack(pictures)
    return np.ascontiguousarray(stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2))


def require_size(size: object, *, largest: int = 256) -> int:
    """Return a picture size in pixels; raise unless it is an integer from 4 to `largest`."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise TypeError(f"size must be an integer number of pixels, got {type(size).__name__} {size!r}")
    if not 4 <= size <= largest:
        raise ValueError(f"size must be from 4 to {largest} pixels, got {size}")
    return int(size)


def resize(images: Tensor, size: int) -> Tensor:
    """Square (n, c, h, h) float pictures at another size: the exact mean of blocks where `size` divides h, otherwise
    antialiased bilinear interpolation. Pictures with transparency must be premultiplied, or hidden colour bleeds in."""
    from torch.nn.functional import avg_pool2d, interpolate  # a run only looks at the checksums here: it need not wait

    side = images.shape[-1]
    if side == size:
        return images
    if side % size == 0:
        return avg_pool2d(images, side // size)
    return interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def compose(rgba: Tensor, size: int, background: Sequence[float] | None) -> Tensor:
    r"""Resize straight-alpha pictures premultiplied and lay them over a background colour.

    .. math:: y = R(\alpha c) + (1 - R(\alpha)) \, b

    Args:
        rgba: (n, 4, h, h) uint8, straight (not premultiplied) alpha, as stored.
        size: side of the result in pixels.
        background: three numbers in [0, 1], or None.

    Returns:
        (n, 3, size, size) float32 in [0, 1]; with `background=None` (n, 4, size, size), premultiplied RGBA.

    Example:
        >>> import torch
        >>> red = torch.tensor([255, 0, 0, 255], dtype=torch.uint8).view(1, 4, 1, 1).repeat(1, 1, 8, 8)
        >>> red[:, 3, :, 4:] = 0                                        # the right half is transparent
        >>> compose(red, 4, (1.0, 1.0, 1.0))[0, 1, 0]
        tensor([0., 0., 1., 1.])
    """
    import torch

    out = torch.empty(len(rgba), 4 if background is None else 3, size, size, device=rgba.device)
    # In blocks: at 64 px a whole style in float32 would need four times the memory of the result.
    for start in range(0, len(rgba), 256):
        x = rgba[start : start + 256].float() / 255
        x = resize(torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1), size)
        if background is not None:
            x = x[:, :3] + (1 - x[:, 3:]) * torch.tensor(background, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
        out[start : start + 256] = x.clamp_(0, 1)
    return out


def require_background(background: object) -> tuple[float, float, float] | None:
    """Return a background colour; raise ValueError unless it is None or three numbers in [0, 1]."""
    if background is None:
        return None
    try:
        red, green, blue = (float(c) for c in background)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ValueError(f"background must be None or three numbers in [0, 1], got {background!r}") from None
    if not all(0 <= c <= 1 for c in (red, green, blue)):
        raise ValueError(f"background must be three numbers in [0, 1], got {background!r}; divide 8-bit colours by 255")
    return red, green, blue
