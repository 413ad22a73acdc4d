"""What all projections share: their input, their shape, the same answer in any order of the images, and their use."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from people import people, rank1

from visir.core.errors import TrainingError
from visir.core.types import Modality
from visir.projections import learn as module
from visir.projections.base import filled, labelled, projection, root, signed
from visir.projections.learn import METRICS, learn

SMALL = people(count=12, dim=6, own=3, images=4)
TRAIN, TEST = people(count=60), people(count=30, seed=1)
FEW = {"mlapg": {"iterations": 40}, "hcml": {"iterations": 40}}
FAST = {name: functools.partial(metric, **FEW.get(name, {})) for name, metric in METRICS.items()}
each = pytest.mark.parametrize("metric", list(METRICS))


def metric_of(found, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Distances or cosines of all pairs: the same whatever the basis of the projected features."""
    x, z = found.apply(x, Modality.VISIBLE), found.apply(z, Modality.INFRARED)
    if found.distance == "cosine":
        return (x / np.linalg.norm(x, axis=1)[:, None]) @ (z / np.linalg.norm(z, axis=1)[:, None]).T
    return np.square(x[:, None] - z).sum(-1)


@each
class TestEveryMetric:
    def test_finds_people_it_has_not_seen_better_than_the_features_do(self, metric: str) -> None:
        assert rank1(None, TEST) < 0.2
        assert rank1(FAST[metric](*TRAIN.all(), dim=5), TEST) > 0.5

    def test_shape_and_type(self, metric: str) -> None:
        found = FAST[metric](*SMALL.all(), dim=40)
        for matrix in (found.visible, found.infrared):
            assert (matrix.shape, matrix.dtype) == ((6, 40), np.float32)
            assert np.isfinite(matrix).all()
            assert not matrix[:, 6:].any()
        assert 1 <= found.directions <= 6
        assert found.distance == ("cosine" if metric == "cca" else "euclidean")

    def test_fewer_directions_are_the_first_ones(self, metric: str) -> None:
        whole, part = (FAST[metric](*SMALL.all(), dim=dim) for dim in (6, 2))
        np.testing.assert_array_equal(part.visible, whole.visible[:, :2])
        np.testing.assert_array_equal(part.infrared, whole.infrared[:, :2])

    def test_same_input_gives_the_same_bits(self, metric: str) -> None:
        first, second = (FAST[metric](*SMALL.all(), dim=6) for _ in range(2))
        assert first.visible.tobytes() == second.visible.tobytes()
        assert first.infrared.tobytes() == second.infrared.tobytes()

    def test_order_and_names_of_people_do_not_matter(self, metric: str) -> None:
        x, who, z, whose = SMALL.all()
        rng = np.random.default_rng(3)
        a, b = rng.permutation(len(x)), rng.permutation(len(z))
        found = FAST[metric](x, who, z, whose, dim=6)
        again = FAST[metric](x[a], 100 - 3 * who[a], z[b], 100 - 3 * whose[b], dim=6)
        np.testing.assert_allclose(metric_of(again, x, z), metric_of(found, x, z), rtol=1e-3, atol=1e-4)

    def test_arguments_stay_as_they_are(self, metric: str) -> None:
        given = SMALL.all()
        before = [a.copy() for a in given]
        FAST[metric](*given, dim=6)
        for a, b in zip(given, before, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_bad_input_is_named(self, metric: str) -> None:
        x, who, z, whose = SMALL.all()
        for bad in ((x, who[1:], z, whose), (x[:, 1:], who, z, whose), (x[0], who, z, whose), (x, who, z, whose[:2])):
            with pytest.raises(TrainingError, match=f"{metric}: expected features"):
                FAST[metric](*bad, dim=6)
        with pytest.raises(TrainingError, match=f"{metric}: expected finite"):
            FAST[metric](np.where(x == x[0, 0], np.nan, x), who, z, whose, dim=6)
        with pytest.raises(TrainingError, match=f"{metric}: expected at least two identities.*got 1"):
            FAST[metric](x, np.where(who == 1, 1, who + 50), z, whose, dim=6)

    def test_learnt_behind_principal_axes(self, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "METRICS", FAST)
        data = people(count=12, dim=30, own=3, images=4)
        features = np.concatenate([data.visible, data.infrared]).astype(np.float32) + 5
        identity = np.concatenate([data.visible_identity, data.infrared_identity])
        modality = np.repeat([0, 1], [len(data.visible), len(data.infrared)])
        order = np.random.default_rng(1).permutation(len(features))
        found = learn(features[order], identity[order], modality[order], metric=metric, principal=6, dim=8)
        assert found.visible.shape == found.infrared.shape == (30, 8)
        centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        x, z = (centred[modality == kind] @ axes[:6].T for kind in Modality)
        expected = FAST[metric](x, data.visible_identity, z, data.infrared_identity, dim=8)
        raw = metric_of(found, features[modality == 0], features[modality == 1])
        np.testing.assert_allclose(raw, metric_of(expected, x, z), rtol=1e-3, atol=2e-4)


def test_zero_columns_change_no_distance() -> None:
    found = np.random.default_rng(0).standard_normal((4, 2))
    narrow, wide = projection(found, dim=2), projection(found, dim=7)
    x = np.random.default_rng(1).standard_normal((5, 4))
    np.testing.assert_allclose(metric_of(wide, x, x), metric_of(narrow, x, x))
    assert (narrow.directions, wide.directions) == (2, 2)
    assert filled(found, 1).shape == (4, 1)


def test_means_are_subtracted_by_modality() -> None:
    means = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    found = projection(np.eye(2), dim=2, means=means)
    assert found.apply(np.array([[1.0, 3.0]]), Modality.VISIBLE).tolist() == [[0.0, 1.0]]
    assert found.apply(np.array([[1.0, 3.0]]), Modality.INFRARED).tolist() == [[-2.0, -2.0]]


def test_root_cuts_negative_eigenvalues_off() -> None:
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    factor = root(turn @ np.diag([3.0, -2.0, 1.0, 0.0]) @ turn.T)
    assert factor.shape == (4, 2)
    np.testing.assert_allclose(factor @ factor.T, turn @ np.diag([3.0, 0, 1.0, 0]) @ turn.T, atol=1e-12)
    assert root(-np.eye(3)).shape == (3, 0)
    np.testing.assert_array_equal(signed(factor), factor)


def test_people_seen_in_one_modality_only_are_allowed() -> None:
    x, who, z, whose = SMALL.all()
    data = labelled("name", x[who > 1], who[who > 1], z[whose < 9], whose[whose < 9])
    assert data.common().tolist() == list(range(2, 9))
    for metric in FAST.values():
        assert metric(x[who > 1], who[who > 1], z[whose < 9], whose[whose < 9], dim=6).directions
