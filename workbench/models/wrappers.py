"""The one kind of object that `pretrained` returns: a transformers model with its tokenizer, and what it can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from workbench.checks import require_unit_rows
from workbench.errors import WorkbenchError
from workbench.models.encode import evaluating
from workbench.models.images import ImagePreparation, require_pictures
from workbench.models.text import TextEncoder, Tokens, _require_texts, encode_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = (
    "dual-encoder",
    "captioner",
    "language-model",
    "masked-language-model",
    "sentence-encoder",
    "image-encoder",
    "speech",
    "bridge",
)


@dataclass(eq=False)
class Pretrained:
    """A pretrained model, its tokenizer and its card; methods that its kind lacks raise `WorkbenchError`.

    Attributes:
        name: as it was asked for.
        kind: one of `KINDS`.
        model: the transformers module, in evaluation mode; train it, hook it or save it like any other.
        tokenizer: the transformers tokenizer, or None.
        card: what is known of it: what, licence, source, parameters; metrics of the models that we trained.
        prepare: turns pictures into what the model takes, or None.
    """

    name: str
    kind: str
    model: Any
    tokenizer: PreTrainedTokenizerBase | None = None
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)
    prepare: ImagePreparation | None = None
    pooling: str = "mean"

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.model.parameters())
        return f"Pretrained({self.name!r}, {self.kind}, {count:,} parameters, {self.device}, {self.dtype})"

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of its weights; results are float32 in any case."""
        return next(self.model.parameters()).dtype

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Token ids and mask of `texts` on the model's device, cut at the longest sequence that the model takes."""
        if self.tokenizer is None:
            self._lack("tokenizer", "models that read texts")
        return encode_texts(self.tokenizer, texts, max_length=self.max_length, device=self.device)

    @property
    def max_length(self) -> int:
        """Longest text in tokens that model and tokenizer both take."""
        config = getattr(self.model.config, "text_config", None) or getattr(self.model.config, "decoder", self.model.config)
        names = ("max_position_embeddings", "n_positions", "max_target_positions")
        longest = next((int(v) for n in names if (v := getattr(config, n, None))), 512)
        return min(longest - (2 if config.model_type in OFFSET else 0), int(getattr(self.tokenizer, "model_max_length", longest)))

    def embed_images(self, images: Tensor, *, size: int | None = None, unit: bool = True, batch_size: int = 256) -> Tensor:
        """Embeddings of pictures.

        Args:
            images: (n, 3, h, w) of any size, uint8 or floating point in [0, 1], as our data sets hold them.
            size: side to which they are scaled, for encoders that take several; by default the model's own.
            unit: scale every row to length one.
            batch_size: rows at once; changes memory and speed only.

        Returns:
            (n, d) float32 on the model's device.

        Raises:
            WorkbenchError: this kind of model sees no pictures.
            TypeError, ValueError: not such pictures.
        """
        self._lack("embed_images", "dual-encoder, image-encoder, captioner and bridge")

    def embed_texts(self, texts: Sequence[str], *, unit: bool = True, batch_size: int = 64) -> Tensor:
        """Embeddings of texts, (n, d) float32 on the model's device; rows of length one unless `unit` is False.

        Raises:
            WorkbenchError: this kind of model reads no texts.
            TypeError, ValueError: no list of strings.
        """
        self._lack("embed_texts", "dual-encoder, sentence-encoder, bridge, language-model and masked-language-model")

    def log_probs(self, texts: Sequence[str], images: Tensor | None = None, *, batch_size: int = 32) -> Tensor:
        r"""$\log p(y_{t+1} \mid y_{\le t})$ of every token in nats, (n, t - 1); column i for token i + 1 of `encode(texts)`.

        Exactly 0 at padding, so a row's sum is the log-probability of its text, given its first token (and its image).

        Raises:
            WorkbenchError: this kind of model is not a language model.
        """
        self._lack("log_probs", "language-model and captioner")

    def generate(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """Continuations of prompts, without the prompts; `options` are those of transformers' `generate`."""
        self._lack("generate", "language-model")

    def caption(self, images: Tensor | None, *, n: int = 1, **options: Any) -> list[str]:
        """Captions of pictures; `images=None` gives `n` captions from the language prior alone."""
        self._lack("caption", "captioner")

    def transcribe(self, waves: Tensor, rate: int) -> list[str]:
        """What is said in (n, samples) waveforms of `rate` samples a second."""
        self._lack("transcribe", "speech")

    def _lack(self, method: str, kinds: str) -> NoReturn:
        raise WorkbenchError(f"{self.name!r} has no {method}: its kind is {self.kind}, and {kinds} can do that")

    def _images(self, images: Tensor, encode: Callable[[Tensor], Any], size: int | None, unit: bool, batch_size: int) -> Tensor:
        prepare = self.prepare
        assert prepare is not None
        images = require_pictures_shape(images)
        rows = []
        with evaluating(self.model):
            for start in range(0, len(images), batch_size):
                batch = prepare(images[start : start + batch_size].to(self.device), size=size)
                rows.append(encode(batch.to(self.dtype)).float())
        return finish_rows(torch.cat(rows), unit, f"image embeddings of {self.name!r}")

    def _texts(self, texts: Sequence[str], encode: Callable[[Tokens], Tensor], unit: bool, batch_size: int) -> Tensor:
        texts = _require_texts(texts)
        # Texts of one length together: padding to the longest of all would cost several times the work.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = []
        with evaluating(self.model):
            for start in range(0, len(texts), batch_size):
                rows.append(encode(self.encode([texts[i] for i in order[start : start + batch_size]])).float())
        embeddings = torch.cat(rows)[torch.tensor(order).argsort().to(self.device)]
        return finish_rows(embeddings, unit, f"text embeddings of {self.name!r}")


OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet")  # their position numbers start at 2


class PretrainedDualEncoder(Pretrained):
    """CLIP, SigLIP and their kin: pictures and texts in one space."""

    @property
    def logit_scale(self) -> float:
        """What multiplies cosines in the loss it was trained with, 1 / temperature."""
        return float(self.model.logit_scale.detach().exp())

    def embed_images(self, images: Tensor, *, size: int | None = None, unit: bool = True, batch_size: int = 256) -> Tensor:
        return self._images(images, lambda x: _pooled(self.model.get_image_features(pixel_values=x)), size, unit, batch_size)

    def embed_texts(self, texts: Sequence[str], *, unit: bool = True, batch_size: int = 64) -> Tensor:
        return self._texts(texts, self._text_features, unit, batch_size)

    def encode(self, texts: Sequence[str]) -> Tokens:
        if "siglip" not in self.model.config.model_type:
            return super().encode(texts)
        # SigLIP was trained on texts padded to full length and without a mask; shorter padding changes its embeddings.
        assert self.tokenizer is not None
        fixed = {"padding": "max_length", "truncation": True, "max_length": self.max_length, "return_tensors": "pt"}
        ids = self.tokenizer(_require_texts(texts), **fixed)["input_ids"]
        return Tokens(ids, torch.ones_like(ids)).to(self.device)

    def _text_features(self, tokens: Tokens) -> Tensor:
        return _pooled(self.model.get_text_features(input_ids=tokens.ids, attention_mask=tokens.mask))


class PretrainedSentenceEncoder(Pretrained):
    """BERT-like encoders of texts, with or without a head that guesses masked words."""

    def embed_texts(self, texts: Sequence[str], *, unit: bool = True, batch_size: int = 64) -> Tensor:
        return self._texts(texts, TextEncoder(self._backbone(), pooling=self.pooling), unit, batch_size)

    def _backbone(self) -> nn.Module:
        return getattr(self.model, self.model.base_model_prefix, self.model)


class PretrainedLanguageModel(PretrainedSentenceEncoder):
    """GPT-like models: probabilities of texts, and new texts."""

    def log_probs(self, texts: Sequence[str], images: Tensor | None = None, *, batch_size: int = 32) -> Tensor:
        if images is not None:
            raise WorkbenchError(f"{self.name!r} is a {self.kind} and sees no images; leave them out")
        tokens = self.encode(texts)
        if tokens.ids.shape[1] < 2:
            raise ValueError("texts must have at least 2 tokens, the first one is only read")
        with evaluating(self.model):
            parts = [
                token_log_probs(self.model(input_ids=t.ids, attention_mask=t.mask).logits, t)
                for t in (tokens[i : i + batch_size] for i in range(0, len(tokens), batch_size))
            ]
        return torch.cat(parts)

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int = 32, sample: bool = False, **options: Any) -> list[str]:
        """Continuations of prompts, greedy or sampled from the full distribution (torch's global seed).

        Args:
            prompts: n strings.
            max_new_tokens: longest continuation in tokens.
            sample: draw instead of taking the most probable token.
            **options: further arguments of transformers' `generate`: temperature, top_k, top_p, num_beams ...

        Returns:
            n texts, without the prompts and special tokens.
        """
        assert self.tokenizer is not None
        if sample:
            options.setdefault("top_k", 0)  # transformers would cut the distribution at 50 tokens unasked
        texts = []
        with evaluating(self.model):
            # One at a time: padding on the left would shift the positions of models that learned them.
            for prompt in _require_texts(prompts):
                ids = self.encode([prompt]).ids
                end = self.tokenizer.eos_token_id
                if ids.shape[1] > 1 and ids[0, -1] == end:
                    ids = ids[:, :-1]  # our tokenizers close a text; a prompt goes on
                room = self.max_length - len(self.tokenizer(prompt)["input_ids"])
                if room < 1:  # a prompt that was cut at its end would go on from the wrong place
                    raise ValueError(f"the prompt fills the model's {self.max_length} tokens, got {prompt!r:.60}")
                pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else end
                made = self.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=min(max_new_tokens, room),
                    do_sample=sample,
                    pad_token_id=pad,
                    **options,
                )
                texts += self.tokenizer.batch_decode(made[:, ids.shape[1] :].tolist(), skip_special_tokens=True)
        return texts


def token_log_probs(logits: Tensor, tokens: Tokens) -> Tensor:
    """Log-probability of tokens 1, 2, ... in nats, (n, t - 1) float32, exactly 0 at padding."""
    nats = nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens.ids[:, 1:].flatten(), reduction="none")
    return -nats.view(len(tokens), -1) * tokens.mask[:, 1:]


def require_pictures_shape(images: object) -> Tensor:
    """Return pictures after the checks of `require_pictures`, unchanged, so that only batches are converted."""
    require_pictures(images[:1] if isinstance(images, Tensor) and images.ndim == 4 else images)
    assert isinstance(images, Tensor)
    return images


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


def finish_rows(rows: Tensor, unit: bool, what: str) -> Tensor:
    """Rows at length one if `unit`; raise where an encoder gave NaN, infinity or (for `unit`) a row of zeros."""
    if unit:
        return require_unit_rows(rows, what)
    if not torch.isfinite(rows).all():
        raise ValueError(f"{what} hold NaN or infinite values; try dtype=torch.float32")
    return rows
