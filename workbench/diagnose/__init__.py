"""A diagnosis of a user's own embeddings, captions or model: what the numbers are, what stands out, and what to look at first.

    study = workbench.diagnose("image.npy", "text.npy", pairs=True)
    study = workbench.diagnose.captions("captions.jsonl", objects="objects.jsonl")
    study = workbench.diagnose.model("mini-clip", images="pictures/", captions="captions.csv")
    study.table, study.figures(), study.explore(), study.save("report.html")

`workbench diagnose embeddings|captions|model ...` is the same from the command line.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.diagnose.caption_study import CaptionStudy
    from workbench.diagnose.caption_study import study_captions as captions
    from workbench.diagnose.model_study import ModelStudy
    from workbench.diagnose.model_study import study_model as model
    from workbench.diagnose.study import EmbeddingStudy, study_embeddings

__all__ = ["CaptionStudy", "EmbeddingStudy", "ModelStudy", "captions", "model", "study_embeddings"]
HOMES = {
    "CaptionStudy": ("caption_study", "CaptionStudy"),
    "EmbeddingStudy": ("study", "EmbeddingStudy"),
    "ModelStudy": ("model_study", "ModelStudy"),
    "captions": ("caption_study", "study_captions"),
    "model": ("model_study", "study_model"),
    "study_embeddings": ("study", "study_embeddings"),
}


def __getattr__(attribute: str) -> Any:
    """Import on first use (PEP 562): the rest of the package must not wait for it."""
    if attribute in HOMES:
        module, name = HOMES[attribute]
        return getattr(importlib.import_module(f"workbench.diagnose.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")


class _Diagnose(ModuleType):
    """The module itself can be called, so that `workbench.diagnose(...)` reads as one would say it."""

    def __call__(self, *sources: Any, **options: Any) -> EmbeddingStudy:
        """As `study_embeddings`, the sources one after another."""
        return self.study_embeddings(list(sources), **options)


sys.modules[__name__].__class__ = _Diagnose
