"""Building a transformers configuration without swallowing a misspelt field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.errors import UnknownNameError


def build_config(config_class: Any, fields: Mapping[str, Any], extra: Mapping[str, Any]) -> Any:
    """An instance of a transformers configuration class: our `fields`, overridden by the caller's `extra`.

    Raises:
        UnknownNameError: a name in `extra` that the class does not have (transformers would store and ignore it).
        ValueError: a width that the number of attention heads does not divide.
    """
    known = vars(config_class())
    for name in extra:
        if name not in known:
            raise UnknownNameError(f"option of {config_class.__name__}", name, [k for k in known if not k.startswith("_")])
    config = config_class(**{**fields, **extra})
    heads = getattr(config, "num_attention_heads", None)
    if heads and (heads < 1 or config.hidden_size % heads):
        raise ValueError(f"width must be a multiple of heads, got width {config.hidden_size} and {heads} heads")
    return config
