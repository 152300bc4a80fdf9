"""Build the glyphs set: letters and digits in fifteen free font families, at one place and one size of type.

    python data/glyphs/build.py [--out FOLDER]

Needs apt-get and dpkg on a Debian system. About half a minute on one core.
"""

from __future__ import annotations

import hashlib
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from workbench.data.build import Package, run, unpacked, write_table

SIDE, OVERSAMPLING = 48, 4
EM = 38  # with this size of type no character of any face touches the edge
CHARACTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
HELD_OUT = {"val": ("cantarell", "vollkorn"), "test": ("comic-neue", "caladea", "play", "lobster")}  # whole families
# family: (package, version, SHA-256, files of the faces)
FAMILIES = {
    "cabin": ("fonts-cabin", "1.5-3", "3a7a7d6057956273b1afa22534383896e2901bcb98439033d8e7852223365238", "Cabin"),
    "caladea": (
        "fonts-crosextra-caladea",
        "20200211-1",
        "dd51af7629df5a2f3799f889cdf63d5abdda32e94e5de59398f728d98604a240",
        "Caladea",
    ),
    "cantarell": (
        "fonts-cantarell",
        "0.303.1-1",
        "8fdf5687d9e2ce70456664519025a6b48fbaaadbc5b1cfbf8b09f72c2dc5f09b",
        "Cantarell",
    ),
    "carlito": (
        "fonts-crosextra-carlito",
        "20220224-1",
        "673689e3a887cd150ca5018c26e1a4162709add3a1bdc0a2527af6fd073980d7",
        "Carlito",
    ),
    "comic-neue": ("fonts-comic-neue", "2.51-4", "6f002dc90d62fde01a2b51f333c09dc6c21ffbfc6ca22d05a84cc049b083c826", "ComicNeue"),
    "ebgaramond": (
        "fonts-ebgaramond",
        "0.016+git20210310.42d4f9f2-1",
        "2780e32df19b909823425b3e21c2f2f2a1717bbdd96f33fc59a252a308903fa2",
        "EBGaramond12",
    ),
    "firacode": ("fonts-firacode", "6.2-2", "a69952a1556e7635d029b35dbc903593a3b78cbd39d3899bf0c4fdfbc8d55245", "FiraCode"),
    "jura": ("fonts-jura", "5.103-3", "4fa907bfa547d7a24d554330d1be0a74a65c01f168ce9e175242b837be1f3510", "Jura"),
    "lato": ("fonts-lato", "2.0-2.1", "86f50af146a7df9eca4e69f0262e73e708908435ebfa833df797adfa08843bc5", "Lato"),
    "league-spartan": (
        "fonts-league-spartan",
        "2.210-1",
        "4d1fc96447aa615855e8b7a0afc534c761446ef2ddc6a6259382ec99f1f8929e",
        "LeagueSpartan",
    ),
    "lobster": ("fonts-lobster", "2.0-2.1", "9379824d3f3bc44844aa07cb9ad4e6bfd99a785e34668c5dba410947b715dc1b", "lobster"),
    "play": ("fonts-play", "1.002+20150307.1-0.1", "274f6e95f668f1fff3441056e968a4c947ac975b29000d9c513bd06bb7f7f9d4", "Play"),
    "quicksand": (
        "fonts-quicksand",
        "0.2016-2.1",
        "1175e5c64f116887b37ec3c8faea1f411bdef356580bc22298c3c9da75fac120",
        "Quicksand",
    ),
    "roboto": (
        "fonts-roboto-unhinted",
        "2:0~20170802-3",
        "f89cf7d8a589489daecf750031ec50456ab3e648d49ff544f0f08753268fbd91",
        "Roboto",
    ),
    "vollkorn": ("fonts-vollkorn", "4.105-2", "0c7039de3ede6c96727829635c5b10a536114029cbddf98e14716578d936307f", "Vollkorn"),
}
FACES = {"regular": ("", "-Regular"), "bold": ("-Bold",), "italic": ("-Italic",)}


def draw(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    """One character, ink 255 on 0, (SIDE, SIDE) uint8: centred across by its ink, the line of all characters at one height."""
    side = SIDE * OVERSAMPLING
    sheet = Image.new("L", (side, side))
    left, _, right, _ = font.getbbox(character, anchor="ls")
    ImageDraw.Draw(sheet).text(((side - left - right) / 2, side * 0.7), character, fill=255, font=font, anchor="ls")
    return np.asarray(sheet.resize((SIDE, SIDE), Image.Resampling.BOX))


def build(folder: Path) -> None:
    """Write glyphs.parquet into `folder`."""
    split = {family: name for name, families in HELD_OUT.items() for family in families}
    rows = []
    for family, (package, version, sha256, stem) in FAMILIES.items():
        file = f"{package}_{version.replace(':', '%3a')}_all.deb"
        with unpacked(Package("apt", package, version, sha256, file)) as source:
            files = {path.stem: path for path in sorted(source.rglob("*")) if path.suffix in (".ttf", ".otf")}
            for face, endings in FACES.items():
                path = next((files[stem + e] for e in endings if stem + e in files), None)
                if path is None:
                    continue
                # Basic layout: the other engine is not part of every Pillow.
                font = ImageFont.truetype(path, EM * OVERSAMPLING, layout_engine=ImageFont.Layout.BASIC)
                for character in CHARACTERS:
                    rows.append((character, family, face, split.get(family, "train"), draw(font, character).tobytes()))
    rows.sort(key=lambda row: hashlib.sha256(row[-1]).digest())  # mixes faces and characters; depends on the pictures alone
    columns = dict(zip(("character", "family", "face", "split", "pixels"), zip(*rows, strict=True), strict=True))
    table = {
        name: pa.array(values, pa.binary(SIDE * SIDE) if name == "pixels" else pa.string()) for name, values in columns.items()
    }
    write_table(folder / "glyphs.parquet", pa.table(table), plain=["pixels"])


if __name__ == "__main__":
    run(build, __file__)
