"""``visir compare`` as it is typed: groups, formats, warnings, and one sentence for what cannot be."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest

from evaluated_runs import write_evaluated
from visir.cli.comparing import spread

ALL, INDOOR = "sysu-all-1-official", "sysu-indoor-1-official"
QUICK = ("--resamples", 100, "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_sysu):
    """a1, a2 and b1, b2: seeds of two experiments; c: another training split; read only."""
    folder = tmp_path_factory.mktemp("compared")
    for seed in (1, 2):
        write_evaluated(folder / f"a{seed}", tiny_sysu, seed=seed, protocols=(ALL, INDOOR))
        write_evaluated(folder / f"b{seed}", tiny_sysu, seed=seed, noise=1.5, protocols=(ALL, INDOOR), beta=0.0)
    write_evaluated(folder / "c", tiny_sysu, split="trainval", protocols=(INDOOR,))
    return folder


def refused(outcome, *words):
    """Exit code 2 and one line that says these words."""
    assert outcome.code == 2, (outcome.out, outcome.err)
    said = [line for line in outcome.err.splitlines() if line.startswith("visir: ")]
    assert len(said) == 1, outcome.err
    for word in words:
        assert word in said[0]
    assert outcome.out == ""


def test_two_runs(visir, folder):
    done = visir("compare", folder / "a1", folder / "b1", *QUICK)
    assert done.code == 0, done.err
    for word in (f"first   {folder / 'a1'}", f"second  {folder / 'b1'}", ALL, INDOOR, "rank20", "mINP", "100 paired"):
        assert word in done.out
    assert "warning: only 2 people" in done.err
    assert visir("compare", folder / "a1", folder / "b1", *QUICK).out == done.out
    assert visir("compare", folder / "a1", folder / "b1", "--seed", 1, *QUICK).out != done.out


def test_the_first_with_each_other_one(visir, folder):
    done = visir("compare", folder / "a1", folder / "b1", folder / "c", "--format", "json", *QUICK)
    pairs = json.loads(done.out)
    assert [(one["first"]["runs"], one["second"]["runs"]) for one in pairs] == [
        ([str(folder / "a1")], [str(folder / other)]) for other in ("b1", "c")
    ]
    assert [len(one["protocols"]) for one in pairs] == [2, 1]
    assert "'train'" in done.err
    assert "'trainval'" in done.err
    assert done.err.count("warning: only 2 people") == 1


def test_groups(visir, folder):
    groups = ("compare", folder / "a1", folder / "a2", "--against", folder / "b1", folder / "b2")
    done = visir(*groups, "--format", "csv", "--protocol", ALL, *QUICK)
    assert done.code == 0, done.err
    lines = list(csv.DictReader(io.StringIO(done.out)))
    assert [line["figure"] for line in lines] == ["rank1", "rank10", "rank20", "mAP", "mINP"]
    assert lines[0]["first"] == f"{folder / 'a1'};{folder / 'a2'}"
    assert float(lines[3]["first_seed_std"]) > 0
    assert {line["protocol"] for line in lines} == {ALL}
    markdown = visir(*groups, "--format", "markdown", *QUICK).out
    assert "| rank1 |" in markdown
    assert "(dfe, seeds 1, 2)" in markdown
    refused(
        visir("compare", folder / "a1", folder / "b1", "--against", folder / "b2"), "grouped but differ in with.beta"
    )


@pytest.mark.parametrize(
    ("given", "spread_out"),
    [
        ("a b", "a b"),
        ("a --against b", "a --against b"),
        ("a b --against c d --seed 3", "a b --against c --against d --seed 3"),
        ("a --against=c d --format json", "a --against=c --against d --format json"),
        ("--against c d --root r a", "--against c --against d --root r a"),
        ("a b --against", "a b --against"),
        ("a --against --seed 3", "a --against --seed 3"),
        ("--against c --against d", "--against c --against d"),
        ("", ""),
    ],
)
def test_against_takes_all_words_behind_it(given, spread_out):
    assert spread(given.split()) == spread_out.split()


def test_what_cannot_be_compared(visir, folder, tmp_path):
    refused(visir("compare", folder / "a1"), "at least two runs")
    refused(visir("compare", folder / "a1", tmp_path), "run folder")
    shutil.copytree(folder / "a1", tmp_path / "bare")
    (tmp_path / "bare" / "scores.json").unlink()
    refused(visir("compare", folder / "a1", tmp_path / "bare"), f"Run: visir evaluate {tmp_path / 'bare'}")
    refused(visir("compare", folder / "a1", folder / "c", "--protocol", ALL), "not all runs")
    refused(visir("compare", folder / "a1", folder / "b1", "--device", "abacus"), "abacus")
    assert "missing argument" in visir("compare").err
    for wrong in (("--resamples", 3), ("--format", "html"), ("--against",)):
        outcome = visir("compare", folder / "a1", folder / "b1", *wrong)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err


def test_help(visir):
    outcome = visir("compare", "--help")
    assert outcome.code == 0
    assert "--against" in outcome.out
