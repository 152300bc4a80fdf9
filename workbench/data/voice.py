"""Voice: short telephone prompts spoken in five languages, one speaker each, aligned by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.dataset import Dataset
from workbench.data.files import data_dir, read_table, require_split
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

LANGUAGES = ("en", "es", "fr", "it", "ru")
TOPICS = ("digit", "letter", "phonetic", "day", "voicemail", "conference", "monitoring", "queue")
RATE = 8000


def load_voice(
    split: str = "train",
    *,
    language: str | Sequence[str] = LANGUAGES,
    seconds: float = 3.0,
    device: str | torch.device = "cpu",
) -> Dataset:
    """Recorded prompts as waveforms, one row for each prompt and language; fixed splits by prompt.

    Rows come prompt by prompt, the languages in the order given: with k languages, rows i * k to i * k + k - 1 are one prompt.

    Args:
        split: 'train' (70 %), 'val' (10 %), 'test' (20 %) or 'all'. A prompt is in one split in all its languages, and so are
            two prompts with one wording or one recording.
        language: one or several of `LANGUAGES`; each is one speaker.
        seconds: length of the waveforms, 0.1 to 10; longer recordings (up to 3 s) are cut, shorter ones padded with zeros.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        labels: the eight topics; captions: what is said, in English, as the file name tells it; factors: prompt (code),
        language (code), samples (length of the recording, at 8,000 a second, at most those kept); extras: waveform, (n, samples)
        float32 in [-1, 1), and prompt_name. The first call takes 0.3 s and keeps 13 MB for the later ones.

    Raises:
        UnknownNameError: split or language.
        TypeError, ValueError: seconds.
        DataError: a file of the set is missing or corrupt.

    Example:
        >>> ds = load_voice("test", language=("en", "fr"), seconds=1)
        >>> ds.extras["waveform"].shape[1], ds.captions[:2]
        (8000, ['fifteen', 'fifteen'])
    """
    require_split(split, "voice split")
    languages = (language,) if isinstance(language, str) else tuple(language) if isinstance(language, Sequence) else (language,)
    for one in languages:
        if one not in LANGUAGES:
            raise UnknownNameError("voice language", one, LANGUAGES)
    if not languages or len(set(languages)) < len(languages):
        raise ValueError(f"language must name one or several different languages, got {language!r}")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds must be a number, got {type(seconds).__name__} {seconds!r}")
    if not 0.1 <= seconds <= 10:
        raise ValueError(f"seconds must be from 0.1 to 10, got {seconds}")
    place = resolve_device(device)

    folder, width = str(data_dir()), round(seconds * RATE)
    prompts = _prompts(folder)
    index = ((prompts["split"] == split) | (split == "all")).nonzero()[0]
    waves = np.zeros((len(index), len(languages), width), dtype=np.int16)
    length = np.zeros((len(index), len(languages)), dtype=np.int64)
    for k, one in enumerate(languages):
        sounds = _sounds(folder, one)
        for i, row in enumerate(index):
            n = length[i, k] = min(len(sounds[row]), width)
            waves[i, k, :n] = sounds[row][:n]

    repeat = np.repeat(index, len(languages))
    topic = {name: i for i, name in enumerate(TOPICS)}
    factors = {
        "prompt": torch.from_numpy(repeat),
        "language": torch.tensor([LANGUAGES.index(x) for x in languages]).repeat(len(index)),
        "samples": torch.from_numpy(length.reshape(-1)),
    }
    extras: dict[str, Any] = {
        "waveform": torch.from_numpy(waves.reshape(-1, width)).to(place).float() / 32768,
        "prompt_name": prompts["prompt"][repeat].tolist(),
    }
    return Dataset(
        "voice",
        split,
        labels=torch.tensor([topic[t] for t in prompts["topic"][repeat]], dtype=torch.int64),
        label_names=TOPICS,
        captions=prompts["caption"][repeat].tolist(),
        factors=factors,
        factor_names={"prompt": prompts["prompt"].tolist(), "language": LANGUAGES},
        extras=extras,
    ).to(place)


def log_mel(waveform: Tensor, *, rate: int = RATE, bands: int = 40, hop: float = 0.01, window: float = 0.032) -> Tensor:
    r"""Log-mel spectrogram, the usual picture of a sound.

    .. math:: S = 10 \log_{10}(M\,|\mathrm{STFT}(x)|^2 + 10^{-8})

    Args:
        waveform: (n, samples) floating point, at least one window long.
        rate: samples a second.
        bands: triangular filters of equal width on the mel scale, from 60 Hz to 95 % of half the rate.
        hop: seconds from one frame to the next.
        window: seconds of one frame (Hann).

    Returns:
        (n, frames, bands) float, in decibels; silence is -80.

    Raises:
        TypeError, ValueError: waveform is not a (n, samples) float tensor with at least one window of samples.

    Example:
        >>> tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 8000)[None]
        >>> log_mel(tone).shape, int(log_mel(tone)[0].mean(0).argmax())
        (torch.Size([1, 101, 40]), 18)
    """
    size = round(window * rate)
    if not isinstance(waveform, Tensor) or not waveform.is_floating_point():
        raise TypeError(f"waveform must be a floating point tensor, got {type(waveform).__name__}")
    if waveform.ndim != 2 or waveform.shape[1] < size:
        raise ValueError(f"waveform must have shape (n, samples) with at least {size} samples, got {tuple(waveform.shape)}")
    shape = torch.hann_window(size, device=waveform.device, dtype=waveform.dtype)
    spectrum = torch.stft(waveform, size, round(hop * rate), window=shape, pad_mode="constant", return_complex=True)
    power = spectrum.abs() ** 2 / shape.sum() ** 2
    filters = torch.from_numpy(_mel_filters(rate, size, bands)).to(power)
    return 10 * torch.log10(filters @ power + 1e-8).transpose(1, 2)


@lru_cache(maxsize=8)
def _mel_filters(rate: int, size: int, bands: int) -> np.ndarray:
    low, high = (2595 * math.log10(1 + f / 700) for f in (60, 0.475 * rate))
    edge = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    f = np.fft.rfftfreq(size, 1 / rate)
    up = (f - edge[:-2, None]) / np.diff(edge)[:-1, None]
    down = (edge[2:, None] - f) / np.diff(edge)[1:, None]
    return np.maximum(0, np.minimum(up, down))


@lru_cache(maxsize=2)
def _prompts(folder: str) -> dict[str, np.ndarray]:
    table = read_table("voice", "prompts.parquet")
    return {c: np.array(table[c].to_pylist(), dtype=object) for c in ("prompt", "topic", "caption", "split")}


@lru_cache(maxsize=16)
def _sounds(folder: str, language: str) -> list[np.ndarray]:
    coded = read_table("voice", f"{language}.parquet", columns=["sound"])["sound"].to_pylist()
    # Stored as differences, low bytes first; 16-bit sums wrap around exactly as the differences did.
    return [np.cumsum(_words(c), dtype=np.int16) for c in coded]


def _words(coded: bytes) -> np.ndarray:
    low, high = np.frombuffer(coded, dtype=np.uint8).reshape(2, -1)
    return (low.astype(np.uint16) | (high.astype(np.uint16) << 8)).view(np.int16)
