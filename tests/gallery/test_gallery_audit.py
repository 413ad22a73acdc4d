from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from visir.core.errors import StorageError
from visir.gallery.audit import AuditLog, Trace


def test_lines_say_who_did_what_when(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("search", "ann", k=3, keys=[[1, 2]])
    log.append("remove", "bob", removed=1)
    first, second = log.lines()
    assert (first["user"], first["action"], first["keys"]) == ("ann", "search", [[1, 2]])
    assert (second["user"], second["removed"]) == ("bob", 1)
    assert first["time"].endswith("Z")


def test_forgetting_replaces_by_a_count(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("search", "ann", keys=[[1, 2], [3, 1]], query_sha256=["aa", "bb"], filter={"identities": ["Eve", "Al"]})
    log.append("search", "ann", keys=[[4]], query_sha256=["cc"], filter={})
    untouched = log.path.read_text().splitlines()[1]
    log.forget(Trace(keys={1, 2}, digests={"bb"}, identities={"Eve"}))
    first = log.lines()[0]
    assert first["keys"] == [[], [3]]
    assert first["query_sha256"] == ["aa"]
    assert first["filter"] == {"identities": ["Al"]}
    assert first["forgotten"] == 5
    assert log.path.read_text().splitlines()[1] == untouched
    log.forget(Trace(keys={3}, digests=set(), identities=set()))
    assert log.lines()[0]["forgotten"] == 6


def test_a_line_torn_by_a_kill_harms_no_other(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("search", "ann", keys=[[1]])
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + whole[: len(whole) // 2])
    log.append("search", "bob", keys=[[2]])
    assert [line["user"] for line in log.lines()] == ["ann", "bob"]
    log.forget(Trace(keys={9}, digests=set(), identities=set()))
    assert [json.loads(line)["user"] for line in log.path.read_text().splitlines()] == ["ann", "bob"]


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.path.mkdir()
    with pytest.raises(StorageError, match=r"every .* is logged, so this one stopped here and nothing was answered"):
        log.append("search", "ann")


def test_no_log_no_trace(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.forget(Trace(keys={1}, digests=set(), identities=set()))
    assert log.lines() == []
    assert not log.path.exists()


def test_only_its_owner_reads_the_log_also_after_forgetting(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("search", "ann", keys=[[1]])
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    log.forget(Trace(keys={1}, digests=set(), identities=set()))
    assert log.lines()[0]["forgotten"] == 1
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_watching_tells_what_was_forgotten_since(tmp_path: Path) -> None:
    log, nothing = AuditLog(tmp_path / "audit.jsonl"), Trace(keys=(), digests=(), identities=())
    with log.watch() as forgot:
        log.append("search", "ann", keys=[[1]])
        assert not forgot()
        log.forget(nothing)
        log.forget(nothing)
        assert forgot()
    with log.watch() as forgot:
        assert not forgot()
        log.path.unlink()
        assert forgot()
