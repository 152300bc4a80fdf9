"""Build the digits set: scikit-learn's 1,797 handwritten digits, stored so that loading them need not import scikit-learn.

python data/digits/build.py [--out FOLDER]
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from workbench.data.build import run, write_table
from workbench.errors import DataError

# Of the pixels and labels, not of a package file: every scikit-learn carries the same digits in another wheel.
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
# Blocks, not a shuffle: neighbours in the source seem to come from one hand, and a shuffle would put it into all splits.
BLOCKS = {"train": (0, 1258), "val": (1258, 1438), "test": (1438, 1797)}


def build(folder: Path) -> None:
    """Write digits.parquet into `folder`."""
    from sklearn.datasets import load_digits

    source = load_digits()
    pixels, labels = source.images.astype(np.uint8).reshape(-1, 64), source.target.astype(np.uint8)
    found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if found != SHA256:
        raise DataError(f"the installed scikit-learn carries other digits (SHA-256 {found}, pinned {SHA256})")
    columns = {
        "label": pa.array(labels, pa.int8()),
        "split": [name for name, (start, end) in BLOCKS.items() for _ in range(start, end)],
        "pixels": pa.array([row.tobytes() for row in pixels], pa.binary(64)),
    }
    write_table(folder / "digits.parquet", pa.table(columns), plain=["pixels"])


if __name__ == "__main__":
    run(build, __file__)
