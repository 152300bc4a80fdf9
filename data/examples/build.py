"""Build the examples: embeddings to try a diagnosis on, made from stored features and two shipped models.

    python data/examples/build.py [--out FOLDER]

Needs neither the network nor any further package. A few seconds.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import torch

from workbench.data import load
from workbench.data.build import run, write_table
from workbench.models import cached_features, pretrained

STYLE = "twemoji"  # no bridge has seen an emoji
MODELS = {"": "lit-bridge-tau001", "-warm": "lit-bridge"}


def build(folder: Path) -> None:
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
