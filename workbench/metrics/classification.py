"""How much of the classes is in the embeddings: nearest neighbours and linear probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
from workbench.metrics._blocks import full_precision, product, require_int, row_blocks, to_numpy, wide_dtype
from workbench.metrics.probes import fit_logistic


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Accuracy of a 1-nearest-neighbour classifier with few labels.

    Attributes:
        accuracy: mean over the draws, in [0, 1].
        per_draw: accuracy of each draw; the draws depend on the labels and the seed only, so two embeddings of the
            same rows can be compared draw by draw.
        chance: 1 / n_classes, what embeddings without information give.
        shots: labelled rows per class.
        n_classes: number of classes.
        n_test: rows classified in each draw.
    """

    accuracy: float
    per_draw: tuple[float, ...]
    chance: float
    shots: int
    n_classes: int
    n_test: int


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """Accuracy of a linear classifier on held-out rows.

    Attributes:
        accuracy: share of the test rows classified rightly, in [0, 1].
        train_accuracy: the same on the rows it was fitted on.
        chance: share of the test rows in the most frequent training class: what a constant answer gives.
        n_train: rows fitted on.
        n_test: rows tested on.
        n_classes: classes in the training labels.
    """

    accuracy: float
    train_accuracy: float
    chance: float
    n_train: int
    n_test: int
    n_classes: int


@full_precision
def knn_accuracy(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, *, k: int = 1, chunk_size: int | None = None
) -> Tensor:
    r"""Accuracy of a k-nearest-neighbour classifier by cosine similarity; higher is better.

    .. math:: \frac1m \sum_i \big[\, y_i = \operatorname{mode}\{ y_j : j \in \operatorname{top}_k \cos(x_i, x_j) \} \,\big]

    Every neighbour has one vote; where two classes have as many votes the smaller label wins, as in scikit-learn.

    Args:
        train_x: (n, d) embeddings to search, normalised inside.
        train_y: (n,) integer classes.
        test_x: (m, d) embeddings to classify.
        test_y: (m,) integer classes.
        k: number of neighbours, at most n.
        chunk_size: test rows of one block; chosen by size where not given.

    Returns:
        Scalar in [0, 1].

    Raises:
        ValueError, TypeError: bad embeddings or labels, k out of range.

    Example:
        >>> knn_accuracy(torch.eye(2), torch.tensor([0, 1]), torch.tensor([[2.0, 1.0]]), torch.tensor([0]))
        tensor(1.)
    """
    right = knn_hits(train_x, train_y, test_x, test_y, k=k, chunk_size=chunk_size)
    dtype = train_x.dtype if train_x.dtype == torch.float64 else torch.float32
    return right.double().mean().to(dtype)


def knn_hits(
    train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor, *, k: int, chunk_size: int | None = None
) -> Tensor:
    """(m,) whether each test row is classified rightly."""
    train_x, train_y = _labelled(train_x, train_y, "train_x", "train_y")
    test_x, test_y = _labelled(test_x, test_y, "test_x", "test_y")
    require_same_width(train_x, test_x, "train_x", "test_x")
    k = require_int(k, "k", low=1, high=len(train_x), why="the number of training rows")
    classes, train_class = train_y.unique(return_inverse=True)
    # A bonus below one vote lets the first of two classes with equal votes win, on every device.
    bonus = torch.linspace(0.5, 0, len(classes), device=train_x.device)
    right = torch.zeros(len(test_x), dtype=torch.bool, device=train_x.device)
    for rows in row_blocks(len(test_x), 2 * len(train_x), chunk_size):
        nearest = train_class[product(test_x[rows], train_x).topk(k, dim=1).indices]
        if k > 1:
            votes = bonus.repeat(len(nearest), 1)
            nearest = votes.scatter_add_(1, nearest, torch.ones_like(votes[:, :1]).expand(-1, k)).argmax(1, keepdim=True)
        right[rows] = classes[nearest[:, 0]] == test_y[rows]
    return right


@full_precision
def few_shot_knn(
    x: Tensor,
    labels: Tensor,
    *,
    test_x: Tensor | None = None,
    test_labels: Tensor | None = None,
    shots: int = 5,
    draws: int = 20,
    seed: int = 0,
) -> FewShot:
    """Accuracy of a cosine 1-nearest-neighbour classifier with a few labels per class, mean of several fixed draws.

    Each draw labels `shots` random rows of every class of `x` and classifies the test rows, or, where none are given,
    the other rows of `x`. With few labels the score has headroom where a full nearest-neighbour search is near its ceiling.

    Args:
        x: (n, d) embeddings to draw labelled rows from, normalised inside.
        labels: (n,) integer classes; every class needs `shots` rows (one more without test rows).
        test_x: (m, d) embeddings to classify.
        test_labels: (m,) integer classes.
        shots: labelled rows per class.
        draws: number of draws.
        seed: seed of the draws.

    Returns:
        FewShot, with `accuracy` in [0, 1].

    Raises:
        ValueError, TypeError: bad embeddings or labels, a class with too few rows, test rows without labels.

    Example:
        >>> x = torch.eye(2).repeat(4, 1)
        >>> few_shot_knn(x, torch.tensor([0, 1]).repeat(4), shots=2).accuracy
        1.0
    """
    x, labels = _labelled(x, labels, "x", "labels")
    if (test_x is None) != (test_labels is None):
        raise ValueError("test_x and test_labels must be given together")
    within = test_x is None or test_labels is None
    queries, truth = (x, labels) if within else _labelled(test_x, test_labels, "test_x", "test_labels")
    require_same_width(x, queries, "x", "test_x")
    shots, draws = require_int(shots, "shots", low=1), require_int(draws, "draws", low=1)
    support = _draw_rows(labels.cpu(), shots, draws, require_int(seed, "seed", low=0), spare=int(within)).to(x.device)

    correct = torch.zeros(draws, dtype=torch.int64)
    tested = len(queries) - support.shape[1] * within
    for rows in row_blocks(len(queries), 2 * support.shape[1]):
        here = torch.arange(rows.start, rows.stop, device=x.device)
        for draw, labelled in enumerate(support):
            nearest = product(queries[rows], x[labelled]).argmax(1)
            right = labels[labelled][nearest] == truth[rows]
            if within:
                right &= ~torch.isin(here, labelled)
            correct[draw] += int(right.sum())
    n_classes = support.shape[1] // shots
    per_draw = tuple((correct.double() / tested).tolist())
    return FewShot(
        accuracy=sum(per_draw) / draws,
        per_draw=per_draw,
        chance=1 / n_classes,
        shots=shots,
        n_classes=n_classes,
        n_test=tested,
    )


@full_precision
def linear_probe(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    c: float = 1.0,
    max_iter: int = 1000,
    solver: Literal["auto", "scikit-learn", "torch"] = "auto",
) -> LinearProbe:
    r"""Accuracy of multinomial logistic regression on frozen embeddings; higher means more of the classes is linearly there.

    .. math:: \min_{W, b}\ \tfrac12 \lVert W \rVert_F^2 + c \sum_i \operatorname{CE}(W \hat x_i + b,\, y_i)

    The columns are standardised with mean and standard deviation of the training rows (so c means the same for
    every embedding); the rows are not normalised.

    Args:
        train_x: (n, d) embeddings.
        train_y: (n,) integer classes, at least two of them.
        test_x: (m, d) embeddings.
        test_y: (m,) integer classes; a class that training did not have counts as wrong.
        c: inverse strength of the L2 penalty.
        max_iter: iterations of L-BFGS; scikit-learn warns where they do not suffice.
        solver: 'scikit-learn' (its LogisticRegression with L-BFGS), 'torch' (`fit_logistic`, the same objective on the
            device of the embeddings), or 'auto': scikit-learn on the CPU, torch elsewhere.

    Returns:
        LinearProbe, with `accuracy` in [0, 1] next to `chance`.

    Raises:
        ValueError, TypeError: bad embeddings or labels, one class only, c not positive.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [4.0], [5.0]]), torch.tensor([0, 0, 1, 1])
        >>> linear_probe(x, y, x, y).accuracy
        1.0
    """
    trained, tested, classes, counts = linear_hits(train_x, train_y, test_x, test_y, c=c, max_iter=max_iter, solver=solver)
    return LinearProbe(
        accuracy=float(tested.double().mean()),
        train_accuracy=float(trained.double().mean()),
        chance=float((test_y == int(classes[counts.argmax()])).double().mean()),
        n_train=len(trained),
        n_test=len(tested),
        n_classes=len(classes),
    )


def linear_hits(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    c: float = 1.0,
    max_iter: int = 1000,
    solver: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether each training row and each test row is classified rightly; the training classes and their counts."""
    strength = float(require_positive(c, "c"))
    train_x, test_x = require_embeddings(train_x, "train_x", min_rows=2), require_embeddings(test_x, "test_x")
    require_same_width(train_x, test_x, "train_x", "test_x")
    seen = require_labels(train_y, len(train_x), "train_y").to(train_x.device)
    truth = require_labels(test_y, len(test_x), "test_y").to(train_x.device)
    classes, counts = seen.unique(return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"train_y must hold at least two classes, got only {int(classes[0])}")
    if solver not in ("auto", "scikit-learn", "torch"):
        raise ValueError(f"solver must be 'auto', 'scikit-learn' or 'torch', got {describe(solver)}")
    steps = require_int(max_iter, "max_iter", low=1)
    if solver == "torch" or (solver == "auto" and train_x.device.type != "cpu"):
        wide = wide_dtype(train_x.device)
        mean, spread = train_x.to(wide).mean(0), train_x.to(wide).std(0, correction=0)
        # As StandardScaler: columns that are constant up to rounding are centred only.
        constant = spread <= 10 * torch.finfo(wide).eps * mean.abs().clamp(min=1.0)
        spread = torch.where(constant, torch.ones_like(spread), spread)
        standard = [(x.to(wide) - mean) / spread for x in (train_x, test_x)]
        fit = fit_logistic(standard[0], seen, c=strength, max_iter=steps)
        return fit.predict(standard[0]) == seen, fit.predict(standard[1]) == truth, classes, counts
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=steps)).fit(to_numpy(train_x), to_numpy(seen))
    predicted = [torch.as_tensor(probe.predict(to_numpy(x))).to(seen) for x in (train_x, test_x)]
    return predicted[0] == seen, predicted[1] == truth, classes, counts


def _labelled(x: Tensor | None, labels: Tensor | None, x_name: str, labels_name: str) -> tuple[Tensor, Tensor]:
    x = require_unit_rows(x, x_name)
    return x, require_labels(labels, len(x), labels_name).to(x.device)


def _draw_rows(labels: Tensor, shots: int, draws: int, seed: int, *, spare: int) -> Tensor:
    """(draws, n_classes * shots) rows, class after class; on the CPU, so that a seed means the same on every device."""
    classes, index, counts = labels.unique(return_inverse=True, return_counts=True)
    if (counts < shots + spare).any():
        poorest = int(counts.argmin())
        raise ValueError(
            f"labels must hold at least {shots + spare} rows of each class for shots={shots}, "
            f"got {int(counts[poorest])} of class {int(classes[poorest])}"
        )
    generator = torch.Generator().manual_seed(seed)
    first = counts.cumsum(0) - counts
    chosen = (first[:, None] + torch.arange(shots)).flatten()
    rows = []
    for _ in range(draws):
        shuffled = torch.randperm(len(labels), generator=generator)
        rows.append(shuffled[index[shuffled].argsort(stable=True)][chosen])
    return torch.stack(rows)
