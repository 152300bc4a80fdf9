"""Classifiers in closed form for few labelled features of a frozen image-text model: Gaussian discriminants and Tip-Adapter's cache.

They give scores to be added to the zero-shot logits, row c for class c; the one free number is chosen on validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.checks import (
    describe,
    require_embeddings,
    require_labels,
    require_positive,
    require_same_width,
    require_unit_rows,
)

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # the grid of the GDA paper's code


@dataclass(frozen=True, eq=False)
class GaussianClassifier:
    """A linear classifier that is the Bayes rule of Gaussian classes with one covariance.

    Attributes:
        weight: (classes, d), the precision times the mean of each class.
        bias: (classes,).
        means: (classes, d).
        precision: (d, d), shared by all classes.
    """

    weight: Tensor
    bias: Tensor
    means: Tensor
    precision: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """(n, classes) log-posteriors, up to a constant of each row; add them to zero-shot logits or take their argmax."""
        x = require_embeddings(x, "x")
        require_same_width(x, self.weight, "x", "weight")
        return x @ self.weight.T + self.bias


@torch.no_grad()
def shrunk_precision(residuals: Tensor) -> Tensor:
    r"""Inverse of a covariance from few rows, with the shrinkage of Kubokawa and Srivastava.

    .. math:: \hat P = d\,\big((N - 1)\hat\Sigma + \operatorname{tr}(\hat\Sigma) I\big)^{-1}, \qquad
        \hat\Sigma = \tfrac{1}{N - 1} R^\top R

    For many rows it points as the plain inverse, $\frac{d}{N-1}\hat\Sigma^{-1}$; with few rows, where $\hat\Sigma$ has no inverse, the
    directions without any spread get the finite precision $d / \operatorname{tr}(\hat\Sigma)$.

    Args:
        residuals: (N, d) rows minus the mean of their class, N at least 2; augmented views count as rows.

    Returns:
        (d, d) symmetric, positive definite.

    Raises:
        ValueError, TypeError: bad residuals; all of them zero, as with one shot and no augmented views.

    Source:
        Wang et al. 2024 (arXiv 2402.04087), equation 6 and code; Kubokawa and Srivastava 2008.

    Example:
        >>> shrunk_precision(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).diagonal()
        tensor([0.5000, 1.0000])
    """
    residuals = require_embeddings(residuals, "residuals", min_rows=2)
    scatter = residuals.T @ residuals
    return _shrunk(scatter, len(residuals))


@torch.no_grad()
def gaussian_classifier(x: Tensor, labels: Tensor, *, precision: Tensor | None = None) -> GaussianClassifier:
    r"""The Bayes classifier of Gaussian classes with one shared covariance, in closed form; it has one row for each class.

    .. math:: w_c = P \mu_c, \qquad b_c = \log\tfrac1C - \tfrac12 \mu_c^\top P \mu_c

    Args:
        x: (N, d) labelled features, for few shots with several augmented views of each picture.
        labels: (N,) integer classes 0 ... C - 1, each with a row; or (N, C) weights of the classes of each row, which sum to
            one (posteriors in an EM algorithm).
        precision: (d, d) to use for P; by default `shrunk_precision` of the residuals.

    Returns:
        `GaussianClassifier`; every class has the same prior.

    Raises:
        ValueError, TypeError: bad features, labels or precision; a class without rows; residuals that are all zero.

    Source:
        Wang et al. 2024 (arXiv 2402.04087), equations 4 to 6.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]])
        >>> gaussian_classifier(x, torch.tensor([0, 0, 1, 1])).scores(torch.tensor([[1.9, 9.0], [2.1, 9.0]])).argmax(1)
        tensor([0, 1])
    """
    x = require_embeddings(x, "x", min_rows=2)
    share = _class_weights(labels, x)
    mass = share.sum(0)
    means = share.T @ x / mass[:, None]
    if precision is None:
        # sum over rows and classes of weight * residual residual^T, without the (N, C, d) residuals
        hard = share.amax(1).eq(1).all()
        if hard:
            residuals = x - means[share.argmax(1)]
            scatter = residuals.T @ residuals
        else:
            scatter = x.T @ x - (means.T * mass) @ means
        precision = _shrunk(scatter, len(x))
    else:
        precision = require_embeddings(precision, "precision").to(x.dtype)
        if precision.shape != (x.shape[1], x.shape[1]):
            raise ValueError(f"precision must have shape {(x.shape[1], x.shape[1])}, got {describe(precision)}")
    weight = means @ precision
    bias = -math.log(share.shape[1]) - (weight * means).sum(1) / 2
    return GaussianClassifier(weight, bias, means, precision)


@torch.no_grad()
def cache_scores(x: Tensor, keys: Tensor, labels: Tensor, *, beta: float = 5.5, classes: int | None = None) -> Tensor:
    r"""Tip-Adapter: the labels of the stored features, weighted by how near they are.

    .. math:: s_c(x) = \sum_{i: y_i = c} e^{-\beta (1 - \cos(x, f_i))}

    For $\beta \to 0$ it counts the stored rows of each class, for large $\beta$ the nearest row decides.

    Args:
        x: (n, d) features to classify, normalised inside.
        keys: (N, d) stored features of the shots, normalised inside.
        labels: (N,) their integer classes 0 ... C - 1.
        beta: sharpness, above zero.
        classes: number of classes C; by default the largest label plus one.

    Returns:
        (n, C) scores, 0 to the number of keys of the class; Tip-Adapter's logits are the zero-shot logits plus alpha times these.

    Raises:
        ValueError, TypeError: bad features or labels, beta not positive.

    Source:
        Tip-Adapter (Zhang et al. 2022, arXiv 2111.03930), equation 5.

    Example:
        >>> cache_scores(torch.tensor([[1.0, 0.0]]), torch.eye(2), torch.tensor([0, 1]), beta=1.0)
        tensor([[1.0000, 0.3679]])
    """
    x, keys = require_unit_rows(x, "x"), require_unit_rows(keys, "keys")
    require_same_width(x, keys, "x", "keys")
    sharpness = float(require_positive(beta, "beta"))
    labels = require_labels(labels, len(keys)).to(keys.device)
    count = int(labels.max()) + 1 if classes is None else classes
    if int(labels.min()) < 0 or int(labels.max()) >= count:
        raise ValueError(f"labels must be 0 to {count - 1}, got {int(labels.min())} to {int(labels.max())}")
    affinity = torch.exp(-sharpness * (1 - x @ keys.T))
    return affinity @ torch.nn.functional.one_hot(labels, count).to(affinity.dtype)


def choose_alpha(zero_shot: Tensor, scores: Tensor, labels: Tensor, *, grid: Sequence[float] = ALPHAS) -> tuple[float, float]:
    r"""The weight $\alpha$ for which zero-shot logits $+ \alpha \cdot$ scores are right most often; the smallest of equals.

    Args:
        zero_shot: (n, C) logits of validation rows, never of test rows.
        scores: (n, C) what is added to them.
        labels: (n,) integer classes.
        grid: weights to try.

    Returns:
        alpha and its accuracy on these rows, in [0, 1].

    Raises:
        ValueError, TypeError: logits and scores of two shapes, bad labels, an empty grid.

    Example:
        >>> choose_alpha(torch.zeros(2, 2), torch.eye(2), torch.tensor([0, 1]), grid=(0.1, 1.0))
        (0.1, 1.0)
    """
    zero_shot, scores = require_embeddings(zero_shot, "zero_shot"), require_embeddings(scores, "scores")
    if zero_shot.shape != scores.shape:
        raise ValueError(f"zero_shot and scores must have one shape, got {tuple(zero_shot.shape)} and {tuple(scores.shape)}")
    labels = require_labels(labels, len(scores)).to(scores.device)
    if not len(grid):
        raise ValueError("grid must hold at least one weight, got none")
    right = {a: float(((zero_shot + a * scores).argmax(1) == labels).double().mean()) for a in sorted(map(float, grid))}
    best = max(right, key=lambda a: right[a])
    return best, right[best]


def _shrunk(scatter: Tensor, rows: int) -> Tensor:
    """Kubokawa-Srivastava from the sum of the residuals' outer products."""
    d = len(scatter)
    spread = scatter.trace() / (rows - 1)
    if not spread > 0:
        raise ValueError(
            "all residuals are zero, so there is no covariance: one shot of each class needs several augmented views, got only one"
        )
    regular = scatter + spread * torch.eye(d, dtype=scatter.dtype, device=scatter.device)
    # The trace term keeps the condition number below N d or so, within reach of float32.
    precision = d * torch.cholesky_inverse(torch.linalg.cholesky(regular))
    return (precision + precision.T) / 2


def _class_weights(labels: Tensor, x: Tensor) -> Tensor:
    """(N, C) weights of the classes, of the rows' dtype: one-hot for integer labels."""
    if isinstance(labels, Tensor) and labels.ndim == 2:
        share = require_embeddings(labels, "labels").to(x)
        if len(share) != len(x) or (share < 0).any() or (share.sum(1) - 1).abs().max() > 1e-3:
            raise ValueError(
                f"weights must be (N, C) with N = {len(x)}, not negative and sum to one in each row, got {describe(labels)}"
            )
    else:
        index = require_labels(labels, len(x)).to(x.device)
        if int(index.min()) < 0:
            raise ValueError(f"labels must be 0 to C - 1, got {int(index.min())}")
        share = torch.nn.functional.one_hot(index).to(x.dtype)
    empty = (share.sum(0) <= 0).nonzero()[:, 0]
    if len(empty) or share.shape[1] < 2:
        what = f"class {int(empty[0])} has none" if len(empty) else "there is only one class"
        raise ValueError(f"labels must hold rows of each of at least two classes, but {what}")
    return share
