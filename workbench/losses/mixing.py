"""Hard-negative mixing: synthetic negatives made, for each query, from the hardest keys of a queue."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize as unit

from workbench import checks
from workbench.losses._common import Reduction, embed, embed_pair, reduce, scalar, similarities, softmax_loss


@torch.no_grad()
def hardest_negatives(query: Tensor, queue: Tensor, count: int, *, excluded: Tensor | None = None) -> Tensor:
    r"""Which keys of the queue are most similar to each query, $\tilde Q^N$ of MoCHi.

    Args:
        query: (n, d), scaled to unit length inside.
        queue: (m, d) negatives, scaled to unit length inside.
        count: N, how many to keep, at least 1.
        excluded: (n, m) boolean, True where a key is no negative of a query, such as an older view of the same picture.
            They are left out *before* the choice: mixing them would make a false negative harder still.

    Returns:
        (n, count) row numbers of `queue`, hardest first.

    Raises:
        ValueError, TypeError: bad tensors, a mask of another shape, a query with fewer than `count` negatives.

    Source:
        Kalantidis et al. 2020 (MoCHi, arXiv 2010.01028), section 3.1.

    Example:
        >>> hardest_negatives(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]]), 2)
        tensor([[1, 0]])
    """
    query, queue = _two_sides(query, queue)
    logits = _without(similarities(query, queue), excluded)
    _require_count(count, "count", least=1)
    fewest = int((logits > -math.inf).sum(dim=1).min())
    if count > fewest:
        raise ValueError(f"count must be at most the number of negatives of every query, got {count} with {fewest}")
    return logits.topk(count, dim=1).indices


@torch.no_grad()
def mix_negatives(candidates: Tensor, count: int, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Points between two hard negatives of the same query (the first type of MoCHi).

    $$h = \frac{\tilde h}{\lVert\tilde h\rVert}, \quad \tilde h = \alpha n_i + (1 - \alpha) n_j, \quad \alpha \sim U(0, 1)$$

    Args:
        candidates: (n, N, d) the hardest negatives of each query, of unit length; the two that are mixed always differ.
        count: s, how many points a query.
        generator: to draw on; None takes the global one.

    Returns:
        (n, count, d) unit vectors without gradient. Each is at least as similar to the query as the less similar of its two
        parents, where that similarity is positive.

    Raises:
        ValueError, TypeError: not a floating point (n, N, d) tensor, fewer than two candidates, a negative count.

    Source:
        Kalantidis et al. 2020 (MoCHi, arXiv 2010.01028), section 3.2, eq. 3.

    Example:
        >>> mix_negatives(torch.eye(4).expand(2, 4, 4), 3).norm(dim=2).min().round(decimals=4)
        tensor(1.)
    """
    _require_candidates(candidates, least=2 if count else 1)
    _require_count(count, "count")
    (n, some, _), device = candidates.shape, candidates.device
    first = torch.randint(some, (n, count), generator=generator, device=device)
    other = (first + torch.randint(1, max(some, 2), (n, count), generator=generator, device=device)) % some
    alpha = torch.rand(n, count, 1, generator=generator, device=device, dtype=candidates.dtype)
    return unit(alpha * _take(candidates, first) + (1 - alpha) * _take(candidates, other), dim=2)


@torch.no_grad()
def mix_with_query(
    query: Tensor, candidates: Tensor, count: int, *, largest_share: float = 0.5, generator: torch.Generator | None = None
) -> Tensor:
    r"""Points between a hard negative and the query itself (the second, harder type of MoCHi).

    $$h' = \frac{\tilde h'}{\lVert\tilde h'\rVert}, \quad \tilde h' = \beta q + (1 - \beta) n_j, \quad \beta \sim U(0, \beta_{\max})$$

    Args:
        query: (n, d), scaled to unit length inside.
        candidates: (n, N, d) the hardest negatives of each query, of unit length.
        count: s', how many points a query.
        largest_share: largest beta, above 0 and at most 0.5: the query never dominates.
        generator: to draw on; None takes the global one.

    Returns:
        (n, count, d) unit vectors without gradient: the query would otherwise be pulled by its own negative.

    Raises:
        ValueError, TypeError: bad tensors, a negative count, a share out of range.

    Source:
        Kalantidis et al. 2020 (MoCHi, arXiv 2010.01028), section 3.2, eq. 4.

    Example:
        >>> q, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]]])
        >>> bool((mix_with_query(q, n, 100) @ q[0] < 0.7072).all())  # never nearer to q than to n
        True
    """
    query = embed(query, "query", normalize=True)
    _require_candidates(candidates, least=1)
    _require_count(count, "count")
    if len(query) != len(candidates) or query.shape[1] != candidates.shape[2]:
        raise ValueError(
            f"candidates must hold one (N, d) set for each query, got {checks.describe(candidates)} for {checks.describe(query)}"
        )
    if not 0 < largest_share <= 0.5:
        raise ValueError(f"largest_share must be above 0 and at most 0.5, got {largest_share}")
    (n, some, _), device = candidates.shape, candidates.device
    chosen = torch.randint(some, (n, count), generator=generator, device=device)
    beta = largest_share * torch.rand(n, count, 1, generator=generator, device=device, dtype=candidates.dtype)
    return unit(beta * query[:, None] + (1 - beta) * _take(candidates, chosen), dim=2)


def mochi_negatives(
    query: Tensor,
    queue: Tensor,
    *,
    hardest: int = 1024,
    mixed: int = 1024,
    with_query: int = 128,
    excluded: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """All synthetic negatives of MoCHi(N, s, s'): both types, from the same hardest keys, for each query its own.

    Args:
        query: (n, d), scaled to unit length inside.
        queue: (m, d) negatives, scaled to unit length inside.
        hardest: N, see `hardest_negatives`.
        mixed: s, see `mix_negatives`.
        with_query: s', see `mix_with_query`.
        excluded: (n, m) boolean, True where a key is no negative of a query.
        generator: to draw on; None takes the global one.

    Returns:
        (n, mixed + with_query, d) unit vectors without gradient, the first type first.

    Raises:
        ValueError, TypeError: as the parts.

    Source:
        Kalantidis et al. 2020 (MoCHi, arXiv 2010.01028), section 3; the defaults are its setting for ImageNet-100.

    Example:
        >>> mochi_negatives(torch.eye(4), torch.randn(32, 4), hardest=8, mixed=5, with_query=2).shape
        torch.Size([4, 7, 4])
    """
    query, queue = (x.detach() for x in _two_sides(query, queue))
    candidates = queue[hardest_negatives(query, queue, hardest, excluded=excluded)]
    between = mix_negatives(candidates, mixed, generator=generator)
    return torch.cat([between, mix_with_query(query, candidates, with_query, generator=generator)], dim=1)


def queue_info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    extra: Tensor | None = None,
    excluded: Tensor | None = None,
    temperature: float | Tensor = 0.2,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""InfoNCE against a queue, with further negatives that each query has for itself; lower is better.

    $$L_i = -\log\frac{e^{q_i^\top k_i/\tau}}{e^{q_i^\top k_i/\tau} + \sum_{n \in Q_i} e^{q_i^\top n/\tau}
    + \sum_{h \in H_i} e^{q_i^\top h/\tau}}$$

    Keys, queue and extra negatives get gradients where they ask for them; those of MoCHi are constants.

    Args:
        query: (n, d) anchors.
        key: (n, d); row i is the positive of query i.
        queue: (m, d) negatives shared by all queries.
        extra: (n, e, d) negatives of each query alone, such as those of `mochi_negatives`; None or e = 0 for none.
        excluded: (n, m) boolean, True where a key of the queue is no negative of a query.
        temperature: tau > 0, a number or a scalar tensor that may be learned.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over queries, or 'none' for the (n,) losses.

    Returns:
        Loss in nats, at least 0; `info_nce(..., queue=queue, in_batch=False)` without extra negatives and without a mask.

    Raises:
        ValueError, TypeError: bad tensors or options, a query without any negative.

    Source:
        He et al. 2020 (MoCo, arXiv 1911.05722), eq. 1; Kalantidis et al. 2020 (MoCHi, arXiv 2010.01028), section 3.2.

    Example:
        >>> q, queue = torch.eye(2), -torch.eye(2)
        >>> queue_info_nce(q, q, queue, extra=queue[:, None], temperature=1.0)  # log(1 + 1/e + 2/e^2)
        tensor(0.4938)
    """
    query, key = embed_pair(query, key, "query", "key", normalize=normalize)
    queue = embed(queue, "queue", normalize=normalize)
    checks.require_same_width(query, queue, "query", "queue")
    scaled = query / scalar(temperature, "temperature")
    logits = _without(similarities(scaled, queue), excluded)
    if extra is not None and extra.numel():
        _require_candidates(extra, least=1, name="extra")
        if len(extra) != len(query) or extra.shape[2] != query.shape[1]:
            raise ValueError(f"extra must be (n, e, d) for queries (n, d), got {checks.describe(extra)}")
        more = embed(extra.flatten(0, 1), "extra", normalize=normalize).view(extra.shape)
        with torch.autocast(query.device.type, enabled=False):
            logits = torch.cat([logits, (more @ scaled[:, :, None]).squeeze(2)], dim=1)
    if excluded is not None and not (logits > -math.inf).any(dim=1).all():
        raise ValueError("excluded must leave every query at least one negative, or give extra ones")
    return reduce(softmax_loss((scaled * key).sum(dim=1), logits.logsumexp(dim=1)), reduction)


def _two_sides(query: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
    query, queue = embed(query, "query", normalize=True), embed(queue, "queue", normalize=True)
    checks.require_same_width(query, queue, "query", "queue")
    return query, queue


def _without(logits: Tensor, excluded: Tensor | None) -> Tensor:
    if excluded is None:
        return logits
    if not isinstance(excluded, Tensor) or excluded.dtype != torch.bool:
        raise TypeError(f"excluded must be a boolean tensor, got {checks.describe(excluded)}")
    if excluded.shape != logits.shape:
        raise ValueError(f"excluded must have shape {tuple(logits.shape)}, got {tuple(excluded.shape)}")
    return logits.masked_fill(excluded, -math.inf)


def _take(candidates: Tensor, index: Tensor) -> Tensor:
    return candidates.gather(1, index[:, :, None].expand(-1, -1, candidates.shape[2]))


def _require_count(count: int, name: str, least: int = 0) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} must be a whole number, got {checks.describe(count)}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")


def _require_candidates(candidates: object, least: int, name: str = "candidates") -> None:
    candidates = checks.require_tensor(candidates, name)
    if not candidates.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {checks.describe(candidates)}")
    if candidates.ndim != 3 or candidates.shape[1] < least or not candidates.numel():
        raise ValueError(f"{name} must have shape (n, N, d) with N of at least {least}, got {checks.describe(candidates)}")
