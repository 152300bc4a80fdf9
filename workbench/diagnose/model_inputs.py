"""Pictures and captions for a model, and their embeddings, computed in batches and kept by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.diagnose.columns import PICTURES
from workbench.diagnose.records import Records, read_records
from workbench.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.models.images import ImagePreparation
    from workbench.models.wrappers import Pretrained

CAPTION = ("caption", "text")
FILES = ("file", "image", "file_name")
LARGEST_PICTURE = 100_000_000  # pixels that are decoded
BATCH = 64


@dataclass(frozen=True, eq=False)
class Captioned:
    """Pictures with their captions, row by row; either side may be missing as a whole.

    Attributes:
        pictures: files, or None where only texts are embedded.
        captions: texts, or None where only pictures are embedded.
        warnings: what was left out, counted.
    """

    pictures: tuple[Path, ...] | None
    captions: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures or self.captions or ())


def read_captioned(images: str | Path | None, captions: Any = None) -> Captioned:
    """A folder of pictures and the captions that belong to them.

    Args:
        images: the folder, or None for texts alone.
        captions: a file (csv, tsv, parquet, json, jsonl) with `caption` and the picture's name in `file`, `image` or `id`; or one caption for
            each picture in the order of their names (txt, list); None for pictures alone.

    Raises:
        DataError: no pictures, captions that fit no picture, empty or missing captions, or fewer than two rows.
    """
    if images is None and captions is None:
        raise ValueError("images or captions must be given")
    files = None if images is None else _files(Path(images))
    if captions is None:
        return _enough(Captioned(tuple(files or ()), None))
    records = _records(captions)
    for i, text in enumerate(records.values):
        if not isinstance(text, str):
            raise DataError(f"{records.where}, row {i}: want a caption, got {text!r:.60}")
    warnings: list[str] = []
    if records.unused:
        warnings.append(f"{records.where}: the fields {', '.join(records.unused)} are not used")
    if files is None:
        return _enough(_filled(None, records.values, warnings))
    if records.ids is None:
        if len(records) != len(files):
            raise DataError(
                f"{records.where} has {len(records)} captions for {len(files)} pictures; give one for each, or their names"
            )
        return _enough(_filled(files, records.values, warnings))
    first: dict[str, str] = {}
    for name, text in zip(records.ids, records.values, strict=True):
        first.setdefault(name, text)
    if len(first) < len(records):
        warnings.append(f"{records.where}: {len(records)} captions of {len(first)} pictures; the first one of each is used")
    found = {p: first[key] for p in files if (key := p.name if p.name in first else p.stem) in first}
    used = {p.name for p in found} | {p.stem for p in found}
    if not found:
        raise DataError(
            f"no picture in {images} is named in {records.where} (first there: {records.ids[0]!r:.60}, first picture: {files[0].name})"
        )
    for what, count, example in (
        ("pictures have no caption", len(files) - len(found), next((p.name for p in files if p not in found), "")),
        ("captions have no picture", len(set(first) - used), next((k for k in first if k not in used), "")),
    ):
        if count:
            warnings.append(f"{count} {what} and are left out (first: {example!r:.60})")
    return _enough(_filled(list(found), list(found.values()), warnings))


def embed_pictures(
    loaded: Pretrained, files: Sequence[Path], *, cache: Path | None, batch: int = BATCH
) -> tuple[np.ndarray, np.ndarray, int]:
    """Embeddings of picture files: (m, d) rows, (m,) places of the files that could be read, and how many came from the cache.

    Each picture is brought to the size of the model as its own preparation asks; a model that states no cut gets a picture padded
    with white to a square, so that nothing is distorted.
    """
    import torch

    prepare = preparation(loaded)
    digests = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]

    def compute(at: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        pixels, kept = [], []
        for i in at:
            if (picture := load_picture(files[i], prepare)) is not None:
                pixels.append(picture)
                kept.append(i)
        if not kept:
            return np.empty((0, 0), np.float32), []
        return loaded.embed_images(torch.stack(pixels), unit=False, batch_size=batch).cpu().numpy(), kept

    return _through(cache, _key(loaded, "image", repr(prepare)), digests, compute, batch, "pictures")


def embed_captions(loaded: Pretrained, texts: Sequence[str], *, cache: Path | None, batch: int = BATCH) -> tuple[np.ndarray, int]:
    """Embeddings (n, d) of texts, and how many came from the cache."""
    digests = [hashlib.sha256(t.encode("utf8", "surrogatepass")).hexdigest() for t in texts]

    def compute(at: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        return loaded.embed_texts([texts[i] for i in at], unit=False, batch_size=batch).cpu().numpy(), list(at)

    rows, _, known = _through(cache, _key(loaded, "text", ""), digests, compute, batch, "captions")
    return rows, known


def preparation(loaded: Pretrained) -> ImagePreparation:
    """How the model, or the image tower behind it, wants its pictures."""
    from workbench.models.wrappers_media import PretrainedBridge

    one = loaded._tower(0) if isinstance(loaded, PretrainedBridge) else loaded
    assert one.prepare is not None
    return one.prepare


def load_picture(path: Path, prepare: ImagePreparation) -> Tensor | None:
    """A picture file over white as (3, h, w) in [0, 1] at the size of the model; None where it cannot be read."""
    import torch
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_PICTURE:
                return None
            seen = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if prepare.shortest is None and seen.width != seen.height:
        side = max(seen.size)
        square = Image.new("RGBA", (side, side), (255, 255, 255, 255))
        square.paste(seen, ((side - seen.width) // 2, (side - seen.height) // 2), seen)
        seen = square
    white = Image.alpha_composite(Image.new("RGBA", seen.size, (255, 255, 255, 255)), seen).convert("RGB")
    pixels = torch.from_numpy(np.array(white)).permute(2, 0, 1)[None]
    # The colours are normalised later, in the batch: here only size and cut, up to the square that the cut is taken from.
    size = (prepare.shortest, prepare.shortest) if prepare.shortest else prepare.size
    return replace(prepare, size=size, mean=(0.0,) * 3, std=(1.0,) * 3)(pixels)[0]


def default_cache() -> Path:
    """Where embeddings are kept: `$WORKBENCH_CACHE` or the user's cache folder."""
    from workbench.data.build import cache_dir

    return cache_dir() / "embeddings"


def _through(
    cache: Path | None,
    key: str,
    digests: Sequence[str],
    compute: Callable[[Sequence[int]], tuple[np.ndarray, list[int]]],
    batch: int,
    title: str,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows for all digests: those of the cache, and the others computed batch by batch and added to it."""
    from workbench.runtime import progress

    path = None if cache is None else cache / f"{key}.npz"
    known = _load(path)
    wanted = [i for i, d in enumerate(digests) if d not in known]
    bar = progress(total=len(digests), title=title)
    bar.update(len(digests) - len(wanted))
    for start in range(0, len(wanted), batch):
        part = wanted[start : start + batch]
        rows, kept = compute(part)
        known |= {digests[i]: row for i, row in zip(kept, rows, strict=True)}
        bar.update(len(part))
    bar.close()
    if path is not None and wanted:
        _store(path, known)
    at = np.array([i for i, d in enumerate(digests) if d in known], dtype=np.int64)
    if not len(at):
        raise DataError(f"none of {len(digests)} {title} can be read")
    return np.stack([known[digests[i]] for i in at]).astype(np.float32), at, len(digests) - len(wanted)


def _load(path: Path | None) -> dict[str, np.ndarray]:
    if path is None or not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(zip(stored["digests"].tolist(), stored["rows"], strict=True))
    except (OSError, ValueError, KeyError, EOFError):
        return {}  # a damaged cache is computed again


def _store(path: Path, known: Mapping[str, np.ndarray]) -> None:
    scratch = path.with_name(f".{path.stem}-{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(scratch, digests=np.array(list(known)), rows=np.stack(list(known.values())))
        os.replace(scratch, path)
    except OSError:
        scratch.unlink(missing_ok=True)  # a cache that cannot be written only costs time


def _key(loaded: Pretrained, side: str, more: str) -> str:
    """What embeddings depend on beside the input: every weight, the precision and the preparation."""
    digest = hashlib.sha256(f"1|{side}|{loaded.kind}|{loaded.dtype}|{loaded.pooling}|{more}".encode())
    models = [loaded.model]
    if hasattr(loaded, "_tower"):
        models.append(loaded._tower(0 if side == "image" else 1).model)
    for model in models:
        for name, weight in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return f"{side}-{digest.hexdigest()[:32]}"


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give a folder of pictures ({', '.join(PICTURES)})")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
    if not files:
        raise DataError(f"{folder} has no pictures ({', '.join(PICTURES)})")
    return files


def _records(captions: Any) -> Records:
    if isinstance(captions, (str, Path)) and Path(captions).suffix.lower() != ".txt":
        records = read_records(captions, CAPTION)
        if name := next((f for f in FILES if f in records.unused), None):
            names = read_records(captions, (name,))
            return Records(
                records.where, tuple(map(str, names.values)), records.values, tuple(u for u in records.unused if u != name)
            )
        return records
    return read_records(captions, CAPTION, "captions")


def _filled(files: Sequence[Path] | None, texts: Sequence[str], warnings: list[str]) -> Captioned:
    """Without rows whose caption is empty."""
    keep = [i for i, t in enumerate(texts) if t.strip()]
    if len(keep) < len(texts):
        warnings.append(f"{len(texts) - len(keep)} of {len(texts)} captions are empty; their rows are left out")
    pictures = None if files is None else tuple(files[i] for i in keep)
    return Captioned(pictures, tuple(texts[i] for i in keep), tuple(warnings))


def _enough(found: Captioned) -> Captioned:
    if len(found) < 2:
        raise DataError(f"{len(found)} rows can be used, at least 2 are needed" + "".join(f"; {w}" for w in found.warnings))
    return found
