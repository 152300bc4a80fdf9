"""Schedules in closed form: the learning rate and the momentum of an averaged encoder."""

from __future__ import annotations

import math


def warmup_cosine(step: float, *, steps: float, warmup: float = 0, floor: float = 0.0) -> float:
    r"""Factor on the learning rate at `step` (from 0): a linear rise, then half a cosine down to `floor`.

    .. math:: \lambda(k) = \begin{cases}(k+1)/w & k < w\\
        c + (1-c)\,\tfrac12\big(1+\cos\tfrac{\pi (k-w)}{K-w}\big) & \text{else}\end{cases}

    Args:
        step: $k$, number of updates already made.
        steps: $K$, number of updates in all.
        warmup: $w$, updates of the rise; 0 starts at the full rate.
        floor: $c$ in [0, 1], the factor at $k = K$ (one step after the last, so that no update is wasted on a rate of 0).

    Returns:
        A factor in (0, 1].

    Raises:
        ValueError: a step outside [0, steps], a warm-up that is not shorter than the run, a floor outside [0, 1].

    Source:
        SGDR (Loshchilov & Hutter 2017), equation 5, without restarts; warm-up: Goyal et al. 2017.

    Example:
        >>> [round(warmup_cosine(k, steps=6, warmup=2), 3) for k in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup must be at least 0 and below steps, got warmup {warmup} and steps {steps}")
    if not 0 <= step <= steps or not 0 <= floor <= 1:
        raise ValueError(f"step must be in [0, {steps}] and floor in [0, 1], got {step} and {floor}")
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def cosine_momentum(step: float, *, steps: float, start: float = 0.996, end: float = 1.0) -> float:
    r"""Momentum that rises from `start` to `end` over a run, so that the averaged encoder settles.

    .. math:: m(k) = m_1 - (m_1 - m_0)\,\tfrac12\big(1 + \cos\tfrac{\pi k}{K}\big)

    Args:
        step: $k$ in [0, K].
        steps: $K$, updates in all.
        start: $m_0$ in [0, 1].
        end: $m_1$ in [0, 1].

    Raises:
        ValueError: a step outside [0, steps], steps below 1, a momentum outside [0, 1].

    Source:
        BYOL (Grill et al. 2020), section 3.2.

    Example:
        >>> [round(cosine_momentum(k, steps=2, start=0.9), 3) for k in range(3)]
        [0.9, 0.95, 1.0]
    """
    if steps < 1 or not 0 <= step <= steps:
        raise ValueError(f"step must be in [0, steps] with steps >= 1, got step {step} and steps {steps}")
    if not (0 <= start <= 1 and 0 <= end <= 1):
        raise ValueError(f"start and end must be in [0, 1], got {start} and {end}")
    return end - (end - start) * 0.5 * (1 + math.cos(math.pi * step / steps))
