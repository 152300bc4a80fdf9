"""Projection heads: from features to the space that the loss sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.checks import describe, require_tensor
from workbench.errors import UnknownNameError

NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class ProjectionHead(nn.Module):
    r"""A small perceptron $z = W_2\,\mathrm{ReLU}(W_1 h)$ between encoder and loss; probes read $h$, the loss reads $z$.

    Outputs are not normalised: the losses do that.

    Args:
        in_features: width of the features $h$.
        hidden: width of the hidden layers; unused when `layers` is 1.
        out_features: width of the embeddings $z$.
        layers: number of linear maps: 1 a linear projection (CLIP), 2 SimCLR and MoCo v2, 3 SimCLR v2.
        norm: None, 'batch' or 'layer', after every hidden linear map.
        bias: whether the last linear map has a bias.

    Shape:
        (n, in_features) -> (n, out_features)

    Raises:
        ValueError: fewer than one layer or a width below one; features of another width.
        UnknownNameError: an unknown norm.

    Source:
        SimCLR (Chen et al. 2020), section 4.2.

    Example:
        >>> ProjectionHead(128, 128, 64)(torch.rand(4, 128)).shape
        torch.Size([4, 64])
    """

    def __init__(
        self, in_features: int, hidden: int, out_features: int, *, layers: int = 2, norm: str | None = None, bias: bool = True
    ):
        super().__init__()
        if layers < 1 or min(in_features, hidden, out_features) < 1:
            raise ValueError(
                f"layers and widths must be at least 1, got layers={layers}, in_features={in_features}, "
                f"hidden={hidden}, out_features={out_features}"
            )
        if norm is not None and norm not in NORMS:
            raise UnknownNameError("norm", norm, NORMS)
        stack: list[nn.Module] = []
        width = in_features
        for _ in range(layers - 1):
            # Batch norm subtracts a bias that comes before it.
            stack.append(nn.Linear(width, hidden, bias=norm != "batch"))
            stack += [NORMS[norm](hidden)] if norm else []
            stack.append(nn.ReLU())
            width = hidden
        stack.append(nn.Linear(width, out_features, bias=bias))
        self.layers = nn.Sequential(*stack)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, features: Tensor) -> Tensor:
        features = require_tensor(features, "features")
        if features.ndim != 2 or features.shape[1] != self.in_features or not torch.is_floating_point(features):
            raise ValueError(f"features must be floating point of shape (n, {self.in_features}), got {describe(features)}")
        return self.layers(features)
