"""InfoNCE and its three usual shapes: one way (with a queue if wanted), two views, two towers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from workbench import checks
from workbench.losses._blocks import Weights, full_precision, like
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
    weights: Tensor | Callable[[slice, slice], Tensor] | None = None,
    targets: Tensor | None = None,
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

    With `weights` negative u counts $w_{iu} e^{q_i^\top u/\tau}$: a mask of false negatives, or an importance. With `targets`,
    a distribution over all candidates in place of the own key, the loss is $-\sum_u t_{iu} \log p_{iu}$.

    Args:
        query: (n, d) anchors.
        key: (n, d); row i is the positive of query i.
        queue: (m, d) further negatives, shared by all queries.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        in_batch: whether the keys of the other rows are negatives; needs n >= 2 unless there is a queue.
        weights: (n, candidates), not negative, or a bool mask (False leaves a negative out). Candidates are the keys (of all
            processes, if `in_batch`), then the rows of the queue. The own key always counts once. Instead of a tensor, a
            function of two slices that gives the weights of those queries and candidates: then nothing (n, n) is stored.
            Weights get no gradient.
        targets: (n, candidates), rows that sum to one; dense or sparse. Instead of `weights`; needs `in_batch`.
        normalize: scale all rows to unit length first; False takes them as they are.
        reduction: 'mean' or 'sum' over queries, or 'none' for the (n,) losses.
        block_size: rows and columns of the blocks of logits; None takes what is quick. The value does not depend on it.
        group: torch.distributed group whose processes hold the rows of one batch, each its own; None is this process alone.

    Returns:
        Loss in nats, at least 0; log(1 + number of negatives) when all rows are equal. With targets at least their entropy.

    Raises:
        ValueError, TypeError: bad tensors or options, no negatives at all.

    Source:
        van den Oord et al. 2018 (arXiv 1807.03748), eq. 4; He et al. 2020 (MoCo, arXiv 1911.05722), eq. 1; targets: Li et
        al. 2021 (ALBEF, arXiv 2107.07651), eq. 6.

    Example:
        >>> x = torch.eye(4)
        >>> info_nce(x, x, temperature=1.0)  # log(1 + 3 / e)
        tensor(0.7437)
    """
    if not in_batch and queue is None:
        raise ValueError("queue must be given when in_batch is False: there would be no negatives")
    if targets is not None and (weights is not None or not in_batch):
        raise ValueError("targets take the place of weights and of the own key: give them with in_batch=True and weights=None")
    ring = ring_of(group)
    with ring.together():
        alone = queue is None and ring.world == 1
        x, y = row_pair(query, key, "query", "key", normalize=normalize, min_rows=2 if alone else 1)
        temperature = scalar(temperature, "temperature")
        if queue is not None:
            more = rows(queue, "queue", normalize=normalize)
            ours, theirs = alike(x, more)
            checks.require_same_width(ours.x, theirs.x, "query", "queue")
        keys = ring.count(len(y)) if in_batch and (weights is not None or targets is not None) else 0
        candidates = keys + (0 if queue is None else len(more))
        weigh = None if weights is None else _weights(weights, len(x), candidates)
        if targets is not None:
            targets = _require_targets(targets, len(x), candidates).to(x.x.device, x.dtype)
    scale = 1 / parameter(temperature, ring)
    holes = own_pairs(len(x)) if targets is None else ()
    if queue is None and targets is None and reduction in ("mean", "sum"):
        weight = share(len(x), reduction, ring)
        finish = (softmax_loss, softmax_slopes)
        value = total(
            x, y, finish=finish, weight=weight, scale=scale, holes=holes, weights=weigh, block_size=block_size, ring=ring
        )
        return ring.whole(value)
    negatives = []
    if in_batch:
        found = sums(x, y, scale=scale, holes=holes, weights=weigh, block_size=block_size, ring=ring)
        negatives.append(found.rows)
    if queue is not None:
        one, other = alike(x, Rows(ring.shared(more.x), more.factor))
        queued = sums(one, other, scale=scale, weights=weigh and weigh.starting_at(keys), block_size=block_size)
        negatives.append(queued.rows)
    each = torch.stack(negatives)
    everything = each.clamp(min=torch.finfo(each.dtype).min / 4).logsumexp(dim=0)  # -inf alone would have a derivative of NaN
    if targets is not None:
        # The expected logit is that with the expected candidate: no matrix of logits here either.
        rows_of_all = ring.gather(y.differentiable())[0]
        if queue is not None:
            rows_of_all = torch.cat([rows_of_all, other.differentiable()])
        with full_precision(rows_of_all.device):
            expected = targets @ rows_of_all
        return reduce(everything - (x.differentiable() * expected).sum(1) * like(scale, expected), reduction, ring)
    positives = found.pairs if in_batch else pair_logits(x, y, scale)
    return reduce(softmax_loss(positives, everything), reduction, ring)


def _weights(given: Tensor | Callable[[slice, slice], Tensor], n: int, candidates: int) -> Weights:
    if isinstance(given, Tensor):
        if given.shape != (n, candidates):
            raise ValueError(f"weights must have shape ({n}, {candidates}): queries and candidates; got {checks.describe(given)}")
        if given.requires_grad:
            raise ValueError("weights get no gradient: detach them")
        table = given
        return Weights(lambda rows, columns: table[rows, columns])
    if not callable(given):
        raise TypeError(f"weights must be a tensor or a function of two slices, got {checks.describe(given)}")
    return Weights(given)


def _require_targets(targets: object, n: int, candidates: int) -> Tensor:
    if not isinstance(targets, Tensor) or not targets.is_floating_point():
        raise TypeError(f"targets must be a floating-point tensor, got {checks.describe(targets)}")
    if targets.shape != (n, candidates):
        raise ValueError(f"targets must have shape ({n}, {candidates}): queries and candidates; got {checks.describe(targets)}")
    targets = targets.coalesce() if targets.layout == torch.sparse_coo else targets
    numbers = targets.detach() if targets.layout == torch.strided else targets.detach().values()
    if not (torch.isfinite(numbers).all() and (numbers >= 0).all()):
        raise ValueError("targets must be finite and not negative")
    off = ((targets.detach().float() @ torch.ones(candidates, 1, device=targets.device)).squeeze(1) - 1).abs().max()
    if off > 1e-2:
        raise ValueError(f"targets must sum to one in each row, one is off by {float(off):.3g}")
    return targets


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
