"""Two towers, one space: CLIP's dual encoder, end to end or over cached features."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from workbench.checks import require_positive, require_unit_rows
from workbench.models.encode import embed
from workbench.models.heads import ProjectionHead


class DualOutput(NamedTuple):
    """What a batch of n pairs gives: unit embeddings (n, d) of both sides and the scalar that multiplies similarities."""

    image_embeddings: Tensor
    text_embeddings: Tensor
    logit_scale: Tensor

    @property
    def logits(self) -> Tensor:
        """(n, n) scaled similarities, images in rows and texts in columns."""
        return self.logit_scale * self.image_embeddings @ self.text_embeddings.T


class DualEncoder(nn.Module):
    r"""An image tower and a text tower whose outputs are projected into one space and scaled to length one.

    .. math:: x_i = \frac{P_I f(\text{image}_i)}{\|\cdot\|},\quad y_j = \frac{P_T g(\text{text}_j)}{\|\cdot\|},\quad
        \text{logits}_{ij} = s\, x_i^\top y_j,\quad s = 1/\tau

    With an encoder of None that side takes cached features (n, width) instead of images or tokens.

    Args:
        image_encoder: module with `out_features`, or None for cached features.
        text_encoder: module with `out_features`, or None for cached features.
        image_features: width of cached image features; otherwise read from the encoder.
        text_features: width of cached text features; otherwise read from the encoder.
        projection_dim: width d of the common space.
        hidden: None for CLIP's linear projections without bias, a width for two-layer perceptrons.
        temperature: $\tau$ at the start, $s = 1/\tau$.
        learn_temperature: learn $\log s$ (kept at or below `max_logit_scale`, as in CLIP) or keep $\tau$ fixed.
        max_logit_scale: upper bound of a learned $s$.

    Raises:
        ValueError: a side with neither encoder nor width, a temperature that is not positive, or one below
            1 / max_logit_scale that is to be learned; a row that the tower maps to zero, NaN or infinity.

    Source:
        CLIP (Radford et al. 2021), figure 3 and section 2.5 (the bound of 100).

    Example:
        >>> model = DualEncoder(None, None, image_features=1280, text_features=384, projection_dim=64)
        >>> out = model(torch.rand(8, 1280), torch.rand(8, 384))
        >>> out.logits.shape, round(float(out.logit_scale.detach()), 2)
        (torch.Size([8, 8]), 14.29)
    """

    def __init__(
        self,
        image_encoder: nn.Module | None,
        text_encoder: nn.Module | None,
        *,
        image_features: int | None = None,
        text_features: int | None = None,
        projection_dim: int = 64,
        hidden: int | None = None,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        max_logit_scale: float = 100.0,
    ):
        super().__init__()
        require_positive(temperature, "temperature")
        require_positive(max_logit_scale, "max_logit_scale")
        if learn_temperature and 1 / temperature > max_logit_scale * (1 + 1e-6):
            raise ValueError(
                f"a learned temperature must start at or above 1 / max_logit_scale = {1 / max_logit_scale:g}, got {temperature}; "
                "raise max_logit_scale or use learn_temperature=False"
            )
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_projection = _projection("image", image_encoder, image_features, hidden, projection_dim)
        self.text_projection = _projection("text", text_encoder, text_features, hidden, projection_dim)
        log_scale = torch.tensor(-math.log(temperature))
        if learn_temperature:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        self.learn_temperature, self.max_logit_scale = learn_temperature, max_logit_scale

    @property
    def logit_scale(self) -> Tensor:
        """The scalar $s = 1/\\tau$ that multiplies similarities."""
        if self.learn_temperature:
            # The parameter itself is bounded: clamping its value in the graph would stop its gradient at the bound for good.
            with torch.no_grad():
                self.log_scale.clamp_(max=math.log(self.max_logit_scale))
        return self.log_scale.exp()

    @property
    def temperature(self) -> float:
        """The present temperature $\\tau$."""
        return 1 / float(self.logit_scale.detach())

    def forward(self, images: Any, texts: Any) -> DualOutput:
        """Unit embeddings of both sides of n pairs, and the logit scale; arguments as the encoders (or caches) take them."""
        if len(images) != len(texts):
            raise ValueError(f"images and texts must be paired row by row, got {len(images)} and {len(texts)} rows")
        return DualOutput(self.image_embeddings(images), self.text_embeddings(texts), self.logit_scale)

    def image_embeddings(self, images: Any) -> Tensor:
        """(n, projection_dim) unit embeddings, with gradient."""
        features = images if self.image_encoder is None else self.image_encoder(images)
        return require_unit_rows(self.image_projection(features), "image embeddings")

    def text_embeddings(self, texts: Any) -> Tensor:
        """(n, projection_dim) unit embeddings, with gradient."""
        features = texts if self.text_encoder is None else self.text_encoder(texts)
        return require_unit_rows(self.text_projection(features), "text embeddings")

    def embed_images(self, images: Any, *, batch_size: int = 256) -> Tensor:
        """(n, projection_dim) unit embeddings of any number of images: batches, evaluation mode, no gradient."""
        return embed(self, images, batch_size=batch_size, method="image_embeddings")

    def embed_texts(self, texts: Any, *, batch_size: int = 256) -> Tensor:
        """(n, projection_dim) unit embeddings of any number of texts: batches, evaluation mode, no gradient."""
        return embed(self, texts, batch_size=batch_size, method="text_embeddings")


def _projection(side: str, encoder: nn.Module | None, width: int | None, hidden: int | None, out: int) -> ProjectionHead:
    width = width if width is not None else getattr(encoder, "out_features", None)
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"{side}_features must be the width of the {side} features, since the {side} encoder does not say it")
    return ProjectionHead(width, hidden or 1, out, layers=2 if hidden else 1, bias=hidden is not None)
