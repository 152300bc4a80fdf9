"""Batches from single cells: every batch is pure, every usable row comes once an epoch, cells are tuples of assignments."""

import itertools

import pytest
import torch

from workbench import losses
from workbench.training.cells import cell_batches, combine_cells, rows_in_cells

CELLS = torch.tensor([3] * 10 + [0] * 7 + [5] * 2 + [1] * 4)[torch.randperm(23, generator=torch.Generator().manual_seed(0))]


def test_cells_are_exactly_the_tuples():
    """Two rows share a cell if and only if all their assignments agree, for every pair of rows."""
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randint(k, (60,), generator=generator) for k in (2, 5, 3)]
    cells = combine_cells(parts)
    for i, j in itertools.combinations(range(60), 2):
        assert (cells[i] == cells[j]) == all(p[i] == p[j] for p in parts)
    assert torch.equal(combine_cells(parts[:1]), parts[0])


def test_an_epoch_is_pure_and_has_every_full_batch_once():
    """One epoch: 10 // 3 + 7 // 3 + 4 // 3 batches, each of one cell, no row twice, the cell of two rows never."""
    epoch = list(cell_batches(CELLS, 3, steps=6, seed=4))
    for rows in epoch:
        assert len(rows) == 3 and len(CELLS[rows].unique()) == 1
    drawn = torch.cat(epoch)
    assert len(drawn.unique()) == 18 and 5 not in CELLS[drawn]
    assert [int(CELLS[rows[0]]) for rows in epoch] == [0, 1, 3, 0, 3, 3]  # they take turns


def test_all_rows_of_large_cells_come_in_time():
    """The rest that did not fill a batch is not always the same rows."""
    drawn = torch.cat(list(cell_batches(CELLS, 3, steps=200, seed=0))).unique()
    assert len(drawn) == rows_in_cells(CELLS, 3) == 21


def test_one_cell_is_an_ordinary_sampler_and_seeds_repeat():
    """With a single cell an epoch is a shuffle of all rows; the same seed gives the same batches, another one does not."""
    one = torch.zeros(12, dtype=torch.int64)
    epoch = list(cell_batches(one, 4, steps=3, seed=2))
    assert torch.cat(epoch).sort().values.tolist() == list(range(12))
    again, other = list(cell_batches(one, 4, steps=3, seed=2)), list(cell_batches(one, 4, steps=3, seed=3))
    assert all(torch.equal(a, b) for a, b in zip(epoch, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(epoch, other, strict=True))


def test_a_pure_batch_under_nt_xent_has_only_negatives_of_its_cell():
    """The loss of MCL with a mask on a mixed batch equals NT-Xent of each cell by itself (a slow loop)."""
    z1, z2 = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cells = torch.tensor([0] * 6 + [1] * 6)
    z, y = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1), cells.repeat(2)
    total = 0.0
    for i in range(24):
        others = [j for j in range(24) if j != i and y[j] == y[i]]
        logits = torch.stack([z[i] @ z[j] / 0.2 for j in others])
        total += torch.logsumexp(logits, 0) - z[i] @ z[(i + 12) % 24] / 0.2
    apart = [losses.nt_xent(z1[cells == c], z2[cells == c], temperature=0.2) for c in (0, 1)]
    torch.testing.assert_close(total / 24, sum(apart) / 2)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: combine_cells([]), ValueError, "at least one"),
        (lambda: combine_cells([torch.tensor([0, 1]), torch.tensor([0])]), ValueError, r"assignments\[1\]"),
        (lambda: combine_cells([torch.tensor([0, -1])]), ValueError, "from 0 on"),
        (lambda: combine_cells([torch.tensor([0.0, 1.0])]), TypeError, "integers"),
        (lambda: cell_batches(CELLS, 11), ValueError, "the largest has 10"),
        (lambda: cell_batches(CELLS, 1), ValueError, "batch_size"),
        (lambda: cell_batches(CELLS, 3, steps=0), ValueError, "steps"),
        (lambda: cell_batches(torch.tensor([], dtype=torch.int64), 3), ValueError, "at least one row"),
    ],
)
def test_bad_input_is_refused_at_the_call(call, error, message):
    """The error comes from the call itself, not from the first batch."""
    with pytest.raises(error, match=message):
        call()
