"""From features to reports: blocks, shared products, directions, devices, memory, and everything that is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tables import DIMENSIONS, assert_same, make_features, make_table, slow_report

from visir.core.errors import EvaluationError
from visir.core.types import ImageTable
from visir.evaluation import evaluate as module
from visir.evaluation import plan, product
from visir.evaluation.evaluate import evaluate, evaluate_many
from visir.evaluation.protocol import Protocol, Trial
from visir.evaluation.ranking import rank
from visir.evaluation.scoring import score_queries


def same_camera(query, gallery):
    return query.camera[:, None] == gallery.camera[None]


def drawn(trials=3, share=0.6, *, flip=False, seed=0):
    """Galleries of a random part of the images, in random order."""

    def make(table):
        rng = np.random.default_rng(seed)
        query, gallery = np.flatnonzero(table.modality == 1), np.flatnonzero(table.modality == 0)
        query, gallery = (gallery, query) if flip else (query, gallery)
        size = max(1, int(share * len(gallery)))
        return [
            Trial(str(t), rng.permutation(query)[: len(query) - t], rng.permutation(gallery)[:size])
            for t in range(trials)
        ]

    return make


PROTOCOLS = [
    Protocol("one", drawn()),
    Protocol("two", drawn(2, 0.9, seed=4), same_camera, "identity"),
    Protocol("back", drawn(2, 1.0, flip=True), same_camera, "identity"),
    Protocol("three", drawn(1, 0.3, seed=9), cmc="identity"),
]


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.name)
@pytest.mark.parametrize("dimensions", [24, 300])
def test_figures_equal_the_loops(distance, protocol, dimensions):
    table = make_table()
    features = np.random.default_rng(3).standard_normal((len(table), dimensions)).astype(np.float32)
    found = evaluate(features, table, protocol, distance=distance, device="cpu").trials[0]
    expected = slow_report(features, table, protocol, distance)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("block", [1, 7, 40, 10**6])
def test_blocks_change_nothing(distance, block):
    table = make_table()
    features = make_features(table)
    whole = evaluate_many(features, table, PROTOCOLS, distance=distance, device="cpu")
    assert_same(evaluate_many(features, table, PROTOCOLS, distance=distance, block=block, device="cpu"), whole)


def test_many_protocols_share_one_product_and_each_gets_its_own_scores(monkeypatch):
    table = make_table()
    features = make_features(table)
    alone = [evaluate(features, table, protocol, device="cpu") for protocol in PROTOCOLS]
    shapes = []
    original = product.products

    def watched(checked, rows, columns, *rest):
        shapes.append((len(rows), len(columns)))
        return original(checked, rows, columns, *rest)

    monkeypatch.setattr(product, "products", watched)
    assert_same(evaluate_many(features, table, PROTOCOLS, device="cpu"), alone)
    assert shapes == [(40, 60)], "directions and draws are slices of one product"
    assert sum(report.ties for report in alone) > 0, "these features were made to tie"


def test_a_direction_is_the_other_with_the_matrix_transposed():
    table = make_table()
    features = np.random.default_rng(2).standard_normal((len(table), DIMENSIONS)).astype(np.float32)
    trial = Trial("1", np.flatnonzero(table.modality == 1), np.flatnonzero(table.modality == 0))
    back = Trial("1", trial.gallery, trial.query)
    matrix = features[trial.query] @ features[trial.gallery].T
    lengths = np.linalg.norm(features.astype(np.float64), axis=1)
    cosine = matrix / lengths[trial.query][:, None] / lengths[trial.gallery][None]
    reports = evaluate_many(
        features, table, [Protocol("v", lambda _: [trial]), Protocol("t", lambda _: [back])], device="cpu"
    )
    for report, distance, one in ((reports[0], -cosine, trial), (reports[1], -cosine.T, back)):
        expected = score_queries(distance, table.identity[one.query], table.identity[one.gallery])
        assert report.trials[0]["mAP"] == pytest.approx(expected.average_precision.mean(), abs=1e-5)
        assert report.trials[0]["rank1"] == pytest.approx(expected.curve[0])


def test_tensors_give_what_compiled_code_gives(monkeypatch):
    table = make_table()
    features = make_features(table)
    compiled = evaluate_many(features, table, PROTOCOLS, device="cpu")
    monkeypatch.setattr(module, "compiled", lambda device: False)
    assert_same(evaluate_many(features, table, PROTOCOLS, device="cpu"), compiled)
    assert_same(evaluate_many(features, table, PROTOCOLS, device="cpu", block=7), compiled)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
def test_the_gpu_gives_what_the_cpu_gives(distance):
    table = make_table(400, 900, 60)
    features = make_features(table)
    on_cpu = evaluate_many(features, table, PROTOCOLS, device="cpu", distance=distance)
    assert_same(evaluate_many(features, table, PROTOCOLS, device="cuda", distance=distance), on_cpu)


def test_half_precision_training_does_not_leak_into_scores():
    table = make_table()
    features = np.random.default_rng(0).standard_normal((len(table), 512)).astype(np.float32)
    before = evaluate_many(features, table, PROTOCOLS, device="cpu")
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(evaluate_many(features, table, PROTOCOLS, device="cpu"), before, 0)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_scale_kind_and_order_of_the_features_are_free(kind):
    table = make_table()
    features = make_features(table, 64).astype(kind)
    features.flags.writeable = False
    expected = evaluate_many(features.astype(np.float64), table, PROTOCOLS, device="cpu")
    assert_same(evaluate_many(features, table, PROTOCOLS, device="cpu"), expected)
    assert_same(evaluate_many(np.asfortranarray(features), table, PROTOCOLS, device="cpu"), expected)
    order = np.random.default_rng(5).permutation(len(table))
    back = np.argsort(order)

    def moved(protocol):
        trials = [Trial(t.name, back[t.query], back[t.gallery]) for t in protocol.trials(table)]
        return replace(protocol, trials=lambda _: trials)

    shuffled = evaluate_many(features[order], table.take(order), [moved(p) for p in PROTOCOLS], device="cpu")
    assert_same(shuffled, expected)


def test_unknown_identities_match_nobody():
    identity = np.array([-1, 1, -1, 1])
    table = ImageTable(Path(), ("a", "b", "c", "d"), identity, np.ones(4, int), np.array([1, 1, 0, 0]))
    protocol = Protocol("p", lambda _: [Trial("1", np.array([0, 1]), np.array([2, 3]))])
    report = evaluate(np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]), table, protocol, device="cpu")
    assert (report.scored, report.unscored) == (1, 1)
    assert not rank(np.eye(4), table, protocol.trials(table)[0], protocol).correct[0].any()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset its peak of memory")
def test_memory_is_a_block_and_little_more():
    table = make_table(4000, 20_000, 800)
    features = np.random.default_rng(0).standard_normal((len(table), 257)).astype(np.float32)
    protocol = Protocol("p", lambda t: [Trial("1", np.flatnonzero(t.modality == 1), np.flatnonzero(t.modality == 0))])
    evaluate(features[:4100], table.take(np.arange(4100)), protocol, device="cpu")  # compile first

    def mebibytes(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    def growth(**options):
        Path("/proc/self/clear_refs").write_text("5")
        before = mebibytes("VmRSS")
        evaluate(features, table, protocol, device="cpu", **options)
        return mebibytes("VmHWM") - before

    whole = 4000 * 20_000 * 4 / 2**20
    assert growth(block=100) < whole / 4
    assert growth(block=4000) > whole / 2, "the measurement works"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f[:-1], "one row for each of the table's 100 images, got 99"),
        (lambda f: f.astype(np.int64), "array of floats, got int64"),
        (lambda f: f[:, 0], "array of floats"),
        (lambda f: f[:, :0], "array of floats"),
        (lambda f: np.where(np.arange(100)[:, None] == 41, np.nan, f), r"row 41 \(rgb/041.jpg\) holds NaN"),
        (lambda f: np.where(np.arange(100)[:, None] == 3, np.inf, f), r"row 3 \(ir/003.jpg\) holds NaN or infinite"),
        (lambda f: np.where(np.arange(100)[:, None] == 3, 1e200, f.astype(np.float64)), "row 3 .* too large"),
        (lambda f: np.where(np.arange(100)[:, None] == 3, 1e-200, f.astype(np.float64)), "row 3 .* too small"),
        (lambda f: np.where(np.arange(100)[:, None] == 5, 0, f), r"row 5 \(ir/005.jpg\) has length zero"),
    ],
)
def test_features_that_cannot_be_scored_are_named(change, words):
    table = make_table()
    features = change(make_features(table))
    with pytest.raises(EvaluationError, match=words):
        evaluate(features, table, PROTOCOLS[0], device="cpu")


def test_length_zero_has_a_euclidean_distance():
    table = make_table()
    features = make_features(table)
    features[5] = 0
    assert evaluate(features, table, PROTOCOLS[0], distance="euclidean", device="cpu").trials


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([], "makes no trials"),
        ([Trial("7", np.empty(0, np.int64), np.array([1]))], "trial 7: the query is empty"),
        ([Trial("7", np.array([1]), np.empty(0, np.int64))], "trial 7: the gallery is empty"),
        ([Trial("7", np.array([1]), np.array([100]))], "the gallery has rows 100..100 of a table of 100"),
        ([Trial("7", np.array([-1]), np.array([1]))], "the query has rows -1"),
        ([Trial("7", np.array([1]), np.array([2, 2]))], "the gallery holds an image twice"),
    ],
)
def test_trials_that_cannot_be_scored_are_named(trials, words):
    table = make_table()
    with pytest.raises(EvaluationError, match=words):
        evaluate(make_features(table), table, Protocol("odd", lambda _: trials), device="cpu")


def test_other_mistakes_are_told():
    table = make_table()
    features = make_features(table)
    for words, arguments in (
        ("distance: expected", {"distance": "hamming"}),
        ("device 'abacus' cannot be used", {"device": "abacus"}),
        ("at least one rank", {"ranks": 0}),
        ("one query a block", {"block": 0}),
    ):
        with pytest.raises(EvaluationError, match=words):
            evaluate(features, table, PROTOCOLS[0], **arguments)
    nobody = Protocol("p", drawn(1), lambda query, gallery: np.ones((len(query), len(gallery)), bool))
    with pytest.raises(EvaluationError, match="none of 40 queries has a right image"):
        evaluate(features, table, nobody, device="cpu")
    wrong = Protocol("p", drawn(1), lambda query, gallery: np.ones((1, 1), bool))
    with pytest.raises(EvaluationError, match="'hidden' must give booleans"):
        evaluate(features, table, wrong, device="cpu")
    with pytest.raises(EvaluationError, match="at least one hit"):
        rank(features, table, PROTOCOLS[0].trials(table)[0], PROTOCOLS[0], k=0)


def test_arguments_are_left_alone():
    table = make_table()
    features = make_features(table)
    before = features.copy()
    evaluate_many(features, table, PROTOCOLS, device="cpu")
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("k", [1, 10, 200])
def test_a_ranking_is_what_a_stable_sort_gives(distance, k):
    table, protocol = make_table(), PROTOCOLS[1]
    features = make_features(table, 8)
    trial = protocol.trials(table)[0]
    ranking = rank(features, table, trial, protocol, k=k, distance=distance)
    query, gallery = table.take(trial.query), table.take(trial.gallery)
    a, b = features[trial.query].astype(np.float64), features[trial.gallery].astype(np.float64)
    if distance == "cosine":
        values = -(a @ b.T) / np.linalg.norm(b, axis=1)
        scores = -values / np.linalg.norm(a, axis=1)[:, None]
    elif distance == "manhattan":
        values = np.abs(a[:, None] - b[None]).sum(-1)
        scores = -values
    else:
        values = (b**2).sum(1) - 2 * a @ b.T
        scores = -np.sqrt(values + (a**2).sum(1)[:, None])
    values[protocol.hidden(query, gallery)] = np.inf
    order = np.argsort(values, axis=1, kind="stable")[:, :k]
    seen = np.isfinite(np.take_along_axis(values, order, 1))
    shown = ranking.hits[:, : order.shape[1]]
    np.testing.assert_array_equal(shown, np.where(seen, trial.gallery[order], -1))
    assert (ranking.hits[:, order.shape[1] :] == -1).all()
    assert (ranking.scores[ranking.hits < 0] == -np.inf).all()
    assert not ranking.correct[ranking.hits < 0].any()
    np.testing.assert_allclose(
        ranking.scores[:, : order.shape[1]][seen], np.take_along_axis(scores, order, 1)[seen], rtol=1e-6
    )
    np.testing.assert_array_equal(
        ranking.correct[:, : order.shape[1]], seen & (table.identity[shown] == query.identity[:, None])
    )
    report = evaluate(features, table, protocol, distance=distance, device="cpu").trials[0]
    found = ranking.first > 0
    assert ranking.average_precision[found].mean() == pytest.approx(report["mAP"])
    assert (ranking.first[found] == 1).mean() == pytest.approx(report["rank1"])
    assert found.sum() == report["scored"]


def test_tasks_that_do_not_overlap_are_multiplied_apart():
    table = make_table()

    def pair(a, b):
        return plan.Task.of(Protocol("p", lambda _: [Trial("1", np.array(a), np.array(b))]), table)

    apart = plan.rectangles([pair([0, 1], [50, 51]), pair([2, 3], [60, 61])], 10**6)
    assert [r.area for r in apart] == [4, 4]
    nested = plan.rectangles([pair([0, 1, 2], [50, 51]), pair([0, 1], [50, 51]), pair([50, 51], [0, 2])], 10**6)
    assert [(r.area, len(r.straight), len(r.flipped)) for r in nested] == [(6, 2, 1)]
    too_large = plan.rectangles([pair([0, 1, 2], [50, 51]), pair([50, 51], [0, 2])], 5)
    assert [(r.area, len(r.flipped)) for r in too_large] == [(6, 0), (4, 0)]
