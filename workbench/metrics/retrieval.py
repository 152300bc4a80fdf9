"""Retrieval of the right key for each query by cosine similarity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.checks import describe, require_labels, require_same_shape, require_same_width, require_unit_rows
from workbench.metrics._blocks import full_precision, product, require_int, row_blocks


@dataclass(frozen=True, kw_only=True, eq=False)
class Recall:
    """Recall of a set of queries.

    Attributes:
        at: k -> share of the queries with a positive among their k most similar keys, in [0, 1].
        ranks: (n_query,) int64, how many negatives are at least as similar as the best positive; 0 is a hit at 1.
        median_rank: median of `ranks` (the lower one of two), so 0 is the best.
        n_positive: (n_query,) int64, positives of each query among the keys.
        n_query: number of queries.
        n_key: number of keys that each query chooses from.
    """

    at: dict[int, float]
    ranks: Tensor
    median_rank: int
    n_positive: Tensor
    n_query: int
    n_key: int


@full_precision
def recall_at_k(
    query: Tensor,
    key: Tensor,
    *,
    k: int | Sequence[int] = (1, 5, 10),
    query_labels: Tensor | None = None,
    key_labels: Tensor | None = None,
    exclude_self: bool = False,
    chunk_size: int | None = None,
) -> Recall:
    r"""Share of the queries that find a positive among their k most similar keys.

    .. math:: R@k = \frac1m \sum_i \big[\, \lvert\{ j \notin P_i : s_{ij} \ge \max_{p \in P_i} s_{ip} \}\rvert < k \,\big]

    Ties count against the query, so an encoder that maps everything to one point scores 0 and not 1. Cosines within
    16 machine epsilons (2e-6 in float32) of each other are ties: products of equal vectors differ by that much.

    Args:
        query: (m, d) embeddings, normalised inside.
        key: (n, d). Without labels n = m and the only positive of query i is key i.
        k: one or several cut-offs, each below the number of keys (at k = n every query would hit).
        query_labels: (m,) integers; with `key_labels`, the positives are all keys of the query's label.
        key_labels: (n,) integers.
        exclude_self: `query` and `key` are the same rows and no row may retrieve itself; needs labels.
        chunk_size: queries of one block; chosen by size where not given.

    Returns:
        Recall, with `at[k]` in [0, 1].

    Raises:
        ValueError, TypeError: bad embeddings or labels, k out of range, one kind of labels without the other,
            queries without any positive.

    Example:
        >>> recall_at_k(torch.eye(3), torch.eye(3).roll(1, 0), k=(1, 2)).at
        {1: 0.0, 2: 0.0}
        >>> recall_at_k(torch.eye(3), torch.eye(3), k=1).at
        {1: 1.0}
    """
    query, key = require_unit_rows(query, "query"), require_unit_rows(key, "key", min_rows=2)
    require_same_width(query, key, "query", "key")
    if (query_labels is None) != (key_labels is None):
        raise ValueError("query_labels and key_labels must be given together")
    if exclude_self or query_labels is None:
        require_same_shape(query, key, "query", "key")
    n_key = len(key) - exclude_self
    cuts = [k] if isinstance(k, int) else list(k)
    if not cuts:
        raise ValueError("k must hold at least one number")
    cuts = [require_int(cut, "k", low=1, high=n_key - 1, why=f"below the {n_key} keys of a query") for cut in cuts]

    if query_labels is None or key_labels is None:
        if exclude_self:
            raise ValueError("exclude_self needs query_labels and key_labels: without them each row is its own only positive")
        ranks, _ = paired_ranks(query, key, both=False, chunk_size=chunk_size)
        n_positive = torch.ones_like(ranks)
    else:
        of_query = require_labels(query_labels, len(query), "query_labels").to(query.device)
        of_key = require_labels(key_labels, len(key), "key_labels").to(query.device)
        ranks = _labelled_ranks(query, key, of_query, of_key, exclude_self, chunk_size)
        classes, counts = of_key.unique(return_counts=True)
        n_positive = counts[torch.searchsorted(classes, of_query)] - int(exclude_self)
    return Recall(
        at={cut: float((ranks < cut).double().mean()) for cut in cuts},
        ranks=ranks,
        median_rank=int(ranks.median()),
        n_positive=n_positive,
        n_query=len(query),
        n_key=n_key,
    )


def mean_reciprocal_rank(ranks: Tensor, *, k: int | None = None) -> Tensor:
    r"""Mean of one over the place of the first positive; `Recall.ranks` has the places.

    .. math:: \mathrm{MRR}@k = \frac1m \sum_i \frac{[\, r_i < k \,]}{r_i + 1}

    Args:
        ranks: (m,) integers from 0: negatives before (or level with) the best positive.
        k: places looked at; later positives count 0. None: all.

    Returns:
        Scalar in [0, 1]; 1 where every query finds a positive first.

    Raises:
        ValueError, TypeError: no ranks, negative ranks, k below 1.

    Example:
        >>> mean_reciprocal_rank(torch.tensor([0, 1, 3]), k=2)
        tensor(0.5000, dtype=torch.float64)
    """
    return reciprocal_ranks(ranks, k).mean()


def reciprocal_ranks(ranks: Tensor, k: int | None) -> Tensor:
    """(m,) one over the place of the first positive, 0 from place k + 1 on."""
    ranks = require_labels(ranks, len(ranks) if isinstance(ranks, Tensor) and ranks.ndim else 0, "ranks")
    if not len(ranks) or int(ranks.min()) < 0:
        raise ValueError(f"ranks must be at least one integer from 0, got {describe(ranks)}")
    value = 1 / (ranks.double() + 1)
    return value if k is None else torch.where(ranks < require_int(k, "k", low=1), value, 0.0)


def paired_ranks(x: Tensor, y: Tensor, *, both: bool = True, chunk_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Ranks of the partner of each row: of x among the rows of y, and (with `both`) of y among x, in one pass.

    Rows have length one (or are zero, which ties with everything). The rank is the number of other rows at least as
    similar as the partner.
    """
    slack = _tie(x)
    partner = (x * y).sum(1) - slack
    x_ranks, y_ranks = torch.zeros(len(x), device=x.device), torch.zeros(len(y), device=x.device)
    for rows in row_blocks(len(x), 2 * len(y), chunk_size):
        cosine = product(x[rows], y)
        cosine.diagonal(rows.start).fill_(-math.inf)
        # Comparisons written as 0 and 1 into the block: counting booleans is ten times slower. Float32 counts to 2**24.
        if both:
            y_ranks += torch.ge(cosine, partner, out=torch.empty_like(cosine)).sum(0, dtype=torch.float32)
        x_ranks[rows] = cosine.ge_(partner[rows, None]).sum(1, dtype=torch.float32)
    return x_ranks.long(), y_ranks.long()


def partner_ranks(x: Tensor, y: Tensor, queries: Tensor) -> Tensor:
    """Ranks of the partners among all rows of y for some rows of x, as `paired_ranks`."""
    partner = (x[queries] * y[queries]).sum(1) - _tie(x)
    ranks = torch.zeros(len(queries), device=x.device)
    for rows in row_blocks(len(queries), 2 * len(y)):
        here = queries[rows]
        cosine = product(x[here], y)
        cosine[torch.arange(len(here), device=x.device), here] = -math.inf
        ranks[rows] = cosine.ge_(partner[rows, None]).sum(1, dtype=torch.float32)
    return ranks.long()


def _labelled_ranks(
    query: Tensor, key: Tensor, of_query: Tensor, of_key: Tensor, exclude_self: bool, chunk_size: int | None
) -> Tensor:
    ranks = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    without = 0
    for rows in row_blocks(len(query), 4 * len(key), chunk_size):
        cosine = product(query[rows], key)
        if exclude_self:
            cosine.diagonal(rows.start).fill_(-math.inf)
        positive = of_query[rows, None] == of_key[None]
        best = cosine.masked_fill(~positive, -math.inf).amax(1)
        without += int(torch.isneginf(best).sum())
        negatives = cosine.masked_fill_(positive, -math.inf)
        ranks[rows] = negatives.ge_((best - _tie(query))[:, None]).sum(1, dtype=torch.float32).long()
    if without:
        raise ValueError(f"query_labels of {without} of {len(query)} queries occur at no {'other ' * exclude_self}key")
    return ranks


def _tie(x: Tensor) -> float:
    return 16 * torch.finfo(x.dtype).eps
