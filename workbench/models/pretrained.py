"""Pretrained models behind one name: ours from `data/models`, those inside installed packages, and any folder or hub name."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workbench.data.files import CHECKSUMS, checksums, data_dir
from workbench.errors import DataError, UnknownNameError, WorkbenchError
from workbench.models import packaged as carriers
from workbench.models.hub import from_hub, open_folder, quiet
from workbench.models.images import ImagePreparation
from workbench.models.packaged import PACKAGED
from workbench.models.recipes import RECIPES
from workbench.models.wrappers import Pretrained
from workbench.models.wrappers_media import PretrainedImageEncoder
from workbench.runtime import resolve_device

METRICS = "metrics.json"
SIDE = 112  # of pictures for packaged image encoders: what the caches hold, a quarter of the price of 224
DINO_LAYER = 11  # the last block was tuned for saliency and is worse at everything else


def pretrained(name: str | Path, device: str | torch.device = "auto", dtype: torch.dtype | None = None) -> Pretrained:
    """A pretrained model, whatever it comes from, as one kind of object.

    Args:
        name: a model of this project (`workbench models list`), packaged weights such as 'minilm', a folder that
            `save_pretrained` wrote, or a name of the Hugging Face hub such as 'openai/clip-vit-base-patch32'. A path with a
            slash at its beginning, `./` or `~` is always a folder.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        dtype: precision of the weights, float32 by default, also where they are stored in 16 bits.

    Returns:
        `Pretrained`, in evaluation mode: model, tokenizer, card, and `embed_images`, `embed_texts`, `log_probs`, `generate`,
        `caption` as far as its kind has them.

    Raises:
        UnknownNameError: a name close to one of ours that is none.
        WorkbenchError: a package is not installed, a name the hub does not have, or no network; the message says what to do.
        DataError: a folder that is no model, is damaged, or holds pickles only.
    """
    if not isinstance(name, (str, os.PathLike)) or not str(name):
        raise TypeError(f"name must be a name or a folder, got {type(name).__name__} {name!r}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating point torch dtype, got {dtype!r}")
    place, precision = resolve_device(device), dtype or torch.float32
    text = str(name)
    if isinstance(name, str) and text in RECIPES:
        return _shipped(text, place, precision)
    if isinstance(name, str) and text in PACKAGED:
        return _packaged(text, place, precision)
    path = Path(name).expanduser()
    if not isinstance(name, str) or path.exists() or text.startswith((".", "/", "~", os.sep)):
        return open_folder(path, name=text, device=place, dtype=precision)
    known = [*RECIPES, *PACKAGED]
    if "/" not in text and difflib.get_close_matches(text, known, n=1, cutoff=0.75):
        raise UnknownNameError("pretrained model", text, known)
    try:
        folder = from_hub(text)
    except WorkbenchError as error:
        if "/" in text:
            raise
        raise WorkbenchError(f"{error}; models of the workbench: {', '.join(known)}") from None
    return open_folder(folder, name=text, device=place, dtype=precision)


def list_models() -> list[dict[str, Any]]:
    """One row for each model of this project and each packaged one, whether it is there or not.

    Returns:
        Rows with name, kind, what, parameters, bytes, source ('this project' or the package), licence, headline (metric -> value),
        available, and remedy: the command that brings what is missing, None for the rest.
    """
    rows = []
    for name in RECIPES:
        row: dict[str, Any] = {"name": name, "kind": None, "what": None, "parameters": None, "bytes": None}
        row |= {"source": "this project", "licence": None, "headline": {}, "available": False, "remedy": _train(name)}
        folder = model_folder(name)
        if (folder / METRICS).is_file():
            card = read_metrics(folder)
            row |= {key: card.get(key) for key in ("kind", "what", "licence", "headline", "parameters")}
            row["bytes"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            row["parameters"] = row["parameters"] or _count(folder)
            row["available"] = damaged(name) is None
            row["remedy"] = None if row["available"] else f"git checkout -- data/models/{name}"
        rows.append(row)
    for name, record in PACKAGED.items():
        remedy = carriers.remedy(name)
        row = {"name": name, **{key: getattr(record, key) for key in ("kind", "what", "parameters", "bytes")}}
        row |= {"source": f"package {record.requirement}", "licence": record.licence, "headline": {}}
        rows.append(row | {"available": remedy is None, "remedy": remedy})
    return rows


def model_folder(name: str) -> Path:
    """Where the shipped model of this name lies, or would."""
    return data_dir() / "models" / name


def read_metrics(folder: Path) -> dict[str, Any]:
    """The `metrics.json` of a trained folder.

    Raises:
        DataError: it is missing or not JSON.
    """
    try:
        card = json.loads((folder / METRICS).read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / METRICS} cannot be read ({error}); bring it back with git checkout") from None
    return dict(card)


def damaged(name: str) -> str | None:
    """What is wrong with the files of a shipped model, or None: every file in its SHA256SUMS is compared."""
    folder = model_folder(name)
    try:
        for file, digest in checksums(f"models/{name}").items():
            state = (folder / file).stat()
            if carriers._digest(str(folder / file), state.st_size, state.st_mtime_ns) != digest:
                return f"{folder / file} differs from {CHECKSUMS}"
    except (DataError, OSError) as error:
        return str(error)
    return None


def _shipped(name: str, device: torch.device, dtype: torch.dtype) -> Pretrained:
    folder = model_folder(name)
    if not folder.is_dir():
        raise DataError(f"{name!r} is not in {folder.parent}; train it with: {_train(name)} --out {folder}")
    if problem := damaged(name):
        raise DataError(f"{problem}; bring it back with git checkout -- data/models/{name}, or train it: {_train(name)}")
    card = read_metrics(folder)
    loaded = open_folder(folder, name=name, device=device, dtype=dtype)
    loaded.card = {**loaded.card, **card, "source": "this project", "data": card.get("source")}
    return loaded


def _packaged(name: str, device: torch.device, dtype: torch.dtype) -> Pretrained:
    from workbench.models import conversions

    record = carriers.packaged(name)
    card: Mapping[str, Any] = {k: getattr(record, k) for k in ("kind", "what", "parameters", "bytes", "licence", "source")}
    if name == "efficientnet-lite0":
        from workbench.models.efficientnet import from_reference

        weights = torch.load(carriers.weights_file(name), map_location="cpu", weights_only=True)
        model = from_reference(weights).to(device, dtype)
        return PretrainedImageEncoder(name, record.kind, model, None, card, ImagePreparation((SIDE, SIDE)))
    convert = {"dinov2-s": conversions.dinov2, "smollm2-135m": conversions.smollm2, "whisper-tiny-en": conversions.whisper}
    if name not in convert:
        loaded = open_folder(carriers.weights_file(name).parent, name=name, device=device, dtype=dtype)
    else:
        with quiet():
            folder = carriers.converted(name, convert[name])
        loaded = open_folder(folder, name=name, device=device, dtype=dtype)
    if isinstance(loaded, PretrainedImageEncoder):
        loaded.layer, loaded.prepare = DINO_LAYER, ImagePreparation((SIDE, SIDE))
    loaded.kind, loaded.card = record.kind, {**loaded.card, **card}
    return loaded


def _train(name: str) -> str:
    return f"workbench models train {name} --preset cpu"


def _count(folder: Path) -> int | None:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return sum(int(torch.Size(file.get_slice(key).get_shape()).numel()) for key in file.keys())  # noqa: SIM118
