"""Kernel entropies against loops and closed forms; SepCLR against its formula, term by term."""

import math

import pytest
import torch

from workbench.losses import kernel_entropy, kernel_mutual_information, sepclr


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_entropy(variables, t):
    """The estimate as two loops over rows."""
    n, total = len(variables[0]), 0.0
    for i in range(n):
        kernels = 0.0
        for j in range(n):
            kernels += math.exp(-t * sum(sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True)) for x in variables))
        total -= math.log(kernels / n)
    return total / n


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("t", [0.3, 1.0])
def test_entropy_equals_the_loop(n, t):
    """One, two and three variables of different widths give what the loops give."""
    variables = [normal(n, d, seed=d) for d in (3, 1, 4)]
    for count in (1, 2, 3):
        some = variables[:count]
        expected = slow_entropy([x.tolist() for x in some], t)
        assert float(kernel_entropy(*some, t=t)) == pytest.approx(expected, rel=1e-10, abs=1e-12)
        rows = kernel_entropy(*some, t=t, reduction="none")
        assert rows.shape == (n,) and float(rows.mean()) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_entropy_at_its_ends():
    """Equal rows have entropy 0, rows far apart log n, m far groups of equal size log m."""
    x = 100 * torch.arange(6.0)[:, None]
    assert float(kernel_entropy(torch.ones(6, 3))) == 0
    assert float(kernel_entropy(x)) == pytest.approx(math.log(6))
    assert float(kernel_entropy(100 * (torch.arange(6.0) // 2)[:, None])) == pytest.approx(math.log(3))


def test_joint_entropy_bounds():
    """A joint entropy is at least each single one and at most their sum on a product grid, where it equals it."""
    a, b = normal(4, 2), normal(5, 3, seed=1)
    grid = [a.repeat_interleave(5, 0), b.repeat(4, 1)]
    joint, parts = float(kernel_entropy(*grid)), [float(kernel_entropy(x)) for x in grid]
    assert joint == pytest.approx(sum(parts), rel=1e-12)
    x, y = normal(9, 2), normal(9, 3, seed=1)
    assert float(kernel_entropy(x, y)) > max(float(kernel_entropy(x)), float(kernel_entropy(y)))


def test_mutual_information():
    """0 for independent or constant variables, log n for copies far apart, symmetric, unchanged by scale where asked."""
    a, b = normal(4, 2), normal(5, 3, seed=1)
    x, y = a.repeat_interleave(5, 0), b.repeat(4, 1)
    assert float(kernel_mutual_information(x, y)) == pytest.approx(0, abs=1e-12)
    assert float(kernel_mutual_information(x, torch.zeros(20, 1).double())) == pytest.approx(0, abs=1e-12)
    far = 100 * torch.arange(8.0)[:, None]
    assert float(kernel_mutual_information(far, -far)) == pytest.approx(math.log(8), rel=1e-6)
    z = x + 0.3 * normal(20, 2, seed=5)
    assert float(kernel_mutual_information(x, z)) == pytest.approx(float(kernel_mutual_information(z, x)), rel=1e-12)
    scaled = float(kernel_mutual_information(x, 0.01 * z, rescale=True))
    assert scaled == pytest.approx(float(kernel_mutual_information(x, z, rescale=True)), rel=1e-10)
    assert scaled > 5 * float(kernel_mutual_information(x, 0.01 * z)) > 0, "vacuous: shrinking does not lower the plain estimate"


def slow_sepclr(c, s, y, tau, beta_s, beta_0, lam):
    """The four terms as the specification lists them, with loops over pairs, on lists."""
    n = len(y)

    def square(u, w):
        return sum((a - b) ** 2 for a, b in zip(u, w, strict=True))

    def uniform(x):
        pairs = [math.exp(-square(x[i], x[j]) / (2 * tau)) for i in range(n) for j in range(i + 1, n)]
        return math.log(sum(pairs) / len(pairs))

    c = [[[v / math.sqrt(sum(a * a for a in row)) for v in row] for row in view] for view in c]
    null = [[row if label else [0.0] * len(row) for row, label in zip(view, y, strict=True)] for view in s]
    common = sum(square(*rows) for rows in zip(*c, strict=True)) / (2 * tau) / n + uniform(c[0]) + uniform(c[1])
    targets = [i for i in range(n) if y[i]]
    others = [i for i in range(n) if not y[i]]
    salient = sum(square(s[0][i], s[1][i]) for i in targets) / (2 * tau) / len(targets) + uniform(null[0]) + uniform(null[1])
    zero = sum(square(view[i], [0.0] * len(view[i])) for view in s for i in others) / (2 * tau) / len(others) / 2
    joint = sum(-slow_entropy([c[v], null[v]], 1 / (2 * tau)) for v in (0, 1)) / 2
    return common + beta_s * salient + beta_0 * zero + lam * joint


@pytest.mark.parametrize(("beta_s", "beta_0", "lam"), [(1000, 1000, 10), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)])
def test_loss_equals_the_terms(beta_s, beta_0, lam):
    """The loss is the sum of the four terms; each weight acts on its own term."""
    c, s = [normal(7, 4, seed=i) for i in (1, 2)], [normal(7, 3, seed=i) for i in (3, 4)]
    y = torch.tensor([1, 0, 1, 1, 0, 1, 0]).bool()
    for tau in (0.5, 0.8):
        expected = slow_sepclr([x.tolist() for x in c], [x.tolist() for x in s], y.tolist(), tau, beta_s, beta_0, lam)
        value = sepclr(c, s, y, t=1 / (2 * tau), salient_weight=beta_s, null_weight=beta_0, joint_weight=lam)
        assert float(value) == pytest.approx(expected, rel=1e-9)


def test_background_salient_codes_meet_only_the_null_term():
    """Without the null term the salient codes of the background get no gradient; with it they are pulled to zero."""
    c, y = [normal(6, 4, seed=i) for i in (1, 2)], torch.tensor([1, 1, 1, 0, 0, 0]).bool()
    for weight in (0.0, 1.0):
        s = [normal(6, 3, seed=i).requires_grad_() for i in (3, 4)]
        sepclr(c, s, y, null_weight=weight).backward()
        gradient = s[0].grad[3:]
        assert (gradient.abs().max() == 0) == (weight == 0) and s[0].grad[:3].abs().max() > 0
        if weight:
            torch.testing.assert_close(gradient, s[0].detach()[3:] / 3)


def test_gradient():
    """Autograd agrees with finite differences, also where salient codes coincide at the null point."""
    y = torch.tensor([1, 1, 0, 0, 1]).bool()
    inputs = [normal(5, 3, seed=i).requires_grad_() for i in range(4)]
    weights = {"salient_weight": 2.0, "null_weight": 3.0, "joint_weight": 1.5}
    assert torch.autograd.gradcheck(lambda a, b, p, q: sepclr((a, b), (p, q), y, **weights), inputs)


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (lambda: kernel_entropy(), ValueError, "variables"),
        (lambda: kernel_entropy(torch.rand(3, 2), torch.rand(4, 2)), ValueError, "variables"),
        (lambda: kernel_entropy(torch.full((3, 2), float("nan"))), ValueError, "variables"),
        (lambda: kernel_entropy(torch.ones(3, 2).long()), TypeError, "variables"),
        (lambda: kernel_entropy(torch.rand(3, 2), t=0.0), ValueError, "t must"),
        (lambda: kernel_entropy(torch.rand(3, 2), reduction="sum"), ValueError, "reduction"),
        (lambda: kernel_mutual_information(torch.ones(3, 2), torch.rand(3, 2), rescale=True), ValueError, "x is constant"),
    ],
)
def test_entropy_refuses(call, error, name):
    """Bad input is named."""
    with pytest.raises(error, match=name):
        call()


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"common": (torch.rand(4, 3), torch.rand(5, 3))}, ValueError, "common"),
        ({"common": (torch.zeros(4, 3), torch.rand(4, 3))}, ValueError, "common"),
        ({"salient": (torch.rand(5, 2), torch.rand(5, 2))}, ValueError, "salient"),
        ({"salient": (torch.rand(4, 2),)}, ValueError, "salient"),
        ({"salient": (torch.full((4, 2), float("inf")), torch.rand(4, 2))}, ValueError, "salient"),
        ({"target": torch.tensor([0, 1, 1, 0])}, TypeError, "target"),
        ({"target": torch.tensor([True, True, True, True])}, ValueError, "target"),
        ({"target": torch.tensor([True, False, False, False])}, ValueError, "target"),
        ({"target": torch.tensor([True, True, False])}, ValueError, "target"),
        ({"joint_weight": -1.0}, ValueError, "joint_weight"),
        ({"null_weight": float("inf")}, ValueError, "null_weight"),
        ({"t": 0.0}, ValueError, "t must"),
    ],
)
def test_loss_refuses(change, error, name):
    """Bad input is named."""
    good = {
        "common": (torch.rand(4, 3), torch.rand(4, 3)),
        "salient": (torch.rand(4, 2), torch.rand(4, 2)),
        "target": torch.tensor([True, True, False, False]),
    }
    sepclr(**good)
    with pytest.raises(error, match=name):
        sepclr(**{**good, **change})
