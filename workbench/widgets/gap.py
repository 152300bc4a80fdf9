"""The modality gap under the hand: shift both clouds, and watch what a query finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench import metrics
from workbench.metrics._blocks import require_unit_pairs
from workbench.widgets.explorer import Explorer, labelled

SHARES = tuple(round(0.1 * i, 1) for i in range(-5, 16))  # of the gap that is taken away
FOUND = 7


@dataclass(frozen=True)
class Shifted:
    """Two modalities after a share of the gap between them was taken away.

    Attributes:
        x, y: (n, d) rows of length one.
        gap: distance of the two centroids.
        recall: share of the rows whose partner is among the k nearest of the other modality, mean of both ways.
        mixed: the same when all other rows of both modalities stand in one index.
        own: share of a row's k nearest in that one index that belong to its own modality; 0.5 where modalities mix.
    """

    x: Tensor
    y: Tensor
    gap: float
    recall: float
    mixed: float
    own: float


def shifted(x: Tensor, y: Tensor, share: float, *, k: int = 10) -> Shifted:
    """Take a share of the gap away (0: nothing, 1: all of it, below 0: widen it) and measure retrieval.

    Raises:
        ValueError, TypeError: bad or unpaired embeddings, fewer than k + 1 rows.

    Source: Liang et al. 2022 (arXiv 2203.02053), section 5; the one index for both is ours.
    """
    u, v = metrics.shift_gap(x, y, amount=share / 2)
    ranks = [metrics.recall_at_k(a, b, k=k).at[k] for a, b in ((u, v), (v, u))]
    n = len(u)
    both = torch.cat([u, v])
    near = (both @ both.T).fill_diagonal_(-torch.inf).topk(k, dim=1).indices
    side = torch.arange(2 * n, device=near.device) >= n
    partner = (torch.arange(2 * n, device=near.device) + n) % (2 * n)
    return Shifted(
        x=u,
        y=v,
        gap=float((u.mean(0) - v.mean(0)).norm()),
        recall=sum(ranks) / 2,
        mixed=float((near == partner[:, None]).any(1).float().mean()),
        own=float((side[near] == side[:, None]).float().mean()),
    )


def nearest(
    query: Tensor, pools: Sequence[Tensor], count: int, leave_out: tuple[int, int] | None = None
) -> list[tuple[int, int, float]]:
    """The rows nearest to a query in several pools together, as (pool, row, cosine), best first."""
    scores = [pool @ query for pool in pools]
    if leave_out is not None:
        scores[leave_out[0]] = scores[leave_out[0]].clone()
        scores[leave_out[0]][leave_out[1]] = -torch.inf
    values, at = torch.cat(scores).topk(count)
    edges = np.cumsum([0, *(len(s) for s in scores)])
    pool = np.searchsorted(edges, at.cpu().numpy(), side="right") - 1
    return [(int(p), int(i - edges[p]), float(s)) for p, i, s in zip(pool, at.cpu().numpy(), values.cpu(), strict=True)]


def gap_explorer(
    x: Tensor,
    y: Tensor,
    *,
    images: Tensor,
    texts: Sequence[str],
    queries: Sequence[int] | None = None,
    k: int = 10,
) -> Explorer:
    """Move pictures and texts towards each other and see the maps, the numbers and one query's findings follow.

    Args:
        x: (n, d) embeddings of pictures, normalised inside.
        y: (n, d) embeddings of their texts.
        images: (n, c, h, w) the pictures.
        texts: the n texts.
        queries: rows to choose from, twelve spread over the set by default.
        k: cut-off of the recall.

    Returns:
        The explorer; each share of the gap is measured once, when it is first asked for.

    Raises:
        ValueError, TypeError: embeddings, pictures and texts that do not match, or fewer than k + 2 rows.
    """
    import ipywidgets

    x, y = (v.detach().float().cpu() for v in require_unit_pairs(x, y, "x", "y", min_rows=k + 2))
    if len(images) != len(x) or len(texts) != len(x):
        raise ValueError(f"images and texts must have one entry for each of {len(x)} rows, got {len(images)} and {len(texts)}")
    rows = list(np.linspace(0, len(x) - 1, 12).astype(int)) if queries is None else list(queries)
    centre = torch.cat([x, y]).mean(0)
    # One plane for all shares: only so does a moved slider look like a movement.
    plane = torch.linalg.svd(torch.cat([x, y]) - centre, full_matrices=False)[2][:2].T

    measured = lru_cache(maxsize=None)(lambda share: shifted(x, y, share, k=k))

    def draw(query: int, ask: str, index: str, share: float) -> Any:
        trace = [measured(s) for s in SHARES]
        now = measured(min(SHARES, key=lambda s: abs(s - share)))
        sides = (now.x, now.y)
        at = 0 if ask == "picture" else 1
        pools = sides if index == "one index of both" else (sides[1 - at],)
        first = 0 if index == "one index of both" else 1 - at
        leave = (at, query) if index == "one index of both" else None
        found = [(p + first, i, s) for p, i, s in nearest(sides[at][query], pools, FOUND, leave)]
        return gap_figure(now, trace, share, (centre, plane), (query, at), found, images, texts, k, index)

    controls = {
        "query": labelled(ipywidgets.Dropdown, "query", options={texts[int(i)]: int(i) for i in rows}),
        "ask": labelled(ipywidgets.Dropdown, "ask with its", options=["picture", "text"]),
        "index": labelled(ipywidgets.Dropdown, "look among", options=["the other kind", "one index of both"]),
        "share": labelled(
            ipywidgets.FloatSlider,
            "gap closed",
            width="27em",
            value=0.0,
            min=SHARES[0],
            max=SHARES[-1],
            step=0.1,
            readout_format=".0%",
        ),
    }
    return Explorer(draw, controls, [["query", "ask", "index"], ["share"]])


def gap_figure(
    now: Shifted,
    trace: Sequence[Shifted],
    share: float,
    plane: tuple[Tensor, Tensor],
    query: tuple[int, int],
    found: Sequence[tuple[int, int, float]],
    images: Tensor,
    texts: Sequence[str],
    k: int,
    index: str,
) -> Any:
    """The figure: both clouds on a fixed plane, the numbers over all shifts, and what the query finds, best first."""
    import textwrap

    import matplotlib.pyplot as plt

    from workbench.plots import COLOURS

    figure = plt.figure(figsize=(10.5, 5.6), layout="none")
    left = figure.add_axes((0.02, 0.34, 0.43, 0.51))
    p, q = ((side - plane[0]) @ plane[1] for side in (now.x, now.y))
    left.scatter(p[:, 0], p[:, 1], s=9, color=COLOURS[0], alpha=0.6, linewidths=0, label="pictures")
    left.scatter(q[:, 0], q[:, 1], s=9, color=COLOURS[1], alpha=0.6, linewidths=0, marker="s", label="texts")
    row, side = query
    left.plot(*zip(p[row].tolist(), q[row].tolist(), strict=True), color="#222222", linewidth=1.5, marker="o", markersize=5)
    left.set(xlim=(-1, 1), ylim=(-0.85, 0.85), xticks=[], yticks=[])
    left.legend(fontsize=9, loc="upper right", handletextpad=0.1)
    left.set_title(f"gap {now.gap:.2f}; black: the query and its partner", fontsize=11)
    right = figure.add_axes((0.52, 0.42, 0.45, 0.31))
    for values, label, colour in (
        ([s.recall for s in trace], f"partner among {k} of the other kind", COLOURS[2]),
        ([s.mixed for s in trace], f"partner among {k} of one index of both", COLOURS[4]),
        ([s.own for s in trace], f"own kind among {k} of that index", COLOURS[6]),
    ):
        right.plot(SHARES, values, color=colour, label=label)
        right.plot(share, np.interp(share, SHARES, values), "o", color=colour)
    right.axvline(share, color="#999999", linewidth=1)
    right.set(xlabel="share of the gap that is taken away", ylim=(0, 1.02), xticks=(-0.5, 0, 0.5, 1, 1.5))
    right.xaxis.set_major_formatter("{x:.0%}")
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.42), borderaxespad=0, labelspacing=0.25)
    asked = figure.add_axes((0.02, 0.06, 0.1, 0.18))
    _entry(asked, side, row, "asks", images, texts, frame="#222222")
    for place, (kind, i, score) in enumerate(found):
        ax = figure.add_axes((0.15 + 0.12 * place, 0.06, 0.1, 0.18))
        partner = i == row and kind != side
        _entry(
            ax, kind, i, f"{score:.2f}" + (" partner" if partner else ""), images, texts, frame=COLOURS[2] if partner else None
        )
    hit = next((place + 1 for place, (kind, i, _) in enumerate(found) if i == row and kind != side), None)
    verdict = f"finds its partner at place {hit}" if hit else f"has no partner among the first {len(found)}"
    name = textwrap.shorten(texts[row], 28, placeholder=" …")
    what = "the other kind" if index == "the other kind" else "pictures and texts in one index"
    figure.suptitle(f"{'Picture' if side == 0 else 'Text'} “{name}” {verdict}, looking at {what}", x=0.01, ha="left", fontsize=12)
    return figure


def _entry(ax: Any, kind: int, row: int, title: str, images: Tensor, texts: Sequence[str], frame: str | None) -> None:
    """A picture, or a text in a box of the same size."""
    import textwrap

    from workbench.plots import show_image

    if kind == 0:
        show_image(ax, images[row], title, frame=frame)
        return
    ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1), facecolor="#fbf3ec")
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color=frame or "#e3cdb9", linewidth=3 if frame else 1)
    lines = textwrap.wrap(texts[row], 14)[:5]
    ax.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", fontsize=8)
    ax.set_title(title, fontsize=9, fontweight="normal", loc="center", pad=3)
