"""The 83 papers, their claims, and how a measured claim becomes a verdict."""

from workbench.papers.catalogue import Claim, Paper, find_paper, load_catalogue
from workbench.papers.claims import ClaimResult, ClaimTable, Measurement, judge, report_claims
from workbench.papers.exercises import check_answer

__all__ = [
    "Claim",
    "ClaimResult",
    "ClaimTable",
    "Measurement",
    "Paper",
    "check_answer",
    "find_paper",
    "judge",
    "load_catalogue",
    "report_claims",
]
