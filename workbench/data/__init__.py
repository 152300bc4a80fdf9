"""Data: one loader per embedded set, one return shape (`Dataset`); nothing heavy is imported before a loader is called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.data.clinical import load_clinical
    from workbench.data.clipart import load_clipart
    from workbench.data.corpora import load_corpora
    from workbench.data.dataset import Dataset
    from workbench.data.debian import load_debian
    from workbench.data.digits import load_digits
    from workbench.data.emoji import load_emoji
    from workbench.data.glyphs import load_glyphs
    from workbench.data.mnist import load_mnist
    from workbench.data.movies import load_movies
    from workbench.data.online import load_online
    from workbench.data.own import load_folder, load_own
    from workbench.data.phantoms import load_phantoms
    from workbench.data.pycode import load_pycode
    from workbench.data.scenes import load_scenes
    from workbench.data.sequences import load_sequences
    from workbench.data.series import load_series
    from workbench.data.stamps import load_stamps
    from workbench.data.verses import load_verses
    from workbench.data.voice import load_voice
    from workbench.data.wordnet import load_wordnet

__all__ = [
    "Dataset",
    "available",
    "load",
    "load_clinical",
    "load_clipart",
    "load_corpora",
    "load_debian",
    "load_digits",
    "load_emoji",
    "load_folder",
    "load_glyphs",
    "load_mnist",
    "load_movies",
    "load_online",
    "load_own",
    "load_phantoms",
    "load_pycode",
    "load_scenes",
    "load_sequences",
    "load_series",
    "load_stamps",
    "load_verses",
    "load_voice",
    "load_wordnet",
]

# A new set adds one line here, one loader module `workbench/data/<set>.py` with `load_<set>`, and one folder `data/<set>/`.
_LOADERS = (
    "clinical",
    "clipart",
    "corpora",
    "debian",
    "digits",
    "emoji",
    "glyphs",
    "mnist",
    "movies",
    "phantoms",
    "pycode",
    "scenes",
    "sequences",
    "series",
    "stamps",
    "verses",
    "voice",
    "wordnet",
)

# Loaders of data from outside; they are not sets of their own.
_OUTSIDE = {"load_own": "own", "load_folder": "own", "load_online": "online"}


def available() -> list[str]:
    """Names of the sets that `load` knows."""
    return list(_LOADERS)


def load(name: str, split: str = "train", **options: Any) -> Dataset:
    """A data set by name: `load("emoji", "test", style="noto")` is `load_emoji("test", style="noto")`.

    Raises:
        UnknownNameError: no set of that name; the loader's own errors.
    """
    if name not in _LOADERS:
        from workbench.errors import UnknownNameError

        raise UnknownNameError("data set", name, _LOADERS)
    loader = getattr(importlib.import_module(f"workbench.data.{name}"), f"load_{name}")
    return loader(split, **options)


def __getattr__(attribute: str) -> Any:
    """Import `Dataset` and the loaders on first use (PEP 562)."""
    if attribute == "Dataset":
        return importlib.import_module("workbench.data.dataset").Dataset
    if module := _OUTSIDE.get(attribute):
        return getattr(importlib.import_module(f"workbench.data.{module}"), attribute)
    name = attribute.removeprefix("load_")
    if name != attribute and name in _LOADERS:
        return getattr(importlib.import_module(f"workbench.data.{name}"), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
