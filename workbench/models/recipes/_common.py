"""What the training recipes share: sizes by preset, packed token batches, baselines by counting, and the folder that is shipped.

A recipe is a module with `train(preset, out, seed)` and `evaluate(folder, device)`. The metrics of its card are what `evaluate`
says about the folder as stored (fp16 weights), never about the model in memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.files import CHECKSUMS, data_dir
from workbench.models.recipes._picture import draw_curve
from workbench.runtime import resolve_preset, seed_everything
from workbench.training import History

WEIGHTS = "model.safetensors"
METRICS = "metrics.json"
CARD = "card.md"


@dataclass(frozen=True)
class Start:
    """What every recipe settles first: the preset, the folder to write, the device and the precision of a step."""

    preset: str
    folder: Path
    seed: int
    device: torch.device
    precision: str

    def pick(self, *, ci: Any, cpu: Any, gpu: Any) -> Any:
        """The size for this preset."""
        return resolve_preset(self.preset).pick(ci=ci, cpu=cpu, gpu=gpu)


def start(name: str, preset: str, out: Path | str | None, seed: int, *, half: bool = True) -> Start:
    """Seed everything; by default `data/models/<name>` is written, on CUDA only for the preset 'gpu'.

    `half` allows bfloat16 steps, where the machine multiplies bfloat16 in hardware: twice as fast for wide layers.
    """
    preset = resolve_preset(preset).name
    seed_everything(seed)
    device = torch.device("cuda" if preset == "gpu" and torch.cuda.is_available() else "cpu")
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bf16()
    folder = Path(out) if out is not None else data_dir() / "models" / name
    return Start(preset, folder, seed, device, "bf16" if half and fast else "fp32")


def _cpu_multiplies_bf16() -> bool:
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(known and known())


# ---- token batches -----------------------------------------------------------------------------------------------------------


def whole(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of whole texts without special ones: a tokenizer keeps the cutting and padding of its last call, so both are taken off."""
    inner = tokenizer.backend_tokenizer
    inner.no_truncation()
    inner.no_padding()
    return [found.ids for found in inner.encode_batch(list(texts), add_special_tokens=False)]


def chunks(encoded: Sequence[Sequence[int]], length: int, first: int, last: int) -> list[list[int]]:
    """Each document in pieces of at most `length` ids, between the ids `first` and `last`; pieces of one id are left out."""
    room = length - 2
    pieces = [ids[at : at + room] for ids in encoded for at in range(0, len(ids), room)]
    return [[first, *piece, last] for piece in pieces if len(piece) > 1]


def pad(rows: Sequence[Sequence[int]], value: int = 0, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Ids (n, t) padded with `value` to the longest row (t a multiple of `multiple`), and their mask (n, t), both int64."""
    longest = -(-max(len(row) for row in rows) // multiple) * multiple
    ids = torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def packed(rows: Sequence[Sequence[int]], tokens: int, seed: int, value: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless random batches of about `tokens` ids each, of rows of similar length, so that little of a step goes to padding."""
    generator = np.random.default_rng(seed)
    lengths = np.array([len(row) for row in rows])
    while True:
        # Noise on the length makes other neighbours in each epoch.
        order = np.argsort(lengths + generator.uniform(-4, 4, len(rows)), kind="stable")
        groups, at = [], 0
        while at < len(order):
            # Few different shapes: libraries keep buffers for each shape that they meet.
            n = max(1, tokens // (-(-int(lengths[order[at]]) // 8) * 8))
            groups.append(order[at : at + n])
            at += n
        for g in generator.permutation(len(groups)):
            yield pad([rows[i] for i in groups[g]], value, multiple=8)


# ---- baselines by counting ---------------------------------------------------------------------------------------------------


class NGrams:
    r"""Unigram and interpolated bigram model of token ids, the baselines of every language model here.

    .. math:: p(b) = \frac{c(b)+1}{N+V},\qquad p(b\mid a) = \frac{c(a,b) + k\,p(b)}{c(a) + k}

    Args:
        rows: training sequences.
        vocabulary: number V of ids.
        weight: k, chosen on validation text by `fit_weight`.
    """

    def __init__(self, rows: Sequence[Sequence[int]], vocabulary: int, weight: float = 50.0):
        flat = np.concatenate([np.asarray(row[1:], dtype=np.int64) for row in rows])
        counts = np.bincount(flat, minlength=vocabulary)
        self.vocabulary, self.weight = vocabulary, weight
        self.unigram = (counts + 1) / (counts.sum() + vocabulary)
        pairs = np.concatenate([np.asarray(row[:-1], dtype=np.int64) * vocabulary + np.asarray(row[1:]) for row in rows])
        self.pairs, self.counts = np.unique(pairs, return_counts=True)
        self.firsts = np.bincount(pairs // vocabulary, minlength=vocabulary)

    def log_probs(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Natural logarithms of p(after) and of p(after | before)."""
        keys = before.astype(np.int64) * self.vocabulary + after
        at = np.searchsorted(self.pairs, keys).clip(max=len(self.pairs) - 1)
        together = np.where(self.pairs[at] == keys, self.counts[at], 0)
        single = self.unigram[after]
        return np.log(single), np.log((together + self.weight * single) / (self.firsts[before] + self.weight))

    def fit_weight(self, rows: Sequence[Sequence[int]], weights: Sequence[float] = (3, 10, 30, 100, 300, 1000)) -> NGrams:
        """Take the weight under which these rows (of the validation split) are most probable."""
        before = np.concatenate([np.asarray(row[:-1]) for row in rows])
        after = np.concatenate([np.asarray(row[1:]) for row in rows])

        def mean(weight: float) -> float:
            self.weight = weight
            return float(self.log_probs(before, after)[1].mean())

        self.weight = max(weights, key=mean)
        return self


# ---- retrieval and correlation -----------------------------------------------------------------------------------------------


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarities of all rows of `a` (n, d) with all rows of `b` (m, d), (n, m)."""
    return nn.functional.normalize(a, dim=1) @ nn.functional.normalize(b, dim=1).T


def due(step: int, steps: int, times: int = 8) -> bool:
    """Whether to measure on validation data after this step: `times` times in a run, and once in a smoke run."""
    return step == steps or (steps >= times and step % (steps // times) == 0)


# ---- the folder --------------------------------------------------------------------------------------------------------------


def curve(losses: Sequence[float], points: int = 60) -> list[list[float]]:
    """Means of the training loss over equal stretches: [[last step of the stretch, mean loss], ...]."""
    parts = np.array_split(np.asarray(losses), min(points, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    return [[int(end), round(float(part.mean()), 4)] for end, part in zip(ends, parts, strict=True)]


def store(folder: Path, model: Any, *parts: Any) -> None:
    """Write weights as fp16 safetensors, and tokenizer and image processor beside them, as transformers' `save_pretrained` does.

    The configuration keeps float32, so that `from_pretrained` computes in float32 from the stored halves.
    """
    if folder.exists():
        for name in (WEIGHTS, METRICS, CARD, CHECKSUMS, "config.json", "generation_config.json", "tokenizer.json", "curve.svg"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    model.to("cpu").half().save_pretrained(folder, safe_serialization=True)
    model.float()
    config = json.loads((folder / "config.json").read_text())
    _set_dtype(config)
    _write_json(folder / "config.json", config)
    for part in parts:
        if inner := getattr(part, "backend_tokenizer", None):
            inner.no_truncation()  # settings of the last call would be stored
            inner.no_padding()
        part.save_pretrained(folder)


def finish(
    at: Start,
    name: str,
    *,
    kind: str,
    what: str,
    licence: str,
    source: Sequence[str],
    history: Sequence[History],
    evaluate: Callable[[Path], Mapping[str, float]],
    headline: Sequence[str],
    baselines: Mapping[str, float],
    card: Callable[[dict[str, Any]], str],
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Evaluate the stored folder, write metrics, card and checksums, and return the folder."""
    measured = {key: rounded(value) for key, value in evaluate(at.folder).items()}
    losses = [loss for part in history for loss in part.losses]
    stored: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "what": what,
        "seed": at.seed,
        "preset": at.preset,
        "command": f"workbench models train {name} --preset {at.preset}",
        "precision": at.precision,
        "steps": len(losses),
        "seconds": round(sum(part.seconds for part in history), 1),
        "parameters": parameters(at.folder),
        "bytes": (at.folder / WEIGHTS).stat().st_size,
        "licence": licence,
        "source": list(source),
        "headline": {key: measured[key] for key in headline},
        "metrics": measured,
        "baselines": {key: rounded(value) for key, value in baselines.items()},
        "curve": curve(losses),
        **(extra or {}),
    }
    _write_json(at.folder / METRICS, stored)
    if not (at.folder / "curve.svg").exists():
        draw_curve(at.folder / "curve.svg", stored["curve"], f"{name}: training loss")
    front = {key: stored[key] for key in ("name", "kind", "licence", "parameters", "bytes", "seed", "preset", "steps", "seconds")}
    text = card(stored).strip()
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())
    (at.folder / CARD).write_text(f"---\n{lines}---\n\n{text}\n", encoding="utf8", newline="\n")
    shutil.rmtree(at.folder / ".cache", ignore_errors=True)
    write_sums(at.folder)
    return at.folder


def write_sums(folder: Path) -> None:
    """Record the SHA-256 of every stored file but the card, as `sha256sum` writes it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (CHECKSUMS, CARD))
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / CHECKSUMS).write_text("".join(lines), newline="\n")


def parameters(folder: Path) -> int:
    """Number of stored weights (tied ones once)."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        return sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys())  # noqa: SIM118


def rounded(value: float) -> float:
    """A number as a card shows it: four significant digits."""
    return float(f"{float(value):.4g}")


def table(measured: Mapping[str, float], baselines: Mapping[str, float], rows: Mapping[str, tuple[str, Sequence[str]]]) -> str:
    """A markdown table: metric key -> (what it is, keys of the baselines beside it)."""
    lines = ["| what | this model | to compare with |", "| --- | --- | --- |"]
    for key, (what, beside) in rows.items():
        others = "; ".join(f"{name.split(': ')[0]} {baselines[name]:g}" for name in beside)
        lines.append(f"| {what} | {measured[key]:g} | {others or '-'} |")
    return "\n".join(lines)


def _set_dtype(config: dict[str, Any]) -> None:
    for key, value in config.items():
        if isinstance(value, dict):
            _set_dtype(value)
        elif key in ("dtype", "torch_dtype") and value is not None:
            config[key] = "float32"


def _write_json(path: Path, value: Any) -> None:
    path.write_text(
        json.dumps(value, indent=1, ensure_ascii=False, sort_keys=path.name == "config.json") + "\n",
        encoding="utf8",
        newline="\n",
    )
