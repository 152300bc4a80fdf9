"""The training curve of a card as a small SVG, without a plotting library: any browser and the site show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 260, 56, 16, 34, 40


def draw_curve(path: Path, points: Sequence[Sequence[float]], title: str, *, unit: str = "nats") -> None:
    """Write a line of [[step, loss], ...] with both axes labelled; the same points give the same bytes."""
    steps, losses = [p[0] for p in points], [p[1] for p in points]
    ticks = _ticks(min(losses), max(losses))
    low, high = min(ticks[0], min(losses)), max(ticks[-1], max(losses))
    span = max(steps[-1], 1)

    def place(step: float, loss: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / span
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / ((high - low) or 1)
        return round(x, 1), round(y, 1)

    line = " ".join(f"{x},{y}" for x, y in (place(s, v) for s, v in zip(steps, losses, strict=True)))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT}" y="20" font-size="14">{title}</text>',
    ]
    for tick in ticks:
        _, y = place(0, tick)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in (0, span // 2, span):
        x, _ = place(tick, low)
        parts.append(
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{"end" if tick == span else "middle"}">{tick:,}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) // 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">step</text>')
    parts.append(f'<text transform="translate(14 {HEIGHT // 2}) rotate(-90)" text-anchor="middle">loss, {unit}</text>')
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="2"/></svg>')
    path.write_text("\n".join(parts) + "\n", encoding="utf8", newline="\n")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that span the values, about four of them."""
    raw = max(high - low, 1e-9) / 3
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    first = math.floor(low / step)
    return [round(step * i, 10) for i in range(first, math.ceil(high / step) + 1)]
