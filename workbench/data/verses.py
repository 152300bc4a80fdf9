"""The Bible in two English translations and a Spanish one, verse by verse: human paraphrase and translation pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench.data.dataset import Dataset
from workbench.data.files import require_split
from workbench.data.texts import codes, columns_of, integers
from workbench.errors import UnknownNameError
from workbench.runtime import resolve_device

TRANSLATIONS = ("kjv", "web", "rv")  # King James (1769), World English Bible, Reina-Valera 1909
KINDS = ("law", "history", "wisdom", "prophets", "gospel/acts", "letters")
_BOOKS_OF = {
    "law": "Genesis,Exodus,Leviticus,Numbers,Deuteronomy",
    "history": "Joshua,Judges,Ruth,I Samuel,II Samuel,I Kings,II Kings,I Chronicles,II Chronicles,Ezra,Nehemiah,Esther",
    "wisdom": "Job,Psalms,Proverbs,Ecclesiastes,Song of Solomon",
    "prophets": (
        "Isaiah,Jeremiah,Lamentations,Ezekiel,Daniel,Hosea,Joel,Amos,Obadiah,Jonah,Micah,Nahum,Habakkuk,Zephaniah,Haggai,"
        "Zechariah,Malachi"
    ),
    "gospel/acts": "Matthew,Mark,Luke,John,Acts",
    "letters": (
        "Romans,I Corinthians,II Corinthians,Galatians,Ephesians,Philippians,Colossians,I Thessalonians,II Thessalonians,"
        "I Timothy,II Timothy,Titus,Philemon,Hebrews,James,I Peter,II Peter,I John,II John,III John,Jude,Revelation of John"
    ),
}
BOOKS = {book: kind for kind, books in _BOOKS_OF.items() for book in books.split(",")}


def load_verses(
    split: str = "train",
    *,
    translation: str = "web",
    partner: str | Sequence[str] = "kjv",
    split_by: str = "book",
    device: str | torch.device = "cpu",
) -> Dataset:
    """Verses of one translation, each with the same verse in another: paraphrase (web, kjv) or translation (web, rv).

    Args:
        split: 'train', 'val', 'test' or 'all'.
        translation: 'kjv' (King James), 'web' (World English Bible, modern English) or 'rv' (Reina-Valera 1909, Spanish).
        partner: another one, or several: the first fills `extras["partner"]`, and each has a column `extras["partner_<name>"]`.
        split_by: 'book' keeps whole books apart, and language models are pretrained on the books of its train split only; 'chapter'
            keeps chapters apart, about 70 / 10 / 20 in each kind of book, for classifiers. In both, a verse that nearly repeats one of a
            later split (train before val before test) is in none of the three and comes with 'all' only.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        captions: the verses, in the order of the books; labels: the six kinds of book; factors book, chapter (numbered through),
        verse (its number in the chapter), concept (the row in the whole set, the same for all translations); extras partner and
        reference ('Psalms 23:1'). The first call takes 0.5 s and keeps 25 MB.

    Raises:
        UnknownNameError: split, translation, partner or split_by.
        ValueError: a translation is named twice.
        DataError: the file of the set is missing or corrupt.

    Example:
        >>> ds = load_verses("test")
        >>> i = ds.extras["reference"].index("Psalms 23:1")
        >>> ds.captions[i], ds.extras["partner"][i]
        ('Yahweh is my shepherd; I shall lack nothing.', 'The LORD is my shepherd; I shall not want.')
    """
    require_split(split, "verses split")
    partners = (partner,) if isinstance(partner, str) else tuple(partner)
    for name in (translation, *partners):
        if name not in TRANSLATIONS:
            raise UnknownNameError("translation", name, TRANSLATIONS)
    if len({translation, *partners}) <= len(partners) or not partners:
        raise ValueError(f"translation and partner must be different translations, got {translation!r} and {partner!r}")
    if split_by not in ("book", "chapter"):
        raise UnknownNameError("split_by", split_by, ("book", "chapter"))
    place = resolve_device(device)

    c = columns_of("verses", "verses.parquet")
    column = c["split" if split_by == "book" else "split_by_chapter"]
    rows = np.flatnonzero((column == split) | (split == "all"))
    books, kinds = list(BOOKS), list(KINDS)
    new = np.ones(len(c["chapter"]), dtype=bool)
    new[1:] = (c["chapter"][1:] != c["chapter"][:-1]) | (c["book"][1:] != c["book"][:-1])
    factors = {
        "book": codes(c["book"][rows], books),
        "chapter": integers((new.cumsum() - 1)[rows]),
        "verse": integers(c["verse"][rows]),
        "concept": integers(rows),
    }
    reference = [f"{b} {n}:{v}" for b, n, v in zip(c["book"][rows], c["chapter"][rows], c["verse"][rows], strict=True)]
    extras: dict[str, Any] = {"reference": reference, "partner": c[partners[0]][rows].tolist()}
    extras |= {f"partner_{name}": c[name][rows].tolist() for name in partners}
    labels = codes(np.array([BOOKS[b] for b in c["book"][rows]], dtype=object), kinds)
    return Dataset("verses", split, None, labels, kinds, c[translation][rows].tolist(), factors, {"book": books}, extras).to(
        place
    )
