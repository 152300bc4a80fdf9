"""How the blocks of logits become sums of rows and columns, and those the weights of a gradient: softmax and sigmoid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG2E = 1 / math.log(2)


class Softmax:
    """Log-sum-exp of logits in units of log 2, kept as (largest, sum of powers of two relative to it) for each row.

    With a `shift` the largest is the same for all rows, from a bound on the logits, and a block is turned into its powers of
    two once, for rows and columns. Without one it is the running maximum of each row, and a block keeps its logits.
    """

    unit = LOG2E

    def __init__(self, shift: float | None, floor: float = 0.0):
        self.shift, self.floor = shift, floor

    @classmethod
    def choices(cls, bound: float, candidates: int, dtype: torch.dtype) -> list[Softmax]:
        """The ways to go, the quicker one first, for logits of at most `bound` (in units of log 2)."""
        limits = torch.finfo(dtype)
        # A quarter of the range is left to the other side: one over a sum, times a small derivative, must not vanish.
        shift = max(0.0, bound - 0.75 * math.log2(limits.max) + math.log2(candidates))
        running = cls(None)
        if -bound - shift >= math.log2(limits.tiny):
            return [cls(shift), running]
        # Terms may vanish. They do not matter where the sum is this large; where sums seldom are, do not try.
        floor = candidates * limits.tiny / limits.eps
        return [cls(shift, floor), running] if shift + math.log2(floor) < 0.2 * bound else [running]

    def certain(self, *states: Tensor | None) -> bool:
        """Whether nothing that matters was lost to the range of the dtype."""
        return self.floor == 0 or all(bool((state[1] >= self.floor).all()) for state in states if state is not None)

    def state(self, n: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Sums (2, n) over nothing."""
        state = torch.zeros(2, n, dtype=torch.float32 if like.device.type == "mps" else torch.float64, device=like.device)
        if self.shift != 0:  # not -inf: the difference of two would be NaN
            state[0] = torch.finfo(dtype).min if self.shift is None else self.shift
        return state

    def prepare(self, logits: Tensor) -> Tensor:
        """Turn logits, in their place, into what sums and weights are made from."""
        if self.shift is None:
            return logits
        if self.shift > 0:
            logits.sub_(self.shift)
        return logits.exp2_()

    def absorb(self, block: Tensor, state: Tensor, dim: int) -> None:
        """Add a block to the sums of its rows (dim 1) or columns (dim 0)."""
        if self.shift is not None:
            state[1] += block.sum(dim)
            return
        largest = torch.maximum(state[0], block.amax(dim))
        powers = (block - largest.to(block.dtype).unsqueeze(dim)).exp2_()
        state[1].mul_((state[0] - largest).exp2_()).add_(powers.sum(dim))
        state[0] = largest

    def result(self, state: Tensor) -> Tensor:
        """The log-sum-exps (n,) in nats; -inf where there was nothing to add."""
        sums = state[1].log2()
        return (sums if self.shift == 0 else sums.add_(state[0])).mul_(1 / self.unit)

    def slopes(self, gradient: Tensor, state: Tensor, dtype: torch.dtype) -> Tensor:
        """What `weights` needs of each row, from the derivative by its sum: (1, n), or (2, n) without a shift."""
        if self.shift is None:
            return torch.stack([gradient / state[1].where(state[1] > 0, 1.0), state[0]]).to(dtype)
        # Where nothing was added all weights are zero, whatever the slope, so long as it is finite.
        return (gradient / state[1].clamp_min(torch.finfo(dtype).tiny)).to(dtype)[None]

    def weights(self, block: Tensor, rows: Tensor, columns: Tensor | None, *, spare: bool = False) -> Tensor:
        """dL / dlogit for a block, from the slopes of its rows and, where they count, of its columns.

        With `spare` the block is not needed any more and may be overwritten.
        """
        if self.shift is not None:
            if columns is None:
                return block.mul_(rows.T) if spare else block * rows.T
            return torch.add(rows.T, columns).mul_(block)
        weights = (block - rows[1, :, None]).exp2_().mul_(rows[0, :, None])
        if columns is not None:
            weights += (block - columns[1]).exp2_().mul_(columns[0])
        return weights


class Sigmoid:
    """Sum of log(1 + exp(logit)) for each row; a block keeps its logits, which are at most `bound`."""

    unit = 1.0

    def __init__(self, bias: float, bound: float = math.inf):
        self.bias, self.bound = bias, bound

    def certain(self, *states: Tensor | None) -> bool:
        return True

    def state(self, n: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        return Softmax(0.0).state(n, like, dtype)

    def prepare(self, logits: Tensor) -> Tensor:
        return logits.add_(self.bias)

    def absorb(self, block: Tensor, state: Tensor, dim: int) -> None:
        if self.bound < 0.9 * math.log(torch.finfo(block.dtype).max):
            state[1] += (block * LOG2E).exp2_().log1p_().sum(dim)
            return
        # log(1 + e^z) = max(z, 0) + log(1 + e^-|z|): no overflow, and small terms keep their digits.
        state[1] += block.abs().mul_(-LOG2E).exp2_().log1p_().sum(dim) + block.clamp_min(0).sum(dim)

    def result(self, state: Tensor) -> Tensor:
        return state[1]

    def slopes(self, gradient: Tensor, state: Tensor, dtype: torch.dtype) -> Tensor:
        return gradient.to(dtype)[None]

    def weights(self, block: Tensor, rows: Tensor, columns: Tensor | None, *, spare: bool = False) -> Tensor:
        chances = block.sigmoid_() if spare else block.sigmoid()
        return chances.mul_(rows.T) if columns is None else chances.mul_(torch.add(rows.T, columns))


Rule = Softmax | Sigmoid
