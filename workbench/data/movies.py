"""Films with their directors, distributors, sources and genres: a small heterogeneous graph and a table with text and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from workbench.data.dataset import Dataset
from workbench.data.files import require_split
from workbench.data.texts import codes, columns_of, floats, integers, split_rows
from workbench.runtime import resolve_device

ENTITIES = ("director", "distributor", "source")  # the other kinds of node
NUMBERS = ("running_time", "budget", "gross_us", "gross", "tomatoes", "imdb", "votes")


def load_movies(
    split: str = "train", *, known_director: bool = False, genres: int | None = None, device: str | torch.device = "cpu"
) -> Dataset:
    """Films up to 2011 with genre labels and the nodes that link them.

    Args:
        split: 'train' (70 %), 'val' (10 %), 'test' (20 %) or 'all', by series of films. Graph methods that may see all nodes take
            'all' and use `factors["split"]` (0 train, 1 val, 2 test) for labels.
        known_director: keep only films whose director is known.
        genres: keep only films of this many most frequent genres (4: Drama, Comedy, Action, Adventure); None keeps all films,
            also those without a genre (label -1).
        device: where the tensors live, such as 'cpu' or 'auto'.

    Returns:
        captions: titles; labels: major genre by frequency, -1 where unknown; factors director, distributor, source, rating and
        creative_type (codes, -1 where unknown), year and split; the numbers running_time (minutes), budget, gross_us and gross (US
        dollars), tomatoes (percent), imdb (1 to 10) and votes are float32 with 0 where unknown, and known_<name> says where they are
        known. Films that share a code are linked: movie-director-movie and so on. `creative_type` nearly gives the genre away.

    Raises:
        UnknownNameError: split.
        ValueError: genres.
        DataError: the file of the set is missing or corrupt.

    Example:
        >>> ds = load_movies("all", known_director=True, genres=4)
        >>> len(ds), list(ds.label_names)
        (1336, ['Drama', 'Comedy', 'Action', 'Adventure'])
    """
    require_split(split, "movies split")
    c = columns_of("movies", "movies.parquet")
    found, counts = np.unique(c["genre"][c["genre"] != ""].astype(str), return_counts=True)
    names = [str(found[i]) for i in sorted(range(len(found)), key=lambda i: (-counts[i], found[i]))]
    if genres is not None and not 1 <= genres <= len(names):
        raise ValueError(f"genres must be from 1 to {len(names)}, got {genres}")
    rows = split_rows(c, split, "movies")
    if genres is not None:
        names = names[:genres]
        rows = rows[np.isin(c["genre"][rows].astype(str), names)]
    if known_director:
        rows = rows[c["director"][rows] != ""]

    factors: dict[str, Any] = {}
    factor_names: dict[str, list[str]] = {}
    for name in (*ENTITIES, "rating", "creative_type"):
        factor_names[name] = sorted({v for v in c[name].tolist() if v})
        factors[name] = codes(c[name][rows], ["", *factor_names[name]]) - 1
    factors["year"] = integers(c["year"][rows])
    factors["split"] = codes(c["split"][rows], ("train", "val", "test"))
    for name in NUMBERS:
        known = c[name][rows] >= 0
        factors[name] = floats(np.where(known, c[name][rows], 0))
        factors[f"known_{name}"] = integers(known)
    labels = codes(c["genre"][rows], ["", *names]) - 1
    data = Dataset("movies", split, None, labels, names, c["title"][rows].tolist(), factors, factor_names)
    return data.to(resolve_device(device))
