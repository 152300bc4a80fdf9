"""Figures are tested through their data: what is drawn is what was given."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from workbench import metrics, plots
from workbench.plots.dashboard import geometry_numbers
from workbench.plots.points import principal_plane


@pytest.fixture(autouse=True)
def close_figures():
    plots.house_style()
    yield
    plt.close("all")


def clouds(seed=0, n=120, d=8):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    return x, x + 0.1 * torch.randn(n, d, generator=generator), torch.arange(n) % 3


def test_principal_plane_keeps_distances_of_a_planar_cloud():
    """Points of a plane in 8 dimensions keep all distances; a second set gets the same axes."""
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)) @ torch.linalg.qr(torch.randn(8, 2))[0].T
    p, q = principal_plane(x, x.flip(0))
    torch.testing.assert_close(torch.pdist(torch.from_numpy(p)).float(), torch.pdist(x), rtol=1e-3, atol=1e-3)
    assert np.allclose(q[::-1], p)


def test_sphere_map_keeps_areas():
    """Even points on the sphere are even on the map: discs of half the area hold half the points."""
    x = torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0))
    _, ax = plt.subplots()
    plots.sphere_map(ax, x)
    points = np.concatenate([c.get_offsets() - [offset, 0] for c, offset in zip(ax.collections, (-1.05, 1.05), strict=True)])
    radius = np.linalg.norm(points, axis=1)
    assert len(points) == 40_000 and radius.max() <= 1 + 1e-6
    for r in (0.3, 0.5, 0.8):
        assert (radius < r).mean() == pytest.approx(r**2, abs=0.01)


def test_dashboard_shows_every_model_and_the_metrics_of_the_package():
    x, y, labels = clouds()
    figure = plots.geometry_dashboard(
        {"baseline": (x, y), "method": (y, x)}, labels=labels, extra={"knn": {"baseline": 0.25, "method": 0.75}}, title="T"
    )
    texts = {t.get_text() for ax in figure.findobj(matplotlib.axes.Axes) for t in [ax.title, *ax.texts]} | {
        ax.get_title(loc="left") for ax in figure.findobj(matplotlib.axes.Axes)
    }
    assert {"baseline", "method", "uniformity", "alignment", "tolerance", "effective rank", "knn", "0.25", "0.75"} <= texts
    assert f"{float(metrics.uniformity(x)):.3g}" in texts
    assert "modality gap" not in texts  # two views are no two modalities


def test_gap_appears_for_two_modalities():
    x, _, _ = clouds()
    far = x + 5.0
    u, v = (torch.nn.functional.normalize(t, dim=1).mean(0) for t in (x, far))
    assert geometry_numbers(x, far)["modality gap"] == pytest.approx(float((u - v).norm()), rel=1e-5)
    figure = plots.geometry_dashboard({"m": (x, far)}, pair_names=("image", "text"))
    assert "modality gap" in {ax.get_title(loc="left") for ax in figure.findobj(matplotlib.axes.Axes)}


def test_dashboard_refuses_nothing_and_broken_embeddings():
    with pytest.raises(ValueError, match="models is empty"):
        plots.geometry_dashboard({})
    with pytest.raises(ValueError, match="NaN"):
        plots.geometry_dashboard({"m": torch.full((5, 3), float("nan"))})


def test_image_grid_holds_every_picture_and_title():
    images = torch.rand(5, 1, 8, 8)
    figure = plots.image_grid(images, [f"n{i}" for i in range(5)], columns=3)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == 5 and [ax.get_title() for ax in shown] == [f"n{i}" for i in range(5)]
    assert np.allclose(shown[2].images[0].get_array()[..., 1], images[2, 0].numpy())
    with pytest.raises(ValueError, match="images is empty"):
        plots.image_grid([])
    with pytest.raises(ValueError, match="shape"):
        plots.image_grid(torch.rand(2, 4, 8, 8))


def test_thumbnails_do_not_pile_up():
    points = torch.tensor([[0.0, 0.0], [0.001, 0.0], [1.0, 1.0]])
    _, ax = plt.subplots()
    plots.thumbnail_scatter(ax, points, torch.rand(3, 3, 8, 8))
    assert len(ax.artists) == 2


def test_captioned_picture_marks_only_the_wrong_words():
    """All words are there, in order and wrapped; a word counts as wrong with its comma, and not for a part of it."""
    figure, ax = plt.subplots()
    plots.show_captioned(ax, torch.rand(3, 8, 8), "a star, a starfish and a ring", {"star"}, columns=12)
    words = [text for text in ax.artists[0].findobj(matplotlib.text.Text) if text.get_text()]
    assert [word.get_text() for word in words] == ["a", "star,", "a", "starfish", "and", "a", "ring"]
    assert [word.get_weight() == "bold" for word in words] == [False, True, False, False, False, False, False]
    figure.canvas.draw()
