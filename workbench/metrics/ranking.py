"""Measures of whole rankings with several or graded relevant keys: MAP, nDCG, MRR, precision."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench.checks import describe, require_labels, require_same_shape, require_same_width, require_tensor, require_unit_rows
from workbench.metrics._blocks import full_precision, product, require_int, row_blocks


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Quality of the rankings of a set of queries; the fields with a leading capital average over queries.

    Attributes:
        map: mean average precision, in [0, 1].
        mrr: mean reciprocal rank of the first relevant key, in [0, 1].
        ndcg: k -> mean normalised discounted cumulative gain of the first k keys, in [0, 1].
        average_precision: (m,) per query.
        reciprocal_rank: (m,) per query.
        ndcg_rows: k -> (m,) per query.
        n_relevant: (m,) relevant keys of each query.
        n_query: number of queries.
        n_key: keys that each query ranks.
        gain: how relevance becomes gain.
    """

    map: float
    mrr: float
    ndcg: dict[int, float]
    average_precision: Tensor
    reciprocal_rank: Tensor
    ndcg_rows: dict[int, Tensor]
    n_relevant: Tensor
    n_query: int
    n_key: int
    gain: str


@full_precision
def ranking(
    query: Tensor,
    key: Tensor,
    *,
    query_labels: Tensor | None = None,
    key_labels: Tensor | None = None,
    relevance: Tensor | None = None,
    k: int | Sequence[int] = (10,),
    gain: Literal["linear", "exponential"] = "linear",
    exclude_self: bool = False,
    chunk_size: int | None = None,
) -> Ranking:
    r"""MAP, MRR and nDCG of the keys ranked by cosine.

    .. math:: \mathrm{AP} = \frac{1}{R} \sum_{r} [\,\text{rank } r \text{ relevant}\,]\, P@r, \qquad
        \mathrm{nDCG}@k = \frac{\sum_{r \le k} g_r / \log_2(r + 1)}{\text{the same of the ideal order}}

    Ties count against the query, as in `recall_at_k`: a relevant key goes behind irrelevant ones within 16 machine
    epsilons. trec_eval breaks ties by name and scikit-learn's ndcg_score averages over them.

    Args:
        query: (m, d) embeddings, normalised inside.
        key: (n, d).
        query_labels: (m,) integers; with `key_labels`, keys of the query's label are relevant.
        key_labels: (n,) integers.
        relevance: (m, n) non-negative relevance instead of labels; above zero is relevant. Without labels and relevance,
            the only relevant key of query i is key i.
        k: one or several cut-offs of nDCG, at most the number of keys.
        gain: 'linear' takes the relevance (scikit-learn, trec_eval), 'exponential' takes 2**relevance - 1 (Burges et al.
            2005). They agree where relevance is 0 or 1.
        exclude_self: `query` and `key` are the same rows and no row ranks itself; needs labels or relevance.
        chunk_size: queries of one block.

    Returns:
        Ranking.

    Raises:
        ValueError, TypeError: bad embeddings, labels or relevance, k out of range, a query without a relevant key.

    Source: MAP and MRR as in Manning, Raghavan & Schuetze 2008, chapter 8; nDCG: Jarvelin & Kekalainen 2002.

    Example:
        >>> result = ranking(torch.eye(3), torch.eye(3), k=1)
        >>> result.map, result.ndcg
        (1.0, {1: 1.0})
    """
    query, key = require_unit_rows(query, "query"), require_unit_rows(key, "key", min_rows=2)
    require_same_width(query, key, "query", "key")
    if gain not in ("linear", "exponential"):
        raise ValueError(f"gain must be 'linear' or 'exponential', got {describe(gain)}")
    if (query_labels is None) != (key_labels is None):
        raise ValueError("query_labels and key_labels must be given together")
    if relevance is not None and query_labels is not None:
        raise ValueError("relevance and query_labels say the same thing: give one of them")
    if exclude_self or (relevance is None and query_labels is None):
        require_same_shape(query, key, "query", "key")
    if exclude_self and relevance is None and query_labels is None:
        raise ValueError("exclude_self needs query_labels or relevance: without them each row is its own only positive")
    n_key = len(key) - exclude_self
    cuts = [require_int(cut, "k", low=1, high=n_key, why="the keys of a query") for cut in ([k] if isinstance(k, int) else k)]
    if not cuts:
        raise ValueError("k must hold at least one number")

    precision, reciprocal, found = [], [], []
    gains: dict[int, list[Tensor]] = {cut: [] for cut in cuts}
    place = torch.arange(1, n_key + 1, dtype=torch.float64, device=query.device)
    discount = 1 / (place + 1).log2()
    for rows, relevant in _relevance(query, key, query_labels, key_labels, relevance, chunk_size):
        cosine = product(query[rows], key)
        cosine = torch.where(relevant > 0, cosine - 16 * torch.finfo(cosine.dtype).eps, cosine)
        if exclude_self:
            cosine.diagonal(rows.start).fill_(-math.inf)
            relevant.diagonal(rows.start).fill_(0)
        # Equal cosines: the irrelevant first, so that ties count against the query.
        order = relevant.argsort(dim=1, stable=True)
        order = order.gather(1, cosine.gather(1, order).argsort(dim=1, descending=True, stable=True))[:, :n_key]
        ranked = relevant.gather(1, order)
        hit = (ranked > 0).double()
        count = hit.sum(1)
        if not count.all():
            raise ValueError(f"{int((count == 0).sum())} queries have no relevant key (first: query {_first(rows, count)})")
        found.append(count.long())
        precision.append((hit * hit.cumsum(1) / place).sum(1) / count)
        reciprocal.append(1 / (hit.argmax(1) + 1).double())
        worth = ranked if gain == "linear" else torch.exp2(ranked) - 1
        ideal = worth.sort(dim=1, descending=True).values
        for cut in cuts:
            gains[cut].append((worth * discount)[:, :cut].sum(1) / (ideal * discount)[:, :cut].sum(1))
    rows_of = {cut: torch.cat(parts) for cut, parts in gains.items()}
    average_precision, reciprocal_rank = torch.cat(precision), torch.cat(reciprocal)
    return Ranking(
        map=float(average_precision.mean()),
        mrr=float(reciprocal_rank.mean()),
        ndcg={cut: float(values.mean()) for cut, values in rows_of.items()},
        average_precision=average_precision,
        reciprocal_rank=reciprocal_rank,
        ndcg_rows=rows_of,
        n_relevant=torch.cat(found),
        n_query=len(query),
        n_key=n_key,
        gain=gain,
    )


def _relevance(
    query: Tensor, key: Tensor, of_query: Tensor | None, of_key: Tensor | None, given: Tensor | None, chunk_size: int | None
) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of the relevance matrix, in float64."""
    if given is not None:
        given = require_tensor(given, "relevance")
        if given.shape != (len(query), len(key)) or given.is_complex() or given.dtype == torch.bool:
            raise ValueError(f"relevance must be numbers of shape ({len(query)}, {len(key)}), got {describe(given)}")
        if not torch.isfinite(given).all() or given.min() < 0:
            raise ValueError("relevance must be finite and not negative")
    elif of_query is not None:
        of_query = require_labels(of_query, len(query), "query_labels").to(query.device)
        of_key = require_labels(of_key, len(key), "key_labels").to(query.device)
    for rows in row_blocks(len(query), 32 * len(key), chunk_size):  # sorting holds a dozen matrices of 8 bytes at once
        if given is not None:
            yield rows, given[rows].to(query.device, torch.float64, copy=True)
        elif of_query is not None and of_key is not None:
            yield rows, (of_query[rows, None] == of_key[None]).double()
        else:
            one = torch.zeros(rows.stop - rows.start, len(key), dtype=torch.float64, device=query.device)
            one.diagonal(rows.start).fill_(1)
            yield rows, one


def _first(rows: slice, count: Tensor) -> int:
    return rows.start + int((count == 0).nonzero()[0])


def chance_reciprocal_rank(n_relevant: Tensor, n_key: int) -> Tensor:
    """Expected reciprocal rank of the first relevant of n keys in random order."""
    values = {}
    place = torch.arange(1, n_key + 1, dtype=torch.float64)
    for count in n_relevant.unique().tolist():
        # P(first relevant at r) = C(n - r, R - 1) / C(n, R), through logarithms of factorials.
        rest = n_key - place
        log_p = (
            torch.lgamma(rest + 1) - torch.lgamma((rest - count + 2).clamp(min=1)) - math.lgamma(count)
            - (math.lgamma(n_key + 1) - math.lgamma(n_key - count + 1) - math.lgamma(count + 1))
        )  # fmt: skip
        values[count] = float(torch.where(rest >= count - 1, log_p.exp() / place, 0.0).sum())
    return torch.tensor([values[count] for count in n_relevant.tolist()], dtype=torch.float64)


def chance_average_precision(n_relevant: Tensor, n_key: int) -> Tensor:
    """Expected average precision of n keys in random order (Bestgen 2015)."""
    harmonic = float((1 / torch.arange(1, n_key + 1, dtype=torch.float64)).sum())
    extra = (n_relevant.double() - 1) / max(1, n_key - 1) * (n_key - harmonic)
    return (extra + harmonic) / n_key


def chance_recall(n_relevant: Tensor, n_key: int, k: int) -> Tensor:
    """Probability that at least one of the relevant keys is among the first k in random order."""
    count = n_relevant.double().cpu()
    missed = torch.ones_like(count)
    for place in range(k):
        missed *= ((n_key - count - place) / (n_key - place)).clamp(min=0)
    return 1 - missed
