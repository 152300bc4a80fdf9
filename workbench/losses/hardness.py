"""How much hard negatives matter: InfoNCE on the hardest negatives only, and a loss that does not weight them at all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.losses._common import Reduction, embed_pair, reduce, require_number, scalar, similarities, softmax_loss


def hard_info_nce(
    query: Tensor,
    key: Tensor,
    *,
    temperature: float | Tensor,
    top_fraction: float,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""InfoNCE in which each query meets only its own hardest in-batch negatives; lower is better.

    $$L_i = -\log\frac{e^{s_{ii}/\tau}}{e^{s_{ii}/\tau} + \sum_{k \neq i:\, s_{ik} \geq s^{(i)}} e^{s_{ik}/\tau}},
    \quad s_{ik} = q_i^\top k_k$$

    Truncation: of the n - 1 negatives of query i (the positive is never counted) the ceil(top_fraction (n - 1)) most
    similar set the threshold $s^{(i)}$; all that reach it stay, so ties at the threshold are all kept. The threshold gets
    no gradient.

    Args:
        query: (n, d) anchors, n >= 2.
        key: (n, d); row i is the positive of query i, the other rows are its negatives.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        top_fraction: share of the negatives to keep, above 0 and at most 1; 1 gives `info_nce`.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over queries, or 'none' for the (n,) losses.

    Returns:
        Loss in nats, at least 0 and at most that of `info_nce`; log(n) when all rows are equal (everything ties).

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Wang & Liu 2021 (arXiv 2012.09740), hard contrastive loss; there 4,095 negatives stay, 0.0819 of CIFAR.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> hard_info_nce(x, x, temperature=1.0, top_fraction=0.5, reduction="none")
        tensor([0.5130, 0.5981, 0.5981])
    """
    query, key = embed_pair(query, key, "query", "key", normalize=normalize, min_rows=2)
    scaled = query / scalar(temperature, "temperature")
    logits = similarities(scaled, key).fill_diagonal_(-torch.inf)
    logits.masked_fill_(_too_easy(logits, top_fraction), -torch.inf)
    return reduce(softmax_loss((scaled * key).sum(dim=1), logits.logsumexp(dim=1)), reduction)


def simple_contrastive(
    query: Tensor,
    key: Tensor,
    *,
    negative_weight: float | Tensor | None = None,
    top_fraction: float | None = None,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Attraction minus plain repulsion: every negative is pushed equally, however hard it is; lower is better.

    $$L_i = -s_{ii} + \lambda\sum_{k \neq i} s_{ik}, \quad s_{ik} = q_i^\top k_k$$

    With `top_fraction` the sum runs over the hardest negatives only (the hard-simple loss), chosen as in `hard_info_nce`.

    Args:
        query: (n, d) anchors, n >= 2.
        key: (n, d); row i is the positive of query i, the other rows are its negatives.
        negative_weight: lambda >= 0; by default 1 / (number of negatives in the sum): 1 / (n - 1) without truncation,
            so that one pull meets one average push.
        top_fraction: share of the negatives to keep, above 0 and at most 1; None keeps all.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over queries, or 'none' for the (n,) losses.

    Returns:
        Loss without unit (cosines); by default between -2 and 2, and 0 when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Wang & Liu 2021 (arXiv 2012.09740), simple and hard-simple loss. The default of lambda is ours.

    Example:
        >>> x = torch.eye(4)
        >>> simple_contrastive(x, x), simple_contrastive(x, x.roll(1, dims=0))  # own key, then a wrong one
        (tensor(-1.), tensor(0.3333))
    """
    query, key = embed_pair(query, key, "query", "key", normalize=normalize, min_rows=2)
    if negative_weight is not None:
        require_number(negative_weight, "negative_weight", minimum=0.0)
    positives = (query * key).sum(dim=1)
    if top_fraction is None:
        kept: float | Tensor = len(query) - 1
        everything = similarities(query, key.sum(dim=0, keepdim=True)).squeeze(1)
        negatives = everything - positives  # the sum over all negatives needs no n x n matrix
    else:
        cosines = similarities(query, key).fill_diagonal_(-torch.inf)
        left_out = _too_easy(cosines, top_fraction)
        kept = len(query) - left_out.sum(dim=1)
        negatives = cosines.masked_fill_(left_out, 0.0).sum(dim=1)
    weighted = negatives / kept if negative_weight is None else negatives * negative_weight
    return reduce(weighted - positives, reduction)


def _too_easy(logits: Tensor, top_fraction: float) -> Tensor:
    """Mask (n, n) of what to leave out: negatives below the threshold of their row, and the diagonal, which must be -inf."""
    if isinstance(top_fraction, bool) or not isinstance(top_fraction, (int, float)):
        raise TypeError(f"top_fraction must be a number, got {type(top_fraction).__name__} {top_fraction!r}")
    if not 0 < top_fraction <= 1:
        raise ValueError(f"top_fraction must be above 0 and at most 1, got {top_fraction}")
    n = len(logits)
    # 0.07 * 100 is 7.000000000000001: without the slack its ceiling would be 8.
    count = max(1, math.ceil(top_fraction * (n - 1) - 1e-9))
    logits = logits.detach()
    return logits < logits.kthvalue(n - count + 1, dim=1, keepdim=True).values
