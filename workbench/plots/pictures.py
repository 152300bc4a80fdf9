"""Pictures of pictures: grids, rows and scatter plots of thumbnails."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, HPacker, OffsetImage, TextArea, VPacker
from torch import Tensor

from workbench.plots.style import COLOURS, closed


def to_array(image: Tensor) -> np.ndarray:
    """(c, h, w) in [0, 1] -> (h, w, 3) for matplotlib; grey pictures become three equal channels."""
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image must have shape (1 or 3, h, w), got {tuple(image.shape)}")
    return image.detach().float().cpu().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()


def show_image(ax: Axes, image: Tensor, title: str = "", *, frame: str | None = None) -> Axes:
    """One picture in the given axes, optionally with a coloured frame."""
    ax.imshow(to_array(image))
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=3)
    if title:
        ax.set_title(title, fontsize=9, fontweight="normal", loc="center", pad=3)
    return ax


def image_grid(
    images: Sequence[Tensor] | Tensor, titles: Sequence[str] = (), *, columns: int = 8, scale: float = 1.0, title: str = ""
) -> Figure:
    """A grid of pictures with optional titles below a figure title."""
    n = len(images)
    if n == 0:
        raise ValueError("images is empty; at least one picture is wanted")
    columns = min(columns, n)
    rows = -(-n // columns)
    titles = [textwrap.fill(t, max(8, round(18 * scale))) for t in titles]
    lines = max((t.count("\n") + 1 for t in titles), default=0)
    size = (scale * 1.25 * columns, (scale * 1.25 + 0.17 * lines) * rows + 0.4 * bool(title))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for i, ax in enumerate(axes.flat):
        if i < n:
            show_image(ax, images[i], titles[i] if titles else "")
        else:
            ax.axis("off")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return closed(figure)


def image_row(ax: Axes, images: Sequence[Tensor] | Tensor, *, gap: int = 2) -> Axes:
    """Pictures of one size side by side in the given axes."""
    tiles = [np.pad(to_array(image), ((gap, gap), (gap, gap), (0, 0)), constant_values=1.0) for image in images]
    ax.imshow(np.concatenate(tiles, axis=1))
    ax.axis("off")
    return ax


def show_captioned(
    ax: Axes, image: Tensor, caption: str, wrong: Collection[str] = (), *, columns: int = 18, fontsize: float = 9
) -> Axes:
    """One picture with its caption below it, wrapped at `columns` letters; the words in `wrong` are red and bold."""
    show_image(ax, image)
    lines: list[Artist] = []
    for line in textwrap.wrap(caption, columns):
        words: list[Artist] = []
        for word in line.split():
            red = {"color": COLOURS[1], "weight": "bold"} if word.strip(".,;!?") in wrong else {}
            words.append(TextArea(word, textprops={"size": fontsize, **red}))
        lines.append(HPacker(children=words, pad=0, sep=3))
    block = VPacker(children=lines, align="center", pad=0, sep=2)
    ax.add_artist(AnnotationBbox(block, (0.5, -0.05), xycoords="axes fraction", box_alignment=(0.5, 1), frameon=False, pad=0))
    return ax


def thumbnail_scatter(ax: Axes, points: Any, images: Tensor, *, zoom: float = 0.6, spread: float = 0.03) -> Axes:
    """Pictures at their (n, 2) points; of pictures nearer than `spread` of the width, only the first is drawn."""
    points = points.detach().cpu().numpy() if isinstance(points, Tensor) else np.asarray(points)
    span = np.ptp(points, axis=0).max() or 1.0
    drawn: list[np.ndarray] = []
    for point, image in zip(points, images, strict=True):
        if drawn and np.linalg.norm(np.array(drawn) - point, axis=1).min() < spread * span:
            continue
        drawn.append(point)
        ax.add_artist(AnnotationBbox(OffsetImage(to_array(image), zoom=zoom), point, frameon=False, pad=0))
    margin = 0.05 * span
    ax.set(
        xlim=(points[:, 0].min() - margin, points[:, 0].max() + margin),
        ylim=(points[:, 1].min() - margin, points[:, 1].max() + margin),
    )
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return ax
