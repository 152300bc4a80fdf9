"""How InfoNCE spreads its push over the negatives: which ones are pushed, how many, and whether they are classmates."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from workbench.checks import require_labels, require_positive
from workbench.metrics._blocks import full_precision, product, require_unit_pairs, row_blocks, wide_dtype


@full_precision
def negative_weights(query: Tensor, key: Tensor, *, temperature: float) -> Tensor:
    r"""Share of each negative in the push on its anchor, as InfoNCE distributes it.

    .. math:: r_{ij} = \frac{e^{s_{ij}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}, \qquad s_{ij} = \cos(q_i, k_j),\ j \ne i

    Args:
        query: (n, d) anchors, normalised inside.
        key: (n, d), row i is the positive of row i of `query` (the same tensor for one set of features).
        temperature: the loss's temperature.

    Returns:
        (n, n) matrix with zero diagonal whose rows sum to one. Use a subset of some thousand rows.

    Raises:
        ValueError, TypeError: bad embeddings, unpaired sets, one row, temperature not positive.

    Source: Wang & Liu 2021 (arXiv 2012.09740), the relative penalty r_i on a negative.

    Example:
        >>> negative_weights(torch.eye(3), torch.eye(3), temperature=0.1)[0]
        tensor([0.0000, 0.5000, 0.5000])
    """
    tau = float(require_positive(temperature, "temperature"))
    query, key = require_unit_pairs(query, key, "query", "key", min_rows=2)
    return torch.cat([weights for _, weights in _weight_blocks(query, key, tau, None)])


@full_precision
def negative_weight_entropy(query: Tensor, key: Tensor, *, temperature: float, chunk_size: int | None = None) -> Tensor:
    r"""Mean entropy of the negatives' weights: how many negatives share the push; lower means a harder loss.

    .. math:: \frac1n \sum_i H(r_i), \qquad H(r_i) = -\sum_{j \ne i} r_{ij} \log r_{ij}

    Args:
        query: (n, d) anchors, normalised inside.
        key: (n, d), row i is the positive of row i of `query`.
        temperature: the loss's temperature.
        chunk_size: anchors of one block; chosen by size where not given.

    Returns:
        Scalar in nats, in [0, log(n - 1)]: 0 where one negative takes all, log(n - 1) where all share equally.

    Raises:
        ValueError, TypeError: as `negative_weights`.

    Source: Wang & Liu 2021 (arXiv 2012.09740), entropy of the relative penalties r_i.

    Example:
        >>> negative_weight_entropy(torch.eye(3), torch.eye(3), temperature=0.1)
        tensor(0.6931)
    """
    tau = float(require_positive(temperature, "temperature"))
    query, key = require_unit_pairs(query, key, "query", "key", min_rows=2)
    total = torch.zeros((), dtype=wide_dtype(query.device), device=query.device)
    for _, weights in _weight_blocks(query, key, tau, chunk_size):
        total += torch.special.entr(weights).sum(1).to(total.dtype).sum()
    return (total / len(query)).to(query.dtype)


@full_precision
def classmate_share(query: Tensor, key: Tensor, labels: Tensor, *, temperature: float, chunk_size: int | None = None) -> Tensor:
    r"""Share of the push that lands on negatives of the anchor's own class, mean over the anchors.

    .. math:: \frac1n \sum_i \sum_{j \ne i,\ l_j = l_i} r_{ij}

    Args:
        query: (n, d) anchors, normalised inside.
        key: (n, d), row i is the positive of row i of `query`.
        labels: (n,) integer class of each pair; an anchor without classmates contributes 0.
        temperature: the loss's temperature.
        chunk_size: anchors of one block; chosen by size where not given.

    Returns:
        Scalar in [0, 1]. A high temperature gives the base rate mean_i (n_{l_i} - 1) / (n - 1), about 1 / number of classes.

    Raises:
        ValueError, TypeError: as `negative_weights`; bad labels.

    Source: after Wang & Liu 2021 (arXiv 2012.09740), the uniformity-tolerance dilemma; the share itself is ours.

    Example:
        >>> classmate_share(torch.eye(3), torch.eye(3), torch.tensor([0, 0, 1]), temperature=0.1)
        tensor(0.3333)
    """
    tau = float(require_positive(temperature, "temperature"))
    query, key = require_unit_pairs(query, key, "query", "key", min_rows=2)
    labels = require_labels(labels, len(query)).to(query.device)
    total = torch.zeros((), dtype=wide_dtype(query.device), device=query.device)
    for rows, weights in _weight_blocks(query, key, tau, chunk_size):
        same = labels[rows, None] == labels[None]
        total += weights.mul_(same).sum(1).to(total.dtype).sum()
    return (total / len(query)).to(query.dtype)


def _weight_blocks(query: Tensor, key: Tensor, temperature: float, chunk_size: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows of the negatives' weights, the positive at zero."""
    for rows in row_blocks(len(query), 3 * len(key), chunk_size):
        logits = product(query[rows], key).div_(temperature)
        logits.diagonal(rows.start).fill_(-math.inf)
        yield rows, logits.softmax(dim=1)
