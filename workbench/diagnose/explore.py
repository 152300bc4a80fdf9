"""The map in JupyterLab: choose rows with the lasso and see their texts and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.diagnose.hover import thumbnail
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.diagnose.caption_study import CaptionStudy
    from workbench.diagnose.study import EmbeddingStudy

SHOWN = 24  # chosen rows that the panel shows


def explore(study: EmbeddingStudy, method: str = "pca") -> Any:
    """A jupyter-scatter map of the sets with a panel of the chosen rows.

    Raises:
        WorkbenchError: the packages of the extra `diagnose` are not installed.
    """
    import pandas as pd

    from workbench.widgets.embedding import lasso_map

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
    scatter, panel = lasso_map(table, colour=colour, panel_of=lambda rows: chosen_html(study, table.iloc[rows]), height=480)
    import ipywidgets  # after lasso_map, which says what to install

    return ipywidgets.VBox([scatter.show(), panel])


def chosen_html(study: EmbeddingStudy, chosen: Any) -> str:
    """The chosen rows of the map's table as a wrapped row of cards."""
    from workbench.widgets.embedding import cards_html

    inputs = study.inputs
    cards = []
    for name, place in zip(chosen["set"][:SHOWN], chosen["place"][:SHOWN], strict=True):
        source = None if inputs.pictures is None else thumbnail(inputs.pictures[place])
        cards.append((source, f"row {inputs.rows[place]}, {name}", "" if inputs.texts is None else inputs.texts[place][:120]))
    return cards_html(cards, len(chosen))


def _unit(values: Any, groups: Any) -> Any:
    low, high = values.groupby(groups, observed=True).transform("min"), values.groupby(groups, observed=True).transform("max")
    return (values - low) / (high - low).where(high > low, 1)


def explore_captions(study: CaptionStudy) -> Any:
    """A panel of captions: choose the system, the object and what went wrong, see the marked captions.

    Raises:
        WorkbenchError: ipywidgets is not installed.
    """
    try:
        import ipywidgets
    except ImportError:
        raise WorkbenchError(
            "explore() needs ipywidgets; install it with: pip install 'contrastive-workbench[notebooks]'"
        ) from None
    names = list(dict.fromkeys(o.object for o in study.measures.objects))
    system = ipywidgets.Dropdown(options=list(study.names), description="system")
    chosen = ipywidgets.Dropdown(options=names, description="object")
    which = ipywidgets.ToggleButtons(options=["hallucinated", "right", "missed"], description="where it is")
    panel = ipywidgets.HTML()

    def show(change: Any = None) -> None:
        panel.value = study.about(chosen.value, system.value, which.value) if names else "<p>No object.</p>"

    for control in (system, chosen, which):
        control.observe(show, names="value")
    show()
    return ipywidgets.VBox([system, chosen, which, panel])
