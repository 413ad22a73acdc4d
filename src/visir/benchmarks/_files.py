"""Folder listings and split lists, read the same way for every data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io

from visir.core.errors import DatasetError
from visir.core.files import is_image_name


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of one folder, parted into images and strays; sub-folders are neither.

    Published readers list a folder and draw from whatever is there, so one ``Thumbs.db`` changes every later draw. Here
    only images count, in order of their names, and the rest is handed back to be reported.

    Returns:
        images and stray files (hidden ones included), each sorted by name; both empty when there is no such folder.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    images: list[Path] = []
    stray: list[Path] = []
    for name in names:
        (images if is_image_name(name) else stray).append(folder / name)
    return images, stray


def read_mat(path: Path, variable: str) -> npt.NDArray[np.generic]:
    """One variable of a Matlab file (version 7 or older).

    Raises:
        DatasetError: the file is missing or damaged, or lacks the variable.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; copy it from the data set's archive or code repository.")
    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy raises a dozen kinds on damaged input
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DatasetError(f"{path}: damaged, not a readable Matlab file ({reason}); copy it again.") from error
    if variable not in content:
        raise DatasetError(f"{path}: expected a variable '{variable}', found none; is this the right file?")
    value: npt.NDArray[np.generic] = np.asarray(content[variable])
    return value


def read_id_list(exp_folder: Path, stem: str) -> list[int]:
    """The identities in ``stem.txt`` (integers parted by commas, spaces or newlines) or, without it, in ``stem.mat``.

    Returns:
        the identities in ascending order, each once.

    Raises:
        DatasetError: both files are missing, or the one that is there is damaged or empty.
    """
    text, mat = exp_folder / f"{stem}.txt", exp_folder / f"{stem}.mat"
    if text.is_file():
        source, words = text, _words(text)
    elif mat.is_file():
        source, words = mat, [_plain(value) for value in read_mat(mat, "id").ravel().tolist()]
    else:
        raise DatasetError(
            f"{text}: the split file is missing, and so is {mat.name}. Copy the folder '{exp_folder.name}' from the "
            "data set's archive."
        )
    try:
        identities = sorted({int(word) for word in words})
    except ValueError as error:
        raise DatasetError(
            f"{source}: expected integers parted by commas, got {_odd(words)!r}; copy it again."
        ) from error
    if not identities:
        raise DatasetError(f"{source}: expected identities parted by commas, got an empty file; copy it again.")
    return identities


def _plain(value: object) -> str:
    """A number of a .mat file as text; MATLAB stores whole numbers as doubles unless told otherwise."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _words(text: Path) -> list[str]:
    try:
        return text.read_text(encoding="utf-8-sig").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{text}: not a readable text file ({error}); copy it again.") from error


def _odd(words: list[str]) -> str:
    return next(word for word in words if not word.lstrip("+-").isdigit())[:40]
