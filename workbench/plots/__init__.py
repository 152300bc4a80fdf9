"""Figures on matplotlib in one house style. Each function draws and returns a Figure, or draws into given axes."""

from workbench.plots.dashboard import geometry_dashboard
from workbench.plots.pictures import image_grid, image_row, show_captioned, show_image, thumbnail_scatter
from workbench.plots.points import circle_map, label_scatter, pair_map, sphere_map
from workbench.plots.style import COLOURS, house_style

__all__ = [
    "COLOURS",
    "circle_map",
    "geometry_dashboard",
    "house_style",
    "image_grid",
    "image_row",
    "label_scatter",
    "pair_map",
    "show_captioned",
    "show_image",
    "sphere_map",
    "thumbnail_scatter",
]
