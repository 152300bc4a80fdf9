"""Compute the stored features with the packaged encoders of `data/weights.txt` (`make weights`); about 5 minutes of one core.

python data/features/build.py [--out FOLDER]; the views need the trained bridge: workbench models train lit-bridge
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.data import Dataset, load
from workbench.data.emoji import STYLES
from workbench.data.files import CHECKSUMS
from workbench.models import pretrained
from workbench.models.caches import CLASSES, ROW_IDS, SPLITS, write_features

STORED_SIDE = {"emoji": 64, "stamps": 96, "clipart": 64}
VIEWS = {"twemoji": 10}  # augmented views of each picture, for gda-clip
PROMPTS = ("{}", "a picture of {}", "a drawing of {}")
CLASS_FACTORS = {"emoji": "subgroup", "stamps": "subfolder"}
VIEW_SEED, SMALLEST_CROP = 0, 0.5


def augmented(images: Tensor, generator: torch.Generator, side: int) -> Tensor:
    """Random resized crops (area 0.5 to 1, square) of (n, c, h, h) pictures, mirrored with probability one half."""
    n = len(images)
    scale = (SMALLEST_CROP + (1 - SMALLEST_CROP) * torch.rand(n, generator=generator)).sqrt()
    shift = (2 * torch.rand(n, 2, generator=generator) - 1) * (1 - scale)[:, None]
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * mirror, scale, shift
    grid = torch.nn.functional.affine_grid(theta, [n, images.shape[1], side, side], align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def pictures(name: str, style: str | None = None) -> Dataset:
    """Every row of a set at the side at which it is stored."""
    return load(name, "all", size=STORED_SIDE[name], **({"style": style} if style else {}))


def texts(name: str) -> dict[str, list[str]]:
    """The texts of a set, by the part under which they are stored."""
    data = load(name, "all")
    if name == "stamps":
        return {"caption": list(data.captions)}
    words = data.extras["keywords" if name == "emoji" else "tags"]
    both = [", ".join([caption, *more]) for caption, more in zip(data.captions, words, strict=True)]
    return {"name": list(data.captions), "keywords": both} if name == "emoji" else {"title": list(data.captions), "tags": both}


def class_names(name: str) -> dict[str, list[str]]:
    """Names of the classes of a set as they are put into the prompts, by part."""
    data = load(name, "test", size=8)
    found = {"labels": list(data.label_names)}
    if factor := CLASS_FACTORS.get(name):
        found[factor] = [str(c) for c in data.factor_names[factor]]
    return {
        k: [" ".join(c.split("/")[-1].replace("-", " ").replace("_", " ").split()).lower() for c in v] for k, v in found.items()
    }


def split_codes(name: str, ids: np.ndarray, style: str | None = None) -> np.ndarray:
    """Number of the split of each row, as in SPLITS."""
    codes = np.full(len(ids), len(SPLITS), dtype=np.uint8)
    for i, split in enumerate(SPLITS):
        rows = load(name, split, size=8, **({"style": style} if style else {})).factors[ROW_IDS[name]].numpy()
        codes[np.isin(ids, rows)] = i
    assert (codes < len(SPLITS)).all()
    return codes


def build(folder: Path, only: Sequence[str] = ()) -> None:
    """Write `<set>-<encoder>.npz` for every set and encoder, and the checksums; `only` keeps these encoders."""
    wanted = only or ("efficientnet-lite0", "dinov2-s", "minilm", "lit-bridge")
    for encoder in wanted:
        model = pretrained(encoder, device="cpu")
        for name, row_id in ROW_IDS.items():
            parts = {}
            if encoder == "minilm":
                ids = load(name, "all").factors[row_id].numpy()
                for part, lines in texts(name).items():
                    parts[part] = (model.embed_texts(lines).numpy(), ids, split_codes(name, ids))
                for part, names in class_names(name).items():
                    prompts = torch.stack([model.embed_texts([p.format(c) for c in names]) for p in PROMPTS]).mean(dim=0)
                    classes = np.full(len(names), CLASSES, dtype=np.uint8)
                    parts[part] = (torch.nn.functional.normalize(prompts, dim=1).numpy(), np.arange(len(names)), classes)
            elif encoder == "lit-bridge":
                for style, views in VIEWS.items() if name == "emoji" else ():
                    data = pictures(name, style)
                    generator = torch.Generator().manual_seed(VIEW_SEED)
                    made = [model.embed_images(augmented(data.images, generator, 112)) for _ in range(views)]
                    ids = data.factors[row_id].numpy()
                    parts[style] = (torch.stack(made, dim=1).numpy(), ids, split_codes(name, ids, style))
            else:
                styles: Sequence[str | None] = (None,) if name != "emoji" else STYLES if encoder != "dinov2-s" else STYLES[:1]
                for style in styles if not (encoder == "dinov2-s" and name == "clipart") else ():
                    data = pictures(name, style)
                    ids = data.factors[row_id].numpy()
                    parts[style or "picture"] = (
                        model.embed_images(data.images, unit=False, batch_size=64).numpy(),
                        ids,
                        split_codes(name, ids, style),
                    )
            if parts:
                write_features(folder / f"{name}-{encoder}.npz", parts)
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.glob("*.npz"))]
    (folder / CHECKSUMS).write_text("".join(lines), newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--only", nargs="*", default=())
    given = parser.parse_args()
    build(given.out, given.only)
