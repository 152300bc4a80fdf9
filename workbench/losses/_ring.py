"""The processes of a group in a ring: everyone's rows pass everyone by, so that no process ever holds them all.

What a process starts with comes home after one round, with what each process on the way has added. Objectives are sums over
processes: a derivative by something that all processes share is therefore the sum of theirs (`shared`), and the
value of the whole, which each process reports, sends everyone only the part that is theirs (`whole`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from workbench.checks import describe
from workbench.losses._blocks import Rows


class Turn(NamedTuple):
    """Rows that pass by."""

    rows: Rows
    slopes: Tensor | None  # what came with them
    part: slice  # which they are among the rows of all processes
    own: bool


class Alone:
    """One process: nothing to pass on, nobody to agree with."""

    rank = 0
    world = 1

    @contextmanager
    def together(self) -> Iterator[None]:
        yield

    def round(self, y: Rows, slopes: Tensor | None = None) -> Iterator[Turn]:
        """The rows of each process in turn, with their slopes (k, n); the own come first."""
        yield Turn(y, slopes, slice(0, len(y)), own=True)

    def pass_on(self, x: Tensor | None, dim: int = 0) -> Tensor | None:
        """Send to one neighbour what belongs to the rows at hand, receive what belongs to the next."""
        return x

    def largest(self, value: float) -> float:
        """The largest value of any process."""
        return value

    def count(self, n: int) -> int:
        """Rows of all processes together."""
        return n

    def shared(self, x: Tensor) -> Tensor:
        """A tensor that all processes have: as it is, its derivative the sum of theirs."""
        return x

    def gather(self, x: Tensor) -> tuple[Tensor, int]:
        """Everyone's rows, the derivative being the sum of everyone's, and the place where the own rows start."""
        return x, 0

    def whole(self, x: Tensor) -> Tensor:
        """The sum over processes, to report: its derivative goes to the own part only."""
        return x

    def everyone(self, x: Tensor) -> Tensor:
        """The sum over processes, to go on with: all of them use it, so the derivative is the sum of theirs."""
        return self.whole(self.shared(x))


class Ring(Alone):
    """The processes of a torch.distributed group."""

    def __init__(self, group: dist.ProcessGroup):
        self.group = group
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)
        self._next = dist.get_global_rank(group, (self.rank + 1) % self.world)
        self._last = dist.get_global_rank(group, (self.rank - 1) % self.world)
        self._device = "cuda" if "nccl" in str(dist.get_backend(group)) else "cpu"
        self._sizes: list[int] = []
        self._owner = self.rank  # whose rows are at hand

    @contextmanager
    def together(self) -> Iterator[None]:
        failed = True
        try:
            yield
            failed = False
        finally:
            somewhere = self.largest(float(failed)) > 0
        if somewhere:
            raise ValueError("another process of the group refused its input; its own error says why")

    def round(self, y: Rows, slopes: Tensor | None = None) -> Iterator[Turn]:
        self._sizes = self._all_sizes(len(y))
        for step in range(self.world):
            self._owner = (self.rank + step) % self.world
            start = sum(self._sizes[: self._owner])
            # The next rows arrive while these are worked on.
            parts = ((y.x, 0), (y.factor, 0), (slopes, 1)) if step + 1 < self.world else ()
            coming = [self._exchange(x, dim) for x, dim in parts]
            yield Turn(y, slopes, slice(start, start + len(y)), own=step == 0)
            if coming:
                x, factor, slopes = (wait() for wait in coming)
                y = Rows(x, factor)

    def pass_on(self, x: Tensor | None, dim: int = 0) -> Tensor | None:
        return self._exchange(x, dim)()

    def largest(self, value: float) -> float:
        return self._reduce(value, dist.ReduceOp.MAX)

    def count(self, n: int) -> int:
        return int(self._reduce(n, dist.ReduceOp.SUM))

    def shared(self, x: Tensor) -> Tensor:
        return _Shared.apply(x, self.group)

    def whole(self, x: Tensor) -> Tensor:
        return _Whole.apply(x, self.group)

    def gather(self, x: Tensor) -> tuple[Tensor, int]:
        sizes = self._all_sizes(len(x))
        start = sum(sizes[: self.rank])
        return _Gather.apply(x, sizes, start, self.group), start

    def _exchange(self, x: Tensor | None, dim: int) -> Callable[[], Any]:
        if x is None:
            return lambda: None
        shape = list(x.shape)
        shape[dim] = self._sizes[(self._owner + 1) % self.world]
        leaving, arriving = x.contiguous(), x.new_empty(shape)
        send = dist.P2POp(dist.isend, leaving, self._last, self.group)
        receive = dist.P2POp(dist.irecv, arriving, self._next, self.group)
        works = dist.batch_isend_irecv([send, receive])

        def wait(leaving: Tensor = leaving) -> Tensor:  # holds what leaves until it has left
            for work in works:
                work.wait()
            return arriving

        return wait

    def _reduce(self, value: float, how: Any) -> float:
        x = torch.tensor(float(value), dtype=torch.float64, device=self._device)
        dist.all_reduce(x, how, self.group)
        return float(x)

    def _all_sizes(self, n: int) -> list[int]:
        sizes = torch.zeros(self.world, dtype=torch.int64, device=self._device)
        sizes[self.rank] = n
        dist.all_reduce(sizes, group=self.group)
        return sizes.tolist()


def ring_of(group: dist.ProcessGroup | None) -> Alone | Ring:
    """The ring of a group; None, or a group of one, is a process on its own."""
    if group is None:
        return Alone()
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            f"group must be a torch.distributed process group (such as dist.group.WORLD) or None, got {describe(group)}"
        )
    return Ring(group) if dist.get_world_size(group) > 1 else Alone()


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _sum(gradient, ctx.group), None


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        return _sum(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], start: int, group: dist.ProcessGroup) -> Tensor:
        ctx.part, ctx.group = slice(start, start + len(x)), group
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        everyone = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(everyone, padded, group=group)
        return torch.cat([rows[:size] for rows, size in zip(everyone, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _sum(gradient, ctx.group)[ctx.part], None, None, None


def _sum(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    x = x.contiguous().clone()
    dist.all_reduce(x, group=group)
    return x
