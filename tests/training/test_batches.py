"""Batches: every row once an epoch, in an order that the seed fixes."""

import itertools

import pytest
import torch

from workbench.training import batches


@pytest.mark.parametrize(("n", "size"), [(12, 4), (13, 4), (5, 5), (7, 1)])
@pytest.mark.parametrize("drop_last", [True, False])
def test_without_replacement_in_every_epoch(n, size, drop_last):
    """An epoch holds no row twice; with drop_last all batches are full, without it every row comes once."""
    per_epoch = n // size if drop_last else -(-n // size)
    drawn = list(itertools.islice(batches(n, size, drop_last=drop_last), 3 * per_epoch))
    epochs = [torch.cat(drawn[i * per_epoch : (i + 1) * per_epoch]).tolist() for i in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == (per_epoch * size if drop_last else n)
        assert set(epoch) <= set(range(n))
    assert epochs[0] != epochs[1]
    if drop_last:
        assert {len(b) for b in drawn} == {size}


def test_the_seed_fixes_the_order():
    """Same seed same batches, another seed others; a generator goes on where it was."""
    a, b, c = (torch.stack(list(batches(50, 10, steps=8, seed=s))) for s in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(torch.stack(list(batches(50, 10, steps=8, seed=generator))), a)
    assert not torch.equal(torch.stack(list(batches(50, 10, steps=8, seed=generator))), a)


def test_global_random_state_is_left_alone():
    """Drawing batches neither uses nor changes torch's global generator."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(batches(50, 10, steps=8))
    assert torch.equal(torch.rand(3), expected)


def test_all_rows_are_drawn_equally_often_and_evenly_placed():
    """Over 2,000 epochs each row comes first about equally often (multinomial, 5 standard deviations)."""
    first = torch.stack(list(itertools.islice(batches(5, 5, seed=1), 2000)))[:, 0]
    counts = torch.bincount(first, minlength=5)
    assert (counts - 400).abs().max() < 5 * (2000 * 0.2 * 0.8) ** 0.5


def test_steps_and_dtype():
    """Exactly `steps` batches of int64 indices."""
    drawn = list(batches(10, 3, steps=7))
    assert len(drawn) == 7 and all(b.dtype == torch.int64 for b in drawn)


@pytest.mark.parametrize(
    ("n", "size", "steps", "match"),
    [
        (10, 11, None, "the 10 rows of the data, got 11"),
        (10, 0, None, "got 0"),
        (0, 1, None, "0 rows"),
        (10, 2, 0, "steps must be at least 1"),
    ],
)
def test_bad_input_is_reported_at_the_call(n, size, steps, match):
    """Not at the first batch, where nobody looks."""
    with pytest.raises(ValueError, match=match):
        batches(n, size, steps=steps)
