"""Supervised contrastive loss: all rows of one class are positives of each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from workbench import checks
from workbench.losses._blocks import like
from workbench.losses._common import Reduction, embed, parameter, reduce, scalar, uncompiled
from workbench.losses._ring import Alone, Ring, ring_of
from workbench.losses.blockwise import Rows, no_self, sums


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
        z = embed(features, "features", normalize=normalize, min_rows=2 if ring.world == 1 else 1)
        labels = checks.require_labels(labels, len(z)).to(z.device)
        temperature = scalar(temperature, "temperature")
    all_labels, start = ring.gather(labels)
    _, classes, sizes = torch.unique(all_labels, return_inverse=True, return_counts=True)
    own = classes[start : start + len(z)]
    if sizes.max() < 2:
        raise ValueError(f"labels must hold two rows of one class, got {len(classes)} rows of {len(sizes)} different classes")
    mates = sizes[own] - 1
    anchors = mates > 0

    scale = 1 / parameter(temperature, ring)
    found = sums(Rows(z), None, scale=scale, holes=no_self(len(z)), block_size=block_size, ring=ring)
    # The mean logit of the class-mates from the sum of each class: no n x n mask.
    together = _ClassSums.apply(z, classes, start, ring) - z
    positives = (z * together).sum(dim=1) * like(scale, z) / mates.clamp(min=1)
    per_anchor = (found.rows - positives).masked_fill(~anchors, 0.0)
    return reduce(per_anchor if reduction == "none" else per_anchor[anchors], reduction, ring)


class _ClassSums(torch.autograd.Function):
    """For each row the sum (d,) over the rows of its class in all processes; holds only the sums of the classes met here."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, classes: Tensor, start: int, ring: Alone | Ring) -> Tensor:
        ctx.classes, ctx.start, ctx.ring = classes, start, ring
        met, own = classes[start : start + len(z)].unique(return_inverse=True)
        # The line of the table for each class; the last one is for classes that are not met here.
        lines = torch.full((int(classes.max()) + 1,), len(met), device=z.device)
        lines[met] = torch.arange(len(met), device=z.device)
        table = z.new_zeros(len(met) + 1, z.shape[1])
        for turn in ring.round(Rows(z)):
            table.index_add_(0, lines[classes[turn.part]], turn.rows.x)
        return table[own]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        # To be of one class is mutual, so the derivative is the same sum.
        return _ClassSums.apply(gradient, ctx.classes, ctx.start, ctx.ring), None, None, None
