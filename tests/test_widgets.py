"""An explorer redraws when a control moves, shows errors, and carries its first frame for pages without a kernel."""

import base64

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from workbench.widgets import explorer


def draw(height, fail=False):
    if fail:
        raise ValueError("no <b>such</b> height")
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.bar([0], [height])
    ax.set_ylim(0, 10)
    return figure


def test_moving_a_control_changes_the_picture_and_moving_back_restores_it():
    shown = explorer(draw, height=ipywidgets.IntSlider(3, 0, 10))
    first = shown.image.value
    shown.controls["height"].value = 8
    second = shown.image.value
    shown.controls["height"].value = 3
    assert first[:8] == b"\x89PNG\r\n\x1a\n" and second != first and shown.image.value == first


def test_the_static_frame_travels_with_the_widget():
    shown = explorer(draw, height=ipywidgets.IntSlider(3, 0, 10))
    data, _ = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"]) == shown.first_frame


def test_an_error_while_drawing_is_shown_and_goes_away():
    shown = explorer(draw, height=ipywidgets.IntSlider(3, 0, 10), fail=ipywidgets.Checkbox(False))
    shown.controls["fail"].value = True
    assert "ValueError: no &lt;b&gt;such&lt;/b&gt; height" in shown.message.value
    shown.controls["fail"].value = False
    assert shown.message.value == ""


def test_wrong_controls_are_named():
    with pytest.raises(TypeError, match="'height' must be an ipywidgets widget"):
        explorer(draw, height=3)
    with pytest.raises(ValueError, match="at least one control"):
        explorer(draw)


def test_figures_do_not_pile_up():
    before = len(plt.get_fignums())
    shown = explorer(draw, height=ipywidgets.IntSlider(3, 0, 10))
    for height in range(5):
        shown.controls["height"].value = height
    assert len(plt.get_fignums()) == before
