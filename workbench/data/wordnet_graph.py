"""WordNet's hypernym graph: what is a kind of what, how deep a meaning lies, and how near two meanings are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from workbench.data.files import data_dir
from workbench.data.texts import columns_of

Parents = Callable[[int], Sequence[int]]


def ancestors(synset: int, parents: Parents | None = None) -> dict[int, int]:
    """All meanings that `synset` is a kind of, itself included, with the least number of steps up to each.

    Args:
        synset: its number, as in `factors["synset"]` of `load_wordnet`.
        parents: direct hypernyms of a number; by default those of the stored graph, instances included.

    Raises:
        DataError: a file of the set is missing or corrupt.
    """
    parents = parents or hypernyms
    steps = {synset: 0}
    queue = [synset]
    for at in queue:  # grows while it is read: breadth first, so the first way found is the shortest
        for up in parents(at):
            if up not in steps:
                steps[up] = steps[at] + 1
                queue.append(up)
    return steps


def hypernyms(synset: int) -> Sequence[int]:
    """Direct hypernyms (also of an instance, such as a city), by number."""
    return _parents(str(data_dir())).get(synset, ())


def depth(synset: int, parents: Parents | None = None) -> int:
    """Steps on the longest way up to a root; 0 for a root."""
    parents = parents or hypernyms
    return max((depth(up, parents) + 1 for up in parents(synset)), default=0)


def wu_palmer(first: int, second: int, parents: Parents | None = None) -> float:
    r"""How near two meanings of one part of speech are in the hypernym graph, from 0 to 1 (the same meaning).

    .. math:: s = \frac{2 \, d(c)}{p(a, c) + p(b, c) + 2 \, d(c)}

    with c the deepest common ancestor, d(c) the number of nodes on its longest way to a root (a root has 1), and p the number of
    steps on the shortest way up.

    Args:
        first, second: numbers of two synsets.
        parents: see `ancestors`.

    Returns:
        The similarity; 0.0 where the two have no common ancestor.

    Source: Wu and Palmer, "Verb semantics and lexical selection", 1994, equation 1, with longest depth and shortest paths where a
        meaning has several hypernyms.
    """
    a, b = ancestors(first, parents), ancestors(second, parents)
    shared = a.keys() & b.keys()
    if not shared:
        return 0.0
    depths = {c: depth(c, parents) for c in shared}
    deepest = max(depths.values())
    # Several common ancestors may be equally deep: the nearest of them counts.
    steps = min(a[c] + b[c] for c in shared if depths[c] == deepest)
    return 2 * (deepest + 1) / (steps + 2 * (deepest + 1))


@lru_cache(maxsize=2)
def _parents(folder: str) -> dict[int, list[int]]:
    relations = columns_of("wordnet", "relations.parquet")
    keep = (relations["kind"] == "hypernym") | (relations["kind"] == "instance hypernym")
    found: dict[int, list[int]] = {}
    for source, target in zip(relations["source"][keep].tolist(), relations["target"][keep].tolist(), strict=True):
        found.setdefault(source, []).append(target)
    return found
