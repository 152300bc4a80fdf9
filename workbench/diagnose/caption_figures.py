"""The figures of a diagnosis of captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from workbench.diagnose.caption_verdicts import NAMES
from workbench.plots.style import COLOURS, closed

if TYPE_CHECKING:
    from workbench.diagnose.caption_study import CaptionStudy

MOST = 15  # objects of a figure
MARKERS = ("o", "s")


def caption_figures(study: CaptionStudy) -> dict[str, Figure]:
    """Name -> figure, in the order of the report; a figure without data is left out."""
    found = {"scores": scores(study)}
    if any(o.hallucinated for o in study.measures.objects):
        found["objects"] = objects(study)
    if any(not r.chosen for r in study.measures.rules):
        found["rules"] = rules(study)
    return found


def scores(study: CaptionStudy) -> Figure:
    """The three scores of each system with intervals, and what the same captions have under other pictures."""
    figure, ax = plt.subplots(figsize=(7, 1.2 + 0.45 * 3 * len(study.names)), layout="constrained")
    ticks, labels = [], []
    for i, (name, words) in enumerate(NAMES.items()):
        for j, system in enumerate(study.names):
            e = study.measures.find(name, system)
            y = i * (len(study.names) + 0.5) + j
            ticks.append(y)
            labels.append(words if j == 0 else "")
            if e is None:
                continue
            ax.plot([e.low, e.high], [y, y], color=COLOURS[j], linewidth=2, alpha=0.6)
            ax.scatter(
                [e.value], [y], color=COLOURS[j], marker=MARKERS[j], s=40, zorder=3, label=_plain(system) if i == 0 else None
            )
            if e.null is not None:
                ax.scatter(
                    [e.null], [y], color="#444444", marker="|", s=140, zorder=2, label="other pictures" if i == j == 0 else None
                )
    ax.set(yticks=ticks, yticklabels=labels, xlim=(-0.02, 1.02), title=_headline(study))
    _finish(ax)
    return closed(figure)


def objects(study: CaptionStudy) -> Figure:
    """The objects that are most often hallucinated: share of their mentions that are wrong."""
    total: dict[str, int] = {}
    for o in study.measures.objects:
        total[o.object] = total.get(o.object, 0) + o.hallucinated
    chosen = [name for name in sorted(total, key=lambda k: (-total[k], k)) if total[name]][:MOST]
    figure, ax = plt.subplots(figsize=(7, 1.2 + 0.32 * len(chosen) * max(1, 0.7 * len(study.names))), layout="constrained")
    for j, system in enumerate(study.names):
        first = True
        for o in study.measures.objects:
            if o.system == system and o.object in chosen and o.share is not None:
                y = chosen.index(o.object) + 0.3 * (j - (len(study.names) - 1) / 2)
                if o.low is not None and o.high is not None:
                    ax.plot([o.low, o.high], [y, y], color=COLOURS[j], linewidth=2, alpha=0.6)
                ax.scatter(
                    [o.share], [y], color=COLOURS[j], marker=MARKERS[j], s=36, zorder=3, label=_plain(system) if first else None
                )
                first = False
    ax.set(
        yticks=range(len(chosen)),
        yticklabels=[_plain(name) for name in chosen],
        xlim=(-0.02, 1.02),
        xlabel="share of its mentions that are not in the picture",
        title=f"Wrong mentions by object: {_plain(chosen[0])} most often ({total[chosen[0]]})",
    )
    _finish(ax)
    return closed(figure)


def rules(study: CaptionStudy) -> Figure:
    """CHAIR_i under every set of rules."""
    rows = [r for r in study.measures.rules if r.name == "chair_i"]
    chosen = next(r.rules for r in study.measures.rules if r.chosen)
    sets = list(dict.fromkeys(r.rules for r in rows))
    figure, ax = plt.subplots(figsize=(8, 1.2 + 0.4 * len(sets)), layout="constrained")
    for j, system in enumerate(study.names):
        for i, r in enumerate(r for r in rows if r.system == system):
            y = sets.index(r.rules) + 0.25 * (j - (len(study.names) - 1) / 2)
            ax.plot([r.low, r.high], [y, y], color=COLOURS[j], linewidth=2, alpha=0.6)
            ax.scatter(
                [r.value], [y], color=COLOURS[j], marker=MARKERS[j], s=36, zorder=3, label=_plain(system) if i == 0 else None
            )
    values = [[r.value for r in rows if r.system == system] for system in study.names]
    most = max((max(v) - min(v) for v in values if v), default=0.0)
    ax.set(
        yticks=range(len(sets)),
        yticklabels=["chosen rules" if r == chosen else r.beside(chosen) for r in sets],
        xlim=(-0.02, 1.02),
        xlabel="share of hallucinated mentions (CHAIR_i)",
        title=f"Other rules move CHAIR_i by up to {100 * most:.1f} points",
    )
    _finish(ax)
    return closed(figure)


def _plain(text: str) -> str:
    """User text as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def _finish(ax: plt.Axes) -> None:
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def _headline(study: CaptionStudy) -> str:
    shares = [(n, e.value) for n in study.names if (e := study.measures.find("chair_i", n)) is not None]
    return (
        "Wrong mentions: " + ", ".join(f"{_plain(n)} {v:.1%}" for n, v in shares)
        if shares
        else "No caption mentions a known object"
    )
