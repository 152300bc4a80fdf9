"""Supervised contrastive loss: all rows of one class are positives of each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from workbench import checks
from workbench.losses._blocks import cut, like, take, through_scaling
from workbench.losses._common import Reduction, parameter, reduce, rows, scalar, uncompiled
from workbench.losses._ring import Alone, Ring, ring_of
from workbench.losses.blockwise import Rows, no_self, sums

PART = 1024  # rows that are at hand at once


@uncompiled
def supcon(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""Cross entropy between the softmax over all other rows and the uniform choice of a class-mate; lower is better.

    $$L_i = -\frac{1}{|P(i)|}\sum_{p \in P(i)} \log\frac{e^{z_i^\top z_p/\tau}}{\sum_{a \neq i} e^{z_i^\top z_a/\tau}}$$

    with $P(i)$ the other rows of the class of row i: the form $L_{out}$, with the sum outside the logarithm. For two views
    of a batch stack them: `supcon(torch.cat([view1, view2]), labels.repeat(2))`; with a class for each image this is
    `nt_xent`.

    Args:
        features: (n, d), n >= 2.
        labels: (n,) integers.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over the anchors that have a class-mate, or 'none': (n,), 0 where there is none.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, at least 0, and at least log(c - 1) when every class has c rows; log(n - 1) when all rows are equal.

    Raises:
        ValueError: also when no two rows share a label.
        TypeError: labels that are not integers, other bad tensors or options.

    Source:
        Khosla et al. 2020 (arXiv 2004.11362), eq. 2. Their code multiplies by temperature / base_temperature, equal by
        default; we do not.

    Example:
        >>> x = torch.eye(2).repeat(2, 1)
        >>> supcon(x, torch.tensor([0, 1, 0, 1]), temperature=1.0)  # log(e + 2) - 1
        tensor(0.5514)
    """
    ring = ring_of(group)
    with ring.together():
        x = rows(features, "features", normalize=normalize, min_rows=2 if ring.world == 1 else 1)
        labels = checks.require_labels(labels, len(x)).to(x.x.device)
        temperature = scalar(temperature, "temperature")
    all_labels, start = ring.gather(labels)
    _, classes, sizes = torch.unique(all_labels, return_inverse=True, return_counts=True)
    own = classes[start : start + len(x)]
    if sizes.max() < 2:
        raise ValueError(f"labels must hold two rows of one class, got {len(classes)} rows of {len(sizes)} different classes")
    mates = sizes[own] - 1
    anchors = mates > 0

    scale = 1 / parameter(temperature, ring)
    found = sums(x, None, scale=scale, holes=no_self(len(x)), block_size=block_size, ring=ring)
    # A line of a table for each class that has a row here; line 0 for rows whose sum nobody here asks for.
    met = torch.zeros_like(sizes).index_fill_(0, own, 1) * (sizes > 1)
    together = _Together.apply(x.x, x.factor, (met.cumsum(0) * met)[classes], start, ring)
    positives = together * like(scale, together) / mates.clamp(min=1)
    per_anchor = (found.rows - positives).masked_fill(~anchors, 0.0)
    return reduce(per_anchor if reduction == "none" else per_anchor[anchors], reduction, ring)


class _Together(torch.autograd.Function):
    """For each row the sum (n,) of its products with its class-mates in all processes: that with its class, less itself.

    No n x n mask, and no (n, d) tensor but the rows and their gradient: beside them only the sums of the classes are held.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor | None, lines: Tensor, start: int, ring: Alone | Ring) -> Tensor:
        z, own = Rows(x, factor), lines[start : start + len(x)]
        table = _class_sums(z, None, lines, int(lines.max()) + 1, ring)
        ctx.ring = ring
        ctx.save_for_backward(x, factor, lines, own, table)
        found = torch.empty(len(x), dtype=z.dtype, device=x.device)
        for part in cut(0, len(x), PART):
            mine = z.load(part)
            found[part] = table[take(own, part)].sub_(mine).mul_(mine).sum(1)
        return found

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, factor, lines, own, table = ctx.saved_tensors
        z = Rows(x, factor)
        if torch.is_grad_enabled():  # create_graph=True: this will be differentiated again
            return _differentiable(z, own, len(table), ctx.ring, outer), None, None, None, None
        # The derivative by z_i: g_i times the sum of its mates, and, since each of them has i for a mate, the sum of their g_j z_j.
        weighted = _class_sums(z, outer[None], lines, len(table), ctx.ring)
        gradient = torch.empty_like(x, dtype=z.dtype)
        for part in cut(0, len(x), PART):
            line = take(own, part)
            mates = table[line].sub_(z.load(part, 2.0))  # twice: the row itself is in both sums
            torch.addcmul(weighted[line], mates, take(outer, part)[:, None], out=take(gradient, part))
        through_scaling(gradient, z, 1.0, 1.0, by_scale=False)
        return gradient.to(x.dtype), None, None, None, None


def _class_sums(z: Rows, weights: Tensor | None, lines: Tensor, count: int, ring: Alone | Ring) -> Tensor:
    """Sums (count, d) of the rows of all processes, times their weights (1, n), by the line of each; zeros in line 0."""
    table = torch.zeros(count, z.x.shape[1], dtype=z.dtype, device=z.x.device)
    for turn in ring.round(z, weights):
        lines_of_turn = take(lines, turn.part)
        for part in cut(0, len(turn.rows), PART):
            some = turn.rows.load(part)
            if turn.slopes is not None:
                some.mul_(take(turn.slopes[0], part)[:, None])
            table.index_add_(0, take(lines_of_turn, part), some)
    table[0] = 0.0
    return table


def _differentiable(z: Rows, own: Tensor, count: int, ring: Alone | Ring, outer: Tensor) -> Tensor:
    """The backward pass in operations that can be differentiated again."""
    if ring.world > 1:
        raise RuntimeError("second derivatives are not available across processes; use one process and group=None")
    u = z.differentiable()
    # Rows without mates share line 0, but their derivatives are zero.
    sums = u.new_zeros(count, u.shape[1]).index_add(0, own, u)
    (gradient,) = torch.autograd.grad((u * (sums[own] - u)).sum(1), z.x, outer, create_graph=True)
    return gradient
