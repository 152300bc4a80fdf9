"""Nearest neighbours of embeddings: hubs, near-duplicates, and whether two models agree on who is near whom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.checks import require_same_shape, require_unit_rows
from workbench.metrics._blocks import full_precision, product, require_int, row_blocks
from workbench.metrics.intervals import require_share


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """The k nearest other rows of each row by cosine.

    Attributes:
        index: (n, k) int64, nearest first.
        cosine: (n, k) their cosines.
    """

    index: Tensor
    cosine: Tensor

    @property
    def k(self) -> int:
        return self.index.shape[1]


@full_precision
def nearest_neighbours(x: Tensor, *, k: int = 10, chunk_size: int | None = None) -> Neighbours:
    r"""The k nearest other rows of each row, exactly; `hubness`, `near_duplicates` and `knn_overlap` accept the result.

    .. math:: N_k(i) = \operatorname{top}_k \{ \cos(x_i, x_j) : j \ne i \}

    Args:
        x: (n, d) embeddings, normalised inside.
        k: number of neighbours, at most n - 1.
        chunk_size: rows of one block; chosen by size where not given.

    Returns:
        Neighbours. Time O(n^2 d); a row is never its own neighbour, also where it has duplicates.

    Raises:
        ValueError, TypeError: bad embeddings, k out of range.

    Example:
        >>> nearest_neighbours(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), k=1).index[:, 0]
        tensor([1, 0, 1])
    """
    x = require_unit_rows(x, "x", min_rows=2)
    k = require_int(k, "k", low=1, high=len(x) - 1, why="the other rows")
    index = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    cosine = torch.empty(len(x), k, dtype=x.dtype, device=x.device)
    for rows in row_blocks(len(x), 2 * len(x), chunk_size):
        block = product(x[rows], x)
        block.diagonal(rows.start).fill_(-math.inf)
        top = block.topk(k, dim=1)
        index[rows], cosine[rows] = top.indices, top.values.clamp(-1, 1)
    return Neighbours(index=index, cosine=cosine)


@full_precision
def hubness(x: Tensor | Neighbours, *, k: int = 10, chunk_size: int | None = None) -> Tensor:
    r"""Skewness of the k-occurrence: whether a few rows (hubs) are among the neighbours of very many others.

    .. math:: S_{N_k} = \frac{\frac1n \sum_j (N_k(j) - k)^3}{\big( \frac1n \sum_j (N_k(j) - k)^2 \big)^{3/2}}, \qquad
        N_k(j) = \#\{ i : j \in N_k(i) \}

    Args:
        x: (n, d) embeddings, normalised inside, or their `Neighbours` (all of whose columns count).
        k: number of neighbours, at most n - 1.
        chunk_size: rows of one block.

    Returns:
        Scalar: 0 where all rows occur equally often (also by convention where all occur exactly k times); above about 1
        there are hubs, such as rows near the axis of a cone in many dimensions. scipy.stats.skew with bias.

    Raises:
        ValueError, TypeError: bad embeddings, k out of range.

    Source: Radovanovic, Nanopoulos & Ivanovic 2010, Hubs in space (JMLR 11), equation 1.

    Example:
        >>> x = torch.eye(4)
        >>> x[0] = 1.0  # now the nearest of all others
        >>> hubness(x, k=1)
        tensor(0.8165)
    """
    counts = k_occurrence(_neighbours(x, k, chunk_size)).to(torch.float64)
    centred = counts - counts.mean()
    variance = centred.square().mean()
    skew = torch.where(variance > 0, centred.pow(3).mean() / variance.clamp(min=1e-300).pow(1.5), 0.0)
    return skew.to((x.cosine if isinstance(x, Neighbours) else _like(x)).dtype)


@full_precision
def near_duplicates(x: Tensor | Neighbours, *, threshold: float = 0.99, chunk_size: int | None = None) -> Tensor:
    r"""Share of the rows that have another row at least as similar as the threshold.

    .. math:: \frac1n \#\{ i : \max_{j \ne i} \cos(x_i, x_j) \ge c \}

    Args:
        x: (n, d) embeddings, normalised inside, or their `Neighbours`, whose `index` and `cosine` also say which rows.
        threshold: cosine from which two rows count as copies.
        chunk_size: rows of one block.

    Returns:
        Scalar in [0, 1]. What is a copy depends on the encoder: look at some pairs before trusting a threshold.

    Raises:
        ValueError, TypeError: bad embeddings, one row, threshold not between 0 and 1.

    Example:
        >>> near_duplicates(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        tensor(0.5000)
    """
    threshold = require_share(threshold, "threshold")
    nearest = _neighbours(x, 1, chunk_size).cosine[:, 0]
    return (nearest >= threshold).double().mean().to(nearest.dtype)


@full_precision
def knn_overlap(x: Tensor | Neighbours, y: Tensor | Neighbours, *, k: int = 10, chunk_size: int | None = None) -> Tensor:
    r"""Mean share of common members of the k nearest neighbours of each row in two spaces.

    .. math:: \frac1n \sum_i \frac{\lvert N_k(x_i) \cap N_k(y_i) \rvert}{k}

    Args:
        x: (n, d) embeddings, normalised inside, or their `Neighbours`.
        y: (n, e) embeddings of the same things by another model or in another modality; widths may differ.
        k: number of neighbours, at most n - 1.
        chunk_size: rows of one block.

    Returns:
        Scalar in [0, 1]: 1 where both spaces have the same neighbours; k / (n - 1) by chance.

    Raises:
        ValueError, TypeError: bad embeddings, sets of different length, k out of range.

    Source: Huh et al. 2024 (arXiv 2405.07987), mutual k-nearest-neighbour alignment, appendix A.

    Example:
        >>> knn_overlap(torch.eye(4)[:, :3] + 0.1, torch.eye(4)[:, :3] + 0.1, k=1)
        tensor(1.)
    """
    first = _neighbours(x, k, chunk_size)
    return shared_neighbours(first, _second(x, y, k, chunk_size)).double().mean().to(first.cosine.dtype)


def k_occurrence(neighbours: Neighbours) -> Tensor:
    """(n,) how often each row is among the neighbours of the others; the mean is k."""
    return neighbours.index.flatten().bincount(minlength=len(neighbours.index))


def shared_neighbours(first: Neighbours, second: Neighbours) -> Tensor:
    """(n,) share of common neighbours of each row."""
    if first.index.shape != second.index.shape:
        raise ValueError(f"x and y must have neighbours of one shape, got {first.index.shape} and {second.index.shape}")
    common = (first.index[:, :, None] == second.index.to(first.index.device)[:, None]).any(2)
    return common.double().mean(1)


def _neighbours(x: Tensor | Neighbours, k: int, chunk_size: int | None) -> Neighbours:
    return x if isinstance(x, Neighbours) else nearest_neighbours(x, k=k, chunk_size=chunk_size)


def _second(x: Tensor | Neighbours, y: Tensor | Neighbours, k: int, chunk_size: int | None) -> Neighbours:
    if isinstance(y, Neighbours):
        return y
    y = require_unit_rows(y, "y", min_rows=2)
    count = len(x.index) if isinstance(x, Neighbours) else len(x)
    if len(y) != count:
        raise ValueError(f"x and y must be paired row by row, got {count} and {len(y)} rows")
    if isinstance(x, Tensor) and x.shape[1] == y.shape[1]:
        require_same_shape(_like(x), y, "x", "y")
    return nearest_neighbours(y, k=k, chunk_size=chunk_size)


def _like(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
