"""Every error that visir raises on purpose: one tree, one base class, one sentence each.

A message says what was expected, what came, and the likely fix. The command line prints it and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VisirError(Exception):
    """Base of all errors a user can cause and mend."""


class ConfigError(VisirError):
    """A configuration key or value is not what the dataclass beside the code allows."""


class DatasetError(VisirError):
    """A data set on disk is missing, incomplete, misplaced or damaged."""


class ImageError(VisirError):
    """A file is not an image that can be decoded safely."""


class EvaluationError(VisirError):
    """Features, labels or protocols that cannot be scored."""


class TrainingError(VisirError):
    """Training cannot start or go on (a non-finite loss, an unusable batch)."""


class CheckpointError(VisirError):
    """A checkpoint is damaged or belongs to another method, configuration or set of identities."""


class GalleryError(VisirError):
    """A gallery is missing, locked, damaged or was made by another encoder."""


class StorageError(VisirError):
    """A file could not be written (full disk, missing permission); what was there before is untouched."""


def nearest(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """A hint that names the nearest known word, in whatever case, for the end of an error message.

    Args:
        name: what came.
        known: what could have come.
        otherwise: a sentence in place of the list of all known words, where that would be too long.

    >>> nearest("margn", ["dim", "margin"])
    "Did you mean 'margin'? Known: dim, margin."
    >>> nearest("zzz", ["dim", "margin"])
    'Known: dim, margin.'
    >>> nearest("DIM", ["dim", "margin"], otherwise="'visir list' shows all.")
    "Did you mean 'dim'? 'visir list' shows all."
    """
    words = sorted(set(known))
    lowered = {word.lower(): word for word in words}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    hint = f"Did you mean {lowered[close[0]]!r}? " if close else ""
    listed = f"Known: {', '.join(words)}." if words else ""
    return f"{hint}{otherwise or listed}".strip()
