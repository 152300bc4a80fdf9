"""The geometry dashboard: the same pictures and numbers for every model of every notebook, so that papers compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from workbench import metrics
from workbench.checks import require_same_shape, require_unit_rows
from workbench.papers.geometry import GEOMETRY_MIME
from workbench.plots.points import label_scatter, principal_plane
from workbench.plots.style import COLOURS, closed

VIEWS = ("first view", "second view")
POINTS = 1500  # rows drawn or compared pair by pair; the numbers below the pictures use all rows


class Dashboard(Figure):
    """A figure that hands its numbers on: an executed notebook then carries them beside the picture."""

    models: Sequence[dict[str, Any]] = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {GEOMETRY_MIME: list(self.models)} if self.models else {}


def geometry_numbers(x: Tensor, y: Tensor | None = None, labels: Tensor | None = None, *, gap: bool = True) -> dict[str, float]:
    """The dashboard's numbers for one model: uniformity, effective rank, and where they exist alignment, tolerance and gap.

    Args:
        x: (n, d) embeddings of held-out rows.
        y: (n, d) embeddings of their partners: the second view, or the other modality.
        labels: (n,) integer classes.
        gap: whether the partners are another modality, so that the distance of the two centroids means something.
    """
    numbers = {"uniformity": float(metrics.uniformity(x)), "effective rank": float(metrics.effective_rank(x))}
    if y is not None:
        numbers["alignment"] = float(metrics.alignment(x, y))
        if gap:
            u, v = require_unit_rows(x, "x"), require_unit_rows(y, "y")
            numbers["modality gap"] = float((u.mean(0) - v.mean(0)).norm())
    if labels is not None:
        numbers["tolerance"] = float(metrics.tolerance(x, labels))
    return numbers


def right_among(x: Tensor, y: Tensor, candidates: int = 10) -> float:
    r"""How often a row finds its partner among 10 candidates, mean of both directions: retrieval that does not depend on n.

    $$\frac1n\sum_i\binom{n-1-b_i}{9}\Big/\binom{n-1}{9}$$ with $b_i$ the rows at least as near as the partner: the exact expectation
    over the nine other candidates.

    Args:
        x: (n, d) embeddings, at least 10 rows; the first 1500 are used.
        y: (n, d) embeddings of their partners.
        candidates: how many to choose from, the partner included.

    Returns:
        a share from 0 to 1; chance is 1 / candidates.

    Raises:
        ValueError: fewer rows than candidates, or embeddings that the checks refuse.
    """
    u, v = require_unit_rows(x, "x")[:POINTS], require_unit_rows(y, "y")[:POINTS]
    require_same_shape(u, v, "x", "y")
    n = len(u)
    if n < candidates:
        raise ValueError(f"x must have at least {candidates} rows, got {n}")
    s = u @ v.T
    others = torch.arange(candidates - 1, dtype=torch.float64)
    shares = []
    for scores in (s, s.T):
        nearer = ((scores >= scores.diagonal()[:, None]).sum(1) - 1).double().cpu()
        shares.append((((n - 1 - nearer)[:, None] - others).clamp(min=0) / (n - 1 - others)).prod(1).mean())
    return float(sum(shares) / 2)


def geometry_dashboard(
    models: Mapping[str, Tensor | tuple[Tensor, Tensor]],
    *,
    labels: Tensor | None = None,
    label_names: Sequence[str] = (),
    extra: Mapping[str, Mapping[str, float]] | None = None,
    pair_names: tuple[str, str] = VIEWS,
    title: str = "",
) -> Figure:
    """Side by side for each model: map, cosines, spectrum; below, every number as one strip.

    Args:
        models: name -> (n, d) embeddings of held-out rows, or a pair of them, row i matching row i.
        labels: (n,) integer classes; adds colours, same-class cosines and tolerance.
        label_names: names of the classes, for the legend.
        extra: further numbers, such as {'knn accuracy': {model: value}}; each becomes a strip. Names that end in 'probe' or
            'suppression' (such as 'colour probe') reach the site's table of what each model keeps of each factor.
        pair_names: what the two members of a pair are.
        title: the finding, in words.

    Raises:
        ValueError: no models, rows that do not match, or embeddings that the metrics refuse.
    """
    if not models:
        raise ValueError("models is empty; at least one name -> embeddings is wanted")
    pairs = {name: (m if isinstance(m, tuple) else (m, None)) for name, m in models.items()}
    two_modalities = pair_names != VIEWS
    numbers = {name: geometry_numbers(x, y, labels, gap=two_modalities) for name, (x, y) in pairs.items()}
    for metric, values in (extra or {}).items():
        for name in models:
            numbers[name][metric] = float(values[name])
    strips = list(dict.fromkeys(k for row in numbers.values() for k in row))
    figure = plt.figure(figsize=(max(4.1 * len(models), 1.9 * len(strips), 8.2), 8.6), FigureClass=Dashboard)
    assert isinstance(figure, Dashboard)
    figure.models = [
        _recorded(name, x, y, pair_names if two_modalities else None, numbers[name]) for name, (x, y) in pairs.items()
    ]
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.6, 1 + 0.25 * len(models)])
    axes = upper.subplots(3, len(models), squeeze=False, height_ratios=[1.7, 1, 1])
    for i, (column, (name, (x, y))) in enumerate(zip(axes.T, pairs.items(), strict=True)):
        draw_map(column[0], x, y, labels, label_names, pair_names, legend=i == 0)
        column[0].set_title(name)
        draw_cosines(column[1], x, y, labels)
        draw_spectrum(column[2], x, numbers[name]["effective rank"])
    for ax in axes[0]:
        ax.set_aspect("equal", adjustable="box")
    for row in axes:  # one scale across the models, so that shapes compare
        for limits, apply in (
            (np.array([ax.get_xlim() for ax in row]), "set_xlim"),
            (np.array([ax.get_ylim() for ax in row]), "set_ylim"),
        ):
            for ax in row:
                getattr(ax, apply)(limits[:, 0].min(), limits[:, 1].max())
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    handles, texts = axes[1, 0].get_legend_handles_labels()
    axes[1, -1].legend(handles, texts, fontsize=8, loc="upper left")
    draw_strips(lower, numbers, strips)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return closed(figure)


def _recorded(
    name: str, x: Tensor, y: Tensor | None, pair: tuple[str, str] | None, numbers: Mapping[str, float]
) -> dict[str, Any]:
    kept = {metric: value for metric, value in numbers.items() if np.isfinite(value)}
    if pair is not None and y is not None and len(x) >= 10:
        kept["right among 10 random rows"] = right_among(x, y)
    return {"model": name, "rows": len(x), "width": x.shape[1], "pair": None if pair is None else list(pair), "numbers": kept}


def draw_map(
    ax: Axes, x: Tensor, y: Tensor | None, labels: Any, names: Sequence[str], pair_names: tuple[str, str], *, legend: bool
) -> None:
    """The rows on their two leading principal components; the partners as crosses when they are another modality."""
    rows = slice(None, POINTS)
    if y is not None and pair_names != VIEWS:
        p, q = principal_plane(x[rows], y[rows])
        ax.scatter(p[:, 0], p[:, 1], s=9, color=COLOURS[0], alpha=0.6, linewidths=0, label=pair_names[0])
        ax.scatter(q[:, 0], q[:, 1], s=11, color=COLOURS[1], alpha=0.6, linewidths=0.8, marker="x", label=pair_names[1])
        ax.set_aspect("equal", adjustable="datalim")
        ax.set(xticks=[], yticks=[])
        if legend:
            ax.legend(handletextpad=0.1, fontsize=8)
        return
    many = labels is not None and len(torch.unique(labels)) > 12
    label_scatter(
        ax,
        principal_plane(x[rows])[0],
        labels if labels is None else labels[rows],
        names,
        size=7,
        legend=legend and labels is not None and not many,
    )


def draw_cosines(ax: Axes, x: Tensor, y: Tensor | None, labels: Tensor | None) -> None:
    """Histograms of cosines: partners, same class, any two rows."""
    u = require_unit_rows(x, "x")[:POINTS].cpu()
    bins = np.linspace(-1, 1, 61).tolist()
    cosines = u @ u.T
    upper = torch.triu(torch.ones_like(cosines, dtype=torch.bool), 1)
    ax.hist(cosines[upper].numpy(), bins=bins, density=True, color="#9a9a9a", alpha=0.75, label="any two")
    if labels is not None:
        own = labels[: len(u)].cpu()
        same = upper & (own[:, None] == own[None, :])
        if same.any():
            ax.hist(
                cosines[same].numpy(),
                bins=bins,
                density=True,
                histtype="step",
                color=COLOURS[2],
                linewidth=1.8,
                label="same class",
            )
    if y is not None:
        v = require_unit_rows(y, "y")[:POINTS].cpu()
        require_same_shape(u, v, "x", "y")
        ax.hist(
            (u * v).sum(1).numpy(), bins=bins, density=True, histtype="step", color=COLOURS[1], linewidth=1.8, label="partners"
        )
    ax.set(xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1), xlabel="cosine", ylabel="density", yticks=[])


def draw_spectrum(ax: Axes, x: Tensor, effective_rank: float) -> None:
    """Singular values as shares of the largest, with the effective rank marked."""
    values = torch.linalg.svdvals(require_unit_rows(x, "x").double()).cpu().numpy()
    ax.plot(np.arange(1, len(values) + 1), values / values[0], color=COLOURS[0])
    ax.axvline(effective_rank, color=COLOURS[1], linewidth=1.5, linestyle="--")
    ax.annotate(
        f"effective rank {effective_rank:.1f}",
        (effective_rank, 0.75),
        xytext=(5, 0),
        textcoords="offset points",
        color=COLOURS[1],
        fontsize=9,
    )
    ax.set(
        yscale="log", ylim=(max(1e-4, values[-1] / values[0] / 2), 1.5), xlabel="singular value number", ylabel="share of largest"
    )


def draw_strips(figure: Any, numbers: Mapping[str, Mapping[str, float]], strips: Sequence[str]) -> None:
    """One small axis per metric, one dot per model."""
    better = {
        "uniformity": "lower = more even",
        "alignment": "lower = partners nearer",
        "tolerance": "cosine within a class",
        "modality gap": "distance of centroids",
    }
    axes = figure.subplots(1, len(strips), sharey=True, squeeze=False)[0]
    names = list(numbers)
    for ax, metric in zip(axes, strips, strict=True):
        values = [numbers[n].get(metric, np.nan) for n in names]
        for i, value in enumerate(values):
            ax.plot(value, i, "o", color=COLOURS[i % len(COLOURS)], markersize=9)
            ax.annotate(f"{value:.3g}", (value, i), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
        finite = [v for v in values if np.isfinite(v)] or [0.0]
        pad = 0.35 * (max(finite) - min(finite)) or 0.2 * abs(finite[0]) or 1.0
        ax.set(
            xlim=(min(finite) - pad, max(finite) + pad),
            ylim=(len(names) - 0.4, -0.8),
            yticks=range(len(names)),
            yticklabels=names,
        )
        ax.set_title(metric, fontsize=10)
        ax.set_xlabel(better.get(metric, ""), fontsize=8)
        ax.tick_params(axis="x", labelsize=8)
        ax.locator_params(axis="x", nbins=3)
