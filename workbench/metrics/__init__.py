"""Metrics of embeddings and captions: pure functions, each with its convention, unit and source in the docstring.

Embeddings come as (n, d) floating point tensors on any device, normalised inside where the metric is about directions.
A single number comes back as a scalar tensor, several numbers as a small frozen dataclass. No metric carries a gradient
(`workbench.losses` has the differentiable forms) and none builds an n x n matrix, except `negative_weights`, which is one.
"""

from workbench.metrics.classification import FewShot, LinearProbe, few_shot_knn, knn_accuracy, linear_probe
from workbench.metrics.feature_suppression import FactorProbe, factor_probe
from workbench.metrics.geometry import (
    alignment,
    cross_uniformity,
    effective_rank,
    rankme,
    tolerance,
    uniformity,
)
from workbench.metrics.hallucination import Chair, chair
from workbench.metrics.hardness import classmate_share, negative_weight_entropy, negative_weights
from workbench.metrics.modality_gap import ModalityGap, modality_gap
from workbench.metrics.retrieval import Recall, recall_at_k

__all__ = [
    "Chair",
    "FactorProbe",
    "FewShot",
    "LinearProbe",
    "ModalityGap",
    "Recall",
    "alignment",
    "chair",
    "classmate_share",
    "cross_uniformity",
    "effective_rank",
    "factor_probe",
    "few_shot_knn",
    "knn_accuracy",
    "linear_probe",
    "modality_gap",
    "negative_weight_entropy",
    "negative_weights",
    "rankme",
    "recall_at_k",
    "tolerance",
    "uniformity",
]
