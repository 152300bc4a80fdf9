"""A small image captioner: image tokens into a transformers decoder with cross-attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.checks import describe, require_tensor
from workbench.models.config import build_config
from workbench.models.encode import evaluating
from workbench.models.text import Tokens, require_tokens
from workbench.models.vision import ImageEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Captioner(nn.Module):
    r"""Image tokens, then `GPT2LMHeadModel` with cross-attention: $p(y_t \mid y_{<t}, \text{image})$.

    Without an image (`images=None`) the decoder reads one learned null token; image dropout in training makes that an
    input it knows, so that $p(y_t \mid y_{<t})$ (the language prior) comes from the same model.

    Args:
        tokenizer: its size and its padding, beginning and end tokens are used; texts must be encoded with it.
        image_encoder: module with `tokens(images) -> (n, t, out_features)`, or None for cached tokens.
        image_features: width of cached image tokens; otherwise read from the encoder.
        width: width of the decoder.
        layers: decoder layers.
        heads: attention heads.
        max_length: longest caption in tokens, beginning and end included.
        max_image_tokens: longest image sequence.
        image_dropout: probability with which a training example loses its image.
        dropout: of the decoder.
        **config: any other field of GPT2Config.

    Raises:
        ValueError: no width for cached tokens, a tokenizer without the three tokens, probabilities outside [0, 1).

    Source:
        Cross-attention decoder: Vaswani et al. 2017; the conditioning-dropout idea: Ho & Salimans 2022, section 3.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_encoder: ImageEncoder | None = None,
        *,
        image_features: int | None = None,
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        max_length: int = 32,
        max_image_tokens: int = 128,
        image_dropout: float = 0.1,
        dropout: float = 0.0,
        **config: Any,
    ):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        for name, value in (("image_dropout", image_dropout), ("dropout", dropout)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        specials = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        missing = [name.removesuffix("_id") for name, value in specials.items() if value is None]
        if missing:
            raise ValueError(f"the tokenizer must have a {', '.join(missing)}; train_tokenizer sets all three")
        image_features = image_features if image_features is not None else getattr(image_encoder, "out_features", None)
        if image_features is None:
            raise ValueError("image_features must be given when there is no image_encoder that says its out_features")
        fields = {
            "vocab_size": len(tokenizer),
            "n_embd": width,
            "n_layer": layers,
            "n_head": heads,
            "n_positions": max_length,
            "activation_function": "gelu_pytorch_tanh",  # gelu_new in one kernel: a tenth less time a step
            "add_cross_attention": True,
            "resid_pdrop": dropout,
            "embd_pdrop": dropout,
            "attn_pdrop": dropout,
            "bos_token_id": specials["bos_token_id"],
            "eos_token_id": specials["eos_token_id"],
        }
        self.image_encoder, self.image_dropout = image_encoder, image_dropout
        self.image_features, self.max_length = image_features, max_length
        self.image_projection = nn.Sequential(nn.Linear(image_features, width), nn.LayerNorm(width))
        self.image_positions = nn.Parameter(torch.randn(max_image_tokens, width) * 0.1)
        self.null_token = nn.Parameter(torch.zeros(width))
        self.decoder: Any = GPT2LMHeadModel(build_config(GPT2Config, fields, config))
        # Known to `generate` only: as a field of the model it makes generate warn of padding that generate itself put there.
        self.decoder.generation_config.pad_token_id = specials["pad_token_id"]

    def image_tokens(self, images: Tensor | None, n: int) -> Tensor:
        """What the decoder reads: (n, t, width), or the null token (n, 1, width) for `images=None`.

        In training mode each row is replaced by null tokens with probability `image_dropout`.
        """
        if images is None:
            return self.null_token.expand(n, 1, -1)
        tokens = images if self.image_encoder is None else self.image_encoder.tokens(images)
        tokens = require_tensor(tokens, "images")
        if tokens.ndim != 3 or tokens.shape[2] != self.image_features or not 1 <= tokens.shape[1] <= len(self.image_positions):
            raise ValueError(
                f"image tokens must have shape (n, 1 to {len(self.image_positions)}, {self.image_features}), got {describe(tokens)}"
            )
        if len(tokens) != n:
            raise ValueError(f"images and texts must be paired row by row, got {len(tokens)} and {n} rows")
        states = self.image_projection(tokens) + self.image_positions[: tokens.shape[1]]
        if self.training and self.image_dropout:
            # Attention over t equal tokens is attention over one: a dropped row reads what `images=None` reads.
            keep = torch.rand(n, 1, 1, device=states.device) >= self.image_dropout
            states = torch.where(keep, states, self.null_token)
        return states

    def forward(self, images: Tensor | None, texts: Tokens) -> Tensor:
        """Next-token logits (n, t, vocabulary): position i predicts token i + 1 from the tokens up to i and the image."""
        require_tokens(texts, self.decoder.config.vocab_size, self.max_length)
        if texts.ids.shape[1] < 2 or not texts.mask[:, :2].all():
            raise ValueError(
                "texts must have at least 2 tokens each, padded on the right; use a tokenizer with padding_side='right'"
            )
        return self.decoder(
            input_ids=texts.ids,
            attention_mask=texts.mask,
            encoder_hidden_states=self.image_tokens(images, len(texts)),
            use_cache=False,
        ).logits

    def log_probs(self, images: Tensor | None, texts: Tokens) -> Tensor:
        """Log-probability of every given token, in nats: (n, t - 1), column i for token i + 1, exactly 0 at padding."""
        logits = self(images, texts)[:, :-1].float()
        nats = nn.functional.cross_entropy(logits.flatten(0, 1), texts.ids[:, 1:].flatten(), reduction="none")
        return -nats.view(len(texts), -1) * texts.mask[:, 1:]

    def loss(self, images: Tensor | None, texts: Tokens) -> Tensor:
        r"""Teacher-forced caption loss $-\frac{1}{\#\text{tok}}\sum_t \log p(y_t \mid y_{<t}, \text{image})$, nats a token.

        Averaged over real tokens of the batch, the end token included. Guessing gives log(vocabulary), perfect is 0.
        """
        return -self.log_probs(images, texts).sum() / texts.mask[:, 1:].sum()

    def generate(
        self,
        images: Tensor | None = None,
        *,
        n: int | None = None,
        max_length: int | None = None,
        sample: bool = False,
        prefix: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Captions written by transformers' `generate`: greedy, or sampled from the full distribution.

        Args:
            images: (n, c, h, w) pictures, (n, t, d) cached tokens, or None for captions from the language prior.
            n: number of captions when `images` is None (default 1).
            max_length: longest caption in tokens, beginning and end included; default the model's.
            sample: draw from the distribution (torch's global seed) instead of taking the most probable token.
            prefix: (n, p) ids that every caption starts with, the beginning token first.
            **options: further arguments of `generate`: num_beams, temperature, top_k, top_p, num_return_sequences ...

        Returns:
            (n, t) token ids from the beginning token on, padded after the end token; `decode_texts` makes them texts.

        Raises:
            ValueError: a length beyond the model's, a prefix that leaves no room, or lengths that differ.
        """
        n = len(images) if images is not None else (n or 1)
        max_length = max_length if max_length is not None else self.max_length
        config = self.decoder.config
        if prefix is None:
            prefix = torch.full((n, 1), int(config.bos_token_id), device=self.null_token.device)
        if len(prefix) != n:
            raise ValueError(f"prefix must have one row for each of {n} captions, got {describe(prefix)}")
        if not prefix.shape[1] < max_length <= self.max_length:
            raise ValueError(
                f"max_length must be above the prefix's {prefix.shape[1]} and at most {self.max_length} tokens, got {max_length}"
            )
        if sample:
            options.setdefault("top_k", 0)  # transformers would cut the distribution at 50 tokens unasked
        with evaluating(self):
            return self.decoder.generate(
                input_ids=prefix,
                attention_mask=torch.ones_like(prefix),
                encoder_hidden_states=self.image_tokens(images, n),
                max_length=max_length,
                do_sample=sample,
                **options,
            )
