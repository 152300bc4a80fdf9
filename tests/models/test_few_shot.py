"""Closed-form few-shot classifiers against scikit-learn's LDA, slow loops from the papers, and their limits."""

import math

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from workbench.models.few_shot import cache_scores, choose_alpha, gaussian_classifier, shrunk_precision


def clusters(n=30, d=6, classes=4, seed=0, dtype=torch.float64):
    """Elongated Gaussian classes of equal size: rows, labels."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat_interleave(n)
    stretch = torch.logspace(0.5, -0.5, d, dtype=dtype)
    means = torch.randn(classes, d, generator=generator, dtype=dtype)
    return means[y] + torch.randn(classes * n, d, generator=generator, dtype=dtype) * stretch, y


def test_with_the_pooled_covariance_it_is_scikit_learns_lda():
    """Weights and biases equal LinearDiscriminantAnalysis(solver='lsqr') when the precision is the inverse of its covariance."""
    x, y = clusters()
    lda = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(4, 0.25)).fit(x.numpy(), y.numpy())
    fitted = gaussian_classifier(x, y, precision=torch.linalg.inv(torch.from_numpy(lda.covariance_)))
    torch.testing.assert_close(fitted.weight, torch.from_numpy(lda.coef_))
    torch.testing.assert_close(fitted.bias, torch.from_numpy(lda.intercept_))
    new = clusters(seed=1)[0]
    torch.testing.assert_close(fitted.scores(new), torch.from_numpy(lda.decision_function(new.numpy())))


def test_with_many_rows_the_shrinkage_fades_and_it_predicts_as_lda():
    """For N much larger than d the estimate is d / (N - 1) times the plain inverse, and the predictions are those of LDA."""
    x, y = clusters(n=4000)
    fitted = gaussian_classifier(x, y)
    residuals = x - fitted.means[y]
    plain = torch.linalg.inv(residuals.T @ residuals / (len(x) - 1))
    wanted = 6 / (len(x) - 1) * plain
    assert (fitted.precision - wanted).norm() < 0.03 * wanted.norm()
    lda = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(4, 0.25)).fit(x.numpy(), y.numpy())
    new = clusters(n=200, seed=1)[0]
    same = fitted.scores(new).argmax(1).numpy() == lda.predict(new.numpy())
    assert same.mean() > 0.995
    identity = gaussian_classifier(x, y, precision=torch.eye(6, dtype=x.dtype)).scores(new).argmax(1)
    assert (identity.numpy() == lda.predict(new.numpy())).mean() < 0.95  # not vacuous: the covariance matters here


def test_precision_is_the_formula_of_the_paper():
    """A slow sum of outer products, with the factor d and the trace term, also with fewer rows than dimensions."""
    for n in (3, 50):
        r = torch.randn(n, 8, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        scatter = sum(torch.outer(row, row) for row in r)
        trace = sum(float(scatter[i, i]) for i in range(8)) / (n - 1)
        wanted = 8 * torch.linalg.inv(scatter + trace * torch.eye(8, dtype=torch.float64))
        torch.testing.assert_close(shrunk_precision(r), wanted)


def test_precision_in_directions_without_spread_is_d_over_the_trace():
    """Where no residual points, the estimate is finite: d / tr(Sigma)."""
    r = torch.zeros(10, 5, dtype=torch.float64)
    r[:, 0] = torch.linspace(-1, 1, 10)
    trace = float(r.square().sum()) / 9
    assert shrunk_precision(r)[4, 4] == pytest.approx(5 / trace)
    assert shrunk_precision(r)[0, 0] < shrunk_precision(r)[4, 4]


def test_isotropic_residuals_give_a_multiple_of_the_identity():
    """Round clouds: the rule is that of the nearest class mean."""
    r = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    precision = shrunk_precision(r)
    torch.testing.assert_close(precision, precision[0, 0] * torch.eye(4, dtype=torch.float64))


def test_predictions_do_not_depend_on_place_or_rotation():
    """Moving or turning rows and queries together changes no difference of scores."""
    x, y = clusters(n=5)
    new = clusters(n=5, seed=3)[0]
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64))[0]

    def differences(change):
        scores = gaussian_classifier(change(x), y).scores(change(new))
        return scores - scores[:, :1]

    wanted = differences(lambda v: v)
    torch.testing.assert_close(differences(lambda v: v + 3.0), wanted)
    torch.testing.assert_close(differences(lambda v: v @ turn), wanted)


def test_scores_are_gaussian_log_posteriors():
    """Softmax of the scores equals the posterior from torch's multivariate normal densities."""
    x, y = clusters(n=10)
    fitted = gaussian_classifier(x, y)
    new = clusters(n=3, seed=7)[0]
    normal = torch.distributions.MultivariateNormal
    densities = torch.stack([normal(m, precision_matrix=fitted.precision).log_prob(new) for m in fitted.means], 1)
    torch.testing.assert_close(fitted.scores(new).softmax(1), densities.softmax(1))


def test_weights_of_classes_generalise_labels():
    """One-hot weights equal labels; soft ones equal rows repeated in proportion, with the covariance per row."""
    x, y = clusters(n=6)
    hot = torch.nn.functional.one_hot(y).double()
    for a, b in zip(vars(gaussian_classifier(x, y)).values(), vars(gaussian_classifier(x, hot)).values(), strict=True):
        torch.testing.assert_close(a, b)
    soft = torch.rand(len(x), 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)
    fitted = gaussian_classifier(x, soft)
    means = [sum(w * row for w, row in zip(soft[:, c], x, strict=True)) / soft[:, c].sum() for c in range(4)]
    scatter = sum(float(soft[i, c]) * torch.outer(x[i] - means[c], x[i] - means[c]) for i in range(len(x)) for c in range(4))
    wanted = 6 * torch.linalg.inv(scatter + scatter.trace() / (len(x) - 1) * torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(fitted.means, torch.stack(means))
    torch.testing.assert_close(fitted.precision, wanted)


def test_float32_agrees_with_float64_at_the_width_of_clip():
    """512 dimensions and fewer rows than that: the trace term keeps float32 accurate."""
    x, y = clusters(n=12, d=512)
    x = torch.nn.functional.normalize(x, dim=1)
    exact, single = (gaussian_classifier(v, y).scores(v) for v in (x, x.float()))
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-3)
    half = gaussian_classifier(x.bfloat16(), y).scores(x.bfloat16())
    assert half.dtype == torch.float32


def test_one_shot_without_views_is_refused():
    """Each row is its own mean: no covariance, so an error that says what helps."""
    with pytest.raises(ValueError, match="augmented views"):
        gaussian_classifier(torch.randn(4, 8), torch.arange(4))


@pytest.mark.parametrize(
    "x, labels, options, message",
    [
        (torch.full((4, 2), math.nan), torch.tensor([0, 0, 1, 1]), {}, "NaN"),
        (torch.randn(4, 2), torch.tensor([0, 0, 2, 2]), {}, "class 1 has none"),
        (torch.randn(4, 2), torch.tensor([0, 0, 0, 0]), {}, "only one class"),
        (torch.randn(4, 2), torch.tensor([0, 0, -1, 1]), {}, "labels must be 0"),
        (torch.randn(4, 2), torch.full((4, 2), 0.9), {}, "sum to one"),
        (torch.randn(4, 2), torch.tensor([0, 0, 1, 1]), {"precision": torch.eye(3)}, "precision must have shape"),
    ],
)
def test_bad_input_names_the_argument(x, labels, options, message):
    """Bad rows, labels, weights and precision give a ValueError with what is wanted."""
    with pytest.raises(ValueError, match=message):
        gaussian_classifier(x, labels, **options)


def test_cache_scores_against_a_slow_loop():
    """Tip-Adapter's sum over the stored rows, written out; lengths of rows do not count."""
    generator = torch.Generator().manual_seed(0)
    x, keys = torch.randn(5, 7, generator=generator).double(), torch.randn(9, 7, generator=generator).double()
    y = torch.tensor([0, 2, 1, 0, 2, 2, 1, 0, 0])
    wanted = torch.zeros(5, 4, dtype=torch.float64)
    for i in range(5):
        for j in range(9):
            cosine = x[i] @ keys[j] / (x[i].norm() * keys[j].norm())
            wanted[i, y[j]] += torch.exp(-3.0 * (1 - cosine))
    torch.testing.assert_close(cache_scores(x, keys, y, beta=3.0, classes=4), wanted)
    torch.testing.assert_close(cache_scores(5 * x, keys, y, beta=3.0, classes=4), wanted)


def test_cache_scores_between_counting_and_the_nearest_row():
    """Very flat, it counts the stored rows of a class; very sharp, the nearest stored row decides."""
    x, y = clusters(n=8, dtype=torch.float32)
    new = clusters(n=4, seed=9, dtype=torch.float32)[0]
    torch.testing.assert_close(cache_scores(new, x, y, beta=1e-7), torch.full((16, 4), 8.0))
    unit = torch.nn.functional.normalize
    nearest = y[(unit(new.double()) @ unit(x.double()).T).argmax(1)]
    assert torch.equal(cache_scores(new.double(), x.double(), y, beta=500.0).argmax(1), nearest)
    with pytest.raises(ValueError, match="labels must be 0 to 2"):
        cache_scores(new, x, y, classes=3)


def test_choose_alpha_takes_the_best_of_the_grid_and_the_smallest_of_equals():
    """Compared with trying each weight by hand, for logits where only a middle weight is right."""
    zero, scores = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    y = torch.tensor([0, 1])
    assert choose_alpha(zero, scores, y, grid=(10.0, 1.0, 0.5, 0.1)) == (0.5, 1.0)
    assert choose_alpha(zero, scores, torch.tensor([0, 0]), grid=(10.0, 0.1)) == (0.1, 1.0)
    with pytest.raises(ValueError, match="one shape"):
        choose_alpha(zero, scores[:, :1], y)
    with pytest.raises(ValueError, match="grid"):
        choose_alpha(zero, scores, y, grid=())
