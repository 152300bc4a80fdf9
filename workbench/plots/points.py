"""Maps of embeddings: circle, sphere, plane, and pairs of two modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from workbench.plots.style import COLOURS, class_colours


def _array(x: Any) -> np.ndarray:
    return x.detach().float().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def principal_plane(x: Any, *others: Any, components: int = 2) -> list[np.ndarray]:
    """Coordinates of the rows of `x`, and of `others` with the same axes, on the leading principal components of all together."""
    sets = [_array(v).astype(np.float64) for v in (x, *others)]
    everything = np.concatenate(sets)
    centre = everything.mean(0)
    _, _, axes = np.linalg.svd(everything - centre, full_matrices=False)
    axes = axes[:components]
    # A singular vector's sign is arbitrary; fixing it keeps a figure the same from run to run.
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    return [(v - centre) @ axes.T for v in sets]


def label_scatter(
    ax: Axes, points: Any, labels: Any = None, names: Sequence[str] = (), *, size: float = 8, legend: bool = True
) -> Axes:
    """A scatter of (n, 2) points coloured by integer labels."""
    points = _array(points)
    if labels is None:
        ax.scatter(points[:, 0], points[:, 1], s=size, color=COLOURS[0], alpha=0.6, linewidths=0)
    else:
        labels = _array(labels).astype(int)
        for colour, k in zip(class_colours(len(np.unique(labels))), np.unique(labels), strict=True):
            rows = labels == k
            ax.scatter(
                points[rows, 0],
                points[rows, 1],
                s=size,
                color=colour,
                alpha=0.7,
                linewidths=0,
                label=names[k] if len(names) else str(k),
            )
        if legend:
            ax.legend(markerscale=2, fontsize=8, ncols=2, loc="best", handletextpad=0.1, columnspacing=0.6)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xticks=[], yticks=[])
    return ax


def circle_map(ax: Axes, x: Any, labels: Any = None, names: Sequence[str] = (), *, bins: int = 72) -> Axes:
    """Unit vectors in the plane: each row a tick on the circle, with the density of all rows drawn outside it."""
    x = _array(x)
    angles = np.arctan2(x[:, 1], x[:, 0])
    radius = 1 - 0.06 * np.random.default_rng(0).random(len(x))
    turn = np.linspace(0, 2 * np.pi, 200)
    ax.plot(0.97 * np.cos(turn), 0.97 * np.sin(turn), color="#cccccc", linewidth=1)  # empty arcs must be seen as empty
    label_scatter(ax, np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1), labels, names, size=6, legend=False)
    density, edges = np.histogram(angles, bins=bins, range=(-np.pi, np.pi))
    height = 1.04 + 0.5 * density / max(density.max(), 1)
    centres = (edges[:-1] + edges[1:]) / 2
    for c, h in zip(centres, height, strict=True):
        ax.plot(
            [1.04 * np.cos(c), h * np.cos(c)],
            [1.04 * np.sin(c), h * np.sin(c)],
            color="#999999",
            linewidth=2.4,
            solid_capstyle="butt",
        )
    ax.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6))
    ax.set_aspect("equal", adjustable="box")
    ax.axis("off")
    return ax


def sphere_map(ax: Axes, x: Any, labels: Any = None, names: Sequence[str] = (), *, size: float = 5) -> Axes:
    """Unit vectors in space as the two hemispheres of an equal-area (Lambert) map: equal areas hold equal shares of the sphere.

    A picture of a ball hides its back and squeezes its rim; on this map an even spread looks even everywhere.
    """
    x = _array(x)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    colours = np.array([COLOURS[0]] * len(x), dtype=object)
    if labels is not None:
        labels = _array(labels).astype(int)
        classes = np.unique(labels)
        palette = class_colours(len(classes))
        colours = np.array([palette[np.searchsorted(classes, k)] for k in labels], dtype=object)
    for side, offset in ((1.0, -1.05), (-1.0, 1.05)):
        rows = x[:, 2] * side >= 0
        p = x[rows]
        scale = np.sqrt(1.0 / (1.0 + np.abs(p[:, 2])))  # Lambert: equator at radius 1
        ax.scatter(offset + side * p[:, 0] * scale, p[:, 1] * scale, s=size, c=list(colours[rows]), alpha=0.75, linewidths=0)
        turn = np.linspace(0, 2 * np.pi, 200)
        ax.plot(offset + np.cos(turn), np.sin(turn), color="#aaaaaa", linewidth=1)
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def pair_map(ax: Axes, x: Any, y: Any, names: tuple[str, str] = ("image", "text"), *, lines: int = 150) -> Axes:
    """Two modalities on their common principal plane, with lines between the first `lines` matched pairs."""
    p, q = principal_plane(x, y)
    for a, b in zip(p[:lines], q[:lines], strict=True):
        ax.plot([a[0], b[0]], [a[1], b[1]], color="#bbbbbb", linewidth=0.6, zorder=1)
    ax.scatter(p[:, 0], p[:, 1], s=12, color=COLOURS[0], alpha=0.75, linewidths=0, label=names[0], zorder=2)
    ax.scatter(q[:, 0], q[:, 1], s=12, color=COLOURS[1], alpha=0.75, linewidths=0, label=names[1], zorder=2, marker="s")
    ax.legend(loc="best", handletextpad=0.1)
    ax.set_aspect("equal", adjustable="box")
    ax.set(xlabel="first principal component", ylabel="second principal component")
    return ax
