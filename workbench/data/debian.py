"""Debian package descriptions: built on your machine from your distribution's own lists, never part of the repository."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.data.build import cache_dir
from workbench.data.dataset import Dataset
from workbench.data.files import require_split
from workbench.data.texts import codes, lists
from workbench.errors import DataError, UnknownNameError
from workbench.runtime import resolve_device

LANGUAGES = ("da", "de", "es", "fr", "it", "ja", "ko", "pl", "pt_BR", "ru", "sk", "uk")


def load_debian(split: str = "train", *, language: str | None = None, device: str | torch.device = "cpu") -> Dataset:
    """Packages with a one-line and a long description; for the `cpu` and `gpu` presets, once the set was built.

    The descriptions stand under the many licences of their packages, so they are not embedded: `python data/debian/build.py` (or
    `workbench data build debian`) makes the table in the cache folder. What it holds depends on your release and day.

    Args:
        split: 'train' (70 %), 'val' (10 %), 'test' (20 %) or 'all', by source package and equal synopses.
        language: keep packages translated into this language and give the translation as the partner; None pairs the English
            synopsis with its long description.
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        captions: one-line descriptions in English; `extras["partner"]`: long descriptions, or one-line translations; labels:
        sections; factors concept (row); extras name, source, maintainer, tags (lists of debtags) and depends (lists of package names).

    Raises:
        UnknownNameError: split or language.
        DataError: the table was not built.
    """
    require_split(split, "debian split")
    if language is not None and language not in LANGUAGES:
        raise UnknownNameError("language", language, LANGUAGES)
    folder = cache_dir() / "debian"
    if not (folder / "packages.parquet").is_file():
        raise DataError(
            f"the debian set was not built: {folder / 'packages.parquet'} is missing; run `python data/debian/build.py` (needs apt, one minute)"
        )
    c = _table(str(folder), "packages.parquet")
    rows = np.flatnonzero((c["split"] == split) | (split == "all"))
    if language is None:
        partner = c["description"][rows].tolist()
    else:
        t = _table(str(folder), "translations.parquet")
        mine = t["language"] == language
        found = dict(zip(t["name"][mine].tolist(), t["synopsis"][mine].tolist(), strict=True))
        rows = rows[[name in found for name in c["name"][rows].tolist()]]
        partner = [found[name] for name in c["name"][rows].tolist()]
    sections = sorted(set(c["section"].tolist()))
    extras: dict[str, Any] = {"partner": partner} | {k: c[k][rows].tolist() for k in ("name", "source", "maintainer")}
    extras |= {"tags": lists(c["tags"][rows]), "depends": lists(c["depends"][rows])}
    labels = codes(c["section"][rows], sections)
    factors = {"concept": torch.from_numpy(rows)}
    data = Dataset("debian", split, None, labels, sections, c["synopsis"][rows].tolist(), factors, extras=extras)
    return data.to(resolve_device(device))


@lru_cache(maxsize=4)
def _table(folder: str, file: str) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(Path(folder) / file, use_threads=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{Path(folder) / file} cannot be read ({error}); build the set again with `python data/debian/build.py`"
        ) from None
    columns = {}
    for name in table.schema.names:
        values = table[name].to_pylist()
        columns[name] = np.empty(len(values), dtype=object)
        columns[name][:] = values
    return columns
