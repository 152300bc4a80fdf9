"""Prototypes: trainable unit vectors, one for each cluster."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.checks import describe, require_unit_rows


class Prototypes(nn.Module):
    r"""Scores of embeddings against k trainable unit vectors: $s_{ik} = z_i^\top c_k / \lVert z_i\rVert$, with $\lVert c_k\rVert = 1$.

    An optimiser step moves the prototypes off the sphere: call `normalize_()` at the start of every step, not only once.
    Prototypes that move from the first step on chase a network that knows nothing yet: SwAV keeps them still for a while,
    `prototypes.weight.requires_grad_(step >= freeze_steps)`.

    Args:
        in_features: width of the embeddings.
        count: number of prototypes k.

    Shape:
        (n, in_features) -> (n, count), cosines in [-1, 1]

    Raises:
        ValueError: a width or count below one; embeddings of another width, a row of zeros, NaN.

    Source:
        SwAV (Caron et al. 2020, arXiv 2006.09882), section 3.1.

    Example:
        >>> scores = Prototypes(8, 3)(torch.randn(5, 8))
        >>> scores.shape, bool((scores.abs() <= 1).all())
        (torch.Size([5, 3]), True)
    """

    def __init__(self, in_features: int, count: int):
        super().__init__()
        if in_features < 1 or count < 1:
            raise ValueError(f"in_features and count must be at least 1, got {in_features} and {count}")
        self.in_features, self.count = in_features, count
        self.weight = nn.Parameter(nn.functional.normalize(torch.randn(count, in_features)))

    @torch.no_grad()
    def normalize_(self) -> Prototypes:
        """Bring all prototypes back to length one, in place; not between a forward pass and its backward pass."""
        self.weight.copy_(require_unit_rows(self.weight, "prototypes"))
        return self

    def forward(self, embeddings: Tensor) -> Tensor:
        z = require_unit_rows(embeddings, "embeddings")
        if z.shape[1] != self.in_features:
            raise ValueError(f"embeddings must have shape (n, {self.in_features}), got {describe(embeddings)}")
        return z @ self.weight.T.to(z.dtype)
