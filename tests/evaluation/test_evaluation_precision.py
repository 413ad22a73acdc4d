"""Numbers that rounding would rank: equal features, far origins, lengths near the ends of float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_tables import DIMENSIONS, assert_same, make_table, one_way, slow_report

from visir.core.types import ImageTable
from visir.evaluation import product
from visir.evaluation.evaluate import evaluate, evaluate_many
from visir.evaluation.protocol import Protocol, Trial
from visir.evaluation.ranking import rank


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("block", [None, 1, 2])
@pytest.mark.parametrize(("queries", "dimensions"), [(1, 512), (5, 512), (1, 2048), (5, 257)])
def test_equal_features_tie_wherever_they_stand(distance, block, queries, dimensions):
    """Every gallery image is the same one and the right image stands last: it comes last, however sums are rounded."""
    gallery = 301
    identity = np.array([7] * queries + [1] * (gallery - 1) + [7])
    names = tuple(map(str, range(len(identity))))
    infrared = (np.arange(len(identity)) < queries).astype(np.int64)
    table = ImageTable(Path(), names, identity, np.ones(len(identity), int), infrared)
    rng = np.random.default_rng(dimensions)
    features = rng.standard_normal((len(table), dimensions)).astype(np.float32)
    features[queries:] = features[-1]
    report = evaluate(features, table, one_way(table), distance=distance, device="cpu", block=block)
    row = report.trials[0]
    assert (row["ties"], row["mINP"], row["mAP"]) == (queries, 1 / gallery, 1 / gallery)
    found = rank(features, table, one_way(table).trials(table)[0], one_way(table), distance=distance)
    assert found.first.tolist() == [gallery] * queries
    assert (found.hits == np.arange(queries, queries + 10)).all()


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("block", [None, 1, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_repeated_rows_of_any_numbers_are_ranked_as_the_loops_rank_them(distance, block, flip):
    table = make_table(30, 90, 6)
    rng = np.random.default_rng(4)
    features = rng.standard_normal((12, 512)).astype(np.float32)[rng.integers(0, 12, len(table))]
    features[:, 0] = np.where(np.arange(len(table)) % 2, 0.0, -0.0)  # equal, of other bytes
    there = one_way(table)
    back = Trial("1", *reversed([there.trials(table)[0].query, there.trials(table)[0].gallery]))
    protocols = [there, Protocol("back", lambda _: [back])] if flip else [there]
    reports = evaluate_many(features, table, protocols, distance=distance, device="cpu", block=block)
    for report, protocol in zip(reports, protocols, strict=True):
        assert report.ties > 0
        expected = slow_report(features, table, protocol, distance)
        assert {name: report.trials[0][name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_only_equal_rows_share_a_representative():
    features = np.zeros((7, 300), np.float32)
    for row, place in enumerate((4, 9, 4, 8, 9, 9)):  # all of one length
        features[row, place] = 2
    features[4, 0] = -0.0
    features[6] = features[0]
    table = make_table(3, 4)
    checked = product.check_features(features, table, "cosine")
    assert checked.representative.tolist() == [0, 1, 0, 3, 1, 1, 0]
    for dimensions in (1, 3, 257, 1536):
        rows = np.random.default_rng(0).standard_normal((1, dimensions)).astype(np.float32)
        many = make_table(1500, 1501)
        for kind in (np.float32, np.float64):
            checked = product.check_features(np.repeat(rows.astype(kind), 3001, axis=0), many, "cosine")
            assert not checked.representative.any(), "equal rows have equal lengths"


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e-12, 1.0, 1e12, 1e30, 1e36])
@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
def test_the_scale_of_float32_features_does_not_matter(scale, distance):
    table = make_table()
    features = np.random.default_rng(3).standard_normal((len(table), DIMENSIONS))
    scaled = (features * scale).astype(np.float32)
    found = evaluate(scaled, table, one_way(table), distance=distance, device="cpu").trials[0]
    exact = scaled.astype(np.float64) / scale  # with what such small numbers have lost
    expected = slow_report(exact, table, one_way(table), distance)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert (found["scored"], found["ties"]) == (40, 0)


@pytest.mark.parametrize("offset", [0, 3, 30, 3000])
def test_euclidean_distances_do_not_depend_on_the_origin(offset):
    table = make_table(200, 400, 100)
    rng = np.random.default_rng(6)
    centres = rng.standard_normal((100, 512))[table.identity]
    features = (centres + 2.5 * rng.standard_normal((len(table), 512)) + offset).astype(np.float32)
    expected = evaluate(features.astype(np.float64) - offset, table, one_way(table), distance="euclidean", device="cpu")
    assert 0.2 < expected.mean()["rank1"] < 0.98, "neither all right nor all wrong"
    assert_same([evaluate(features, table, one_way(table), distance="euclidean", device="cpu")], [expected], 1e-4)
