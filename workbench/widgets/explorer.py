"""Controls above a figure that follows them."""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

DPI = 110
PATIENCE = 0.15  # seconds; what takes longer says that it works on it
# A screen reader speaks what stands here whenever it changes; the eye has the figure's title.
UNSEEN = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap"


def explorer(draw: Callable[..., Figure], **controls: Any) -> Explorer:
    """Show `draw(**values)` below its controls and draw it again whenever one moves.

    The figure is drawn into memory and sent as one picture, which answers about twice as fast as a new output cell.

    Args:
        draw: takes the value of each control by name, returns a matplotlib Figure.
        controls: name -> ipywidgets widget with a `value` (IntSlider, FloatLogSlider, Dropdown, Checkbox, ...).

    Raises:
        TypeError: a control has no `value`.
        ValueError: no controls.
    """
    return Explorer(draw, controls)


class StillFrame:
    """A widget together with the picture that stands for it on a page without a kernel.

    Attributes:
        widget: the ipywidgets widget.
        first_frame: PNG of how it looks at first.
        described: the first frame in words, for those who do not see it.
    """

    widget: Any
    first_frame: bytes
    described: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        bundle = self.widget._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        still = {
            "image/png": base64.b64encode(self.first_frame).decode(),
            "text/plain": f"An interactive figure; its first frame: {self.described}",
        }
        return {**data, **still}, metadata


class Explorer(StillFrame):
    """The widget and its static first frame; made by `explorer` and by the explorers of this package.

    Args:
        draw: takes the value of each control by name, returns a matplotlib Figure.
        controls: name -> ipywidgets widget with a `value`.
        rows: names of the controls that stand side by side, row by row; by default each has a row of its own.
    """

    def __init__(self, draw: Callable[..., Figure], controls: Mapping[str, Any], rows: list[list[str]] | None = None):
        if not controls:
            raise ValueError("an explorer needs at least one control, such as tau=ipywidgets.FloatSlider()")
        for name, control in controls.items():
            if not hasattr(control, "value") or not hasattr(control, "observe"):
                raise TypeError(f"control {name!r} must be an ipywidgets widget with a value, got {type(control).__name__}")
        import ipywidgets

        self.draw, self.controls = draw, dict(controls)
        self.first_frame, self.described = self._render()
        self.image = ipywidgets.Image(
            value=self.first_frame, format="png", layout=ipywidgets.Layout(max_width="100%", object_fit="contain")
        )
        # A fixed height: a line that comes and goes would make the figure jump.
        self.message = ipywidgets.HTML(layout=ipywidgets.Layout(min_height="1.7em"))
        self.spoken = ipywidgets.HTML(_unseen(self.described))
        self.widget = ipywidgets.VBox([*arranged(self.controls, rows), self.message, self.image, self.spoken])
        for control in self.controls.values():
            control.observe(self._update, names="value")

    def _render(self) -> tuple[bytes, str]:
        import matplotlib.pyplot as plt

        from workbench.plots.style import describe_figure

        start = time.perf_counter()
        figure = self.draw(**{name: control.value for name, control in self.controls.items()})
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        plt.close(figure)
        self.seconds = time.perf_counter() - start
        return buffer.getvalue(), describe_figure(figure)

    def _update(self, change: Any) -> None:
        if self.seconds > PATIENCE:
            self.message.value = "<i>drawing …</i>"
        # A callback's exception would vanish into the kernel's log and leave a dead slider; the reader must see it.
        try:
            self.image.value, said = self._render()
            self.spoken.value, self.message.value = _unseen(said), ""
        except Exception as error:
            self.message.value = f"<b style='color:#b03a00'>{type(error).__name__}: {html.escape(str(error))}</b>"


def arranged(controls: Mapping[str, Any], rows: list[list[str]] | None) -> list[Any]:
    """The controls as rows; those of one row wrap on a narrow screen."""
    import ipywidgets

    if rows is None:
        return list(controls.values())
    wrap = ipywidgets.Layout(flex_flow="row wrap")
    return [ipywidgets.Box([controls[name] for name in row], layout=wrap) for row in rows]


def labelled(kind: Any, description: str, *, width: str = "20em", label: str = "7.2em", **options: Any) -> Any:
    """A control of class `kind` whose whole label is seen, with the same words as its tooltip."""
    import ipywidgets

    return kind(
        description=description,
        tooltip=options.pop("tooltip", description),
        style={"description_width": label},
        layout=ipywidgets.Layout(width=width),
        **options,
    )


def _unseen(text: str) -> str:
    return f'<span role="status" style="{UNSEEN}">{html.escape(text)}</span>'
