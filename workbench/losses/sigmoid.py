"""Sigmoid loss for two towers: every image-text combination is a yes-or-no question of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn.functional import logsigmoid

from workbench.losses._common import Reduction, parameter, reduce, require_number, row_pair, scalar, share, uncompiled
from workbench.losses._ring import ring_of
from workbench.losses.blockwise import own_pairs, sums, total


@uncompiled
def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: float | Tensor = 10.0,
    logit_bias: float | Tensor = -10.0,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""The SigLIP loss: log loss of telling the n matching from the n(n - 1) other combinations; lower is better.

    $$L_i = -\sum_j \log\sigma\big(c_{ij}(s\,x_i^\top y_j + b)\big), \quad c_{ii} = 1,\ c_{ij} = -1 \text{ for } j \neq i$$

    No row needs the others' denominator, so it also works for one pair.

    Args:
        image: (n, d).
        text: (n, d); row i belongs to row i of `image`. The two may be exchanged.
        logit_scale: s > 0, multiplies the cosines. SigLIP models store its logarithm: pass `model.logit_scale.exp()`.
        logit_bias: b, added to the logits; starts at -10 because most combinations do not match.
        normalize: scale all rows to unit length first.
        reduction: 'mean' over the n images (the paper divides by n, not by n^2), 'sum', or 'none' for the (n,) sums.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, above 0; 10 + log(1 + e^-10) + (n - 1) log(1 + e^-10) at the defaults when all cosines are 0.

    Raises:
        ValueError, TypeError: bad tensors or options.

    Source:
        Zhai et al. 2023 (SigLIP, arXiv 2303.15343), eq. 1 and algorithm 1.

    Example:
        >>> x = torch.eye(4)
        >>> sigmoid_loss(x, x)  # log(2) for the pair, almost nothing for the others
        tensor(0.6933)
    """
    ring = ring_of(group)
    with ring.together():
        x, y = row_pair(image, text, "image", "text", normalize=normalize)
        logit_scale = scalar(logit_scale, "logit_scale")
        require_number(logit_bias, "logit_bias")
    scale, bias, holes = parameter(logit_scale, ring), parameter(logit_bias, ring), own_pairs(len(x))
    if reduction in ("mean", "sum"):
        weight, finish = share(len(x), reduction, ring), (_loss, _slopes)
        return ring.whole(
            total(x, y, finish=finish, weight=weight, scale=scale, bias=bias, holes=holes, block_size=block_size, ring=ring)
        )
    found = sums(x, y, scale=scale, bias=bias, holes=holes, block_size=block_size, ring=ring)
    return reduce(_loss(found.pairs, found.rows), reduction, ring)


def _loss(matching: Tensor, others: Tensor) -> Tensor:
    return others - logsigmoid(matching)


def _slopes(matching: Tensor, others: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    return matching.neg().sigmoid_().mul_(-weight), torch.full_like(others, weight)
