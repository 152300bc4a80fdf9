"""The one shape in which every loader returns its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of one data set, as tensors on one device; fields a set does not have are None or empty.

    Row i of every field belongs to the same example, so a batch is `ds.images[index]`; no worker processes.

    Attributes:
        name: name of the set, such as 'emoji'.
        split: 'train', 'val', 'test' or 'all'.
        images: (n, c, h, w) float32 in [0, 1].
        labels: (n,) int64, the main class of each row; `label_names[labels[i]]` is its name.
        label_names: names of the classes.
        captions: one English caption (or title, or text) for each row.
        factors: other annotations of each row, name -> (n,) int64 codes or float32 values.
        factor_names: for coded factors, name -> names of the codes.
        extras: anything else a set documents, name -> one entry a row (tensor, array or sequence of length n).
    """

    name: str
    split: str = "all"
    images: Tensor | None = None
    labels: Tensor | None = None
    label_names: Sequence[str] = ()
    captions: Sequence[str] = ()
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    factor_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self._columns().items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"all columns of a Dataset must have one length, got {lengths}")

    def __len__(self) -> int:
        return next((len(column) for column in self._columns().values()), 0)

    def __repr__(self) -> str:
        parts = [f"{self.name}/{self.split}: {len(self):,} rows"]
        if self.images is not None:
            parts.append(f"images {tuple(self.images.shape[1:])}")
        if self.labels is not None:
            parts.append(f"{len(self.label_names) or int(self.labels.max()) + 1} classes")
        if len(self.captions):
            parts.append("captions")
        if self.factors:
            parts.append("factors " + ", ".join(self.factors))
        if self.extras:
            parts.append("extras " + ", ".join(self.extras))
        return f"Dataset({'; '.join(parts)})"

    @property
    def device(self) -> torch.device:
        """Device of the tensors (cpu for a set without any)."""
        return next((c.device for c in self._columns().values() if isinstance(c, Tensor)), torch.device("cpu"))

    def select(self, rows: Tensor | np.ndarray | Sequence[int] | slice) -> Dataset:
        """The data set of these rows: indices, a boolean mask or a slice, in the order given."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        index = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise ValueError(f"a boolean mask must have shape ({len(self)},), got {index.shape}")
            index = index.nonzero()[0]
        if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
            raise TypeError(
                f"rows must be a slice, or one list of integers or booleans, got {index.dtype} of shape {index.shape}"
            )
        index = index.astype(np.int64)
        outside = index[(index < -len(self)) | (index >= len(self))]
        if len(outside):
            raise IndexError(f"row {int(outside[0])} is out of range for {len(self)} rows")
        on_device = torch.from_numpy(index).to(self.device)

        def take(column: Any) -> Any:
            if column is None:
                return None
            if isinstance(column, Tensor):
                return column[on_device]
            return column[index] if isinstance(column, np.ndarray) else [column[i] for i in index]

        return replace(
            self,
            images=take(self.images),
            labels=take(self.labels),
            captions=take(self.captions) if len(self.captions) else (),
            factors={k: take(v) for k, v in self.factors.items()},
            extras={k: take(v) for k, v in self.extras.items()},
        )

    def to(self, device: str | torch.device) -> Dataset:
        """The same data set with its tensors on another device."""

        def move(column: Any) -> Any:
            return column.to(device) if isinstance(column, Tensor) else column

        return replace(
            self,
            images=move(self.images),
            labels=move(self.labels),
            factors={k: move(v) for k, v in self.factors.items()},
            extras={k: move(v) for k, v in self.extras.items()},
        )

    def _columns(self) -> dict[str, Any]:
        own = {"images": self.images, "labels": self.labels, "captions": self.captions if len(self.captions) else None}
        columns = {
            **own,
            **{f"factors[{k}]": v for k, v in self.factors.items()},
            **{f"extras[{k}]": v for k, v in self.extras.items()},
        }
        return {k: v for k, v in columns.items() if v is not None}
