"""Decoupled contrastive learning: InfoNCE without the positive in the denominator."""

from __future__ import annotations

from torch import Tensor
from torch.distributed import ProcessGroup

from workbench.losses._common import Reduction, parameter, reduce, scalar, two_views, uncompiled
from workbench.losses._ring import ring_of


@uncompiled
def dcl(
    view1: Tensor,
    view2: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""NT-Xent with the positive taken out of the denominator, so that easy positives still get a full gradient.

    $$L_i^{(k)} = -z_i^{(1)\top} z_i^{(2)}/\tau + \log\sum_{l \in \{1,2\}}\sum_{j \neq i} e^{z_i^{(k)\top} z_j^{(l)}/\tau}$$

    Convention: the negatives of an anchor are both views of the n - 1 other rows, as in NT-Xent, and both views are
    anchors. Lower is better, but the value may be negative and is not comparable with that of InfoNCE.

    Args:
        view1: (n, d), n >= 2.
        view2: (n, d); row i shows the same thing as row i of `view1`.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over the 2n anchors, or 'none': (2n,), those of `view1` first.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, between log(2n - 2) - 2/tau and log(2n - 2) + 2/tau; log(2n - 2) when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Yeh et al. 2022 (arXiv 2110.06848), the loss L_DC.

    Example:
        >>> import torch
        >>> x = torch.eye(4)
        >>> dcl(x, x, temperature=1.0)  # log(6) - 1
        tensor(0.7918)
    """
    ring = ring_of(group)
    positives, negatives = two_views(view1, view2, temperature, normalize=normalize, block_size=block_size, ring=ring)
    return reduce(negatives - positives.repeat(2), reduction, ring)


@uncompiled
def dclw(
    view1: Tensor,
    view2: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    sigma: float | Tensor = 0.5,
    detach_weight: bool = False,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""DCL with weighted positives: pairs that are still far apart pull harder than those that agree.

    $$L_i^{(k)} = -w_i z_i^{(1)\top} z_i^{(2)}/\tau + \log\sum_{l \in \{1,2\}}\sum_{j \neq i} e^{z_i^{(k)\top} z_j^{(l)}/\tau},
    \quad w_i = 2 - \frac{e^{z_i^{(1)\top} z_i^{(2)}/\sigma}}{\frac1n\sum_j e^{z_j^{(1)\top} z_j^{(2)}/\sigma}}$$

    The weights average to 1 over the batch; that of a very easy pair can be negative.

    Args:
        view1: (n, d), n >= 2.
        view2: (n, d); row i shows the same thing as row i of `view1`.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        sigma: width > 0 of the weighting; a large one gives `dcl`.
        detach_weight: treat the weights as constants; the formula as written differentiates them.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over the 2n anchors, or 'none': (2n,), those of `view1` first.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, may be negative; log(2n - 2) - 1/tau when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Yeh et al. 2022 (arXiv 2110.06848), the loss L_DCW with the von Mises-Fisher weighting.

    Example:
        >>> import torch
        >>> x = torch.eye(4)
        >>> dclw(x, x, temperature=1.0)  # equal pairs, equal weights: as dcl
        tensor(0.7918)
    """
    ring = ring_of(group)
    with ring.together():
        temperature, sigma = scalar(temperature, "temperature"), scalar(sigma, "sigma")
    positives, negatives = two_views(view1, view2, temperature, normalize=normalize, block_size=block_size, ring=ring)
    agreement = positives * parameter(temperature, ring) / parameter(sigma, ring)  # cosines / sigma
    # A softmax over the pairs of all processes.
    powers = (agreement - ring.largest(float(agreement.detach().max()))).exp()
    weight = 2 - powers * ring.count(len(powers)) / ring.everyone(powers.sum())
    if detach_weight:
        weight = weight.detach()
    return reduce(negatives - (weight * positives).repeat(2), reduction, ring)
