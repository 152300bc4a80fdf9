"""Build the voice set: short telephone prompts spoken in five languages, aligned by name.

    python data/voice/build.py [--out FOLDER]

Needs apt-get on a Debian system. Half a minute on one core.
"""

from __future__ import annotations

import hashlib
import re
import wave
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa

from workbench.data.build import Package, assign_splits, connected, run, unpacked, write_table
from workbench.data.voice import LANGUAGES, RATE, TOPICS

VERSION = "1.6.1-1"
PACKAGES = {
    language: Package(
        "apt", f"asterisk-core-sounds-{language}-wav", VERSION, digest, f"asterisk-core-sounds-{language}-wav_{VERSION}_all.deb"
    )
    for language, digest in {
        "en": "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
        "es": "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
        "fr": "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
        "it": "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
        "ru": "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201",
    }.items()
}
LONGEST = 3.0  # seconds, in every language
MOST = 16  # prompts of a topic that is not a list of words
PATTERNS = {
    "digit": r"digits/\d+",
    "letter": r"letters/[a-z]",
    "phonetic": r"phonetic/._p",
    "day": r"digits/day-\d",
    "voicemail": r"vm-.*",
    "conference": r"conf(bridge)?-.*",
    "monitoring": r"spy-.*",
    "queue": r"(queue|agent)-.*",
}
NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
]
DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
ALPHABET = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
    "quebec",
    "romeo",
    "sierra",
    "tango",
    "uniform",
    "victor",
    "whiskey",
    "x-ray",
    "yankee",
    "zulu",
]


def topic_of(name: str) -> str | None:
    """Topic of a prompt by its file name; None for the ones that are left out."""
    return next((topic for topic, pattern in PATTERNS.items() if re.fullmatch(pattern, name)), None)


def caption_of(name: str, topic: str) -> str:
    """What is said, in English: the word for digits, letters and days, else the words of the file name."""
    last = name.rsplit("/", 1)[-1]
    if topic == "digit":
        return NUMBERS[int(last) if int(last) <= 20 else 18 + int(last) // 10]
    if topic == "letter":
        return last
    if topic == "phonetic":
        return ALPHABET[ord(last[0]) - ord("a")]
    if topic == "day":
        return DAYS[int(last[-1])]
    return re.sub("[-_]+", " ", last.split("-", 1)[1])


def read_wave(path: Path) -> np.ndarray:
    """Samples of a mono 16-bit recording at 8 kHz."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (RATE, 2, 1), path
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def build(folder: Path) -> None:
    """Write prompts.parquet and one file of recordings a language into `folder`."""
    assert tuple(PATTERNS) == TOPICS
    sounds: dict[str, dict[str, np.ndarray]] = {}
    with ExitStack() as stack:
        for language in LANGUAGES:
            sounds_folder = stack.enter_context(unpacked(PACKAGES[language])) / "usr" / "share" / "asterisk" / "sounds"
            (root,) = [p for p in sounds_folder.iterdir() if p.is_dir() and not p.is_symlink()]
            found = {p.relative_to(root).with_suffix("").as_posix(): p for p in sorted(root.rglob("*.wav"))}
            sounds[language] = {name: read_wave(path) for name, path in found.items() if topic_of(name)}
    shared = [n for n in sorted(sounds["en"]) if all(n in s and len(s[n]) <= LONGEST * RATE for s in sounds.values())]
    names: list[str] = []
    for topic in TOPICS:
        mine = [n for n in shared if topic_of(n) == topic]
        most = len(mine) if topic in ("digit", "letter", "phonetic", "day") else MOST
        names += sorted(sorted(mine, key=lambda n: hashlib.sha256(n.encode()).digest())[:most])

    topics = [str(topic_of(n)) for n in names]
    captions = [caption_of(n, t) for n, t in zip(names, topics, strict=True)]
    # One recording, or one wording (but for a number at its end), under two names is one family.
    first: dict[str, int] = {}
    keys = [(i, re.sub(r"\W|\d+$", "", c.lower())) for i, c in enumerate(captions)]
    keys += [(i, hashlib.sha256(s[n].tobytes()).hexdigest()) for s in sounds.values() for i, n in enumerate(names)]
    family = connected(len(names), [(i, first.setdefault(key, i)) for i, key in keys])
    columns = {
        "prompt": names,
        "topic": topics,
        "caption": captions,
        "family": pa.array(family, pa.int32()),
        "split": assign_splits([names[f] for f in family], topics),
    }
    write_table(folder / "prompts.parquet", pa.table(columns))
    for language, mine in sounds.items():
        # Differences, low bytes before high bytes: a quarter smaller, and exact.
        difference = [np.diff(mine[n], prepend=np.int16(0)).astype("<i2").view(np.uint8).reshape(-1, 2).T for n in names]
        coded = pa.array([d.tobytes() for d in difference], pa.binary())
        write_table(folder / f"{language}.parquet", pa.table({"prompt": names, "sound": coded}), plain=["sound"])


if __name__ == "__main__":
    run(build, __file__)
