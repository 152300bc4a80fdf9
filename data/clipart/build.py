"""Build the clipart set: public-domain drawings with titles and tags.

    python data/clipart/build.py [--out FOLDER]

Needs apt-get on a Debian system. About two minutes on one core.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

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

SIZE = 64
VERSION = "1:0.18+dfsg-19"
PACKAGES = {
    "png": Package(
        "apt",
        "openclipart-png",
        VERSION,
        "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
        "openclipart-png_1%3a0.18+dfsg-19_all.deb",
    ),
    "svg": Package(
        "apt",
        "openclipart-svg",
        VERSION,
        "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
        "openclipart-svg_1%3a0.18+dfsg-19_all.deb",
    ),
}
# Themes of small icons, computed stars, playing cards, colour gradients and tiles: hundreds of near-copies under one title.
LEFT_OUT = (
    "computer/icons/",
    "shapes/stars/",
    "recreation/games/cards/",
    "special/",
    "logos/",
    "buttons/",
    "people/clothing/pantyhose/",
)
LARGEST = 4_000_000  # some PNGs have 168 million pixels, and take seconds each
COLLECTION = 8  # a title on this many pictures names a collection, not what is shown
COLOUR = {
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "brown",
    "black",
    "white",
    "grey",
    "gray",
    "pink",
    "light",
    "dark",
}
EMPTY_TAGS = {"hash", "clipart", "unsorted", "symbol", "icon", "icons", "webpage", "signs and symbols", "clip art", ""}


@dataclass
class Drawing:
    """What an SVG file says about itself."""

    name: str
    title: str
    tags: list[str]
    creator: str
    public_domain: bool


def clean(text: str) -> str:
    """Text of the metadata without entities (some are escaped twice), control characters and mail addresses."""
    text = html.unescape(html.unescape(text))
    text = re.sub(r"\(?(e-?mail:?\s*)?[\w.+-]+@[\w.-]+\)?", "", re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text))
    return re.sub(r"\s+", " ", text).strip()


def read_drawing(path: Path, name: str) -> Drawing:
    """Title, tags, creator and licence from the metadata of an SVG file."""
    text = path.read_text(encoding="utf8", errors="replace")
    title = re.search(r"<dc:title>([^<]*)</dc:title>", text)
    creator = re.search(r"<dc:creator>.*?<dc:title>([^<]*)</dc:title>", text, re.DOTALL)
    licences = set(re.findall(r'<(?:cc:)?license[^>]*rdf:resource="([^"]*)"', text))
    tags = {clean(t).lower().replace("_", " ") for t in re.findall(r"<rdf:li>([^<]+)</rdf:li>", text)}
    public = bool(licences) and all(x.lower().replace(" ", "").rstrip("/").endswith("publicdomain") for x in licences)
    author = clean(creator[1]) if creator else ""
    kept = sorted(t for t in tags - EMPTY_TAGS if t != author.lower() and re.search("[a-z]{2}", t))
    return Drawing(name, clean(title[1]) if title else "", kept, author, public)


def tidy(words: str) -> str:
    """Title or file name as words: no underscores, no running numbers, no collection."""
    words = re.sub(r"^Clipart by [^-]+ - | - (RPG map elements|clothing|body part|iconset)$", "", words, flags=re.IGNORECASE)
    words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", words.replace("_", " ").replace(".svg", ""))
    words = re.sub(r"(?<=[^\W\d])-(?=[^\W\d])", " ", words)
    return re.sub(r"\s+", " ", re.sub(r"(?<=[^\W\d])[\s#-]*\d[\d\s-]*$|^\d+[\s-]+(?=\w{3})", "", words)).strip(" -.")


def file_title(drawing: Drawing) -> str:
    """The file name as words, without the author's name that many files carry at the end."""
    base = drawing.name.rsplit("/", 1)[1].removeprefix("aiga_")
    first = re.split(r"\W+", drawing.creator.lower())[0]
    cut = base.lower().rfind(f"_{first}") if len(first) > 2 else -1
    return tidy(base[:cut] if cut > 0 else base)


def choose_captions(drawings: list[Drawing]) -> list[tuple[str, bool]]:
    """Caption of each drawing and whether it is its own title; '' where there is no word for what it shows."""
    raw = Counter(d.title for d in drawings)
    chosen = []
    for d in drawings:
        own = raw[d.title] < COLLECTION and not re.search("Clipart by|Collection|theme$|iconset", d.title)
        caption = tidy(d.title) if own else file_title(d)
        if not re.search(r"[^\W\d_]{3}", caption):
            caption, own = (d.tags[0] if d.tags else ""), False
        chosen.append((caption, own))
    return chosen


def family_key(caption: str) -> str:
    """The caption in lower case without colours and numbers."""
    words = re.findall(r"[^\W\d_]+", caption.casefold())
    return " ".join([w for w in words if w not in COLOUR] or words)


def series_key(name: str) -> str:
    """Folder and file name without numbers and colours: drawings of one series share it."""
    folder, base = name.rsplit("/", 1)
    return f"{folder}/{family_key(base.replace('_', ' ').replace('-', ' '))}"


def read_picture(png: Path, svg: Path) -> np.ndarray:
    """The PNG of a drawing, or a small one made from its SVG where the PNG has more than LARGEST pixels."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(png) as image:
        large = image.width * image.height > LARGEST
    return render_svg(svg, 4 * SIZE) if large else read_png(png)


def build(folder: Path) -> None:
    """Write items.parquet into `folder`."""
    with ExitStack() as stack:
        root = {kind: stack.enter_context(unpacked(p)) / "usr" / "share" / "openclipart" / kind for kind, p in PACKAGES.items()}
        # Links repeat a drawing under a second name.
        paths = sorted(p for p in root["svg"].rglob("*.svg") if not p.is_symlink())
        names = [p.relative_to(root["svg"]).with_suffix("").as_posix() for p in paths]
        chosen = [(p, n) for p, n in zip(paths, names, strict=True) if not n.startswith(LEFT_OUT)]
        drawings = [d for p, n in chosen if (d := read_drawing(p, n)).public_domain and "logo" not in d.tags]
        captions = choose_captions(drawings)
        kept = [(d, c) for d, c in zip(drawings, captions, strict=True) if c[0]]
        pictures = []
        for d, _ in kept:
            picture = read_picture(root["png"] / f"{d.name}.png", root["svg"] / f"{d.name}.svg")
            pictures.append(fit_square(picture, SIZE) if (picture[..., 3] > 8).any() else None)
    kept = [k for k, p in zip(kept, pictures, strict=True) if p is not None]
    pictures = [p for p in pictures if p is not None]

    together = near_duplicates(pictures)
    for key in (lambda d, c: family_key(c), lambda d, c: series_key(d.name)):
        first: dict[str, int] = {}
        together += [(i, first.setdefault(key(d, c[0]), i)) for i, (d, c) in enumerate(kept)]
    family = connected(len(kept), together)
    tops = [d.name.split("/")[0] for d, _ in kept]
    columns = {
        "name": [d.name for d, _ in kept],
        "folder": tops,
        "caption": [c for _, (c, _) in kept],
        "own_title": [own for _, (_, own) in kept],
        "tags": [d.tags for d, _ in kept],
        "creator": [d.creator for d, _ in kept],
        "family": pa.array(family, pa.int32()),
        "split": assign_splits([kept[f][0].name for f in family], tops),
        "image": pa.array([lossless_webp(p) for p in pictures], pa.binary()),
    }
    write_table(folder / "items.parquet", pa.table(columns), plain=["image"])


if __name__ == "__main__":
    run(build, __file__)
