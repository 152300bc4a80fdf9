"""Losses for embeddings that may be cut: to their first numbers, and to the first layers of the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from workbench import checks

PairLoss = Callable[[Tensor, Tensor], Tensor]


def matryoshka(loss: PairLoss, x: Tensor, y: Tensor, *, widths: Sequence[int]) -> Tensor:
    r"""Mean of a loss over prefixes of the embeddings, $\frac1{|W|}\sum_{w \in W} \ell(x_{:w}, y_{:w})$.

    The loss must scale rows to unit length itself, as all of ours do: a prefix of a unit vector is shorter than one.

    Args:
        loss: of two (n, w) tensors, such as `info_nce`; `functools.partial` sets its options.
        x: (n, d).
        y: (n, d); row i belongs to row i of `x`.
        widths: how many leading numbers to keep, each from 1 to d.

    Returns:
        Scalar in the unit of `loss`.

    Raises:
        ValueError, TypeError: bad tensors, no widths, a width outside 1 to d; the errors of `loss`.

    Source:
        Kusupati et al. 2022 (Matryoshka Representation Learning, arXiv 2205.13147), eq. 1, with equal weights.

    Example:
        >>> from workbench.losses import alignment
        >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> matryoshka(alignment, x, y, widths=(1, 2))  # the first numbers agree: (0 + 2 - sqrt 2) / 2
        tensor(0.2929)
    """
    x, y = _pair(x, y, "x", "y")
    if isinstance(widths, int) or not len(widths):
        raise ValueError(f"widths must be a list of at least one width, got {widths!r}")
    for width in widths:
        _require_between(width, 1, x.shape[1], "widths")
    return torch.stack([loss(x[:, :w], y[:, :w]) for w in widths]).mean()


def matryoshka_2d(
    loss: PairLoss,
    x_layers: Sequence[Tensor],
    y_layers: Sequence[Tensor],
    *,
    layer: int,
    width: int,
    layer_weight: float = 1.0,
    kl_weight: float = 1.0,
    kl_temperature: float = 0.3,
    detach_teacher: bool = True,
) -> Tensor:
    r"""The loss of a step of 2D Matryoshka training: last and sampled layer, each whole and cut, and their agreement.

    $$L = \ell(e_N) + \ell(e_N^{:w}) + \omega\,[\ell(e_n) + \ell(e_n^{:w})] + \lambda\,T \cdot
    \mathrm{KL}\big(\mathrm{softmax}(e_N/T)\,\|\,\mathrm{softmax}(e_n/T)\big)$$

    Draw `layer` n and `width` w anew for every step. The softmax runs over the features, the mean over all rows of both sides.

    Args:
        loss: of two (n, w) tensors, such as `info_nce`; it must scale rows to unit length itself.
        x_layers: N tensors (n, d), what the encoder gives after each layer, the last one last.
        y_layers: the same of the partners.
        layer: n from 1 to N - 1, counted as the blocks are: never the last one, which is trained anyway.
        width: w from 1 to d.
        layer_weight: omega of the sampled layer.
        kl_weight: lambda; 0 leaves the agreement out.
        kl_temperature: T.
        detach_teacher: the last layer teaches and does not learn from the sampled one, as in current code; older code let it.

    Returns:
        Scalar in the unit of `loss` (the agreement in nats).

    Raises:
        ValueError, TypeError: bad tensors, fewer than two layers, another number of them on the two sides, a layer or width out
            of range, weights that are negative; the errors of `loss`.

    Source:
        Li et al. 2024 (2D Matryoshka sentence embeddings, arXiv 2402.14776); the four terms with equal weights are a
        reconstruction, the agreement follows the code of sentence-transformers.

    Example:
        >>> from workbench.losses import alignment
        >>> x = [torch.eye(3), torch.eye(3)]
        >>> matryoshka_2d(alignment, x, x, layer=1, width=3)
        tensor(0.)
    """
    if len(x_layers) != len(y_layers) or len(x_layers) < 2:
        raise ValueError(f"x_layers and y_layers must be two or more tensors each, got {len(x_layers)} and {len(y_layers)}")
    _require_between(layer, 1, len(x_layers) - 1, "layer")
    x_last, y_last = _pair(x_layers[-1], y_layers[-1], "x_layers[-1]", "y_layers[-1]")
    x_early, y_early = _pair(x_layers[layer - 1], y_layers[layer - 1], f"x_layers[{layer - 1}]", f"y_layers[{layer - 1}]")
    checks.require_same_shape(x_last, x_early, "x_layers[-1]", f"x_layers[{layer - 1}]")
    _require_between(width, 1, x_last.shape[1], "width")
    for name, weight in (("layer_weight", layer_weight), ("kl_weight", kl_weight)):
        if not weight >= 0:
            raise ValueError(f"{name} must be at least 0, got {weight!r}")
    total = loss(x_last, y_last) + loss(x_last[:, :width], y_last[:, :width])
    total = total + layer_weight * (loss(x_early, y_early) + loss(x_early[:, :width], y_early[:, :width]))
    if kl_weight:
        student, teacher = torch.cat([x_early, y_early]), torch.cat([x_last, y_last])
        agreement = feature_kl(student, teacher, temperature=kl_temperature, detach_teacher=detach_teacher)
        total = total + kl_weight * kl_temperature * agreement
    return total


def feature_kl(student: Tensor, teacher: Tensor, *, temperature: float = 0.3, detach_teacher: bool = True) -> Tensor:
    r"""How far the features of a student are from a teacher's: $\mathrm{KL}(\mathrm{softmax}(t/T) \,\|\, \mathrm{softmax}(s/T))$, mean over rows.

    Args:
        student: (n, d), taken as it is, not scaled.
        teacher: (n, d).
        temperature: T > 0.
        detach_teacher: no gradient reaches the teacher.

    Returns:
        In nats: 0 where the rows are equal up to a constant added to a row.

    Raises:
        ValueError, TypeError: bad tensors or temperature.

    Example:
        >>> feature_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 100.0]]))  # certain against even
        tensor(0.6931)
    """
    student, teacher = _pair(student, teacher, "student", "teacher")
    temperature = float(checks.require_positive(temperature, "temperature"))
    wanted = log_softmax((teacher.detach() if detach_teacher else teacher) / temperature, dim=1)
    return kl_div(log_softmax(student / temperature, dim=1), wanted, reduction="batchmean", log_target=True)


def _pair(x: object, y: object, x_name: str, y_name: str) -> tuple[Tensor, Tensor]:
    x, y = checks.require_embeddings(x, x_name), checks.require_embeddings(y, y_name)
    checks.require_same_shape(x, y, x_name, y_name)
    return x, y


def _require_between(value: object, low: int, high: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
