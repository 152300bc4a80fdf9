"""A notebook-first workbench for contrastive and multimodal representation learning.

    import workbench as wb
    from workbench import data, losses, metrics, models

Importing the package loads nothing heavy; torch comes with the first thing that computes.
"""

from workbench.errors import DataError, UnknownNameError, WorkbenchError
from workbench.runtime import PRESETS, Preset, progress, resolve_device, resolve_preset, seed_everything

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "DataError",
    "Preset",
    "UnknownNameError",
    "WorkbenchError",
    "__version__",
    "progress",
    "resolve_device",
    "resolve_preset",
    "seed_everything",
]
