"""Pixels of procedural scenes: antialiased signed distance fields, a whole batch at a time, on any device.

Only +, -, *, /, sqrt, min, max and floor touch the pixels, one at a time, so a scene has the same bits in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from workbench.data.scene_table import SHAPES, TEXTURES, UNIT, SceneTable

# Every pair of colours is more than 20 CIELAB units apart, also as seen with each kind of dichromacy.
PALETTE = (
    (240, 58, 46),
    (255, 140, 26),
    (255, 235, 92),
    (59, 178, 115),
    (58, 134, 255),
    (115, 34, 184),
    (255, 166, 209),
    (94, 50, 23),
)
TINTS = (
    (255, 222, 214),
    (255, 236, 208),
    (208, 150, 16),
    (207, 244, 228),
    (208, 228, 255),
    (226, 206, 250),
    (224, 80, 152),
    (233, 205, 178),
)
# Two ends of the gradient for each background, in the order of BACKGROUNDS.
TONES = (
    ((255, 255, 255), (238, 240, 244)),
    ((222, 225, 230), (196, 201, 209)),
    ((252, 245, 228), (242, 229, 198)),
    ((222, 244, 234), (192, 230, 215)),
    ((255, 231, 217), (250, 211, 190)),
    ((236, 229, 250), (214, 202, 240)),
    ((222, 240, 253), (190, 221, 247)),
    ((38, 43, 74), (22, 26, 48)),
)
TEXTURE_PERIOD = 0.62  # in radii: three and a bit periods across an object, three pixels or more at a radius of five
_CHUNK = 1 << 17  # pixels of frames rendered at once: small enough for the processor's cache


def render(scenes: SceneTable, size: int = 32, *, device: str | torch.device | None = None) -> Tensor:
    """Draw the scenes.

    Args:
        scenes: what to draw.
        size: side of the pictures in pixels.
        device: where to draw (default: where the scenes are).

    Returns:
        (n, 3, size, size) float32 in [0, 1].

    Raises:
        ValueError: `size` is not a whole number of at least 8.

    Example:
        >>> from workbench.data.scene_sampling import sample_scenes
        >>> render(sample_scenes(4, seed=0), size=64).shape
        torch.Size([4, 3, 64, 64])
    """
    scenes = _prepare(scenes, size, device)
    images = torch.empty(len(scenes), 3, size, size, device=scenes.index.device)
    step = max(1, _CHUNK // (size * size))
    for start in range(0, len(scenes), step):
        _paint(scenes.select(slice(start, start + step)), images[start : start + step])
    return images


def masks(scenes: SceneTable, size: int = 32, *, device: str | torch.device | None = None) -> Tensor:
    """Share of each pixel that each object covers and no later object hides.

    Returns:
        (n, k, size, size) float32 in [0, 1]; 0 everywhere for an empty slot, and 0 exactly where the object has no influence.

    Raises:
        ValueError: `size` is not a whole number of at least 8.
    """
    scenes = _prepare(scenes, size, device)
    cover = torch.zeros(len(scenes), scenes.slots, size, size, device=scenes.index.device)
    step = max(1, _CHUNK // (size * size))
    for start in range(0, len(scenes), step):
        part, out = scenes.select(slice(start, start + step)), cover[start : start + step]
        patches = _Patches(part, size)
        target = (patches.row * scenes.slots + patches.slot)[:, None, None] * size * size + patches.pixel
        out.view(-1)[target.flatten()] = patches.cover().flatten()
        above = torch.ones_like(out[:, 0])
        for slot in reversed(range(scenes.slots)):
            hidden = out[:, slot].clone()
            out[:, slot] *= above
            above = above * (1 - hidden)
    return cover


def overlay_digits(
    images: Tensor, digits: Tensor, *, opacity: float | Tensor = 1.0, scale: float = 0.875, ink: Tensor | None = None
) -> Tensor:
    r"""Lay a digit over the middle of each picture: $(1 - \alpha d)\, x + \alpha d\, c$ with the digit $d$, opacity $\alpha$, ink $c$.

    Args:
        images: (n, 3, s, s) in [0, 1].
        digits: (n, h, w) in [0, 1], 1 is ink; resized to `scale` of the side.
        opacity: one number in [0, 1], or one for each row: how easy the digit is to see.
        scale: side of the digit as a fraction of the picture's side.
        ink: (n, 3) colour of each digit (default: near-black on light pictures, white on dark ones).

    Returns:
        (n, 3, s, s); equal to `images` where the opacity is 0.

    Raises:
        ValueError: lengths that differ, or values outside [0, 1].
    """
    if digits.ndim != 3 or len(digits) != len(images):
        raise ValueError(f"digits must have shape ({len(images)}, h, w), one for each image, got {tuple(digits.shape)}")
    if not 0 < scale <= 1:
        raise ValueError(f"scale must lie in (0, 1], got {scale}")
    alpha = torch.as_tensor(opacity, dtype=images.dtype, device=images.device).reshape(-1, 1, 1, 1)
    for name, value in (("opacity", alpha), ("digits", digits)):
        if value.numel() and not bool(((value >= 0) & (value <= 1)).all()):
            raise ValueError(f"{name} must lie in [0, 1], got {float(value.min())} to {float(value.max())}")
    if len(alpha) not in (1, len(images)):
        raise ValueError(f"opacity must be one number or one for each of {len(images)} images, got {len(alpha)}")
    size = images.shape[-1]
    side = max(1, round(size * scale))
    small = torch.nn.functional.interpolate(
        digits.to(images)[:, None], size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
    before = (size - side) // 2
    cover = torch.nn.functional.pad(small, (before, size - side - before) * 2).clamp(0, 1) * alpha
    if ink is None:
        ink = torch.where(images.mean((1, 2, 3)) > 0.5, 0.1, 1.0)[:, None].expand(-1, 3)
    return images * (1 - cover) + ink.to(images)[:, :, None, None] * cover


def _prepare(scenes: SceneTable, size: int, device: str | torch.device | None) -> SceneTable:
    if isinstance(size, bool) or not isinstance(size, int) or size < 8:
        raise ValueError(f"size must be a whole number of at least 8 pixels, got {size!r}")
    return scenes if device is None else scenes.to(device)


def _colours(table: tuple, device: torch.device) -> Tensor:
    return torch.tensor(table, dtype=torch.float32, device=device) / 255


def _paint(scenes: SceneTable, out: Tensor) -> None:
    size, device = out.shape[-1], out.device
    tone = _colours(TONES, device)[scenes.background]
    across = ((torch.arange(size, device=device) + 0.5) / size).expand(size, size)
    ramps = torch.stack([torch.full_like(across, 0.25), across.T, (across + across.T) / 2, across, (1 - across + across.T) / 2])
    ramp = ramps[scenes.gradient][:, None]
    out.copy_(tone[:, 0, :, None, None] + (tone[:, 1] - tone[:, 0])[:, :, None, None] * ramp)
    patches = _Patches(scenes, size)
    if not len(patches.row):
        return
    rgb, cover = patches.colours(), patches.cover()[:, None]
    channel = torch.arange(3, device=device)[:, None, None] * size * size
    target = patches.row[:, None, None, None] * 3 * size * size + channel + patches.pixel[:, None]
    flat = out.view(-1)
    for slot in range(scenes.slots):
        mine = (patches.slot == slot).nonzero().squeeze(1)
        where = target[mine].flatten()
        alpha = cover[mine]
        under = flat[where].view(alpha.shape[0], 3, *alpha.shape[2:])
        flat[where] = (under * (1 - alpha) + rgb[mine] * alpha).flatten()


class _Patches:
    """A square of pixels around every object of a batch, in the object's own coordinates (radius 1, y up, rotated back)."""

    def __init__(self, scenes: SceneTable, size: int) -> None:
        device = scenes.index.device
        self.row, self.slot = scenes.present.nonzero(as_tuple=True)
        take = {
            name: getattr(scenes, name)[self.row, self.slot]
            for name in ("shape", "colour", "texture", "x", "y", "radius", "angle")
        }
        self.shape, self.colour, self.texture = take["shape"], take["colour"], take["texture"]
        scale = size / UNIT
        cx, cy = take["x"] * scale, take["y"] * scale
        self.pixels = take["radius"][:, None, None] * scale  # radius in pixels
        largest = int(take["radius"].max()) if len(self.row) else 0
        side = min(size, 2 * (math.ceil(largest * scale) + 2))
        ticks = torch.arange(side, device=device)
        columns = (cx.long() - side // 2).clamp(0, size - side)[:, None] + ticks
        rows = (cy.long() - side // 2).clamp(0, size - side)[:, None] + ticks
        self.pixel = rows[:, :, None] * size + columns[:, None, :]
        dx = ((columns + 0.5) - cx[:, None])[:, None, :] / self.pixels
        dy = ((rows + 0.5) - cy[:, None])[:, :, None] / self.pixels
        turn = torch.arange(360, dtype=torch.float64) * (math.pi / 180)
        cos = turn.cos().float().to(device)[take["angle"] % 360][:, None, None]
        sin = turn.sin().float().to(device)[take["angle"] % 360][:, None, None]
        self.light = 1.04 - (dx + dy) * 0.09
        self.x, self.y = cos * dx + sin * dy, sin * dx - cos * dy
        self.depth = self._by_code(self.shape, [_DISTANCE[name] for name in SHAPES], self.x, self.y)

    def cover(self) -> Tensor:
        """(m, p, p) share of each pixel inside the object."""
        return (0.5 - self.depth * self.pixels).clamp(0, 1)

    def colours(self) -> Tensor:
        """(m, 3, p, p) colour of the object at each pixel: texture, light from the top left, a darker rim."""
        tint = self._by_code(self.texture, [_TINT[name] for name in TEXTURES], self.x, self.y, self.pixels)[:, None]
        # The rim is at least a pixel wide, and weaker on small objects, whose colour must stay readable.
        width = torch.clamp(1.2 / self.pixels, min=0.12)
        rim = (self.depth / width + 1).clamp(0, 1)
        shade = (self.light * (1 - 0.38 * rim * rim))[:, None]
        base = _colours(PALETTE, self.x.device)[self.colour][:, :, None, None]
        other = _colours(TINTS, self.x.device)[self.colour][:, :, None, None]
        return ((base + (other - base) * tint) * shade).clamp(0, 1)

    @staticmethod
    def _by_code(code: Tensor, functions: list[Callable[..., Tensor]], *fields: Tensor) -> Tensor:
        # Each object pays for its own function only.
        out = torch.empty_like(fields[0])
        for value, function in enumerate(functions):
            mine = (code == value).nonzero().squeeze(1)
            if len(mine):
                out[mine] = function(*(field[mine] for field in fields))
        return out


def _length(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt()


def _square(x: Tensor, y: Tensor) -> Tensor:
    qx, qy = x.abs() - 0.66, y.abs() - 0.66
    return _length(qx.clamp(min=0), qy.clamp(min=0)) + torch.maximum(qx, qy).clamp(max=0) - 0.06


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    # Equilateral, inscribed in the unit circle: three half planes at distance 1/2 from the middle.
    return torch.maximum(-y, x.abs() * (math.sqrt(3) / 2) + y * 0.5) - 0.5


def _star(x: Tensor, y: Tensor) -> Tensor:
    # Folding along mirror lines at 72 and 36 degrees from the tip leaves one edge, from the tip (0, 1) to the inner corner.
    for angle in (math.radians(72), math.radians(36)):
        x = x.abs()
        beyond = 2 * (x * math.cos(angle) - y * math.sin(angle)).clamp(min=0)
        x, y = x - beyond * math.cos(angle), y + beyond * math.sin(angle)
    inner = 0.46
    ex, ey = inner * math.sin(math.radians(36)), inner * math.cos(math.radians(36)) - 1
    norm = math.hypot(ex, ey)
    return (-ey / norm) * x + (ex / norm) * (y - 1)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    # A square standing on its corner and a disc on each of its upper edges; the right half is enough.
    x, y, a = x.abs(), y + 0.2, 0.79
    return torch.minimum((x + y.abs() - a) * math.sqrt(0.5), _length(x - a / 2, y - a / 2) - a * math.sqrt(0.5))


def _cross(x: Tensor, y: Tensor) -> Tensor:
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 0.92, short - 0.33)


_DISTANCE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda x, y: _length(x, y) - 0.9,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": lambda x, y: (_length(x, y) - 0.69).abs() - 0.25,
    "cross": _cross,
    "heart": _heart,
    "diamond": lambda x, y: (x.abs() + y.abs() * 0.68 - 0.68) / math.hypot(1, 0.68),
}


def _wave(u: Tensor, pixels: Tensor) -> Tensor:
    """Antialiased square wave in [0, 1] with period TEXTURE_PERIOD; u in radii, `pixels` a radius in pixels."""
    phase = u / TEXTURE_PERIOD
    triangle = (phase - phase.floor() - 0.5).abs() - 0.25
    return (0.5 + triangle * (TEXTURE_PERIOD * pixels)).clamp(0, 1)


def _dots(x: Tensor, y: Tensor, pixels: Tensor) -> Tensor:
    px, py = x / TEXTURE_PERIOD + 0.5, y / TEXTURE_PERIOD + 0.5
    d = _length(px - px.floor() - 0.5, py - py.floor() - 0.5) - 0.31
    return (0.5 - d * (TEXTURE_PERIOD * pixels)).clamp(0, 1)


def _checker(x: Tensor, y: Tensor, pixels: Tensor) -> Tensor:
    a, b = _wave(x + TEXTURE_PERIOD / 4, pixels), _wave(y + TEXTURE_PERIOD / 4, pixels)
    return a + b - 2 * a * b


# 0 shows the object's colour, 1 its tint.
_TINT: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "solid": lambda x, y, pixels: torch.zeros_like(x),
    "striped": lambda x, y, pixels: _wave((x + y) * math.sqrt(0.5), pixels),
    "dotted": _dots,
    "checkered": _checker,
    "banded": lambda x, y, pixels: _wave(_length(x, y) * 1.15, pixels),
    "halved": lambda x, y, pixels: (0.5 + x * pixels).clamp(0, 1),
}
