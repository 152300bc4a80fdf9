"""The one training loop of the workbench: short enough to read, strict enough to trust."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from workbench import runtime
from workbench.checks import describe, require_positive
from workbench.errors import UnknownNameError, WorkbenchError
from workbench.training.optim import make_optimizer
from workbench.training.schedules import warmup_cosine

SCHEDULES = ("cosine", "constant")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class StepState:
    """What a hook sees after an update.

    Attributes:
        step: number of updates made, from 1 on.
        loss: of this batch, before the update.
        lr: learning rate of this update.
        grad_norm: length of the whole gradient, before clipping.
        seconds: since the start of the run.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float


@dataclass(frozen=True)
class History:
    """What a run leaves behind.

    Attributes:
        losses: loss of each step, before its update.
        lrs: learning rate of each step.
        grad_norms: length of the gradient at each step, before clipping.
        seconds: wall time of the run, hooks included.
        stopped_by: 'steps', 'seconds', 'hook' or 'batches' (they ran out).
    """

    losses: tuple[float, ...]
    lrs: tuple[float, ...]
    grad_norms: tuple[float, ...]
    seconds: float
    stopped_by: str

    @property
    def steps(self) -> int:
        """Number of updates made."""
        return len(self.losses)

    @property
    def steps_per_second(self) -> float:
        """Updates per second of wall time."""
        return self.steps / max(self.seconds, 1e-9)


class DivergenceError(WorkbenchError, FloatingPointError):
    """The loss or its gradient became NaN or infinite; the model holds the last finite weights."""

    def __init__(self, what: str, step: int, losses: Sequence[float], lr: float, precision: str):
        last = ", ".join(f"{loss:.4g}" for loss in losses[-5:]) or "none, it was the first step"
        self.step, self.losses = step, tuple(losses)
        super().__init__(
            f"{what} at step {step} (lr {lr:.3g}, {precision}); last finite losses: {last}. Likely remedies: a lower lr, warmup or "
            "clip_norm=1.0, a higher temperature, precision='fp32', or a look at this batch for NaN and rows of zeros"
        )


def fit(
    model: nn.Module | Iterable[nn.Module | nn.Parameter],
    loss_fn: Callable[[Any], Tensor],
    batches: Iterable[Any],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    lr: float = 1e-3,
    optimizer: str | torch.optim.Optimizer = "adamw",
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    warmup: int = 0,
    clip_norm: float | None = None,
    precision: str = "fp32",
    hooks: Sequence[Callable[[StepState], Any]] = (),
    title: str | None = "training",
) -> History:
    """Minimise `loss_fn(batch)` over `batches` until the steps, the time or the batches run out.

    Everything random happens in `loss_fn` and `batches`: after `seed_everything` the same seed gives the same history, bit
    for bit, on one machine with one number of threads. A budget in seconds alone is not reproducible: prefer `steps`.

    The model is put into training mode, except submodules without any trainable parameter (a frozen encoder keeps its batch
    statistics and has no dropout), and is left in evaluation mode, ready to be measured.

    Args:
        model: the module, modules or parameters to train; those with requires_grad=False stay as they are.
        loss_fn: batch -> scalar loss, for example `lambda rows: loss(model(images[rows]))`.
        batches: what `loss_fn` gets, one a step; usually `batches(n, batch_size, seed=seed)`.
        steps: number of updates, also the length of the schedule.
        seconds: stop at the first step that ends after this wall time. Without `steps` the schedule follows the clock.
        lr: peak learning rate (ignored for an optimiser that comes built: its own rates are scaled).
        optimizer: 'adamw', 'adam', 'sgd' (momentum 0.9), or an optimiser over the model's parameters.
        weight_decay: on matrices and kernels only, see `make_optimizer`.
        schedule: 'cosine' (down to zero) or 'constant'; both after `warmup` linear steps.
        warmup: number of steps in which the learning rate rises.
        clip_norm: longest gradient; None does not clip.
        precision: 'fp32', or 'bf16' for bfloat16 autocast of `loss_fn` (weights stay float32).
        hooks: called with a `StepState` after each update, to measure, to move a momentum encoder
            (`lambda s: key.update(query)`), to fill a queue; a hook that returns True ends the run.
        title: name on the progress bar; None shows none.

    Returns:
        `History`.

    Raises:
        DivergenceError: the loss or the gradient is NaN or infinite; weights are those before that step.
        ValueError: neither steps nor seconds, a budget that is not positive, a warm-up as long as the run, nothing to train,
            no batch at all, a loss that does not depend on the model.
        TypeError: a loss that is not a scalar tensor.
        UnknownNameError: an unknown optimizer, schedule or precision.

    Example:
        >>> w = nn.Parameter(torch.tensor([3.0]))
        >>> history = fit([w], lambda x: ((w - x) ** 2).sum(), [1.0] * 99, steps=99, lr=0.2, title=None)
        >>> history.stopped_by, history.losses[0], round(float(w.detach()), 1)
        ('steps', 4.0, 1.0)
    """
    _require_settings(steps, seconds, schedule, warmup, clip_norm, precision)
    modules, parameters = _parts(model)
    if isinstance(optimizer, str):
        optimizer = make_optimizer(optimizer, parameters, lr=lr, weight_decay=weight_decay)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    peaks = [group["lr"] for group in optimizer.param_groups]
    device = trained[0].device.type
    losses: list[float] = []
    lrs: list[float] = []
    norms: list[float] = []
    stopped_by = "batches"
    _training_mode(modules)
    bar = runtime.progress(total=steps, title=title or "", disable=title is None)
    start = time.perf_counter()
    try:
        for batch in batches:
            elapsed = time.perf_counter() - start
            factor = _factor(schedule, len(losses), steps, elapsed, seconds, warmup)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            rate = optimizer.param_groups[0]["lr"]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
                loss = _call(loss_fn, batch, len(losses) + 1)
            value = _require_loss(loss)
            if not math.isfinite(value):
                raise DivergenceError(f"the loss is {value}", len(losses) + 1, losses, rate, precision)
            loss.backward()
            if not losses and all(p.grad is None for p in trained):
                raise ValueError("the loss depends on no parameter of model; is another module trained in loss_fn?")
            norm = float(clip_grad_norm_(trained, clip_norm if clip_norm is not None else math.inf))
            if not math.isfinite(norm):
                raise DivergenceError(f"the gradient has length {norm}", len(losses) + 1, losses, rate, precision)
            optimizer.step()
            losses.append(value)
            lrs.append(rate)
            norms.append(norm)
            elapsed = time.perf_counter() - start
            bar.set_postfix_str(f"loss {value:.4g}", refresh=False)
            bar.update()
            state = StepState(len(losses), value, rate, norm, elapsed)
            # A list, not any(...): every hook runs, whatever the ones before it returned.
            if True in [hook(state) is True for hook in hooks]:
                stopped_by = "hook"
            elif len(losses) == steps:
                stopped_by = "steps"
            elif seconds is not None and elapsed >= seconds:
                stopped_by = "seconds"
            else:
                continue
            break
    finally:
        bar.close()
        modules.eval()
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak
    if not losses:
        raise ValueError("batches gave no batch; a generator that was used up before?")
    return History(tuple(losses), tuple(lrs), tuple(norms), time.perf_counter() - start, stopped_by)


def _call(loss_fn: Callable[[Any], Tensor], batch: Any, step: int) -> Tensor:
    try:
        return loss_fn(batch)
    except Exception as error:
        error.add_note(f"raised by loss_fn at step {step} of fit")
        raise


def _factor(schedule: str, step: int, steps: int | None, elapsed: float, seconds: float | None, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    if steps is not None:
        return warmup_cosine(step, steps=steps, warmup=warmup)
    assert seconds is not None
    return warmup_cosine(min(elapsed, seconds), steps=seconds)


def _parts(model: nn.Module | Iterable[nn.Module | nn.Parameter]) -> tuple[nn.ModuleList, list[nn.Parameter]]:
    parts = [model] if isinstance(model, (nn.Module, nn.Parameter)) else list(model)
    for part in parts:
        if not isinstance(part, (nn.Module, nn.Parameter)):
            raise TypeError(f"model must be a module, or a list of modules and parameters, got {describe(part)}")
    modules = nn.ModuleList([part for part in parts if isinstance(part, nn.Module)])
    return modules, [*modules.parameters(), *(part for part in parts if isinstance(part, nn.Parameter))]


def _training_mode(modules: nn.ModuleList) -> None:
    modules.train()
    for module in modules.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _require_loss(loss: object) -> float:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise TypeError(f"loss_fn must return one scalar tensor, got {describe(loss)}")
    if not loss.requires_grad:
        raise ValueError("the loss does not depend on any parameter; was it computed under no_grad or detached?")
    return float(loss.detach())


def _require_settings(
    steps: int | None, seconds: float | None, schedule: str, warmup: int, clip_norm: float | None, precision: str
) -> None:
    if steps is None and seconds is None:
        raise ValueError("give steps, seconds or both")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}")
    for name, value in (("seconds", seconds), ("clip_norm", clip_norm)):
        if value is not None:
            require_positive(value, name)
    if warmup < 0 or (steps is not None and warmup >= steps):
        raise ValueError(f"warmup must be at least 0 and below steps, got warmup {warmup} and steps {steps}")
    if schedule not in SCHEDULES:
        raise UnknownNameError("schedule", schedule, SCHEDULES)
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
