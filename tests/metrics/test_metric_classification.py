"""Nearest neighbours and linear probes against scikit-learn, scipy and known answers."""

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.neighbors import KNeighborsClassifier

from workbench import metrics
from workbench.metrics.classification import _draw_rows


def blobs(n, d, classes, spread, seed=0):
    """Gaussian classes around random centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    return centres[labels] + spread * torch.randn(n, d, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_knn_equals_scikit_learn(k):
    """The same votes as KNeighborsClassifier with cosine distance, the smaller label winning a tie."""
    (train_x, train_y), (test_x, test_y) = blobs(150, 6, 5, 1.5, 1), blobs(90, 6, 5, 1.5, 2)
    train_y, test_y = 7 * train_y - 3, 7 * test_y - 3  # labels need not be 0..C-1
    peer = KNeighborsClassifier(k, metric="cosine").fit(train_x.numpy(), train_y.numpy())
    expected = peer.score(test_x.numpy(), test_y.numpy())
    assert float(metrics.knn_accuracy(train_x, train_y, test_x, test_y, k=k)) == pytest.approx(expected)
    assert 0.3 < expected < 0.95, "vacuous: too easy or too hard"


def test_knn_of_a_collapsed_encoder_is_one_class():
    """One point for everything: the answer is constant, so the accuracy is the share of one class and never near 1."""
    x, y = torch.ones(40, 3), torch.arange(40) % 4
    for k in (1, 5):
        assert float(metrics.knn_accuracy(x, y, x, y, k=k)) == 0.25


def test_few_shot_equals_scikit_learn_draw_by_draw():
    """Each draw is a 1-nearest-neighbour classifier on the drawn rows, tested on given rows or on all the other rows."""
    (x, labels), (test_x, test_labels) = blobs(120, 6, 4, 1.2, 1), blobs(80, 6, 4, 1.2, 2)
    for shots, draws, seed in ((5, 6, 0), (1, 4, 3)):
        within = metrics.few_shot_knn(x, labels, shots=shots, draws=draws, seed=seed)
        held_out = metrics.few_shot_knn(x, labels, test_x=test_x, test_labels=test_labels, shots=shots, draws=draws, seed=seed)
        for draw, rows in enumerate(_draw_rows(labels, shots, draws, seed, spare=1)):
            rest = np.setdiff1d(np.arange(120), rows)
            peer = KNeighborsClassifier(1, metric="cosine").fit(x[rows].numpy(), labels[rows].numpy())
            assert within.per_draw[draw] == pytest.approx(peer.score(x[rest].numpy(), labels[rest].numpy()))
            assert held_out.per_draw[draw] == pytest.approx(peer.score(test_x.numpy(), test_labels.numpy()))
        assert within.accuracy == pytest.approx(np.mean(within.per_draw)) and 0.3 < within.accuracy < 0.99
        assert (within.n_test, held_out.n_test, within.n_classes, within.chance) == (120 - 4 * shots, 80, 4, 0.25)


def test_few_shot_draws():
    """Each draw holds `shots` different rows of every class; draws differ; the seed alone decides them."""
    labels = torch.tensor([5, 2, 5, 2, 9, 9, 5, 2, 9, 5])
    draws = _draw_rows(labels, 2, 30, 0, spare=1)
    for rows in draws:
        assert labels[rows].tolist() == [2, 2, 5, 5, 9, 9] and len(rows.unique()) == 6
    assert len(draws.unique()) == 10, "every row is drawn at some time"
    assert torch.equal(draws, _draw_rows(labels, 2, 30, 0, spare=1))
    assert not torch.equal(draws, _draw_rows(labels, 2, 30, 1, spare=1))


def test_few_shot_without_information_is_chance():
    """Embeddings that know nothing of the classes score 1 / classes, also where the classes have different sizes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([800, 400, 200, 100]))
    result = metrics.few_shot_knn(torch.randn(1500, 16, generator=generator), labels)
    assert result.accuracy == pytest.approx(0.25, abs=0.03) and len(result.per_draw) == 20
    assert metrics.few_shot_knn(torch.ones(1500, 16), labels).accuracy < 0.6, "a collapsed encoder does not shine"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"shots": 6}, "labels must hold at least 7 rows of each class for shots=6, got 5"),
        ({"test_x": torch.eye(3)}, "test_x and test_labels must be given together"),
        ({"shots": 0}, "shots"),
        ({"draws": 0}, "draws"),
        ({"seed": -1}, "seed"),
        ({"test_x": torch.ones(2, 4), "test_labels": torch.tensor([0, 1])}, "test_x"),
    ],
)
def test_few_shot_bad_options(change, match):
    """Too few rows of a class, half a test set and impossible numbers are refused by name."""
    arguments = {"x": torch.ones(15, 3), "labels": torch.arange(15) % 3, "shots": 1, **change}
    with pytest.raises(ValueError, match=match):
        metrics.few_shot_knn(**arguments)


@pytest.mark.parametrize("c", [0.1, 1.0, 100.0])
def test_linear_probe_minimises_its_formula(c):
    """The predictions are those of the minimum of the docstring's objective on standardised columns, found by scipy."""
    (x, y), (test_x, test_y) = blobs(60, 4, 3, 1.6, 1), blobs(400, 4, 3, 1.6, 2)
    stretch = torch.tensor([1.0, 10.0, 0.1, 3.0], dtype=torch.float64)
    x, test_x = x * stretch + 5, test_x * stretch + 5
    mean, std = x.mean(0).numpy(), x.numpy().std(0)
    a, b, one_hot = (x.numpy() - mean) / std, (test_x.numpy() - mean) / std, np.eye(3)[y.numpy()]

    def objective(theta):
        w, bias = theta[:12].reshape(4, 3), theta[12:]
        logits = a @ w + bias
        top = logits.max(1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        residual = c * (np.exp(log_p) - one_hot)
        gradient = np.concatenate([(w + a.T @ residual).ravel(), residual.sum(0)])
        return 0.5 * (w**2).sum() - c * (one_hot * log_p).sum(), gradient

    theta = optimize.minimize(objective, np.zeros(15), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14}).x
    predicted = (b @ theta[:12].reshape(4, 3) + theta[12:]).argmax(1)
    result = metrics.linear_probe(x, y, test_x, test_y, c=c)
    assert result.accuracy == pytest.approx((predicted == test_y.numpy()).mean(), abs=1 / 400 + 1e-9)
    assert (result.n_train, result.n_test, result.n_classes) == (60, 400, 3)
    assert 0.4 < result.accuracy < 0.98, "vacuous: too easy or too hard"


def test_linear_probe_reaches_the_best_linear_accuracy():
    """Two unit Gaussians 2 apart along one axis: Phi(1) = 0.841 of held-out rows, whatever the scale of the columns."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(8000) % 2
    x = torch.randn(8000, 3, generator=generator)
    x[:, 0] += 2.0 * y
    for scale in (1.0, 1e-4):
        result = metrics.linear_probe(x[:4000] * scale, y[:4000], x[4000:] * scale, y[4000:])
        assert result.accuracy == pytest.approx(stats.norm.cdf(1), abs=0.015)
        assert result.train_accuracy == pytest.approx(stats.norm.cdf(1), abs=0.015)
        assert result.chance == 0.5


def test_linear_probe_separates_training_from_test():
    """Random labels on many columns are learnt by heart: 1 on the training rows, chance on the others."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 100, generator=generator), torch.randint(2, (400,), generator=generator)
    result = metrics.linear_probe(x[:80], y[:80], x[80:], y[80:])
    assert result.train_accuracy == 1 and abs(result.accuracy - 0.5) < 0.08
    majority = int(y[:80].double().mean() > 0.5)
    assert result.chance == pytest.approx(float((y[80:] == majority).double().mean()))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"train_y": torch.zeros(4, dtype=torch.int64)}, ValueError, "train_y must hold at least two classes"),
        ({"train_y": torch.zeros(4)}, TypeError, "train_y"),
        ({"test_y": torch.zeros(3, dtype=torch.int64)}, ValueError, "test_y"),
        ({"c": 0}, ValueError, "c must be"),
        ({"c": "1"}, TypeError, "c must be"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"train_x": torch.full((4, 2), float("nan"))}, ValueError, "train_x"),
        ({"test_x": torch.ones(4, 3)}, ValueError, "test_x"),
        ({"test_x": torch.ones(4, 2, dtype=torch.int64)}, TypeError, "test_x"),
    ],
)
def test_linear_probe_bad_input(change, error, match):
    """Bad input raises the right error and names the argument."""
    y = torch.tensor([0, 1, 0, 1])
    good = {"train_x": torch.randn(4, 2), "train_y": y, "test_x": torch.randn(4, 2), "test_y": y}
    metrics.linear_probe(**good)
    with pytest.raises(error, match=match):
        metrics.linear_probe(**{**good, **change})


# --- factors ---


def factor_rows(n=300, seed=0):
    """Colour is written large into the rows, shape faintly, texture not at all."""
    generator = torch.Generator().manual_seed(seed)
    colour, shape, texture = (torch.randint(count, (n,), generator=generator) for count in (3, 2, 2))
    x = torch.randn(n, 12, generator=generator)
    x[:, :3] += 8 * torch.eye(3)[colour]
    x[:, 3] += 2.0 * shape
    return x, {"colour": colour, "shape": shape, "texture": texture}


@pytest.mark.parametrize("probe", ["logistic", "ridge"])
def test_factor_probe_reads_what_is_there(probe):
    """A factor written large is read at 1, a faint one at the Bayes accuracy, an absent one at chance."""
    x, factors = factor_rows(4000)
    result = metrics.factor_probe(x, factors, probe=probe)
    assert result.accuracy["colour"] == pytest.approx(1, abs=2e-3)
    assert result.accuracy["shape"] == pytest.approx(stats.norm.cdf(1), abs=0.02)
    assert result.accuracy["texture"] == pytest.approx(0.5, abs=0.03)
    assert result.worst == "texture" and result.gap == pytest.approx(result.accuracy["colour"] - result.accuracy["texture"])
    assert result.chance["colour"] == pytest.approx(float(factors["colour"].bincount().max()) / 4000)
    assert (result.n, result.folds) == (4000, 5)


def test_factor_probe_is_cross_validated():
    """More columns than rows and a random factor: the training rows would be learnt by heart, held-out rows stay at chance."""
    generator = torch.Generator().manual_seed(0)
    x, factor = torch.randn(200, 400, generator=generator), torch.randint(2, (200,), generator=generator)
    assert metrics.factor_probe(x, {"noise": factor}).accuracy["noise"] == pytest.approx(0.5, abs=0.1)


def test_factor_probe_same_seed_same_numbers():
    """The folds come from the seed."""
    x, factors = factor_rows()
    assert metrics.factor_probe(x, factors, seed=1) == metrics.factor_probe(x, factors, seed=1)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"factors": {}}, ValueError, "factors"),
        ({"factors": [1]}, TypeError, "factors"),
        ({"factors": {"a": torch.zeros(20)}}, TypeError, r"factors\['a'\]"),
        ({"factors": {"a": torch.arange(19)}}, ValueError, r"factors\['a'\]"),
        ({"factors": {"a": torch.zeros(20, dtype=torch.int64)}}, ValueError, "at least two values"),
        ({"factors": {"a": (torch.arange(20) > 16).long()}}, ValueError, "value 1 with 3 rows"),
        ({"folds": 1}, ValueError, "folds"),
        ({"probe": "svm"}, ValueError, "probe"),
        ({"c": -1.0}, ValueError, "c must be"),
        ({"seed": -1}, ValueError, "seed"),
        ({"embeddings": torch.full((20, 2), float("inf"))}, ValueError, "embeddings"),
        ({"embeddings": torch.ones(20)}, ValueError, "embeddings"),
    ],
)
def test_factor_probe_bad_input(change, error, match):
    """Bad input raises the right error and names the argument, down to the factor."""
    good = {"embeddings": torch.randn(20, 2), "factors": {"a": torch.arange(20) % 2}}
    metrics.factor_probe(**good)
    with pytest.raises(error, match=match):
        metrics.factor_probe(**{**good, **change})
