"""Errors of the workbench. Bad arguments of a function raise ValueError or TypeError; these are for the world outside it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WorkbenchError(Exception):
    """Something a user can put right; the message says how. The command line prints it without a traceback."""


class DataError(WorkbenchError):
    """An embedded data file is missing, corrupt or not what its card says."""


class UnknownNameError(WorkbenchError, ValueError):
    """A name (slug, preset, device, data set) that does not exist."""

    def __init__(self, kind: str, name: object, known: Iterable[str]):
        known = list(known)
        close = difflib.get_close_matches(str(name), known, n=3)
        hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")
