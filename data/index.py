"""Write the table of the sets into README.md and draw two sheets of samples, thumbnails*.webp.

python data/index.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from workbench.data import load
from workbench.data.emoji import HELD_OUT_STYLE, STYLES
from workbench.data.files import describe_all

HERE = Path(__file__).resolve().parent
PICTURES = ("clipart", "digits", "glyphs", "mnist", "phantoms", "scenes")  # beside emoji, and stamps on a sheet of their own
CELL, GAP, COLUMNS, MARGIN = 48, 4, 20, 176


def strip(images: torch.Tensor) -> np.ndarray:
    """The first pictures side by side in one row of cells, (CELL, width, 3) uint8."""
    images = torch.nn.functional.interpolate(images[:COLUMNS].expand(-1, 3, -1, -1), size=(CELL, CELL), mode="nearest")
    row = torch.ones(3, CELL, COLUMNS * (CELL + GAP))
    for i, image in enumerate(images):
        row[:, :, i * (CELL + GAP) : i * (CELL + GAP) + CELL] = image
    return (row.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def samples() -> list[tuple[str, torch.Tensor]]:
    """Title and pictures of each row of the sheet."""
    emoji = load("emoji", "all", style=STYLES, size=CELL)
    spread = emoji.select(torch.linspace(3, len(emoji) - 1, COLUMNS).long())
    rows = [(f"emoji: {STYLES[0]}", spread.images)]
    for style in STYLES[1:]:
        title = f"emoji: {style}" + (" (held out)" if style == HELD_OUT_STYLE else "")
        rows.append((title, spread.extras[f"images_{style}"]))
    toned = load("emoji", "all", variants=True, size=CELL)
    rows.append(("emoji: variants", toned.images[toned.factors["tone"] > 0][::93]))
    for name in PICTURES:
        data = load(name, "val", **({"size": CELL} if name in ("scenes", "clipart") else {}))
        spread = torch.linspace(0, len(data) - 1, COLUMNS).long() if name == "clipart" else slice(COLUMNS)
        rows.append((name, data.select(spread).images))
    return rows


def stamps() -> list[tuple[str, torch.Tensor]]:
    """Rows of the second sheet: under the GPL, these pictures share no file with those under CC BY-SA."""
    data = load("stamps", "all", size=CELL)
    return [
        (f"stamps: {kind}", data.images[data.factors["drawing"] == i][4::17]) for i, kind in enumerate(("pictures", "drawings"))
    ]


def draw_sheet(path: Path, rows: list[tuple[str, torch.Tensor]]) -> None:
    """Draw a sheet of these rows."""
    sheet = Image.new("RGB", (MARGIN + COLUMNS * (CELL + GAP) + GAP, GAP + len(rows) * (CELL + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (title, images) in enumerate(rows):
        top = GAP + i * (CELL + GAP)
        pen.text((GAP * 2, top + CELL // 2), title, fill="#222222", font=font, anchor="lm")
        sheet.paste(Image.fromarray(strip(images)), (MARGIN, top))
    sheet.save(path, "webp", quality=90, method=6)


def write_table(path: Path) -> None:
    """Replace the table in the README."""
    lines = ["| set | what | rows | modalities | licence | stored |", "| --- | --- | --- | --- | --- | --- |"]
    for row in describe_all():
        size = f"{row['bytes'] / 1e6:.2f} MB" if row["bytes"] else "nothing"
        cells = (
            f"[{row['name']}]({row['name']}/card.md)",
            row["title"],
            f"{row['rows']:,}",
            ", ".join(row["modalities"]),
            row["licence"],
            size,
        )
        lines.append(f"| {' | '.join(cells)} |")
    head, rest = path.read_text().split("<!-- table: written by data/index.py -->\n")
    tail = rest.split("<!-- end of table -->\n")[1]
    table = "\n".join(lines)
    path.write_text(f"{head}<!-- table: written by data/index.py -->\n{table}\n<!-- end of table -->\n{tail}", newline="\n")


if __name__ == "__main__":
    write_table(HERE / "README.md")
    draw_sheet(HERE / "thumbnails.webp", samples())
    draw_sheet(HERE / "thumbnails-stamps.webp", stamps())
