"""Build the verses set: 31,000 verses in two English translations and a Spanish one, aligned by book, chapter and verse.

    python data/verses/build.py [--out FOLDER]

Needs apt and dpkg; pysword, which reads the modules, is fetched and used from a temporary folder. About two minutes on one core.
"""

from __future__ import annotations

import re
import sys
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from workbench.data.build import Package, assign_splits, fetch, run, unpacked, write_table
from workbench.data.near_duplicates import without_overlap
from workbench.data.verses import BOOKS

READER = Package(
    "pip", "pysword", "0.2.8", "6302f350c22f39090e2556729551fac57a4c25ceb268f90cd7fd0584b9cca4f0", "pysword-0.2.8.tar.gz"
)
MODULES = {
    "kjv": (
        "engKJV2006eb",
        Package(
            "apt",
            "sword-text-kjv",
            "14.3-1",
            "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57",
            "sword-text-kjv_14.3-1_all.deb",
        ),
    ),
    "web": (
        "engWEB2015eb",
        Package(
            "apt",
            "sword-text-web",
            "426.0-1",
            "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
            "sword-text-web_426.0-1_all.deb",
        ),
    ),
    "rv": (
        "spaRV1909eb",
        Package(
            "apt",
            "sword-text-sparv",
            "2.60-1",
            "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
            "sword-text-sparv_2.60-1_all.deb",
        ),
    ),
}
NEAR = 0.8  # overlap of content words from which two verses of a translation count as the same
TEST_BOOKS = {"Genesis", "Psalms", "Proverbs", "Isaiah", "Matthew", "Mark", "Luke", "John", "Acts", "Romans"}
VAL_BOOKS = {"Leviticus", "Ruth", "Ecclesiastes", "Daniel", "I Corinthians", "Hebrews"}


def plain(osis: str) -> str:
    """A verse without markup, footnotes and psalm titles."""
    osis = re.split(r'<div [^>]*type="glossary"', osis)[0]  # a whole glossary follows the last verse
    text = re.sub(r"<note\b.*?</note>|<title\b.*?</title>", " ", osis, flags=re.S)
    text = re.sub(r"</?(l|lg|div|p|lb)\b[^>]*>", " ", text)
    text = re.sub(r"<[^>]+>", "", text).replace("¶", " ").replace("&amp;", "&")
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r" +([,.;:?!’”)])", r"\1", text)


def read_verses(translation: str, books: list[str]) -> dict[tuple[str, int, int], str]:
    """Every verse that a module has, by book, chapter and verse."""
    from pysword.modules import SwordModules

    module, package = MODULES[translation]
    with unpacked(package) as source:
        modules = SwordModules(str(source / "usr" / "share" / "sword"))
        modules.parse_modules()
        bible = modules.get_bible_from_module(module)
        bible._decompressed_text = lru_cache(maxsize=2)(bible._decompressed_text)  # or each verse unpacks its whole book
        found: dict[tuple[str, int, int], str] = {}
        structure = {book.name: book for part in bible.get_structure().get_books().values() for book in part}
        for name in books:
            for chapter, length in enumerate(structure[name].chapter_lengths, start=1):
                raws = list(bible.get_iter(books=[name], chapters=[chapter], clean=False))
                if len(raws) < length:  # the module lacks some verses: ask for them one by one
                    ask = [
                        bible.get_iter(books=[name], chapters=[chapter], verses=[v], clean=False) for v in range(1, length + 1)
                    ]
                    raws = [next(verse, "") for verse in ask]
                found |= {(name, chapter, v): text for v, raw in enumerate(raws, start=1) if (text := plain(raw))}
    return found


def like_long(*verses: str) -> bool:
    """False where one translation has far more text under a number than the others: verses joined, or a heading added."""
    lengths = sorted(map(len, verses))
    return lengths[-1] <= 2.6 * lengths[1] + 20


def set_apart(split: list[str], columns: dict[str, list[str]]) -> list[str]:
    """The split without the verses that repeat one of a later split in any translation."""
    views = [without_overlap(split, enumerate(texts), NEAR) for texts in columns.values()]
    return ["overlap" if "overlap" in row else row[0] for row in zip(*views, strict=True)]


def build(folder: Path) -> None:
    """Write verses.parquet into `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(fetch(READER)) as archive:
            archive.extractall(scratch, filter="data")
        sys.path.insert(0, str(Path(scratch) / "pysword-0.2.8"))
        texts = {name: read_verses(name, list(BOOKS)) for name in MODULES}
        sys.path.pop(0)
    places = [p for p in texts["kjv"] if p in texts["web"] and p in texts["rv"] and like_long(*(t[p] for t in texts.values()))]
    columns = {name: [found[place] for place in places] for name, found in texts.items()}
    books = [place[0] for place in places]
    by_book = ["test" if b in TEST_BOOKS else "val" if b in VAL_BOOKS else "train" for b in books]
    by_chapter = assign_splits([f"{b} {c}" for b, c, _ in places], [BOOKS[b] for b in books])
    write_table(
        folder / "verses.parquet",
        pa.table(
            {
                "book": books,
                "chapter": pa.array([c for _, c, _ in places], pa.int16()),
                "verse": pa.array([v for _, _, v in places], pa.int16()),
                **columns,
                "split": set_apart(by_book, columns),
                "split_by_chapter": set_apart(by_chapter, columns),
            }
        ),
    )


if __name__ == "__main__":
    run(build, __file__)
