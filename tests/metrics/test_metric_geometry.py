"""Geometry metrics where the answer is known: closed forms, limits, and the precision that the docstrings promise."""

import math

import pytest
import torch
from scipy import special, stats
from torch.nn.functional import normalize

from workbench import metrics
from workbench.metrics import _blocks


def gaussian(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- alignment, uniformity, tolerance ---


@pytest.mark.parametrize("t", [0.5, 2.0, 300.0])
def test_uniformity_of_opposite_points_is_minus_four_t(t):
    """One pair at distance 2 gives -4 t, also where exp(-4 t) is below the smallest float32."""
    assert float(metrics.uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]), t=t)) == pytest.approx(-4 * t, rel=1e-6)


def test_uniformity_of_one_point_is_zero():
    """A collapsed encoder has the worst value, 0, and rounding does not lift it above."""
    value = float(metrics.uniformity(gaussian(1, 64, dtype=torch.float32).repeat(300, 1)))
    assert -2e-6 < value <= 0


@pytest.mark.parametrize("d", [2, 3, 16, 64])
def test_uniformity_of_the_uniform_sphere(d):
    r"""For points drawn evenly from a sphere E exp(2 t cos) is Gamma(d/2) t^(1-d/2) I_{d/2-1}(2 t)."""
    t, v = 2.0, d / 2 - 1
    expected = -2 * t + special.gammaln(d / 2) - v * math.log(t) + math.log(special.iv(v, 2 * t))
    assert float(metrics.uniformity(gaussian(3000, d, seed=d))) == pytest.approx(expected, abs=0.01)


def test_uniformity_counts_distinct_pairs_only():
    """Three orthogonal points: every distinct pair is at squared distance 2; with self-pairs the value would be higher."""
    assert float(metrics.uniformity(torch.eye(3))) == pytest.approx(-4.0, abs=1e-6)


def test_cross_uniformity_leaves_out_matched_pairs():
    """Matched pairs that coincide change nothing; opposite poles reach the minimum -4 t."""
    x = torch.eye(4)
    assert float(metrics.cross_uniformity(x, x)) == pytest.approx(-4.0, abs=1e-6)
    pole = torch.tensor([[0.0, 1.0]]).repeat(5, 1)
    assert float(metrics.cross_uniformity(pole, -pole)) == pytest.approx(-8.0, abs=1e-5)


def test_alignment_of_known_angles():
    """Two unit vectors at angle a are 2 sin(a / 2) apart, to the power alpha."""
    angle = torch.linspace(0.01, math.pi, 50, dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(50, 1)
    y = torch.stack([angle.cos(), angle.sin()], 1)
    for alpha in (1.0, 2.0, 3.0):
        expected = float((2 * (angle / 2).sin()).pow(alpha).mean())
        assert float(metrics.alignment(x, y, alpha=alpha)) == pytest.approx(expected, rel=1e-12)


def test_tolerance_limits():
    """1 where each class is one point, whatever lies between the classes; 0 for orthogonal rows; -1 for an opposite pair."""
    two_points = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(4, 1)
    assert float(metrics.tolerance(two_points, torch.tensor([0, 1] * 4))) == 1
    assert float(metrics.tolerance(torch.eye(6), torch.tensor([0, 0, 0, 1, 1, 2]))) == pytest.approx(0, abs=1e-7)
    assert float(metrics.tolerance(two_points[:2], torch.tensor([7, 7]))) == -1


def test_tolerance_times_the_share_of_pairs_is_the_papers_form():
    """The paper's mean of cosine times indicator over all distinct pairs is this value times the same-class share."""
    x, labels = gaussian(30, 5), torch.arange(30) % 4
    z = normalize(x, dim=1)
    pairs = (labels[:, None] == labels[None]) & ~torch.eye(30, dtype=torch.bool)
    paper = float((z @ z.T * pairs).sum() / (30 * 29))
    assert float(metrics.tolerance(x, labels)) * float(pairs.sum()) / (30 * 29) == pytest.approx(paper, rel=1e-12)


def test_tolerance_needs_a_pair():
    """Where every class has one row there is nothing to average, and the error says so."""
    with pytest.raises(ValueError, match="labels must give at least two rows one class"):
        metrics.tolerance(torch.eye(3), torch.arange(3))


def test_metrics_equal_the_losses_they_share_a_formula_with():
    """Alignment, uniformity and cross-uniformity are the numbers that the differentiable losses return."""
    from workbench import losses

    x, y = gaussian(40, 8, 1), gaussian(40, 8, 2)
    for name in ("alignment", "uniformity", "cross_uniformity"):
        arguments = (x,) if name == "uniformity" else (x, y)
        torch.testing.assert_close(getattr(metrics, name)(*arguments), getattr(losses, name)(*arguments))
        if name != "alignment":  # in float64 to its last digits, also where 2 t is no number of float32
            found, wanted = (getattr(module, name)(*arguments, t=0.7) for module in (metrics, losses))
            torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


# --- precision ---


@pytest.mark.parametrize("radius", [1e-3, 1e-2, 0.3, 10.0])
@pytest.mark.parametrize("t", [2.0, 20.0])
def test_uniformity_in_float32_is_right_to_1e_6_t(radius, t):
    """From a nearly collapsed cloud to a spread one, float32 stays within 1e-6 t of float64."""
    x = (gaussian(1, 32, 5) + radius / 32**0.5 * gaussian(700, 32, 6)).float()
    x[1] = x[0] * (1 + 1e-6)  # and one pair of near-duplicates
    exact = float(metrics.uniformity(x.double(), t=t))
    assert abs(float(metrics.uniformity(x, t=t)) - exact) < 1e-6 * t
    assert exact < -1e-7, "vacuous: nothing to resolve"


@pytest.mark.parametrize("distance", [1e-6, 1e-5, 1e-3])
def test_alignment_resolves_near_duplicates(distance):
    """Pairs 1e-6 apart keep their distance in float32, where 2 - 2 cos would return rounding (about 1e-7 for 1e-12)."""
    x = normalize(gaussian(500, 64, 1), dim=1).float()
    y = (x.double() + distance * normalize(gaussian(500, 64, 2), dim=1)).float()
    exact = float(metrics.alignment(x.double(), y.double()))
    assert float(metrics.alignment(x, y)) == pytest.approx(exact, rel=0.02)
    assert exact == pytest.approx(distance**2, rel=0.3)


def test_tolerance_in_float32_is_right_to_2e_7():
    """The closed form through class sums loses nothing: no cancellation for collapsed classes nor for orthogonal rows."""
    labels = torch.arange(4000) % 10
    for radius in (1e-3, 1.0, 100.0):
        x = (gaussian(1, 32, 5) + radius * gaussian(4000, 32, 6)).float()
        assert abs(float(metrics.tolerance(x, labels)) - float(metrics.tolerance(x.double(), labels))) < 2e-7


def test_precision_does_not_depend_on_the_callers_settings():
    """Inside autocast and with TF32 products allowed the metrics return the same bits, and put the settings back."""
    x, y = gaussian(60, 16, 1).float(), gaussian(60, 16, 2).float()

    def values():
        return [
            metrics.uniformity(x),
            metrics.cross_uniformity(x, y),
            metrics.negative_weight_entropy(x, y, temperature=0.01),
            metrics.effective_rank(x),
            metrics.recall_at_k(x, y, k=5).ranks.double().mean(),
        ]

    plain = values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ y.T).dtype == torch.bfloat16, "vacuous: autocast is off"
        inside = values()
        assert (x @ y.T).dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))

    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        seen = _blocks.full_precision(products)()
        assert products() != seen and "tf32" not in seen, "vacuous: nothing was switched"
        with pytest.raises(ValueError):
            metrics.uniformity(x[:1])
        assert torch.get_float32_matmul_precision() == "medium", "an error must put the settings back too"
        assert all(torch.equal(a, b) for a, b in zip(plain, values(), strict=True))
    finally:
        torch.set_float32_matmul_precision(before)


def products():
    """How float32 matrices are multiplied now: (on CUDA, on the CPU)."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return (torch.get_float32_matmul_precision(),)
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision


def test_metrics_carry_no_gradient():
    """A metric of trainable embeddings is a number, not a node of the graph."""
    x = gaussian(8, 4).requires_grad_()
    for value in (metrics.uniformity(x), metrics.alignment(x, x), metrics.negative_weights(x, x, temperature=0.1)):
        assert not value.requires_grad


# --- effective rank ---


def test_effective_rank_of_orthonormal_rows():
    """n orthonormal rows, of any length in common, have rank n."""
    q = torch.linalg.qr(gaussian(20, 7))[0].T  # 7 orthonormal rows of 20
    for scale in (1.0, 1e-30, 1e30):
        assert float(metrics.effective_rank(q * scale)) == pytest.approx(7, rel=1e-9)
        assert float(metrics.rankme(q * scale)) == pytest.approx(7, rel=1e-5)


@pytest.mark.parametrize("spectrum", ["singular", "variance"])
def test_effective_rank_of_one_direction_and_of_an_isotropic_cloud(spectrum):
    """Multiples of one row: exactly 1. Many rows of an isotropic Gaussian: d."""
    assert float(metrics.effective_rank(gaussian(50, 1) @ gaussian(1, 9), spectrum=spectrum)) == 1
    assert float(metrics.effective_rank(gaussian(20_000, 24), spectrum=spectrum)) == pytest.approx(24, rel=2e-3)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_effective_rank_of_a_known_spectrum(shape):
    """The exponential of scipy's entropy of the singular values (or their squares), for tall and for wide matrices."""
    u = torch.linalg.qr(gaussian(shape[0], 6, 1))[0]
    v = torch.linalg.qr(gaussian(shape[1], 6, 2))[0]
    sigma = torch.tensor([5.0, 3.0, 1.0, 0.5, 0.01, 1e-4], dtype=torch.float64)
    x = u @ torch.diag(sigma) @ v.T
    assert float(metrics.effective_rank(x)) == pytest.approx(math.exp(stats.entropy(sigma)), rel=1e-6)
    variance = metrics.effective_rank(x, spectrum="variance")
    assert float(variance) == pytest.approx(math.exp(stats.entropy(sigma**2)), rel=1e-6)
    p = sigma / sigma.sum() + 1e-2
    if shape[0] > shape[1]:  # the paper's sum runs over all min(n, d) singular values, two of them zero here
        p = torch.cat([p, torch.full((2,), 1e-2, dtype=torch.float64)])
        assert float(metrics.rankme(x, epsilon=1e-2)) == pytest.approx(float(torch.special.entr(p).sum().exp()), rel=1e-6)


def test_centring_removes_a_common_offset():
    """An offset far larger than the spread hides it (rank near 1) unless the cloud is centred; rows out of line with it do not matter."""
    cloud, offset = gaussian(3000, 12), 1e3 * gaussian(1, 12, 3)
    assert float(metrics.effective_rank(cloud + offset)) < 1.2
    centred = float(metrics.effective_rank(cloud + offset, center=True))
    assert centred == pytest.approx(float(metrics.effective_rank(cloud - cloud.mean(0))), rel=1e-6)
    assert centred == pytest.approx(12, rel=5e-3)
    wide = gaussian(6, 40) + offset.repeat(1, 4)[:, :40]
    expected = metrics.effective_rank(wide - wide.mean(0))
    assert float(metrics.effective_rank(wide, center=True)) == pytest.approx(float(expected), rel=1e-6)


def test_effective_rank_refuses_what_has_no_direction():
    """All zeros, and equal rows once centred, have no spectrum: an error, not NaN and not rounding."""
    with pytest.raises(ValueError, match="x is all zeros"):
        metrics.effective_rank(torch.zeros(4, 3))
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ValueError, match="equal rows"):
            metrics.effective_rank(gaussian(1, 8, dtype=dtype).repeat(1000, 1), center=True)
        assert float(metrics.effective_rank(gaussian(1, 8, dtype=dtype).repeat(1000, 1))) == 1


# --- hardness of negatives ---


def test_negative_weights_are_the_ratio_of_the_gradients():
    """r_ij = |dL/ds_ij| / |dL/ds_ii|, taken by autograd from the InfoNCE loss of the similarity matrix."""
    tau, q, k = 0.3, gaussian(7, 5, 1), gaussian(7, 5, 2)
    s = (normalize(q, dim=1) @ normalize(k, dim=1).T).requires_grad_()
    torch.nn.functional.cross_entropy(s / tau, torch.arange(7), reduction="sum").backward()
    ratio = s.grad.abs() / s.grad.diagonal().abs()[:, None]
    expected = ratio.masked_fill(torch.eye(7, dtype=torch.bool), 0)
    torch.testing.assert_close(metrics.negative_weights(q, k, temperature=tau), expected)


def test_negative_weights_rows_sum_to_one():
    """Each row is a distribution over the negatives; the positive has none of it. One negative takes all of it."""
    weights = metrics.negative_weights(gaussian(9, 3), gaussian(9, 3, 1), temperature=0.07)
    torch.testing.assert_close(weights.sum(1), torch.ones(9, dtype=torch.float64))
    assert (weights.diagonal() == 0).all() and (weights >= 0).all()
    only = metrics.negative_weights(gaussian(2, 3), gaussian(2, 3, 1), temperature=0.07)
    torch.testing.assert_close(only, torch.eye(2, dtype=torch.float64).flip(0))


def test_entropy_between_one_negative_and_all_of_them():
    """From 0 at low temperature to log(n - 1) at high temperature, and never falling between."""
    q, k = gaussian(50, 8, 1), gaussian(50, 8, 2)
    values = [float(metrics.negative_weight_entropy(q, k, temperature=tau)) for tau in (1e-4, 0.01, 0.1, 1.0, 1e5)]
    assert values[0] == pytest.approx(0, abs=0.02) and values[-1] == pytest.approx(math.log(49), abs=1e-6)
    assert values == sorted(values)
    weights = metrics.negative_weights(q, k, temperature=0.1)
    assert values[2] == pytest.approx(float(stats.entropy(weights.numpy(), axis=1).mean()), rel=1e-9)


def test_classmate_share_from_base_rate_to_all():
    """High temperature: mean (n_c - 1) / (n - 1). Low temperature with classes apart: 1. No classmates: 0."""
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    x = torch.eye(3)[labels] + 0.01 * gaussian(10, 3).float()
    base = (5 * 4 + 3 * 2 + 2 * 1) / (10 * 9)
    assert float(metrics.classmate_share(x, x, labels, temperature=1e5)) == pytest.approx(base, rel=1e-4)
    assert float(metrics.classmate_share(x, x, labels, temperature=0.01)) == pytest.approx(1, abs=1e-6)
    assert float(metrics.classmate_share(x, x, torch.arange(10), temperature=0.1)) == 0
