"""scikit-learn's handwritten digits: 1,797 pictures of 8 by 8 pixels, the smallest real set there is."""

from __future__ import annotations

import torch

from workbench.data.dataset import Dataset
from workbench.data.mnist import digit_rows
from workbench.runtime import resolve_device


def load_digits(split: str = "train", *, device: str | torch.device = "cpu") -> Dataset:
    """8-pixel handwritten digits with a fixed split in consecutive blocks of the source: 1,258 train, 180 val, 359 test.

    Args:
        split: 'train', 'val', 'test' or 'all'.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        images (n, 1, 8, 8), ink 1 on paper 0, in steps of 1/16; labels 0 to 9.

    Raises:
        UnknownNameError: split.
        DataError: the file of the set is missing or corrupt.

    Example:
        >>> load_digits("test").images.shape
        torch.Size([359, 1, 8, 8])
    """
    place = resolve_device(device)
    pixels, labels = digit_rows("digits", split)
    return Dataset(
        "digits", split, images=pixels.to(place).float() / 16, labels=labels.to(place), label_names=tuple("0123456789")
    )
