"""The figures of a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from workbench.plots import COLOURS, geometry_dashboard
from workbench.plots.style import closed

if TYPE_CHECKING:
    from workbench.diagnose.study import EmbeddingStudy

MOST = 5_000  # rows of a figure


def study_figures(study: EmbeddingStudy) -> dict[str, Figure]:
    """Name -> figure, in the order of the report; a figure whose data is missing is left out."""
    found = {"geometry": geometry(study)}
    if study.inputs.paired:
        found |= {"pairs": pairs(study), "shift": shift(study)}
    if any(m.estimate.name == "factor_probe" for m in study.measures.estimates):
        found["probes"] = probes(study)
    return found


def geometry(study: EmbeddingStudy) -> Figure:
    """The shared dashboard: one column for each set, or one for two paired modalities."""
    inputs = study.inputs
    n = len(inputs.sets[0])
    rows = np.arange(n) if n <= MOST else np.sort(np.random.default_rng(study.settings["seed"]).choice(n, MOST, replace=False))
    labels = None if inputs.labels is None or not inputs.aligned else torch.from_numpy(inputs.labels[0][rows])
    names = () if inputs.labels is None else inputs.labels[1]
    if inputs.paired:
        x, y = (torch.from_numpy(s.values[rows]) for s in inputs.sets)
        both = {" and ".join(study.names): (x, y)}
        return geometry_dashboard(both, labels=labels, label_names=names, pair_names=(study.names[0], study.names[1]))
    models: dict[str, torch.Tensor | tuple[torch.Tensor, torch.Tensor]] = {
        s.name: torch.from_numpy(s.values[rows] if inputs.aligned else s.values[:MOST]) for s in inputs.sets
    }
    return geometry_dashboard(models, labels=labels, label_names=names)


def pairs(study: EmbeddingStudy) -> Figure:
    """Cosines of partners and of strangers."""
    x, y = (s.values[:MOST] / np.linalg.norm(s.values[:MOST], axis=1, keepdims=True) for s in study.inputs.sets)
    matched = (x * y).sum(1)
    shifts = np.random.default_rng(study.settings["seed"]).integers(1, len(x), size=4) if len(x) > 1 else [0]
    strangers = np.concatenate([(x * np.roll(y, s, axis=0)).sum(1) for s in shifts])
    figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
    edges = np.linspace(min(matched.min(), strangers.min()), max(matched.max(), strangers.max()) + 1e-6, 60).tolist()
    for values, colour, name in ((strangers, COLOURS[6], "strangers"), (matched, COLOURS[0], "partners")):
        ax.hist(values, edges, density=True, color=colour, alpha=0.6, label=f"{name}, mean {values.mean():.2f}")
    above = float((matched[:, None] > np.quantile(strangers, 0.99)).mean())
    ax.set(
        title=f"{above:.0%} of the partners are closer than 99% of strangers",
        xlabel=f"cosine between {study.names[0]} and {study.names[1]}",
        ylabel="density",
    )
    ax.legend()
    return closed(figure)


def shift(study: EmbeddingStudy) -> Figure:
    """Retrieval before and after the two clouds are shifted onto each other."""
    gap = study.measures.gap
    figure, ax = plt.subplots(figsize=(7, 2.2), layout="constrained")
    if gap is None:
        ax.text(0.5, 0.5, "the gap could not be measured", ha="center")
        return closed(figure)
    a, b = study.names
    rows = ((f"{a} → {b}", gap.recall_x2y, gap.recall_x2y_shifted), (f"{b} → {a}", gap.recall_y2x, gap.recall_y2x_shifted))
    for i, (_, before, after) in enumerate(rows):
        ax.plot([before, after], [i, i], color="#999999", linewidth=2, zorder=1)
        ax.scatter([before], [i], color=COLOURS[6], s=60, label="as given" if i == 0 else None, zorder=2)
        ax.scatter(
            [after], [i], color=COLOURS[1], marker="s", s=60, label="clouds shifted onto each other" if i == 0 else None, zorder=2
        )
    moved = 50 * (rows[0][2] - rows[0][1] + rows[1][2] - rows[1][1])
    ax.set(
        yticks=[0, 1],
        yticklabels=[r[0] for r in rows],
        ylim=(-0.6, 1.6),
        xlim=(-0.02, 1.02),
        xlabel="recall@1",
        title=f"Closing the gap by a shift changes recall@1 by {moved:+.1f} points",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return closed(figure)


def probes(study: EmbeddingStudy) -> Figure:
    """What a linear probe and neighbours read from each set, against always guessing the most frequent value."""
    found = [m for m in study.measures.estimates if m.estimate.name == "factor_probe"]
    what = list(dict.fromkeys(m.against for m in found))
    sets = list(dict.fromkeys(m.of for m in found))
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.42 * len(what) * max(1, len(sets))), layout="constrained")
    ticks, labels = [], []
    for i, factor in enumerate(what):
        for j, name in enumerate(sets):
            y = i * (len(sets) + 0.6) + j
            ticks.append(y)
            labels.append(f"{factor}, {name}" if len(sets) > 1 else str(factor))
            for variant, marker, colour in (("logistic", "o", COLOURS[0]), ("knn", "s", COLOURS[1])):
                for m in found:
                    if (m.against, m.of, m.variant) == (factor, name, variant):
                        e = m.estimate
                        ax.plot([e.low, e.high], [y, y], color=colour, linewidth=2, alpha=0.6)
                        ax.scatter([e.value], [y], color=colour, marker=marker, s=36, zorder=3)
                        ax.scatter([e.null or 0.0], [y], color="#444444", marker="|", s=120, zorder=2)
    ax.set(
        yticks=ticks,
        yticklabels=labels,
        xlim=(-0.02, 1.02),
        xlabel="accuracy on held-out rows",
        title="What can be read from the vectors",
    )
    ax.invert_yaxis()
    for marker, colour, name in (
        ("o", COLOURS[0], "linear probe"),
        ("s", COLOURS[1], "5 nearest neighbours"),
        ("|", "#444444", "most frequent value"),
    ):
        ax.scatter([], [], marker=marker, color=colour, label=name)
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return closed(figure)


def scene_figure(study: EmbeddingStudy) -> Figure:
    """What the model tells apart on rendered scenes: zero-shot, minimal pairs, and how far an edit moves a picture."""
    panels = [
        ("zero_shot", "zero-shot accuracy", "Names of one factor"),
        ("pairs_text", "minimal pairs, both pictures right", "One detail changed"),
        ("pair_cosine", "cosine of the two pictures", "What an edit moves"),
    ]
    kept = [(n, x, t, [m for m in study.measures.estimates if m.estimate.name == n]) for n, x, t in panels]
    kept = [row for row in kept if row[3]]
    figure, axes = plt.subplots(1, len(kept), figsize=(4.2 * len(kept), 3.2), layout="constrained", squeeze=False)
    for ax, (_, words, title, found) in zip(axes[0], kept, strict=True):
        for y, m in enumerate(found):
            e = m.estimate
            ax.plot([e.low, e.high], [y, y], color=COLOURS[0], linewidth=2, alpha=0.6)
            ax.scatter([e.value], [y], color=COLOURS[0], s=36, zorder=3, label="model" if y == 0 else None)
            if e.null is not None:
                ax.scatter(
                    [e.null], [y], color="#444444", marker="|", s=120, zorder=2, label="without structure" if y == 0 else None
                )
        extreme = max(found, key=lambda m: m.estimate.value)
        title += f": {extreme.against} {'least' if words.startswith('cosine') else 'best'}"
        least = min(0.0, *(m.estimate.low for m in found), *(m.estimate.null or 0.0 for m in found))
        ax.set(
            yticks=range(len(found)),
            yticklabels=[str(m.against) for m in found],
            xlim=(least - 0.02, 1.02),
            xlabel=words,
            title=title,
        )
        ax.invert_yaxis()
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return closed(figure)
