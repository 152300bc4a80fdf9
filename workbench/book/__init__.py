"""The site: a Jupyter Book made from executed notebooks. Nothing here executes one, and nothing needs the network."""

from workbench.book.build import build_book
from workbench.book.gather import Executed, gather

__all__ = ["Executed", "build_book", "gather"]
