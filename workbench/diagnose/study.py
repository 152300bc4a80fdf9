"""The diagnosis of embeddings as one object: table, findings, figures, maps, and the report that is made of them."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import workbench
from workbench.diagnose.hover import hover_map
from workbench.diagnose.inputs import Inputs, read_inputs
from workbench.diagnose.measure import LookAt, Measures, measure
from workbench.diagnose.verdicts import Verdict, verdicts
from workbench.runtime import resolve_device

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCHEMA = "workbench-diagnosis-1"  # described by schema.json beside this file
MAP_ROWS = 2_000  # rows of a map
UMAP_NEIGHBOURS = 15
MARKS = {"good": "✓", "note": "•", "warning": "!"}
STYLE = """<style>
.wb-findings { list-style: none; padding: 0; font: 15px/1.5 system-ui, sans-serif; }
.wb-findings li { margin: .45rem 0; padding: .35rem .7rem; border-left: 4px solid #888; background: #f6f6f6; color: #111; overflow-wrap: anywhere; }
.wb-findings li.warning { border-color: #D55E00; } .wb-findings li.good { border-color: #009E73; }
.wb-findings b { display: inline-block; min-width: 6em; } .wb-findings i { display: block; color: #333; }
.wb-rows { font: 14px/1.4 system-ui, sans-serif; border-collapse: collapse; } .wb-rows td, .wb-rows th { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: middle; overflow-wrap: anywhere; }
.wb-rows td.v { white-space: nowrap; } .wb-rows img { width: 48px; height: 48px; object-fit: contain; }
</style>"""


@dataclass(frozen=True, eq=False)
class EmbeddingStudy:
    """A diagnosis of embeddings.

    Attributes:
        inputs: what was read.
        measures: what was measured.
        verdicts: what it says, warnings first.
        settings: seed, level and sizes of the random parts.
    """

    inputs: Inputs
    measures: Measures
    verdicts: tuple[Verdict, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    _maps: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)
    _drawn: dict[str, Figure] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sets."""
        return tuple(s.name for s in self.inputs.sets)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every number with its interval, its null and its convention, a row each."""
        import pandas as pd

        columns = ["set", "against", "name", "variant", "value", "low", "high", "null", "null_is", "n", "d", "convention"]
        return pd.DataFrame([m.as_dict() for m in self.measures.estimates], columns=columns).fillna(
            {"against": "", "variant": ""}
        )

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows to look at first: why, which, beside which other, and their texts."""
        import pandas as pd

        at = {int(r): i for i, r in enumerate(self.inputs.rows)}
        texts = self.inputs.texts
        found = [
            {
                "why": r.why,
                "set": r.of,
                "row": r.row,
                "value": r.value,
                "other": -1 if r.other is None else r.other,
                "text": "" if texts is None else texts[at[r.row]],
                "other text": "" if texts is None or r.other is None else texts[at[r.other]],
            }
            for r in self.measures.look_at
        ]
        return pd.DataFrame(found, columns=["why", "set", "row", "value", "other", "text", "other text"])

    def figures(self) -> dict[str, Figure]:
        """The figures of the report by name, drawn at the first call."""
        from workbench.diagnose.figures import study_figures

        if not self._drawn:
            self._drawn.update(study_figures(self))
        return dict(self._drawn)

    def coordinates(self, method: str = "pca") -> tuple[np.ndarray, np.ndarray]:
        """Places of a stated part of the rows in the plane: (sets, m, 2) coordinates and (m,) places into the common rows.

        Args:
            method: 'pca' (common to all paired rows, exact) or 'umap' (neighbourhoods; distances between clusters mean nothing).
        """
        if method not in self._maps:
            self._maps[method] = _coordinates(self.inputs, method, self.settings["seed"])
        return self._maps[method]

    def findings_html(self) -> str:
        """The findings as a list."""
        return findings_html(self.verdicts)

    def notes_html(self) -> str:
        """What was left out, sampled or could not be measured."""
        notes = [*self.inputs.warnings, *self.measures.skipped]
        if len(self.measures.sample) < len(self.inputs):
            notes.append(
                f"measures over all pairs of rows see {len(self.measures.sample):,} of {len(self.inputs):,} rows, drawn at random"
            )
        if not notes:
            return "<p>Nothing was left out.</p>"
        return "<ul>" + "".join(f"<li>{html.escape(n)}</li>" for n in notes) + "</ul>"

    def map_html(self, method: str = "pca") -> str:
        """A map with texts and pictures on hover."""
        return _map_html(self, method)

    def rows_html(self, each: int = 5) -> str:
        """The rows to look at first, with pictures and texts."""
        return _rows_html(self, each)

    def explore(self, method: str = "pca") -> Any:
        """A widget for JupyterLab: choose rows with the lasso, see their texts and pictures beside the map."""
        from workbench.diagnose.explore import explore

        return explore(self, method)

    @property
    def title(self) -> str:
        """Heading of the report."""
        return "Diagnosis of " + " and ".join(self.names)

    @property
    def summary(self) -> str:
        """One sentence on what was read."""
        sets = self.inputs.sets
        kind = "two paired modalities" if self.inputs.paired else "one set" if len(sets) == 1 else "several models"
        return f"{kind}; " + "; ".join(f"{s.name}: {len(s):,} of {s.length:,} rows, {s.values.shape[1]} columns" for s in sets)

    def sections(self) -> dict[str, str]:
        """Title and HTML of each part of the report."""
        from workbench.diagnose.report import figures_html, meanings, numbers_table

        return {
            "What it says": self.findings_html(),
            "Look at these rows": self.rows_html(),
            "Map": "<p>Point at a dot, or use the arrow keys, to see its row. Principal components keep distances as well as two dimensions can.</p>"
            + self.map_html("pca")
            + "<p>UMAP keeps neighbourhoods; the distance between two clusters means nothing.</p>"
            + self.map_html("umap"),
            "Figures": figures_html(self),
            "Numbers": numbers_table(self),
            "What was left out": self.notes_html(),
            "How to read the numbers": meanings(self),
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and texts, in the form of the published schema."""
        return {
            "schema": SCHEMA,
            "kind": "embeddings",
            "workbench": workbench.__version__,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": {
                "sets": [
                    {"name": s.name, "stored": s.length, "used": len(s), "width": s.values.shape[1]} for s in self.inputs.sets
                ],
                "rows": len(self.inputs),
                "paired": self.inputs.paired,
                "aligned": self.inputs.aligned,
                "labels": None if self.inputs.labels is None else len(self.inputs.labels[1]),
                "factors": {name: len(values) for name, (_, values) in self.inputs.factors.items()},
            },
            "settings": self.settings,
            "verdicts": [vars(v) for v in self.verdicts],
            "warnings": list(self.inputs.warnings),
            **self.measures.as_dict(),
        }

    def save(self, path: str | Path) -> Path:
        """Write `path`, one self-contained HTML page, and the numbers beside it as JSON.

        Raises:
            DataError: the folder does not exist or cannot be written.
        """
        from workbench.diagnose.report import write_report

        return write_report(self, Path(path))

    def _repr_html_(self) -> str:
        return self.findings_html()


def study_embeddings(
    sources: Sequence[str | Path | np.ndarray] | str | Path | np.ndarray,
    *,
    names: Sequence[str] | None = None,
    pairs: bool = False,
    labels: Any = None,
    factors: str | Path | None = None,
    texts: Any = None,
    images: str | Path | None = None,
    level: float = 0.95,
    seed: int = 0,
    max_rows: int = 20_000,
    device: str | torch.device = "auto",
) -> EmbeddingStudy:
    """Read, match and measure embeddings: one set, two paired modalities, or several models on the same rows.

    Args:
        sources: files (npy, npz, parquet, csv, safetensors) or arrays (n, d).
        names: a name for each set.
        pairs: the two sets are paired modalities of one space.
        labels: a class for each row: file or list.
        factors: table with a column for each factor.
        texts: a text for each row: file or list.
        images: folder of pictures.
        level: confidence of all intervals.
        seed: of every random part.
        max_rows: rows that measures over all pairs of rows see at most.
        device: where to compute.

    Raises:
        DataError: what is wrong with a file, in one sentence.
        ValueError: what is wrong with an argument.
    """
    if isinstance(sources, (str, Path, np.ndarray)):
        sources = [sources]
    inputs = read_inputs(sources, names=names, pairs=pairs, labels=labels, factors=factors, texts=texts, images=images)
    measures = measure(inputs, level=level, seed=seed, max_rows=max_rows, device=resolve_device(device))
    found = verdicts(measures, tuple(s.name for s in inputs.sets), paired=inputs.paired)
    return EmbeddingStudy(inputs, measures, found, {"level": level, "seed": seed, "max_rows": max_rows, "map_rows": MAP_ROWS})


def findings_html(found: Sequence[Verdict]) -> str:
    """Findings as a list."""
    items = []
    for v in found:
        more = " ".join(x for x in (v.next, _explained(v.notebook) if v.notebook else "") if x)
        items.append(
            f'<li class="{v.level}"><b>{MARKS[v.level]} {v.level}</b> {html.escape(v.sentence)}'
            + (f"<i>{html.escape(more)}</i>" if more else "")
            + "</li>"
        )
    return f'{STYLE}<ul class="wb-findings">{"".join(items)}</ul>'


def _explained(slug: str) -> str:
    """Where to read on: the notebook, or the paper while it has none."""
    from workbench.batch.notebooks import find_notebooks
    from workbench.papers import find_paper

    if any(n.slug == slug for n in find_notebooks()):
        return f"Explained in the notebook {slug}."
    paper = find_paper(slug)
    return f"Read: {paper.title} ({paper.year})."


def _coordinates(inputs: Inputs, method: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from workbench.errors import UnknownNameError

    if method not in ("pca", "umap"):
        raise UnknownNameError("map", method, ("pca", "umap"))
    sets = inputs.sets if inputs.aligned else inputs.sets[:1]
    together = inputs.paired
    each = max(2, MAP_ROWS // (2 if together else 1))
    n = len(sets[0])
    at = np.arange(n) if n <= each else np.sort(np.random.default_rng(seed).choice(n, each, replace=False))
    unit = [s.values[at] / np.linalg.norm(s.values[at], axis=1, keepdims=True) for s in sets]
    # One space has one map; the spaces of different models have nothing in common.
    blocks = [np.concatenate(unit)] if together else unit
    planes = [_plane(x, method, seed) for x in blocks]
    if together:
        return planes[0].reshape(2, len(at), 2), at
    return np.stack(planes), at


def _plane(x: np.ndarray, method: str, seed: int) -> np.ndarray:
    from workbench.plots.points import principal_plane

    flat = principal_plane(x)[0]
    flat = np.pad(flat, ((0, 0), (0, max(0, 2 - flat.shape[1]))))[:, :2]
    if method == "pca" or len(x) < 10:
        return flat
    from sklearn.neighbors import NearestNeighbors

    UMAP = _umap()
    # With neighbours from here UMAP need not compile a search of its own, which takes longer than the map.
    k = min(UMAP_NEIGHBOURS, len(x) - 1)
    distances, index = NearestNeighbors(n_neighbors=k, metric="euclidean", algorithm="brute").fit(x).kneighbors(x)
    start = (flat / np.abs(flat).max() * 10).astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn")  # it could not place new rows; there are none
        reducer = UMAP(n_neighbors=k, precomputed_knn=(index, distances), init=start, random_state=seed, n_jobs=1)
        return reducer.fit_transform(x)


def _umap() -> Any:
    """The class UMAP, with its compiled loops kept on disk: compiling them takes three times as long as the map itself."""
    import umap
    from numba.core.dispatcher import Dispatcher

    for module in (umap.layouts, umap.umap_):
        for loop in vars(module).values():
            if isinstance(loop, Dispatcher) and type(getattr(loop, "_cache", None)).__name__ == "NullCache":
                with suppress(RuntimeError):  # no folder that can be written: it is compiled each time
                    loop.enable_caching()
    return umap.UMAP


def _map_html(study: EmbeddingStudy, method: str) -> str:
    from workbench.plots.style import COLOURS

    planes, at = study.coordinates(method)
    inputs, m = study.inputs, len(at)
    texts, pictures = (None if v is None else [v[i] for i in at] for v in (inputs.texts, inputs.pictures))
    rows = inputs.rows[at].tolist()
    title = {"pca": "principal components", "umap": "UMAP neighbourhoods"}[method]
    if inputs.paired:
        return hover_map(
            planes.reshape(-1, 2),
            title=f"{title} of {' and '.join(study.names)}, partners joined",
            rows=rows * 2,
            group=[0] * m + [1] * m,
            groups=study.names,
            colours=COLOURS[:2],
            marks=[0, 1],
            texts=None if texts is None else texts * 2,
            pictures=None if pictures is None else pictures * 2,
            partner=[*range(m, 2 * m), *range(m)],
        )
    parts = []
    for name, plane in zip(study.names, planes, strict=False):
        group, groups, colours = _groups(inputs, at)
        head = f"<h4>{html.escape(name)}</h4>" if len(planes) > 1 else ""
        parts.append(
            head
            + hover_map(
                plane,
                title=f"{title} of {name}",
                rows=rows,
                group=group,
                groups=groups,
                colours=colours,
                texts=texts,
                pictures=pictures,
                notes=None if inputs.labels is None else [f"label: {inputs.labels[1][int(c)]}" for c in inputs.labels[0][at]],
            )
        )
    return "".join(parts)


def _groups(inputs: Inputs, at: np.ndarray) -> tuple[list[int], Sequence[str], Sequence[str]]:
    """Colours by label: the seven largest classes, all others grey."""
    from workbench.plots.style import COLOURS

    if inputs.labels is None:
        return [0] * len(at), ("rows",), (COLOURS[0],)
    codes, names = inputs.labels
    largest = np.bincount(codes[at], minlength=len(names)).argsort(kind="stable")[::-1][:7]
    largest = np.sort(largest)
    place = {int(c): i for i, c in enumerate(largest)}
    known = [names[c] for c in largest]
    group = [place.get(int(c), len(known)) for c in codes[at]]
    palette = [c for c in COLOURS if c != "#5F5F5F"][: len(known)]
    return (group, [*known, "other"], [*palette, "#9a9a9a"]) if len(names) > len(known) else (group, known, palette)


def _rows_html(study: EmbeddingStudy, each: int) -> str:
    from workbench.diagnose.hover import thumbnail

    inputs = study.inputs
    at = {int(r): i for i, r in enumerate(inputs.rows)}
    what = {
        "worst pair": "partners that lie far apart (cosine)",
        "hub": f"neighbour of very many rows (times among the {max((x.k for x in study.measures.neighbours.values()), default=10)} nearest)",
        "near-duplicates": "nearly the same vector (cosine)",
        "outlier": "far from everything (cosine to the nearest)",
    }

    def cell(row: int | None) -> str:
        if row is None:
            return "<td></td>"
        i = at[row]
        source = None if inputs.pictures is None else thumbnail(inputs.pictures[i])
        picture = f'<img src="{source}" alt="picture of row {row}"> ' if source else ""
        text = "" if inputs.texts is None else f"<br>{html.escape(inputs.texts[i][:200])}"
        return f"<td>{picture}row {row}{text}</td>"

    seen: dict[tuple[str, str], list[LookAt]] = {}
    for r in study.measures.look_at:
        seen.setdefault((r.why, r.of), []).append(r)
    body = ""
    for (why, of), found in seen.items():
        body += f'<tr><th colspan="3">{html.escape(of)}: {html.escape(what[why])}</th></tr>'
        for r in found[:each]:
            value = f"{r.value:.0f}" if why == "hub" else f"{r.value:.3f}"
            body += f'<tr>{cell(r.row)}<td class="v">{value}</td>{cell(r.other)}</tr>'
    return f'{STYLE}<table class="wb-rows">{body}</table>' if body else "<p>No row stands out.</p>"
