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
        from IPython.core.getipython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("retina")
        shell = get_ipython()
        if shell is not None and shell.display_formatter is not None:
            # What a screen reader gets: the words of the figure, where `<Figure size ...>` would say nothing.
            plain = shell.display_formatter.formatters["text/plain"]
            plain.for_type(Figure, lambda figure, printer, cycle: printer.text(describe_figure(figure)))


def describe_figure(figure: Figure) -> str:
    """A figure in words: its titles, which state the findings, and what the axes show; alternative text for the site."""
    words = [figure.get_suptitle()]
    for ax in figure.get_axes():
        if ax.get_label() == "<colorbar>" or not ax.get_visible():
            continue
        title = " ".join(t for where in ("left", "center", "right") if (t := ax.get_title(loc=where)))
        axes = " against ".join(t for t in (ax.get_ylabel(), ax.get_xlabel()) if t)
        words.append(f"{title} ({axes})" if title and axes else title or axes)
    said = [" ".join(w.split()).rstrip(".") for w in dict.fromkeys(words) if w.strip()]
    return "Figure. " + ". ".join(said) + "." if said else "Figure."


def class_colours(n: int) -> list:
    """n colours that stay apart: the palette, and a cyclic map of even lightness from there on."""
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    return [mpl.colormaps["tab10"](i) for i in range(n)] if n <= 10 else [mpl.colormaps["turbo"]((i + 0.5) / n) for i in range(n)]


def closed(figure: Figure) -> Figure:
    """The figure, taken from pyplot's list: a notebook then shows it once, as the value of its cell."""
    plt.close(figure)
    return figure
