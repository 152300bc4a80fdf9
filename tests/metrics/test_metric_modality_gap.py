"""The modality gap where the answer is known, its controls, and the separability against a plain scikit-learn loop."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import normalize

from workbench import metrics


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_identical_clouds_have_no_gap():
    """x = y: distance 0, pairs coincide, chance separability (exactly, since both rows of a pair are held out together)."""
    for n, d in ((60, 8), (30, 100)):  # the second: more columns than rows, where an in-sample fit would reach 1
        x = gaussian(n, d)
        gap = metrics.modality_gap(x, x)
        assert gap.centroid_distance == 0 and gap.relative_gap == 0 and gap.matched_cosine == pytest.approx(1)
        assert gap.separability == 0.5
        assert gap.recall_x2y == gap.recall_y2x == 1
        assert (gap.n, gap.d) == (n, d)


def test_opposite_poles_have_the_largest_gap():
    """Two antipodal point masses: distance 2, RMG 1, fully separable; all rows tie, so nothing is retrieved."""
    x = gaussian(1, 5).repeat(40, 1)
    gap = metrics.modality_gap(x, -x)
    assert gap.centroid_distance == pytest.approx(2, abs=1e-12)
    assert gap.relative_gap == pytest.approx(1, abs=1e-12)
    assert gap.matched_cosine == pytest.approx(-1) and gap.unmatched_cosine == pytest.approx(-1)
    assert gap.separability == 1 and gap.chance_distance == pytest.approx(0, abs=1e-12)
    assert gap.recall_x2y == gap.recall_y2x == gap.recall_x2y_shifted == gap.recall_y2x_shifted == 0
    assert gap.shifted_distance == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_total_collapse_is_no_gap_and_no_retrieval(dtype):
    """All rows of both modalities at one point: finite everywhere, RMG 0 by convention, recall 0."""
    x = gaussian(1, 33).to(dtype).repeat(50, 1)
    gap = metrics.modality_gap(x, 3 * x)
    assert gap.centroid_distance == pytest.approx(0, abs=1e-6) and gap.relative_gap == 0
    assert gap.separability == pytest.approx(0.5, abs=0.01)
    assert gap.recall_x2y == gap.recall_y2x == gap.recall_x2y_shifted == 0


def test_relative_gap_of_strangers_is_one_half():
    """Partners as far apart as two rows of one modality: RMG 1/2."""
    gap = metrics.modality_gap(gaussian(1500, 64, 1), gaussian(1500, 64, 2))
    assert gap.relative_gap == pytest.approx(0.5, abs=2e-3)
    assert gap.unmatched_cosine == pytest.approx(0, abs=2e-3)


def test_chance_distance_is_what_chance_gives():
    """For two independent samples of one distribution the centroid distance is about `chance_distance`; a real gap is far above."""
    x, y = gaussian(2000, 64, 1) + 0.3, gaussian(2000, 64, 2) + 0.3
    chance = [metrics.modality_gap(x, y, seed=s) for s in range(2)]
    assert chance[0].centroid_distance == pytest.approx(chance[0].chance_distance, rel=0.25)
    assert chance[0].chance_distance == pytest.approx(chance[1].chance_distance, rel=0.1)
    assert chance[0].chance_distance != chance[1].chance_distance, "the seed draws the halves"
    # Closed form: two sample means of n unit rows differ by sqrt(2 tr(cov) / n).
    spread = float(normalize(x, dim=1).var(0).sum())
    assert chance[0].chance_distance == pytest.approx(math.sqrt(2 * spread / 2000), rel=0.05)
    assert metrics.modality_gap(x, y - 1).centroid_distance > 20 * chance[0].chance_distance


def test_separability_of_overlapping_clouds():
    """Unit-variance clouds 2 apart along one axis: the best linear classifier is right with probability Phi(1) = 0.841."""
    n, far = 3000, 30.0  # so far from the origin that normalising keeps the axis
    base = torch.full((n, 1), far, dtype=torch.float64)
    x, y = (torch.cat([base, gaussian(n, 1, s) + shift], 1) for s, shift in ((1, 1.0), (2, -1.0)))
    assert metrics.modality_gap(x, y).separability == pytest.approx(stats.norm.cdf(1), abs=0.015)


def test_separability_is_held_out():
    """Two samples of one distribution with more columns than rows: a fit of the training rows would give 1, held-out rows 0.5."""
    values = [metrics.modality_gap(gaussian(60, 200, s), gaussian(60, 200, s + 50)).separability for s in range(5)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.08)


def test_separability_equals_a_plain_cross_validation():
    """The same folds through scikit-learn's own cross-validation with the pair as the group."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_score

    x = gaussian(103, 10, 1)
    y = x + 0.5 * gaussian(103, 10, 2) + 0.4
    fold = np.random.default_rng(3).permutation(103) % 5
    rows = np.concatenate([normalize(x, dim=1).numpy(), normalize(y, dim=1).numpy()])
    truth, folds = np.repeat([1, 0], 103), np.tile(fold, 2)
    scores = cross_val_score(LogisticRegression(max_iter=1000), rows, truth, cv=PredefinedSplit(folds))
    expected = np.average(scores, weights=[(folds == f).sum() for f in range(5)])
    actual = metrics.modality_gap(x, y, seed=3).separability
    assert actual == pytest.approx(expected, abs=1e-9) and 0.6 < actual < 0.99


def test_mean_shift_closes_the_gap_and_keeps_the_neighbours():
    """A constant offset between two copies of a cloud makes the gap and spoils recall; the shift undoes both."""
    cloud, offset = gaussian(300, 16), torch.zeros(16, dtype=torch.float64)
    offset[0] = 12.0
    x = normalize(cloud + offset, dim=1)
    y = normalize(cloud + 0.2 * gaussian(300, 16, 1) - offset, dim=1)
    gap = metrics.modality_gap(x, y)
    assert gap.centroid_distance > 1.5 and gap.separability == 1
    assert gap.shifted_distance < 0.1 * gap.centroid_distance
    assert gap.recall_x2y_shifted > gap.recall_x2y + 0.2
    # The shift, written out: both sets move half the gap, rows get length one, nearest neighbour by argmax.
    half = (x.mean(0) - y.mean(0)) / 2
    a, b = normalize(x - half, dim=1), normalize(y + half, dim=1)
    partner = torch.arange(300)
    assert gap.recall_x2y_shifted == pytest.approx(float(((a @ b.T).argmax(1) == partner).double().mean()))
    assert gap.recall_y2x_shifted == pytest.approx(float(((b @ a.T).argmax(1) == partner).double().mean()))
    assert gap.recall_x2y == pytest.approx(float(((x @ y.T).argmax(1) == partner).double().mean()))
    assert gap.recall_y2x == pytest.approx(float(((y @ x.T).argmax(1) == partner).double().mean()))


def test_swapping_the_modalities_swaps_the_directions():
    """Distances are symmetric; x-to-y and y-to-x change places."""
    x = gaussian(80, 4, 1)
    y = 0.6 * x + gaussian(80, 4, 2) + 0.5
    one, other = metrics.modality_gap(x, y), metrics.modality_gap(y, x)
    assert one.centroid_distance == pytest.approx(other.centroid_distance, rel=1e-12)
    assert one.separability == pytest.approx(other.separability, abs=1e-9)
    assert one.chance_distance == pytest.approx(other.chance_distance, rel=1e-12)
    assert (one.recall_x2y, one.recall_y2x) == (other.recall_y2x, other.recall_x2y)
    assert one.recall_x2y != one.recall_y2x, "vacuous: both directions agree"


def test_near_duplicate_pairs_keep_their_distance():
    """Partners 1e-5 apart in float32: 1 - cos would be rounding, RMG must still be in proportion to the distance squared."""
    x = normalize(gaussian(400, 32, 1), dim=1).float()
    y = (x.double() + 1e-5 * normalize(gaussian(400, 32, 2), dim=1)).float()
    exact = metrics.modality_gap(x.double(), y.double()).relative_gap
    assert metrics.modality_gap(x, y).relative_gap == pytest.approx(exact, rel=0.01) and 0 < exact < 1e-9


def test_two_pairs_are_enough():
    """The smallest input gives finite numbers in every field."""
    gap = metrics.modality_gap(gaussian(2, 3, 1), gaussian(2, 3, 2))
    assert all(math.isfinite(value) for value in vars(gap).values())


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_seed(seed, error):
    """A seed is a whole number from 0."""
    with pytest.raises(error, match="seed"):
        metrics.modality_gap(torch.eye(3), torch.eye(3), seed=seed)
