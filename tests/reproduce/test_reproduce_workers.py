"""Processes for rows, and the locks between them: what dies takes nothing along, and nothing outlives the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visir.reproduce.locks import hold
from visir.reproduce.workers import Workers

PATIENCE = 60.0  # seconds for a process to start or end on a busy machine


def gone(pid: int) -> bool:
    """Whether a process ends within the time."""
    for _ in range(int(20 * PATIENCE)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_place_keeps_its_process_and_a_dead_one_is_replaced() -> None:
    with Workers() as workers:
        first, second = (workers.submit(place, os.getpid) for place in (0, 1))
        pids = first.result(), second.result()
        assert len({*pids, os.getpid()}) == 3
        assert workers.submit(0, os.getpid).result() == pids[0]
        dead = workers.submit(0, os.kill, pids[0], signal.SIGKILL)
        said = workers.error(0, dead)
        assert said is not None
        assert "its process died" in said
        assert workers.submit(1, os.getpid).result() == pids[1]
        assert workers.submit(0, os.getpid).result() not in pids
        wrong = workers.submit(1, int, "x")
        assert str(workers.error(1, wrong)).startswith("ValueError: invalid literal")
        right = workers.submit(1, int, "3")
        assert workers.error(1, right) is None
    assert gone(pids[1])


def test_work_is_broken_off_when_the_command_is() -> None:
    with pytest.raises(KeyboardInterrupt), Workers() as workers:
        pid = workers.submit(0, os.getpid).result()
        workers.submit(0, time.sleep, 1000)
        raise KeyboardInterrupt
    assert gone(pid)


def test_work_ends_with_a_command_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(
        "import os, time\n"
        "from visir.reproduce.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    with Workers() as workers:\n"
        "        print(workers.submit(0, os.getpid).result(), flush=True)\n"
        "        workers.submit(0, time.sleep, 1000).result()\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as command:
        assert command.stdout is not None
        pid = int(command.stdout.readline())
        command.kill()
    assert gone(pid)


def test_a_lock_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "one"
    holder = (
        "import sys, time\nfrom pathlib import Path\nfrom visir.reproduce.locks import hold\n"
        "with hold(Path(sys.argv[1])) as held:\n    print(held, flush=True)\n    time.sleep(1000)\n"
    )
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"True"
        with hold(lock, wait=False) as held:
            assert not held
        other.kill()
        with hold(lock, waiting=lambda: said.append("waits")) as held:
            assert held
    with hold(lock, waiting=lambda: said.append("waits again")) as held:
        assert held
    assert said in ([], ["waits"])
