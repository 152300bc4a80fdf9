"""The one return shape: rows stay together, whatever is done to them."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

import workbench.data as data
from workbench.data.dataset import Dataset
from workbench.errors import UnknownNameError


def make(n=6):
    """A set in which every column holds the row number, so that any mix-up of rows shows."""
    number = torch.arange(n)
    return Dataset(
        "toy",
        "train",
        images=number.view(n, 1, 1, 1).float().expand(n, 3, 2, 2),
        labels=number,
        label_names=[str(i) for i in range(n)],
        captions=[f"row {i}" for i in range(n)],
        factors={"size": number * 10},
        factor_names={"size": ["small"]},
        extras={"list": [[i] for i in range(n)], "array": np.arange(n), "tensor": number},
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([4, 0, 4], [4, 0, 4]),
        (torch.tensor([5, 1]), [5, 1]),
        (np.array([2, -1]), [2, 5]),
        (slice(1, None, 2), [1, 3, 5]),
        (torch.tensor([True, False, False, True, False, False]), [0, 3]),
        ([], []),
    ],
)
def test_select_takes_the_same_rows_of_every_column(rows, expected):
    """Indices, masks and slices give the rows asked for, in that order, in every column."""
    ds = make().select(rows)
    assert len(ds) == len(expected)
    assert ds.labels.tolist() == ds.images[:, 0, 0, 0].tolist() == ds.extras["tensor"].tolist() == expected
    assert list(ds.captions) == [f"row {i}" for i in expected]
    assert ds.factors["size"].tolist() == [10 * i for i in expected]
    assert [x[0] for x in ds.extras["list"]] == ds.extras["array"].tolist() == expected
    assert ds.label_names == make().label_names and ds.split == "train"


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([0, 6], IndexError, "row 6 is out of range for 6 rows"),
        ([-7, 1], IndexError, "row -7"),
        (np.array([True, False]), ValueError, r"shape \(6,\)"),
        ([0.5], TypeError, "integers or booleans"),
        (3, TypeError, "one list"),
    ],
)
def test_select_refuses_rows_that_do_not_exist(rows, error, words):
    """A wrong index names the row, a wrong mask its shape; a fraction is never cut to an integer."""
    with pytest.raises(error, match=words):
        make().select(rows)


def test_columns_of_different_lengths_are_refused():
    """A column with a row too few is named, with its length."""
    with pytest.raises(ValueError, match="captions': 5"):
        dataclasses.replace(make(), captions=["x"] * 5)
    with pytest.raises(ValueError, match=r"factors\[size\]': 2"):
        dataclasses.replace(make(), factors={"size": torch.zeros(2)})


def test_to_moves_every_tensor_and_nothing_else():
    """After `to`, tensors are on the other device and lists are what they were."""
    ds = make().to("meta")
    assert ds.device.type == "meta"
    assert {t.device.type for t in (ds.images, ds.labels, ds.factors["size"], ds.extras["tensor"])} == {"meta"}
    assert ds.captions == make().captions and isinstance(ds.extras["array"], np.ndarray)


def test_the_text_form_says_what_is_inside():
    """`repr` gives name, split, rows and columns; it is what a notebook prints first."""
    text = repr(make())
    assert text.startswith("Dataset(toy/train: 6 rows")
    assert all(
        word in text for word in ("images (3, 2, 2)", "6 classes", "captions", "factors size", "extras list, array, tensor")
    )
    assert len(Dataset("empty")) == 0 and Dataset("empty").device.type == "cpu"


def test_load_by_name_is_the_loader():
    """`load(name, split, **options)` passes all it is given to that set's loader."""
    ds = data.load("mnist", "val", size=7)
    assert (ds.name, ds.split, ds.images.shape) == ("mnist", "val", (1000, 1, 7, 7))
    with pytest.raises(UnknownNameError, match="did you mean 'emoji'"):
        data.load("emojis")
    with pytest.raises(AttributeError, match="load_nothing"):
        _ = data.load_nothing
    assert set(data.available()) <= {name.removeprefix("load_") for name in data.__all__}


def test_importing_the_package_imports_no_loader():
    """`import workbench.data` loads neither pyarrow nor Pillow nor any loader module."""
    code = (
        "import sys, workbench.data as d; names = dir(d); "
        "bad = [m for m in ('pyarrow', 'PIL', 'sklearn', 'pandas', 'workbench.data.emoji', 'workbench.data.scenes') if m in sys.modules]; "
        "assert not bad, bad; assert 'load_emoji' in names; d.load_mnist('val'); "
        "bad = [m for m in ('sklearn', 'pandas') if m in sys.modules]; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
