"""A table of images as CSV or Parquet, checked line by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from visir.benchmarks._layout import names
from visir.core.errors import DatasetError, nearest
from visir.core.files import is_image_name
from visir.core.types import Modality

SUFFIXES = (".csv", ".parquet")
REQUIRED = ("path", "identity", "modality")
COLUMNS = (*REQUIRED, "camera", "time", "track", "exclude", "split")
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class Row:
    """One image; ``identity`` and ``exclude`` as written, ``camera`` None and the others "" where not given."""

    path: str
    identity: str
    modality: Modality
    camera: int | None = None
    time: str = ""
    track: str = ""
    exclude: str = ""
    split: str = ""


def read_rows(file: Path) -> list[Row]:
    """The checked rows of a CSV or Parquet file, in its order.

    Raises:
        DatasetError: the file cannot be read, lacks a column, has a misspelt one, or a row is wrong: not a whole
            number, an unknown modality or split, a second row of the same image, or no such image. The line is named.
    """
    lines = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)
    rows: list[Row] = []
    places: dict[str, str] = {}
    folders: dict[Path, frozenset[str]] = {}
    for place, values in lines:
        row = _row(place, values)
        if row.path in places:
            raise DatasetError(f"{place}: {row.path} is also in {places[row.path].rpartition(', ')[2]}; remove one.")
        places[row.path] = place
        image = file.parent / row.path
        if image.parent not in folders:
            folders[image.parent] = names(image.parent)
        if image.name not in folders[image.parent]:
            raise DatasetError(f"{place}: names the image {row.path}, but there is no {image}.")
        rows.append(row)
    if not rows:
        raise DatasetError(f"{file}: expected a line for each image below the column names, got none.")
    if any(row.split for row in rows) and not all(row.split for row in rows):
        empty = next(place for row, place in zip(rows, places.values(), strict=True) if not row.split)
        raise DatasetError(f"{empty}: the column 'split' is empty here and filled elsewhere; fill it everywhere.")
    return rows


def _csv(file: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_columns(file, header)
        for values in reader:
            place = f"{file}, line {reader.line_num}"
            if not values:
                continue
            if len(values) != len(header):
                raise DatasetError(f"{place}: expected {len(header)} values, got {len(values)}. Is a comma unquoted?")
            yield place, dict(zip(header, (value.strip() for value in values), strict=True))
    except csv.Error as error:
        raise DatasetError(f"{file}, line {reader.line_num}: not readable as CSV ({error}).") from error


def _text(file: Path) -> str:
    try:
        content = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror or error}).") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{file}, line {line}: expected UTF-8 text, got other bytes; save it as UTF-8.") from error


def _parquet(file: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(f"{file}: reading Parquet needs pyarrow: pip install 'visir[search]'.") from error
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{file}: not a readable Parquet file ({reason}).") from error
    _check_columns(file, table.column_names)
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name in COLUMNS}
    for number in range(table.num_rows):
        yield f"{file}, row {number + 1}", {name: _word(values[number]) for name, values in columns.items()}


def _word(value: Any) -> str:
    """A Parquet value as CSV would have it; data frames write missing whole numbers as floats."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, datetime) else str(value).strip()


def _check_columns(file: Path, header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise DatasetError(
            f"{file}: the column '{missing[0]}' is missing. Expected {', '.join(REQUIRED)} and, where known, "
            f"{', '.join(COLUMNS[len(REQUIRED) :])}; got {', '.join(header) or 'an empty file'}."
        )
    for name in header:
        close = get_close_matches(name, COLUMNS, n=1, cutoff=0.75)
        if name not in COLUMNS and close:  # other columns are the user's own and passed over
            raise DatasetError(f"{file}: unknown column {name!r}; it is close to {close[0]!r}. Rename it.")
        if header.count(name) > 1:
            raise DatasetError(f"{file}: the column {name!r} is there twice.")


def _row(place: str, values: Mapping[str, str]) -> Row:
    path, identity, split = values["path"].replace("\\", "/"), values["identity"], values.get("split", "").lower()
    if not path or not identity:
        raise DatasetError(f"{place}: 'path' and 'identity' must not be empty.")
    if not is_image_name(path.rpartition("/")[2]):
        raise DatasetError(f"{place}: expected the path of an image, got {path!r}.")
    if identity.startswith("-") and identity[1:].isdecimal():
        raise DatasetError(f"{place}: expected a name or a number from 0 as identity, got {identity}.")
    if split and split not in SPLITS:
        raise DatasetError(f"{place}: unknown split {split!r}. {nearest(split, SPLITS)}")
    try:
        modality = Modality.parse(values["modality"])
    except DatasetError as error:
        raise DatasetError(f"{place}: {error}") from error
    exclude = values.get("exclude", "")
    return Row(
        path=path,
        identity=identity,
        modality=modality,
        camera=_camera(place, values.get("camera", "")),
        time=_utc(place, values.get("time", "")),
        track=values.get("track", ""),
        exclude="" if exclude == "-1" else exclude,
        split=SPLITS.get(split, ""),
    )


LARGEST = 2**63 - 1  # of a column of a table


def _camera(place: str, text: str) -> int | None:
    if text and not (text.isdecimal() and int(text) <= LARGEST):
        raise DatasetError(f"{place}: expected a whole number from 0 as camera, got {text!r}.")
    return int(text) if text else None


def _utc(place: str, text: str) -> str:
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DatasetError(f"{place}: expected a time such as 2024-05-31T08:15:00Z, got {text!r}.") from error
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.isoformat().replace("+00:00", "Z")
