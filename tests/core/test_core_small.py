"""Seeds, registry, progress, public names."""

import io
import subprocess
import sys

import pytest

import visir
from visir.core import progress, registry, seeds
from visir.core.errors import ConfigError, nearest


def test_a_generator_depends_on_all_its_arguments():
    draws = {
        (s, p, t): seeds.generator(s, p, t).integers(2**60) for s in (0, 1) for p in ("flip", "crop") for t in (0, 1)
    }
    assert len(set(draws.values())) == 8
    assert draws[(1, "crop", 1)] == seeds.generator(1, "crop", 1).integers(2**60)
    assert 0 <= seeds.derived_seed(5, "init") < 2**63


def test_registry_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown benchmark 'sysu_mm1'. Did you mean 'sysu_mm01'"):
        registry.find("visir.benchmarks", "BENCHMARK", "sysu_mm1")
    with pytest.raises(ConfigError, match="no such module"):
        registry.find("visir.methods", "METHOD", "mylab.nothing")
    with pytest.raises(ConfigError, match="defines no METHOD"):
        registry.find("visir.methods", "METHOD", "email.message")


def test_hint_without_a_near_name():
    assert nearest("q", []) == ""


def test_progress_speaks_in_plain_lines(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY", 0.0)
    assert list(progress.track(range(3), "count", 3)) == [0, 1, 2]
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("count: 1/3")
    assert lines[-1].startswith("count: 3/3 in")


def test_progress_draws_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    with progress.progress("bar", 2) as shown:
        shown.advance(2, note="done")
    assert "bar" in said.getvalue()
    assert "2/2" in said.getvalue()


def test_public_names_exist_and_torch_waits():
    assert set(visir.__all__) <= set(dir(visir))
    for name in visir.__all__:
        assert getattr(visir, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = visir.nothing
    code = "import sys, visir, visir.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
