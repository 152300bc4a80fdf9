"""Build the emoji set: four drawing styles, names in many languages, families and splits.

    python data/emoji/build.py [--out FOLDER]

Needs npm and the dev extra (resvg_py draws the SVG styles). About three minutes on one core.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from workbench.data.build import (
    Package,
    assign_splits,
    connected,
    lossless_webp,
    read_png,
    render_svg,
    run,
    unpacked,
    write_table,
)
from workbench.data.emoji import LANGUAGES, STYLES

SIZE = 64
NEAR = 0.05  # RMS difference at 32 px below which two drawings count as one picture for the splits
PACKAGES = {
    "noto": Package(
        "npm", "emoji-datasource-google", "16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
    ),
    "twemoji": Package(
        "npm", "emoji-datasource-twitter", "16.0.0", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"
    ),
    "openmoji": Package("npm", "openmoji", "17.0.0", "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68"),
    "fluent": Package("npm", "fluentui-emoji", "1.3.0", "ec892e607e854859b812c7d827801756adc19955b0ef56d4ae8afcddd19492c5"),
    "names": Package("npm", "emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"),
}
TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}

# Names under which the Fluent package files a drawing, where they are not the English name.
FLUENT_NAMES = {
    "black bird": "blackbird",
    "phoenix": "phoenix-bird",
    "smiling face with open hands": "hugging-face",
    "face with crossed-out eyes": "knocked-out-face",
    "enraged face": "pouting-face",
    "red triangle pointed up": "red-triangle",
    "stuffed flatbread": "stuffedbread-flat",
    "keycap: *": "keycap-asterisk",
    "keycap: #": "keycap-hashtag",
    **{f"deaf {who}": f"{who}-deaf" for who in ("person", "man", "woman")},
    **{f"{who}: blond hair": f"{who}-blonde-hair" for who in ("person", "man", "woman")},
    **{f"mer{mer}": f"{who}-merpeople" for mer, who in (("person", "person"), ("man", "man"), ("maid", "woman"))},
    **{
        f"{many} with bunny ears": f"{who}-with-bunny-ears"
        for many, who in (("people", "person"), ("men", "man"), ("women", "woman"))
    },
    **{f"{many} wrestling": f"{who}-wrestling" for many, who in (("people", "person"), ("men", "man"), ("women", "woman"))},
    **{who: f"person-{who}" for who in ("elf", "fairy", "genie", "mage", "superhero", "supervillain", "vampire", "zombie")},
}

# Who is shown, not what: concepts whose names differ only in these words are one family and never cross splits.
WHO = "person people man men woman women boy girl child adult older old"
WHERE = "left right up down leftwards rightwards upwards downwards upward downward increasing decreasing increase decrease"
COLOUR_AND_SIZE = "red orange yellow green blue purple brown black white grey pink large medium small"
MASKED = set(f"{WHO} {WHERE} {COLOUR_AND_SIZE}".split())

# Gendered concepts that carry no gender sign of their own, and the neutral concept of each.
NEUTRAL = {
    "1F466": "1F9D2", "1F467": "1F9D2", "1F468": "1F9D1", "1F469": "1F9D1", "1F474": "1F9D3", "1F475": "1F9D3",
    "1F934": "1FAC5", "1F478": "1FAC5", "1F385": "1F9D1-200D-1F384", "1F936": "1F9D1-200D-1F384",
    "1F930": "1FAC4", "1FAC3": "1FAC4", "1F46B": "1F9D1-200D-1F91D-200D-1F9D1", "1F46C": "1F9D1-200D-1F91D-200D-1F9D1",
    "1F46D": "1F9D1-200D-1F91D-200D-1F9D1",
}  # fmt: skip


def bare(hexcode: str) -> str:
    """The code sequence without the optional presentation selector, which the packages disagree about."""
    return hexcode.upper().replace("-FE0F", "")


def neutral_of(code: str, known: set[str]) -> tuple[str, str]:
    """The concept that `code` is a gendered or turned version of, and which of the two; ('', 'none') if it is none."""
    straight = code.removesuffix("-200D-27A1")
    plain = re.sub("-200D-264[02]$", "", straight)
    plain = NEUTRAL.get(plain, re.sub("^1F46[89]-200D", "1F9D1-200D", plain))
    if "-200D-2764-" in code:  # couples
        plain = "1F48F" if "1F48B" in code else "1F491"
    elif re.match("1F46[89]-200D-1F46[6789]", code):  # families of men, women, boys and girls
        plain = "1F46A"
    if plain == code or plain not in known:
        return "", "none"
    kinds = ["gender"] * (plain != straight) + ["direction"] * (straight != code)
    return plain, " and ".join(kinds)


def family_key(name: str) -> str:
    """The name without who is shown, which way it faces, its colour and size."""
    if name.endswith(" skin tone"):
        return "skin tone"
    if name.startswith("keycap:"):
        return "keycap"
    words = re.findall(r"\w+|[^\w\s]", name.lower().replace("light blue", "blue"))
    kept = [w for w in words if w not in MASKED and w not in "-:,’"]
    return " ".join(kept) or ("person" if set(words) & set(WHO.split()) else name)


def read_items(folder: Path) -> list[dict]:
    """One record for every concept in Unicode order, then one for every skin-tone variant."""
    entries = sorted(json.loads((folder / "emoji.json").read_text()), key=lambda e: e["sort_order"])
    concepts, variants = [], []
    for concept, entry in enumerate(entries):
        shared = {"concept": concept, "group": entry["category"], "subgroup": entry["subcategory"], "order": entry["sort_order"]}
        concepts.append({**shared, "hexcode": bare(entry["unified"]), "file": entry["image"], "tone": "none"})
        for tones, variant in entry.get("skin_variations", {}).items():
            tone = " and ".join(TONES[t] for t in tones.split("-"))
            variants.append({**shared, "hexcode": bare(variant["unified"]), "file": variant["image"], "tone": tone})
    return concepts + variants


def read_names(folder: Path, items: list[dict]) -> dict[str, list]:
    """Columns `name_xx` and `keywords_xx` for every language; a skin-tone variant has the keywords of its concept."""
    columns: dict[str, list] = {}
    for language in LANGUAGES:
        entries = {}
        for entry in json.loads((folder / language / "data.json").read_text()):
            entries[bare(entry["hexcode"])] = (entry["label"], entry.get("tags", []))
            for skin in entry.get("skins", []):
                entries[bare(skin["hexcode"])] = (skin["label"], entry.get("tags", []))
        columns[f"name_{language}"] = [entries[item["hexcode"]][0] for item in items]
        columns[f"keywords_{language}"] = [entries[item["hexcode"]][1] for item in items]
    return columns


def fluent_file(item: dict, base_name: str, folder: Path) -> Path | None:
    """The flat Fluent drawing of an item, found by the English name of its concept; None where there is none."""
    ascii_name = unicodedata.normalize("NFKD", base_name).encode("ascii", "ignore").decode().lower()
    slug = FLUENT_NAMES.get(base_name) or re.sub("[^a-z0-9]+", "-", ascii_name).strip("-")
    endings = ["", "-default"] if item["tone"] == "none" else [f"-{item['tone']}"]
    return next((path for end in endings if (path := folder / f"{slug}{end}.svg").exists()), None)


def draw(style: str, folder: Path, items: list[dict], names: list[str]) -> list[np.ndarray | None]:
    """The picture of every item in one style, (64, 64, 4) uint8, or None where the style has none."""
    if style in ("noto", "twemoji"):
        source = folder / "img" / {"noto": "google", "twemoji": "twitter"}[style] / str(SIZE)
        return [read_png(source / item["file"]) for item in items]
    if style == "openmoji":
        paths: list[Path | None] = []
        svgs = {bare(p.stem): p for p in (folder / "color" / "svg").glob("*.svg")}
        paths += [svgs[item["hexcode"]] for item in items]
    else:
        paths = [fluent_file(item, names[item["concept"]], folder / "icons" / "flat") for item in items]
    return [None if path is None else render_svg(path, SIZE) for path in paths]


def premultiplied(rgba: np.ndarray) -> np.ndarray:
    """Premultiplied colour and alpha in [0, 1]: what is seen, whatever lies under transparent pixels."""
    x = rgba.astype(np.float32) / 255
    x[..., :3] *= x[..., 3:]
    return x


def twins(pictures: list[np.ndarray | None], items: list[dict]) -> list[int]:
    """For every item whose picture also shows another concept: the first such concept; -1 for all others."""
    same: dict[str, list[int]] = defaultdict(list)
    for i, picture in enumerate(pictures):
        if picture is not None:
            same[hashlib.sha256(np.where(picture[..., 3:] == 0, 0, picture).tobytes()).hexdigest()].append(i)
    found = [-1] * len(items)
    for members in same.values():
        concepts = [items[i]["concept"] for i in members]
        for i in members if len(set(concepts)) > 1 else []:
            found[i] = min(concepts)
    return found


def near_duplicates(pictures: list[np.ndarray | None], n: int) -> list[tuple[int, int]]:
    """Pairs among the first `n` items whose drawings differ by less than NEAR (RMS of premultiplied RGBA at 32 px)."""
    have = [i for i in range(n) if pictures[i] is not None]
    full = np.stack([premultiplied(pictures[i]) for i in have])
    half = full.reshape(len(have), SIZE // 2, 2, SIZE // 2, 2, 4).mean((2, 4)).reshape(len(have), -1).astype(np.float64)
    squares = (half**2).sum(1)
    distance = (squares[:, None] + squares - 2 * half @ half.T).clip(0) / half.shape[1]
    return [(have[i], have[j]) for i, j in np.argwhere(np.triu(distance < NEAR**2, 1)).tolist()]


def build(folder: Path) -> None:
    """Write items, names and one file a style into `folder`."""
    with unpacked(PACKAGES["noto"]) as source:
        items = read_items(source)
    with unpacked(PACKAGES["names"]) as source:
        names = read_names(source, items)
    n = sum(item["tone"] == "none" for item in items)
    index = {item["hexcode"]: item["concept"] for item in items[:n]}

    columns: dict[str, list] = {
        key: [item[key] for item in items] for key in ("concept", "hexcode", "group", "subgroup", "order")
    }
    columns["name"], columns["keywords"] = names.pop("name_en"), names.pop("keywords_en")
    neutral = [neutral_of(item["hexcode"], set(index)) for item in items[:n]]
    columns["variant_of"] = [index.get(code, -1) for code, _ in neutral] + [item["concept"] for item in items[n:]]
    columns["variant_kind"] = [kind for _, kind in neutral] + ["skin tone"] * (len(items) - n)
    columns["tone"] = [item["tone"] for item in items]

    together = [(i, of) for i, of in enumerate(columns["variant_of"][:n]) if of >= 0]
    first: dict[str, int] = {}
    together += [(i, first.setdefault(family_key(columns["name"][i]), i)) for i in range(n)]
    for style in STYLES:
        with unpacked(PACKAGES[style]) as source:
            pictures = draw(style, source, items, columns["name"])
        columns[f"twin_{style}"] = twins(pictures, items)
        together += [(items[i]["concept"], twin) for i, twin in enumerate(columns[f"twin_{style}"]) if twin >= 0]
        together += near_duplicates(pictures, n)
        groups = []
        for rows in (range(n), range(n, len(items))):
            have = [i for i in rows if pictures[i] is not None]
            image = [lossless_webp(pictures[i]) for i in have]
            item = pa.array(have, pa.int32())
            groups.append(
                pa.table({"item": item, "hexcode": [items[i]["hexcode"] for i in have], "image": pa.array(image, pa.binary())})
            )
        write_table(folder / f"{style}.parquet", *groups, plain=["image"])

    family = connected(n, together)
    keys = [items[f]["hexcode"] for f in family]
    split = assign_splits(keys, columns["group"][:n])
    columns["family"] = [family[item["concept"]] for item in items]
    columns["split"] = [split[item["concept"]] for item in items]
    write_table(folder / "items.parquet", pa.table(columns))
    write_table(folder / "names.parquet", pa.table(names))


if __name__ == "__main__":
    run(build, __file__)
