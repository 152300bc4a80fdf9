"""Word similarity with human scores, read from the gensim package where it is installed; nothing is copied."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

from workbench.data.dataset import Dataset
from workbench.errors import DataError, UnknownNameError

FILES = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}


def load_similarity(name: str = "wordsim353", *, folder: str | Path | None = None) -> Dataset:
    """Pairs of English words with mean human similarity scores from 0 to 10; a test set, so there is no split.

    Args:
        name: 'wordsim353' (353 pairs, relatedness) or 'simlex999' (999 pairs, similarity).
        folder: where the files lie; by default those inside the installed gensim package.

    Returns:
        captions: first words; `extras["partner"]`: second words; `factors["similarity"]`: scores.

    Raises:
        UnknownNameError: name.
        DataError: gensim is not installed, or its file is not what is expected.
    """
    if name not in FILES:
        raise UnknownNameError("similarity set", name, FILES)
    if folder is None:
        found = importlib.util.find_spec("gensim") if sys.modules.get("gensim", True) is not None else None
        if found is None or not found.submodule_search_locations:
            raise DataError(
                f"{name} is read from the gensim package (its terms are its authors'); `pip install gensim`, then run again"
            )
        folder = Path(next(iter(found.submodule_search_locations))) / "test" / "test_data"
    path = Path(folder) / FILES[name]
    if not path.is_file():
        raise DataError(f"{path} is missing; install a gensim release that carries test data, such as 4.4.0")
    first, second, scores = [], [], []
    for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), start=1):
        if not line.strip() or line.startswith("#") or line.lower().startswith("word"):
            continue
        cells = line.split("\t")
        try:
            score = float(cells[2])
        except (IndexError, ValueError):
            raise DataError(f"{path}, line {number}: want 'word<tab>word<tab>score', got {line[:80]!r}") from None
        first.append(cells[0])
        second.append(cells[1])
        scores.append(score)
    return Dataset(name, "all", captions=first, factors={"similarity": torch.tensor(scores)}, extras={"partner": second})
