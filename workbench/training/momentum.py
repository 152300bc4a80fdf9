"""Momentum encoders: a slow copy of a model that follows it as an exponential moving average."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import UnknownNameError

BUFFER_POLICIES = ("average", "copy", "keep")


@torch.no_grad()
def ema_update(target: nn.Module, source: nn.Module, momentum: float, *, buffers: str = "average") -> None:
    r"""Move `target` towards `source`, in place: $\theta_t \leftarrow m\,\theta_t + (1-m)\,\theta_s$ for every parameter.

    After $k$ updates towards a fixed source the distance has shrunk by $m^k$.

    Args:
        target: the averaged model.
        source: the model being trained, of the same architecture.
        momentum: $m$ in [0, 1]; 1 leaves the target as it is, 0 copies the source.
        buffers: floating point buffers, above all the running statistics of batch norm: 'average' them like parameters (they
            then fit the averaged weights in evaluation mode), 'copy' them, or 'keep' the target's own (which its own forward
            passes in training mode have made, as in MoCo). Integer buffers, such as counters, are copied unless 'keep'.

    Raises:
        ValueError: a momentum outside [0, 1], or modules whose names or shapes differ.
        UnknownNameError: an unknown buffer policy.

    Source:
        MoCo (He et al. 2020), equation 2; Mean Teacher (Tarvainen & Valpola 2017).
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be in [0, 1], got {momentum}")
    if buffers not in BUFFER_POLICIES:
        raise UnknownNameError("buffer policy", buffers, BUFFER_POLICIES)
    for t, s in _pairs(dict(target.named_parameters()), dict(source.named_parameters()), "parameter"):
        t.lerp_(s.to(t), 1 - momentum)
    if buffers == "keep":
        return
    for t, s in _pairs(dict(target.named_buffers()), dict(source.named_buffers()), "buffer"):
        if buffers == "average" and t.is_floating_point():
            t.lerp_(s.to(t), 1 - momentum)
        else:
            t.copy_(s)


class MomentumEncoder(nn.Module):
    """A copy of an encoder that is never trained, only averaged; its outputs carry no gradient.

    It starts equal to `source`. Its mode (training or evaluation) is yours to choose, as for any module: training mode
    normalises with the statistics of the key batch, as MoCo does.

    Args:
        source: the encoder to follow; not kept, pass it to `update`.
        momentum: used by `update` unless another one is given there.
        buffers: see `ema_update`.

    Example:
        >>> query = nn.Linear(4, 2)
        >>> key = MomentumEncoder(query, momentum=0.99)
        >>> key.update(query)  # after each optimiser step, for example as a hook of fit
        >>> key(torch.ones(3, 4)).requires_grad
        False
    """

    def __init__(self, source: nn.Module, *, momentum: float = 0.999, buffers: str = "average"):
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        if buffers not in BUFFER_POLICIES:
            raise UnknownNameError("buffer policy", buffers, BUFFER_POLICIES)
        self.encoder = copy.deepcopy(source).requires_grad_(False)
        self.momentum, self.buffer_policy = momentum, buffers

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.encoder(*args, **kwargs)

    def update(self, source: nn.Module, momentum: float | None = None) -> None:
        """One step of the average towards `source`."""
        ema_update(self.encoder, source, self.momentum if momentum is None else momentum, buffers=self.buffer_policy)


def _pairs(target: dict[str, Any], source: dict[str, Any], kind: str) -> list[tuple[Tensor, Tensor]]:
    if target.keys() != source.keys():
        first = sorted(target.keys() ^ source.keys())[0]
        raise ValueError(f"target and source must have the same architecture; {kind} {first!r} is only in one of them")
    for name, t in target.items():
        if t.shape != source[name].shape:
            raise ValueError(
                f"target and source must have the same architecture; {kind} {name!r} has shapes "
                f"{tuple(t.shape)} and {tuple(source[name].shape)}"
            )
    return [(t, source[name]) for name, t in target.items()]
