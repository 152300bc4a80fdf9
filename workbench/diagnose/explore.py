"""The map in JupyterLab: choose rows with the lasso and see their texts and pictures."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.diagnose.hover import thumbnail
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.diagnose.study import EmbeddingStudy

SHOWN = 24  # chosen rows that the panel shows


def explore(study: EmbeddingStudy, method: str = "pca") -> Any:
    """A jupyter-scatter map of the sets with a panel of the chosen rows.

    Raises:
        WorkbenchError: the packages of the extra `diagnose` are not installed.
    """
    try:
        import ipywidgets
        import jscatter
    except ImportError as error:
        raise WorkbenchError(
            f"explore() needs {error.name}; install it with: pip install 'contrastive-workbench[diagnose]'"
        ) from None
    import pandas as pd

    from workbench.plots.style import COLOURS

    planes, at = study.coordinates(method)
    names = study.names[: len(planes)]
    table = pd.DataFrame(
        {
            "x": np.concatenate([p[:, 0] for p in planes]),
            "y": np.concatenate([p[:, 1] for p in planes]),
            "set": pd.Categorical(np.repeat(list(names), len(at))),
            "place": np.tile(at, len(planes)),
        }
    )
    labels = study.inputs.labels
    colour = "set"
    if labels is not None and len(planes) == 1:
        table["label"] = pd.Categorical([labels[1][int(c)] for c in labels[0][table["place"]]])
        colour = "label"
    if not study.inputs.paired and len(planes) > 1:
        # Spaces of different models have nothing in common: they stand side by side.
        table["x"] = _unit(table["x"], table["set"]) + 1.2 * table["set"].cat.codes
        table["y"] = _unit(table["y"], table["set"])
    scatter = jscatter.Scatter(data=table, x="x", y="y", height=480).color(by=colour, map=list(COLOURS)).size(5)
    panel = ipywidgets.HTML("<p>Choose rows: hold Shift and draw around them, or click one.</p>")

    def show(change: Any) -> None:
        panel.value = chosen_html(study, table.iloc[list(change["new"])])

    scatter.widget.observe(show, names="selection")
    return ipywidgets.VBox([scatter.show(), panel])


def chosen_html(study: EmbeddingStudy, chosen: Any) -> str:
    """The chosen rows of the map's table as a wrapped row of cards."""
    inputs = study.inputs
    cards = []
    for name, place in zip(chosen["set"][:SHOWN], chosen["place"][:SHOWN], strict=True):
        source = None if inputs.pictures is None else thumbnail(inputs.pictures[place])
        picture = (
            f'<img src="{source}" width="64" height="64" style="object-fit:contain" alt="picture of row {inputs.rows[place]}"><br>'
            if source
            else ""
        )
        text = "" if inputs.texts is None else html.escape(inputs.texts[place][:120])
        cards.append(
            f'<div style="width:9em;overflow-wrap:anywhere;line-height:1.3">{picture}<b>row {inputs.rows[place]}, {html.escape(str(name))}</b><br>{text}</div>'
        )
    more = len(chosen) - len(cards)
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:.7em">{"".join(cards)}</div>'
        + (f"<p>and {more} more</p>" if more > 0 else "")
        if cards
        else "<p>No row is chosen.</p>"
    )


def _unit(values: Any, groups: Any) -> Any:
    low, high = values.groupby(groups, observed=True).transform("min"), values.groupby(groups, observed=True).transform("max")
    return (values - low) / (high - low).where(high > low, 1)
