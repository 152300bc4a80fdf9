"""Balanced assignment by optimal transport (Sinkhorn-Knopp) and the swapped prediction of SwAV."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench import checks
from workbench.errors import UnknownNameError


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    row_weights: Tensor | None = None,
    column_weights: Tensor | None = None,
) -> Tensor:
    r"""Entropic optimal transport between rows and columns: the balanced plan that favours high scores.

    $$P^* = \arg\max_{P \ge 0}\ \sum_{ij} P_{ij} s_{ij} + \varepsilon H(P) \quad\text{with}\quad
      P\mathbf 1 = a,\ P^\top\mathbf 1 = b$$

    which is $\mathrm{Diag}(u)\,e^{S/\varepsilon}\,\mathrm{Diag}(v)$. One iteration scales the columns to $b$, then the rows to
    $a$. It runs on logarithms: $e^{1/0.05}$ already overflows half precision.

    Args:
        scores: (n, m); half precision is computed in float32.
        epsilon: weight > 0 of the entropy; towards 0 the plan becomes the best matching, towards infinity $a b^\top$.
        iterations: at least 0; with none only the rows are scaled, which is a softmax of each row.
        row_weights: (n,) positive masses a; 1 / n each where not given. Both are scaled to sum to 1.
        column_weights: (m,) positive masses b; 1 / m each where not given.

    Returns:
        (n, m) plan without gradient. Its rows sum to a exactly, its columns to b ever better with more iterations.

    Raises:
        ValueError, TypeError: bad scores, epsilon, iterations or weights.

    Source:
        Cuturi 2013 (arXiv 1306.0895), algorithm 1; the order of the two scalings as in SwAV (arXiv 2006.09882).

    Example:
        >>> s = torch.tensor([[1.0, 0.9], [0.9, 0.1]])  # both rows prefer the first column
        >>> sinkhorn(s, iterations=500).round(decimals=2)
        tensor([[0.0000, 0.5000],
                [0.5000, 0.0000]])
    """
    scores = checks.require_embeddings(scores, "scores")
    epsilon = float(checks.require_positive(epsilon, "epsilon"))
    if isinstance(iterations, bool) or not isinstance(iterations, int):
        raise TypeError(f"iterations must be an integer, got {checks.describe(iterations)}")
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    log_rows = _log_weights(row_weights, len(scores), scores, "row_weights")
    log_columns = _log_weights(column_weights, scores.shape[1], scores, "column_weights")
    log_plan = scores / epsilon
    for _ in range(iterations):
        log_plan = log_plan - log_plan.logsumexp(dim=0, keepdim=True) + log_columns
        log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True) + log_rows[:, None]
    return (log_plan.log_softmax(dim=1) + log_rows[:, None]).exp()


def sinkhorn_codes(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    r"""Soft cluster codes of a batch in which all prototypes are used equally: $n\,P^*$ with uniform masses, see `sinkhorn`.

    Args:
        scores: (n, k) cosines of n embeddings with k prototypes. Rows of a queue may be put in front; keep the last ones.
        epsilon: softness of the codes.
        iterations: alternating scalings; 0 gives the plain softmax of each row, without balance.

    Returns:
        (n, k), each row a distribution over prototypes, without gradient; each column sums to n / k up to convergence.

    Raises:
        ValueError, TypeError: as `sinkhorn`.

    Source:
        Caron et al. 2020 (SwAV, arXiv 2006.09882), eqs. 3-5.

    Example:
        >>> sinkhorn_codes(torch.zeros(4, 2)).tolist()[0]  # nothing to choose from
        [0.5, 0.5]
    """
    plan = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    return plan * len(plan)


def swapped_prediction(
    scores: Sequence[Tensor], codes: Sequence[Tensor], *, temperature: float | Tensor = 0.1, reduction: str = "mean"
) -> Tensor:
    r"""The SwAV loss: each view predicts the codes of the other views; lower is better.

    $$L = \frac1G \sum_{i=1}^{G} \frac1{V-1} \sum_{v \neq i} \Big(-\sum_k q_i^{(k)} \log p_v^{(k)}\Big),
      \qquad p_v = \mathrm{softmax}(s_v/\tau)$$

    With multi-crop only the G large views (G = 2 in the paper) have codes, and all V views predict.

    Args:
        scores: V >= 2 tensors (n, k), the scores of each view; those with codes come first.
        codes: G tensors (n, k), 1 <= G <= V, rows summing to 1; they get no gradient.
        temperature: tau > 0.
        reduction: 'mean' or 'sum' over rows, or 'none' for the (n,) losses.

    Returns:
        Loss in nats, at least the mean entropy of the codes; log k where all scores of a row are equal.

    Raises:
        ValueError, TypeError: fewer than two views, more codes than views, shapes that differ, codes that are no distributions.
        UnknownNameError: reduction.

    Source:
        Caron et al. 2020 (SwAV, arXiv 2006.09882), eqs. 1-2 and 6; there the two terms of two views are added, here averaged.

    Example:
        >>> s = [torch.zeros(3, 4), torch.zeros(3, 4)]
        >>> swapped_prediction(s, [sinkhorn_codes(v) for v in s])  # log 4
        tensor(1.3863)
    """
    if len(scores) < 2 or not 1 <= len(codes) <= len(scores):
        raise ValueError(
            f"scores must hold at least two views and codes at most as many, got {len(scores)} scores and {len(codes)} codes"
        )
    checks.require_positive(temperature.detach() if isinstance(temperature, Tensor) else temperature, "temperature")
    views = [checks.require_embeddings(s, f"scores[{i}]") for i, s in enumerate(scores)]
    targets = [_distributions(q, f"codes[{i}]") for i, q in enumerate(codes)]
    for i, other in enumerate(views[1:], 1):
        checks.require_same_shape(views[0], other, "scores[0]", f"scores[{i}]")
    for i, other in enumerate(targets):
        checks.require_same_shape(views[0], other.to(views[0].dtype), "scores[0]", f"codes[{i}]")
    log_p = torch.stack([(v / temperature).log_softmax(dim=1) for v in views])
    total = log_p.sum(dim=0)
    # Of all views but i, code i wants the summed log-probabilities: one product for each code instead of one for each pair.
    losses = [-(q.to(log_p.dtype) * (total - log_p[i])).sum(dim=1) for i, q in enumerate(targets)]
    per_row = torch.stack(losses).mean(dim=0) / (len(views) - 1)
    if reduction == "none":
        return per_row
    if reduction not in ("mean", "sum"):
        raise UnknownNameError("reduction", reduction, ("mean", "sum", "none"))
    return per_row.mean() if reduction == "mean" else per_row.sum()


def _log_weights(weights: Tensor | None, n: int, like: Tensor, name: str) -> Tensor:
    if weights is None:
        return torch.full((n,), -math.log(n), dtype=like.dtype, device=like.device)
    weights = checks.require_tensor(weights, name)
    if weights.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), got {checks.describe(weights)}")
    weights = weights.to(like)
    if not (torch.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"{name} must be positive and finite, got a smallest entry of {float(weights.min())}")
    return weights.log() - weights.sum().log()


def _distributions(codes: object, name: str) -> Tensor:
    codes = checks.require_embeddings(codes, name).detach()
    if (codes < 0).any() or not torch.allclose(codes.sum(dim=1), codes.new_ones(len(codes)), atol=1e-3):
        raise ValueError(f"{name} must be distributions: entries at least 0, each row summing to 1")
    return codes
