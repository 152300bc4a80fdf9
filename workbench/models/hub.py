"""Model folders as transformers writes them, on disk or from the Hugging Face hub: which kind, is it whole, is it safe."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from workbench.errors import DataError, WorkbenchError
from workbench.models.images import read_preparation
from workbench.models.wrappers import Pretrained, PretrainedDualEncoder, PretrainedLanguageModel, PretrainedSentenceEncoder
from workbench.models.wrappers_media import PretrainedBridge, PretrainedCaptioner, PretrainedImageEncoder, PretrainedSpeech

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
BRIDGE = "lit-bridge"
CAPTIONERS = ("vision-encoder-decoder", "blip", "git")
# Every architecture is named by transformers itself; nothing here is guessed from the name of a repository.
CLASSES = {
    "dual-encoder": ("AutoModel", PretrainedDualEncoder),
    "captioner": ("AutoModelForImageTextToText", PretrainedCaptioner),
    "language-model": ("AutoModelForCausalLM", PretrainedLanguageModel),
    "masked-language-model": ("AutoModelForMaskedLM", PretrainedSentenceEncoder),
    "sentence-encoder": ("AutoModel", PretrainedSentenceEncoder),
    "image-encoder": ("AutoModel", PretrainedImageEncoder),
    "speech": ("AutoModelForSpeechSeq2Seq", PretrainedSpeech),
}
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja", "1_Pooling/config.json"]
PADDING = 0.03  # a vocabulary may be this much larger than its tokenizer: rows added to reach a round number


def open_folder(
    folder: Path, *, name: str | None = None, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Pretrained:
    """Load a folder with `config.json`, safetensors and (where texts go in) a tokenizer.

    Raises:
        DataError: the folder or its configuration is missing or unreadable, weights are pickled, damaged or do not fit, or the
            tokenizer is missing or has another vocabulary than the model.
        WorkbenchError: an architecture that transformers does not have, or that cannot be used here.
    """
    name = name or str(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; give a folder that save_pretrained wrote, or a name of the hub")
    stored = _read_config(folder)
    _require_safetensors(folder)
    if stored.get("model_type") == BRIDGE:
        return _bridge(folder, stored, name, device, dtype)
    config = _config(folder, stored)
    kind = kind_of(config, folder)
    model = _model(folder, config, CLASSES[kind][0], dtype).to(device).eval()
    tokenizer = None if kind == "image-encoder" else _tokenizer(folder, model)
    prepare = read_preparation(folder, config) if kind in ("dual-encoder", "captioner", "image-encoder") else None
    card = {"kind": kind, "architecture": type(model).__name__, "source": name, "licence": "see its own card"}
    card["parameters"] = sum(p.numel() for p in model.parameters())
    return CLASSES[kind][1](name, kind, model, tokenizer, card, prepare, _pooling(folder))


def kind_of(config: Any, folder: Path | str = "") -> str:
    """Which kind of model a transformers configuration describes.

    Raises:
        WorkbenchError: none that the workbench can use.
    """
    architecture = (getattr(config, "architectures", None) or [""])[0]
    kind = str(config.model_type)
    if kind in CAPTIONERS and architecture.endswith(("ForConditionalGeneration", "EncoderDecoderModel", "ForCausalLM")):
        return "captioner"
    if hasattr(config, "text_config") and hasattr(config, "vision_config") and hasattr(config, "projection_dim"):
        return "dual-encoder"
    if kind in ("siglip", "siglip2"):
        return "dual-encoder"
    if kind == "whisper":
        return "speech"
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "language-model"
    if architecture.endswith("ForMaskedLM"):
        return "masked-language-model"
    if getattr(config, "vocab_size", None) and not getattr(config, "is_encoder_decoder", False):
        return "sentence-encoder"
    if hasattr(config, "num_channels") and (hasattr(config, "image_size") or hasattr(config, "hidden_sizes")):
        return "image-encoder"
    raise WorkbenchError(
        f"{folder or 'this configuration'} describes {architecture or kind!r}, which is none of: {', '.join(CLASSES)}"
    )


def from_hub(name: str) -> Path:
    """Download (or find in the local cache) the safe files of a model of the Hugging Face hub, never its pickles or code.

    Raises:
        WorkbenchError: the name does not exist or is closed, or the network is off and the cache does not hold it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if not HUB_NAME.fullmatch(name):
        raise WorkbenchError(f"{name!r} is neither a folder nor a name of the hub (organisation/model)")
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=["*/*.safetensors", "*.onnx*"]))
    except GatedRepoError:
        raise WorkbenchError(
            f"the hub gives {name!r} only to people who accepted its terms; accept them there and log in"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise WorkbenchError(f"the hub has no public model {name!r}; check the spelling (organisation/model)") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        off = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
        why = "the network is off (HF_HUB_OFFLINE)" if off else "the hub cannot be reached"
        raise WorkbenchError(
            f"{name!r} is not in the local cache of the hub and {why}; download it once with the network on, or give a folder"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars for loading weights out of notebooks and logs: our models load in a blink."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    level = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise DataError(f"{folder} has no config.json, so it is not a model folder; write one with model.save_pretrained(folder)")
    try:
        stored = json.loads(path.read_text(encoding="utf8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not readable JSON ({error}); write it again with model.save_pretrained(folder)") from None
    if not isinstance(stored, dict) or not stored.get("model_type"):
        raise DataError(
            f"{path} has no model_type, so nobody knows its architecture; write it with model.save_pretrained(folder)"
        )
    return stored


def _config(folder: Path, stored: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    if stored["model_type"] not in CONFIG_MAPPING:
        why = "it brings code of its own, which is never run here" if "auto_map" in stored else "transformers does not have it"
        raise WorkbenchError(f"{folder} has the architecture {stored['model_type']!r}, which cannot be loaded: {why}")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise DataError(f"{folder / 'config.json'} is not a configuration of {stored['model_type']!r}: {_first(error)}") from None


def _require_safetensors(folder: Path) -> None:
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        return
    pickled = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
    if pickled:
        raise DataError(
            f"{folder} holds its weights only as {pickled[0]}, a format that may run code when it is read; where you trust it, "
            "load it with transformers and save it again with save_pretrained, which writes safetensors"
        )
    raise DataError(f"{folder} has a config.json but no {WEIGHTS}; copy the weights there, or save the model again")


def _model(folder: Path, config: Any, auto: str, dtype: torch.dtype) -> Any:
    import transformers

    options = {"config": config, "dtype": dtype, "use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    loader: Any = transformers.VisionEncoderDecoderModel if config.model_type == CAPTIONERS[0] else getattr(transformers, auto)
    try:
        with quiet():
            model, found = loader.from_pretrained(folder, output_loading_info=True, **options)
    except Exception as error:
        raise DataError(f"{folder / WEIGHTS} does not fit config.json or is damaged: {_first(error)}") from None
    # A pooler that was never trained is often left out, and is not used here.
    missing = [key for key in found["missing_keys"] if "pooler" not in key]
    if missing:
        raise DataError(
            f"{folder / WEIGHTS} lacks {len(missing)} weights of {type(model).__name__} (first: {sorted(missing)[0]}), which "
            "would be random; use the weights that belong to config.json"
        )
    return model


def _tokenizer(folder: Path, model: Any) -> Any:
    from transformers import AutoTokenizer

    files = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
    if not any((folder / file).is_file() for file in files):
        raise DataError(f"{folder} has no tokenizer (tokenizer.json); save it there with tokenizer.save_pretrained(folder)")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise DataError(f"the tokenizer in {folder} cannot be read: {_first(error)}") from None
    rows = model.config.get_text_config(decoder=True).vocab_size if hasattr(model.config, "get_text_config") else 0
    if rows and not rows * (1 - PADDING) <= len(tokenizer) <= rows:
        raise DataError(
            f"the tokenizer in {folder} has {len(tokenizer):,} tokens, the model knows {rows:,}; use the tokenizer it was trained with"
        )
    if tokenizer.pad_token is None:
        # Padding is masked out, so any token serves; GPT-2 and Llama have none of their own.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.padding_side = "right"
    longest = _beside(folder / "sentence_bert_config.json").get("max_seq_length")
    if isinstance(longest, int) and longest > 0:  # sentence-transformers cuts there, often well below the model's positions
        tokenizer.model_max_length = min(longest, tokenizer.model_max_length)
    return tokenizer


def _pooling(folder: Path) -> str:
    """What sentence-transformers recorded; the mean of all tokens where nothing is said."""
    return "cls" if _beside(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token") else "mean"


def _beside(path: Path) -> dict[str, Any]:
    """What sentence-transformers recorded beside a model; nothing where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _bridge(folder: Path, stored: Mapping[str, Any], name: str, device: str | torch.device, dtype: torch.dtype) -> Pretrained:
    from safetensors.torch import load_file

    from workbench.models.bridge import build_bridge

    model = build_bridge(stored)
    try:
        model.load_state_dict({key: value.float() for key, value in load_file(folder / WEIGHTS).items()})
    except Exception as error:
        raise DataError(f"{folder / WEIGHTS} does not fit config.json or is damaged: {_first(error)}") from None
    loaded = PretrainedBridge(name, "bridge", model.to(device, dtype).eval())
    loaded.card = {"kind": "bridge", "source": name, "parameters": sum(p.numel() for p in model.parameters())}
    loaded.encoders = (str(stored["image_encoder"]), str(stored["text_encoder"]))
    return loaded


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
