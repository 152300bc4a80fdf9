"""Decoding: rules that choose the next token from more than one distribution."""

from workbench.decoding.contrast import (
    contrast,
    dola,
    fuse,
    plausible,
    refocus,
    restricted,
    sequence_scores,
    with_tail,
)
from workbench.decoding.layers import LayerScores, exit_log_probs, final_norm, last_layer, score_continuations
from workbench.decoding.search import Search, contrastive_scores, contrastive_search, isotropy

__all__ = [
    "LayerScores",
    "Search",
    "contrast",
    "contrastive_scores",
    "contrastive_search",
    "dola",
    "exit_log_probs",
    "final_norm",
    "fuse",
    "isotropy",
    "last_layer",
    "plausible",
    "refocus",
    "restricted",
    "score_continuations",
    "sequence_scores",
    "with_tail",
]
