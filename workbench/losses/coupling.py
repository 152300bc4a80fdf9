"""Negative-positive coupling: the factor by which InfoNCE shrinks the gradient of an anchor that is already won."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from workbench.losses._common import two_views, uncompiled
from workbench.losses._ring import ring_of


@uncompiled
def npc_multiplier(
    view1: Tensor,
    view2: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    normalize: bool = True,
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""What NT-Xent leaves of the gradient of each anchor: `nt_xent` has q times the gradient of `dcl`.

    $$q_i^{(k)} = 1 - \frac{e^{z_i^{(1)\top} z_i^{(2)}/\tau}}{e^{z_i^{(1)\top} z_i^{(2)}/\tau} + U_i^{(k)}}
    = \mathrm{sigmoid}\big(L_{DC,i}^{(k)}\big),
    \quad U_i^{(k)} = \sum_{l \in \{1,2\}}\sum_{j \neq i} e^{z_i^{(k)\top} z_j^{(l)}/\tau}$$

    The second form follows from NT-Xent being softplus of DCL, anchor by anchor. More negatives can only raise q.

    Args:
        view1: (n, d), n >= 2.
        view2: (n, d); row i shows the same thing as row i of `view1`.
        temperature: tau > 0 of the loss.
        normalize: scale all rows to unit length first.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        (2n,) factors without unit, those of `view1` first: 0 where the positive has won, 1 where the negatives have,
        1 - 1 / (2n - 1) when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Yeh et al. 2022 (arXiv 2110.06848), the multiplier q_B; here for both views as anchors.

    Example:
        >>> x = torch.eye(4)
        >>> npc_multiplier(x, x, temperature=1.0)[0]  # 6 / (6 + e)
        tensor(0.6882)
    """
    ring = ring_of(group)
    positives, negatives = two_views(view1, view2, temperature, normalize=normalize, block_size=block_size, ring=ring)
    return torch.sigmoid(negatives - positives.repeat(2))
