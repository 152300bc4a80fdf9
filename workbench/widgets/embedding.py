"""A map of embeddings with thumbnails on hover and a lasso; its table and cards serve the diagnosis, too."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.checks import require_unit_rows
from workbench.errors import WorkbenchError
from workbench.widgets.explorer import DPI, StillFrame, labelled

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 24  # chosen rows that the panel shows
THUMBNAIL = 64  # pixels
HEIGHT = 440
HINT = "<p>Choose rows: take the lasso on the left and draw around them, or click one.</p>"


def lasso_map(
    table: pd.DataFrame,
    *,
    colour: str | None,
    panel_of: Callable[[list[int]], str],
    preview: str | None = None,
    height: int = HEIGHT,
) -> tuple[Any, Any]:
    """A jupyter-scatter map of a table's columns x and y, and a panel that follows what is chosen on it.

    Args:
        table: x, y, and a categorical column for the colours.
        colour: that column.
        panel_of: HTML for the chosen rows.
        preview: column with data: addresses of pictures that are shown on hover.
        height: of the map, in pixels.

    Returns:
        The jscatter.Scatter and the ipywidgets.HTML panel.

    Raises:
        WorkbenchError: jupyter-scatter is not installed.
    """
    try:
        import ipywidgets
        import jscatter
    except ImportError as error:
        raise WorkbenchError(
            f"the map needs {error.name}; install it with: pip install 'contrastive-workbench[diagnose]'"
        ) from None
    from workbench.plots.style import COLOURS, class_colours

    scatter = jscatter.Scatter(data=table, x="x", y="y", height=height).size(5).axes(False)
    if colour is not None:
        count = len(table[colour].cat.categories)
        scatter.color(by=colour, map=list(COLOURS) if count <= len(COLOURS) else [_hex(c) for c in class_colours(count)])
    if colour is not None and len(table[colour].cat.categories) > 1:
        scatter.legend(True)
    if preview is not None:
        scatter.tooltip(
            True,
            properties=[] if colour is None else ["color"],
            preview=preview,
            preview_type="image",
            preview_image_height=THUMBNAIL,
        )
    panel = ipywidgets.HTML(HINT)
    scatter.widget.observe(lambda change: setattr(panel, "value", panel_of([int(i) for i in change["new"]])), names="selection")
    return scatter, panel


def cards_html(cards: Sequence[tuple[str | None, str, str]], total: int | None = None) -> str:
    """A wrapped row of cards.

    Args:
        cards: (address of a picture or None, head, text) each; head and text are escaped here.
        total: how many there are where not all are shown.
    """
    if not cards:
        return "<p>No row is chosen.</p>"
    made = []
    for source, head, text in cards:
        picture = (
            f'<img src="{source}" width="{THUMBNAIL}" height="{THUMBNAIL}" style="object-fit:contain" alt="picture: {html.escape(text or head, quote=True)}"><br>'
            if source
            else ""
        )
        made.append(
            f'<div style="width:9em;overflow-wrap:anywhere;line-height:1.3">{picture}<b>{html.escape(head)}</b><br>{html.escape(text)}</div>'
        )
    more = (total or len(cards)) - len(cards)
    return f'<div style="display:flex;flex-wrap:wrap;gap:.7em">{"".join(made)}</div>' + (
        f"<p>and {more} more</p>" if more > 0 else ""
    )


def address_of(image: Tensor) -> str:
    """A (1 or 3, h, w) picture in [0, 1] as a data: address."""
    from PIL import Image

    from workbench.plots.pictures import to_array

    buffer = io.BytesIO()
    Image.fromarray((to_array(image) * 255).round().astype(np.uint8)).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def find_rows(words: str, texts: Sequence[str]) -> list[int]:
    """The row of that number, or all rows whose text has every word (case does not count)."""
    words = words.strip().lower()
    if words.isdigit():
        return [int(words)] if int(words) < len(texts) else []
    return [i for i, text in enumerate(texts) if words and all(w in text.lower() for w in words.split())]


def neighbours(unit: Tensor, row: int, count: int = 8) -> list[tuple[int, float]]:
    """The rows nearest to a row by cosine in the full space, itself left out, as (row, cosine)."""
    s = unit @ unit[row]
    s[row] = -torch.inf
    values, at = s.topk(min(count, len(unit) - 1))
    return [(int(i), float(v)) for i, v in zip(at, values, strict=True)]


class EmbeddingMap(StillFrame):
    """What `embedding_explorer` returns: `scatter` is the jscatter map, `choose(rows)` chooses rows as the lasso does."""

    def __init__(self, scatter: Any, panel: Any, find: Any, texts: Sequence[str], first_frame: tuple[bytes, str]):
        import ipywidgets

        self.scatter, self.panel, self.find = scatter, panel, find
        self.first_frame, self.described = first_frame
        count = ipywidgets.Label("")

        def search(change: Any) -> None:
            rows = find_rows(change["new"], texts)
            count.value = f"{len(rows)} rows" if change["new"].strip() else ""
            self.choose(rows)

        find.observe(search, names="value")
        self.widget = ipywidgets.VBox([ipywidgets.HBox([find, count]), scatter.show(), panel])

    def choose(self, rows: Sequence[int]) -> None:
        """Choose these rows."""
        self.scatter.selection(list(rows))


def embedding_explorer(
    x: Tensor,
    *,
    labels: Tensor | None = None,
    names: Sequence[str] = (),
    images: Tensor | None = None,
    texts: Sequence[str] | None = None,
    coordinates: Any = None,
) -> EmbeddingMap:
    """A map of n rows: pictures on hover, lasso (its button is on the left), search by word; below it the chosen rows.

    One chosen row shows its nearest neighbours in the full space, so that one sees where the flat map misleads.

    Args:
        x: (n, d) embeddings, normalised inside.
        labels: (n,) integer classes, for the colours.
        names: names of the classes.
        images: (n, c, h, w) pictures in [0, 1].
        texts: n texts, for the search and the cards.
        coordinates: (n, 2) places on the map, such as those of UMAP or t-SNE; the two leading principal components by default.

    Returns:
        The map, with a static first frame.

    Raises:
        WorkbenchError: jupyter-scatter is not installed.
        ValueError, TypeError: rows that do not match, or bad embeddings.
    """
    import ipywidgets
    import pandas as pd

    from workbench.plots.points import principal_plane

    unit = require_unit_rows(x, "x", min_rows=2).detach().float().cpu()
    n = len(unit)
    for name, values in (("labels", labels), ("images", images), ("texts", texts), ("coordinates", coordinates)):
        if values is not None and len(values) != n:
            raise ValueError(f"{name} must have one entry for each of {n} rows, got {len(values)}")
    places = principal_plane(unit)[0] if coordinates is None else np.asarray(coordinates, dtype=np.float64)
    if places.shape != (n, 2) or not np.isfinite(places).all():
        raise ValueError(f"coordinates must be {n} finite pairs, got shape {places.shape}")
    said = list(texts) if texts is not None else [f"row {i}" for i in range(n)]
    table = pd.DataFrame({"x": places[:, 0], "y": places[:, 1]})
    classes: list[str] = []
    if labels is not None:
        classes = [names[int(c)] if len(names) else str(int(c)) for c in labels]
        present = dict.fromkeys(names[int(c)] if len(names) else str(int(c)) for c in labels.unique(sorted=True))
        table["class"] = pd.Categorical(classes, categories=list(present))
    addresses = [address_of(image) for image in images] if images is not None else None
    if addresses is not None:
        table["picture"] = addresses

    def card(row: int, head: str) -> tuple[str | None, str, str]:
        return (None if addresses is None else addresses[row], head, said[row] if texts is not None else "")

    def panel_of(rows: list[int]) -> str:
        if len(rows) == 1:
            near = [card(i, f"row {i}, cosine {s:.2f}") for i, s in neighbours(unit, rows[0])]
            return cards_html([card(rows[0], f"row {rows[0]}")]) + "<p>nearest in the full space:</p>" + cards_html(near)
        heads = [f"row {i}" + (f", {classes[i]}" if classes else "") for i in rows[:SHOWN]]
        return cards_html([card(i, head) for i, head in zip(rows, heads, strict=False)], len(rows))

    scatter, panel = lasso_map(
        table,
        colour="class" if labels is not None else None,
        panel_of=panel_of,
        preview="picture" if addresses is not None else None,
    )
    find = labelled(
        ipywidgets.Text, "find", width="24em", label="3em", placeholder="a word, or the number of a row", continuous_update=False
    )
    return EmbeddingMap(scatter, panel, find, said, _still(places, labels, names, images))


def _still(places: np.ndarray, labels: Tensor | None, names: Sequence[str], images: Tensor | None) -> tuple[bytes, str]:
    import matplotlib.pyplot as plt

    from workbench.plots import label_scatter, thumbnail_scatter
    from workbench.plots.style import describe_figure

    figure = plt.figure(figsize=(10, 5.2), layout="none")
    ax = figure.add_axes((0.01, 0.02, 0.76, 0.9))
    label_scatter(ax, places, labels, names, legend=False)
    ax.set_aspect("auto")
    if images is not None:
        thumbnail_scatter(ax, places, images, zoom=0.5, spread=0.055)
    if labels is not None and len(labels.unique()) <= 12:
        handles, texts = ax.get_legend_handles_labels()
        figure.legend(handles, texts, loc="center left", bbox_to_anchor=(0.78, 0.5), fontsize=9, markerscale=2.5)
    ax.axis("off")
    figure.suptitle(f"A map of {len(places):,} rows; in JupyterLab: hover, lasso, search", x=0.01, ha="left", fontsize=12)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    plt.close(figure)
    return buffer.getvalue(), describe_figure(figure)


def _hex(colour: Any) -> str:
    from matplotlib.colors import to_hex

    return to_hex(colour)
