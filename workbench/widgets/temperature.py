"""Temperature and negatives on one row of similarities: who is pushed, and how hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.metrics._blocks import require_unit_pairs
from workbench.widgets.explorer import Explorer, labelled

PICTURES = 10  # negatives that are shown


@dataclass(frozen=True)
class SoftmaxRow:
    """What InfoNCE makes of one row of similarities.

    Attributes:
        loss: -log p of the partner, in nats; 0 is perfect, log(1 + negatives) is guessing.
        partner: probability p of the partner among partner and negatives, in (0, 1].
        order: (m,) the negatives, the most pushed first.
        share: (m,) their shares of the push, in this order; sum 1.
        effective: how many negatives do the work, the exponential of the entropy of the shares, in [1, m].
    """

    loss: float
    partner: float
    order: Tensor
    share: Tensor
    effective: float


def softmax_row(similarities: Tensor, positive: int, *, temperature: float, negatives: Tensor | None = None) -> SoftmaxRow:
    r"""The softmax of InfoNCE over one row.

    .. math:: -\log \frac{e^{s_p / \tau}}{e^{s_p / \tau} + \sum_j e^{s_j / \tau}}, \qquad
        r_j = \frac{e^{s_j / \tau}}{\sum_k e^{s_k / \tau}}

    Args:
        similarities: (n,) cosines of one anchor with all keys.
        positive: index of its partner.
        temperature: tau, above 0.
        negatives: indices of the negatives; all other keys by default.

    Raises:
        ValueError: no negatives, the partner among them, or a temperature that is not positive.

    Source: van den Oord et al. 2018 (arXiv 1807.03748); the shares r: Wang & Liu 2021 (arXiv 2012.09740), equation 6.

    Example:
        >>> row = softmax_row(torch.tensor([0.9, 0.9, 0.9]), 0, temperature=0.1)
        >>> round(row.partner, 4), round(row.effective, 4)
        (0.3333, 2.0)
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if negatives is None:
        negatives = torch.arange(len(similarities))[torch.arange(len(similarities)) != positive]
    if not len(negatives) or bool((negatives == positive).any()):
        raise ValueError(f"negatives must be at least one index other than the partner's {positive}, got {len(negatives)}")
    s = similarities.double() / temperature
    push, order = torch.softmax(s[negatives], 0).sort(descending=True, stable=True)
    log_p = s[positive] - torch.logsumexp(torch.cat([s[positive][None], s[negatives]]), 0)
    effective = float(torch.special.entr(push).sum().exp())
    return SoftmaxRow(float(-log_p), float(log_p.exp()), negatives[order], push, effective)


def draw_negatives(n: int, positive: int, count: int, *, seed: int = 0) -> Tensor:
    """`count` of the other n - 1 rows in a fixed order: more negatives are always the fewer ones and some others."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[order != positive][:count]


def temperature_explorer(
    query: Tensor,
    key: Tensor,
    *,
    images: tuple[Tensor, Tensor] | None = None,
    names: Sequence[str] | None = None,
    anchors: Sequence[int] | None = None,
    temperature: float = 0.1,
    seed: int = 0,
) -> Explorer:
    """Move temperature and number of negatives and see the push on each negative of an anchor.

    Args:
        query: (n, d) embeddings of the anchors, normalised inside.
        key: (n, d) of the keys; row i is the partner of anchor i, all others may be its negatives.
        images: pictures of the anchors and of the keys, (n, c, h, w) each.
        names: n names for the choice of anchors.
        anchors: rows to choose from, the first twelve by default.
        temperature: where the slider starts.
        seed: which negatives are drawn.

    Returns:
        The explorer; each change costs one softmax over a row and one figure.

    Raises:
        ValueError, TypeError: embeddings that do not match or have NaN or rows of zeros.
    """
    import ipywidgets

    q, k = (v.detach().float().cpu() for v in require_unit_pairs(query, key, "query", "key", min_rows=3))
    n = len(q)
    rows = list(range(min(n, 12))) if anchors is None else [int(a) for a in anchors]
    titles = {f"{names[i] if names else f'row {i}'}": i for i in rows}
    counts = sorted({min(2**p - 1, n - 1) for p in range(1, 20)})

    def draw(anchor: int, temperature: float, negatives: int) -> Any:
        s = k @ q[anchor]
        row = softmax_row(s, anchor, temperature=temperature, negatives=draw_negatives(n, anchor, negatives, seed=seed))
        return row_figure(row, s, anchor, temperature, images)

    start = counts[min(5, len(counts) - 1)]
    controls = {
        "anchor": labelled(ipywidgets.Dropdown, "anchor", options=titles, value=rows[0]),
        "temperature": labelled(
            ipywidgets.FloatLogSlider,
            "temperature",
            width="27em",
            value=temperature,
            base=10,
            min=-2,
            max=0.5,
            step=0.05,
            readout_format=".3f",
        ),
        "negatives": labelled(ipywidgets.SelectionSlider, "negatives", options=counts, value=start),
    }
    return Explorer(draw, controls, [["anchor", "negatives", "temperature"]])


def row_figure(
    row: SoftmaxRow, similarities: Tensor, anchor: int, temperature: float, images: tuple[Tensor, Tensor] | None
) -> Any:
    """The figure: anchor, partner and the most pushed negatives as pictures; the cosines of all; the shares of the push."""
    import matplotlib.pyplot as plt

    from workbench.plots import COLOURS

    figure = plt.figure(figsize=(10.5, 4.6 if images else 3.0), layout="none")
    bottom = 0.17 if images else 0.22
    top = 0.52 if images else 0.78
    if images:
        most = list(zip(row.order[:PICTURES].tolist(), row.share[:PICTURES].tolist(), strict=True))
        tiles: list[tuple[Tensor, str, str | None]] = [(images[0][anchor], "anchor", "#222222")]
        tiles += [(images[1][anchor], f"partner {row.partner:.0%}", COLOURS[2])]
        tiles += [(images[1][i], f"{share:.1%}", None) for i, share in most]
        _strip(figure.add_axes((0.015, 0.62, 0.97, 0.25)), tiles)
    left = figure.add_axes((0.07, bottom, 0.38, top - bottom))
    values = similarities[row.order].numpy()
    left.scatter(values, np.zeros(len(values)), s=60, marker="|", color="#777777", linewidths=1)
    left.vlines(values, 0, row.share.numpy() / float(row.share[0]), color=COLOURS[0], linewidth=1.2, alpha=0.8)
    left.axvline(float(similarities[anchor]), color=COLOURS[2], linewidth=2.5)
    left.annotate(
        "partner",
        (float(similarities[anchor]), 1.04),
        xycoords=("data", "axes fraction"),
        color=COLOURS[2],
        fontsize=9,
        ha="center",
    )
    left.set(xlabel="cosine with the anchor", ylabel="push (largest = 1)", ylim=(-0.06, 1.05), xlim=(-1.02, 1.02))
    right = figure.add_axes((0.55, bottom, 0.42, top - bottom))
    shown = row.share[:60].numpy()
    right.bar(np.arange(1, len(shown) + 1), shown, color=COLOURS[0], width=0.85)
    right.set(xlabel="negatives, the most pushed first", ylabel="share of the push", xlim=(0.3, max(len(shown), 8) + 0.7))
    guess = np.log(1 + len(row.order))
    figure.suptitle(
        f"τ = {temperature:.3g}: of {len(row.order)} negatives {row.effective:.1f} do the work; "
        f"loss {row.loss:.2f} nats (guessing: {guess:.2f})",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    return figure


def _strip(ax: Any, tiles: Sequence[tuple[Tensor, str, str | None]], gap: float = 0.12) -> None:
    """Pictures side by side with their words above them, in one axes: a dozen axes would take a quarter of a second to draw."""
    from matplotlib.patches import Rectangle

    from workbench.plots.pictures import to_array

    for i, (image, words, frame) in enumerate(tiles):
        left = i * (1 + gap) + (0.2 if i > 1 else 0)
        ax.imshow(to_array(image), extent=(left, left + 1, 0, 1))
        ax.text(left + 0.5, 1.06, words, ha="center", va="bottom", fontsize=9)
        if frame:
            ax.add_patch(Rectangle((left, 0), 1, 1, fill=False, edgecolor=frame, linewidth=3))
    ax.set(xlim=(-0.03, (2 + PICTURES) * (1 + gap) + 0.15), ylim=(-0.03, 1.25), aspect="equal", anchor="W")
    ax.axis("off")
