"""The numbers themselves: in range, in order, in agreement across tables, and the sums that the publications state."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal

import pytest

from visir import publications
from visir.benchmarks import catalog
from visir.evaluation.report import METRICS
from visir.publications.checks import agree, contradictions, names, places
from visir.publications.model import FIGURES, RANKS, Publication
from visir.publications.reading import parse

ALL = [publications.find(key) for key in publications.available()]
TABLES = [(publication, table) for publication in ALL for table in publication.tables]
ROWS = [(publication, table, row) for publication, table in TABLES for row in table.rows]


def row(key, table, name):
    return publications.find(key).table(table).row(name)


def value(key, table, name, protocol, figure):
    return row(key, table, name).printed[protocol][figure]


def test_every_publication_that_is_promised_is_there():
    promised = {
        "dfe",
        "base_derivative",
        "ce2l",
        "d2rl",
        "disentangle",
        "agw",
        "deen",
        "caj",
        "zero_padding",
        "collected",
    }
    assert set(publications.available()) >= promised
    assert len(ROWS) >= 130
    assert len(list(places(ALL))) >= 750


def test_figures_are_named_as_reports_name_them():
    assert FIGURES == METRICS


def test_every_protocol_is_one_of_the_benchmarks():
    known = set()
    for name in catalog.available():
        for protocol in catalog.find(name).protocols(1):
            known.add(re.sub(r"-t\d+-", "-", protocol))
    assert {column.protocol for _, table in TABLES for column in table.columns} <= known


def test_percentages_are_in_range():
    assert all(0 < place.value < 100 for place in places(ALL))


def test_rank_figures_ascend_within_a_row():
    wrong = []
    for publication, table, row in ROWS:
        for protocol, figures in row.printed.items():
            ranks = [(name, figures[name]) for name in RANKS if name in figures]
            for (_, lower), (name, upper) in itertools.pairwise(ranks):
                if lower > upper and not names(row, name):
                    wrong.append(f"{publication.key} {table.name} {row.name} {protocol} {name}")
    assert wrong == []


def test_rows_of_one_system_agree_with_one_another_unless_an_error_says_why_not():
    assert [str(one) for one in contradictions(ALL) if not one.explained] == []


def test_the_known_contradictions_are_these():
    """One that vanishes means that a documented error has been mended in place of being kept as printed."""
    found = {(p.row.identity, p.protocol, p.figure) for one in contradictions(ALL) for p in one}
    llcm = {(s, "llcm-i2v", f) for s in ("agw", "caj/full", "deen/full") for f in ("rank1", "mAP")}
    branches = {("deen/expansion-mining-orthogonal", "sysu-all-1-seeded", f) for f in ("rank1", "mAP")}
    padding = {("zero_padding/zero-padding", "regdb-v2t-img", f) for f in ("rank10", "rank20", "mAP")}
    assert found == {
        ("tone/hcml", "regdb-v2t-img", "mAP"),
        ("tone", "sysu-all-1-official", "rank20"),
        *llcm,
        *branches,
        *padding,
    }


def test_corrected_values_are_printed_elsewhere_for_the_same_system():
    corrected = [
        (row, protocol, figure, right)
        for _, _, row in ROWS
        for protocol, figures in row.corrected.items()
        for figure, right in figures.items()
    ]
    assert len(corrected) == 5
    for row, protocol, figure, right in corrected:
        assert names(row, figure)
        same = [p for p in places(ALL) if (p.row.identity, p.protocol, p.figure) == (row.identity, protocol, figure)]
        assert sum(agree(place.value, right) for place in same) >= 1


def one_table(*rows: dict) -> Publication:
    head = {"key": "made_up", "title": "t", "authors": "a", "venue": "v", "year": 2020}
    column = {"protocol": "regdb-v2t-img", "figures": ["rank1", "mAP"]}
    table = {"name": "table1", "caption": "c", "columns": [column], "rows": list(rows)}
    return parse({"publication": head, "tables": [table]}, where="made_up.yaml")


@pytest.mark.parametrize(
    ("printed", "error", "expected"),
    [
        ("70.14", None, [False]),
        ("70.14", "rank1: two digits are exchanged", [True]),
        ("70.14", "mAP is suspect", [False]),
        ("70.1", None, []),
        ("70.2", None, [False]),
    ],
)
def test_a_contradiction_is_found_by_itself(printed, error, expected):
    extra = {"errors": [error]} if error else {}
    made = one_table(
        {"name": "DFE", "system": "dfe/full", "values": [[Decimal("70.13"), None]]},
        {"name": "DFE again", "system": "dfe/full", "values": [[Decimal(printed), None]], **extra},
    )
    assert [one.explained for one in contradictions([made])] == expected


def test_official_and_seeded_galleries_are_held_against_each_other():
    quoted = publications.figures("agw", "sysu-all-1-official")[0].figures
    own = publications.figures("agw", "sysu-all-1-seeded")[0].figures
    assert (quoted["rank1"], own["rank1"], quoted["mAP"], own["mAP"]) == (47.5, 47.5, 47.65, 47.7)


@pytest.mark.parametrize(
    ("first", "second", "protocol", "gains"),
    [
        (("table3", "Ours(DFE)"), ("table3", "Ours(baseline)"), "regdb-v2t-img", {"rank1": "12.63", "mAP": "11.84"}),
        (("table1", "Ours(DFE)"), ("table1", "cmGAN"), "sysu-all-1-official", {"rank1": "21.74", "mAP": "20.79"}),
    ],
)
def test_the_gains_of_dfe_are_those_of_its_text(first, second, protocol, gains):
    for figure, gain in gains.items():
        difference = value("dfe", *first, protocol, figure) - value("dfe", *second, protocol, figure)
        assert difference == Decimal(gain)


@pytest.mark.parametrize("protocol", ["regdb-v2t-img", "sysu-all-1-official"])
def test_the_baseline_of_ce2l_is_bdtr_digit_for_digit(protocol):
    assert row("ce2l", "table1", "BaseLine").printed[protocol] == row("d2rl", "table4", "BDTR").printed[protocol]


def test_names_for_one_and_the_same_system():
    assert row("disentangle", "indoor", "cmPIG").identity == row("base_derivative", "table1", "JSIA").identity
    assert row("deen", "table2", "X-Modality").identity == row("base_derivative", "table2", "XIV").identity
    assert row("d2rl", "table2", "Joint").identity == row("ce2l", "table1", "D2RL").identity
    assert row("dfe", "table2", "TONE+HMCL").identity == row("ce2l", "table1", "HCML").identity
    assert row("dfe", "table1", "HOG+Euclidean").identity == row("dfe", "table3", "HOG").identity


def test_systems_whose_parts_are_told_apart():
    """Rows that only share a word, such as 'Baseline', are never taken for one system."""
    baselines = {r.identity for _, _, r in ROWS if r.name.lower().startswith(("baseline", "ours(baseline"))}
    assert baselines == {
        "base_derivative/b2",
        "ce2l/baseline",
        "d2rl/baseline",
        "dgnet",
        "dfe/baseline",
        "deen/baseline",
    }


def test_the_extra_pair_helps_base_derivative_on_indoor_search():
    third, fourth = (row("base_derivative", "table4", f"B2+MML+MDL^{i}") for i in ("3", "4 (Ours)"))
    indoor = "sysu-indoor-1-official"
    assert all(third.printed[indoor][figure] > fourth.printed[indoor][figure] for figure in ("rank1", "mAP"))


def test_the_proposal_of_the_slides_is_a_negative_result():
    for table in ("all-search", "indoor"):
        baseline, proposed = (row("disentangle", table, name) for name in ("Baseline (DG-Net)", "Proposed"))
        for protocol, figures in proposed.printed.items():
            assert all(baseline.printed[protocol][figure] > number for figure, number in figures.items())


def test_the_released_llcm_code_gives_itself_away_by_rank1_above_map():
    for _, table, row in ROWS:
        for protocol, figures in row.printed.items():
            if protocol == "llcm-v2i-released":
                assert figures["rank1"] - figures["mAP"] > 10
            elif protocol == "llcm-v2i" and "mAP" in figures:
                assert figures["mAP"] > figures["rank1"], table.name


@pytest.mark.parametrize(
    ("key", "table", "name", "ticks"),
    [
        ("d2rl", "table3", "D2RL", 4),
        ("d2rl", "table3", "Baseline", 2),
        ("base_derivative", "table4", "B1", 3),
        ("base_derivative", "table4", "B2+MML+MDL^3", 10),
        ("disentangle", "approach1", "simple+dis+cross+triplet (hard)", 4),
    ],
)
def test_ticks_of_ablation_rows(key, table, name, ticks):
    assert len(row(key, table, name).ticks) == ticks
