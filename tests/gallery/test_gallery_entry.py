from __future__ import annotations

import pytest

from visir.core.errors import GalleryError
from visir.core.types import Modality, Record
from visir.gallery.columns import EPOCH, microseconds
from visir.gallery.entry import Entry, Filter, instant, iso
from visir.gallery.lance_table import sql


def test_times_with_offsets_become_utc() -> None:
    entry = Entry("a.jpg", Modality.VISIBLE, taken_at="2026-03-01T12:00:00+02:00")
    assert entry.taken_at == "2026-03-01T10:00:00Z"
    assert entry == Entry("a.jpg", Modality.VISIBLE, taken_at="2026-03-01T10:00:00Z")
    assert Entry("a.jpg", Modality.VISIBLE, taken_at="2026-03-01").taken_at == "2026-03-01T00:00:00Z"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"])
def test_microseconds_keep_every_instant(text: str) -> None:
    from datetime import timedelta

    assert iso(EPOCH + timedelta(microseconds=microseconds(text))) == text


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "1 March", "0001-01-01T00:00:00+05:00", 7, None])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(GalleryError, match="expected ISO 8601"):
        instant(text)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("source", "", "source: expected a non-empty text"),
        ("source", "\udcff.jpg", "source: expected a text that UTF-8 can write"),
        ("source", "a\0b", "source: expected a non-empty text without NUL"),
        ("modality", 2, "modality: expected Modality.VISIBLE"),
        ("camera", True, "camera: expected a whole number"),
        ("camera", "3", "camera: expected a whole number"),
        ("camera", 2**63, "camera: expected a whole number of at most 64 bits"),
        ("camera", -(2**63), "camera: expected a whole number of at most 64 bits"),
        ("identity", "", "identity: expected a non-empty text"),
        ("track", 5, "track: expected a non-empty text"),
        ("taken_at", "soon", "time: expected ISO 8601"),
    ],
)
def test_an_entry_checks_its_fields(field: str, value: object, said: str) -> None:
    fields = {"source": "a.jpg", "modality": Modality.VISIBLE, field: value}
    with pytest.raises(GalleryError, match=said):
        Entry(**fields)  # type: ignore[arg-type]


def test_an_entry_of_a_table_row() -> None:
    record = Record("cam3/0001/1.jpg", 7, 3, Modality.INFRARED, taken_at="2026-01-02", track="t1")
    assert Entry.of(record, "/data/1.jpg") == Entry(
        "/data/1.jpg", Modality.INFRARED, camera=3, identity="7", taken_at="2026-01-02T00:00:00Z", track="t1"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cameras": set()}, "cameras: expected at least one"),
        ({"identities": ()}, "identities: expected at least one"),
        ({"cameras": "12"}, "cameras: expected a set"),
        ({"cameras": {"1"}}, "cameras: expected a whole number"),
        ({"exclude_cameras": {1.5}}, "exclude_cameras: expected a whole number"),
        ({"identities": "Ann"}, "identities: expected a set"),
        ({"since": "bad"}, "expected ISO 8601"),
        ({"since": "2026-01-02", "until": "2026-01-02"}, "expected 'since' before 'until'"),
        ({"modality": "infrared"}, "modality: expected"),
    ],
)
def test_a_filter_checks_its_conditions(fields: dict[str, object], said: str) -> None:
    with pytest.raises(GalleryError, match=said):
        Filter(**fields)  # type: ignore[arg-type]


def test_a_filter_is_plain_for_logs() -> None:
    assert Filter().plain() == {}
    assert Filter(cameras={3}, since="2026-01-01").plain() == {"cameras": [3], "since": "2026-01-01T00:00:00Z"}  # type: ignore[arg-type]


def test_sql_quotes_what_people_type() -> None:
    names = frozenset({"'; DROP TABLE entries; --", "O'Neil"})
    text = sql(Filter(identities=names))
    assert text == "identity IN ('''; DROP TABLE entries; --', 'O''Neil')"
    assert sql(keys=[]) == "key IN (-1)"
    assert sql() == ""
