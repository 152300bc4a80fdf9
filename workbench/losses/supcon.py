"""Supervised contrastive loss: all rows of one class are positives of each other."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench import checks
from workbench.losses._common import Reduction, embed, reduce, scalar, similarities


def supcon(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    normalize: bool = True,
    reduction: Reduction = "mean",
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
    z = embed(features, "features", normalize=normalize, min_rows=2)
    labels = checks.require_labels(labels, len(z)).to(z.device)
    temperature = scalar(temperature, "temperature")
    _, class_of, class_size = torch.unique(labels, return_inverse=True, return_counts=True)
    mates = class_size[class_of] - 1
    anchors = mates > 0
    if not anchors.any():
        raise ValueError(f"labels must hold two rows of one class, got {len(z)} rows of {len(class_size)} different classes")

    scaled = z / temperature
    logits = similarities(scaled, z).fill_diagonal_(-torch.inf)
    # The mean logit of the class-mates from the sum of each class: no n x n mask.
    class_sum = z.new_zeros(len(class_size), z.shape[1]).index_add(0, class_of, z)
    positives = (scaled * (class_sum[class_of] - z)).sum(dim=1) / mates.clamp(min=1)
    per_anchor = (logits.logsumexp(dim=1) - positives).masked_fill(~anchors, 0.0)
    return reduce(per_anchor if reduction == "none" else per_anchor[anchors], reduction)
