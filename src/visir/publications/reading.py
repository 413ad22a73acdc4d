"""From a YAML file to a :class:`Publication`: every key, length and percentage is checked."""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from visir.core.errors import ConfigError, nearest
from visir.publications.model import EVIDENCE, FIGURES, Column, Figures, Publication, Row, Table, nothing

FILE_KEYS = ("publication", "tables")
PUBLICATION_KEYS = ("key", "title", "authors", "venue", "year", "errors")
TABLE_KEYS = ("name", "caption", "columns", "rows", "errors", "notes")
COLUMN_KEYS = ("protocol", "figures")
ROW_KEYS = ("name", "system", "values", "own", "missing", "errors", "corrected", "recalled", "ticks", "notes", "alias",
            "source", "evidence")  # fmt: skip
SYSTEM = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9][a-z0-9-]*)?")
TABLE_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times faster, where it was built


class _Printed(_Loader):  # type: ignore[misc]
    """Safe YAML whose numbers keep their printed digits, 47.50 is not 47.5, and whose keys cannot be given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigError(f"line {node.start_mark.line + 1}: the key {twice[0]!r} is given twice; keep one.")
        return super().construct_mapping(node, deep)


def _decimal(_: Any, node: Any) -> Decimal:
    try:
        return Decimal(node.value)
    except decimal.InvalidOperation as error:
        line = node.start_mark.line + 1
        raise ConfigError(f"line {line}: expected a number such as 47.50, got {node.value!r}.") from error


_Printed.add_constructor("tag:yaml.org,2002:float", _decimal)


def read(path: Path) -> Publication:
    """The publication of one file.

    Raises:
        ConfigError: the file is missing, is no YAML, has an unknown key, or values that do not fit its columns.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Printed)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file of published numbers.") from error
    except ConfigError as error:
        raise ConfigError(f"{path.name}, {error}") from error
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ConfigError(f"{path}: expected a readable YAML file, got {line}{error.problem}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{path}: expected a readable YAML file, got: {first}.") from error
    publication = parse(content, where=path.name)
    if publication.key != path.stem:
        raise ConfigError(
            f"{path.name}: expected the key {path.stem!r} after the file's name, got {publication.key!r}."
        )
    return publication


def parse(content: Any, *, where: str) -> Publication:
    """A publication from the mapping that a file holds; ``where`` opens every error message."""
    values = _mapping(content, FILE_KEYS, FILE_KEYS, where)
    head = _mapping(values["publication"], PUBLICATION_KEYS, PUBLICATION_KEYS[:5], f"{where}, publication")
    if type(head["year"]) is not int:
        raise ConfigError(f"{where}, publication: expected the year as a whole number, got {head['year']!r}.")
    tables = tuple(_table(table, where) for table in _list(values["tables"], f"{where}, tables"))
    _no_doubles((table.name for table in tables), f"{where}: the table")
    key, title, authors, venue = (_text(head, name, f"{where}, publication") for name in PUBLICATION_KEYS[:4])
    return Publication(key, title, authors, venue, head["year"], tables, _texts(head, "errors", where))


def _table(content: Any, where: str) -> Table:
    values = _mapping(content, TABLE_KEYS, TABLE_KEYS[:4], f"{where}, a table")
    name = _text(values, "name", f"{where}, a table")
    here = f"{where}, {name}"
    if not TABLE_NAME.fullmatch(name):
        raise ConfigError(f"{here}: expected a table name of lower-case letters, digits and hyphens, got {name!r}.")
    columns = tuple(_column(column, here) for column in _list(values["columns"], f"{here}, columns"))
    _no_doubles((column.protocol for column in columns), f"{here}: the column")
    rows = tuple(_row(row, columns, here) for row in _list(values["rows"], f"{here}, rows"))
    _no_doubles((row.name for row in rows), f"{here}: the row")
    errors, notes = (_texts(values, key, here) for key in ("errors", "notes"))
    return Table(name, _text(values, "caption", here), columns, rows, errors, notes)


def _column(content: Any, where: str) -> Column:
    values = _mapping(content, COLUMN_KEYS, COLUMN_KEYS, f"{where}, a column")
    figures = _texts(values, "figures", where)
    for figure in figures:
        if figure not in FIGURES:
            raise ConfigError(f"{where}: unknown figure {figure!r}. {nearest(figure, FIGURES)}")
    _no_doubles(figures, f"{where}: the figure")
    return Column(_text(values, "protocol", where), figures)


def _row(content: Any, columns: Sequence[Column], where: str) -> Row:
    values = _mapping(content, ROW_KEYS, ROW_KEYS[:3], f"{where}, a row")
    name = _text(values, "name", f"{where}, a row")
    here = f"{where}, row {name!r}"
    row = Row(
        name=name,
        system=_system(values, here),
        printed=_figures(values["values"], columns, here),
        own=_flag(values, "own", here),
        corrected=_figures(values.get("corrected"), columns, f"{here}, corrected"),
        recalled=_figures(values.get("recalled"), columns, f"{here}, recalled"),
        ticks=_texts(values, "ticks", here),
        missing=_text(values, "missing", here, ""),
        errors=_texts(values, "errors", here),
        notes=_texts(values, "notes", here),
        alias=_text(values, "alias", here, ""),
        source=_text(values, "source", here, ""),
        evidence=EVIDENCE[_place(_text(values, "evidence", here, "read"), EVIDENCE, here)],
    )
    _check_row(row, here)
    return row


def _check_row(row: Row, where: str) -> None:
    if (row.system is None) != bool(row.missing):
        raise ConfigError(f"{where}: expected 'missing' with the reason exactly when 'system' is null.")
    if row.corrected and not row.errors:
        raise ConfigError(f"{where}: expected 'errors' to say what 'corrected' mends.")
    if not row.printed and not row.notes:
        raise ConfigError(f"{where}: expected a number, or 'notes' that say why there is none.")
    for protocol, figures in row.corrected.items():
        for figure, value in figures.items():
            if row.printed.get(protocol, {}).get(figure) in (None, value):
                raise ConfigError(f"{where}: {figure} of {protocol} is corrected without another printed value.")
    for protocol, figures in row.recalled.items():
        if protocol in row.printed and set(row.printed[protocol]) & set(figures):
            raise ConfigError(f"{where}: {protocol} is printed; a recalled value has no place beside it.")


def _figures(content: Any, columns: Sequence[Column], where: str) -> Figures:
    if content is None:
        return nothing()
    cells = _list(content, where)
    if len(cells) != len(columns):
        raise ConfigError(f"{where}: expected a list or null for each of {len(columns)} columns, got {len(cells)}.")
    found = {}
    for cell, column in zip(cells, columns, strict=True):
        if cell is None:
            continue
        numbers = _list(cell, where)
        if len(numbers) != len(column.figures):
            wanted = ", ".join(column.figures)
            raise ConfigError(f"{where}: expected {column.protocol} to hold {wanted}, got {len(numbers)} values.")
        kept = {
            figure: _percent(number, f"{where}, {column.protocol}, {figure}")
            for figure, number in zip(column.figures, numbers, strict=True)
            if number is not None
        }
        if kept:
            found[column.protocol] = MappingProxyType(kept)
    return MappingProxyType(found)


def _percent(value: Any, where: str) -> Decimal:
    number = isinstance(value, int | Decimal) and not isinstance(value, bool) and Decimal(value).is_finite()
    if not number or not 0 <= value <= 100:
        raise ConfigError(f"{where}: expected a percentage from 0 to 100, got {value!r}.")
    return Decimal(value)


def _system(values: Mapping[str, Any], where: str) -> str | None:
    if values["system"] is None:
        return None
    system = _text(values, "system", where)
    if not SYSTEM.fullmatch(system):
        raise ConfigError(f"{where}: expected a system such as dfe/baseline, got {system!r}.")
    return system


def _mapping(content: Any, known: Sequence[str], needed: Sequence[str], where: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected 'key: value' pairs, got {type(content).__name__}.")
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}. {nearest(str(key), known)}")
    absent = [key for key in needed if key not in content]
    if absent:
        raise ConfigError(f"{where}: expected the key {absent[0]!r}; it is missing.")
    return content


def _list(content: Any, where: str) -> list[Any]:
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{where}: expected a list with at least one entry, got {content!r}.")
    return content


def _text(values: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    text = values.get(key, default)
    if not isinstance(text, str) or not (text.strip() or text == default):
        raise ConfigError(f"{where}: expected '{key}' to be a text, got {text!r}.")
    return text


def _texts(values: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    if key not in values:
        return ()
    texts = _list(values[key], f"{where}, {key}")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ConfigError(f"{where}: expected '{key}' to be a list of texts, got {texts!r}.")
    return tuple(texts)


def _flag(values: Mapping[str, Any], key: str, where: str) -> bool:
    flag = values.get(key, False)
    if not isinstance(flag, bool):
        raise ConfigError(f"{where}: expected '{key}' to be true or false, got {flag!r}.")
    return flag


def _place(word: str, words: Sequence[str], where: str) -> int:
    if word not in words:
        raise ConfigError(f"{where}: unknown evidence {word!r}. {nearest(word, words)}")
    return words.index(word)


def _no_doubles(names: Iterable[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{where} {name!r} is there twice; give every one its own name.")
        seen.add(name)
