"""Encoders, heads, the dual encoder and the captioner. Larger architectures come from transformers, imported on first use."""

from workbench.models.caches import available_features, cached_features
from workbench.models.captioner import Captioner
from workbench.models.coca import AttentionPooler, CoCa, CoCaOutput
from workbench.models.dual_encoder import DualEncoder, DualOutput
from workbench.models.encode import embed, evaluating
from workbench.models.few_shot import GaussianClassifier, cache_scores, choose_alpha, gaussian_classifier, shrunk_precision
from workbench.models.heads import ProjectionHead
from workbench.models.pretrained import list_models, pretrained
from workbench.models.prototypes import Prototypes
from workbench.models.text import TextEncoder, Tokens, decode_texts, encode_texts, text_encoder, train_tokenizer
from workbench.models.vision import ConvEncoder, ImageEncoder, MLPEncoder, VisionEncoder, vision_encoder
from workbench.models.wrappers import Pretrained

__all__ = [
    "AttentionPooler",
    "Captioner",
    "CoCa",
    "CoCaOutput",
    "ConvEncoder",
    "DualEncoder",
    "DualOutput",
    "GaussianClassifier",
    "ImageEncoder",
    "MLPEncoder",
    "Pretrained",
    "ProjectionHead",
    "Prototypes",
    "TextEncoder",
    "Tokens",
    "VisionEncoder",
    "available_features",
    "cache_scores",
    "cached_features",
    "choose_alpha",
    "decode_texts",
    "embed",
    "encode_texts",
    "evaluating",
    "gaussian_classifier",
    "list_models",
    "pretrained",
    "shrunk_precision",
    "text_encoder",
    "train_tokenizer",
    "vision_encoder",
]
