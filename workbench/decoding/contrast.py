"""Contrastive decoding: an expert's log-probabilities minus an amateur's, at one layer or at several, within the plausible tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.checks import describe, require_tensor

FLOOR = -1000.0  # score of a token outside the plausible set, as in ICD's code


def plausible(log_probs: Tensor, alpha: float = 0.1) -> Tensor:
    r"""The adaptive plausibility set: tokens that are at least `alpha` times as probable as the most probable one.

    .. math:: V_{head} = \{ v : p(v) \ge \alpha \max_w p(w) \}

    Args:
        log_probs: (..., vocabulary) of the original model, before any contrast.
        alpha: in [0, 1]; 0 keeps every token, 1 only the most probable.

    Returns:
        (..., vocabulary) booleans, True for at least one token.

    Raises:
        ValueError, TypeError: alpha outside [0, 1], NaN.

    Source: Li et al. 2023 (arXiv 2210.15097), equation 2.

    Example:
        >>> plausible(torch.tensor([0.6, 0.3, 0.1]).log(), alpha=0.4)
        tensor([ True,  True, False])
    """
    log_probs = _scores(log_probs, "log_probs")
    alpha = _number(alpha, "alpha", low=0, high=1)
    if alpha == 0:
        return torch.ones_like(log_probs, dtype=torch.bool)
    top = log_probs.amax(-1, keepdim=True)
    return (log_probs >= top + math.log(alpha)) | (log_probs == top)


def contrast(expert: Tensor, amateur: Tensor, *, beta: float = 1.0) -> Tensor:
    r"""Contrast of two models at one layer; raw logits give the same distribution as log-probabilities.

    .. math:: F = \beta\, \ell_\theta - \ell_\phi

    Args:
        expert: (..., vocabulary) log-probabilities of the original model.
        amateur: (..., vocabulary) log-probabilities of the model to stay away from.
        beta: weight of the expert, positive.

    Returns:
        (..., vocabulary) scores up to a constant per position: pass them to `restricted` before they are summed or compared.

    Raises:
        ValueError, TypeError: different shapes, NaN, beta that is not positive.

    Source: Zhang et al. 2023 (ICD, arXiv 2312.15710), equation 4.
    """
    expert, amateur = _pair(expert, amateur, "expert", "amateur")
    return _number(beta, "beta", low=0, open_low=True) * expert - amateur


def fuse(final: Tensor, lower: Tensor, *, omega: float = 0.5) -> Tensor:
    r"""Contrast of the last layer with a share of the contrast of a lower one.

    .. math:: F = F^{(N)} + \omega F^{(m)}

    Args:
        final: (..., vocabulary) scores of `contrast` at the last layer.
        lower: (..., vocabulary) scores of `contrast` at a lower layer of both models.
        omega: at least 0; 0 leaves the last layer alone (ICD).

    Returns:
        (..., vocabulary) scores up to a constant per position.

    Raises:
        ValueError, TypeError: different shapes, NaN, negative omega.

    Source: Chen et al. 2024 (arXiv 2408.08769); the weighting is told from memory.
    """
    final, lower = _pair(final, lower, "final", "lower")
    return final + _number(omega, "omega", low=0) * lower


def refocus(instructed: Tensor, plain: Tensor, *, strength: float = 0.5) -> Tensor:
    r"""Move a model further in the direction in which an instruction moves it.

    .. math:: \tilde\ell = \ell(\cdot \mid I, x) + \lambda\, [\ell(\cdot \mid I, x) - \ell(\cdot \mid x)]

    Args:
        instructed: (..., vocabulary) log-probabilities with the instruction before the context.
        plain: (..., vocabulary) log-probabilities without it.
        strength: lambda, at least 0; 0 leaves the instructed model.

    Returns:
        (..., vocabulary) scores up to a constant per position.

    Raises:
        ValueError, TypeError: different shapes, NaN, negative strength.

    Source: a reconstruction of "truthfulness refocused" in Chen et al. 2024 (arXiv 2408.08769), after context-aware decoding,
        Shi et al. 2024 (arXiv 2305.14739), equation 2.
    """
    instructed, plain = _pair(instructed, plain, "instructed", "plain")
    return instructed + _number(strength, "strength", low=0) * (instructed - plain)


def dola(final: Tensor, lower: Tensor) -> Tensor:
    r"""DoLa: the last layer minus that of one model's own lower layers which differs most from it, chosen at every position.

    .. math:: F = \ell^{(N)} - \ell^{(M)}, \qquad M = \arg\max_j \mathrm{JSD}(p^{(N)} \,\|\, p^{(j)})

    Args:
        final: (..., vocabulary) log-probabilities of the last layer.
        lower: (layers, ..., vocabulary) log-probabilities of the candidate layers.

    Returns:
        (..., vocabulary) scores up to a constant per position.

    Raises:
        ValueError, TypeError: shapes that do not fit, no candidate, NaN.

    Source: Chuang et al. 2024 (arXiv 2309.03883), equations 3 to 5.
    """
    final, lower = _scores(final, "final"), _scores(lower, "lower")
    if lower.ndim != final.ndim + 1 or lower.shape[1:] != final.shape or not len(lower):
        raise ValueError(f"lower must have shape (layers, *{tuple(final.shape)}), got {describe(lower)}")
    p, q = final.exp(), lower.exp()
    middle = (0.5 * (p + q)).clamp_min(torch.finfo(p.dtype).tiny).log()
    divergence = 0.5 * ((p * (final - middle)).nansum(-1) + (q * (lower - middle)).nansum(-1))
    chosen = divergence.argmax(0)
    return final - lower.gather(0, chosen[None, ..., None].expand(1, *final.shape))[0]


def restricted(scores: Tensor, original: Tensor, *, alpha: float = 0.1, floor: float = FLOOR) -> Tensor:
    r"""Log-probabilities from contrasted scores: renormalised first, then cut to what the original model finds plausible.

    Args:
        scores: (..., vocabulary) from `contrast`, `fuse`, `refocus` or `dola`.
        original: (..., vocabulary) log-probabilities of the original model's last layer, which decide what is plausible.
        alpha: see `plausible`.
        floor: score of an implausible token: -1000 in scoring, `-math.inf` when tokens are generated.

    Returns:
        (..., vocabulary) log-probabilities; those above the floor sum to at most one, to one where alpha is 0.

    Raises:
        ValueError, TypeError: as `plausible`; different shapes.

    Source: the scoring code of ICD (arXiv 2312.15710): log-softmax before the mask.

    Example:
        >>> p = torch.tensor([0.6, 0.3, 0.1]).log()
        >>> restricted(contrast(p, torch.tensor([0.8, 0.1, 0.1]).log()), p, alpha=0.4).exp().round(decimals=3)
        tensor([0.1580, 0.6320, 0.0000])
    """
    scores, original = _pair(scores, original, "scores", "original")
    return scores.log_softmax(-1).masked_fill(~plausible(original, alpha), floor)


def with_tail(scores: Tensor, original: Tensor, *, alpha: float = 0.1) -> Tensor:
    r"""A proper distribution for perplexities: contrasted among the plausible tokens, the original model's for all others.

    .. math:: q(v) = p(V_{head}) \frac{e^{F(v)}}{\sum_{w \in V_{head}} e^{F(w)}} \ \text{for}\ v \in V_{head}, \qquad
        q(v) = p(v) \ \text{otherwise}

    A single token outside the set would make the perplexity of `restricted` infinite.

    Args:
        scores: (..., vocabulary) contrasted scores.
        original: (..., vocabulary) log-probabilities of the original model's last layer.
        alpha: see `plausible`; 1 gives the original model back where no two tokens tie, 0 the contrasted distribution.

    Returns:
        (..., vocabulary) log-probabilities that sum to one.

    Raises:
        ValueError, TypeError: as `restricted`.
    """
    scores, original = _pair(scores, original, "scores", "original")
    head = plausible(original, alpha)
    mass = original.masked_fill(~head, -torch.inf).logsumexp(-1, keepdim=True)
    inside = scores.masked_fill(~head, -torch.inf).log_softmax(-1) + mass
    return torch.where(head, inside, original)


def sequence_scores(log_probs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    r"""Score of each continuation: the sum of the log-probabilities of its tokens, (n,) nats.

    Args:
        log_probs: (n, t, vocabulary) at the positions that predict the tokens.
        targets: (n, t) the tokens.
        mask: (n, t) True where there is a token.

    Raises:
        ValueError, TypeError: shapes that do not fit, NaN.
    """
    log_probs = _scores(log_probs, "log_probs")
    if log_probs.ndim != 3 or targets.shape != log_probs.shape[:2] or mask.shape != targets.shape:
        raise ValueError(
            f"targets and mask must have the shape (n, t) of log_probs {tuple(log_probs.shape)}, got {describe(targets)}"
        )
    own = log_probs.gather(-1, targets[..., None])[..., 0]
    return torch.where(mask, own, 0.0).sum(1)


def _scores(value: Tensor, name: str) -> Tensor:
    value = require_tensor(value, name)
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {describe(value)}")
    if value.ndim < 1 or not value.numel():
        raise ValueError(f"{name} must have at least one row over a vocabulary, got {describe(value)}")
    if value.isnan().any():
        raise ValueError(f"{name} holds NaN, got {describe(value)}")
    return value


def _pair(first: Tensor, second: Tensor, one: str, two: str) -> tuple[Tensor, Tensor]:
    first, second = _scores(first, one), _scores(second, two)
    if first.shape != second.shape:
        raise ValueError(f"{one} and {two} must have the same shape, got {describe(first)} and {describe(second)}")
    return first, second


def _number(value: float, name: str, *, low: float, high: float = math.inf, open_low: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    if not low <= value <= high or (open_low and value == low) or math.isinf(value):
        raise ValueError(f"{name} must be {'above' if open_low else 'at least'} {low} and at most {high}, got {value}")
    return float(value)
