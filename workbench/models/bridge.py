"""The lit-bridge: two small heads that bring features of a frozen image encoder and a frozen text encoder into one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from workbench.models.dual_encoder import DualEncoder


def build_bridge(config: Mapping[str, Any]) -> DualEncoder:
    """An untrained bridge: a `DualEncoder` over cached features.

    Args:
        config: image_features and text_features (widths), projection_dim, hidden (width of the two perceptrons, or None for a
            linear map of the pictures into the untouched space of the texts), temperature, learn_temperature.

    Raises:
        ValueError: widths that do not fit.

    Source:
        LiT (Zhai et al. 2022): image tower locked; here both towers are, and only heads are trained.
    """
    linear = config["hidden"] is None
    model = DualEncoder(
        None,
        None,
        image_features=config["image_features"],
        text_features=config["text_features"],
        projection_dim=config["projection_dim"],
        hidden=config["hidden"],
        temperature=config["temperature"],
        learn_temperature=config["learn_temperature"],
    )
    if linear:
        if config["projection_dim"] != config["text_features"]:
            raise ValueError(
                f"a linear bridge ends in the texts' space: projection_dim must be {config['text_features']}, "
                f"got {config['projection_dim']}"
            )
        head: Any = nn.Linear(config["image_features"], config["projection_dim"])
        model.image_projection, model.text_projection = head, nn.Identity()  # type: ignore[assignment]
    return model
