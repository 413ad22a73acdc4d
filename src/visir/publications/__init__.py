"""Layer 2: the published numbers, one YAML file in ``data`` is one publication with its tables.

>>> from visir import publications
>>> publications.find("base-derivative").table("table4").row("B1").published()["regdb-v2t-img"]
{'rank1': 45.34, 'mAP': 39.79}
"""

from __future__ import annotations

from visir.publications.model import Column, Publication, Quote, Row, Table
from visir.publications.registry import available, figures, find, systems

__all__ = ["Column", "Publication", "Quote", "Row", "Table", "available", "figures", "find", "systems"]
