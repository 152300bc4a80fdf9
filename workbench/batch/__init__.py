"""Batch execution of notebooks on papermill: select, sweep, run, skip what is unchanged, collect and compare the results."""

from workbench.batch.metrics import report_metrics
from workbench.batch.notebooks import Notebook, find_notebooks, select_notebooks
from workbench.batch.plan import grid_points, parse_parameters, read_sweep
from workbench.batch.records import Record, collect_claims, read_records
from workbench.batch.results import compare_runs, query_results, read_results
from workbench.batch.run import run_notebooks
from workbench.batch.sweeps import plot_sweep

__all__ = [
    "Notebook",
    "Record",
    "collect_claims",
    "compare_runs",
    "find_notebooks",
    "grid_points",
    "parse_parameters",
    "plot_sweep",
    "query_results",
    "read_records",
    "read_results",
    "read_sweep",
    "report_metrics",
    "run_notebooks",
    "select_notebooks",
]
