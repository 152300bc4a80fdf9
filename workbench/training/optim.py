"""Optimisers by name, with weight decay only where it belongs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from workbench.checks import require_positive
from workbench.errors import UnknownNameError

OPTIMIZERS = ("adamw", "adam", "sgd")


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float = 0.0, momentum: float = 0.9
) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD; weight decay acts on matrices and kernels, never on biases, gains or a logit scale.

    Args:
        name: 'adamw' (decoupled decay), 'adam' (decay as an L2 term) or 'sgd' (L2 term, heavy-ball momentum).
        parameters: what to train; frozen ones are left out.
        lr: learning rate.
        weight_decay: for parameters with two or more dimensions.
        momentum: of SGD.

    Raises:
        UnknownNameError: another name.
        ValueError: nothing to train, a learning rate that is not positive, a negative decay.

    Source:
        AdamW: Loshchilov & Hutter 2019; no decay on gains and biases: as in CLIP (Radford et al. 2021), section 2.5.
    """
    require_positive(lr, "lr")
    if weight_decay < 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        raise ValueError("there is nothing to train: no parameter has requires_grad")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)
    raise UnknownNameError("optimizer", name, OPTIMIZERS)
