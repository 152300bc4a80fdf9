"""ipywidgets explorers; each carries a picture of its first frame, which a page without a kernel shows instead."""

from workbench.widgets.decoding import decoding_explorer
from workbench.widgets.embedding import embedding_explorer
from workbench.widgets.explorer import explorer
from workbench.widgets.gap import gap_explorer
from workbench.widgets.scene import scene_explorer
from workbench.widgets.sphere import sphere_explorer
from workbench.widgets.temperature import temperature_explorer

__all__ = [
    "decoding_explorer",
    "embedding_explorer",
    "explorer",
    "gap_explorer",
    "scene_explorer",
    "sphere_explorer",
    "temperature_explorer",
]
