"""Data: one loader per embedded set, one return shape (`Dataset`); nothing heavy is imported before a loader is called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.data.dataset import Dataset
    from workbench.data.digits import load_digits
    from workbench.data.emoji import load_emoji
    from workbench.data.mnist import load_mnist
    from workbench.data.scenes import load_scenes

__all__ = ["Dataset", "available", "load", "load_digits", "load_emoji", "load_mnist", "load_scenes"]

# A new set adds one line here, one loader module `workbench/data/<set>.py` with `load_<set>`, and one folder `data/<set>/`.
_LOADERS = ("digits", "emoji", "mnist", "scenes")


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
    name = attribute.removeprefix("load_")
    if name != attribute and name in _LOADERS:
        return getattr(importlib.import_module(f"workbench.data.{name}"), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
