"""The queue of past keys that gives a small batch many negatives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.checks import describe, require_labels, require_unit_rows
from workbench.errors import UnknownNameError

STARTS = ("empty", "random")


class Queue(nn.Module):
    """First in, first out: the last `size` keys, of length one and without gradient, each with the id of its example.

    It starts empty and holds only real keys: a queue of random vectors is easy to tell from real ones, and hard-negative
    mixing must not see it. `start='random'` is MoCo's choice, random unit vectors with id -1.

    Compute the loss first and push the batch's keys after it, else a key is its own negative. While it is empty give the
    loss no queue, `queue=keys.keys if len(keys) else None`, or push a few batches before training.

    Args:
        size: most keys it holds.
        dim: width of a key.
        start: 'empty' or 'random'.
        seed: of the random vectors.

    Raises:
        ValueError: a size or width below 1; keys of another width, a zero row, NaN.
        UnknownNameError: an unknown start.

    Source:
        MoCo (He et al. 2020), section 3.2; ids to mask an example's own older views: see MoCHi (Kalantidis et al. 2020).

    Example:
        >>> queue = Queue(3, 2)
        >>> queue.push(torch.tensor([[2.0, 0.0], [0.0, 5.0]]), ids=torch.tensor([7, 8]))
        >>> queue.keys.tolist(), queue.ids.tolist(), len(queue)
        ([[1.0, 0.0], [0.0, 1.0]], [7, 8], 2)
    """

    _keys: Tensor
    _ids: Tensor

    def __init__(self, size: int, dim: int, *, start: str = "empty", seed: int = 0):
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim must be at least 1, got {size} and {dim}")
        if start not in STARTS:
            raise UnknownNameError("start", start, STARTS)
        keys = torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("_keys", nn.functional.normalize(keys) if start == "random" else torch.zeros(size, dim))
        self.register_buffer("_ids", torch.full((size,), -1))
        # A python number, saved with the state: reading a counter from the GPU would stall every step.
        self._pushed = size if start == "random" else 0

    def __len__(self) -> int:
        return min(self._pushed, len(self._keys))

    @property
    def size(self) -> int:
        """Most keys it holds."""
        return len(self._keys)

    @property
    def keys(self) -> Tensor:
        """(k, dim) unit keys, oldest first: a copy, which stays valid in the graph of a loss when keys are pushed."""
        return self._keys[self._order()]

    @property
    def ids(self) -> Tensor:
        """(k,) ids of the keys, -1 where none was given."""
        return self._ids[self._order()]

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Tensor | None = None) -> None:
        """Append (n, dim) keys (scaled to length one), the first row being the oldest; beyond `size` the oldest drop out."""
        keys = require_unit_rows(keys, "keys")
        if keys.shape[1] != self._keys.shape[1]:
            raise ValueError(f"keys must have width {self._keys.shape[1]}, got {describe(keys)}")
        n, size = len(keys), len(self._keys)
        ids = torch.full((n,), -1) if ids is None else require_labels(ids, n, "ids")
        slots = (torch.arange(self._pushed, self._pushed + n) % size)[-size:].to(self._keys.device)
        self._keys[slots] = keys[-size:].to(self._keys)
        self._ids[slots] = ids[-size:].to(self._ids)
        self._pushed += n

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self._pushed)

    def set_extra_state(self, state: Tensor) -> None:
        self._pushed = int(state)

    def _order(self) -> Tensor:
        held = len(self)
        return torch.arange(self._pushed - held, self._pushed, device=self._keys.device) % len(self._keys)
