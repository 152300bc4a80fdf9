"""What is kept of each run: one small JSON file beside the executed notebook, and a table over all of them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.papers import load_catalogue
from workbench.papers.claims import MIME
from workbench.runtime import PRESETS

DEFAULT_OUT = Path("runs")


@dataclass(frozen=True)
class Record:
    """One execution of one notebook.

    Attributes:
        slug, part, preset, parameters: what ran; `parameters` holds only what the user gave besides the preset.
        status: 'ok', 'failed' (a cell raised), or 'killed' (the process died).
        seconds: wall time of the execution, the start of the kernel included.
        started: ISO time, UTC.
        fingerprint: digests of all it depends on, see `workbench.batch.fingerprint`.
        notebook, html, log: file names beside the record; the partial ones after a failure.
        claims: judged claims, as `workbench claims --json` lists them.
        error: last line of the failure.
        environment: versions, device, threads.
    """

    slug: str
    part: str
    preset: str
    parameters: dict[str, Any]
    status: str
    seconds: float
    started: str
    fingerprint: dict[str, str]
    notebook: str | None = None
    html: str | None = None
    log: str | None = None
    claims: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == "ok"


def run_name(slug: str, parameters: Mapping[str, Any]) -> str:
    """File name (no ending) for one notebook with these parameters; readable, safe and unique."""
    if not parameters:
        return slug
    import hashlib

    text = ",".join(f"{k}={v}" for k, v in sorted(parameters.items()))
    safe = "".join(c if c.isalnum() or c in "=.,-_+" else "_" for c in text)
    if safe != text or len(safe) > 80:
        safe = f"{safe[:60]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"{slug}@{safe}"


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        partial.write_text(text, encoding="utf8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_record(record: Record, folder: Path) -> None:
    """Write the record beside its notebook."""
    name = run_name(record.slug, record.parameters)
    write_atomic(folder / record.preset / record.part / f"{name}.json", json.dumps(asdict(record), indent=1))


def read_record(path: Path) -> Record | None:
    """The record in that file; None when there is none, or it was written by a version with other fields."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf8")))
    except (OSError, ValueError, TypeError):
        return None


def read_records(out: Path = DEFAULT_OUT, preset: str | None = None) -> list[Record]:
    """All records below a run folder, presets in their order and notebooks in the catalogue's."""
    order = {slug: i for i, slug in enumerate(load_catalogue())}
    presets = [preset] if preset else list(PRESETS)
    records = [r for p in presets for path in sorted((out / p).glob("*/*.json")) if (r := read_record(path))]
    return sorted(records, key=lambda r: (presets.index(r.preset), r.part, order.get(r.slug, -1), r.slug))


def collect_claims(out: Path = DEFAULT_OUT, preset: str | None = None) -> list[dict[str, Any]]:
    """The scoreboard: every claim of every finished run with default parameters, at the largest preset that ran."""
    best: dict[str, Record] = {}
    for record in read_records(out, preset):
        if record.ok and not record.parameters:
            best[record.slug] = record
    return [claim for record in best.values() for claim in record.claims]


def claims_of(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The judged claims that an executed notebook carries in its outputs."""
    return [
        claim
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
        for claim in output["data"][MIME]
    ]


def write_results_table(out: Path) -> Path:
    """One row per claim and seed over all records, as parquet; made anew after each run."""
    import pandas as pd

    rows = []
    for record in read_records(out):
        base = {
            "slug": record.slug,
            "part": record.part,
            "preset": record.preset,
            "parameters": json.dumps(record.parameters, sort_keys=True),
            "status": record.status,
            "seconds": record.seconds,
            "started": record.started,
            "error": record.error,
            **{f"environment_{k}": str(v) for k, v in record.environment.items()},
        }
        claims: list[tuple[dict[str, Any], int | None, float | None]] = [
            (c, i, v) for c in record.claims for i, v in enumerate(c["values"])
        ]
        for claim, seed_index, value in claims or [({}, None, None)]:
            keep = ("claim", "headline", "effect", "ci_low", "ci_high", "verdict", "expected")
            rows.append({**base, **{k: claim.get(k) for k in keep}, "seed_index": seed_index, "value": value})
    path = out / "results.parquet"
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".results.{os.getpid()}.parquet"
    pd.DataFrame(rows).to_parquet(partial, index=False)
    os.replace(partial, path)
    return path
