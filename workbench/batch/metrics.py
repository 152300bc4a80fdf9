"""Numbers from a notebook of your own, handed to the results table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from workbench.batch.records import METRICS_MIME


class Metrics(dict[str, list[float]]):
    """Values by name; shows itself in a notebook and carries the machine-readable values in its output."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = "\n".join(f"{name} = {', '.join(f'{v:.6g}' for v in values)}" for name, values in self.items())
        return {METRICS_MIME: dict(self), "text/plain": text}


def report_metrics(**values: float | Iterable[float]) -> Metrics:
    """Hand numbers to `workbench results` and the sweep plots; the last expression of a cell.

    Args:
        values: one number, or one a seed, for each name.

    Raises:
        TypeError: not a number.
        ValueError: no numbers, or one that is not finite.

    Example:
        >>> report_metrics(accuracy=[0.91, 0.93], uniformity=-2)
        {'accuracy': [0.91, 0.93], 'uniformity': [-2.0]}
    """
    found = Metrics()
    for name, given in values.items():
        try:
            numbers = [float(v) for v in given] if isinstance(given, Iterable) else [float(given)]
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number or several, got {type(given).__name__} {given!r}") from None
        if not numbers or not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name} must be finite numbers, at least one, got {numbers}")
        found[name] = numbers
    return found
