"""Blocks of logits: what they are made from, how they are walked through, how their weights become gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.checks import describe
from workbench.losses._products import add_product, product
from workbench.losses._rules import Rule

HALF = (torch.float16, torch.bfloat16)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """No autocast: it would round products to bfloat16 and a loss by some percent."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


def like(number: float | Tensor, x: Tensor) -> float | Tensor:
    """A number in the dtype, and on the device, of x."""
    return number.to(x) if isinstance(number, Tensor) else number


def take(x: Tensor, part: slice, dim: int = 0) -> Tensor:
    """Rows (dim 0) or columns (dim 1) of x as a view, or x itself if these are all: a view takes as long as a small operation."""
    if part.stop - part.start == x.shape[dim]:
        return x
    return x[:, part] if dim else x[part]


@dataclass(frozen=True)
class Rows:
    """One side: (n, d) rows as they came, and the factors (n,) that give them unit length (None: used as they are)."""

    x: Tensor
    factor: Tensor | None = None

    def __len__(self) -> int:
        return self.x.shape[0]  # len of a tensor takes ten times as long

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: float32 for half precision."""
        return torch.float32 if self.x.dtype in HALF else self.x.dtype

    def load(self, part: slice, length: float = 1.0) -> Tensor:
        """Rows of one block, of that length (or times it where they are used as they are)."""
        factor = length if self.factor is None else (take(self.factor, part) * length)[:, None]
        return take(self.x, part).to(self.dtype) * factor

    def differentiable(self) -> Tensor:
        """All rows, scaled, in operations that autograd sees."""
        x = self.x.to(self.dtype)
        return x if self.factor is None else x / torch.linalg.vector_norm(x, dim=1, keepdim=True)

    def longest(self) -> float:
        """Length of the longest row, as used."""
        return 1.0 if self.factor is not None else float(torch.linalg.vector_norm(self.x, dim=1, dtype=self.dtype).max())


@dataclass(frozen=True)
class Hole:
    """A diagonal that holds no negatives: entries (i, i + offset) for start <= i < stop.

    With `pair`, entry i is the positive pair number i - start: its logit is read there, its derivative is written there.
    """

    offset: int
    start: int
    stop: int
    pair: bool

    def mirrored(self) -> Hole:
        """Its place in the transposed matrix; the pair is read only in the one."""
        return Hole(-self.offset, self.start + self.offset, self.stop + self.offset, pair=False)

    def among(self, rows: slice, columns: slice) -> slice:
        """The rows of its entries in a block; empty where it has none there."""
        low = max(rows.start, columns.start - self.offset, self.start)
        return slice(low, max(low, min(rows.stop, columns.stop - self.offset, self.stop)))

    def within(self, block: Tensor, rows: slice, columns: slice) -> tuple[Tensor, slice] | None:
        """Its entries in a block, as a view, and their numbers."""
        found = self.among(rows, columns)
        if found.start == found.stop:
            return None
        first = max(rows.start, columns.start - self.offset)
        diagonal = block.diagonal(self.offset + rows.start - columns.start)
        return take(diagonal, slice(found.start - first, found.stop - first)), self.numbers(found)

    def numbers(self, rows: slice) -> slice:
        """The numbers of the pairs of some rows."""
        return slice(rows.start - self.start, rows.stop - self.start)


@dataclass(frozen=True)
class Weights:
    """What each logit counts in the sums of its row, zero or more; asked for block by block, so that it need not be stored."""

    of: Callable[[slice, slice], Tensor]
    first: int = 0  # the number of the first column at hand

    def starting_at(self, column: int) -> Weights:
        return replace(self, first=self.first + column)

    def log2(self, rows: slice, columns: slice, like: Tensor) -> Tensor:
        """Logarithms (rows, columns) to base 2; -inf leaves a logit out."""
        columns = slice(columns.start + self.first, columns.stop + self.first)
        weights = self.of(rows, columns)
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        if not isinstance(weights, Tensor) or weights.shape != shape or weights.is_complex():
            raise ValueError(f"weights must give numbers of shape {shape} for {rows} and {columns}, got {describe(weights)}")
        weights = weights.detach().to(like)
        if not (torch.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"weights must be finite and not negative, which they are not in {rows} and {columns}")
        return weights.log2()


def cut(start: int, stop: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size`."""
    for low in range(start, stop, size):
        yield slice(low, min(stop, low + size))


class Sweep:
    """All blocks of logits between two sides, strip by strip; where `y` is `x`, those on and above the diagonal."""

    def __init__(
        self,
        x: Rows,
        y: Rows,
        scale: float,
        rule: Rule,
        holes: tuple[Hole, ...],
        block: tuple[int, int],
        weights: Weights | None = None,
    ):
        self.x, self.y, self.rule, self.holes, self.weigh = x, y, rule, holes, weights
        self.height, self.width = block
        # Each side takes half of the scale: where both are one tensor, so are their blocks of rows.
        self.length = math.sqrt(scale * rule.unit)
        self._x = self._y = (slice(0), x.x)
        self.spare = False  # whether blocks that come back may be overwritten

    def strips(self) -> Iterator[slice]:
        """The rows of each strip."""
        return cut(0, len(self.x), self.height)

    def reduce(self, rows: slice, row_state: Tensor, column_state: Tensor | None, pairs: Tensor) -> Iterator[Tensor]:
        """Add a strip to the sums and write down the logits of its pairs; yields its blocks as it goes."""
        for columns, mirrored in self._columns(rows):
            block = self._block(rows, columns, pairs)
            self.rule.absorb(block, take(row_state, rows, 1), dim=1)
            other = row_state if mirrored else column_state
            if other is not None:
                self.rule.absorb(block, take(other, columns, 1), dim=0)
            yield block

    def spread(
        self,
        rows: slice,
        row_slopes: Tensor,
        column_slopes: Tensor | None,
        pair_slopes: Tensor,
        into: Gradients,
        blocks: list[Tensor] | None,
    ) -> None:
        """Add what a strip gives to the gradients, from its blocks, which are made again where they were not kept.

        Args:
            rows: the strip.
            row_slopes: of the rows of the strip, as the rule makes them of the derivatives by their sums.
            column_slopes: of all columns, where their sums count.
            pair_slopes: derivatives by the logits of all pairs.
            into: what to add to.
            blocks: those that `reduce` gave.
        """
        for number, (columns, mirrored) in enumerate(self._columns(rows)):
            block = self._block(rows, columns) if blocks is None else blocks[number]
            across = None if column_slopes is None else take(column_slopes, columns, 1)
            weights = self.rule.weights(block, row_slopes, across, spare=self.spare or blocks is None)
            for hole in self.holes:
                if hole.pair and (inside := hole.within(weights, rows, columns)) is not None:
                    inside[0].copy_(take(pair_slopes, inside[1]))
            self._multiply(weights, rows, columns, into, mirrored)

    def _multiply(self, weights: Tensor, rows: slice, columns: slice, into: Gradients, mirrored: bool) -> None:
        x, y = self._load(rows, columns)
        if into.alone:
            into.x = None if into.x is None else add_product(None, weights, y)
            into.y = None if into.y is None else add_product(None, weights.T, x)
        elif into.x is not None:
            add_product(into.x[rows], weights, y)
        other = None if into.alone else into.x if mirrored else into.y
        if other is not None:
            add_product(other[columns], weights.T, x)
        if into.bias is not None:
            into.bias += weights.sum(dtype=into.bias.dtype)

    def _columns(self, rows: slice) -> Iterator[tuple[slice, bool]]:
        """The columns of each block of a strip; True where the block also stands for its mirror image."""
        if self.y is not self.x:
            yield from ((columns, False) for columns in cut(0, len(self.y), self.width))
            return
        yield from ((columns, False) for columns in cut(rows.start, rows.stop, self.width))
        yield from ((columns, True) for columns in cut(rows.stop, len(self.x), self.width))

    def _load(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Rows of both sides; those of the last block are still there."""
        if self._x[0] != rows:
            self._x = rows, self.x.load(rows, self.length)
        if self._y[0] != columns:
            self._y = columns, self.y.load(columns, self.length)
        return self._x[1], self._y[1]

    def _block(self, rows: slice, columns: slice, pairs: Tensor | None = None) -> Tensor:
        logits = product(*self._load(rows, columns))
        for hole in self.holes:
            if (inside := hole.within(logits, rows, columns)) is not None:
                if hole.pair and pairs is not None:
                    take(pairs, inside[1]).copy_(inside[0])
                inside[0].fill_(-math.inf)
        if self.weigh is not None:
            logits += self.weigh.log2(rows, columns, logits)
        return self.rule.prepare(logits)


@dataclass
class Gradients:
    """Where the derivatives are summed up; None where none is wanted."""

    x: Tensor | None
    y: Tensor | None
    bias: Tensor | None
    alone: bool = False  # whether there is one block only: what it gives takes the place of x and y, whatever they are


def through_scaling(gradient: Tensor, rows: Rows, length: float, scale: float, *, by_scale: bool) -> Tensor | None:
    """Turn weights times rows of the other side, in its place, into the derivative by the rows as they came.

    Returns scale times the derivative by the scale, where that is wanted.
    """
    total = None
    for part in cut(0, len(rows), 1024):
        g, x = take(gradient, part), take(rows.x, part).to(rows.dtype)
        if rows.factor is None:
            g.mul_(scale / length)  # the other side had that length
            along = (x * g).sum(1) if by_scale else None
        else:  # only what is across a row turns it
            factor = take(rows.factor, part)[:, None]
            g.mul_(factor * (scale / length))
            along = (x * g).sum(1, keepdim=True)
            g.addcmul_(x, along * factor.square(), value=-1)
        if by_scale and along is not None:
            total = along.sum() if total is None else total + along.sum()
    return total
