"""The registry as a page: ``python -m visir.publications.page > docs/published.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from visir.publications.model import Column, Figures, Publication, Row, Table
from visir.publications.registry import available, find

ABSENT = "–"
INTRODUCTION = """# Published numbers

This page is made by `python -m visir.publications.page` from the files in `src/visir/publications/data`; change those.
They hold every number of the publications that visir is built on, and what these and others print of the systems they
are compared with.

Numbers are percent. A column is named by visir's protocol id (see [Evaluation and protocols](evaluation.md)); RegDB is
the mean over its ten partitions. **Bold** rows are the publication's own. A number ~~struck out~~ is printed so and
wrong; the right one stands behind it. "–" is not printed. The last column names the method, and the row of its
`ablation.yaml`, by which visir runs a row. A row was read in the publication itself or in its authors' README, unless
its note says "quoted" (by another publication) or "unchecked" (seen in notes or on a leaderboard).
"""


def page() -> str:
    """The whole registry as Markdown."""
    return "\n".join([INTRODUCTION, *(line for key in available() for line in _publication(find(key)))])


def _publication(publication: Publication) -> Iterator[str]:
    yield f"## {publication.key.replace('_', '-')}\n"
    yield f"{publication.citation}.\n"
    yield from _bullets("Known errors", publication.errors)
    for table in publication.tables:
        yield from _table(publication, table)


def _table(publication: Publication, table: Table) -> Iterator[str]:
    name = publication.key.replace("_", "-")
    run = sum(row.system is not None for row in table.rows)
    yield f"### {name}, {table.name}\n"
    command = f"`visir reproduce {name} {table.name}`"
    runs = f"{command} runs {run} of {len(table.rows)} rows" if run else "None of its rows is run by visir"
    yield f"{table.caption}. {runs}.\n"
    ticked = any(row.ticks for row in table.rows)
    head = ["row", *(["ticks"] if ticked else []), *map(_head, table.columns), "in visir"]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in table.rows:
        cells = [f"**{row.name}**" if row.own else row.name, *([", ".join(row.ticks)] if ticked else [])]
        cells += [_cell(row, column) for column in table.columns]
        yield f"| {' | '.join([*cells, f'`{row.system}`' if row.system else ABSENT])} |"
    yield ""
    yield from _bullets(
        "Known errors", [*table.errors, *(f"{row.name}: {e}" for row in table.rows for e in row.errors)]
    )
    yield from _bullets("Notes", [*table.notes, *(note for row in table.rows for note in _notes(row, table))])
    yield from _bullets("Not run", _not_run(table))


def _head(column: Column) -> str:
    return f"`{column.protocol}` {' / '.join(column.figures)}"


def _cell(row: Row, column: Column) -> str:
    if column.protocol not in row.printed:
        return ABSENT
    return " / ".join(_number(row, column.protocol, figure) for figure in column.figures)


def _number(row: Row, protocol: str, figure: str) -> str:
    printed = row.printed[protocol].get(figure)
    right = row.corrected.get(protocol, {}).get(figure)
    text = ABSENT if printed is None else str(printed)
    return text if right is None else f"~~{text}~~ {right}"


def _notes(row: Row, table: Table) -> Iterator[str]:
    for note in row.notes:
        yield f"{row.name}: {note}"
    for protocol, text in _recalled(row.recalled, table):
        yield f"{row.name}: {text} (`{protocol}`) is recalled from later papers and verified by nobody"
    if row.source or row.evidence != "read":
        yield f"{row.name}: {', '.join(filter(None, [row.source, row.evidence if row.evidence != 'read' else '']))}"


def _recalled(recalled: Figures, table: Table) -> Iterator[tuple[str, str]]:
    for column in table.columns:
        if column.protocol in recalled:
            values = recalled[column.protocol]
            yield column.protocol, " / ".join(str(values.get(figure, ABSENT)) for figure in column.figures)


def _not_run(table: Table) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for row in table.rows:
        if row.system is None:
            reasons.setdefault(row.missing, []).append(row.name)
    for reason, rows in reasons.items():
        yield f"{'; '.join(rows)}: {reason}"


def _bullets(title: str, texts: Iterable[str]) -> Iterator[str]:
    lines = [f"- {text}." for text in (text.rstrip(".") for text in texts)]
    if lines:
        yield "\n".join([f"{title}:\n", *lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
