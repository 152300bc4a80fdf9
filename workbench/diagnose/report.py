"""The report: one HTML page that opens anywhere without the network, and the same numbers as JSON."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.diagnose.caption_study import CaptionStudy
    from workbench.diagnose.study import EmbeddingStudy

    Study: TypeAlias = EmbeddingStudy | CaptionStudy

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1rem 4rem; font: 16px/1.55 system-ui, sans-serif; color: #111; background: #fff; }
h1 { line-height: 1.2; margin: .4rem 0; overflow-wrap: anywhere; } h2 { margin: 2.2rem 0 .5rem; border-bottom: 1px solid #ccc; }
nav a { margin-right: 1rem; } .meta { color: #444; overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
table.numbers { border-collapse: collapse; font-size: 14px; } table.numbers td, table.numbers th { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }
table.numbers td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img.figure { max-width: 100%; height: auto; display: block; margin: .6rem 0; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1rem; }
@media print { nav, .wb-legend { display: none; } h2 { break-after: avoid; } }
"""
MEANING = {
    "uniformity": "log of the mean Gaussian potential of all pairs of rows; the lower, the more evenly the rows are spread over the sphere.",
    "anisotropy": "mean cosine of two different rows; 0 where directions cancel out, near 1 where all rows point one way.",
    "effective_rank": "exponential of the entropy of the singular values: how many directions carry the set.",
    "rankme": "the same with the constant of the RankMe paper.",
    "spectrum_decay": "slope of the eigenvalues on logarithmic axes; near 1 is what alpha-ReQ calls well conditioned.",
    "hubness": "skewness of how often a row is among the ten nearest of others; above about 1 there are hubs.",
    "near_duplicates": "share of the rows with another row at cosine 0.99 or more.",
    "tolerance": "mean cosine of rows with the same label.",
    "factor_probe": "accuracy of a probe on rows it was not trained on (5 folds).",
    "centroid_distance": "distance of the mean vectors of two modalities, rows of length one; at most 2.",
    "matched_cosine": "mean cosine of partners.",
    "relative_gap": "distance of partners over the distance of partners and of strangers of one kind; 0 where partners coincide.",
    "separability": "accuracy of a linear classifier that tells the modalities apart, on held-out pairs; 0.5 where they mix.",
    "alignment": "mean squared distance of partners, rows of length one.",
    "recall_at_k": "share of the queries whose partner is among the k nearest of the other kind; ties count against it.",
    "mrr": "mean of 1 / rank of the partner.",
    "linear_cka": "similarity of two models' geometry, 1 where equal up to rotation and scale.",
    "knn_overlap": "share of the ten nearest neighbours that two models agree on.",
    "chair_i": "share of the mentions of objects that are not in the picture (CHAIR_i), all captions together; lower is better.",
    "chair_s": "share of the captions with at least one such mention (CHAIR_s); lower is better.",
    "chair_recall": "share of the objects that are there that their captions mention; without it a short caption would look best.",
    "caption_mentions": "mentions of known objects a caption.",
    "caption_words": "words a caption.",
    "zero_shot": "share of rendered scenes of one object whose factor is named rightly, by the nearest of all its names.",
    "pairs_text": "share of minimal pairs in which both pictures score their own caption higher; 1/4 by chance.",
    "pairs_image": "share of minimal pairs in which both captions score their own picture higher; 1/4 by chance.",
    "pairs_group": "share of minimal pairs in which both hold; 1/6 by chance.",
    "pair_cosine": "mean cosine of two pictures of scenes that differ in one factor; near 1 where the encoder hardly sees it.",
    "caption_choice": "share of your pictures that score their caption higher than its own words in other orders.",
    "procrustes": "distance that is left after the best rotation of one set onto the other.",
}


def write_report(study: Study, path: Path) -> Path:
    """Write the page to `path` (ending .html) and the numbers beside it (ending .json); both whole or not at all.

    Raises:
        DataError: the ending is not .html, or the folder does not exist or cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"a report is written to a file that ends in .html, got {path}")
    if not path.parent.is_dir():
        raise DataError(f"no folder {path.parent}; make it first")
    numbers = study.as_dict()
    _write(path.with_suffix(".json"), json.dumps(plain(numbers), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    _write(path, page(study, path.with_suffix(".json").name))
    return path


def page(study: Study, json_name: str) -> str:
    """The report as HTML."""
    sections = study.sections()
    links = "".join(f'<a href="#s{i}">{html.escape(title)}</a>' for i, title in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{html.escape(title)}</h2>{part}</section>' for i, (title, part) in enumerate(sections.items())
    )
    made = study.as_dict()
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(study.title)}</title><style>{STYLE}</style></head><body>'
        f'<header><h1>{html.escape(study.title)}</h1><p class="meta">{html.escape(study.summary)}. '
        f"Made {made['made']} by workbench {made['workbench']}; every interval is at {study.settings['level']:.0%}, seed {study.settings['seed']}. "
        f"All numbers are also in {html.escape(json_name)}.</p><nav>{links}</nav></header><main>{body}</main></body></html>\n"
    )


def figures_html(study: Study) -> str:
    """All figures as images."""
    return "".join(
        f'<img class="figure" alt="{html.escape(name)}" src="{picture(figure)}">' for name, figure in study.figures().items()
    )


def numbers_table(study: Study) -> str:
    """Every number as an HTML table."""
    head = "".join(f'<th scope="col">{h}</th>' for h in ("set", "measure", "value", "interval", "without structure", "rows"))
    body = []
    for m in study.measures.estimates:
        e = m.estimate
        name = e.name.replace("_", " ") + (f", {m.variant}" if m.variant else "") + (f", {m.against}" if m.against else "")
        null = "" if e.null is None else f'<span title="{html.escape(e.null_is)}">{e.null:.4g}</span>'
        body.append(
            f'<tr><td>{html.escape(m.of)}</td><td title="{html.escape(e.convention)}">{html.escape(name)}</td><td class="n">{e.value:.4g}</td>'
            f'<td class="n">{e.low:.4g} to {e.high:.4g}</td><td class="n">{null}</td><td class="n">{e.n:,}</td></tr>'
        )
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def picture(figure: Figure) -> str:
    """A figure as PNG in a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=170, bbox_inches="tight", facecolor="white")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def plain(value: Any) -> Any:
    """The value with numpy numbers as Python's, and numbers that JSON does not know as null."""
    import math

    import numpy as np

    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def meanings(study: Study) -> str:
    """What each measured number is, in words."""
    names = dict.fromkeys(m.estimate.name for m in study.measures.estimates)
    terms = "".join(
        f"<dt>{html.escape(n.replace('_', ' '))}</dt><dd>{html.escape(MEANING[n])}</dd>" for n in names if n in MEANING
    )
    return (
        "<p>An interval says what other rows of the same kind would give; it knows nothing of another training run. "
        "“Without structure” is the value where there is nothing to find: strangers instead of partners, an even spread, the most frequent label.</p>"
        f"<dl>{terms}</dl>"
    )


def _write(path: Path, content: str) -> None:
    scratch = path.with_name(f".{path.name}.part")
    try:
        scratch.write_text(content, encoding="utf8")
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror}") from None
