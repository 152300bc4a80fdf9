"""What the loaders of texts share: cached columns of a stored table, rows of a split, and the convention for paired texts.

A row of a paired set has its first text in `captions` and the second in `extras["partner"]`; where the pair is graded,
`factors["similarity"]` says how alike the two are. `factors["concept"]` is equal for all rows about one thing, so that a
batch with two of them can be recognised: they are not each other's negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.data.files import data_dir, read_table, require_split


def columns_of(name: str, file: str) -> dict[str, np.ndarray]:
    """Every column of a stored table as an array, read once; strings and lists come as arrays of objects. Do not write into them.

    Raises:
        DataError: the file is missing or corrupt.
    """
    return _columns(str(data_dir()), name, file)


@lru_cache(maxsize=32)
def _columns(folder: str, name: str, file: str) -> dict[str, np.ndarray]:
    table = read_table(name, file)
    found = {}
    for column in table.schema.names:
        values = table[column].combine_chunks()
        if str(values.type).startswith("list"):
            # Ten times faster than converting cell by cell.
            flat, ends = values.values.to_numpy(zero_copy_only=False).tolist(), values.offsets.to_numpy().tolist()
            cells = np.empty(len(values), dtype=object)
            cells[:] = [flat[a:b] for a, b in pairwise(ends)]
            found[column] = cells
        else:
            found[column] = values.to_numpy(zero_copy_only=False)
    return found


def split_rows(columns: dict[str, np.ndarray], split: str, name: str) -> np.ndarray:
    """Numbers of the rows of one split, in stored order.

    Raises:
        UnknownNameError: split.
    """
    require_split(split, f"{name} split")
    return np.flatnonzero((columns["split"] == split) | (split == "all"))


def codes(values: np.ndarray, names: Sequence[str]) -> Tensor:
    """(n,) int64: the place of each value in `names`."""
    code = {name: i for i, name in enumerate(names)}
    return torch.tensor([code[v] for v in values.tolist()], dtype=torch.int64)


def integers(values: np.ndarray) -> Tensor:
    """(n,) int64 tensor of its own memory."""
    return torch.from_numpy(values.astype(np.int64))


def floats(values: np.ndarray) -> Tensor:
    """(n,) float32 tensor of its own memory."""
    return torch.from_numpy(values.astype(np.float32))


def lists(values: np.ndarray) -> list[list[Any]]:
    """Cells that hold lists, copied, so that a caller may change them."""
    return [list(v) for v in values.tolist()]
