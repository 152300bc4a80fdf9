"""Sentences with their words in another order, and pictures with their pieces in another place."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from workbench.checks import describe, require_tensor
from workbench.errors import UnknownNameError

WORD_ORDERS = ("nouns and adjectives", "other words", "within trigrams", "trigrams", "all words")
LAYOUTS = {"rows": (4, 1), "columns": (1, 4), "patches": (3, 3)}  # pieces down and across


def shuffle_words(
    texts: Sequence[str],
    order: str,
    *,
    nouns: Collection[str] = (),
    adjectives: Collection[str] = (),
    seed: int | torch.Generator = 0,
) -> list[str]:
    """The same words of every text in another order; punctuation stays with its word.

    Args:
        texts: n strings; words are what stands between spaces.
        order: 'nouns and adjectives' (each kind among its own places), 'other words' (all but these two kinds), 'within trigrams'
            (inside every three words in a row, the last group may be shorter), 'trigrams' (the groups of three), 'all words'.
        nouns: words that count as nouns, for the first two orders.
        adjectives: words that count as adjectives.
        seed: a seed, or a CPU generator to draw on.

    Returns:
        n strings. A permutation may be the identity: compare with the original where that matters.

    Raises:
        UnknownNameError: an unknown order.
        ValueError: an order that needs nouns or adjectives, without any.

    Source:
        Yuksekgonul et al. 2023 (arXiv 2210.01936), the four perturbations of COCO-Order and the full shuffle.

    Example:
        >>> shuffle_words(["a b c d e f g"], "trigrams", seed=1)
        ['d e f g a b c']
    """
    if order not in WORD_ORDERS:
        raise UnknownNameError("word order", order, WORD_ORDERS)
    if isinstance(texts, str):
        raise TypeError(f"texts must be a sequence of strings, got the single string {texts!r:.60}")
    if order in WORD_ORDERS[:2] and not (nouns or adjectives):
        raise ValueError(f"order {order!r} needs nouns, adjectives or both")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    kinds = [{word.lower() for word in words} for words in (nouns, adjectives)]
    return [" ".join(_reordered(text.split(), order, kinds, generator)) for text in texts]


def _reordered(words: list[str], order: str, kinds: list[set[str]], generator: torch.Generator) -> list[str]:
    everywhere = list(range(len(words)))
    trigrams = [everywhere[i : i + 3] for i in range(0, len(words), 3)]
    if order == "trigrams":
        turn = torch.randperm(len(trigrams), generator=generator).tolist()
        return [words[i] for group in turn for i in trigrams[group]]
    bare = [word.strip(".,;:!?\"'()").lower() for word in words]
    places = {
        "nouns and adjectives": [[i for i in everywhere if bare[i] in kind] for kind in kinds],
        "other words": [[i for i in everywhere if not any(bare[i] in kind for kind in kinds)]],
        "within trigrams": trigrams,
        "all words": [everywhere],
    }[order]
    new = list(words)
    for group in places:
        for to, source in enumerate(torch.randperm(len(group), generator=generator).tolist()):
            new[group[to]] = words[group[source]]
    return new


def shuffle_patches(images: Tensor, layout: str = "patches", *, seed: int | torch.Generator = 0) -> Tensor:
    """Every picture cut into equal pieces that change places, in another order for each picture.

    Args:
        images: (n, c, h, w).
        layout: 'rows' (4), 'columns' (4) or 'patches' (3 x 3). A side that the pieces do not divide keeps its last pixels.
        seed: a seed, or a CPU generator to draw on.

    Returns:
        (n, c, h, w): the same pixels in other places.

    Raises:
        UnknownNameError: an unknown layout.
        ValueError, TypeError: not such pictures, or sides shorter than the number of pieces.

    Source:
        Yuksekgonul et al. 2023 (arXiv 2210.01936), the perturbations of pictures.

    Example:
        >>> shuffle_patches(torch.arange(4.0).view(1, 1, 4, 1), "rows", seed=0).flatten()
        tensor([2., 3., 0., 1.])
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    images = require_tensor(images, "images")
    down, across = LAYOUTS[layout]
    if images.ndim != 4 or images.shape[2] < down or images.shape[3] < across:
        raise ValueError(f"images must have shape (n, c, h >= {down}, w >= {across}), got {describe(images)}")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    n, channels, height, width = images.shape
    h, w = height // down, width // across
    whole = images[:, :, : h * down, : w * across]
    pieces = whole.reshape(n, channels, down, h, across, w).permute(0, 2, 4, 1, 3, 5).reshape(n, down * across, -1)
    order = torch.rand(n, down * across, generator=generator).argsort(1).to(images.device)
    moved = pieces.gather(1, order[:, :, None].expand_as(pieces)).reshape(n, down, across, channels, h, w)
    result = images.clone()
    result[:, :, : h * down, : w * across] = moved.permute(0, 3, 1, 4, 2, 5).reshape(whole.shape)
    return result
