"""Feature suppression where the answer is built in: loud, quiet, bent and absent factors."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from workbench import metrics


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def embeddings(n=400, seed=0):
    """Colour is loud, shape a direction, parity bent (no line separates it), texture absent."""
    generator = torch.Generator().manual_seed(seed)
    colour, shape, bent, texture = (torch.randint(2, (n,), generator=generator) for _ in range(4))
    x = 0.3 * torch.randn(n, 6, generator=generator, dtype=torch.float64)
    corner = torch.randint(2, (n,), generator=generator)
    x[:, 0] += 6.0 * colour - 3
    x[:, 1] += 2.0 * shape - 1
    x[:, 2] += 2.0 * corner - 1  # bent = corner xor the sign of column 3
    x[:, 3] += 2.0 * (corner ^ bent) - 1
    return x, {"colour": colour, "shape": shape, "bent": bent, "texture": texture}


def test_decodability_tells_linear_bent_and_absent_factors_apart():
    """Linear factors are read by both probes, a bent one by neighbours only, an absent one by neither."""
    x, factors = embeddings()
    x = x / torch.tensor([6.0, 1, 1, 1, 1, 1])
    found = metrics.decodability(x, factors, linear="ridge")
    assert found["colour"].linear.value > 0.95 and found["shape"].linear.value > 0.95
    assert found["bent"].knn.value > 0.85 > 0.62 > found["bent"].linear.value
    for name in ("linear", "knn"):
        estimate = getattr(found["texture"], name)
        assert estimate.low < 0.56 and estimate.null == found["texture"].chance
    assert abs(found["texture"].decoded) < 0.2 < 0.9 < found["colour"].decoded


def test_decodability_against_a_ceiling():
    """Half of the reachable accuracy is 0.5 decoded; a factor that the reference cannot read either has no verdict."""
    x, factors = embeddings()
    some = {name: factors[name] for name in ("shape", "texture")}
    blurred = x + 1.2 * gaussian(400, 6, 5)
    found = metrics.decodability(blurred, some, reference=x, linear="ridge")
    shape = found["shape"]
    expected = (shape.linear.value - shape.chance) / (shape.ceiling - shape.chance)
    assert shape.decoded == pytest.approx(expected) and 0.2 < shape.decoded < 0.95 < shape.ceiling
    assert found["texture"].decoded is None
    itself = metrics.decodability(x, {"shape": factors["shape"]}, reference=x, linear="ridge")["shape"]
    assert itself.decoded == pytest.approx(1)
    with pytest.raises(ValueError, match="reference must have the 400 rows"):
        metrics.decodability(x, some, reference=x[:9])
    with pytest.raises(ValueError, match="linear"):
        metrics.decodability(x, some, linear="knn")


def test_suppression_index_by_hand():
    """From the accuracy without B down to chance: 0 to 1; help is negative; nothing to lose is an error."""
    assert metrics.suppression_index([0.9, 0.7, 0.5, 1.0], chance=0.5) == pytest.approx((0, 0.5, 1, -0.25))
    for accuracy, match in (([0.9], "at least two"), ([0.5, 0.6], "above chance"), ([0.9, 1.2], "between 0 and 1")):
        with pytest.raises(ValueError, match=match):
            metrics.suppression_index(accuracy, chance=0.5)
    with pytest.raises(TypeError, match="accuracy"):
        metrics.suppression_index([0.9, "a"], chance=0.5)


def test_variance_shares_equal_regression():
    """The share of a factor is the R squared of a regression on its values; together, of a regression on all of them."""
    x, factors = embeddings(60)
    factors["shape"] = factors["shape"] + 2 * factors["colour"] * (torch.arange(60) % 3 == 0)  # correlated with colour
    found = metrics.variance_shares(x, factors, normalise=False)

    def r_squared(names):
        columns = [np.eye(4)[factors[name].numpy()] for name in names]
        design = np.concatenate(columns, axis=1)
        rest = x.numpy() - LinearRegression().fit(design, x.numpy()).predict(design)
        return 1 - (rest**2).sum() / ((x.numpy() - x.numpy().mean(0)) ** 2).sum()

    for name in factors:
        assert found.share[name] == pytest.approx(r_squared([name]))
    assert found.joint == pytest.approx(r_squared(list(factors))) and found.joint < sum(found.share.values())
    assert found.share["colour"] > 0.5 > found.share["shape"] > found.share["texture"]


def test_the_null_of_a_share_is_that_of_shuffled_values():
    """Shuffled factors average to (values - 1) / (n - 1), adjusted to 0."""
    x, values = gaussian(50, 3), torch.arange(50) % 5
    generator = torch.Generator().manual_seed(0)
    found = [metrics.variance_shares(x, {"a": values[torch.randperm(50, generator=generator)]}) for _ in range(150)]
    assert np.mean([f.share["a"] for f in found]) == pytest.approx(found[0].null["a"], abs=0.01) and found[0].null["a"] == 4 / 49
    assert np.mean([f.adjusted["a"] for f in found]) == pytest.approx(0, abs=0.012)


def test_minimal_pairs_between_invisible_and_unrelated():
    """No change: cosine 1, relative 0. Another row: relative 1. In between, in order; the null is unrelated rows."""
    x = gaussian(200, 8) + 0.3
    pairs = {"nothing": (x, x), "little": (x, x + 0.2 * gaussian(200, 8, 1)), "all": (x, gaussian(200, 8, 2) + 0.3)}
    found = metrics.minimal_pair_sensitivity(pairs)
    relative = [found[name].relative for name in pairs]
    assert relative[0] == pytest.approx(0, abs=1e-12) and 0 < relative[1] < 0.1 and relative[2] == pytest.approx(1, abs=0.08)
    z = torch.nn.functional.normalize(x, dim=1)
    others = float(((z @ z.T).sum() - 200) / (200 * 199))
    assert found["all"].cosine.null == pytest.approx(others) and found["all"].cosine.low < others < found["all"].cosine.high
    assert metrics.minimal_pair_sensitivity({"one point": (torch.ones(3, 2), torch.ones(3, 2))})["one point"].relative is None


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: metrics.variance_shares(x, {}), ValueError, "factors"),
        (lambda x: metrics.variance_shares(x, {"a": torch.zeros(6, dtype=torch.int64)}), ValueError, "at least two values"),
        (lambda x: metrics.variance_shares(x[:1].repeat(6, 1), {"a": torch.arange(6)}), ValueError, "equal rows"),
        (lambda x: metrics.minimal_pair_sensitivity({}), ValueError, "pairs"),
        (lambda x: metrics.minimal_pair_sensitivity({"a": x}), TypeError, r"pairs\['a'\]"),
        (lambda x: metrics.minimal_pair_sensitivity({"a": (x, x[:3])}), ValueError, r"pairs\['a'\]"),
        (lambda x: metrics.factor_probe(x, {"a": torch.arange(6) % 2}, probe="knn", k=99, folds=3), ValueError, "k must"),
    ],
)
def test_suppression_bad_input(call, error, match):
    """Bad factors and pairs are refused by name."""
    with pytest.raises(error, match=match):
        call(gaussian(6, 3))


# --- the logistic regression on the device ---


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("c", [0.05, 1.0, 100.0])
def test_fit_logistic_reaches_scikit_learns_objective(classes, c):
    """The penalised loss is scikit-learn's to 1e-5, and so are the predictions; labels need not be 0..C-1."""
    labels = torch.arange(90) % classes
    x = gaussian(90, 5, 1) + 0.8 * gaussian(classes, 5, 2)[labels]
    fit = metrics.fit_logistic(x, 3 * labels - 5, c=c)
    peer = LogisticRegression(C=c, max_iter=5000, tol=1e-10).fit(x.numpy(), labels.numpy())
    scores = peer.decision_function(x.numpy())
    scores = np.stack([np.zeros(90), scores], 1) if classes == 2 else scores
    loss = torch.nn.functional.cross_entropy(torch.as_tensor(scores), labels, reduction="sum")
    expected = 0.5 * (peer.coef_**2).sum() + c * float(loss)
    assert fit.objective == pytest.approx(expected, rel=1e-5) and fit.converged
    assert fit.predict(x).tolist() == (3 * torch.as_tensor(peer.predict(x.numpy())) - 5).tolist()


def test_linear_probe_gives_the_same_answers_with_both_solvers():
    """scikit-learn and torch classify the same test rows rightly, constant columns included."""
    labels = torch.arange(200) % 3
    x = gaussian(200, 6, 1) + 0.7 * gaussian(3, 6, 2)[labels]
    x[:, 5] = 4.0
    data = (x[:120], labels[:120], x[120:], labels[120:])
    ours, peer = (metrics.linear_probe(*data, solver=solver) for solver in ("torch", "scikit-learn"))
    assert ours.accuracy == pytest.approx(peer.accuracy, abs=1 / 80) and 0.4 < peer.accuracy < 0.95
    with pytest.raises(ValueError, match="solver"):
        metrics.linear_probe(*data, solver="sgd")
