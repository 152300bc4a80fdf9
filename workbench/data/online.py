"""Larger public sets by name, through Hugging Face `datasets` (extra `online`); nothing here runs unless it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.data.dataset import Dataset
from workbench.data.files import require_background, require_size
from workbench.data.own import _captions, _decode, _objects
from workbench.errors import DataError, UnknownNameError
from workbench.runtime import resolve_device


@dataclass(frozen=True)
class Source:
    """Where a public set lies on the hub, and which of its columns mean what."""

    repository: str
    kind: str  # images, captions, pairs or retrieval
    splits: tuple[str, ...]
    image: str = ""
    label: str = ""
    coarse: str = ""
    captions: tuple[str, ...] = ()  # one column of lists, or several columns of texts
    licence: str = ""


FLICKR8K = tuple(f"caption_{i}" for i in range(5))
# Only repositories of plain tables: code from a repository is never run.
SETS = {
    "cifar10": Source("uoft-cs/cifar10", "images", ("train", "test"), "img", "label", licence="unknown"),
    "cifar100": Source("uoft-cs/cifar100", "images", ("train", "test"), "img", "fine_label", "coarse_label", licence="unknown"),
    "stl10": Source("tanganke/stl10", "images", ("train", "test"), "image", "label", licence="unknown"),
    "flickr8k": Source(
        "jxie/flickr8k", "captions", ("train", "validation", "test"), "image", captions=FLICKR8K, licence="research"
    ),
    "flickr30k": Source("lmms-lab/flickr30k", "captions", ("test",), "image", captions=("caption",), licence="research"),
    "coco": Source("lmms-lab/COCO-Caption2017", "captions", ("val",), "image", captions=("answer",), licence="CC-BY-4.0 (texts)"),
    "stsb": Source("sentence-transformers/stsb", "pairs", ("train", "validation", "test"), licence="various"),
    "scifact": Source("mteb/scifact", "retrieval", ("train", "test", "corpus"), licence="CC-BY-SA-4.0"),
    "nfcorpus": Source("mteb/nfcorpus", "retrieval", ("train", "dev", "test", "corpus"), licence="academic use"),
    "fiqa": Source("mteb/fiqa", "retrieval", ("train", "dev", "test", "corpus"), licence="academic use"),
}


def load_online(
    name: str,
    split: str = "train",
    *,
    limit: int | None = None,
    size: int = 32,
    background: Sequence[float] | None = (1.0, 1.0, 1.0),
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> Dataset:
    """A public set by name, fetched once into the cache of Hugging Face and read from there afterwards.

    Needs `pip install "contrastive-workbench[online]"`, and the network at the first call. The sets keep the terms of their
    authors (`SETS[name].licence` is a hint, not advice).

    Args:
        name: one of `SETS`: cifar10, cifar100, stl10 (pictures with classes); flickr8k, flickr30k, coco (pictures with
            captions); stsb (sentence pairs with a similarity); scifact, nfcorpus, fiqa (queries and documents, from BEIR).
        split: one that the set has, `SETS[name].splits`; for retrieval sets also 'corpus'.
        limit: at most this many rows, the first ones.
        size: side of the pictures in pixels; they keep their proportions and are centred.
        background: colour around pictures; None gives 4 channels, premultiplied RGBA.
        folder: a local copy of the repository to read instead of the hub.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        - pictures with classes: images, labels; factor coarse for cifar100;
        - pictures with captions: images, captions (the first of each), extras captions (all, a list for each row);
        - stsb: captions (first sentence), extras second, factor score, 0 (unrelated) to 1 (equivalent);
        - retrieval: one row for each relevant pair: captions (query), extras document (text), factors query and document
          (row in the corpus) and relevance; 'corpus' gives all documents as captions, factor document.

    Raises:
        UnknownNameError: name or split.
        TypeError, ValueError: limit, size or background.
        DataError: `datasets` is not installed, the set cannot be fetched, or a column is missing or damaged.
    """
    if name not in SETS:
        raise UnknownNameError("online set", name, SETS)
    source = SETS[name]
    if split not in source.splits:
        raise UnknownNameError(f"split of {name}", split, source.splits)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise TypeError(f"limit must be None or a positive integer, got {limit!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be None or a positive integer, got {limit}")
    size, background, place = require_size(size, largest=512), require_background(background), resolve_device(device)
    where = f"{source.repository if folder is None else folder}, split {split}"
    if source.kind == "retrieval":
        return _retrieval(name, source, split, limit, folder).to(place)

    table = _open(source, None, split, folder)
    if limit is not None:
        table = table.select(range(min(limit, len(table))))
    rows = np.arange(len(table))
    if source.kind == "pairs":
        score = torch.tensor([float(s) for s in _column(table, "score", where)], dtype=torch.float32)
        if not ((score >= 0) & (score <= 1)).all():
            raise DataError(f"{where}, column score: want numbers from 0 to 1, got {score.min():g} to {score.max():g}")
        first, second = (_captions(_objects(_column(table, c, where)), rows, where) for c in ("sentence1", "sentence2"))
        return Dataset(name, split, captions=first, factors={"score": score}, extras={"second": second}).to(place)

    from datasets import Image

    _require_column(table, source.image, where)
    encoded = table.cast_column(source.image, Image(decode=False))[source.image]
    images = _decode(_objects([e["bytes"] for e in encoded]), rows, size, background, where)
    if source.kind == "images":
        labels, names = _classes(table, source.label, where)
        coarse, coarse_names = _classes(table, source.coarse, where) if source.coarse else (None, [])
        factors = {} if coarse is None else {"coarse": coarse}
        factor_names = {} if coarse is None else {"coarse": coarse_names}
        return Dataset(name, split, images, labels, names, (), factors, factor_names).to(place)
    texts = [_column(table, c, where) for c in source.captions]
    lists = [list(t) for t in texts[0]] if len(texts) == 1 else [list(t) for t in zip(*texts, strict=True)]
    for row, captions in enumerate(lists):
        if not captions or not all(isinstance(c, str) and c.strip() for c in captions):
            raise DataError(f"{where}, row {row}, column {source.captions[0]}: want texts, got {captions!r:.80}")
    return Dataset(name, split, images, captions=[c[0] for c in lists], extras={"captions": lists}).to(place)


def _open(source: Source, config: str | None, split: str, folder: str | Path | None) -> Any:
    """One table of a repository, on the hub or in a folder; whatever goes wrong is one sentence."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            'online sets need the package datasets; install it with `pip install "contrastive-workbench[online]"`'
        ) from None
    origin = source.repository if folder is None else str(folder)
    if folder is not None and not Path(folder).is_dir():
        raise DataError(f"no folder {folder}; give a local copy of {source.repository}, or leave folder out")
    try:
        return datasets.load_dataset(origin, config, split=split)
    # The hub, the network and the reader each raise errors of their own; the user needs the reason in one line.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        remedy = "check the network connection, or name a local copy with folder=" if folder is None else "check the local copy"
        raise DataError(f"cannot load {origin} (split {split}): {reason}; {remedy}") from None


def _require_column(table: Any, name: str, where: str) -> None:
    if name not in table.column_names:
        raise DataError(f"{where}: no column {name!r}, it has {', '.join(table.column_names)}")


def _column(table: Any, name: str, where: str) -> list[Any]:
    _require_column(table, name, where)
    return list(table[name])


def _classes(table: Any, name: str, where: str) -> tuple[torch.Tensor, list[str]]:
    codes = torch.tensor(_column(table, name, where), dtype=torch.int64)
    names = list(getattr(table.features[name], "names", None) or [str(i) for i in range(int(codes.max()) + 1)])
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < len(names):
        raise DataError(
            f"{where}, column {name}: want codes from 0 to {len(names) - 1}, got {int(codes.min())} to {int(codes.max())}"
        )
    return codes, names


def _retrieval(name: str, source: Source, split: str, limit: int | None, folder: str | Path | None) -> Dataset:
    """Relevant pairs of a BEIR set, or its corpus."""
    where = source.repository if folder is None else str(folder)
    corpus = _open(source, "corpus", "corpus", folder)
    titles, bodies = (_column(corpus, c, f"{where}, corpus") for c in ("title", "text"))
    documents = [f"{title}. {body}" if title else body for title, body in zip(titles, bodies, strict=True)]
    if split == "corpus":
        documents = documents[:limit]
        return Dataset(name, split, captions=documents, factors={"document": torch.arange(len(documents))})
    queries = _open(source, "queries", "queries", folder)
    judged = _open(source, "default", split, folder)
    at = {str(d): i for i, d in enumerate(_column(corpus, "_id", f"{where}, corpus"))}
    texts = dict(zip(map(str, _column(queries, "_id", where)), _column(queries, "text", where), strict=True))
    code = {q: i for i, q in enumerate(texts)}
    pairs = [
        (str(q), str(d), float(s))
        for q, d, s in zip(*(_column(judged, c, f"{where}, {split}") for c in ("query-id", "corpus-id", "score")), strict=True)
        if float(s) > 0
    ][:limit]
    for q, d, _ in pairs:
        if q not in texts or d not in at:
            raise DataError(f"{where}, {split}: {'query ' + q if q not in texts else 'document ' + d} is judged but not stored")
    factors = {
        "query": torch.tensor([code[q] for q, _, _ in pairs], dtype=torch.int64),
        "document": torch.tensor([at[d] for _, d, _ in pairs], dtype=torch.int64),
        "relevance": torch.tensor([s for _, _, s in pairs], dtype=torch.float32),
    }
    extras = {"document": [documents[at[d]] for _, d, _ in pairs]}
    return Dataset(name, split, captions=[texts[q] for q, _, _ in pairs], factors=factors, extras=extras)
