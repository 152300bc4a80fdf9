"""Contrastive losses: tensors in, a scalar out.

Every function scales its rows to unit length (unless `normalize=False`), computes half precision in float32, refuses
input that has no answer, and takes everything but the tensors by keyword.
"""

from workbench.losses.coupling import npc_multiplier
from workbench.losses.decoupled import dcl, dclw
from workbench.losses.hardness import hard_info_nce, simple_contrastive
from workbench.losses.info_nce import clip_loss, info_nce, nt_xent
from workbench.losses.matryoshka import feature_kl, matryoshka, matryoshka_2d
from workbench.losses.mixing import mochi_negatives, queue_info_nce
from workbench.losses.preference import preference, s_vco, vco
from workbench.losses.separation import kernel_entropy, kernel_mutual_information, sepclr
from workbench.losses.sigmoid import sigmoid_loss
from workbench.losses.supcon import supcon
from workbench.losses.transport import sinkhorn, sinkhorn_codes, swapped_prediction
from workbench.losses.uniformity import alignment, cross_uniformity, uniformity

__all__ = [
    "alignment",
    "clip_loss",
    "cross_uniformity",
    "dcl",
    "dclw",
    "feature_kl",
    "hard_info_nce",
    "info_nce",
    "kernel_entropy",
    "kernel_mutual_information",
    "matryoshka",
    "matryoshka_2d",
    "mochi_negatives",
    "npc_multiplier",
    "nt_xent",
    "preference",
    "queue_info_nce",
    "s_vco",
    "sepclr",
    "sigmoid_loss",
    "simple_contrastive",
    "sinkhorn",
    "sinkhorn_codes",
    "supcon",
    "swapped_prediction",
    "uniformity",
    "vco",
]
