"""Entropy by kernels, and the loss that separates what two sets share from what only one of them has (SepCLR)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench import checks
from workbench.losses.uniformity import alignment, uniformity


def kernel_entropy(*variables: Tensor, t: float = 1.0, reduction: str = "mean") -> Tensor:
    r"""Entropy of one variable, or joint entropy of several, estimated with Gaussian kernels; higher is more spread out.

    $$\hat H = -\frac1n\sum_i \log \frac1n\sum_j \prod_v e^{-t\lVert x^{(v)}_i - x^{(v)}_j\rVert^2}$$

    The term $j = i$ is included. Rows are taken as they are: the estimate grows with their scale, up to log n.

    Args:
        variables: one or more (n, d_v) tensors, row i of all of them from the same example; widths may differ.
        t: width > 0 of the kernel.
        reduction: 'mean', or 'none' for the (n,) values.

    Returns:
        In nats: 0 when all rows are equal, log n when all are far apart.

    Raises:
        ValueError, TypeError: bad tensors or options, no variable, numbers of rows that differ.

    Source:
        Louiset et al. 2024 (SepCLR, arXiv 2402.11928), k-JEM; its loss is minus this.

    Example:
        >>> x = torch.tensor([[0.0], [9.0]])
        >>> kernel_entropy(x), kernel_entropy(x, x)  # log 2, and nothing new in the copy
        (tensor(0.6931), tensor(0.6931))
    """
    if not variables:
        raise ValueError("variables is empty; at least one (n, d) tensor is wanted")
    t = float(checks.require_positive(t, "t"))
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
    squared = torch.zeros(())
    for v, x in enumerate(variables):
        x = checks.require_embeddings(x, f"variables[{v}]")
        if v and len(x) != len(squared):
            raise ValueError(f"variables must have one number of rows, got {len(squared)} and {len(x)} (variables[{v}])")
        squared = squared.to(x) + _squared_distances(x)
    entropies = math.log(len(squared)) - (-t * squared).logsumexp(dim=1)
    return entropies.mean() if reduction == "mean" else entropies


def kernel_mutual_information(x: Tensor, y: Tensor, *, t: float = 1.0, rescale: bool = False) -> Tensor:
    r"""Mutual information of two variables by kernel entropies: $\hat H(x) + \hat H(y) - \hat H(x, y)$.

    Args:
        x: (n, d) rows.
        y: (n, e) rows; row i belongs to row i of `x`.
        t: width > 0 of the kernel.
        rescale: first divide each variable by its mean distance between two rows. Without it the estimate falls when a
            variable merely shrinks, so a comparison of two models needs it.

    Returns:
        In nats: 0 where one variable is constant or where the two are independent (all combinations equally often);
        log n where each determines the other and rows lie far apart.

    Raises:
        ValueError, TypeError: bad tensors, numbers of rows that differ, a constant variable with `rescale`.

    Source:
        Louiset et al. 2024 (SepCLR, arXiv 2402.11928).

    Example:
        >>> x = 9 * torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> kernel_mutual_information(x, x), kernel_mutual_information(x, x[[0, 2, 1, 3]])
        (tensor(0.6931), tensor(0.))
    """
    if rescale:
        x, y = _unit_distance(x, "x"), _unit_distance(y, "y")
    return kernel_entropy(x, t=t) + kernel_entropy(y, t=t) - kernel_entropy(x, y, t=t)


def sepclr(
    common: tuple[Tensor, Tensor],
    salient: tuple[Tensor, Tensor],
    target: Tensor,
    *,
    t: float = 1.0,
    salient_weight: float = 1000.0,
    null_weight: float = 1000.0,
    joint_weight: float = 10.0,
) -> Tensor:
    r"""The SepCLR loss: a common code for both sets, a salient code for what only the target set has; lower is better.

    $$L = L_c + \beta_s L_s + \beta_0 L_0 - \lambda\,\tfrac12\textstyle\sum_v \hat H(c_v, s'_v)$$

    with $A(u, w) = t\,\mathbb E\lVert u - w\rVert^2$, the uniformity $U$ of `uniformity`, and $s' = s$ for targets, 0 for the
    background: $L_c = A(c_1, c_2) + U(c_1) + U(c_2)$ on all rows; $L_s = A(s_1, s_2)$ on targets $+\, U(s'_1) + U(s'_2)$ on all;
    $L_0 = \frac12[A(0, s_1) + A(0, s_2)]$ on the background. Common codes are scaled to unit length, salient codes are not:
    they must be able to reach the null point.

    Args:
        common: two (n, d) tensors, the common codes of both views.
        salient: two (n, e) tensors, the salient codes.
        target: (n,) boolean; at least two rows of the batch are targets and one is background.
        t: width of the kernel, 1 / (2 tau) with the paper's tau = 0.5.
        salient_weight: beta_s >= 0.
        null_weight: beta_0 >= 0; 0 leaves background rows free to be anywhere.
        joint_weight: lambda >= 0; 0 lets both codes hold the same.

    Returns:
        Loss; may be negative.

    Raises:
        ValueError, TypeError: bad tensors, no boolean target, too few rows of a set, negative weights.

    Source:
        Louiset et al. 2024 (SepCLR, arXiv 2402.11928); terms and weights as in the authors' code.
    """
    for name, weight in (("salient_weight", salient_weight), ("null_weight", null_weight), ("joint_weight", joint_weight)):
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {weight}")
    c = [checks.require_unit_rows(x, f"common[{v}]", min_rows=2) for v, x in enumerate(common)]
    s = [checks.require_embeddings(x, f"salient[{v}]", min_rows=2) for v, x in enumerate(salient)]
    if len(c) != 2 or len(s) != 2:
        raise ValueError(f"common and salient must hold two views each, got {len(c)} and {len(s)}")
    checks.require_same_shape(c[0], c[1], "common[0]", "common[1]")
    checks.require_same_shape(s[0], s[1], "salient[0]", "salient[1]")
    target = _targets(target, len(c[0]))
    if len(s[0]) != len(c[0]):
        raise ValueError(f"common and salient must be paired row by row, got {len(c[0])} and {len(s[0])} rows")
    null = [x * target[:, None] for x in s]
    common_term = t * alignment(c[0], c[1], normalize=False) + sum(uniformity(x, t=t, normalize=False) for x in c)
    salient_term = t * alignment(s[0][target], s[1][target], normalize=False)
    salient_term = salient_term + sum(uniformity(x, t=t, normalize=False) for x in null)
    null_term = t * sum(x[~target].square().sum(dim=1).mean() for x in s) / 2
    joint = sum(kernel_entropy(a, b, t=t) for a, b in zip(c, null, strict=True)) / 2
    return common_term + salient_weight * salient_term + null_weight * null_term - joint_weight * joint


def _squared_distances(x: Tensor) -> Tensor:
    # From differences, not from products: nearly equal rows keep their digits, and a row is exactly 0 from itself.
    return (x[:, None] - x[None]).square().sum(dim=2)


def _unit_distance(x: Tensor, name: str) -> Tensor:
    x = checks.require_embeddings(x, name, min_rows=2)
    mean = torch.pdist(x).mean()
    if mean == 0:
        raise ValueError(f"{name} is constant: it has no distance to rescale by")
    return x / mean


def _targets(target: object, n: int) -> Tensor:
    target = checks.require_tensor(target, "target")
    if target.dtype != torch.bool:
        raise TypeError(f"target must be boolean (true for the target set), got {checks.describe(target)}")
    if target.shape != (n,):
        raise ValueError(f"target must have shape ({n},), got {checks.describe(target)}")
    if target.sum() < 2 or target.all():
        raise ValueError(f"target must hold at least two target rows and one background row, got {int(target.sum())} of {n}")
    return target
