"""Every system that a published row names ships with visir and has an experiment on the data sets of its figures."""

from __future__ import annotations

import pytest

from visir import publications
from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import without_partition
from visir.experiment.ablation import systems
from visir.methods import catalog

KNOWN = systems()
OF = {
    without_partition(protocol): name
    for name in benchmarks.available()
    for protocol in benchmarks.find(name).protocols(1)
}
# printed there, while the method has no experiment for it: the publication that prints it ran another's code
WITHOUT_EXPERIMENT: set[tuple[str, str]] = set()


def wanted() -> dict[str, set[str]]:
    """System -> the data sets of its printed figures."""
    found: dict[str, set[str]] = {}
    for key in publications.available():
        for table in publications.find(key).tables:
            for row in table.rows:
                if row.system is not None:
                    found.setdefault(row.system, set()).update(OF[protocol] for protocol in row.printed)
    return found


@pytest.mark.parametrize("system", sorted(wanted()))
def test_a_published_system_can_be_run(system: str) -> None:
    assert system in KNOWN
    ablation, row = KNOWN[system]
    lacking = {(system, name) for name in wanted()[system] if name not in ablation.benchmarks(row)}
    assert lacking <= WITHOUT_EXPERIMENT


def test_every_row_is_run_or_says_why_not() -> None:
    for key in publications.available():
        for table in publications.find(key).tables:
            assert all(bool(row.system) != bool(row.missing) for row in table.rows)


@pytest.mark.parametrize("system", sorted(KNOWN))
def test_every_shipped_system_builds_on_every_data_set_it_has(system: str) -> None:
    ablation, row = KNOWN[system]
    assert ablation.benchmarks(row)
    for benchmark in ablation.benchmarks(row):
        experiment = ablation.experiment(row, benchmark)
        assert experiment.benchmark.name == benchmark
        assert experiment.method in catalog.available()
        assert experiment.options.weights == "scratch", "nothing is fetched unless asked for"


def test_every_method_ships_with_experiments() -> None:
    assert {ablation.experiment(row, ablation.benchmarks(row)[0]).method for ablation, row in KNOWN.values()} == set(
        catalog.available()
    )
