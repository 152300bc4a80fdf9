"""A diagnosis of a user's own embeddings: what their geometry is, what stands out, and which rows to look at first.

    study = workbench.diagnose("image.npy", "text.npy", pairs=True)
    study.table, study.explore(), study.save("report.html")

`workbench diagnose embeddings ...` is the same from the command line.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.diagnose.study import EmbeddingStudy, study_embeddings

__all__ = ["EmbeddingStudy", "study_embeddings"]


def __getattr__(attribute: str) -> Any:
    """Import on first use (PEP 562): the rest of the package must not wait for it."""
    if attribute in __all__:
        return getattr(importlib.import_module("workbench.diagnose.study"), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")


class _Diagnose(ModuleType):
    """The module itself can be called, so that `workbench.diagnose(...)` reads as one would say it."""

    def __call__(self, *sources: Any, **options: Any) -> EmbeddingStudy:
        """As `study_embeddings`, the sources one after another."""
        return self.study_embeddings(list(sources), **options)


sys.modules[__name__].__class__ = _Diagnose
