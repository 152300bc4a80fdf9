"""Every explorer: a static frame, labelled controls, a figure that follows each of them, and clear errors; no browser."""

import base64

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.widgets import (
    decoding_explorer,
    embedding_explorer,
    gap_explorer,
    scene_explorer,
    sphere_explorer,
    temperature_explorer,
)
from workbench.widgets.sphere import settle


def rows(n=40, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


PICTURES = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TEXTS = [f"thing <{i}> & more" for i in range(40)]
LABELS = torch.arange(40) % 3


def temperature():
    x = rows()
    return temperature_explorer(x, x + 0.3 * rows(seed=1), images=(PICTURES, PICTURES), names=TEXTS)


def sphere():
    ring = torch.stack([torch.arange(40), (torch.arange(40) + 1) % 40], 1)
    walks = {f"{d}-D": settle(ring, 40, push=0.3, dim=d, steps=5) for d in (3, 2)}
    return sphere_explorer(walks, labels=LABELS, names=("a", "b", "c"), images=PICTURES)


def gap():
    x = rows()
    return gap_explorer(x + 1, x - 1, images=PICTURES, texts=TEXTS)


def scene():
    from workbench.models import pretrained

    return scene_explorer(pretrained("scenes-clip", device="cpu"))


def decoding():
    from workbench.models import pretrained

    return decoding_explorer(pretrained("fact-gpt", device="cpu"), ["people say detective is"], length=3)


MOVES = {
    temperature: {"anchor": 5, "negatives": 1, "temperature": 1.0},
    sphere: {"walk": "2-D", "step": 1, "mark": 1, "turn": 90, "tilt": -50},
    gap: {"query": 39, "ask": "text", "index": "one index of both", "share": 1.0},
    scene: {"first_colour": "green", "second_shape": "none", "relation": "above", "background": "navy"},
    decoding: {
        "prompt": "people say museum is",
        "rule": "take the best",
        "position": 2,
        "temperature": 2.0,
        "top_k": 2,
        "top_p": 0.5,
    },
}
# These may change nothing: a sure model says the same under any rule, a circle has no other side, one object stands nowhere.
BLIND = {
    ("decoding", "rule"),
    ("decoding", "temperature"),
    ("decoding", "top_k"),
    ("decoding", "top_p"),
    ("sphere", "turn"),
    ("sphere", "tilt"),
    ("scene", "relation"),
}
kinds = pytest.mark.parametrize("make", MOVES, ids=lambda m: m.__name__)


@kinds
def test_every_control_moves_the_figure(make):
    """Each control is labelled, redraws without an error and (alone) changes the picture; what is said to a screen reader follows."""
    shown = make()
    data, _ = shown._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == shown.first_frame and shown.first_frame[:4] == b"\x89PNG"
    assert len(data["text/plain"]) > 60, "the static frame is described in words"
    assert set(MOVES[make]) <= set(shown.controls)
    for name, control in shown.controls.items():
        assert control.description and control.tooltip, name
    said = {shown.spoken.value}
    for name, value in MOVES[make].items():
        before = shown.image.value
        assert shown.controls[name].value != value, f"vacuous: {name} stands at {value!r} already"
        shown.controls[name].value = value
        assert shown.message.value == "", f"{name} = {value!r}: {shown.message.value}"
        if (make.__name__, name) not in BLIND:
            assert shown.image.value != before, f"{name} = {value!r} changes nothing"
        said.add(shown.spoken.value)
    assert len(said) > 1
    assert "<" not in shown.spoken.value.split(">", 1)[1].rsplit("</span", 1)[0], "texts of users are escaped"


def test_a_map_chooses_by_word_and_shows_neighbours():
    """Search and lasso choose the same way; one row shows its neighbours, several show cards; texts reach the page escaped."""
    pytest.importorskip("jscatter")
    shown = embedding_explorer(rows(), labels=LABELS, names=("a", "b", "c"), images=PICTURES, texts=TEXTS)
    data, _ = shown._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == shown.first_frame
    shown.find.value = "7"
    assert "row 7" in shown.panel.value and "nearest in the full space" in shown.panel.value
    shown.choose(range(30))
    assert shown.panel.value.count("<img") == 24 and "and 6 more" in shown.panel.value
    assert "thing <" not in shown.panel.value and "thing &lt;3&gt; &amp; more" in shown.panel.value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: temperature_explorer(rows(5), rows(6)), "query and key"),
        (lambda: sphere_explorer({}), "walks is empty"),
        (lambda: sphere_explorer({"a": rows(5, 4)}), "2 or 3"),
        (lambda: sphere_explorer({"a": rows(5, 3)}, labels=torch.zeros(4)), "as many"),
        (lambda: gap_explorer(rows(), rows(), images=PICTURES[:3], texts=TEXTS), "one entry for each of 40"),
        (lambda: embedding_explorer(rows(), texts=TEXTS[:3]), "texts must have one entry"),
        (lambda: embedding_explorer(rows(), coordinates=torch.zeros(40, 3).numpy()), "finite pairs"),
        (lambda: decoding_explorer(None, []), "prompts is empty"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises((ValueError, WorkbenchError), match=message):
        call()
