"""Stamps: 950 photographs and drawings with captions in 58 languages and spoken captions in seven."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.files import (
    compose,
    data_dir,
    decode_pictures,
    read_table,
    require_background,
    require_size,
    require_split,
)
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

# fmt: off
LANGUAGES = (
    "en", "ach", "af", "am", "an", "ast", "be", "bg", "ca", "ca@valencia", "cs", "da", "de", "el", "en_AU", "en_GB", "eo",
    "es", "eu", "ff", "fi", "fr", "ga", "gd", "gl", "gu", "hi", "hr", "hu", "hy", "id", "is", "it", "iu", "ja", "ka", "ko",
    "lv", "ml", "nb", "nl", "nn", "pl", "pt", "pt_BR", "ro", "ru", "sk", "sl", "son", "sq", "sr", "sr@latin", "sv", "tr",
    "uk", "vec", "vi",
)
# fmt: on
SPEECH = ("bg", "ca", "en", "es", "fr", "ro", "ru")
BANDS, FRAMES_PER_SECOND, RANGE_DB = 40, 40, 72.0
LEVELS = 48  # steps of 1.5 dB in which a spectrogram is stored


def load_stamps(
    split: str = "train",
    *,
    size: int = 48,
    language: str | Sequence[str] = "en",
    speech: str | Sequence[str] = (),
    seconds: float = 4.0,
    background: Sequence[float] | None = (1.0, 1.0, 1.0),
    device: str | torch.device = "cpu",
) -> Dataset:
    """Pictures, written captions and spoken captions of one thing, with fixed splits by family.

    Only rows that have everything that is asked for are returned, so all columns stay aligned row by row.

    Args:
        split: 'train' (70 %), 'val' (10 %), 'test' (20 %) or 'all'. No two splits share a caption in any language, or a
            nearly identical picture.
        size: side of the pictures in pixels; stored at 96. Resized premultiplied, on `device`.
        language: language of the captions, one of `LANGUAGES`; or several: the first fills `captions`, each other one
            `extras["captions_<language>"]`.
        speech: language or languages of the spoken captions, of `SPEECH` (English has 65); none by default.
        seconds: length of the spectrograms; longer recordings are cut at the end, shorter ones padded with silence.
        background: colour behind the picture, three numbers in [0, 1]; None gives 4 channels, premultiplied RGBA, whose
            last one is a mask of the thing.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        images (n, 3, size, size); labels: the 16 top folders; captions; factors, as codes:

        - subfolder (75, such as 'animals/birds'), stamp (0 to 949), family (its first stamp);
        - drawing: 1 for vector drawings and cartoons, 0 for the rest, most of them photographs;
        - mirror: 0 where the mirrored picture would be wrong, such as letters.

        extras: stamp_name; for each language of `speech`: speech_<language>, (n, frames, 40) float32 log-mel spectrogram,
        0 (72 dB below the loudest) to 1, 40 frames a second; and speech_frames_<language>, (n,) int64, how many are sound.
        The first call takes 0.6 s and keeps 35 MB for the later ones.

    Raises:
        UnknownNameError: split, language or speech.
        TypeError, ValueError: size, background or seconds.
        DataError: a file of the set is missing or corrupt.

    Example:
        >>> ds = load_stamps("test", language=("en", "fr"), speech="fr")
        >>> ds.captions[0], ds.extras["captions_fr"][0], ds.extras["speech_fr"].shape[1:]
        ('A blackbird.', 'Un merle.', torch.Size([160, 40]))
    """
    require_split(split, "stamps split")
    languages = _require_names(language, LANGUAGES, "caption language", at_least=1)
    voices = _require_names(speech, SPEECH, "speech language", at_least=0)
    size, background, frames = require_size(size), require_background(background), _require_frames(seconds)
    place = resolve_device(device)

    folder = str(data_dir())
    items, pixels = _items(folder)
    texts = {x: items["caption"] if x == "en" else _captions(folder, x) for x in languages}
    sounds = {x: _speech(folder, x) for x in voices}
    keep = (items["split"] == split) | (split == "all")
    for text in texts.values():
        keep &= text != ""
    for row, _, _ in sounds.values():
        keep &= row >= 0
    index = keep.nonzero()[0]

    extras: dict[str, Any] = {"stamp_name": items["stamp"][index].tolist()}
    extras |= {f"captions_{x}": texts[x][index].tolist() for x in languages[1:]}
    for x, (row, start, coded) in sounds.items():
        mel, length = _padded(row[index], start, coded, frames)
        extras |= {f"speech_{x}": mel.to(place).float() / LEVELS, f"speech_frames_{x}": length}
    folders, subfolders = (list(dict.fromkeys(items[c].tolist())) for c in ("folder", "subfolder"))
    factors = {"subfolder": _codes(items["subfolder"][index], subfolders), "stamp": torch.from_numpy(index)}
    factors |= {c: torch.from_numpy(items[c][index].astype(np.int64)) for c in ("family", "drawing", "mirror")}
    factor_names = {"subfolder": subfolders, "stamp": items["stamp"].tolist(), "family": items["stamp"].tolist()}
    images = compose(pixels[torch.from_numpy(index)].to(place), size, background)
    labels, captions = _codes(items["folder"][index], folders), texts[languages[0]][index].tolist()
    return Dataset("stamps", split, images, labels, folders, captions, factors, factor_names, extras).to(place)


def stamp_recordings(language: str) -> dict[int, bytes]:
    """Twelve spoken captions as they were recorded (Ogg Vorbis), to be played in a notebook; no decoder is needed for that.

    Args:
        language: one of `SPEECH`.

    Returns:
        Ogg bytes by stamp, the code in `factors["stamp"]`; the same stamps in every language.

    Raises:
        UnknownNameError: language.
        DataError: the file is missing or corrupt.

    Example:
        >>> len(stamp_recordings("fr")), next(iter(stamp_recordings("fr").values()))[:4]
        (12, b'OggS')
    """
    (language,) = _require_names(language, SPEECH, "speech language", at_least=1)
    rows = read_table("stamps", "recordings.parquet").to_pylist()
    return {row["item"]: row["ogg"] for row in rows if row["language"] == language}


def _require_names(value: object, known: Sequence[str], kind: str, at_least: int) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else (value,)
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)
    if len(set(names)) < max(at_least, len(names)):
        raise ValueError(f"{kind} must be one or several different names, got {value!r}")
    return names


def _require_frames(seconds: object) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds must be a number, got {type(seconds).__name__} {seconds!r}")
    if not (math.isfinite(seconds) and 0.1 <= seconds <= 60):
        raise ValueError(f"seconds must be from 0.1 to 60, got {seconds}")
    return round(seconds * FRAMES_PER_SECOND)


def _codes(values: np.ndarray, names: Sequence[str]) -> Tensor:
    code = {name: i for i, name in enumerate(names)}
    return torch.tensor([code[v] for v in values.tolist()], dtype=torch.int64)


def _padded(rows: np.ndarray, start: np.ndarray, coded: np.ndarray, frames: int) -> tuple[Tensor, Tensor]:
    """(n, frames, BANDS) uint8 spectrograms, zero where there is no sound, and how many frames of each are sound."""
    out = np.zeros((len(rows), frames, BANDS), dtype=np.uint8)
    length = np.minimum((start[rows + 1] - start[rows]) // BANDS, frames)
    for i, (row, n) in enumerate(zip(rows.tolist(), length.tolist(), strict=True)):
        out[i, :n] = coded[start[row] : start[row + 1]].reshape(BANDS, -1).T[:n]
    return torch.from_numpy(out), torch.from_numpy(length)


@lru_cache(maxsize=2)
def _items(folder: str) -> tuple[dict[str, np.ndarray], Tensor]:
    table = read_table("stamps", "items.parquet")
    pixels = torch.from_numpy(decode_pictures(table["image"].to_pylist()))
    texts = {c: np.array(table[c].to_pylist(), dtype=object) for c in ("stamp", "folder", "subfolder", "caption", "split")}
    return texts | {c: np.array(table[c].to_pylist()) for c in ("family", "drawing", "mirror")}, pixels


@lru_cache(maxsize=64)
def _captions(folder: str, language: str) -> np.ndarray:
    return np.array(read_table("stamps", "captions.parquet", columns=[language])[language].to_pylist(), dtype=object)


@lru_cache(maxsize=8)
def _speech(folder: str, language: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row of each stamp among the recordings (-1: none), where each recording starts, and all spectrograms end to end."""
    table = read_table("stamps", f"speech_{language}.parquet")
    mels = table["mel"].to_pylist()
    rows = np.full(len(_items(folder)[0]["stamp"]), -1)
    rows[table["item"].to_pylist()] = np.arange(len(mels))
    start = np.cumsum([0, *map(len, mels)])
    return rows, start, np.frombuffer(b"".join(mels), dtype=np.uint8)
