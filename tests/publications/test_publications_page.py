"""docs/published.md is what the registry says."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from visir import publications
from visir.publications.page import page

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "published.md"


def test_the_document_is_the_page():
    again = "docs/published.md is out of step: run python -m visir.publications.page > docs/published.md"
    assert DOCUMENT.read_text(encoding="utf-8") == page(), again


def test_the_module_prints_it():
    command = [sys.executable, "-m", "visir.publications.page"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.decode("utf-8") == page()


def test_every_table_error_and_number_is_on_the_page():
    text = page()
    for key in publications.available():
        publication = publications.find(key)
        assert publication.title in text
        for table in publication.tables:
            assert f"### {key.replace('_', '-')}, {table.name}\n" in text
            for error in (*publication.errors, *table.errors, *(e for row in table.rows for e in row.errors)):
                assert error.rstrip(".") in text
            for row in table.rows:
                assert all(str(number) in text for figures in row.printed.values() for number in figures.values())
                assert row.missing in text


def test_tables_are_well_formed():
    lines = page().splitlines()
    for above, line in itertools.pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert above.count("|") == line.count("|"), line


def test_misprints_are_struck_out_and_recalled_values_are_marked():
    text = page()
    assert "17.75 / ~~56.42~~ 34.21 / ~~67.52~~ 44.35 / ~~31.83~~ 18.90" in text
    assert "67.99 / 85.56 / 91.41 / 66.70 (`regdb-t2v-img`) is recalled" in text
    assert "`visir reproduce base-derivative table4` runs 6 of 6 rows" in text
