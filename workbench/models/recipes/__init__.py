"""Training scripts of the shipped models: one module for each, all with the same two functions.

- `train(preset, out, seed)` trains the model at a preset ('ci', 'cpu' or 'gpu'), fills the folder `out` as `data/models/README.md`
  says, and returns nothing. A module that serves several names also takes `name`.
- `evaluate(folder)` measures a trained folder again, in seconds, and returns metrics under the names used in `metrics.json`.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from workbench.errors import UnknownNameError, WorkbenchError
from workbench.runtime import resolve_preset

RECIPES = {
    "mini-clip": "mini_clip",
    "mini-clip-tau001": "mini_clip",
    "mini-captioner": "mini_captioner",
    "scenes-clip": "scenes_clip",
    "nano-gpt": "nano_gpt",
    "nano-bert": "nano_bert",
    "nano-bert-multilingual": "nano_bert",
    "fact-gpt": "fact_gpt",
    "lit-bridge": "lit_bridge",
    "lit-bridge-tau001": "lit_bridge",
    "lit-bridge-linear": "lit_bridge",
}


def recipe(name: str) -> Any:
    """The module that trains and evaluates the shipped model of this name.

    Raises:
        UnknownNameError: no model of this project has that name.
    """
    if name not in RECIPES:
        raise UnknownNameError("shipped model", name, RECIPES)
    return importlib.import_module(f"{__name__}.{RECIPES[name]}")


def train(name: str, preset: str = "cpu", out: str | Path | None = None, seed: int = 0) -> Path:
    """Train a shipped model again.

    Args:
        name: one of `RECIPES`.
        preset: 'ci' (a smoke run, a useless model), 'cpu', 'gpu' or 'auto'.
        out: folder to fill, new or empty; `models/<name>` in the current folder by default.
        seed: of the weights and the order of the data.

    Returns:
        The folder, which `pretrained` reads.

    Raises:
        UnknownNameError: name or preset.
        WorkbenchError: the folder has files in it, so that a trained model is never overwritten by mistake.
    """
    module = recipe(name)
    size = resolve_preset(preset).name
    folder = Path(out) if out is not None else Path("models") / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WorkbenchError(f"{folder} is not an empty folder; choose another one with --out")
    folder.mkdir(parents=True, exist_ok=True)
    named = {"name": name} if "name" in inspect.signature(module.train).parameters else {}
    module.train(size, folder, seed, **named)
    return folder


__all__ = ["RECIPES", "recipe", "train"]
