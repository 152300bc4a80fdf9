"""The passes of the block-wise kernel: forward, backward, and both at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from workbench.losses._blocks import Gradients, Hole, Rows, Sweep, Weights, full_precision, like, take, through_scaling
from workbench.losses._ring import Alone, Ring, Turn
from workbench.losses._rules import LOG2E, Rule, Sigmoid, Softmax

# Of the logits of the pairs and the sums of the rows: a loss, and its two derivatives times a number.
Finish = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]]


class Plan(NamedTuple):
    """How to go about it: everything but the tensors that get gradients."""

    x_factor: Tensor | None
    y_factor: Tensor | None
    holes: tuple[Hole, ...]
    columns: bool
    block: tuple[int, int]
    keep: bool
    fused: bool  # by Triton, where the rule allows
    ring: Alone | Ring
    finish: Finish | None = None
    weight: float = 1.0  # of the total
    weights: Weights | None = None  # of the logits in the sums


def run(x: Rows, y: Rows | None, scale: float | Tensor, bias: float | Tensor | None, plan: Plan) -> Any:
    return _Blockwise.apply(x.x, None if y is None else y.x, scale, bias, plan)


class _Blockwise(torch.autograd.Function):
    """(pairs, rows, columns), or the total where the plan has a `finish`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, scale: float | Tensor, bias: float | Tensor | None, plan: Plan) -> Any:
        ctx.set_materialize_grads(False)
        with full_precision(x.device):
            # As numbers, here and now: on a device each look at them would wait for it.
            ctx.scale, ctx.bias = float(scale), None if bias is None else float(bias)
            work = _Work(x, y, ctx.scale, ctx.bias, plan, ctx.needs_input_grad)
            for rule in work.rules():
                found = work.forward(rule)
                if plan.ring.largest(not rule.certain(found.rows, found.columns)) == 0:
                    break
        ctx.plan, ctx.rule = plan, rule
        of_scale, of_bias = (number if isinstance(number, Tensor) else None for number in (scale, bias))
        # What is saved, rather than kept as an attribute, is let go as soon as the backward pass has used it.
        if plan.finish is not None:
            assert found.gradients is not None
            ctx.save_for_backward(x, y, of_scale, of_bias, *found.gradients)
            return found.total
        states = (found.rows, found.columns)
        ctx.strips = [len(strip) for strip in found.blocks or ()]
        ctx.save_for_backward(x, y, of_scale, of_bias, *states, *(block for strip in found.blocks or () for block in strip))
        return found.pairs, *(None if state is None else rule.result(state).to(work.dtype) for state in states)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor | None) -> Any:
        x, y, scale, bias, *kept = ctx.saved_tensors
        with full_precision(x.device):
            if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
                scale, bias = ctx.scale if scale is None else scale, ctx.bias if bias is None else bias
                return *_differentiable(x, y, scale, bias, ctx.plan, outer), None
            if ctx.plan.finish is not None:
                gradients = _times(kept, outer[0])
            else:
                work = _Work(x, y, ctx.scale, ctx.bias, ctx.plan, ctx.needs_input_grad)
                numbers = iter(kept[2:])
                blocks = [[next(numbers) for _ in range(count)] for count in ctx.strips]
                gradients = work.backward(ctx.rule, outer, kept[:2], blocks)
            by_x, by_y, by_scale, by_bias = gradients
            return (
                by_x,
                by_y,
                None if by_scale is None else by_scale.to(scale),
                None if by_bias is None else by_bias.to(bias),
                None,
            )


def _times(gradients: list[Tensor | None], outer: Tensor | None) -> list[Tensor | None]:
    """The gradients of a total times the derivative by it; no copies where that is one."""
    if outer is None:
        return [None for _ in gradients]
    if outer.device.type == "cpu" and float(outer) == 1:  # elsewhere the question would wait for the device
        return gradients
    return [None if gradient is None else gradient * outer.to(gradient) for gradient in gradients]


@dataclass
class _Found:
    """What the forward pass leaves behind."""

    rows: Tensor
    columns: Tensor | None
    pairs: Tensor
    blocks: list[list[Tensor]] | None = None
    total: Tensor | None = None
    gradients: list[Tensor | None] | None = None


class _Work:
    """The two sides, and what is done with them."""

    def __init__(self, x: Tensor, y: Tensor | None, scale: float, bias: float | None, plan: Plan, needed: tuple[bool, ...]):
        self.x = Rows(x, plan.x_factor)
        self.y = self.x if y is None else Rows(y, plan.y_factor)
        self.scale, self.bias, self.plan, self.needed = scale, bias, plan, needed
        self.dtype, self.device = self.x.dtype, x.device

    def rules(self) -> list[Softmax] | list[Sigmoid]:
        """The ways to go, the quicker one first."""
        ring, limit = self.plan.ring, torch.finfo(self.dtype).max / 8
        # A little more than the bound, for the rounding of lengths and products.
        bound = ring.largest(self.scale * self.x.longest() * self.y.longest() * LOG2E * 1.001)
        if not bound < limit:
            raise ValueError(f"the rows are too long: logits up to {bound:.1g} leave {self.dtype}; scale them to unit length")
        if self.bias is not None:
            return [Sigmoid(self.bias, bound / LOG2E + self.bias)]
        if self.plan.weights is not None:  # no bound
            return [Softmax(None)]
        return Softmax.choices(bound, max(ring.count(len(self.x)), ring.count(len(self.y))), self.dtype)

    def forward(self, rule: Rule) -> _Found:
        """Sums and pairs, and the blocks, or the total with its gradients, as planned."""
        plan, x = self.plan, self.x.x
        found = _Found(
            rule.state(len(self.x), x, self.dtype),
            rule.state(len(self.y), x, self.dtype) if plan.columns else None,
            self._no_pairs(),
        )
        if plan.finish is not None:
            return self._total(found, plan.finish, rule)
        found.blocks = [] if plan.keep else None
        for turn in plan.ring.round(self.y):
            sweep = self._sweep(turn, rule)
            for strip in sweep.strips():
                blocks = sweep.reduce(strip, found.rows, found.columns, found.pairs)
                if found.blocks is None:
                    deque(blocks, maxlen=0)
                else:
                    found.blocks.append(list(blocks))
            found.columns = plan.ring.pass_on(found.columns, dim=1)
        found.pairs = self._as_logits(found.pairs, rule)
        return found

    def _total(self, found: _Found, finish: Finish, rule: Rule) -> _Found:
        into, sweep = self._nothing(), self._sweep(next(iter(self.plan.ring.round(self.y))), rule)
        sweep.spare = into.alone  # one of many has left the cache: there a new one is quicker
        totals = []
        for strip in sweep.strips():
            blocks = list(sweep.reduce(strip, found.rows, None, found.pairs))
            state = take(found.rows, strip, 1)
            pairs = take(found.pairs, strip)
            pair, row = self._as_logits(pairs, rule), rule.result(state).to(self.dtype)
            totals.append(finish[0](pair, row).sum())
            by_pair, by_row = finish[1](pair, row, self.plan.weight)
            pairs.copy_(by_pair)
            sweep.spread(strip, rule.slopes(by_row, state, self.dtype), None, found.pairs, into, blocks)
            del blocks  # before the next ones are made
        found.total = (totals[0] if len(totals) == 1 else torch.stack(totals).sum()) * self.plan.weight
        found.gradients = self._gradients(into, rule)
        return found

    def backward(
        self,
        rule: Rule,
        outer: tuple[Tensor | None, ...],
        states: list[Tensor | None],
        blocks: list[list[Tensor]],
    ) -> list[Tensor | None]:
        """The derivatives by x, y, scale and bias, from those by pairs, rows and columns."""
        slopes = [
            None if state is None else rule.slopes(torch.zeros_like(state[1]) if by is None else by, state, self.dtype)
            for by, state in zip(outer[1:], states, strict=True)
        ]
        rows, columns = slopes[0], slopes[0] if self.y is self.x else slopes[1]
        assert rows is not None
        pairs = self._no_pairs() if outer[0] is None else outer[0]
        into = self._nothing()
        for turn in self.plan.ring.round(self.y, columns):
            sweep = self._sweep(turn, rule)
            for number, strip in enumerate(sweep.strips()):
                sweep.spread(strip, take(rows, strip, 1), turn.slopes, pairs, into, blocks[number] if blocks else None)
            into.y = self.plan.ring.pass_on(into.y)
        return self._gradients(into, rule)

    def _sweep(self, turn: Turn, rule: Rule) -> Sweep:
        kind, weights = Sweep, self.plan.weights
        if self.plan.fused and not (isinstance(rule, Softmax) and rule.shift is None):
            from workbench.losses.triton_kernels import TritonSweep

            kind = TritonSweep
        holes = self.plan.holes if turn.own else ()
        weights = weights and weights.starting_at(turn.part.start)
        return kind(self.x, turn.rows, self.scale, rule, holes, self.plan.block, weights)

    def _no_pairs(self) -> Tensor:
        count = max((hole.stop - hole.start for hole in self.plan.holes if hole.pair), default=0)
        return torch.zeros(count, dtype=self.dtype, device=self.device)

    def _as_logits(self, pairs: Tensor, rule: Rule) -> Tensor:
        return pairs / rule.unit if self.bias is None else pairs / rule.unit + self.bias

    def _nothing(self) -> Gradients:
        """Empty gradients; the derivative by the scale comes out of that by one side."""
        x, y, scale, bias = self.needed[:4]
        height, width = self.plan.block
        alone = self.plan.ring.world == 1 and not self.plan.fused and len(self.x) <= height and len(self.y) <= width
        start = (lambda rows: rows.x) if alone else (lambda rows: torch.zeros_like(rows.x, dtype=self.dtype))
        return Gradients(
            start(self.x) if x or (scale and not y) else None,
            start(self.y) if y and self.y is not self.x else None,
            torch.zeros((), dtype=self.dtype, device=self.device) if bias else None,
            alone,
        )

    def _gradients(self, into: Gradients, rule: Rule) -> list[Tensor | None]:
        x, y, scale, bias = self.needed[:4]
        by_scale = None
        for gradient, rows, last in ((into.y, self.y, into.x is None), (into.x, self.x, True)):
            if gradient is not None:
                length = math.sqrt(self.scale * rule.unit)
                by_scale = through_scaling(gradient, rows, length, self.scale, by_scale=scale and last)
        if by_scale is not None:
            # Where both sides are one, its gradient counts each logit twice.
            by_scale = by_scale / (self.scale * (2 if self.y is self.x else 1))
        dtype = self.x.x.dtype
        return [
            into.x.to(dtype) if x and into.x is not None else None,
            into.y.to(dtype) if y and into.y is not None else None,
            by_scale,
            into.bias if bias else None,
        ]


def _differentiable(
    x: Tensor,
    y: Tensor | None,
    scale: float | Tensor,
    bias: float | Tensor | None,
    plan: Plan,
    outer: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """The backward pass in operations that can be differentiated again: those of the dense formula, with its memory."""
    if plan.ring.world > 1:
        raise RuntimeError("second derivatives are not available across processes; use one process and group=None")
    u = Rows(x, plan.x_factor).differentiable()
    logits = like(scale, u) * (u @ (u if y is None else Rows(y, plan.y_factor).differentiable()).T)
    logits = logits if bias is None else logits + like(bias, u)
    outside = torch.zeros_like(logits, dtype=torch.bool)
    pairs = logits.new_empty(0)
    for hole in plan.holes:
        i = torch.arange(hole.start, hole.stop, device=x.device)
        outside[i, i + hole.offset] = True
        pairs = logits[i, i + hole.offset] if hole.pair else pairs
    rest = logits.masked_fill(outside, -math.inf)
    if plan.weights is not None:
        rest = rest + plan.weights.log2(slice(0, logits.shape[0]), slice(0, logits.shape[1]), logits.detach()) / LOG2E
    reduce = torch.logsumexp if bias is None else _sum_of_softplus
    found: list[Tensor | None] = [pairs, reduce(rest, 1), reduce(rest, 0) if plan.columns else None]
    if plan.finish is not None:
        found = [plan.finish[0](pairs, reduce(rest, 1)).sum() * plan.weight]
    results, weights = zip(*((f, o) for f, o in zip(found, outer, strict=True) if f is not None and o is not None), strict=True)
    inputs = [t for t in (x, y, scale, bias) if isinstance(t, Tensor) and t.requires_grad]
    by = iter(torch.autograd.grad(results, inputs, weights, create_graph=True, allow_unused=True))
    return [next(by) if isinstance(t, Tensor) and t.requires_grad else None for t in (x, y, scale, bias)]


def _sum_of_softplus(logits: Tensor, dim: int) -> Tensor:
    return -torch.nn.functional.logsigmoid(-logits).sum(dim)
