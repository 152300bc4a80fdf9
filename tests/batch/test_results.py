"""The table keeps every execution, SQL reads it, two runs are compared, and a sweep is drawn as it was measured."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from workbench import cli
from workbench.batch import compare_runs, plot_sweep, query_results, read_results, report_metrics
from workbench.batch.records import METRICS_MIME, Record, write_record
from workbench.batch.results import append_results, differing_surroundings, latest_results, pick_run, summary_table
from workbench.batch.sweeps import _interval
from workbench.errors import UnknownNameError, WorkbenchError
from workbench.papers import find_paper, judge

PAPER = find_paper("contrastive-loss-behaviour")


def record(values, *, slug="mine", started="2026-01-01T00:00:00", run="r1", device="cpu", preset="ci", status="ok", **parameters):
    claims = []
    if slug == PAPER.slug:
        claims = [vars(judge(PAPER.claims[0], values, slug=slug, preset=preset))]
    return Record(
        slug,
        "01-geometry",
        preset,
        parameters,
        status,
        2.0,
        started,
        {"package": "p1", "notebook": "n"},
        claims=claims,
        metrics={} if claims or status != "ok" else {"score": list(values)},
        environment={"device": device, "torch": "2.13.0", "git": "abc"},
        memory_mb=100.0,
        run=run,
    )


def invoke(*arguments):
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_row_for_each_claim_metric_and_seed(tmp_path):
    write_record(record([0.5, 0.6, 0.7], slug=PAPER.slug), tmp_path)
    write_record(record([1.0, 2.0], tau=0.1, layers=[1, 2]), tmp_path)
    write_record(record([], slug="bad", status="timeout"), tmp_path)
    append_results(tmp_path)
    table = read_results(tmp_path)
    assert len(table) == 3 + 2 + 1
    claim = table[table.kind == "claim"]
    assert (
        set(claim.name) == {PAPER.claims[0].id}
        and claim.value.tolist() == [0.5, 0.6, 0.7]
        and claim.seed_index.tolist() == [0, 1, 2]
    )
    assert claim.effect.notna().all() and claim.verdict.notna().all() and (claim.memory_mb == 100).all()
    metric = table[table.kind == "metric"]
    assert metric.p_tau.tolist() == [0.1, 0.1] and metric.p_layers.tolist() == ["[1, 2]"] * 2
    assert {"device", "torch", "git", "run", "fingerprint_package", "seconds", "started"} <= set(table.columns)
    assert table[table.slug == "bad"].status.tolist() == ["timeout"] and table[table.slug == "bad"].value.isna().all()


def test_runs_are_added_and_never_twice(tmp_path):
    """A record that a later run replaced stays in the table as history; the last execution can be told apart."""
    write_record(record([1.0]), tmp_path)
    append_results(tmp_path)
    append_results(tmp_path)
    assert len(read_results(tmp_path)) == 1
    write_record(record([3.0], started="2026-01-02T00:00:00", run="r2", flag=True), tmp_path)
    write_record(record([5.0], started="2026-01-02T00:00:00", run="r2"), tmp_path)
    append_results(tmp_path)
    table = read_results(tmp_path)
    assert sorted(table.value) == [1.0, 3.0, 5.0] and sorted(latest_results(table).value) == [3.0, 5.0]
    assert summary_table(table)["mean"].tolist().count(1.0) == 0


def test_parameters_of_mixed_types_become_text(tmp_path):
    for i, value in enumerate((1, "a", [1], None)):
        write_record(record([float(i)], slug=f"n{i}", x=value, y=i), tmp_path)
    append_results(tmp_path)
    table = read_results(tmp_path).sort_values("slug")
    assert table.p_x.dropna().tolist() == ["1", "a", "[1]"] and table.p_y.tolist() == [0, 1, 2, 3]


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "results.parquet").write_text("not parquet")
    with pytest.raises(WorkbenchError, match="not a readable table"):
        read_results(tmp_path)
    with pytest.raises(WorkbenchError, match="start a run"):
        read_results(tmp_path / "nowhere")


def test_sql(tmp_path):
    pytest.importorskip("duckdb")
    for tau in (0.1, 0.5):
        write_record(record([tau, 3 * tau], tau=tau), tmp_path)
    append_results(tmp_path)
    question = "select p_tau, avg(value) as mean from results group by p_tau order by p_tau"
    np.testing.assert_allclose(query_results(question, tmp_path).to_numpy(), [[0.1, 0.2], [0.5, 1.0]])
    rows = json.loads(invoke("results", "--json", "--sql", question, "--out", str(tmp_path)))
    assert [r["p_tau"] for r in rows] == [0.1, 0.5]
    assert "0.5" in invoke("results", "--sql", question, "--out", str(tmp_path))
    with pytest.raises(WorkbenchError, match="cannot be answered"):
        query_results("select nothing from nowhere", tmp_path)


def test_compare_gives_welchs_interval_and_says_what_changed(tmp_path):
    """Against scipy's statement of Welch's test; equal, only here, a changed verdict, and the surroundings."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 6), rng.normal(2, 3, 5)
    good, bad = [0.9, 0.91, 0.92], [-0.9, -0.91, -0.92]
    for run, device, values, claim, only in (("one", "cpu", x, good, "left"), ("two", "cuda", y, bad, "right")):
        out = tmp_path / run
        write_record(record(values, device=device), out)
        write_record(record([1.0, 2.0], slug="same", device=device), out)
        write_record(record(claim, slug=PAPER.slug, device=device), out)
        write_record(record([1.0], slug=only, device=device), out)
        append_results(out)
    a, b = pick_run(str(tmp_path / "one")), pick_run(str(tmp_path / "two" / "ci"))
    table = compare_runs(a, b).set_index("slug")
    mine = table.loc["mine"]
    interval = stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.95)
    assert mine.difference == pytest.approx(y.mean() - x.mean())
    assert (mine.ci_low, mine.ci_high) == pytest.approx((interval.low, interval.high))
    assert mine.note == ("differs" if interval.low > 0 or interval.high < 0 else "")
    assert table.note[["same", PAPER.slug, "left", "right"]].tolist() == ["equal", "verdict changed", "only in 1", "only in 2"]
    assert differing_surroundings(a, b) == {"device": ("cpu", "cuda")}
    printed = invoke("compare", str(tmp_path / "one"), str(tmp_path / "two"))
    assert "verdict changed" in printed and "device: cpu  ->  cuda" in printed
    found = json.loads(invoke("compare", str(tmp_path / "one"), str(tmp_path / "two"), "--json"))
    assert found["surroundings"] == {"device": ["cpu", "cuda"]} and len(found["rows"]) == 5


def test_two_runs_of_one_folder_are_compared_by_name(tmp_path):
    for run, day, value in (("r1", 1, 1.0), ("r2", 2, 4.0)):
        write_record(record([value, value], run=run, started=f"2026-01-0{day}T00:00:00"), tmp_path)
        append_results(tmp_path)
    (row,) = compare_runs(pick_run("r1", tmp_path), pick_run("r2", tmp_path)).itertuples()
    assert (row.difference, row.note) == (3.0, "differs")
    with pytest.raises(WorkbenchError, match="neither a run folder"):
        pick_run("r3", tmp_path)


def test_other_presets_are_compared_where_the_runs_have_none_in_common(tmp_path):
    for preset, value in (("ci", 1.0), ("cpu", 2.0)):
        write_record(record([value], preset=preset), tmp_path)
    append_results(tmp_path)
    (row,) = compare_runs(pick_run(str(tmp_path / "ci")), pick_run(str(tmp_path / "cpu"))).itertuples()
    assert (row.mean_1, row.mean_2) == (1.0, 2.0) and pd.isna(row.ci_low)


def test_the_sweep_plot_shows_means_and_intervals(tmp_path):
    """The drawn points are the means over seeds, swept and handed in; one line for each value of the other parameter."""
    for tau in (0.05, 0.1, 0.5):
        for width in (1, 2, 3):
            for seed in (0, 1):
                write_record(record([tau * width + seed, tau * width - seed], tau=tau, width=width, seed=seed), tmp_path)
    append_results(tmp_path)
    figure = plot_sweep(read_results(tmp_path), "mine", x="tau")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "tau" and len(axes.lines) == 3
    assert [line.get_label() for line in axes.lines] == ["width = 1", "width = 2", "width = 3"]
    for line in axes.lines:
        width = int(line.get_label().removeprefix("width = "))
        np.testing.assert_allclose(line.get_xdata(), [0.05, 0.1, 0.5])
        np.testing.assert_allclose(line.get_ydata(), width * np.array([0.05, 0.1, 0.5]))
    assert "highest at tau = 0.5" in axes.get_title(loc="left")
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    _, low, high = _interval([0.05, 1.05, 0.05, -0.95])
    assert band.min() <= low + 1e-9 and np.isclose(band, high).any()
    picture = tmp_path / "plot.png"
    invoke("results", "--plot", "mine", "--x", "width", "-o", str(picture), "--out", str(tmp_path))
    assert picture.stat().st_size > 5000
    with pytest.raises(UnknownNameError, match="swept parameter"):
        plot_sweep(read_results(tmp_path), "mine", x="wdith")
    with pytest.raises(WorkbenchError, match="no finished sweep"):
        plot_sweep(read_results(tmp_path), "other")


def test_intervals_are_students():
    values = [1.0, 2.0, 4.0]
    mean, low, high = _interval(values)
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert mean == pytest.approx(7 / 3) and (low, high) == pytest.approx(expected)
    assert _interval([3.0]) == (3.0, 3.0, 3.0)


def test_reported_metrics_carry_their_values_and_refuse_what_is_no_number():
    made = report_metrics(score=1, several=np.array([1.0, 2.0]))._repr_mimebundle_()
    assert made[METRICS_MIME] == {"score": [1.0], "several": [1.0, 2.0]} and "several = 1, 2" in made["text/plain"]
    for bad, error in (
        (float("nan"), ValueError),
        ([], ValueError),
        ("a", TypeError),
        ({"a": "b"}, TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="score must be"):
            report_metrics(score=bad)
