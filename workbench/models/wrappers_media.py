"""What `pretrained` returns for captioners, encoders of pictures, speech models and bridges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.checks import describe, require_tensor
from workbench.models.encode import embed, evaluating
from workbench.models.text import decode_texts
from workbench.models.wrappers import Pretrained, finish_rows, require_pictures_shape, token_log_probs


class PretrainedCaptioner(Pretrained):
    """An image encoder and a text decoder with cross-attention."""

    def embed_images(self, images: Tensor, *, size: int | None = None, unit: bool = True, batch_size: int = 256) -> Tensor:
        encoder = self.model.encoder if hasattr(self.model, "encoder") else self.model.vision_model

        def encode(batch: Tensor) -> Tensor:
            return encoder(pixel_values=batch).last_hidden_state.mean(dim=1)

        return self._images(images, encode, size, unit, batch_size)

    def caption(self, images: Tensor | None, *, n: int = 1, sample: bool = False, **options: Any) -> list[str]:
        """Captions, greedy or sampled from the full distribution (torch's global seed).

        Args:
            images: (n, 3, h, w) pictures, or None for captions from the language prior: in place of image tokens the decoder reads
                one token of zeros, as image dropout showed it to our captioners in training (others see a blank picture).
            n: number of captions when `images` is None.
            sample: draw instead of taking the most probable token.
            **options: further arguments of transformers' `generate`: max_length, num_beams, temperature ...
        """
        assert self.tokenizer is not None
        if sample:
            options.setdefault("top_k", 0)
        with evaluating(self.model):
            made = self.model.generate(**self._seen(images, n), do_sample=sample, **options)
        return decode_texts(self.tokenizer, made)

    def log_probs(self, texts: Sequence[str], images: Tensor | None = None, *, batch_size: int = 32) -> Tensor:
        """As `Pretrained.log_probs`; one picture for each text, or None for the language prior."""
        tokens = self.encode(texts)
        if images is not None and len(images) != len(tokens):
            raise ValueError(f"images and texts must be paired row by row, got {len(images)} and {len(tokens)} rows")
        parts = []
        with evaluating(self.model):
            for i in range(0, len(tokens), batch_size):
                t = tokens[i : i + batch_size]
                inputs = {"decoder_input_ids": t.ids, "decoder_attention_mask": t.mask}
                if not hasattr(self.model, "encoder"):
                    inputs = {"input_ids": t.ids, "attention_mask": t.mask}
                seen = self._seen(None if images is None else images[i : i + batch_size], len(t))
                parts.append(token_log_probs(self.model(**seen, **inputs).logits, t))
        return torch.cat(parts)

    def _seen(self, images: Tensor | None, n: int) -> dict[str, Any]:
        """What the model gets for pictures, or for none."""
        assert self.prepare is not None
        if images is not None:
            return {"pixel_values": self.prepare(require_pictures_shape(images).to(self.device)).to(self.dtype)}
        if not hasattr(self.model, "encoder"):
            return {"pixel_values": torch.zeros(n, 3, *self.prepare.size, device=self.device, dtype=self.dtype)}
        from transformers.modeling_outputs import BaseModelOutput

        nothing: Any = torch.zeros(n, 1, self.model.config.encoder.hidden_size, device=self.device, dtype=self.dtype)
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=nothing)}


class PretrainedImageEncoder(Pretrained):
    """Encoders of pictures: our own modules, or transformers' behind `VisionEncoder`."""

    layer: int | None = None

    def embed_images(self, images: Tensor, *, size: int | None = None, unit: bool = True, batch_size: int = 256) -> Tensor:
        return self._images(images, self._encode, size, unit, batch_size)

    def _encode(self, batch: Tensor) -> Tensor:
        from workbench.models.vision import ImageEncoder, VisionEncoder

        if isinstance(self.model, ImageEncoder):
            return self.model(batch)
        if self.layer is not None:
            return self.model(pixel_values=batch, output_hidden_states=True).hidden_states[self.layer][:, 0]
        return VisionEncoder(self.model)(batch)


class PretrainedSpeech(Pretrained):
    """Whisper: speech to text."""

    RATE = 16_000

    def transcribe(self, waves: Tensor, rate: int) -> list[str]:
        """What is said in waveforms, greedy and without time stamps.

        Args:
            waves: (n, samples) floating point in [-1, 1]; at most 30 seconds are heard.
            rate: samples a second; resampled to 16,000.

        Returns:
            n texts.
        """
        assert self.tokenizer is not None
        ids: Any = self.tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>"])
        prompt = torch.tensor([ids], device=self.device).expand(len(waves), -1)
        with evaluating(self.model):
            made = self.model.generate(self.spectrograms(waves, rate), decoder_input_ids=prompt, do_sample=False)
        return decode_texts(self.tokenizer, made)

    def spectrograms(self, waves: Tensor, rate: int) -> Tensor:
        """Log-mel spectrograms of 30 seconds, (n, 80, 3000), what the encoder takes."""
        from scipy.signal import resample_poly
        from transformers import WhisperFeatureExtractor

        waves = require_tensor(waves, "waves")
        if waves.ndim != 2 or waves.numel() == 0 or not waves.is_floating_point() or not torch.isfinite(waves).all():
            raise ValueError(f"waves must be finite, floating point, of shape (n, samples), got {describe(waves)}")
        if isinstance(rate, bool) or not isinstance(rate, int) or not 1000 <= rate <= 192_000:
            raise ValueError(f"rate must be the samples a second, an integer from 1,000 to 192,000, got {rate!r}")
        sounds = resample_poly(waves.cpu().numpy(), self.RATE, rate, axis=1) if rate != self.RATE else waves.cpu().numpy()
        extractor = WhisperFeatureExtractor(feature_size=80)
        heard = extractor(list(sounds), sampling_rate=self.RATE, return_tensors="pt")["input_features"]
        return heard.to(self.device, self.dtype)


class PretrainedBridge(Pretrained):
    """Two small heads over packaged encoders; both sides also take cached features, without any package."""

    encoders: tuple[str, str] = ("efficientnet-lite0", "minilm")
    towers: dict[str, Pretrained]

    @property
    def logit_scale(self) -> float:
        """What multiplies cosines in the loss it was trained with, 1 / temperature."""
        return float(self.model.logit_scale.detach())

    def embed_images(self, images: Tensor, *, size: int | None = None, unit: bool = True, batch_size: int = 256) -> Tensor:
        """As `Pretrained.embed_images`; `images` may also be features (n, d) of the image encoder, as `cached_features` gives them."""
        if not (isinstance(images, Tensor) and images.ndim == 2):
            images = self._tower(0).embed_images(images, size=size, unit=False, batch_size=batch_size)
        return self._project(images, "image_projection", unit, batch_size)

    def embed_texts(self, texts: Sequence[str] | Tensor, *, unit: bool = True, batch_size: int = 64) -> Tensor:
        """As `Pretrained.embed_texts`; `texts` may also be features (n, d) of the text encoder, as `cached_features` gives them."""
        if not isinstance(texts, Tensor):
            texts = self._tower(1).embed_texts(texts, batch_size=batch_size)
        return self._project(texts, "text_projection", unit, batch_size)

    def _project(self, features: Tensor, head: str, unit: bool, batch_size: int) -> Tensor:
        module = getattr(self.model, head)
        inputs = features.to(self.device, self.dtype)
        rows = embed(module, inputs, batch_size=max(batch_size, 1024)) if len(list(module.parameters())) else inputs
        return finish_rows(rows.float(), unit, f"embeddings of {self.name!r}")

    def _tower(self, side: int) -> Pretrained:
        from workbench.models.pretrained import pretrained

        name = self.encoders[side]
        if name not in self.__dict__.setdefault("towers", {}):
            self.towers[name] = pretrained(name, device=self.device)
        return self.towers[name]
