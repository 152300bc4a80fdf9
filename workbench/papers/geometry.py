"""The dashboard's numbers as a notebook records them, so that models of different papers can be drawn in one plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GEOMETRY_MIME = "application/vnd.workbench.geometry+json"


def geometry_of(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models whose dashboards an executed notebook shows.

    Returns:
        one dictionary a model: `model` (its name), `rows`, `width` (numbers in an embedding), `pair` (what the two members of
        a pair are, or None) and `numbers` (metric -> value).
    """
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    return [model for o in outputs for model in o.get("data", {}).get(GEOMETRY_MIME, [])]
