"""Reports as values, side by side, and over partitions."""

from __future__ import annotations

import json

import numpy as np
import pytest

from visir.core.errors import EvaluationError
from visir.evaluation.report import METRICS, Report, combine, format_table


def report(protocol="sysu-all-1-official", values=(0.5, 0.7), distance="cosine", ranks=4, **counts):
    trials = tuple(
        {"trial": str(t), **dict.fromkeys(METRICS, value), "scored": 9 + t, "unscored": t, "ties": 2, **counts}
        for t, value in enumerate(values, 1)
    )
    curve = np.linspace(values, 1, ranks).T
    return Report(protocol, "identity", distance, trials, curve, "a note")


def test_mean_deviation_and_counts():
    one = report()
    assert one.mean() == pytest.approx(dict.fromkeys(METRICS, 0.6))
    assert one.std() == pytest.approx(dict.fromkeys(METRICS, 0.1))
    assert (one.scored, one.unscored, one.ties) == (10, 2, 4)
    assert one.mean_curve().tolist() == pytest.approx(np.linspace(0.6, 1, 4).tolist())
    assert report(values=(0.5,)).std()["mAP"] == 0


def test_json_there_and_back():
    one = report()
    back = Report.from_dict(json.loads(json.dumps(one.as_dict())))
    assert back.as_dict() == one.as_dict()
    np.testing.assert_array_equal(back.curve, one.curve)
    assert back.trials == one.trials


@pytest.mark.parametrize(
    "change", [{"trials": []}, {"trials": [{}]}, {"trials": 3}, {"curve": [[1, 2]]}, {"curve": "x"}, {"trials": [1, 2]}]
)
def test_damaged_values_are_refused(change):
    with pytest.raises(EvaluationError, match="report: expected"):
        Report.from_dict({**report().as_dict(), **change})
    with pytest.raises(EvaluationError, match="protocol"):
        Report.from_dict({k: v for k, v in report().as_dict().items() if k != "protocol"})


def test_the_table_keeps_protocols_apart():
    text = format_table([report(), report("regdb-v2t-img", (0.25,))])
    head, rule, first, second = text.splitlines()
    assert head.split() == ["protocol", "trials", *METRICS, "scored", "unscored", "ties"]
    assert first.split()[:4] == ["sysu-all-1-official", "2", "60.00", "±10.00"]
    assert second.split()[:3] == ["regdb-v2t-img", "1", "25.00"]
    assert len({len(line) for line in (head, rule, first, second)}) == 1


def splits(numbers, name="regdb-t{:02d}-v2t-img", **options):
    return [report(name.format(n), (n / 100,), **options) for n in numbers]


def test_ten_partitions_become_one_report():
    both = combine(splits([10, 3, 1, 2, 4, 5, 6, 7, 8, 9]))
    assert both.protocol == "regdb-v2t-img"
    assert [trial["trial"] for trial in both.trials] == [f"t{n:02d}" for n in range(1, 11)]
    assert both.mean()["mAP"] == pytest.approx(0.055)
    np.testing.assert_allclose(both.curve[:, 0], np.arange(1, 11) / 100)
    several = combine([report(f"x-t{n}-y", (0.1, 0.3)) for n in range(1, 11)])
    assert several.trials[2]["trial"] == "t02/1"


@pytest.mark.parametrize(
    ("reports", "words"),
    [
        ([], "got none"),
        ([report()], "expected reports such as 'regdb-t01-v2t-img', got sysu-all-1-official"),
        (splits(range(1, 10)), "expected the 10 partitions of regdb-v2t-img, got 9"),
        (splits(range(1, 10)) + splits([10], "regdb-t{:02d}-t2v-img"), "never averaged"),
        (splits(range(1, 10)) + splits([10], distance="euclidean"), "never averaged"),
        (splits(range(1, 10)) + splits([10], ranks=3), "never averaged"),
        (splits([*range(1, 11), 3]), "given twice"),
    ],
)
def test_partitions_that_make_no_published_number_are_refused(reports, words):
    with pytest.raises(EvaluationError, match=words):
        combine(reports)


def test_fewer_partitions_say_so_in_the_label():
    assert combine(splits([4, 2]), incomplete=True).protocol == "regdb-v2t-img (2 of 10 splits)"
