"""Decoupled contrastive learning: InfoNCE without the positive in the denominator."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses._common import Reduction, reduce, scalar, two_views


def dcl(
    view1: Tensor,
    view2: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    normalize: bool = True,
    reduction: Reduction = "mean",
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

    Returns:
        Loss in nats, between log(2n - 2) - 2/tau and log(2n - 2) + 2/tau; log(2n - 2) when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Yeh et al. 2022 (arXiv 2110.06848), the loss L_DC.

    Example:
        >>> x = torch.eye(4)
        >>> dcl(x, x, temperature=1.0)  # log(6) - 1
        tensor(0.7918)
    """
    positives, negatives, _ = two_views(view1, view2, temperature, normalize=normalize)
    return reduce(negatives - positives, reduction)


def dclw(
    view1: Tensor,
    view2: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    sigma: float | Tensor = 0.5,
    detach_weight: bool = False,
    normalize: bool = True,
    reduction: Reduction = "mean",
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

    Returns:
        Loss in nats, may be negative; log(2n - 2) - 1/tau when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Yeh et al. 2022 (arXiv 2110.06848), the loss L_DCW with the von Mises-Fisher weighting.

    Example:
        >>> x = torch.eye(4)
        >>> dclw(x, x, temperature=1.0)  # equal pairs, equal weights: as dcl
        tensor(0.7918)
    """
    positives, negatives, cosines = two_views(view1, view2, temperature, normalize=normalize)
    weight = 2 - len(cosines) * torch.softmax(cosines / scalar(sigma, "sigma"), dim=0)
    if detach_weight:
        weight = weight.detach()
    return reduce(negatives - weight.repeat(2) * positives, reduction)
