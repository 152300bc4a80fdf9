"""CoCa: one model and one pass for a retrieval vector and for a caption."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from workbench.checks import describe, require_positive, require_tensor, require_unit_rows
from workbench.losses import clip_loss
from workbench.models.encode import evaluating
from workbench.models.text import Tokens, require_tokens
from workbench.models.vision import ImageEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class AttentionPooler(nn.Module):
    r"""Learned queries that read a sequence: one layer of multi-head attention and a layer norm.

    .. math:: \mathrm{pool}(V) = \mathrm{LN}\big(\mathrm{MHA}(Q, V, V)\big), \quad Q \in \mathbb R^{q \times d}

    Args:
        queries: number q of learned queries; one gives one vector for the whole sequence.
        width: width d of queries and outputs.
        in_features: width of the sequence that is read; `width` where not given.
        heads: attention heads.

    Shape:
        (n, t, in_features) -> (n, queries, width)

    Raises:
        ValueError: no query, or a width that is no multiple of heads.

    Source:
        CoCa (Yu et al. 2022), section 3.2.

    Example:
        >>> AttentionPooler(16, 64, in_features=96)(torch.rand(2, 49, 96)).shape
        torch.Size([2, 16, 64])
    """

    def __init__(self, queries: int, width: int, *, in_features: int | None = None, heads: int = 4):
        super().__init__()
        if queries < 1:
            raise ValueError(f"queries must be at least 1, got {queries}")
        _require_heads(width, heads)
        inputs = in_features if in_features is not None else width
        self.queries = nn.Parameter(torch.randn(queries, width) / math.sqrt(width))
        self.attention = nn.MultiheadAttention(width, heads, kdim=inputs, vdim=inputs, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(tokens)[0]

    def read(self, tokens: Tensor, *, weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """The pooled tokens and, if asked for, which tokens each query read: (n, queries, t), rows that sum to one."""
        asked = self.queries.expand(len(tokens), -1, -1)
        pooled, seen = self.attention(asked, tokens, tokens, need_weights=weights)
        return self.norm(pooled), seen


class CoCaOutput(NamedTuple):
    """What one pass gives: unit embeddings (n, d) of both sides, the scale of their cosines, next-token logits (n, t, v)."""

    image_embeddings: Tensor
    text_embeddings: Tensor
    logit_scale: Tensor
    logits: Tensor | None


class CoCa(nn.Module):
    r"""A contrastive captioner: the lower half of the text decoder never sees the picture, the upper half does.

    The lower (unimodal) layers read the words and, at the end, one learned token [CLS], which becomes the text embedding. It
    comes last in a causal stack, so no word sees it; it is dropped before the upper (multimodal) layers, which cross-attend to
    pooled image tokens and predict the next word:

    .. math:: L = \lambda_{con} L_{con} + \lambda_{cap} L_{cap}

    Args:
        tokenizer: its size and its beginning and end tokens are used; texts must be encoded with it, padded on the right.
        image_encoder: module with `tokens(images) -> (n, t, out_features)`, or None for cached tokens.
        image_features: width of cached image tokens; otherwise read from the encoder.
        width: width of poolers and text layers.
        layers: number of unimodal and of multimodal layers.
        heads: attention heads everywhere.
        queries: image tokens that the captioner sees, made by an attentional pooler.
        cascade: the one query of the contrastive embedding reads the pooled tokens (True) or the image tokens (False).
        projection_dim: width d of the embeddings.
        max_length: longest caption in tokens, beginning and end included.
        temperature: of the contrastive loss at the start; it is learned, at or above 0.01.

    Raises:
        ValueError: no width for cached tokens, fewer than one layer in a half, a tokenizer without beginning or end.

    Source:
        CoCa (Yu et al. 2022), figure 2, section 3.2 and equations 2 to 4.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_encoder: ImageEncoder | None = None,
        *,
        image_features: int | None = None,
        width: int = 64,
        layers: tuple[int, int] = (1, 1),
        heads: int = 4,
        queries: int = 16,
        cascade: bool = True,
        projection_dim: int = 64,
        max_length: int = 32,
        temperature: float = 0.07,
    ):
        super().__init__()
        _require_heads(width, heads)
        if len(layers) != 2 or min(layers) < 1:
            raise ValueError(f"layers must be two numbers of at least 1, unimodal and multimodal, got {layers}")
        if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer must have a bos_token and an eos_token; train_tokenizer sets both")
        require_positive(temperature, "temperature")
        image_features = image_features if image_features is not None else getattr(image_encoder, "out_features", None)
        if image_features is None:
            raise ValueError("image_features must be given when there is no image_encoder that says its out_features")
        self.image_encoder, self.image_features = image_encoder, image_features
        self.cascade, self.max_length = cascade, max_length
        self.begin, self.end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
        self.generative_pooler = AttentionPooler(queries, width, in_features=image_features, heads=heads)
        self.contrastive_pooler = AttentionPooler(1, width, in_features=width if cascade else image_features, heads=heads)
        self.embedding = nn.Embedding(len(tokenizer), width)
        self.positions = nn.Parameter(torch.randn(max_length, width) / math.sqrt(width))
        self.cls = nn.Parameter(torch.randn(width) / math.sqrt(width))
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))
        self.unimodal = nn.ModuleList(_Layer(width, heads, cross=False) for _ in range(layers[0]))
        self.multimodal = nn.ModuleList(_Layer(width, heads, cross=True) for _ in range(layers[1]))
        self.cls_norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.image_projection = nn.Linear(width, projection_dim, bias=False)
        self.text_projection = nn.Linear(width, projection_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def logit_scale(self) -> Tensor:
        """The scalar that multiplies cosines, at most 100."""
        with torch.no_grad():  # clamping in the graph would stop its gradient at the bound for good
            self.log_scale.clamp_(max=math.log(100))
        return self.log_scale.exp()

    def image_tokens(self, images: Tensor) -> Tensor:
        """(n, t, image_features): what the encoder makes of the pictures, or the cached tokens themselves."""
        tokens = images if self.image_encoder is None else self.image_encoder.tokens(images)
        tokens = require_tensor(tokens, "images")
        if tokens.ndim != 3 or tokens.shape[2] != self.image_features or 0 in tokens.shape:
            raise ValueError(f"image tokens must have shape (n, t, {self.image_features}), got {describe(tokens)}")
        return tokens

    def read_image(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled tokens that the captioner sees, (n, queries, width), and the contrastive state, (n, width)."""
        tokens = self.image_tokens(images)
        pooled = self.generative_pooler(tokens)
        return pooled, self.contrastive_pooler(pooled if self.cascade else tokens)[:, 0]

    def read_text(self, texts: Tokens) -> tuple[Tensor, Tensor]:
        """States of the words after the unimodal half, (n, t, width), and that of the appended [CLS], (n, width).

        [CLS] sees itself and all real words, padding is seen by nobody, and no word sees [CLS] or a later word.
        """
        require_tokens(texts, self.embedding.num_embeddings, self.max_length)
        n, t = texts.ids.shape
        if not texts.mask[:, 0].all():
            raise ValueError("texts must be padded on the right and hold a token each; use a tokenizer with padding_side='right'")
        words = self.embedding(texts.ids) + self.positions[:t]
        states = torch.cat([words, self.cls.expand(n, 1, -1)], dim=1)
        padding = nn.functional.pad(texts.mask == 0, (0, 1), value=False)
        for layer in self.unimodal:
            states, _ = layer(states, _later(t + 1, states.device), padding)
        return states[:, :-1], self.cls_norm(states[:, -1])

    def next_words(self, states: Tensor, pooled: Tensor) -> Tensor:
        """Logits (n, t, vocabulary) of the next token, from the unimodal states of words and the pooled image tokens."""
        for layer in self.multimodal:
            states, _ = layer(states, _later(states.shape[1], states.device), None, pooled)
        return self.token_norm(states) @ self.embedding.weight.T

    def forward(self, images: Tensor, texts: Tokens, *, caption: bool = True) -> CoCaOutput:
        """One pass over n pairs; `caption=False` leaves the multimodal half out (logits are then None)."""
        if len(images) != len(texts):
            raise ValueError(f"images and texts must be paired row by row, got {len(images)} and {len(texts)} rows")
        pooled, image = self.read_image(images)
        states, text = self.read_text(texts)
        logits = self.next_words(states, pooled) if caption else None
        x = require_unit_rows(self.image_projection(image), "image embeddings")
        y = require_unit_rows(self.text_projection(text), "text embeddings")
        return CoCaOutput(x, y, self.logit_scale, logits)

    def loss(self, images: Tensor, texts: Tokens, *, caption_weight: float = 2.0, contrastive_weight: float = 1.0) -> Tensor:
        r"""$\lambda_{con} L_{con} + \lambda_{cap} L_{cap}$, in nats.

        $L_{con}$ is the sum of the two directions (equation 3; twice `losses.clip_loss`), $L_{cap}$ the mean over all real tokens
        of the batch, the end token included. A half with weight 0 is not computed.
        """
        if min(caption_weight, contrastive_weight) < 0 or caption_weight + contrastive_weight == 0:
            raise ValueError(f"weights must be at least 0 and not both 0, got {caption_weight} and {contrastive_weight}")
        out = self(images, texts, caption=caption_weight > 0)
        total = out.image_embeddings.new_zeros(())
        if contrastive_weight:
            both = 2 * clip_loss(out.image_embeddings, out.text_embeddings, logit_scale=out.logit_scale, normalize=False)
            total = total + contrastive_weight * both
        if out.logits is not None:
            total = total - caption_weight * _log_probs(out.logits, texts).sum() / texts.mask[:, 1:].sum()
        return total

    def log_probs(self, images: Tensor, texts: Tokens) -> Tensor:
        """Log-probability of every given token, in nats: (n, t - 1), column i for token i + 1, exactly 0 at padding."""
        states, _ = self.read_text(texts)
        return _log_probs(self.next_words(states, self.read_image(images)[0]), texts)

    def image_embeddings(self, images: Tensor) -> Tensor:
        """(n, projection_dim) unit embeddings of pictures."""
        return require_unit_rows(self.image_projection(self.read_image(images)[1]), "image embeddings")

    def text_embeddings(self, texts: Tokens) -> Tensor:
        """(n, projection_dim) unit embeddings of texts; no picture is involved."""
        return require_unit_rows(self.text_projection(self.read_text(texts)[1]), "text embeddings")

    def generate(self, images: Tensor, *, max_length: int | None = None) -> Tensor:
        """Greedy captions: (n, t) token ids from the beginning token on, the end token repeated after the end."""
        length = max_length if max_length is not None else self.max_length
        if not 2 <= length <= self.max_length:
            raise ValueError(f"max_length must be between 2 and {self.max_length}, got {length}")
        with evaluating(self):
            pooled, _ = self.read_image(images)
            ids = torch.full((len(pooled), 1), self.begin, device=pooled.device)
            while ids.shape[1] < length and not (ids == self.end).any(dim=1).all():
                states, _ = self.read_text(Tokens(ids, torch.ones_like(ids)))
                word = self.next_words(states, pooled)[:, -1].argmax(dim=1, keepdim=True)
                ended = (ids == self.end).any(dim=1, keepdim=True)
                ids = torch.cat([ids, torch.where(ended, self.end, word)], dim=1)
        return ids

    def look(self, images: Tensor, texts: Tokens) -> Tensor:
        """Where the captioner looks for each next word: (n, t - 1, image tokens), rows that sum to one.

        Attention of words to pooled tokens (mean over heads and multimodal layers) times attention of pooled tokens to image
        tokens (mean over heads).
        """
        with evaluating(self):
            pooled, sources = self.generative_pooler.read(self.image_tokens(images), weights=True)
            states, _ = self.read_text(texts)
            seen = []
            for layer in self.multimodal:
                states, weights = layer(states, _later(states.shape[1], states.device), None, pooled, weights=True)
                seen.append(weights)
            assert sources is not None
            return (torch.stack(seen).mean(0) @ sources)[:, :-1]


class _Layer(nn.Module):
    """A pre-norm transformer layer: causal self-attention, cross-attention where wanted, perceptron."""

    def __init__(self, width: int, heads: int, *, cross: bool):
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(width), nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_norm = nn.LayerNorm(width) if cross else None
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True) if cross else None
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, states: Tensor, hidden: Tensor, padding: Tensor | None, image: Tensor | None = None, *, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        own, seen = self.self_norm(states), None
        states = states + self.self_attention(own, own, own, attn_mask=hidden, key_padding_mask=padding, need_weights=False)[0]
        if self.cross_attention is not None and self.cross_norm is not None:
            found, seen = self.cross_attention(self.cross_norm(states), image, image, need_weights=weights)
            states = states + found
        return states + self.mlp(states), seen


def _later(t: int, device: torch.device) -> Tensor:
    """(t, t) bool, True where a column comes after its row: what a causal layer hides."""
    return torch.ones(t, t, dtype=torch.bool, device=device).triu(1)


def _log_probs(logits: Tensor, texts: Tokens) -> Tensor:
    kept = logits[:, :-1].float()
    nats = nn.functional.cross_entropy(kept.flatten(0, 1), texts.ids[:, 1:].flatten(), reduction="none")
    return -nats.view(len(texts), -1) * texts.mask[:, 1:]


def _require_heads(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"width must be a multiple of heads, got width {width} and {heads} heads")
