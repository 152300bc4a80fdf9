"""Time and memory as people write them."""

from __future__ import annotations

import re

from workbench.errors import WorkbenchError

SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
MEGABYTES = {"": 1.0, "m": 1.0, "mb": 1.0, "mib": 1.0, "g": 1024.0, "gb": 1024.0, "gib": 1024.0}


def parse_time(text: str) -> float:
    """Seconds; 0 means no limit.

    Raises:
        WorkbenchError: not a number with s, m, h or d.

    Example:
        >>> parse_time("90"), parse_time("30m"), parse_time("1.5h")
        (90.0, 1800.0, 5400.0)
    """
    return _parse(text, SECONDS, "a time such as 90s, 30m or 2h")


def parse_memory(text: str) -> float:
    """Megabytes (2**20 bytes).

    Raises:
        WorkbenchError: not a number with MB or GB.

    Example:
        >>> parse_memory("800MB"), parse_memory("6 GB")
        (800.0, 6144.0)
    """
    return _parse(text, MEGABYTES, "a memory size such as 800MB or 6GB")


def _parse(text: str, units: dict[str, float], wanted: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in units:
        raise WorkbenchError(f"{text!r} is not {wanted}")
    return float(match[1]) * units[match[2].lower()]
