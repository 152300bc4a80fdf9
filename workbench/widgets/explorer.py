"""Sliders above a figure that follows them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

DPI = 110


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
    if not controls:
        raise ValueError("an explorer needs at least one control, such as tau=ipywidgets.FloatSlider()")
    for name, control in controls.items():
        if not hasattr(control, "value") or not hasattr(control, "observe"):
            raise TypeError(f"control {name!r} must be an ipywidgets widget with a value, got {type(control).__name__}")
    return Explorer(draw, controls)


class Explorer:
    """The widget and its static first frame; made by `explorer`."""

    def __init__(self, draw: Callable[..., Figure], controls: dict[str, Any]):
        import ipywidgets

        self.draw, self.controls = draw, controls
        self.first_frame = self._render()
        self.image = ipywidgets.Image(
            value=self.first_frame, format="png", layout=ipywidgets.Layout(max_width="100%", object_fit="contain")
        )
        self.message = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([*controls.values(), self.message, self.image])
        for control in controls.values():
            control.observe(self._update, names="value")

    def _render(self) -> bytes:
        import matplotlib.pyplot as plt

        figure = self.draw(**{name: control.value for name, control in self.controls.items()})
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        plt.close(figure)
        return buffer.getvalue()

    def _update(self, change: Any) -> None:
        # A callback's exception would vanish into the kernel's log and leave a dead slider; the reader must see it.
        try:
            self.image.value = self._render()
            self.message.value = ""
        except Exception as error:
            import html

            self.message.value = f"<b style='color:#b03a00'>{type(error).__name__}: {html.escape(str(error))}</b>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        bundle = self.widget._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        still = {
            "image/png": base64.b64encode(self.first_frame).decode(),
            "text/plain": "An interactive figure; this is its first frame.",
        }
        return {**data, **still}, metadata
