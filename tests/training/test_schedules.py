"""Schedules against their closed forms and torch's scheduler."""

import itertools
import math

import pytest
import torch

from workbench.training import cosine_momentum, warmup_cosine


def test_cosine_equals_torch():
    """Without warm-up the factors are those of CosineAnnealingLR, floor included."""
    for floor in (0.0, 0.1):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=17, eta_min=2.0 * floor)
        for step in range(17):
            assert 2.0 * warmup_cosine(step, steps=17, floor=floor) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-6)
            optimizer.step()
            scheduler.step()


def test_warmup_rises_linearly_to_one_and_meets_the_cosine():
    """1/w, 2/w, ..., 1, then 1 again (the start of the cosine), half at its middle, the floor at the end, never 0 before."""
    factors = [warmup_cosine(k, steps=30, warmup=10) for k in range(31)]
    assert factors[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert factors[10] == 1 and factors[20] == pytest.approx(0.5) and factors[30] == pytest.approx(0)
    assert all(a > b for a, b in itertools.pairwise(factors[10:])) and min(factors[:30]) > 0
    assert warmup_cosine(30, steps=30, warmup=10, floor=0.25) == pytest.approx(0.25)


def test_cosine_momentum_closed_form():
    """1 - (1 - m0)(1 + cos(pi k / K)) / 2: from the start value to one, half-way in the middle, never falling."""
    values = [cosine_momentum(k, steps=100, start=0.9) for k in range(101)]
    assert values == pytest.approx([1 - 0.1 * (math.cos(math.pi * k / 100) + 1) / 2 for k in range(101)])
    assert values[0] == pytest.approx(0.9) and values[50] == pytest.approx(0.95) and values[100] == 1
    assert all(a < b for a, b in itertools.pairwise(values))
    assert cosine_momentum(3, steps=7, start=0.99, end=0.99) == pytest.approx(0.99)


@pytest.mark.parametrize(
    "call",
    [
        lambda: warmup_cosine(0, steps=0),
        lambda: warmup_cosine(0, steps=5, warmup=5),
        lambda: warmup_cosine(6, steps=5),
        lambda: warmup_cosine(-1, steps=5),
        lambda: warmup_cosine(1, steps=5, floor=1.5),
        lambda: cosine_momentum(0, steps=0),
        lambda: cosine_momentum(6, steps=5),
        lambda: cosine_momentum(1, steps=5, start=1.1),
    ],
)
def test_bad_input(call):
    """Steps and factors outside their range are refused."""
    with pytest.raises(ValueError, match="must be"):
        call()
