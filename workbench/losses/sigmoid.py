"""Sigmoid loss for two towers: every image-text combination is a yes-or-no question of its own."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from workbench.losses._common import Reduction, embed_pair, reduce, require_number, scalar, similarities


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    *,
    logit_scale: float | Tensor = 10.0,
    logit_bias: float | Tensor = -10.0,
    normalize: bool = True,
    reduction: Reduction = "mean",
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

    Returns:
        Loss in nats, above 0; 10 + log(1 + e^-10) + (n - 1) log(1 + e^-10) at the defaults when all cosines are 0.

    Raises:
        ValueError, TypeError: bad tensors or options.

    Source:
        Zhai et al. 2023 (SigLIP, arXiv 2303.15343), eq. 1 and algorithm 1.

    Example:
        >>> import torch
        >>> x = torch.eye(4)
        >>> sigmoid_loss(x, x)  # log(2) for the pair, almost nothing for the others
        tensor(0.6933)
    """
    image, text = embed_pair(image, text, "image", "text", normalize=normalize)
    logit_scale = scalar(logit_scale, "logit_scale")
    require_number(logit_bias, "logit_bias")
    # A margin is the logit with the sign that makes it positive when right.
    margins = similarities(image * -logit_scale, text).sub_(logit_bias)
    margins.diagonal().neg_()
    return reduce(-logsigmoid(margins).sum(dim=1), reduction)
