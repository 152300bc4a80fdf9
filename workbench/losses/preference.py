"""Preferences between log-probabilities: DPO's logistic loss, and S-VCO, which prefers one picture to another."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench import checks
from workbench.losses._common import reduce


def preference(better: Tensor, worse: Tensor, *, beta: float = 0.1, reduction: str = "mean") -> Tensor:
    r"""Logistic loss that wants one implicit reward above another; the loss of DPO.

    $$L = -\log\sigma\big(\beta\,[r(y_w) - r(y_l)]\big), \qquad r(y) = \log\pi_\theta(y) - \log\pi_{\mathrm{ref}}(y)$$

    Args:
        better: (n,) rewards r of what is preferred: log-probability of the whole text, summed over its tokens and not averaged,
            under the model minus under the frozen reference.
        worse: (n,) rewards of what is not.
        beta: slope > 0; for texts of equal length, summing at beta is averaging at beta times that length.
        reduction: 'mean', 'sum', or 'none' for the (n,) values.

    Returns:
        In nats: log 2 where the rewards are equal, as at the first step; near 0 where `better` is far above; unbounded.

    Raises:
        ValueError, TypeError: rewards that are not finite (n,) floating point tensors of one length, bad options.

    Source:
        Rafailov et al. 2023 (DPO, arXiv 2305.18290), equation 7.

    Example:
        >>> preference(torch.zeros(2), torch.zeros(2)), preference(torch.tensor([10.0]), torch.tensor([-10.0]))
        (tensor(0.6931), tensor(0.1269))
    """
    better, worse = _rewards({"better": better, "worse": worse})
    return reduce(_logistic(better, worse, beta, "beta"), reduction)


def vco(
    match: Tensor,
    none: Tensor,
    mismatch: Tensor,
    *,
    attend_beta: float = 0.1,
    reject_beta: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    r"""One direction of S-VCO: with its picture a text is likelier than without one, and without one than with the wrong one.

    $$L_{VCO} = -\log\sigma\big(\beta_1[r(y, i) - r(y, \varnothing)]\big) - \log\sigma\big(\beta_2[r(y, \varnothing) - r(y, i')]\big)$$

    Args:
        match: (n,) rewards (see `preference`) of each text with its own picture.
        none: (n,) rewards of the same text without any picture.
        mismatch: (n,) rewards of the same text with the minimally different picture.
        attend_beta: slope of the first term, Attend; > 0.
        reject_beta: slope of the second term, Reject; > 0. With equal slopes the gradients by `none` cancel where all rewards
            are equal.
        reduction: 'mean', 'sum', or 'none' for the (n,) values.

    Returns:
        In nats: 2 log 2 where the rewards are equal, 0 at best; unbounded.

    Raises:
        ValueError, TypeError: as `preference`.

    Source:
        Wu et al. 2025 (S-VCO, arXiv 2502.13928), the two terms of one direction.

    Example:
        >>> vco(torch.zeros(1), torch.zeros(1), torch.zeros(1)), vco(torch.ones(1), torch.zeros(1), -torch.ones(1), attend_beta=1.0)
        (tensor(1.3863), tensor(0.9577))
    """
    match, none, mismatch = _rewards({"match": match, "none": none, "mismatch": mismatch})
    attend = _logistic(match, none, attend_beta, "attend_beta")
    return reduce(attend + _logistic(none, mismatch, reject_beta, "reject_beta"), reduction)


def s_vco(
    first: tuple[Tensor, Tensor, Tensor],
    second: tuple[Tensor, Tensor, Tensor],
    *,
    attend_beta: float = 0.1,
    reject_beta: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    r"""S-VCO of minimal pairs $(i_w, y_w)$, $(i_l, y_l)$: `vco` of each text, the other's picture being the wrong one.

    $$L = L_{VCO}(i_w, y_w, i_l) + L_{VCO}(i_l, y_l, i_w)$$

    The four terms are added, not averaged; the mean is over pairs. Which member of a pair is called first makes no difference.

    Args:
        first: rewards (match, none, mismatch) of the first texts, each (n,): with their picture, without one, with the second.
        second: rewards of the second texts: with their picture, without one, with the first.
        attend_beta: slope of the Attend terms, > 0.
        reject_beta: slope of the Reject terms, > 0.
        reduction: 'mean', 'sum', or 'none' for the (n,) values.

    Returns:
        In nats: exactly 4 log 2 where model and reference agree, as at the first step; 0 at best; unbounded.

    Raises:
        ValueError, TypeError: as `preference`; a side that is not three tensors, sides of different length.

    Source:
        Wu et al. 2025 (S-VCO, arXiv 2502.13928).

    Example:
        >>> zeros = (torch.zeros(3), torch.zeros(3), torch.zeros(3))
        >>> s_vco(zeros, zeros)
        tensor(2.7726)
    """
    for name, side in (("first", first), ("second", second)):
        if not isinstance(side, (tuple, list)) or len(side) != 3:
            raise ValueError(f"{name} must be three tensors (match, none, mismatch), got {checks.describe(side)}")
    directions = [vco(*side, attend_beta=attend_beta, reject_beta=reject_beta, reduction="none") for side in (first, second)]
    if len(directions[0]) != len(directions[1]):
        raise ValueError(f"first and second must have one entry a pair, got {len(directions[0])} and {len(directions[1])}")
    return reduce(directions[0] + directions[1], reduction)


def _logistic(better: Tensor, worse: Tensor, beta: float, name: str) -> Tensor:
    slope = float(checks.require_positive(beta, name))
    return -torch.nn.functional.logsigmoid(slope * (better - worse))


def _rewards(given: dict[str, Tensor]) -> list[Tensor]:
    found: list[Tensor] = []
    for name, x in given.items():
        x = checks.require_tensor(x, name)
        if x.ndim != 1 or not len(x):
            raise ValueError(f"{name} must have shape (n,), one sum of log-probabilities a text, got {checks.describe(x)}")
        x = checks.require_embeddings(x[:, None], name)[:, 0]
        if found and len(x) != len(found[0]):
            raise ValueError(f"{' and '.join(given)} must have one entry a text, got {len(found[0])} and {len(x)} ({name})")
        found.append(x)
    return found
