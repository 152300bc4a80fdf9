"""Points that pull and push on the circle or the sphere, step by step, to be turned by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.checks import require_unit_rows
from workbench.widgets.explorer import Explorer, labelled


def settle(
    pairs: Tensor, n: int, *, push: float, dim: int = 3, t: float = 2.0, steps: int = 60, rate: float = 0.05, seed: int = 0
) -> Tensor:
    r"""n free points of a sphere that follow alignment and uniformity downhill, with no network between.

    .. math:: \frac{1}{\lvert P \rvert} \sum_{(i,j) \in P} \lVert x_i - x_j \rVert^2
        + \lambda \log \frac{2}{n(n-1)} \sum_{i<j} e^{-t \lVert x_i - x_j \rVert^2}

    Args:
        pairs: (p, 2) indices of the points that pull each other.
        n: number of points.
        push: lambda, the weight of uniformity; 0 lets the points collapse.
        dim: 2 for the circle, 3 for the sphere.
        t: sharpness of the push.
        steps: gradient steps with momentum, back onto the sphere after each.
        rate: size of a step.
        seed: where the points start, evenly drawn.

    Returns:
        (steps + 1, n, dim) unit rows, from the start on.

    Raises:
        ValueError: indices outside 0..n-1, a negative push, or a dimension below 2.

    Source: Wang & Isola 2020 (arXiv 2005.10242), section 4, here for free points.

    Example:
        >>> two = settle(torch.tensor([[0, 1]]), 2, push=0.0, steps=150)
        >>> float((two[-1, 0] - two[-1, 1]).norm()) < 0.05
        True
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or int(pairs.min()) < 0 or int(pairs.max()) >= n:
        raise ValueError(f"pairs must be (p, 2) indices in 0..{n - 1}, got shape {tuple(pairs.shape)}")
    if push < 0 or dim < 2 or n < 2:
        raise ValueError(f"push must be at least 0, dim and n at least 2; got {push}, {dim}, {n}")
    x = torch.nn.functional.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)
    frames, velocity = [x], torch.zeros_like(x)
    for _ in range(steps):
        leaf = x.clone().requires_grad_()
        pull = (leaf[pairs[:, 0]] - leaf[pairs[:, 1]]).square().sum(1).mean()
        spread = torch.pdist(leaf).square().mul(-t).exp().mean().log() if push else 0.0
        (gradient,) = torch.autograd.grad(pull + push * spread, leaf)
        velocity = 0.8 * velocity + n * gradient  # both terms are means: a point's own part shrinks as 1 / n
        x = torch.nn.functional.normalize(x - rate * velocity, dim=1)
        frames.append(x)
    return torch.stack(frames)


def nearest_pairs(features: Tensor, k: int = 3) -> Tensor:
    """(n k, 2) pairs of each row with its k nearest others by cosine: what shall pull in `settle`."""
    unit = require_unit_rows(features, "features")
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    near = similarity.topk(k, dim=1).indices
    return torch.stack([torch.arange(len(unit)).repeat_interleave(k), near.flatten().cpu()], 1)


def oriented(x: Tensor, turn: float, tilt: float) -> Tensor:
    """(n, 3) points as seen after a turn about the vertical axis and a tilt towards the viewer, in degrees: right, up, near."""
    a, b = math.radians(turn), math.radians(tilt)
    about = torch.tensor([[math.cos(a), 0.0, math.sin(a)], [0.0, 1.0, 0.0], [-math.sin(a), 0.0, math.cos(a)]])
    forward = torch.tensor([[1.0, 0.0, 0.0], [0.0, math.cos(b), -math.sin(b)], [0.0, math.sin(b), math.cos(b)]])
    return x.float() @ (forward @ about).T


def facing(x: Tensor) -> tuple[int, int]:
    """Turn and tilt, in tens of degrees, that bring the middle of (n, 3) points to the front; none for the circle."""
    if x.shape[1] != 3:
        return 0, 0
    right, up, near = x.mean(0).tolist()
    turn, tilt = -math.atan2(right, near), math.atan2(up, math.hypot(right, near))
    return 10 * round(math.degrees(turn) / 10), 10 * round(math.degrees(tilt) / 10)


def sphere_explorer(
    walks: Mapping[str, Tensor],
    *,
    labels: Tensor | None = None,
    names: Sequence[str] = (),
    images: Tensor | None = None,
) -> Explorer:
    """Points on the circle or the sphere: choose a walk and a step, turn the ball, mark a class.

    Args:
        walks: name -> (steps, n, d) unit rows from `settle` or training, or (n, d) for one step; d is 2 or 3 in each.
        labels: (n,) integer classes, for colours and for marking one.
        names: names of the classes.
        images: (n, c, h, w) pictures of the points; shown for a few of the marked ones.

    Returns:
        The explorer; uniformity and the cosines are computed for the step that is shown.

    Raises:
        ValueError: no walks, other dimensions, or rows that do not match.
    """
    import ipywidgets

    if not walks:
        raise ValueError("walks is empty; at least one name -> (steps, n, d) points is wanted")
    frames = {name: (w if w.ndim == 3 else w[None]).detach().float().cpu() for name, w in walks.items()}
    for name, w in frames.items():
        if w.ndim != 3 or w.shape[2] not in (2, 3) or not torch.isfinite(w).all():
            raise ValueError(f"walks[{name!r}] must be finite (steps, n, 2 or 3) points, got {tuple(walks[name].shape)}")
        if w.shape[1] != next(iter(frames.values())).shape[1] or (labels is not None and len(labels) != w.shape[1]):
            raise ValueError(f"walks[{name!r}] has {w.shape[1]} points; all walks and the labels must have as many")
    longest = max(len(w) for w in frames.values())
    classes = {"all": -1}
    if labels is not None:
        classes |= {(names[int(c)] if len(names) else f"class {int(c)}"): int(c) for c in labels.unique()}

    turn, tilt = facing(next(iter(frames.values()))[-1])

    def draw(walk: str, step: int, turn: float, tilt: float, mark: int) -> Any:
        w = frames[walk]
        step = min(step, len(w) - 1)
        return ball_figure(w, step, walk, turn, tilt, labels, mark, images, {v: k for k, v in classes.items()})

    controls = {
        "walk": labelled(ipywidgets.Dropdown, "points", options=list(frames)),
        "step": labelled(ipywidgets.IntSlider, "step", value=longest - 1, min=0, max=max(1, longest - 1)),
        "turn": labelled(ipywidgets.IntSlider, "turn in °", value=turn, min=-180, max=180, step=10),
        "tilt": labelled(ipywidgets.IntSlider, "tilt in °", value=tilt, min=-90, max=90, step=10),
        "mark": labelled(ipywidgets.Dropdown, "mark", options=classes),
    }
    return Explorer(draw, controls, [["walk", "mark", "step"], ["turn", "tilt"]])


def ball_figure(
    walk: Tensor,
    step: int,
    name: str,
    turn: float,
    tilt: float,
    labels: Tensor | None,
    mark: int,
    images: Tensor | None,
    class_names: Mapping[int, str],
) -> Any:
    """The figure: the circle or the ball seen from outside (its back faint), and the cosines of any two points."""
    import matplotlib.pyplot as plt

    from workbench import metrics
    from workbench.plots import COLOURS
    from workbench.plots.style import class_colours

    x = walk[step]
    figure = plt.figure(figsize=(10.5, 4.7), layout="none")
    ax = figure.add_axes((0.02, 0.02, 0.44, 0.86))
    around = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(around), np.sin(around), color="#bbbbbb", linewidth=1)
    seen = oriented(x, turn, tilt) if x.shape[1] == 3 else torch.cat([x, torch.ones(len(x), 1)], 1)
    colours = np.full(len(x), COLOURS[0], dtype=object)
    if labels is not None:
        kinds = labels.unique()
        palette = class_colours(len(kinds))
        colours = np.array([palette[int(i)] for i in torch.searchsorted(kinds, labels.to(kinds))], dtype=object)
    marked = np.ones(len(x), bool) if mark < 0 or labels is None else (labels == mark).cpu().numpy()
    colours = np.where(marked, colours, "#c8c8c8")
    front = seen[:, 2].numpy() >= 0
    for rows, alpha, size in (
        (~front & ~marked, 0.15, 8),
        (~front & marked, 0.3, 12),
        (front & ~marked, 0.5, 12),
        (front & marked, 0.9, 26),
    ):
        ax.scatter(seen[rows, 0], seen[rows, 1], s=size, c=list(colours[rows]), alpha=alpha, linewidths=0)
    if images is not None and mark >= 0:
        _thumbnails(ax, seen[torch.from_numpy(front & marked)], images[torch.from_numpy(front & marked)])
    ax.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    ax.axis("off")
    right = figure.add_axes((0.56, 0.14, 0.41, 0.66))
    unit = torch.nn.functional.normalize(x, dim=1)
    cosines = (unit @ unit.T)[torch.triu(torch.ones(len(x), len(x), dtype=torch.bool), 1)]
    bins = np.linspace(-1, 1, 41).tolist()
    right.hist(cosines.numpy(), bins=bins, density=True, color="#9a9a9a", alpha=0.8, label="any two")
    if labels is not None:
        same = (labels[:, None] == labels[None]).cpu()
        same = same[torch.triu(torch.ones_like(same), 1)]
        right.hist(
            cosines[same].numpy(), bins=bins, density=True, histtype="step", color=COLOURS[2], linewidth=1.8, label="same class"
        )
    right.set(xlim=(-1, 1), xlabel="cosine", ylabel="density", yticks=[])
    right.legend(fontsize=9)
    even = "the whole circle" if x.shape[1] == 2 else "the whole sphere"
    right.set_title(
        f"uniformity {float(metrics.uniformity(x)) + 0.0:.2f}\n(0: one point, {most_even(x.shape[1]):.2f}: evenly on {even})",
        fontsize=10,
    )
    said = "" if mark < 0 else f"; marked: {class_names[mark]}"
    figure.suptitle(f"{name}, step {step} of {len(walk) - 1}{said}", x=0.01, ha="left", fontsize=12)
    return figure


def most_even(dim: int, t: float = 2.0) -> float:
    r"""Uniformity of the even density on the circle, $\log e^{-2t} I_0(2t)$, or on the sphere, $\log (1 - e^{-4t}) / 4t$."""
    if dim == 2:
        return float(torch.special.i0e(torch.tensor(2 * t, dtype=torch.float64)).log())
    return math.log(-math.expm1(-4 * t) / (4 * t))


def _thumbnails(ax: Any, points: Tensor, images: Tensor, apart: float = 0.24) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    from workbench.plots.pictures import to_array

    placed: list[Tensor] = []
    for point, image in zip(points[:, :2], images, strict=True):
        if placed and float((torch.stack(placed) - point).norm(dim=1).min()) < apart:
            continue
        placed.append(point)
        ax.add_artist(AnnotationBbox(OffsetImage(to_array(image), zoom=0.75), tuple(point.tolist()), frameon=False, pad=0))
