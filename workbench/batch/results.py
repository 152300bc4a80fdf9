"""The results table over all runs of a folder, questions to it in SQL, and the comparison of two runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.batch.devices import wait_lock
from workbench.batch.records import DEFAULT_OUT, Record, read_records
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import pandas as pd

TABLE = "results.parquet"
ITEM = ["slug", "preset", "parameters"]  # what ran
ONCE = [*ITEM, "started", "status"]  # one execution of it
QUANTITY = ["kind", "name"]
CLAIM_FIELDS = ("headline", "metric", "relation", "min_effect", "effect", "ci_low", "ci_high", "verdict", "expected")
AROUND = ("device", "torch", "python", "workbench", "git", "threads", "fingerprint_package", "fingerprint_data")


def append_results(out: Path) -> Path:
    """Add what ran since to `results.parquet`; executions that were replaced since stay in it as history.

    One row per claim or metric and seed, with the parameters as `p_<name>`, the run, preset, device, versions, git state, time and
    memory; one row without a claim for an execution that handed in nothing. Doing it twice adds nothing.
    """
    import pandas as pd

    path = out / TABLE
    out.mkdir(parents=True, exist_ok=True)
    with wait_lock(out / f".{TABLE}.lock"):
        old = _read(path) if path.exists() else pd.DataFrame(columns=ONCE)
        have = set(old[ONCE].astype(str).itertuples(index=False, name=None))
        new = pd.DataFrame([row for record in read_records(out) for row in _rows(record)])
        if len(new):
            new = new[[key not in have for key in new[ONCE].astype(str).itertuples(index=False, name=None)]]
        if len(new) or not path.exists():
            both = pd.concat([old, new], ignore_index=True) if len(old) and len(new) else new if len(new) else old
            partial = out / f".{TABLE}.{os.getpid()}"
            try:
                _one_type_a_column(both).to_parquet(partial, index=False)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    return path


def read_results(out: Path = DEFAULT_OUT) -> pd.DataFrame:
    """The results table of a run folder.

    Raises:
        WorkbenchError: nothing ran there yet.
    """
    if not (out / TABLE).exists():
        raise WorkbenchError(f"no {TABLE} in {out}/; start a run with: workbench run --out {out}")
    return _read(out / TABLE)


def latest_results(table: pd.DataFrame, *, finished: bool = True) -> pd.DataFrame:
    """The rows of the last execution of each notebook, preset and parameters."""
    table = table[table.status == "ok"] if finished else table
    return table[table.started == table.groupby(ITEM).started.transform("max")].reset_index(drop=True)


def summary_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per notebook, preset, parameters and claim or metric of its last execution: mean over seeds, verdict, cost."""
    last = latest_results(table, finished=False).fillna({"kind": "", "name": ""})
    key = ["slug", "preset", "parameters", *QUANTITY]
    first = {c: (c, "first") for c in ("status", "verdict", "seconds", "memory_mb", "device", "run") if c in last}
    return last.groupby(key, sort=False).agg(values=("value", "count"), mean=("value", "mean"), **first).reset_index()


def query_results(sql: str, out: Path = DEFAULT_OUT) -> pd.DataFrame:
    """Ask the table, named `results`, in DuckDB's SQL.

    Raises:
        WorkbenchError: DuckDB is not installed, or does not accept the question.
    """
    try:
        import duckdb
    except ImportError:
        raise WorkbenchError("--sql needs duckdb: pip install -c constraints.txt -e '.[batch]'") from None
    table = read_results(out)
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        connection.register("results", table)
        try:
            return connection.execute(sql).df()
        except duckdb.Error as error:
            raise WorkbenchError(f"the question cannot be answered: {' '.join(str(error).split())}") from None


def pick_run(name: str, out: Path = DEFAULT_OUT) -> pd.DataFrame:
    """The rows meant by a run folder ('runs'), the part of it for one preset ('runs/cpu'), or the name of one run in `out`.

    Raises:
        WorkbenchError: there is no such folder or run.
    """
    path = Path(name)
    if (path / TABLE).exists():
        return latest_results(read_results(path))
    if path.is_dir() and (path.parent / TABLE).exists():
        table = latest_results(read_results(path.parent))
        return table[table.preset == path.name]
    if (out / TABLE).exists():
        table = read_results(out)
        found = table[table.run == name] if "run" in table else table[:0]
        if len(found):
            return latest_results(found)
    raise WorkbenchError(f"{name!r} is neither a run folder nor the name of a run in {out}/ (column `run` of: workbench results)")


def compare_runs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    r"""Two runs side by side: one row per notebook, parameters and claim or metric.

    The difference is that of the means over seeds, $\bar v_2 - \bar v_1$, with Welch's 95 % interval. Presets count as
    part of the key only where both runs have one in common, so that `ci` can be compared with `cpu`.

    Returns:
        columns slug, preset, parameters, name, mean_1, mean_2, difference, ci_low, ci_high, verdict_1, verdict_2, seconds_1,
        seconds_2 and note: 'only in 1', 'only in 2', 'verdict changed', 'differs' (the interval excludes 0), 'equal' (to the last
        bit) or ''.
    """
    import pandas as pd

    key = ["slug", "parameters", *QUANTITY]
    if set(first.preset) & set(second.preset):
        key.insert(1, "preset")
    a, b = (dict(iter(t.fillna({"kind": "", "name": ""}).groupby(key))) for t in (first, second))
    rows = [_compared(dict(zip(key, k, strict=True)), a.get(k), b.get(k)) for k in sorted({*a, *b})]
    columns = [*key, "mean_1", "mean_2", "difference", "ci_low", "ci_high", "verdict_1", "verdict_2", "seconds_1", "seconds_2"]
    return pd.DataFrame(rows, columns=[*columns, "note"]).drop(columns="kind")


def compared_in_words(rows: pd.DataFrame) -> pd.DataFrame:
    """The comparison narrow enough for a terminal: means with verdicts, the difference with its interval, seconds, note."""
    import pandas as pd

    def number(value: Any) -> str:
        return "-" if pd.isna(value) else f"{value:.4g}"

    def side(row: Any, i: int) -> str:
        verdict = row[f"verdict_{i}"]
        return number(row[f"mean_{i}"]) + (f" {verdict}" if isinstance(verdict, str) and verdict else "")

    shown = []
    for _, row in rows.iterrows():
        interval = "" if pd.isna(row["ci_low"]) else f" [{row['ci_low']:+.3g}, {row['ci_high']:+.3g}]"
        shown.append(
            {
                "notebook": row["slug"] + ("" if row["parameters"] == "{}" else f" {row['parameters']}"),
                "quantity": row["name"],
                "1": side(row, 1),
                "2": side(row, 2),
                "difference": "-" if pd.isna(row["difference"]) else f"{row['difference']:+.3g}{interval}",
                "seconds": f"{number(row['seconds_1'])} -> {number(row['seconds_2'])}",
                "note": row["note"],
            }
        )
    return pd.DataFrame(shown)


def differing_surroundings(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """In which of device, versions, git state, package and data two runs differ."""
    found = {}
    for name in AROUND:
        a, b = (", ".join(sorted({str(v) for v in t[name].dropna()})) if name in t else "" for t in (first, second))
        if a != b:
            found[name] = (a, b)
    return found


def _compared(row: dict[str, Any], a: pd.DataFrame | None, b: pd.DataFrame | None) -> dict[str, Any]:
    import numpy as np
    from scipy import stats

    for i, found in ((1, a), (2, b)):
        if found is not None:
            verdict = found.verdict.iloc[0]
            row |= {f"mean_{i}": found.value.mean(), f"seconds_{i}": found.seconds.iloc[0]}
            row[f"verdict_{i}"] = None if _missing(verdict) else verdict
    if a is None or b is None:
        return {**row, "note": f"only in {2 if a is None else 1}"}
    x, y = (f.sort_values("seed_index").value.dropna().to_numpy(float) for f in (a, b))
    low = high = None
    if len(x) > 1 and len(y) > 1:
        if x.std() + y.std() > 1e-12 * max(1.0, np.abs(x).max(), np.abs(y).max()):
            low, high = map(float, stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.95))
        else:
            low = high = float(y.mean() - x.mean())
    equal = len(x) == len(y) and bool((x == y).all())
    differs = low is not None and high is not None and (low > 0 or high < 0)
    note = "verdict changed" if row["verdict_1"] != row["verdict_2"] else "equal" if equal else "differs" if differs else ""
    return {**row, "difference": row["mean_2"] - row["mean_1"], "ci_low": low, "ci_high": high, "note": note}


def _rows(record: Record) -> list[dict[str, Any]]:
    base = {
        "run": record.run,
        "slug": record.slug,
        "part": record.part,
        "preset": record.preset,
        "parameters": json.dumps(record.parameters, sort_keys=True),
        "status": record.status,
        "error": record.error,
        "seconds": record.seconds,
        "memory_mb": record.memory_mb,
        "attempts": len(record.earlier) + 1,
        "started": record.started,
        **record.environment,
        **{f"fingerprint_{k.replace(' ', '_')}": v for k, v in record.fingerprint.items()},
        **{f"p_{k}": v for k, v in record.parameters.items()},
    }
    quantities: list[dict[str, Any]] = []
    for claim in record.claims:
        fields = {"kind": "claim", "name": claim.get("claim"), **{k: claim.get(k) for k in CLAIM_FIELDS}}
        references = claim.get("references") or [claim.get("reference")] * len(claim["values"])
        for i, (value, reference) in enumerate(zip(claim["values"], references, strict=True)):
            quantities.append({**fields, "seed_index": i, "value": value, "reference": reference})
    for name, values in record.metrics.items():
        quantities += [{"kind": "metric", "name": name, "seed_index": i, "value": v} for i, v in enumerate(values)]
    empty: dict[str, Any] = dict.fromkeys(("kind", "name", *CLAIM_FIELDS, "seed_index", "value", "reference"))
    return [{**base, **empty, **q} for q in quantities or [{}]]


def _one_type_a_column(table: pd.DataFrame) -> pd.DataFrame:
    """Parquet wants one type a column: numbers where all are numbers, text where they are mixed."""
    import pandas as pd

    table = table.copy()
    for name in table.columns:
        column = table[name]
        if column.dtype == object:
            known = column.dropna()
            if len(known) == 0 and name in ("value", "reference", "effect", "ci_low", "ci_high", "memory_mb", "min_effect"):
                table[name] = column.astype(float)
            elif len(known) and all(isinstance(v, bool) for v in known):
                table[name] = column.astype("boolean")
            elif len(known) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known):
                table[name] = pd.to_numeric(column)
            else:
                table[name] = column.map(lambda v: v if isinstance(v, str) or _missing(v) else json.dumps(v)).astype("string")
    return table


def _missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value != value


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{path} is not a readable table ({error}); move it away, the next run makes a new one") from None
