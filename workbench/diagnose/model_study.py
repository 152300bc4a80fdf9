"""The diagnosis of a model on the user's pictures and captions: its embeddings as any others, and tests on scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.diagnose.inputs import read_inputs
from workbench.diagnose.measure import Measured, measure
from workbench.diagnose.model_inputs import BATCH, default_cache, embed_captions, embed_pictures, preparation, read_captioned
from workbench.diagnose.scene_tests import scene_tests, word_order
from workbench.diagnose.study import MAP_ROWS, EmbeddingStudy
from workbench.diagnose.verdicts import LEVELS, Verdict, verdicts
from workbench.errors import WorkbenchError
from workbench.runtime import resolve_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEES = ("dual-encoder", "bridge", "image-encoder", "captioner")
READS = ("dual-encoder", "bridge", "sentence-encoder", "masked-language-model", "language-model")
ONE_SPACE = ("dual-encoder", "bridge")


@dataclass(frozen=True, eq=False)
class ModelStudy(EmbeddingStudy):
    """A diagnosis of a model: everything that a diagnosis of embeddings has, and tests on scenes.

    Attributes:
        model: name, kind, parameters, how many rows were computed and how many came from the cache.
    """

    model: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"Diagnosis of the model {self.model['name']}"

    @property
    def summary(self) -> str:
        m = self.model
        seen = [f"{m[side]:,} {side}" for side in ("pictures", "texts") if m[side]]
        return f"{m['kind']}, {m['parameters']:,} parameters; {' and '.join(seen)}; {super().summary}"

    def figures(self) -> dict[str, Figure]:
        from workbench.diagnose.figures import scene_figure

        found = super().figures()
        if "scenes" not in found and any(m.estimate.name in SCENE_NAMES for m in self.measures.estimates):
            self._drawn["scenes"] = scene_figure(self)
        return dict(self._drawn)

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "kind": "model", "model": self.model}


SCENE_NAMES = ("zero_shot", "pairs_text", "pair_cosine")


def study_model(
    name: str | Path,
    *,
    images: str | Path | None = None,
    captions: Any = None,
    labels: Any = None,
    scenes: int = 200,
    level: float = 0.95,
    seed: int = 0,
    max_rows: int = 20_000,
    device: str | torch.device = "auto",
    batch_size: int = BATCH,
    cache: bool = True,
) -> ModelStudy:
    """Embed pictures and captions with a model, measure the embeddings, and test the model on rendered scenes.

    Args:
        name: a model of the workbench, a folder that save_pretrained wrote, or a name of the Hugging Face hub.
        images: folder of pictures.
        captions: their captions: a table with the names of the pictures, or one caption each in the order of their names.
        labels: a class for each used row: file or list.
        scenes: rendered scenes of each test; 0 for none.
        level: confidence of all intervals.
        seed: of every random part.
        max_rows: rows that measures over all pairs of rows see at most.
        device: where to compute.
        batch_size: rows at once.
        cache: keep embeddings by content in the user's cache folder.

    Raises:
        DataError: what is wrong with the files, in one sentence.
        WorkbenchError: the model is not there, or can do nothing with what was given.
    """
    from workbench.models import pretrained

    given = read_captioned(images, captions)
    loaded = pretrained(name, device=device)
    sees, reads = loaded.kind in SEES and given.pictures is not None, loaded.kind in READS and given.captions is not None
    if not sees and not reads:
        raise WorkbenchError(
            f"{loaded.name!r} is a {loaded.kind}; it {'reads no texts' if given.captions else 'sees no pictures'}, give the other"
        )
    store = default_cache() if cache else None
    warnings = list(given.warnings)
    sides, known, pictures, texts = {}, 0, given.pictures, given.captions
    if sees and pictures is not None:
        sides["image"], at, known = embed_pictures(loaded, pictures, cache=store, batch=batch_size)
        if len(at) < len(pictures):
            lost = next(p for i, p in enumerate(pictures) if i not in set(at.tolist()))
            warnings.append(
                f"{len(pictures) - len(at)} of {len(pictures)} pictures cannot be read and are left out (first: {lost.name})"
            )
        pictures, texts = tuple(pictures[i] for i in at), texts and tuple(texts[i] for i in at)
    if reads and texts is not None:
        sides["text"], more = embed_captions(loaded, texts, cache=store, batch=batch_size)
        known += more
    pairs = len(sides) == 2 and loaded.kind in ONE_SPACE
    inputs = read_inputs(list(sides.values()), names=list(sides), pairs=pairs, labels=labels, texts=texts)
    if pictures is not None:
        inputs = replace(inputs, pictures=tuple(pictures[i] for i in inputs.rows))
    inputs = replace(inputs, warnings=(*warnings, *inputs.warnings))
    measures = measure(inputs, level=level, seed=seed, max_rows=max_rows, device=resolve_device(device))
    found = verdicts(measures, tuple(sides), paired=inputs.paired)
    estimates, skipped = list(measures.estimates), list(measures.skipped)
    if pairs and inputs.texts is not None:
        unit = torch.nn.functional.normalize(torch.from_numpy(inputs.sets[0].values), dim=1)
        order, reason = word_order(loaded, unit, inputs.texts, level=level, seed=seed)
        estimates, skipped = estimates + ([order] if order else []), skipped + ([reason] if reason else [])
    tested = 0
    if loaded.kind in SEES and scenes:
        result = scene_tests(loaded, n=scenes, side=preparation(loaded).size[0], level=level, seed=seed)
        estimates, skipped, tested = [*estimates, *result.estimates], [*skipped, *result.skipped], result.scenes
    measures = replace(measures, estimates=tuple(estimates), skipped=tuple(skipped))
    found = tuple(sorted([*found, *_model_verdicts(measures.estimates)], key=lambda v: -LEVELS.index(v.level)))
    total = sum(len(x) for x in sides.values())
    record = {
        "name": loaded.name,
        "kind": loaded.kind,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "pictures": len(sides.get("image", ())),
        "texts": len(sides.get("text", ())),
        "computed": total - known,
        "from_cache": known,
        "scenes": tested,
    }
    settings = {"level": level, "seed": seed, "max_rows": max_rows, "map_rows": MAP_ROWS}
    return ModelStudy(inputs, measures, found, settings, model=record)


def _model_verdicts(estimates: tuple[Measured, ...]) -> Iterator[Verdict]:
    shots = [m for m in estimates if m.estimate.name == "zero_shot"]
    if shots:
        told = "; ".join(f"{m.against} {m.estimate.value:.0%}" for m in shots)
        blind = [str(m.against) for m in shots if m.estimate.null is not None and m.estimate.low <= m.estimate.null]
        yield Verdict(
            "note",
            f"Zero-shot on {shots[0].estimate.n} rendered scenes, names told apart: {told}."
            + (f" No better than always the most frequent value: {', '.join(blind)}." if blind else ""),
            "zero_shot",
            min(m.estimate.value for m in shots),
            "Scenes are drawings: a model of photographs, or of other drawings, may fail here and be well elsewhere.",
        )
    pairs = [m for m in estimates if m.estimate.name == "pairs_text"]
    if pairs:
        sure = [m for m in pairs if m.estimate.null is not None and m.estimate.low > m.estimate.null]
        lost = [m for m in pairs if m not in sure]
        told = "; ".join(f"{m.against} {m.estimate.value:.0%} [{m.estimate.low:.0%}, {m.estimate.high:.0%}]" for m in pairs)
        yield Verdict(
            "warning" if lost else "good",
            f"Two scenes and two captions that differ in one detail, both pictures must choose rightly (chance 25%): {told}."
            + (f" Not above chance: {', '.join(str(m.against) for m in lost)}." if lost else ""),
            "pairs_text",
            min(m.estimate.value for m in pairs),
            "What is at chance here, the model does not compare: do not rely on it for that detail." if lost else "",
            "bags-of-words",
        )
    moved = [m for m in estimates if m.estimate.name == "pair_cosine"]
    if moved:
        least = max(moved, key=lambda m: m.estimate.value)
        yield Verdict(
            "note",
            f"Pictures of scenes that differ only in {least.against} are the closest, cosine {least.estimate.value:.3f}; unrelated scenes {least.estimate.null or 0:.3f}.",
            "pair_cosine",
            least.estimate.value,
            "A detail that hardly moves the embedding cannot be retrieved by it.",
            "multistage-contrastive",
        )
    for m in estimates:
        e = m.estimate
        if e.name == "caption_choice" and e.null is not None:
            above = e.low > e.null
            yield Verdict(
                "note" if above else "warning",
                f"Your pictures prefer their captions to the same words in other orders in {e.value:.1%} [{e.low:.1%}, {e.high:.1%}] of {e.n} cases; "
                f"a score that does not see the picture does so in {e.null:.1%}."
                + ("" if above else " The picture adds nothing to that."),
                "caption_choice",
                e.value,
                ""
                if above
                else "The order of words is not compared with the picture: captions are read as bags of words, or as fluent or not.",
                "bags-of-words",
            )
