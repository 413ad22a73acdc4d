"""visir: visible-infrared person re-identification.

Public names are imported when first used, so that ``import visir`` stays instant:

>>> import visir
>>> visir.Modality.INFRARED.name
'INFRARED'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Modality": "visir.core.types",
    "Record": "visir.core.types",
    "ImageTable": "visir.core.types",
    "VisirError": "visir.core.errors",
    "Protocol": "visir.evaluation.protocol",
    "Trial": "visir.evaluation.protocol",
    "Report": "visir.evaluation.report",
    "evaluate": "visir.evaluation.evaluate",
    "Embedder": "visir.engine.embedder",
    "SearchService": "visir.gallery.service",
}

if TYPE_CHECKING:
    from visir.core.errors import VisirError as VisirError
    from visir.core.types import ImageTable as ImageTable
    from visir.core.types import Modality as Modality
    from visir.core.types import Record as Record

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'visir' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
