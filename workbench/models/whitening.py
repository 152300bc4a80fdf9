"""Whitening of features: the full one, learned once and applied later, and the one in small groups of channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.checks import describe, require_embeddings, require_positive

EPS = 1e-5


@dataclass(frozen=True, eq=False)
class Whitening:
    r"""The map $y = (x - \mu) W$ that gives the rows it was learned on zero mean and uncorrelated columns of variance one.

    Attributes:
        mean: (d,) $\mu$.
        matrix: (d, d) $W = \Sigma^{-1/2}$, symmetric.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Whiten (n, d) rows, those it was learned on or others; one row suffices."""
        x = require_embeddings(x, "x")
        if x.shape[1] != len(self.mean):
            raise ValueError(f"x must have the {len(self.mean)} columns that the whitening was learned on, got {describe(x)}")
        return (x - self.mean) @ self.matrix


def fit_whitening(x: Tensor, *, eps: float = EPS) -> Whitening:
    r"""Learn the whitening of a set of rows, $W = U(\Lambda + \epsilon)^{-1/2}U^\top$ with $\Sigma = U\Lambda U^\top$ (ZCA).

    Of all whitenings this one turns the features least: it has no rotation of its own, so column c still means the same.

    Args:
        x: (n, d) with n > d: fewer rows leave directions without any variance, which no whitening can repair.
        eps: added to the variances; hardly matters unless some are that small.

    Returns:
        `Whitening`, without gradient, in the precision of `x` (computed in float64 where the device has it).

    Raises:
        ValueError, TypeError: bad tensors, too few rows, eps that is not positive.

    Source:
        BERT-whitening (Su et al. 2021, arXiv 2103.15316), with ZCA instead of its PCA rotation; cosines are the same.

    Example:
        >>> y = fit_whitening(torch.tensor([[0.0, 0.0], [4.0, 1.0], [0.0, 1.0], [4.0, 0.0]]))(torch.tensor([[4.0, 1.0]]))
        >>> y.round(decimals=2)
        tensor([[1., 1.]])
    """
    x = require_embeddings(x, "x").detach()
    require_positive(eps, "eps")
    _require_rows(x, x.shape[1])
    exact = x if x.device.type == "mps" else x.double()
    mean, centred = _centre(exact)
    return Whitening(mean.to(x.dtype), _inverse_root(centred.mT @ centred / len(x), eps).to(x.dtype))


def group_whitening(
    x: Tensor, groups: int, *, permutation: Tensor | None = None, eps: float = EPS, detach: bool = False
) -> Tensor:
    r"""Whiten the columns of a batch in small groups, each group by itself (ZCA), and leave the columns in their places.

    $$Z^{(j)} = \bar X^{(j)}\,U(\Lambda + \epsilon)^{-1/2}U^\top, \quad \tfrac1n \bar X^{(j)\top}\bar X^{(j)} = U\Lambda U^\top$$

    where $\bar X^{(j)}$ holds the g = d / groups columns of group j, centred over the batch. A random `permutation` for each
    view deals the columns into groups anew and gives slightly different copies of the same rows: shuffled group whitening.
    With `groups=d` it standardises every column and with `groups=1` it whitens all of them; at both ends the permutation
    does not matter.

    Args:
        x: (n, d), one view of a batch, n > g.
        groups: number of groups, a divisor of d.
        permutation: (d,) order in which the columns are dealt into groups, such as `torch.randperm(d)`; None takes them as they
            stand, neighbours together.
        eps: added to the variances within a group. The released code has none and fails on columns without variance.
        detach: treat the whitening matrix as a constant in the backward pass, as the released code does. The full derivative
            has 1 / (difference of two eigenvalues) in it: use float64, or groups of one column, or detach.

    Returns:
        (n, d): zero mean, and within each group the identity as covariance (divided by n, up to eps).

    Raises:
        ValueError, TypeError: bad tensors, groups that do not divide d, n <= g, no permutation of the columns.

    Source:
        Zhuo et al. 2023 (WhitenedCSE, arXiv 2305.17746), shuffled group whitening; divisor, order and un-permutation as in
        the released code.

    Example:
        >>> x = torch.tensor([[0.0, 5.0], [2.0, 7.0], [4.0, 3.0]])
        >>> group_whitening(x, 2).round(decimals=2)  # two groups of one column: standardised
        tensor([[-1.2200,  0.0000],
                [ 0.0000,  1.2200],
                [ 1.2200, -1.2200]])
    """
    x = require_embeddings(x, "x")
    d = x.shape[1]
    require_positive(eps, "eps")
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or d % groups:
        raise ValueError(f"groups must be a whole number that divides the {d} columns of x, got {groups!r}")
    _require_rows(x, d // groups)
    if permutation is not None:
        order = _require_permutation(permutation, d, x.device)
        x = x[:, order]
    # The covariance of thousands of rows is no place for bfloat16, in which autocast would compute it.
    with torch.autocast(x.device.type, enabled=False):
        centred = _centre(x.unflatten(1, (groups, d // groups)).transpose(0, 1))[1]
        covariance = centred.mT @ centred / len(x)
        whitened = centred @ _inverse_root(covariance.detach() if detach else covariance, eps)
    whitened = whitened.transpose(0, 1).flatten(1)
    return whitened if permutation is None else whitened[:, order.argsort()]


def _centre(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(dim=-2, keepdim=True)
    return mean.squeeze(-2), x - mean


def _inverse_root(covariance: Tensor, eps: float) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding may leave a variance of zero slightly negative.
    return vectors * (values.clamp(min=0) + eps).rsqrt()[..., None, :] @ vectors.mT


def _require_rows(x: Tensor, g: int) -> None:
    if len(x) <= g:
        raise ValueError(f"x must have more rows than the {g} columns that are whitened together, got {len(x)} rows")


def _require_permutation(permutation: object, d: int, device: torch.device) -> Tensor:
    if not isinstance(permutation, Tensor) or permutation.dtype != torch.int64 or permutation.shape != (d,):
        raise ValueError(
            f"permutation must be an int64 tensor of shape ({d},), such as torch.randperm({d}), got {describe(permutation)}"
        )
    if not torch.equal(permutation.sort().values, torch.arange(d, device=permutation.device)):
        raise ValueError(f"permutation must hold each of 0 to {d - 1} once, got {describe(permutation)}")
    return permutation.to(device)
