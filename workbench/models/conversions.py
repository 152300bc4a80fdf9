"""Packaged weights in foreign formats (ONNX, GGUF, CTranslate2) as folders that `from_pretrained` reads."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import DataError


def dinov2(weights: Path, folder: Path) -> None:
    """`Dinov2Model` from the backbone of an ONNX graph whose weights kept their names."""
    import onnx
    from onnx import numpy_helper
    from transformers import Dinov2Config, Dinov2Model

    graph = onnx.load(str(weights)).graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    state = {name[9:]: torch.tensor(value) for name, value in stored.items() if name.startswith("backbone.")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone/"):
            # The export transposes the weights of linear layers and drops their names; the node keeps the path of the layer.
            for name in (n for n in node.input if n in stored):
                state[node.name[10:-7].replace("/", ".") + ".weight"] = torch.tensor(stored[name].T.copy())
    # Class token and patches got their position embeddings by two nodes.
    parts = [stored["onnx::Concat_1957"].reshape(1, 1, 384), stored["onnx::Reshape_1962"].reshape(1, -1, 384)]
    state["embeddings.position_embeddings"] = torch.tensor(np.concatenate(parts, axis=1))
    state["embeddings.mask_token"] = torch.zeros(1, 384)
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14)
    # from_pretrained renames keys of older versions of the architecture, load_state_dict does not.
    loader: Any = Dinov2Model
    model, info = loader.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    _require_complete(weights, info["missing_keys"], info["unexpected_keys"])
    model.save_pretrained(folder)


def smollm2(weights: Path, folder: Path) -> None:
    """`LlamaForCausalLM` in fp16 from 4-bit GGUF weights, with its tokenizer."""
    from gguf import GGUFReader, dequantize
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    source: dict[str, Any] = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    config = AutoConfig.from_pretrained(**source)
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    parts = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        **{f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"},
        "attn_output": "self_attn.o_proj",
        **{f"ffn_{x}": f"mlp.{x}_proj" for x in ("gate", "up", "down")},
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = {}
    for tensor in GGUFReader(str(weights)).tensors:
        value = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))
        own, _, part = tensor.name.removesuffix(".weight").partition(".")
        if own == "blk":
            layer, _, part = part.partition(".")
            if part in heads:  # GGUF pairs neighbouring rows for the rotation, transformers the two halves
                value = value.view(heads[part], -1, 2, value.shape[1]).transpose(1, 2).reshape(value.shape)
            state[f"model.layers.{layer}.{parts[part]}.weight"] = value
        else:
            state[f"{names[own]}.weight"] = value
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    _require_complete(weights, [m for m in missing if m != "lm_head.weight"], unexpected)
    model.half().save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def whisper(weights: Path, folder: Path) -> None:
    """`WhisperForConditionalGeneration` in fp16 from CTranslate2's file, with tokenizer and feature extractor."""
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    stored = _read_ctranslate2(weights)
    state: dict[str, Tensor] = {}
    for name, value in stored.items():
        for key, part in _whisper_names(name, value):
            state[key] = part
    width, layers = 384, 4
    config = WhisperConfig(
        vocab_size=51864,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        pad_token_id=50256,
        bos_token_id=50257,
        eos_token_id=50256,
        decoder_start_token_id=50257,
    )
    model = WhisperForConditionalGeneration(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    _require_complete(weights, [m for m in missing if m != "proj_out.weight"], unexpected)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=50257,
        eos_token_id=50256,
        pad_token_id=50256,
        bos_token_id=50257,
        begin_suppress_tokens=[220, 50256],  # a transcript begins neither with a space nor with its end
        max_length=448,
    )
    model.half().save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(weights.parent / "tokenizer.json"), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)


def _read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Variables of CTranslate2's binary format: little endian, names ended by zero, fp32 (type 0) or fp16 (type 4)."""
    content = memoryview(path.read_bytes())
    at = 0

    def number(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, content, at)
        at += struct.calcsize(code)
        return value

    def text() -> str:
        nonlocal at
        length = number("H")
        at += length
        return bytes(content[at - length : at - 1]).decode()

    number("I"), text(), number("I")  # version of the format, name of the architecture, its revision
    variables: dict[str, Tensor] = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        types = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
        variables[name] = torch.from_numpy(np.frombuffer(content[at : at + size], dtype=types[kind]).reshape(shape).copy())
        at += size
    return variables


def _whisper_names(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """Where a CTranslate2 variable goes in transformers; stacked projections are split."""
    if value.ndim == 0 or name.startswith("decoder/projection"):
        return []  # flags, and the projection that is tied to the embeddings
    side, _, rest = name.partition("/")
    kinds = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias", "encodings": "weight"}
    *path, leaf = rest.split("/")
    kind, value = kinds[leaf], value.float()
    simple: dict[tuple[str, ...], str] = {
        ("conv1",): "conv1",
        ("conv2",): "conv2",
        ("position_encodings",): "embed_positions",
        ("embeddings",): "embed_tokens",
        ("layer_norm",): "layer_norm",
    }
    if tuple(path) in simple:
        return [(f"model.{side}.{simple[tuple(path)]}.{kind}", value)]
    prefix = f"model.{side}.layers.{path[0].removeprefix('layer_')}"
    block, layer = path[1], path[2]
    if block == "ffn":
        target = {"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}[layer]
        return [(f"{prefix}.{target}.{kind}", value)]
    own = {"self_attention": "self_attn", "attention": "encoder_attn"}[block]
    if layer == "layer_norm":
        return [(f"{prefix}.{own}_layer_norm.{kind}", value)]
    stacked = {
        ("self_attn", "linear_0"): "qkv",
        ("self_attn", "linear_1"): "o",
        ("encoder_attn", "linear_0"): "q",
        ("encoder_attn", "linear_1"): "kv",
        ("encoder_attn", "linear_2"): "o",
    }[own, layer]
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
    found = [(f"{prefix}.{own}.{names[x]}.{kind}", part) for x, part in zip(stacked, value.chunk(len(stacked)), strict=True)]
    return [(key, part) for key, part in found if not key.endswith("k_proj.bias")]  # Whisper's keys have no bias; it is zero


def _require_complete(weights: Path, missing: Any, unexpected: Any) -> None:
    if missing or unexpected:
        raise DataError(
            f"{weights} does not fit its architecture: {len(list(missing))} weights missing ({sorted(missing)[:2]}), "
            f"{len(list(unexpected))} unexpected ({sorted(unexpected)[:2]}); install the pinned version of the package"
        )
