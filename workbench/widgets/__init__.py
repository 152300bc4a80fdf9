"""ipywidgets explorers; each carries a picture of its first frame, which a page without a kernel shows instead."""

from workbench.widgets.explorer import explorer

__all__ = ["explorer"]
