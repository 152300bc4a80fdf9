"""Batch execution of notebooks on papermill: select, run, skip what is unchanged, collect the claims."""

from workbench.batch.notebooks import Notebook, find_notebooks, select_notebooks
from workbench.batch.records import Record, collect_claims, read_records
from workbench.batch.run import run_notebooks

__all__ = [
    "Notebook",
    "Record",
    "collect_claims",
    "find_notebooks",
    "read_records",
    "run_notebooks",
    "select_notebooks",
]
