"""MNIST: counts, fixed stratified splits, exact pixels."""

import numpy as np
import pytest
import torch

from workbench.data.mnist import load_mnist
from workbench.errors import UnknownNameError


def test_counts_and_stratified_splits():
    """10,000 digits, 7,000 / 1,000 / 2,000, and every digit has its share of each split to within one row."""
    whole = load_mnist("all")
    assert whole.images.shape == (10_000, 1, 28, 28) and whole.images.dtype == torch.float32
    assert whole.labels.bincount().tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    for split, n in {"train": 7_000, "val": 1_000, "test": 2_000}.items():
        ds = load_mnist(split)
        assert len(ds) == n
        assert (ds.labels.bincount() - whole.labels.bincount() * n / 10_000).abs().max() <= 1
        # No class waits at the end: a first batch has nearly all of them.
        assert len(ds.labels[:64].unique()) >= 9


def test_no_picture_is_in_two_splits():
    """All 10,000 pictures differ, and the three splits together are the whole set."""
    pictures = [{image.numpy().tobytes() for image in load_mnist(split).images} for split in ("train", "val", "test")]
    assert len(set.union(*pictures)) == sum(map(len, pictures)) == 10_000


def test_pixels_are_grey_levels_of_digits():
    """Values are exact 256ths, ink on black paper, and a linear classifier reads them (so labels belong to pictures)."""
    from sklearn.linear_model import RidgeClassifier

    train, test = load_mnist("train", size=14), load_mnist("test", size=14)
    levels = load_mnist("val").images * 255
    assert torch.equal(levels.round(), levels.round().clamp(0, 255)) and (levels - levels.round()).abs().max() < 1e-4
    assert levels.max() > 250 and levels.min() == 0 and 0.1 < (levels > 0).float().mean() < 0.3
    model = RidgeClassifier().fit(train.images.flatten(1).numpy(), train.labels.numpy())
    assert model.score(test.images.flatten(1).numpy(), test.labels.numpy()) > 0.75


def test_sizes_are_means_of_blocks():
    """14 px is the mean of 2 x 2 blocks; other sizes keep the mean brightness."""
    full = load_mnist("val").images[:20]
    slow = full.numpy().reshape(20, 1, 14, 2, 14, 2).mean((3, 5))
    np.testing.assert_allclose(load_mnist("val", size=14).images[:20].numpy(), slow, atol=1e-6)
    other = load_mnist("val", size=20).images[:20]
    assert other.shape == (20, 1, 20, 20)
    torch.testing.assert_close(other.mean((1, 2, 3)), full.mean((1, 2, 3)), rtol=0.05, atol=0)


def test_a_set_is_not_changed_through_another():
    """Writing into loaded pictures leaves the next load as it was."""
    first = load_mnist("val")
    first.images.zero_()
    first.labels.zero_()
    assert load_mnist("val").images.sum() > 0 and load_mnist("val").labels.sum() > 0


@pytest.mark.parametrize("options", [{"split": "training"}, {"size": 2}, {"size": 14.0}])
def test_bad_options(options):
    """Unknown splits and impossible sizes are refused by name."""
    error, words = (
        (UnknownNameError, "mnist split 'training'") if "split" in options else ((ValueError, TypeError), "size must be")
    )
    with pytest.raises(error, match=words):
        load_mnist(**options)
