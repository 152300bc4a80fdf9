"""Alignment and uniformity on the sphere, within one set and across two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench import checks
from workbench.losses._common import Reduction, embed, embed_pair, reduce


def alignment(x: Tensor, y: Tensor, *, alpha: float = 2, normalize: bool = True, reduction: Reduction = "mean") -> Tensor:
    r"""Mean distance of the pairs, to the power alpha; lower is better.

    $$L = \frac1n\sum_i \lVert x_i - y_i\rVert^\alpha$$

    Args:
        x: (n, d).
        y: (n, d); row i belongs to row i of `x`.
        alpha: exponent > 0. Below 2 the gradient of a pair that coincides is taken as zero.
        normalize: scale all rows to unit length first.
        reduction: 'mean' or 'sum' over pairs, or 'none' for the (n,) values.

    Returns:
        At least 0 (every pair coincides) and at most 2^alpha (every pair is opposite) on the sphere.

    Raises:
        ValueError, TypeError: bad tensors or options.

    Source:
        Wang & Isola 2020 (arXiv 2005.10242), eq. 3.

    Example:
        >>> x = torch.eye(4)
        >>> alignment(x, x), alignment(x, -x)
        (tensor(0.), tensor(4.))
    """
    x, y = embed_pair(x, y, "x", "y", normalize=normalize)
    alpha = float(checks.require_positive(alpha, "alpha"))
    squared = (x - y).square().sum(dim=1)
    if alpha != 2:
        # The power of an exact zero has an infinite derivative below alpha = 2; it must not reach the product rule.
        apart = squared > 0
        squared = torch.where(apart, squared, 1.0).pow(alpha / 2).where(apart, torch.zeros_like(squared))
    return reduce(squared, reduction)


def uniformity(x: Tensor, *, t: float = 2, normalize: bool = True) -> Tensor:
    r"""Log of the mean Gaussian potential over distinct pairs of rows; lower is more uniform.

    $$L = \log\frac{2}{n(n-1)}\sum_{i<j} e^{-t\lVert x_i - x_j\rVert^2}$$

    Distances come from differences, not from cosines, so nearly equal rows keep their digits; they cost n^2 d
    elementwise operations.

    Args:
        x: (n, d), n >= 2.
        t: width > 0 of the kernel.
        normalize: scale all rows to unit length first.

    Returns:
        At most 0 (all rows equal); about -2t for uniform points in high dimension, -4t for two opposite points.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Wang & Isola 2020 (arXiv 2005.10242), eq. 4; t = 2 as in their experiments. Distinct pairs only, as in their code.

    Example:
        >>> uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        tensor(-8.)
    """
    x = embed(x, "x", normalize=normalize, min_rows=2)
    t = float(checks.require_positive(t, "t"))
    exponents = -t * torch.pdist(x).square()
    return exponents.logsumexp(dim=0) - math.log(len(exponents))


def cross_uniformity(x: Tensor, y: Tensor, *, t: float = 2, normalize: bool = True) -> Tensor:
    r"""Log of the mean Gaussian potential between the rows of two sets, matched pairs excluded; lower is more uniform.

    $$L = \log\frac{1}{n(n-1)}\sum_{i \neq j} e^{-t\lVert x_i - y_j\rVert^2}$$

    Alone it is lowest when the two sets sit at opposite poles: combine it with `alignment`.

    Args:
        x: (n, d), n >= 2.
        y: (n, d); row i belongs to row i of `x`. The two may be exchanged.
        t: width > 0 of the kernel.
        normalize: scale all rows to unit length first.

    Returns:
        At most 0 (all rows equal); at least -4t, for two opposite clusters.

    Raises:
        ValueError, TypeError: bad tensors or options, fewer than two rows.

    Source:
        Fahim et al. 2024 (arXiv 2405.18570), cross-modal uniformity.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> cross_uniformity(x, -x)
        tensor(-8.)
    """
    x, y = embed_pair(x, y, "x", "y", normalize=normalize, min_rows=2)
    t = float(checks.require_positive(t, "t"))
    # The quick way to all distances squares a difference of large numbers; this mode does not.
    distances = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    exponents = (-t * distances.square()).fill_diagonal_(-torch.inf)
    return exponents.flatten().logsumexp(dim=0) - math.log(len(x) * (len(x) - 1))
