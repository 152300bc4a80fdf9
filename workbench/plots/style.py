"""The house style and its palette."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("house.mplstyle")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5F5F5F", "#B8A800")


def house_style() -> None:
    """Use the house style for all figures from here on, drawn at twice the resolution in a notebook."""
    plt.style.use(STYLE)
    if "ipykernel" in __import__("sys").modules:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")


def class_colours(n: int) -> list:
    """n colours that stay apart: the palette, and a cyclic map of even lightness from there on."""
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    return [mpl.colormaps["tab10"](i) for i in range(n)] if n <= 10 else [mpl.colormaps["turbo"]((i + 0.5) / n) for i in range(n)]


def closed(figure: Figure) -> Figure:
    """The figure, taken from pyplot's list: a notebook then shows it once, as the value of its cell."""
    plt.close(figure)
    return figure
