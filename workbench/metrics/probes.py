"""Multinomial logistic regression on the device of the embeddings, with scikit-learn's objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.checks import require_embeddings, require_labels, require_positive
from workbench.metrics._blocks import full_precision, require_int, wide_dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticFit:
    """A fitted logistic regression.

    Attributes:
        weight: (classes, d), or (1, d) for two classes, of which it is the score of the second.
        bias: (classes,) or (1,).
        classes: (classes,) the labels, sorted.
        objective: the penalised loss at the optimum.
        converged: whether it stopped by itself within the iterations.
    """

    weight: Tensor
    bias: Tensor
    classes: Tensor
    objective: float
    converged: bool

    def scores(self, x: Tensor) -> Tensor:
        """(n, classes) logits, up to a constant of each row."""
        scores = x.to(self.weight.dtype) @ self.weight.T + self.bias
        return scores if len(self.classes) > 2 else torch.cat([-scores, scores], dim=1) / 2

    def predict(self, x: Tensor) -> Tensor:
        """(n,) labels."""
        return self.classes[self.scores(x).argmax(1)]


@full_precision
def fit_logistic(x: Tensor, labels: Tensor, *, c: float = 1.0, max_iter: int = 1000, tolerance: float = 1e-6) -> LogisticFit:
    r"""Logistic regression by L-BFGS, in float64: the objective of scikit-learn's LogisticRegression, on any device.

    .. math:: \min_{W, b}\ \tfrac12 \lVert W \rVert_F^2 + c \sum_i \operatorname{CE}(W x_i + b,\, y_i)

    scipy's L-BFGS (scikit-learn's too) moves the weights, the device of `x` takes products and gradients. The bias is not penalised. Two classes have one row of weights, as in scikit-learn (a softmax with two rows would
    penalise half as much).

    Args:
        x: (n, d) rows, used as they are.
        labels: (n,) integer classes, at least two of them.
        c: inverse strength of the penalty.
        max_iter: iterations of L-BFGS.
        tolerance: largest entry of the gradient of the objective divided by c n at which it stops.

    Returns:
        LogisticFit; its objective is within 1e-5 (relative) of scikit-learn's.

    Raises:
        ValueError, TypeError: bad embeddings or labels, one class only, c not positive.

    Example:
        >>> fit = fit_logistic(torch.tensor([[0.0], [1.0], [4.0], [5.0]]), torch.tensor([3, 3, 7, 7]))
        >>> fit.predict(torch.tensor([[0.5], [4.5]]))
        tensor([3, 7])
    """
    from scipy.optimize import minimize

    x = require_embeddings(x, "x", min_rows=2)
    x = x.to(wide_dtype(x.device))
    strength, limit = float(require_positive(c, "c")), float(require_positive(tolerance, "tolerance"))
    classes, index = require_labels(labels, len(x)).to(x.device).unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels must hold at least two classes, got only {int(classes[0])}")
    rows, (n, d) = (len(classes) if len(classes) > 2 else 1), x.shape

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            theta = torch.as_tensor(flat, dtype=x.dtype, device=x.device).reshape(rows, d + 1).requires_grad_()
            scores = x @ theta[:, :d].T + theta[:, d]
            if rows == 1:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(scores[:, 0], index.to(x.dtype), reduction="sum")
            else:
                loss = torch.nn.functional.cross_entropy(scores, index, reduction="sum")
            # Divided by c n, so that the tolerance means the same for every number of rows.
            value = (theta[:, :d].square().sum() / (2 * strength) + loss) / n
            (gradient,) = torch.autograd.grad(value, theta)
        return float(value), gradient.double().cpu().numpy().ravel()

    steps = require_int(max_iter, "max_iter", low=1)
    found = minimize(
        objective,
        np.zeros(rows * (d + 1)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps, "maxfun": 4 * steps, "gtol": limit, "ftol": 64 * np.finfo(float).eps, "maxls": 50},
    )
    weight = torch.as_tensor(found.x, dtype=x.dtype, device=x.device).reshape(rows, d + 1)
    return LogisticFit(
        weight=weight[:, :d],
        bias=weight[:, d],
        classes=classes,
        objective=float(found.fun) * strength * n,
        converged=bool(found.success),
    )
