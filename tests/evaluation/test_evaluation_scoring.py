"""Scores of single queries: worked examples on paper, then everything against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_ranking import assert_equal, slow_scores

from visir.core.errors import EvaluationError
from visir.evaluation import kernels
from visir.evaluation.scoring import score_queries

LEVELS = ("image", "identity")


def both(distance, *rest, **options):
    """The compiled scores, after checking that tensors give the same."""
    distance = np.asarray(distance)
    compiled = score_queries(distance, *rest, **options)
    tensors = score_queries(torch.from_numpy(distance), *rest, **options)
    assert compiled.first.tolist() == tensors.first.tolist()
    assert compiled.ties.tolist() == tensors.ties.tolist()
    np.testing.assert_allclose(compiled.average_precision, tensors.average_precision, atol=1e-12, rtol=0)
    np.testing.assert_allclose(compiled.inp, tensors.inp, atol=1e-12, rtol=0)
    return compiled


def scored(query, gallery, distance, hidden=None):
    """CMC by identity and by image up to 8 ranks, mAP, mINP of (identity, camera) pairs."""
    query, gallery = np.array(query), np.array(gallery)
    mask = None if hidden is None else hidden(query[:, None], gallery[None])
    by_identity, by_image = (
        both(np.array(distance, np.float32), query[:, 0], gallery[:, 0], mask, cmc=level, ranks=8)
        for level in ("identity", "image")
    )
    keep = by_image.scored
    return by_identity.curve, by_image.curve, by_image.average_precision[keep].mean(), by_image.inp[keep].mean()


def same_room(query, gallery):
    return (query[..., 1] == 3) & (gallery[..., 1] == 2)


def same_image_source(query, gallery):
    return (query == gallery).all(-1)


def check(found, identity_cmc, image_cmc, precision, inp):
    pad = lambda curve: np.array([*curve, *[curve[-1]] * (8 - len(curve))])  # noqa: E731
    np.testing.assert_allclose(found[0], pad(identity_cmc), atol=1e-12)
    np.testing.assert_allclose(found[1], pad(image_cmc), atol=1e-12)
    np.testing.assert_allclose(found[2:], (precision, inp), atol=1e-12)


def test_example_a_camera_rule():
    gallery = [(1, 1), (1, 2), (2, 1), (2, 4), (3, 2), (3, 5)]
    query = [(1, 3), (2, 6), (3, 3)]
    distance = [[0.5, 0.1, 0.3, 0.4, 0.2, 0.6], [0.3, 0.35, 0.2, 0.5, 0.1, 0.7], [0.2, 0.6, 0.4, 0.3, 0.05, 0.1]]
    found = scored(query, gallery, distance, same_room)
    check(found, [1 / 3, 1], [1 / 3, 2 / 3, 1], 107 / 180, 26 / 45)
    # A Market-style rule (same identity and camera) never fires here, and scores too well.
    market = scored(query, gallery, distance, same_image_source)
    np.testing.assert_allclose(market[0][:2], [2 / 3, 1])
    np.testing.assert_allclose(market[2:], (43 / 60, 3 / 5))


def test_example_b_multi_shot():
    gallery = [(1, 1), (1, 1), (2, 1), (2, 1), (2, 4), (2, 4), (3, 4), (3, 4)]
    distance = [[0.4, 0.8, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7], [0.3, 0.35, 0.1, 0.15, 0.2, 0.25, 0.4, 0.9]]
    found = scored([(1, 6), (3, 6)], gallery, distance, same_room)
    check(found, [0, 0.5, 1], [0, 0, 0, 0.5, 0.5, 0.5, 1, 1], 25 / 112, 1 / 4)


def test_example_c_query_without_match_is_left_out():
    gallery, query = [(1, 1), (1, 2), (2, 1), (2, 2)], [(1, 6), (9, 6), (2, 3)]
    distance = [[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], [0.2, 0.1, 0.3, 0.05]]
    check(scored(query, gallery, distance, same_room), [0.5, 1], [0.5, 1], 3 / 4, 3 / 4)
    ruleless = scored(query, gallery, distance)
    np.testing.assert_allclose(ruleless[0][:1], [1])
    np.testing.assert_allclose(ruleless[2:], (7 / 8, 3 / 4))


@pytest.mark.parametrize(("order", "rank1", "precision"), [((2, 1, 3), 0, 1 / 2), ((1, 2, 3), 1, 1)])
@pytest.mark.parametrize("queries", [1, 2])
def test_example_d_ties_keep_gallery_order(order, rank1, precision, queries):
    distance = np.full((queries, 3), 0.5, np.float32)
    found = both(distance, np.ones(queries, np.int64), np.array(order), cmc="identity")
    assert found.curve[0] == rank1
    assert found.average_precision.mean() == pytest.approx(precision)
    assert found.ties.tolist() == [1] * queries


def test_example_e_same_identity_and_camera():
    gallery, query = [(1, 1), (1, 2), (2, 1), (2, 3), (3, 1)], [(1, 1), (2, 2)]
    distance = [[0.1, 0.5, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.4, 0.5]]
    found = scored(query, gallery, distance, same_image_source)
    check(found, [0, 0.5, 1], [0, 0.5, 0.5, 1], 3 / 8, 3 / 8)
    everything = scored(query, gallery, distance)
    np.testing.assert_allclose(everything[0][:2], [0.5, 1])
    np.testing.assert_allclose(everything[2:], (3 / 5, 9 / 20))


def test_example_f_image_and_identity_level():
    gallery = [(2, 1), (2, 1), (2, 1), (3, 1), (1, 1), (1, 1)]
    distance = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.1, 0.2, 0.5, 0.6, 0.3, 0.7]]
    found = scored([(1, 2), (1, 2)], gallery, distance)
    check(found, [0, 0.5, 1], [0, 0, 0.5, 0.5, 1, 1], 3 / 10, 1 / 3)


def test_example_g_an_identity_hidden_altogether_shortens_nothing():
    gallery, query = [(1, 2), (2, 1), (3, 1)], [(3, 3), (3, 6)]
    found = scored(query, gallery, [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]], same_room)
    check(found, [0, 0.5, 1], [0, 0.5, 1], (1 / 2 + 1 / 3) / 2, (1 / 2 + 1 / 3) / 2)
    assert len(found[0]) == 8


@st.composite
def matrices(draw):
    """Distances with and without ties, hidden images, unknown identities, queries without a match."""
    queries, gallery = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([1, 2, 5, 10**6]))
    kind = draw(st.sampled_from([np.float32, np.float64]))
    people = draw(st.integers(1, 6))
    distance = (rng.integers(0, steps, (queries, gallery)) / steps - 0.3).astype(kind)
    identities = rng.integers(-1, people, queries), rng.integers(-1, people, gallery)
    return distance, *identities, rng.random((queries, gallery)) < draw(st.sampled_from([0, 0.3, 1]))


@given(matrices(), st.sampled_from(LEVELS))
@settings(max_examples=300, deadline=None)
def test_compiled_and_tensors_equal_the_loops(matrix, level):
    assert_equal(both(*matrix, cmc=level), slow_scores(*matrix), level)


@pytest.mark.parametrize("steps", [3, 700, 10**7])
def test_many_right_images_are_sorted_instead_of_counted(steps):
    rng = np.random.default_rng(steps)
    distance = (rng.integers(0, steps, (2, 1500)) / steps).astype(np.float32)
    gallery = (rng.random(1500) < 0.6).astype(np.int64)
    assert (gallery == 1).sum() > kernels.SORT_FROM
    hidden = rng.random((2, 1500)) < 0.05
    for level in LEVELS:
        found = both(distance, np.array([1, 0]), gallery, hidden, cmc=level)
        assert_equal(found, slow_scores(distance, [1, 0], gallery, hidden), level)


def test_galleries_longer_than_a_tile():
    rng = np.random.default_rng(5)
    size = 2 * kernels.TILE + 77
    distance = rng.integers(0, 2000, (3, size)).astype(np.float32)
    gallery = rng.integers(0, 400, size)
    hidden = np.zeros((3, size), bool)
    assert_equal(both(distance, np.array([3, 5, 399]), gallery, cmc="identity"),
                 slow_scores(distance, [3, 5, 399], gallery, hidden), "identity")  # fmt: skip


@given(matrices(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_gallery_order_is_nothing_without_ties(matrix, random):
    _, query, gallery, hidden = matrix
    values = list(range(hidden.size))
    random.shuffle(values)
    distance = np.array(values, np.float32).reshape(hidden.shape)
    order = list(range(len(gallery)))
    random.shuffle(order)
    for level in LEVELS:
        one = score_queries(distance, query, gallery, hidden, cmc=level)
        other = score_queries(distance[:, order], query, gallery[order], hidden[:, order], cmc=level)
        assert one.first.tolist() == other.first.tolist()
        np.testing.assert_array_equal(one.average_precision, other.average_precision)
        np.testing.assert_array_equal(one.inp, other.inp)
        assert not one.ties.any()


@given(matrices())
@settings(max_examples=60, deadline=None)
def test_far_wrong_images_change_nothing(matrix):
    distance, query, gallery, hidden = matrix
    far = np.full((len(query), 3), 9, distance.dtype)
    wider = np.concatenate([distance, far], axis=1)
    mask = np.concatenate([hidden, np.zeros((len(query), 3), bool)], axis=1)
    one = score_queries(distance, query, gallery, hidden)
    other = score_queries(wider, query, np.append(gallery, [77, 78, 79]), mask)
    assert one.first.tolist() == other.first.tolist()
    np.testing.assert_array_equal(one.average_precision, other.average_precision)
    np.testing.assert_array_equal(one.inp, other.inp)


@given(matrices())
@settings(max_examples=60, deadline=None)
def test_counting_identities_never_worsens_a_rank(matrix):
    by_image, by_identity = (score_queries(*matrix, cmc=level) for level in LEVELS)
    assert (by_identity.first <= by_image.first).all()
    assert ((by_identity.first > 0) == (by_image.first > 0)).all()


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.float64])
def test_numbers_that_float32_cannot_tell_apart_are_told_apart(kind):
    found = both(np.array([[2**24 + 1, 2**24]], kind), np.array([1]), np.array([1, 2]))
    assert found.first.tolist() == [2]
    assert found.ties.tolist() == [0]


@pytest.mark.parametrize(
    ("distance", "hidden", "words"),
    [
        (np.zeros((2, 3)), None, "expected at least one query"),
        (np.zeros((0, 2)), None, "expected at least one query"),
        (np.full((1, 2), np.nan), None, "got NaN"),
        (np.full((1, 2), np.inf), None, "got NaN or infinity"),
        (np.zeros((1, 2)), np.zeros((2, 1), bool), "hidden"),
    ],
)
def test_what_cannot_be_scored_is_told(distance, hidden, words):
    with pytest.raises(EvaluationError, match=words):
        score_queries(distance, np.ones(min(len(distance), 1)), np.ones(2), hidden)
