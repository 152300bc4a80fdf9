"""Build the stamps set: photographs and drawings with captions in 58 languages and spoken captions in seven.

    python data/stamps/build.py [--out FOLDER]

Needs apt-get on a Debian system and the dev extra (resvg_py draws, soundfile decodes). About four minutes on one core.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from workbench.data.build import (
    Package,
    assign_splits,
    connected,
    fit_square,
    lossless_webp,
    near_duplicates,
    read_png,
    render_svg,
    run,
    unpacked,
    write_table,
)
from workbench.data.stamps import BANDS, FRAMES_PER_SECOND, RANGE_DB, SPEECH

SIZE = 96
PACKAGE = Package(
    "apt",
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    "tuxpaint-stamps-default_2022.06.04-1_all.deb",
)
CAPTIONS_WANTED = 900  # a language with fewer captions is left out
LISTEN = 12  # recordings kept as they are in every spoken language, to be listened to
COLOUR = {"red", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey", "pink"}
FILLER = {"a", "an", "the", "another", "some", "big", "little", "small", "large", "pair", "of"}
RATE, WINDOW = 16_000, 512


def read_captions(path: Path) -> dict[str, str]:
    """Caption of a stamp in every language that its text file has."""
    first, *others = path.read_text(encoding="utf8").split("\n")
    captions = {"en": first.strip()}
    for line in others:
        language, _, caption = line.partition(".utf8=")
        if caption.strip():
            captions[language.strip()] = caption.strip()
    return captions


def caption_key(caption: str, language: str) -> str:
    """What two captions must share to be one family: the words, in English without articles, sizes and colours."""
    words = re.sub(r"[\s.,!?;:…'’\"“”()\-]+", " ", caption.casefold()).split()
    kept = [w for w in words if w not in COLOUR | FILLER] if language == "en" else words
    return " ".join(kept or words)


def draw(stem: Path) -> np.ndarray:
    """The picture of a stamp, (96, 96, 4) uint8: its PNG, or its SVG where there is none; clear margins cut off."""
    png = stem.with_name(stem.name + ".png")
    return fit_square(read_png(png) if png.exists() else render_svg(stem.with_name(stem.name + ".svg"), 2 * SIZE), SIZE)


def recording(stem: Path, language: str) -> Path | None:
    """File of the spoken caption of a stamp; English ones carry no language in their name."""
    path = stem.with_name(stem.name + ("_desc.ogg" if language == "en" else f"_desc_{language}.ogg"))
    return path if path.exists() else None


def mel_filters() -> np.ndarray:
    """Triangles of equal width on the mel scale from 60 to 7,600 Hz, (BANDS, WINDOW / 2 + 1)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (60, 7600))
    edge = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    f = np.fft.rfftfreq(WINDOW, 1 / RATE)
    up = (f - edge[:-2, None]) / np.diff(edge)[:-1, None]
    down = (edge[2:, None] - f) / np.diff(edge)[1:, None]
    return np.maximum(0, np.minimum(up, down))


def log_mel(path: Path) -> np.ndarray | None:
    """Log-mel spectrogram, (BANDS, frames) uint8: 0 is RANGE_DB below the loudest value of the clip; silent ends cut off.

    None for a recording without sound.
    """
    import soundfile
    from scipy.signal import get_window, resample_poly

    sound, rate = soundfile.read(path, always_2d=True)
    common = math.gcd(rate, RATE)
    x = resample_poly(sound.mean(1), RATE // common, rate // common)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, WINDOW // 2), WINDOW)[:: RATE // FRAMES_PER_SECOND]
    power = np.abs(np.fft.rfft(frames * get_window("hann", WINDOW))) ** 2 @ mel_filters().T
    if power.max() < 1e-6:
        return None
    steps = 255 * (1 + 10 * np.log10(power / power.max() + 1e-12) / RANGE_DB)
    # 48 levels of 1.5 dB: finer ones double the file and cannot be seen.
    coded = (np.round(steps.clip(0) / 255 * 48)).astype(np.uint8)
    loud = np.flatnonzero(coded.max(1) >= 22)
    return coded[max(0, loud[0] - 2) : loud[-1] + 3].T


def build(folder: Path) -> None:
    """Write items, captions, spectrograms and a few recordings into `folder`."""
    with unpacked(PACKAGE) as source:
        root = source / "usr" / "share" / "tuxpaint" / "stamps"
        stems = sorted(p.with_suffix("") for p in root.rglob("*.txt"))
        stems = [s for s in stems if any(s.with_name(s.name + e).exists() for e in (".png", ".svg"))]
        names = [s.relative_to(root).as_posix() for s in stems]
        captions = [read_captions(s.with_name(s.name + ".txt")) for s in stems]
        pictures = [draw(s) for s in stems]
        marks = [p.read_text() if (p := s.with_name(s.name + ".dat")).exists() else "" for s in stems]
        items = {
            "stamp": names,
            "folder": [n.split("/")[0] for n in names],
            "subfolder": ["/".join(n.split("/")[:2]) if n.count("/") > 1 else n.split("/")[0] for n in names],
            "drawing": [not s.with_name(s.name + ".png").exists() or "/cartoon/" in n for s, n in zip(stems, names, strict=True)],
            "mirror": ["nomirror" not in m for m in marks],
            "caption": [c["en"] for c in captions],
        }
        write_speech(folder, stems, names)

    count = Counter(language for c in captions for language in c)
    languages = sorted(x for x, n in count.items() if n >= CAPTIONS_WANTED and x != "en")
    together = near_duplicates(pictures)
    for language in ["en", *languages]:
        first: dict[str, int] = {}
        keys = [(i, caption_key(c[language], language)) for i, c in enumerate(captions) if language in c]
        together += [(i, first.setdefault(key, i)) for i, key in keys]
    family = connected(len(names), together)
    items["family"] = pa.array(family, pa.int32())
    items["split"] = assign_splits([names[f] for f in family], items["folder"])
    items["image"] = pa.array([lossless_webp(p) for p in pictures], pa.binary())
    write_table(folder / "items.parquet", pa.table(items), plain=["image"])
    write_table(folder / "captions.parquet", pa.table({x: [c.get(x, "") for c in captions] for x in languages}))


def write_speech(folder: Path, stems: list[Path], names: list[str]) -> None:
    """Write one file of spectrograms a language, and the recordings of the stamps that can be heard in all of them."""
    spoken = [i for i, s in enumerate(stems) if all(recording(s, x) for x in SPEECH)]
    chosen = sorted(sorted(spoken, key=lambda i: hashlib.sha256(names[i].encode()).digest())[:LISTEN])
    listen: dict[str, list] = {"language": [], "item": [], "ogg": []}
    for language in SPEECH:
        files = [recording(s, language) for s in stems]
        mels = {i: mel for i, file in enumerate(files) if file and (mel := log_mel(file)) is not None}
        item = pa.array(list(mels), pa.int32())
        write_table(
            folder / f"speech_{language}.parquet",
            pa.table({"item": item, "mel": pa.array([m.tobytes() for m in mels.values()], pa.binary())}),
            plain=["mel"],
        )
        for i in chosen:
            listen["language"].append(language)
            listen["item"].append(i)
            listen["ogg"].append(files[i].read_bytes())  # type: ignore[union-attr]
    columns = {**listen, "item": pa.array(listen["item"], pa.int32()), "ogg": pa.array(listen["ogg"], pa.binary())}
    write_table(folder / "recordings.parquet", pa.table(columns), plain=["ogg"])


if __name__ == "__main__":
    run(build, __file__)
