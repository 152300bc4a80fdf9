"""EfficientNet-Lite0, the one packaged architecture that transformers does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.models.vision import ImageEncoder, _require_images

# (blocks, kernel, stride of the first, expansion, channels) of each stage; Lite keeps b0's and drops squeeze-and-excitation.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's 'same' padding: ceil(h / stride) rows come out, the odd row of padding lies below."""

    def forward(self, images: Tensor) -> Tensor:
        pad: list[int] = []
        for size, kernel, stride in zip(images.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pad += [total // 2, total - total // 2]
        if pad[0] == pad[1] == pad[2] == pad[3]:  # the convolution pads evenly by itself, without a copy
            return nn.functional.conv2d(images, self.weight, None, self.stride, pad[0], 1, self.groups)
        return super().forward(nn.functional.pad(images, pad))


class Block(nn.Module):
    """Expand by a 1x1 convolution, convolve each channel alone, project; the input is added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        expand = [*_convolution(inputs, inner, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*_convolution(inner, inner, kernel, stride, groups=inner), nn.ReLU6()]
        self.layers = nn.Sequential(*expand, *depthwise, *_convolution(inner, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        return images + self.layers(images) if self.residual else self.layers(images)


class EfficientNetLite0(ImageEncoder):
    """EfficientNet-Lite0: features are the spatial mean of the last map, `classify` gives the 1,000 ImageNet logits.

    Padding follows TensorFlow at every size of image, so sizes need not be multiples of 32.

    Shape:
        normalised images (n, 3, h, w) -> features (n, 1280); `tokens` -> (n, t, 1280), t = ceil(h / 32) * ceil(w / 32).

    Raises:
        TypeError, ValueError: images that are not a floating point (n, 3, h, w) tensor.

    Source:
        EfficientNet (Tan & Le 2019), table 1; Lite: no squeeze-and-excitation, ReLU6, fixed stem and head.
    """

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.out_features, self.in_channels = HEAD, 3
        self.stem = nn.Sequential(*_convolution(3, STEM, 3, 2), nn.ReLU6())
        blocks, width = [], STEM
        for count, kernel, stride, expansion, channels in STAGES:
            for i in range(count):
                blocks.append(Block(width, channels, kernel, stride if i == 0 else 1, expansion))
                width = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(*_convolution(width, HEAD, 1), nn.ReLU6())
        self.classifier = nn.Linear(HEAD, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The output of the stem, of every block, and of the head: 18 maps (n, c, h', w')."""
        maps = [self.stem(_channels_last(images))]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return [*maps, self.head(maps[-1])]

    def tokens(self, images: Tensor) -> Tensor:
        return self._last_map(images).flatten(2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self._last_map(images).mean(dim=(2, 3))

    def classify(self, images: Tensor) -> Tensor:
        """Logits of the 1,000 classes of ImageNet, (n, 1000)."""
        return self.classifier(self(images))

    def _last_map(self, images: Tensor) -> Tensor:
        state = self.stem(_channels_last(images))
        for block in self.blocks:
            state = block(state)
        return self.head(state)


def _channels_last(images: Tensor) -> Tensor:
    return _require_images(images, 3).contiguous(memory_format=torch.channels_last)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]


def from_reference(weights: dict[str, Tensor]) -> EfficientNetLite0:
    """The model from a reference state dictionary, whose entries come in the same order under other names."""
    model = EfficientNetLite0()
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.eval()


__all__ = ["EfficientNetLite0", "from_reference"]
