import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from visir.core.errors import StorageError
from visir.core.files import atomic_write, write_json, write_text

WRITER = """
import sys
from pathlib import Path
from visir.core.files import write_text
i = 0
while True:
    i += 1
    write_text(Path(sys.argv[1]), str(i % 10) * 200_000)
    print(i, flush=True)
"""


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "deep" / "a.json"
    write_json(target, {"b": 1})
    write_json(target, {"b": 2})
    assert json.loads(target.read_text()) == {"b": 2}
    assert [p.name for p in target.parent.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_old_content(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_inside_the_block_leaves_the_old_content(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(ValueError, match="mine"), atomic_write(target) as file:
        file.write(b"half")
        raise ValueError("mine")
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kill_in_the_middle_leaves_whole_content(tmp_path):
    target = tmp_path / "a.txt"
    for delay in (0.02, 0.05, 0.08):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        content = target.read_text()
        assert len(content) == 200_000
        assert len(set(content)) == 1
