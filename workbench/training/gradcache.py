"""Contrastive batches larger than the memory of the encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from workbench.checks import describe


def encode_in_chunks(encoder: Callable[[Any], Tensor], inputs: Any, *, chunk_size: int) -> Tensor:
    """The embeddings of a batch, encoded in chunks of which one at a time keeps its activations.

    The first pass keeps the embeddings only; when the loss sends their gradient back, each chunk is encoded again, with the
    same dropout bit for bit, and sends its share on. Value and gradients are those of encoding all chunks at once; time grows by
    one forward pass of the encoder. Every loss and `backward()`, `fit` included, works on the result as on any embeddings.

    Random numbers: those of torch on all devices in use are replayed, and autocast; those of numpy and python are not.
    Batch norm uses the statistics of a chunk (give it a chunk size at which these are good), and its running averages are
    updated once, in the first pass.

    Args:
        encoder: chunk of inputs -> (rows of the chunk, d) embeddings; a module or any function of one argument.
        inputs: a tensor, a list, or a mapping of them (a tokenizer's output), all with one entry for each row.
        chunk_size: rows that are encoded at once; the last chunk may be smaller.

    Returns:
        (n, d) embeddings.

    Raises:
        ValueError: a chunk size below 1, no rows, a mapping whose entries differ in length, an encoder that changes the
            number of rows.
        TypeError: inputs or embeddings of another kind.

    Source:
        Gao et al. 2021, Scaling deep contrastive learning batch size under memory limited setup (GradCache, arXiv 2101.06983).

    Example:
        >>> encoder = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))
        >>> encode_in_chunks(encoder, torch.ones(10, 4), chunk_size=3).shape
        torch.Size([10, 8])
    """
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"chunk_size must be an integer of at least 1, got {chunk_size!r}")
    n = _length(inputs)
    if n == 0:
        raise ValueError("inputs must have at least one row")
    embeddings = []
    for start in range(0, n, chunk_size):
        chunk = _part(inputs, slice(start, start + chunk_size))
        out = checkpoint(encoder, chunk, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_averages(encoder)))
        if not isinstance(out, Tensor):
            raise TypeError(f"encoder must return a tensor, got {describe(out)}")
        if out.ndim != 2 or len(out) != min(chunk_size, n - start):
            raise ValueError(f"encoder must return one row for each of {min(chunk_size, n - start)} inputs, got {describe(out)}")
        embeddings.append(out)
    return torch.cat(embeddings)


def _length(inputs: Any) -> int:
    if isinstance(inputs, Mapping):
        lengths = {name: _length(value) for name, value in inputs.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"inputs must have one length, got {lengths}")
        return next(iter(lengths.values()))
    if (isinstance(inputs, Tensor) and inputs.ndim > 0) or (isinstance(inputs, Sequence) and not isinstance(inputs, str)):
        return len(inputs)
    raise TypeError(f"inputs must be a tensor, a list, or a mapping of them, got {describe(inputs)}")


def _part(inputs: Any, rows: slice) -> Any:
    return {name: value[rows] for name, value in inputs.items()} if isinstance(inputs, Mapping) else inputs[rows]


@contextmanager
def _frozen_averages(encoder: Any) -> Iterator[None]:
    """Running averages of batch norms have seen this chunk in the first pass; they must not move twice."""
    modules = encoder.modules() if isinstance(encoder, nn.Module) else ()
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms if norm.num_batches_tracked is not None]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(counts.pop(0))
