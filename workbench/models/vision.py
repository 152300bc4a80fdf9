"""Image encoders: images in, one feature vector each (or a grid of tokens for a captioner).

`ConvEncoder` and `MLPEncoder` are ours: no transformers architecture trains at their price (0.3 ms an image and step on
one core). Everything larger is a transformers architecture behind `VisionEncoder`, so pretrained weights drop in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.checks import describe, require_tensor
from workbench.errors import UnknownNameError
from workbench.models.config import build_config

KINDS = ("conv", "mlp", "vit", "resnet")
NORMS = ("batch", "group")
POOLINGS = ("cls", "mean", "pooler")


class ImageEncoder(nn.Module):
    """What every image encoder offers: `forward` gives (n, out_features), `tokens` gives (n, t, out_features)."""

    out_features: int

    def tokens(self, images: Tensor) -> Tensor:
        """A grid or sequence of feature vectors for each image, (n, t, out_features)."""
        raise NotImplementedError


class ConvEncoder(ImageEncoder):
    """A stack of 3x3 convolutions of stride 2; features are the spatial mean of the last map.

    Each stage is convolution, normalisation, ReLU and halves height and width, so a 32-pixel image and the four default
    widths end in a 2x2 map. Stride 2 from the first stage on makes it 4.5 times cheaper than a stride-1 first stage.

    Args:
        widths: channels of each stage; the last one is `out_features`.
        in_channels: 3 for colour, 1 for grey pictures.
        norm: 'batch' (cheapest), 'group' (each image alone: no batch statistics) or None.
        channels_last: keep weights and activations in channels-last memory, 5-29 % faster on a CPU.

    Shape:
        images (n, in_channels, h, w) of any height and width -> features (n, widths[-1]);
        `tokens` -> (n, t, widths[-1]), t = ceil(h / 2**stages) * ceil(w / 2**stages), row by row.

    Raises:
        TypeError, ValueError: images that are not a floating point (n, in_channels, h, w) tensor.
        UnknownNameError: an unknown `norm`.

    Example:
        >>> ConvEncoder(widths=(32, 64, 96))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 96])
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 128),
        in_channels: int = 3,
        *,
        norm: str | None = "batch",
        channels_last: bool = True,
    ):
        super().__init__()
        _require_widths(widths)
        stages: list[nn.Module] = []
        for inputs, outputs in zip((in_channels, *widths), widths, strict=False):
            # A bias before a normalisation would be subtracted again at once.
            stages.append(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=norm is None))
            stages += [*_norm2d(norm, outputs), nn.ReLU()]
        self.stages = nn.Sequential(*stages)
        self.in_channels, self.out_features = in_channels, widths[-1]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def feature_map(self, images: Tensor) -> Tensor:
        """The last map, (n, out_features, h', w')."""
        images = _require_images(images, self.in_channels)
        return self.stages(images.contiguous(memory_format=self.memory_format))

    def tokens(self, images: Tensor) -> Tensor:
        return self.feature_map(images).flatten(2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))


class MLPEncoder(ImageEncoder):
    """A multi-layer perceptron on flattened pixels (or any feature vector); ReLU between layers, none after the last.

    For pictures of 8 to 16 pixels, where a few hundred steps fit into seconds.

    Args:
        in_features: number of inputs, channels * height * width for pictures.
        widths: outputs of each layer; the last one is `out_features`.

    Shape:
        (n, ...) with `in_features` values a row -> (n, widths[-1]); `tokens` -> (n, 1, widths[-1]).

    Raises:
        TypeError, ValueError: inputs that are not floating point or do not hold `in_features` values a row.

    Example:
        >>> MLPEncoder(196, widths=(256, 128))(torch.rand(4, 1, 14, 14)).shape
        torch.Size([4, 128])
    """

    def __init__(self, in_features: int, widths: Sequence[int] = (256, 128)):
        super().__init__()
        _require_widths(widths)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((in_features, *widths), widths, strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.in_features, self.out_features = in_features, widths[-1]

    def tokens(self, images: Tensor) -> Tensor:
        return self(images)[:, None]

    def forward(self, images: Tensor) -> Tensor:
        images = require_tensor(images, "images")
        if not images.is_floating_point():
            raise TypeError(f"images must be floating point, got {describe(images)}; use images.float() / 255")
        if images.ndim < 2 or images[:1].numel() != self.in_features * len(images[:1]) or len(images) == 0:
            raise ValueError(f"images must hold {self.in_features} values in each of n >= 1 rows, got {describe(images)}")
        return self.layers(images.flatten(1))


class VisionEncoder(ImageEncoder):
    """A transformers vision model as an encoder: `VisionEncoder(AutoModel.from_pretrained(name))` works like a small one.

    Args:
        backbone: a model whose `last_hidden_state` is tokens (n, t, d) or a map (n, d, h, w).
        pooling: 'cls' (first token), 'mean' (over all tokens or places) or 'pooler' (the model's own
            `pooler_output`); by default 'cls' for tokens and 'mean' for maps.
        size: height and width to insist on; None leaves the check to the backbone.

    Raises:
        TypeError, ValueError: images of a wrong shape; 'cls' of a map.
        UnknownNameError: an unknown pooling.
    """

    def __init__(self, backbone: nn.Module, *, pooling: str | None = None, size: int | None = None):
        super().__init__()
        config: Any = backbone.config
        is_map = hasattr(config, "hidden_sizes")
        pooling = pooling or ("mean" if is_map else "cls")
        if pooling not in POOLINGS:
            raise UnknownNameError("pooling", pooling, POOLINGS)
        if is_map and pooling == "cls":
            raise ValueError(f"pooling 'cls' needs a class token; {type(backbone).__name__} gives a map, use 'mean'")
        self.backbone, self.pooling, self.size = backbone, pooling, size
        self.in_channels = getattr(config, "num_channels", 3)
        self.out_features = config.hidden_sizes[-1] if is_map else config.hidden_size

    def tokens(self, images: Tensor) -> Tensor:
        state = self._run(images).last_hidden_state
        return state.flatten(2).transpose(1, 2) if state.ndim == 4 else state

    def forward(self, images: Tensor) -> Tensor:
        output = self._run(images)
        state = output.last_hidden_state
        if self.pooling == "pooler":
            if output.pooler_output is None:
                raise ValueError(f"this {type(self.backbone).__name__} has no pooler; use pooling='cls' or 'mean'")
            return output.pooler_output.flatten(1)
        if state.ndim == 4:
            return state.mean(dim=(2, 3))
        return state[:, 0] if self.pooling == "cls" else state.mean(dim=1)

    def _run(self, images: Tensor) -> Any:
        return self.backbone(pixel_values=_require_images(images, self.in_channels, self.size))


def vision_encoder(kind: str, *, size: int, in_channels: int = 3, **options: Any) -> ImageEncoder:
    """A small, untrained image encoder by name.

    Options, with their defaults; for 'vit' and 'resnet' also any field of the transformers configuration:

    - 'conv': widths=(32, 64, 128, 128), norm='batch', channels_last=True
    - 'mlp': widths=(256, 128)
    - 'vit' (`ViTModel`): width=128, layers=4, heads=width // 32, patch=8, pooling='cls'
    - 'resnet' (`ResNetModel`): widths=(16, 32, 64, 128), depths=(2, 2, 2, 2), layer_type='basic', pooling='mean',
      stem='imagenet' (7x7 convolution and max pooling, 32 pixels end as 1x1) or 'cifar' (one 3x3 convolution, 16 times the
      work; `from_pretrained` cannot rebuild it).

    Args:
        kind: one of 'conv', 'mlp', 'vit', 'resnet'.
        size: height and width of the images in pixels.
        in_channels: channels of the images.

    Returns:
        An encoder with `forward(images) -> (n, out_features)`, `tokens(images) -> (n, t, out_features)` and `out_features`.

    Raises:
        UnknownNameError: an unknown kind or option.
        ValueError: a size, patch or number of heads that does not fit.

    Source:
        ViT: Dosovitskiy et al. 2021; ResNet: He et al. 2016; 3x3 stem for small pictures: SimCLR (Chen et al. 2020), appendix B.9.

    Example:
        >>> vision_encoder("conv", size=32).out_features
        128
    """
    if size < 1 or in_channels < 1:
        raise ValueError(f"size and in_channels must be at least 1, got {size} and {in_channels}")
    if kind == "conv":
        return ConvEncoder(in_channels=in_channels, **_known(options, "widths", "norm", "channels_last"))
    if kind == "mlp":
        return MLPEncoder(in_channels * size * size, **_known(options, "widths"))
    if kind == "vit":
        return _vit(size, in_channels, **options)
    if kind == "resnet":
        return _resnet(size, in_channels, **options)
    raise UnknownNameError("image encoder", kind, KINDS)


def _vit(
    size: int,
    in_channels: int,
    *,
    width: int = 128,
    layers: int = 4,
    heads: int | None = None,
    patch: int = 8,
    pooling: str = "cls",
    **config: Any,
) -> VisionEncoder:
    from transformers import ViTConfig, ViTModel

    if size % patch:
        raise ValueError(f"size must be a multiple of patch, got size {size} and patch {patch}")
    fields = {
        "image_size": size,
        "patch_size": patch,
        "num_channels": in_channels,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads or max(1, width // 32),
        "intermediate_size": 4 * width,
    }
    return VisionEncoder(
        ViTModel(build_config(ViTConfig, fields, config), add_pooling_layer=pooling == "pooler"), pooling=pooling, size=size
    )


def _resnet(
    size: int,
    in_channels: int,
    *,
    widths: Sequence[int] = (16, 32, 64, 128),
    depths: Sequence[int] = (2, 2, 2, 2),
    layer_type: str = "basic",
    pooling: str = "mean",
    stem: str = "imagenet",
    **config: Any,
) -> VisionEncoder:
    from transformers import ResNetConfig, ResNetModel

    _require_widths(widths)
    if stem not in ("imagenet", "cifar"):
        raise UnknownNameError("stem", stem, ("imagenet", "cifar"))
    fields = {
        "num_channels": in_channels,
        "embedding_size": widths[0],
        "hidden_sizes": list(widths),
        "depths": list(depths),
        "layer_type": layer_type,
    }
    backbone = ResNetModel(build_config(ResNetConfig, fields, config))
    if stem == "cifar":
        embedder: Any = backbone.embedder
        embedder.embedder.convolution = nn.Conv2d(in_channels, backbone.config.embedding_size, 3, padding=1, bias=False)
        embedder.pooler = nn.Identity()
    return VisionEncoder(backbone, pooling=pooling, size=size)


def _known(options: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in options:
        if name not in names:
            raise UnknownNameError("option", name, names)
    return options


def _norm2d(norm: str | None, width: int) -> list[nn.Module]:
    if norm is None:
        return []
    if norm not in NORMS:
        raise UnknownNameError("norm", norm, NORMS)
    return [nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(math.gcd(8, width), width)]


def _require_widths(widths: Sequence[int]) -> None:
    if len(widths) == 0 or any(w < 1 for w in widths):
        raise ValueError(f"widths must be one or more positive integers, got {tuple(widths)}")


def _require_images(images: object, channels: int, size: int | None = None) -> Tensor:
    images = require_tensor(images, "images")
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point, got {describe(images)}; use images.float() / 255")
    wanted = f"(n, {channels}, {size or 'h'}, {size or 'w'}) with n >= 1"
    right_size = size is None or tuple(images.shape[2:]) == (size, size)
    if images.ndim != 4 or len(images) == 0 or images.shape[1] != channels or not right_size:
        raise ValueError(f"images must have shape {wanted}, got {describe(images)}")
    return images
