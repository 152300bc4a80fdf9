"""Metrics of embeddings, captions and texts: pure functions, each with its convention, unit and source in the docstring.

Embeddings come as (n, d) floating point tensors on any device, normalised inside where the metric is about directions.
A single number comes back as a scalar tensor, several numbers as a small frozen dataclass. No metric carries a gradient
(`workbench.losses` has the differentiable forms) and none builds an n x n matrix, except `negative_weights`, which is one.

`estimate(name, ...)` gives any of them with an interval and a null, and `compare(name, ...)` compares two systems.
"""

from workbench.metrics.classification import FewShot, LinearProbe, few_shot_knn, knn_accuracy, linear_probe
from workbench.metrics.estimates import Comparison, McNemar, compare, contributions, estimate, estimate_names, mcnemar
from workbench.metrics.feature_suppression import FactorProbe, factor_probe
from workbench.metrics.generation import Mauve, MultipleChoice, diversity, mauve, multiple_choice, perplexity, repetition
from workbench.metrics.geometry import alignment, anisotropy, cross_uniformity, tolerance, uniformity
from workbench.metrics.hallucination import Chair, chair
from workbench.metrics.hardness import classmate_share, negative_weight_entropy, negative_weights
from workbench.metrics.intervals import Contributions, Estimate, interval
from workbench.metrics.mentions import Mention, find_mentions
from workbench.metrics.minimal_pairs import CaptionChoice, MinimalPairs, caption_choice, minimal_pairs
from workbench.metrics.modality_gap import ModalityGap, modality_gap, shift_gap
from workbench.metrics.neighbours import Neighbours, hubness, k_occurrence, knn_overlap, near_duplicates, nearest_neighbours
from workbench.metrics.pope import Pope, Probe, parse_yes_no, pope, pope_probes
from workbench.metrics.probes import LogisticFit, fit_logistic
from workbench.metrics.ranking import Ranking, ranking
from workbench.metrics.retrieval import Recall, mean_reciprocal_rank, recall_at_k
from workbench.metrics.similarity import linear_cka, pearson, procrustes, spearman
from workbench.metrics.spectrum import effective_rank, rankme, spectrum, spectrum_decay
from workbench.metrics.suppression import (
    Decodability,
    Sensitivity,
    VarianceShares,
    decodability,
    minimal_pair_sensitivity,
    suppression_index,
    variance_shares,
)

__all__ = [
    "CaptionChoice",
    "Chair",
    "Comparison",
    "Contributions",
    "Decodability",
    "Estimate",
    "FactorProbe",
    "FewShot",
    "LinearProbe",
    "LogisticFit",
    "Mauve",
    "McNemar",
    "Mention",
    "MinimalPairs",
    "ModalityGap",
    "MultipleChoice",
    "Neighbours",
    "Pope",
    "Probe",
    "Ranking",
    "Recall",
    "Sensitivity",
    "VarianceShares",
    "alignment",
    "anisotropy",
    "caption_choice",
    "chair",
    "classmate_share",
    "compare",
    "contributions",
    "cross_uniformity",
    "decodability",
    "diversity",
    "effective_rank",
    "estimate",
    "estimate_names",
    "factor_probe",
    "few_shot_knn",
    "find_mentions",
    "fit_logistic",
    "hubness",
    "interval",
    "k_occurrence",
    "knn_accuracy",
    "knn_overlap",
    "linear_cka",
    "linear_probe",
    "mauve",
    "mcnemar",
    "mean_reciprocal_rank",
    "minimal_pair_sensitivity",
    "minimal_pairs",
    "modality_gap",
    "multiple_choice",
    "near_duplicates",
    "nearest_neighbours",
    "negative_weight_entropy",
    "negative_weights",
    "parse_yes_no",
    "pearson",
    "perplexity",
    "pope",
    "pope_probes",
    "procrustes",
    "ranking",
    "rankme",
    "recall_at_k",
    "repetition",
    "shift_gap",
    "spearman",
    "spectrum",
    "spectrum_decay",
    "suppression_index",
    "tolerance",
    "uniformity",
    "variance_shares",
]
