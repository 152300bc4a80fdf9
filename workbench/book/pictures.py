"""Pictures of the built site: figures as WebP at a quarter of their size, thumbnails for the cards."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = 96
IMAGE = re.compile(r"(_images/)([\w.-]+\.png)")
ICON = re.compile(r"fa-([a-z0-9-]+)")
DRAWING = re.compile(
    r'(?P<head>"?(?P<name>[\w-]+)"?:\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",)(?:"[^"]*"|\[(?:"[^"]*",?)*\])\]'
)
# Names, punctuation and blanks of highlighted code have the colour of the text: a third of a page would say so.
PLAIN_CODE = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')
DRIFT = 3.0  # mean error, in grey levels, up to which a palette is taken; charts stay far below it, photographs do not


def webp(content: bytes) -> bytes:
    """A PNG as WebP: charts lossless on a palette, photographs lossy at high quality."""
    import numpy as np
    from PIL import Image

    picture: Image.Image = Image.open(io.BytesIO(content), formats=["PNG"])
    if picture.mode not in ("RGB", "L"):
        clear = picture.convert("RGBA")
        picture = Image.new("RGB", picture.size, "white")
        picture.paste(clear, mask=clear.getchannel("A"))
    picture = picture.convert("RGB")
    flat = picture.quantize(COLOURS, dither=Image.Dither.NONE).convert("RGB")
    error = np.abs(np.asarray(flat, dtype=np.int16) - np.asarray(picture, dtype=np.int16)).mean()
    stream = io.BytesIO()
    if error <= DRIFT:
        flat.save(stream, "WEBP", lossless=True, method=2)
    else:
        picture.save(stream, "WEBP", quality=88, method=3)
    return stream.getvalue()


def shrink(site: Path, cache: Path) -> int:
    """Make a built site small: WebP figures, icons and code without what nobody sees; returns the number of figures.

    Args:
        site: the folder with the HTML.
        cache: where results are kept from build to build, by the digest of the PNG.
    """
    cache.mkdir(parents=True, exist_ok=True)
    made = {}
    for path in sorted((site / "_images").glob("*.png")):
        content = path.read_bytes()
        kept = cache / f"{COLOURS}-{hashlib.sha256(content).hexdigest()}.webp"
        if not kept.exists():
            kept.write_bytes(webp(content))
        path.with_suffix(".webp").write_bytes(kept.read_bytes())
        made[path.name] = path.with_suffix(".webp").name
        path.unlink()
    icons: set[str] = set()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf8")
        icons.update(ICON.findall(text))
        changed = IMAGE.sub(lambda m: m[1] + made.get(m[2], m[2]), PLAIN_CODE.sub(r"\1", text))
        if changed != text:
            page.write_text(changed, encoding="utf8")
    for path in (site / "_static").rglob("*.map"):
        path.unlink()
    for path in (site / "_static").rglob("fontawesome.js"):
        others = (p.read_text(encoding="utf8", errors="replace") for p in (site / "_static").rglob("*.js") if p != path)
        used = icons.union(*(ICON.findall(text) for text in others))
        path.write_text(thin_icons(path.read_text(encoding="utf8"), used), encoding="utf8")
    return len(made)


def thin_icons(script: str, used: set[str]) -> str:
    """The theme's script of icons, 1.5 MB, without the outlines of those that no page uses."""

    def keep(match: re.Match[str]) -> str:
        names = {match["name"], *re.findall(r'"([\w-]+)"', match["aliases"])}
        return match[0] if names & used else f'{match["head"]}""]'

    return DRAWING.sub(keep, script)


def figures_of(content: Mapping[str, Any], source: str = "") -> list[bytes]:
    """The PNG figures of an executed notebook, of the cells whose code contains `source`."""
    return [
        base64.b64decode("".join(output["data"]["image/png"]))
        for cell in content["cells"]
        if cell["cell_type"] == "code" and source in "".join(cell["source"])
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def thumbnail(content: bytes, width: int = 560, height: int = 300) -> bytes:
    """A figure small enough for a card, on white, the whole of it to be seen."""
    from PIL import Image

    picture = Image.open(io.BytesIO(content), formats=["PNG"]).convert("RGB")
    picture.thumbnail((width, height), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=80, method=4)
    return stream.getvalue()
