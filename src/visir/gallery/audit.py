"""Who enrolled, searched and removed, when: JSON lines, without pictures, forgetting removed people."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from visir.core.errors import StorageError
from visir.core.files import write_bytes
from visir.gallery.entry import iso
from visir.gallery.folder import locked


@dataclass(frozen=True)
class Trace:
    """What a log may hold of removed pictures: keys, digests of their pixels, names of people."""

    keys: Collection[int]
    digests: Collection[str]
    identities: Collection[str]


@dataclass(frozen=True)
class AuditLog:
    """A file of JSON lines for its owner only, flushed to disk line by line; several processes may write to it."""

    path: Path

    def append(self, action: str, user: str, *, late: Callable[[], Mapping[str, Any]] = dict, **details: Any) -> None:
        """Write one line.

        Args:
            action: what is about to be done, or was done.
            user: who does it.
            late: more details, worked out while nobody can write or forget.
            details: what else to write.

        Raises:
            StorageError: it cannot be written.
        """
        with self._lock():
            line = {"time": iso(datetime.now(UTC)), "user": user, "action": action, **details, **late()}
            content = json.dumps(line, ensure_ascii=False).encode() + b"\n"
            with self._spoken(), self._opened() as file:
                file.write(b"\n" * _torn(file) + content)
                file.flush()
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def watch(self) -> Iterator[Callable[[], bool]]:
        """Tell whether something was forgotten since then, for lines about what is read before they are written.

        Raises:
            StorageError: the log cannot be written.
        """
        with self._spoken():
            file = self._opened()
        with file:  # :meth:`forget` puts another file in its place; while this one is open, no other is taken for it

            def forgot() -> bool:
                with contextlib.suppress(FileNotFoundError):
                    return not os.path.samestat(os.fstat(file.fileno()), self.path.stat())
                return True

            yield forgot

    def forget(self, trace: Trace) -> None:
        """Replace keys, digests and names of removed pictures by how many there were. Torn lines are dropped.

        Raises:
            StorageError: it cannot be written.
        """
        with self._lock():
            if not self.path.exists():
                return
            with self._spoken():
                mode = stat.S_IMODE(self.path.stat().st_mode)
                kept = [_without(line, trace) for line in self.path.read_bytes().splitlines()]
                lines = b"".join(line + b"\n" for line in kept if line)
                write_bytes(self.path, lines, mode=mode)  # always, for :meth:`watch`

    def lines(self) -> list[dict[str, Any]]:
        """All readable lines, oldest first."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return [line for line in map(_read, content.splitlines()) if line is not None]

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.path.with_name(f"{self.path.name}.lock"))

    def _opened(self) -> IO[bytes]:
        return open(self.path, "ab+", opener=lambda path, flags: os.open(path, flags, 0o600))

    @contextlib.contextmanager
    def _spoken(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written ({error.strerror or error}); every enrolment, search, listing and "
                "removal is logged, so this one stopped here and nothing was answered."
            ) from error


def _torn(file: IO[bytes]) -> bool:
    """Whether the last line has no end, because a process died while writing it."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _without(line: bytes, trace: Trace) -> bytes:
    content = _read(line)
    if content is None:
        return b""
    rules: Mapping[str, Callable[[Any], bool]] = {
        "keys": lambda key: key in trace.keys,
        "query_sha256": lambda digest: digest in trace.digests,
        "identities": lambda name: name in trace.identities,
    }
    forgotten = _drop(content, rules)
    if not forgotten:
        return line
    content["forgotten"] = content.get("forgotten", 0) + forgotten
    return json.dumps(content, ensure_ascii=False).encode()


def _drop(node: Any, rules: Mapping[str, Callable[[Any], bool]]) -> int:
    """Delete, at any depth, the list members that a rule names; how many there were."""
    if not isinstance(node, dict):
        return 0
    dropped = 0
    for name, value in node.items():
        if name in rules:
            node[name], count = _filtered(value, rules[name])
            dropped += count
        else:
            dropped += _drop(value, rules)
    return dropped


def _filtered(value: Any, gone: Callable[[Any], bool]) -> tuple[Any, int]:
    if isinstance(value, list):
        parts = [
            _filtered(member, gone) if isinstance(member, list) else (member, int(gone(member))) for member in value
        ]
        kept = [member for member, count in parts if isinstance(member, list) or not count]
        return kept, sum(count for _, count in parts)
    return value, 0
