"""HEscribe learns between H&E histology and spatial transcriptomics."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

_PUBLIC = {
    "Section": "hescribe.data.section",
    "Cohort": "hescribe.data.cohort",
    "read_cohort": "hescribe.data.folder",
    "write_cohort": "hescribe.data.folder",
}

__all__ = ["Cohort", "Section", "__version__", "read_cohort", "write_cohort"]

if TYPE_CHECKING:
    from hescribe.data.cohort import Cohort
    from hescribe.data.folder import read_cohort, write_cohort
    from hescribe.data.section import Section


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import hescribe`` stays fast."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hescribe' has no attribute {name!r}")
