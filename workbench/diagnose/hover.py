"""A map of rows as one piece of HTML: pictures and texts on hover, arrow keys, search; it asks the network for nothing."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCRIPT = Path(__file__).with_name("hover.js")
THUMBNAIL = 64  # pixels
LARGEST_PICTURE = 100_000_000  # pixels that are decoded
STYLE = """<style>
.wb-map { font: 14px/1.45 system-ui, sans-serif; margin: .5rem 0 1.2rem; }
.wb-map .wb-body { display: flex; gap: 1rem; align-items: flex-start; flex-wrap: wrap; }
.wb-map canvas { flex: 1 1 26rem; min-width: 0; width: 100%; border: 1px solid #bbb; border-radius: 4px; touch-action: none; background: #fff; }
.wb-map .wb-card { flex: 0 1 15rem; min-height: 6rem; overflow-wrap: anywhere; }
.wb-map .wb-card img { display: block; width: 128px; height: 128px; object-fit: contain; image-rendering: auto; margin-bottom: .4rem; background: #f4f4f4; }
.wb-map .wb-card p { margin: .2rem 0; white-space: pre-wrap; }
.wb-map .wb-legend { display: flex; flex-wrap: wrap; gap: .3rem; margin: .4rem 0; align-items: center; }
.wb-map button { border: 1px solid #bbb; border-radius: 4px; background: #fff; color: #111; padding: .1rem .5rem; font: inherit; cursor: pointer; }
.wb-map button[aria-pressed=false] { opacity: .4; }
.wb-map button::before { content: ""; display: inline-block; width: .7em; height: .7em; border-radius: 50%; background: var(--c); margin-right: .4em; }
.wb-map input { font: inherit; padding: .1rem .4rem; max-width: 14rem; }
</style>"""


def hover_map(
    xy: np.ndarray,
    *,
    title: str,
    rows: Sequence[int],
    group: Sequence[int] | None = None,
    groups: Sequence[str] = ("rows",),
    colours: Sequence[str] = ("#0072B2",),
    marks: Sequence[int] | None = None,
    texts: Sequence[str] | None = None,
    pictures: Sequence[Path | None] | None = None,
    notes: Sequence[str] | None = None,
    partner: Sequence[int] | None = None,
) -> str:
    """HTML of a scatter plot of n points; whatever comes from the user reaches the page as text.

    Args:
        xy: (n, 2) coordinates.
        title: what the map shows, for the caption and for screen readers.
        rows: number of each point's row.
        group: code of each point's group, into `groups`, `colours` and `marks` (0 circle, 1 triangle).
        groups: names for the legend.
        colours: CSS colours.
        marks: form of each group.
        texts, pictures, notes: shown for the point under the pointer.
        partner: index of each point's partner, -1 for none; the two are joined by a line.

    Raises:
        ValueError: lengths that differ.
    """
    xy = np.asarray(xy, dtype=np.float64)
    n = len(xy)
    for name, values in (
        ("rows", rows),
        ("group", group),
        ("texts", texts),
        ("pictures", pictures),
        ("notes", notes),
        ("partner", partner),
    ):
        if values is not None and len(values) != n:
            raise ValueError(f"{name} must have one entry for each of {n} points, got {len(values)}")
    low, high = xy.min(0), xy.max(0)
    unit = (xy - low) / np.where(high > low, high - low, 1)
    data: dict[str, Any] = {
        "x": unit[:, 0].round(4).tolist(),
        "y": unit[:, 1].round(4).tolist(),
        "row": [int(r) for r in rows],
        "group": [0] * n if group is None else [int(g) for g in group],
        "groups": list(groups),
        "colours": list(colours),
        "marks": list(marks) if marks is not None else [0] * len(groups),
    }
    for key, values in (("texts", texts), ("notes", notes), ("partner", partner)):
        if values is not None:
            data[key] = [v if isinstance(v, str) else int(v) for v in values]
    if pictures is not None:
        data["pictures"] = [None if p is None else thumbnail(p) for p in pictures]
    legend = "".join(
        f'<button type="button" data-group="{i}" aria-pressed="true" style="--c:{html.escape(c)}">{html.escape(g)}</button>'
        for i, (g, c) in enumerate(zip(groups, colours, strict=True))
        if len(groups) > 1
    )
    label = html.escape(title, quote=True)
    return (
        f'{STYLE}<div class="wb-map"><div class="wb-legend">{legend}<input type="search" placeholder="find a row or a word" '
        f'aria-label="find a row or a word"><output></output></div><div class="wb-body"><canvas tabindex="0" role="img" '
        f'aria-label="{label}; arrow keys go from row to row"></canvas><div class="wb-card" aria-live="polite"></div></div>'
        f'<script type="application/json">{_inert(data)}</script>'
        f"<script>{SCRIPT.read_text(encoding='utf8').rstrip()}(document.currentScript.parentElement);</script></div>"
    )


def thumbnail(path: Path) -> str | None:
    """A picture file as a small webp in a data URI; None where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST_PICTURE:
                return None
            image.draft("RGB", (2 * THUMBNAIL, 2 * THUMBNAIL))
            picture = image.convert("RGBA")
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=70)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _inert(data: Any) -> str:
    """JSON that can stand inside a script element: no text in it can end the element or begin another."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
