"""What is kept of each run: notebook, page and log, and one small JSON file beside them that says how it ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.batch import supervise
from workbench.batch.devices import try_lock
from workbench.papers import load_catalogue
from workbench.papers.claims import MIME
from workbench.runtime import PRESETS

DEFAULT_OUT = Path("runs")
METRICS_MIME = "application/vnd.workbench.metrics+json"
BAD = ("failed", "killed", "timeout", "memory", "stopped")


@dataclass(frozen=True)
class Record:
    """One execution of one notebook.

    Attributes:
        slug, part, preset, parameters: what ran; `parameters` holds only what the user gave besides the preset.
        status: 'ok', 'failed' (a cell raised), 'killed' (kernel or process died), 'timeout', 'memory' (over its limit) or
            'stopped' (with its runner, by Ctrl-C, a signal or a crash).
        seconds: wall time of the last attempt, the start of the kernel included.
        started: ISO time, UTC.
        fingerprint: digests of all it depends on, see `workbench.batch.fingerprint`.
        notebook, html, log: file names beside the record; the partial ones after a failure.
        claims: judged claims, as `workbench claims --json` lists them.
        error: why it did not end well, in one line.
        environment: versions, device, threads, host, git state.
        memory_mb: largest resident memory of the kernel and its children, looked at twice a second.
        cell, cells: the code cell it came to, and how many there are.
        earlier: how the attempts before this one ended; empty unless retries were asked for.
        run: name of the `workbench run` that made it.
        digest: SHA-256 of the executed notebook; a record whose notebook is another one does not count.
        thumb: file name of a small picture of the first figure.
        metrics: values handed in with `report_metrics`, by name.
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
    memory_mb: float | None = None
    cell: int = 0
    cells: int = 0
    earlier: list[str] = field(default_factory=list)
    run: str = ""
    digest: str | None = None
    thumb: str | None = None
    metrics: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def name(self) -> str:
        """File name of its results, without ending."""
        return run_name(self.slug, self.parameters)


def run_name(slug: str, parameters: Mapping[str, Any]) -> str:
    """File name (no ending) for one notebook with these parameters; readable, safe and unique."""
    if not parameters:
        return slug
    text = ",".join(f"{k}={v}" for k, v in sorted(parameters.items()))
    safe = "".join(c if c.isalnum() or c in "=.,-_+" else "_" for c in text)
    if safe != text or len(safe) > 80:
        safe = f"{safe[:60]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"{slug}@{safe}"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:200]}.{os.getpid()}.{threading.get_ident()}")
    try:
        with partial.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def record_path(out: Path, preset: str, part: str, name: str, status: str = "ok") -> Path:
    """Where a record lies; a run that did not end well lies beside the last good one and never replaces it."""
    return out / preset / part / (f"{name}.json" if status == "ok" else f"{name}.{status}.json")


def write_record(record: Record, folder: Path) -> None:
    """Write the record beside its notebook."""
    path = record_path(folder, record.preset, record.part, record.name, record.status)
    write_atomic(path, json.dumps(asdict(record), indent=1))


def keep(task: supervise.Task, outcome: supervise.Outcome, scratch: Path, out: Path) -> Record:
    """Move what an execution left in `scratch` to its place and write its record, last, as the sign that it is whole."""
    folder = out / task.preset / task.part
    stem = task.name if outcome.status == "ok" else f"{task.name}.{outcome.status}"
    notebook = scratch / supervise.NOTEBOOK
    digest = hashlib.sha256(notebook.read_bytes()).hexdigest() if notebook.exists() else None
    kept = {}
    for file, ending in (
        (supervise.NOTEBOOK, "ipynb"),
        (supervise.PAGE, "html"),
        (supervise.THUMB, "png"),
        (supervise.LOG, "log"),
    ):
        if (scratch / file).exists():
            os.replace(scratch / file, folder / f"{stem}.{ending}")
            kept[file] = f"{stem}.{ending}"
        else:
            (folder / f"{stem}.{ending}").unlink(missing_ok=True)
    fields = {k: v for k, v in vars(outcome).items() if k != "disk_full"}
    fields["claims"] = [{**c, "seconds": outcome.seconds} for c in outcome.claims]
    record = Record(
        slug=task.slug,
        part=task.part,
        preset=task.preset,
        parameters=task.parameters,
        fingerprint=task.fingerprint,
        notebook=kept.get(supervise.NOTEBOOK),
        html=kept.get(supervise.PAGE),
        thumb=kept.get(supervise.THUMB),
        log=kept.get(supervise.LOG),
        run=task.run,
        digest=digest,
        **fields,
    )
    write_record(record, out)
    for status in set(BAD) - {outcome.status}:  # one bad end is kept, the latest
        for ending in ("json", "ipynb", "html", "png", "log"):
            (folder / f"{task.name}.{status}.{ending}").unlink(missing_ok=True)
    return record


def scratch_path(out: Path, preset: str, part: str, name: str) -> Path:
    """Where a notebook is while it runs; the folder is hidden and holds the partial notebook and the log."""
    return out / preset / part / f".{name}.job"


def lock_path(scratch: Path) -> Path:
    """The file whose lock says that somebody works in this folder."""
    return scratch.with_suffix(".lock")


def salvage(scratch: Path, out: Path) -> Record | None:
    """Keep, marked as stopped, what a runner that died left in a scratch folder whose lock the caller holds."""
    try:
        task = supervise.Task(**json.loads((scratch / "task.json").read_text(encoding="utf8")))
        content = json.loads((scratch / supervise.NOTEBOOK).read_text(encoding="utf8"))
    except (OSError, ValueError, TypeError):  # it died before it had anything
        shutil.rmtree(scratch, ignore_errors=True)
        return None
    code = [c for c in content["cells"] if c["cell_type"] == "code"]
    done = sum(c["metadata"].get("papermill", {}).get("status") == "completed" for c in code)
    error = f"its runner was killed, after cell {done} of {len(code)}"
    supervise.mark(scratch / supervise.NOTEBOOK, "stopped", error)
    started = content["metadata"].get("papermill", {}).get("start_time") or datetime.now(UTC).isoformat()
    outcome = supervise.Outcome("stopped", error, started, 0.0, 0.0, done, len(code))
    record = keep(task, outcome, scratch, out)
    shutil.rmtree(scratch, ignore_errors=True)
    return record


def salvage_all(out: Path, preset: str) -> list[Record]:
    """Keep what dead runners left below a run folder."""
    found = []
    for scratch in sorted((out / preset).glob("*/.*.job")):
        with try_lock(lock_path(scratch)) as held:
            if held and (record := salvage(scratch, out)):
                found.append(record)
            if held:
                lock_path(scratch).unlink(missing_ok=True)
    return found


def read_record(path: Path) -> Record | None:
    """The record in that file; None when there is none, or it was written by a version with other fields."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf8")))
    except (OSError, ValueError, TypeError):
        return None


def latest(out: Path, preset: str, part: str, name: str) -> Record | None:
    """The record of the last run of this name, however it ended."""
    paths = [record_path(out, preset, part, name, status) for status in ("ok", *BAD)]
    return max((r for p in paths if (r := read_record(p))), key=lambda r: r.started, default=None)


def intact(record: Record, out: Path) -> bool:
    """Whether the executed notebook of a record is there and is the one it was written for."""
    if not record.notebook:
        return False
    try:
        content = (out / record.preset / record.part / record.notebook).read_bytes()
    except OSError:
        return False
    return record.digest is None or hashlib.sha256(content).hexdigest() == record.digest


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
    return [claim for found in _outputs(notebook, MIME) for claim in found]


def metrics_of(notebook: Mapping[str, Any]) -> dict[str, list[float]]:
    """The values that an executed notebook handed in with `report_metrics`."""
    return {name: values for found in _outputs(notebook, METRICS_MIME) for name, values in found.items()}


def _outputs(notebook: Mapping[str, Any], mime: str) -> list[Any]:
    return [o["data"][mime] for c in notebook["cells"] for o in c.get("outputs", []) if mime in o.get("data", {})]
