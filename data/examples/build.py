"""Build the examples: embeddings and captions to try a diagnosis on, made from stored features and three shipped models.

    python data/examples/build.py [--out FOLDER]

Needs neither the network nor any further package. Half a minute.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import torch

from workbench.data import load
from workbench.data.build import run, write_table
from workbench.data.scenes import describe, scenes_of
from workbench.models import cached_features, pretrained

STYLE = "twemoji"  # no bridge has seen an emoji
MODELS = {"": "lit-bridge-tau001", "-warm": "lit-bridge"}
CAPTIONER, SCENES = "mini-captioner", 200
FACTS = ("size", "texture", "colour", "shape", "relation")  # what the captioner was taught to say


def build(folder: Path) -> None:
    """Write the embeddings and the captions."""
    embeddings(folder)
    captions(folder)


def captions(folder: Path) -> None:
    """Write what the captioner says about scenes of two objects, sharp and at half the resolution, what is true, and which shapes are there."""
    scenes = load("scenes", "test", n=SCENES, objects=(2, 2), caption_level=FACTS)
    ids = [f"scene-{i:03d}" for i in range(SCENES)]
    captioner = pretrained(CAPTIONER, device="cpu")
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(scenes.images, 2), scale_factor=2)
    for name, pictures in (("sharp", scenes.images), ("blurred", blurred)):
        write_lines(folder / f"captions-{name}.jsonl", ids, caption=captioner.caption(pictures))
    told = [describe(scenes_of(scenes), FACTS, wording=w) for w in (0, 3)]
    write_lines(folder / "references.jsonl", ids, captions=[[str(a), str(b)] for a, b in zip(*told, strict=True)])
    write_lines(folder / "objects.jsonl", ids, objects=[[o.shape for o in one.objects] for one in told[0]])


def write_lines(path: Path, ids: list[str], **column: list) -> None:
    """One JSON object a line: the id and one more field."""
    ((name, values),) = column.items()
    lines = [json.dumps({"id": i, name: v}) + "\n" for i, v in zip(ids, values, strict=True)]
    path.write_text("".join(lines), encoding="utf8")


def embeddings(folder: Path) -> None:
    """Write image.parquet and text.parquet, and the same of the model with a learned temperature as *-warm.parquet."""
    emoji = load("emoji", "test", style=STYLE, flags=False, size=16)
    pictures, concepts = cached_features(emoji, "efficientnet-lite0", part=STYLE)
    names, _ = cached_features(emoji, "minilm", part="name")
    shared = {
        "id": [f"emoji-{c}" for c in concepts.tolist()],
        "caption": list(emoji.captions),
        "label": [emoji.label_names[i] for i in emoji.labels.tolist()],
    }
    for ending, name in MODELS.items():
        bridge = pretrained(name, device="cpu").model
        with torch.no_grad():
            sides = {"image": bridge.image_embeddings(pictures), "text": bridge.text_embeddings(names)}
        for side, x in sides.items():
            # Half precision: the last bits differ from processor to processor.
            vectors = pa.FixedSizeListArray.from_arrays(
                pa.array(x.half().numpy().ravel().astype("float16"), pa.float16()).cast(pa.float32()), x.shape[1]
            )
            write_table(folder / f"{side}{ending}.parquet", pa.table({**shared, "embedding": vectors}))


if __name__ == "__main__":
    run(build, __file__)
