"""scikit-learn's digits: the same digits, in fixed blocks."""

import numpy as np
import pytest
import torch

from workbench.data.digits import load_digits
from workbench.errors import UnknownNameError


def test_they_are_scikit_learns_digits():
    """Pixels, labels and order equal `sklearn.datasets.load_digits`, divided by 16."""
    from sklearn.datasets import load_digits as peer

    whole = load_digits("all")
    assert whole.images.dtype == torch.float32 and whole.labels.dtype == torch.int64
    np.testing.assert_array_equal(whole.images[:, 0].numpy() * 16, peer().images)
    np.testing.assert_array_equal(whole.labels.numpy(), peer().target)
    assert whole.images.max() == 1 and whole.images.min() == 0


def test_splits_are_consecutive_blocks_with_all_classes():
    """1,258, 180 and 359 rows that follow each other and make up the whole; each class is near a tenth of each."""
    parts = [load_digits(split) for split in ("train", "val", "test")]
    assert [len(p) for p in parts] == [1258, 180, 359]
    assert torch.equal(torch.cat([p.images for p in parts]), load_digits("all").images)
    for part in parts:
        share = part.labels.bincount(minlength=10) / len(part)
        assert share.min() > 0.085 and share.max() < 0.115
        assert part.label_names[int(part.labels[0])] == str(int(part.labels[0]))


def test_no_picture_is_in_two_splits():
    """No two of the 1,797 pictures are equal."""
    assert len({image.numpy().tobytes() for image in load_digits("all").images}) == 1797


def test_unknown_split():
    """An unknown split is refused by name."""
    with pytest.raises(UnknownNameError, match="digits split 'dev'"):
        load_digits("dev")
