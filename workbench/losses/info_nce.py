"""InfoNCE and its three usual shapes: one way (with a queue if wanted), two views, two towers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from workbench import checks
from workbench.losses._common import (
    Reduction,
    alike,
    parameter,
    reduce,
    row_pair,
    rows,
    scalar,
    share,
    softmax_loss,
    softmax_slopes,
    two_views,
    uncompiled,
)
from workbench.losses._ring import ring_of
from workbench.losses.blockwise import Rows, own_pairs, pair_logits, sums, total


@uncompiled
def info_nce(
    query: Tensor,
    key: Tensor,
    *,
    queue: Tensor | None = None,
    temperature: float | Tensor = 0.07,
    in_batch: bool = True,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""Cross entropy of finding the own key of each query among negatives; lower is better.

    $$L_i = -\log\frac{e^{q_i^\top k_i/\tau}}{e^{q_i^\top k_i/\tau} + \sum_{u \in N_i} e^{q_i^\top u/\tau}}$$

    where $N_i$ holds the keys of the other rows (`in_batch`), the rows of the queue, or both. MoCo is
    `in_batch=False, queue=...`; the default is the one-way loss of CPC. Keys and queue get gradients too: detach them
    where they come from a momentum encoder.

    Args:
        query: (n, d) anchors.
        key: (n, d); row i is the positive of query i.
        queue: (m, d) further negatives, shared by all queries.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        in_batch: whether the keys of the other rows are negatives; needs n >= 2 unless there is a queue.
        normalize: scale all rows to unit length first; False takes them as they are.
        reduction: 'mean' or 'sum' over queries, or 'none' for the (n,) losses.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, at least 0; log(1 + number of negatives) when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, no negatives at all.

    Source:
        van den Oord et al. 2018 (arXiv 1807.03748), eq. 4; He et al. 2020 (MoCo, arXiv 1911.05722), eq. 1.

    Example:
        >>> x = torch.eye(4)
        >>> info_nce(x, x, temperature=1.0)  # log(1 + 3 / e)
        tensor(0.7437)
    """
    if not in_batch and queue is None:
        raise ValueError("queue must be given when in_batch is False: there would be no negatives")
    ring = ring_of(group)
    with ring.together():
        alone = queue is None and ring.world == 1
        x, y = row_pair(query, key, "query", "key", normalize=normalize, min_rows=2 if alone else 1)
        temperature = scalar(temperature, "temperature")
        if queue is not None:
            more = rows(queue, "queue", normalize=normalize)
            ours, theirs = alike(x, more)
            checks.require_same_width(ours.x, theirs.x, "query", "queue")
    scale = 1 / parameter(temperature, ring)
    if queue is None and reduction in ("mean", "sum"):
        holes = own_pairs(len(x))
        weight = share(len(x), reduction, ring)
        finish = (softmax_loss, softmax_slopes)
        value = total(x, y, finish=finish, weight=weight, scale=scale, holes=holes, block_size=block_size, ring=ring)
        return ring.whole(value)
    negatives = []
    if in_batch:
        found = sums(x, y, scale=scale, holes=own_pairs(len(x)), block_size=block_size, ring=ring)
        negatives.append(found.rows)
    if queue is not None:
        one, other = alike(x, Rows(ring.shared(more.x), more.factor))
        queued = sums(one, other, scale=scale, block_size=block_size)
        negatives.append(queued.rows)
    positives = found.pairs if in_batch else pair_logits(x, y, scale)
    return reduce(softmax_loss(positives, torch.stack(negatives).logsumexp(dim=0)), reduction, ring)


@uncompiled
def nt_xent(
    view1: Tensor,
    view2: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""The SimCLR loss: each of the 2n views finds its other view among all 2n - 1 others; lower is better.

    $$L_a = -\log\frac{e^{z_a^\top z_{p(a)}/\tau}}{\sum_{b \neq a} e^{z_a^\top z_b/\tau}}, \quad a = 1 \dots 2n$$

    Args:
        view1: (n, d), n >= 2.
        view2: (n, d); row i shows the same thing as row i of `view1`.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over the 2n anchors, or 'none': (2n,), those of `view1` first.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, at least 0; log(2n - 1) when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Chen et al. 2020 (SimCLR, arXiv 2002.05709), eq. 1 and algorithm 1.

    Example:
        >>> x = torch.eye(4)
        >>> nt_xent(x, x, temperature=1.0)  # log(1 + 6 / e)
        tensor(1.1654)
    """
    ring = ring_of(group)
    positives, negatives = two_views(view1, view2, temperature, normalize=normalize, block_size=block_size, ring=ring)
    return reduce(softmax_loss(positives.repeat(2), negatives), reduction, ring)


@uncompiled
def clip_loss(
    image: Tensor,
    text: Tensor,
    *,
    temperature: float | Tensor | None = None,
    logit_scale: float | Tensor | None = None,
    normalize: bool = True,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    r"""The CLIP loss: images find their texts and texts their images; lower is better.

    $$L_i = -\tfrac12\log\frac{e^{s\,x_i^\top y_i}}{\sum_j e^{s\,x_i^\top y_j}}
            -\tfrac12\log\frac{e^{s\,x_i^\top y_i}}{\sum_j e^{s\,x_j^\top y_i}}, \quad s = 1/\tau$$

    Args:
        image: (n, d), n >= 2.
        text: (n, d); row i belongs to row i of `image`. The two may be exchanged.
        temperature: tau > 0 divides the cosines; 0.07, where CLIP starts, if neither it nor `logit_scale` is given.
        logit_scale: s > 0 multiplies the cosines, instead of `temperature`. CLIP models store its logarithm: pass
            `model.logit_scale.exp()`.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over pairs, or 'none': (n,), both directions averaged.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, at least 0; log(n) when all rows are equal.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows, both `temperature` and `logit_scale`.

    Source:
        Radford et al. 2021 (CLIP, arXiv 2103.00020), figure 3; Zhang et al. 2020 (ConVIRT, arXiv 2010.00747), eqs. 2-4.

    Example:
        >>> x = torch.eye(4)
        >>> clip_loss(x, x, logit_scale=1.0)  # log(1 + 3 / e)
        tensor(0.7437)
    """
    ring = ring_of(group)
    with ring.together():
        if logit_scale is not None:
            scale = parameter(scalar(logit_scale, "logit_scale"), ring)
        if temperature is not None or logit_scale is None:
            scale = 1 / parameter(scalar(0.07 if temperature is None else temperature, "temperature"), ring)
        if temperature is not None and logit_scale is not None:
            raise ValueError("temperature and logit_scale are two names for one thing (logit_scale = 1 / temperature); give one")
        x, y = row_pair(image, text, "image", "text", normalize=normalize, min_rows=2 if ring.world == 1 else 1)
    found = sums(x, y, scale=scale, holes=own_pairs(len(x)), columns=True, block_size=block_size, ring=ring)
    assert found.columns is not None
    to_text, to_image = (softmax_loss(found.pairs, negatives) for negatives in (found.rows, found.columns))
    return reduce((to_text + to_image) / 2, reduction, ring)
