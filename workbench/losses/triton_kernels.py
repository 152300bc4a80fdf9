"""Blocks of logits on a CUDA device, for rows in half precision: what is read is the rows, what is written is sums or weights.

A product of two blocks of rows on the tensor cores is turned into sums (forward) or weights (backward) in registers, so the
logits never reach memory; rows stay in half precision, products and sums are float32. The two products of the weights with
the rows are left to cuBLAS. Triton comes with torch on CUDA; where it does not work, `Sweep` does the same in torch operations.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.losses._blocks import Gradients, Sweep
from workbench.losses._rules import Sigmoid, Softmax

try:
    import triton
    import triton.language as tl

    jit = triton.jit
except ImportError:  # a build of torch without CUDA; `works` says so

    def jit(function: Any) -> Any:
        return function


TILE = {"TILE_M": 128, "TILE_N": 128, "TILE_K": 64}  # rows, columns and width of what one program multiplies at a time
LAUNCH = {"num_warps": 8, "num_stages": 3}


@jit
def _logits(
    x, y, x_factor, y_factor, n, m, d, shift,
    offset0, start0, stop0, offset1, start1, stop1, offset2, start2, stop2,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """One tile of logits minus the shift, -inf where there is none; its row and column numbers; the place of the tile."""
    # Programs that run together share rows and columns, which then come from the cache.
    tiles_m, tiles_n = tl.cdiv(n, TILE_M), tl.cdiv(m, TILE_N)
    width = 8 * tiles_n
    first = tl.program_id(0) // width * 8
    height = min(tiles_m - first, 8)
    tile_m = first + tl.program_id(0) % width % height
    tile_n = tl.program_id(0) % width // height

    i = tile_m * TILE_M + tl.arange(0, TILE_M)
    j = tile_n * TILE_N + tl.arange(0, TILE_N)
    k = tl.arange(0, TILE_K)
    x_row = x + (i % n).to(tl.int64)[:, None] * d
    y_row = y + (j % m).to(tl.int64)[:, None] * d
    logits = tl.zeros((TILE_M, TILE_N), dtype=tl.float32)
    for low in range(0, d, TILE_K):
        inside = (low + k)[None, :] < d
        a = tl.load(x_row + (low + k)[None, :], mask=inside, other=0.0)
        b = tl.load(y_row + (low + k)[None, :], mask=inside, other=0.0)
        logits = tl.dot(a, tl.trans(b), logits)
    logits = logits * tl.load(x_factor + i, mask=i < n, other=0.0)[:, None]
    logits = logits * tl.load(y_factor + j, mask=j < m, other=0.0)[None, :] - shift

    row, ahead = i[:, None], j[None, :] - i[:, None]
    outside = (row >= n) | (j[None, :] >= m)
    outside = outside | ((ahead == offset0) & (row >= start0) & (row < stop0))
    outside = outside | ((ahead == offset1) & (row >= start1) & (row < stop1))
    outside = outside | ((ahead == offset2) & (row >= start2) & (row < stop2))
    return tl.where(outside, -float("inf"), logits), i, j, tile_m, tile_n


@jit
def _sums(
    x, y, x_factor, y_factor, n, m, d, shift,
    offset0, start0, stop0, offset1, start1, stop1, offset2, start2, stop2,
    row_parts, column_parts,
    SIGMOID: tl.constexpr, COLUMNS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """Sums of 2^logit, or of log(1 + e^logit), over the tile: a line of the parts for each tile, so no order is left open."""
    logits, i, j, tile_m, tile_n = _logits(
        x, y, x_factor, y_factor, n, m, d, shift, offset0, start0, stop0, offset1, start1, stop1, offset2, start2, stop2,
        TILE_M, TILE_N, TILE_K,
    )  # fmt: skip
    if SIGMOID:
        small = tl.exp(-tl.abs(logits))
        # log(1 + e) loses the digits of a small e.
        terms = tl.where(small < 1e-2, small * (1 - small * (0.5 - small * (0.333333333 - 0.25 * small))), tl.log(1 + small))
        terms = terms + tl.maximum(logits, 0.0)
    else:
        terms = tl.exp2(logits)
    tl.store(row_parts + tile_n * n + i, tl.sum(terms, 1), mask=i < n)
    if COLUMNS:
        tl.store(column_parts + tile_m * m + j, tl.sum(terms, 0), mask=j < m)


@jit
def _weights(
    x, y, x_factor, y_factor, n, m, d, shift,
    offset0, start0, stop0, offset1, start1, stop1, offset2, start2, stop2,
    row_slopes, column_slopes, out,
    SIGMOID: tl.constexpr, COLUMNS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """The derivative by each logit of the tile."""
    logits, i, j, _, _ = _logits(
        x, y, x_factor, y_factor, n, m, d, shift, offset0, start0, stop0, offset1, start1, stop1, offset2, start2, stop2,
        TILE_M, TILE_N, TILE_K,
    )  # fmt: skip
    slopes = tl.load(row_slopes + i, mask=i < n, other=0.0)[:, None]
    if COLUMNS:
        slopes = slopes + tl.load(column_slopes + j, mask=j < m, other=0.0)[None, :]
    weights = (1 / (1 + tl.exp(-logits)) if SIGMOID else tl.exp2(logits)) * slopes
    place = out + i.to(tl.int64)[:, None] * m + j[None, :]
    tl.store(place, weights.to(out.dtype.element_ty), mask=(i[:, None] < n) & (j[None, :] < m))


class TritonSweep(Sweep):
    """As `Sweep`, for a rule without running maxima; blocks are not held, weights are bfloat16."""

    def reduce(self, rows: slice, row_state: Tensor, column_state: Tensor | None, pairs: Tensor) -> Iterator[Tensor]:
        for columns, mirrored in self._columns(rows):
            other = row_state if mirrored else column_state
            by_row, by_column = sums(self._operands(rows, columns), columns_too=other is not None)
            row_state[1, rows] += by_row
            if other is not None:
                other[1, columns] += by_column
            for numbers, i, j in self._pairs(rows, columns):
                pairs[numbers] = (self.x.load(i, self.length) * self.y.load(j, self.length)).sum(1)
            yield by_row

    def spread(
        self,
        rows: slice,
        row_slopes: Tensor,
        column_slopes: Tensor | None,
        pair_slopes: Tensor,
        into: Gradients,
        blocks: list[Tensor] | None,
    ) -> None:
        for columns, mirrored in self._columns(rows):
            across = None if column_slopes is None else column_slopes[0, columns]
            self._multiply(weights(self._operands(rows, columns), row_slopes[0], across), rows, columns, into, mirrored)
            other = into.x if mirrored else into.y
            for numbers, i, j in self._pairs(rows, columns):  # in float32: they count most
                slopes = pair_slopes[numbers, None]
                if into.x is not None:
                    into.x[i].addcmul_(self.y.load(j, self.length), slopes)
                if other is not None:
                    other[j].addcmul_(self.x.load(i, self.length), slopes)
                if into.bias is not None:
                    into.bias += slopes.sum()

    def _operands(self, rows: slice, columns: slice) -> Operands:
        sides = ((self.x, rows), (self.y, columns))
        x, y = (side.x[part].contiguous() for side, part in sides)
        ones = torch.ones(1, device=x.device)
        x_factor, y_factor = (
            (ones.expand(len(side)) if side.factor is None else side.factor)[part].float() * self.length for side, part in sides
        )
        holes = []
        for hole in self.holes:
            found = hole.among(rows, columns)
            holes += [hole.offset + rows.start - columns.start, found.start - rows.start, found.stop - rows.start]
        return Operands(x, y, x_factor, y_factor, self.rule, (*holes, *[0] * (9 - len(holes))))

    def _pairs(self, rows: slice, columns: slice) -> Iterator[tuple[slice, slice, slice]]:
        """The numbers of the pairs in a block, their rows and their columns."""
        for hole in self.holes:
            found = hole.among(rows, columns)
            if hole.pair and found.start < found.stop:
                yield hole.numbers(found), found, slice(found.start + hole.offset, found.stop + hole.offset)


class Operands(NamedTuple):
    """Two blocks of rows and how to compare them."""

    x: Tensor  # (n, d) as they came
    y: Tensor  # (m, d)
    x_factor: Tensor  # (n,) what gives them their length
    y_factor: Tensor
    rule: Softmax | Sigmoid
    holes: tuple[int, ...]  # offset, first row, last row + 1 of three diagonals, seen from the block


def sums(operands: Operands, *, columns_too: bool) -> tuple[Tensor, Tensor]:
    """Sums (n,) over the rows of a block, and (m,) over its columns where wanted, in float64."""
    x, y, x_factor, y_factor, rule, holes = operands
    (n, d), m = x.shape, len(y)
    tiles_m, tiles_n = triton.cdiv(n, TILE["TILE_M"]), triton.cdiv(m, TILE["TILE_N"])
    row_parts = torch.empty(tiles_n, n, device=x.device)
    column_parts = torch.empty(tiles_m if columns_too else 0, m, device=x.device)
    _sums[(tiles_m * tiles_n,)](
        x, y, x_factor, y_factor, n, m, d, _shift(rule), *holes, row_parts, column_parts,
        SIGMOID=isinstance(rule, Sigmoid), COLUMNS=columns_too, **TILE, **LAUNCH,
    )  # fmt: skip
    return row_parts.sum(0, dtype=torch.float64), column_parts.sum(0, dtype=torch.float64)


def weights(operands: Operands, row_slopes: Tensor, column_slopes: Tensor | None) -> Tensor:
    """Derivatives (n, m) by the logits of a block, without the pairs, in bfloat16 (in float16 most would vanish)."""
    x, y, x_factor, y_factor, rule, holes = operands
    (n, d), m = x.shape, len(y)
    out = torch.empty(n, m, dtype=torch.bfloat16, device=x.device)
    _weights[(triton.cdiv(n, TILE["TILE_M"]) * triton.cdiv(m, TILE["TILE_N"]),)](
        x, y, x_factor, y_factor, n, m, d, _shift(rule), *holes,
        row_slopes.contiguous(), (row_slopes if column_slopes is None else column_slopes).contiguous(), out,
        SIGMOID=isinstance(rule, Sigmoid), COLUMNS=column_slopes is not None, **TILE, **LAUNCH,
    )  # fmt: skip
    return out


def _shift(rule: Softmax | Sigmoid) -> float:
    if isinstance(rule, Sigmoid):
        return -rule.bias
    assert rule.shift is not None
    return float(rule.shift)


@functools.cache
def works() -> bool:
    """Whether the kernels and a product of bfloat16 with float32 sums run on this device and give the right numbers."""
    try:
        x, one = torch.eye(16, dtype=torch.bfloat16, device="cuda"), torch.ones(16, device="cuda")
        by_row, _ = sums(Operands(x, x, one, one, Softmax(0.0), (0,) * 9), columns_too=True)
        product = torch.mm(x, x, out_dtype=torch.float32)
    except Exception:  # whatever the compiler or the driver has to say: the other path always works
        return False
    return bool(((by_row - 17).abs() < 1e-3).all()) and torch.equal(product, x.float())
