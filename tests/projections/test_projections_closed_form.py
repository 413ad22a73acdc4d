"""Covariances, CCA, LFDA, XQDA and KISSME against listed pairs and second derivations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from people import people, rank1
from sklearn.cross_decomposition import CCA

from visir.core.errors import TrainingError
from visir.core.types import Modality
from visir.projections.base import labelled
from visir.projections.cca import cca
from visir.projections.covariances import difference_covariances
from visir.projections.kissme import kissme, kissme_map
from visir.projections.lfda import affinity, lfda, local_scatters
from visir.projections.xqda import xqda, xqda_map

DATA = people(count=12, dim=6, own=3, images=4)


def listed(data) -> tuple[np.ndarray, np.ndarray]:
    """Second moments of differences, pair by pair."""
    sums, counts = {True: np.zeros((6, 6)), False: np.zeros((6, 6))}, {True: 0, False: 0}
    for x, who in zip(data.visible, data.visible_identity, strict=True):
        for z, whose in zip(data.infrared, data.infrared_identity, strict=True):
            sums[who == whose] += np.outer(x - z, x - z)
            counts[who == whose] += 1
    return sums[True] / counts[True], sums[False] / counts[False]


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_covariances_are_those_of_all_pairs(shift: float) -> None:
    x, who, z, whose = DATA.all()
    keep = who != 3  # someone whom only the infrared camera saw
    same, different = difference_covariances(labelled("test", x[keep] + shift, who[keep], z + shift, whose))
    expected = listed(people_of(x[keep], who[keep], z, whose))
    np.testing.assert_allclose(same, expected[0], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(different, expected[1], rtol=1e-7, atol=1e-9)


def people_of(*columns):
    return type(DATA)(*columns)


def test_worked_xqda() -> None:
    found = xqda_map(np.diag([1.0, 1.0]), np.diag([4.0, 0.25]))
    np.testing.assert_allclose(found, [[np.sqrt(0.75)], [0.0]], atol=1e-12)
    np.testing.assert_allclose(found @ found.T, np.diag([0.75, 0.0]), atol=1e-12)


def test_xqda_is_its_definition() -> None:
    """Eigenvectors of the unsymmetric S_I^-1 S_E, and the inverses of the covariances in their subspace."""
    same, different = listed(DATA)
    same = same + 0.001 * np.eye(6)
    values, vectors = np.linalg.eig(np.linalg.inv(same) @ different)
    kept = vectors[:, values.real > 1].real
    inner = np.linalg.inv(kept.T @ same @ kept) - np.linalg.inv(kept.T @ different @ kept)
    found = xqda(*DATA.all(), dim=6).visible.astype(np.float64)
    assert 0 < kept.shape[1] < 6
    np.testing.assert_allclose(found @ found.T, kept @ inner @ kept.T, rtol=1e-4, atol=1e-4)


def test_kissme_is_its_definition() -> None:
    same, different = (part + 0.001 * np.eye(6) for part in listed(DATA))
    values, vectors = scipy.linalg.eigh(np.linalg.inv(same) - np.linalg.inv(different))
    assert values[0] < 0 < values[-1]
    found = kissme(*DATA.all(), dim=6).visible.astype(np.float64)
    np.testing.assert_allclose(found @ found.T, (vectors * np.maximum(values, 0)) @ vectors.T, rtol=1e-4, atol=1e-4)


def test_covariances_that_tell_nothing_are_refused() -> None:
    for build in (xqda_map, kissme_map):
        with pytest.raises(TrainingError, match="in no direction"):
            build(np.diag([4.0, 4.0]), np.diag([1.0, 2.0]))
        with pytest.raises(TrainingError, match="full rank"):
            build(np.diag([0.0, 1.0]), np.diag([4.0, 2.0]))


def class_means(data) -> tuple[np.ndarray, np.ndarray]:
    return tuple(
        np.stack([features[identity == who].mean(0) for who in np.unique(identity)])
        for features, identity in ((data.visible, data.visible_identity), (data.infrared, data.infrared_identity))
    )


def test_cca_is_that_of_scikit_learn_where_nothing_is_regularised() -> None:
    data = people(count=40, dim=6, own=3, turn=1.0)
    found = cca(*data.all(), dim=4, ridge=0.0)
    means = class_means(data)
    reference = CCA(4, scale=False, max_iter=5000, tol=1e-12).fit(*means)
    expected = reference.transform(*means)
    mapped = found.apply(means[0], Modality.VISIBLE), found.apply(means[1], Modality.INFRARED)
    for own, other in zip(mapped, expected, strict=True):
        correlation = np.corrcoef(own.T, other.T)[:4, 4:]
        np.testing.assert_allclose(np.abs(np.diag(correlation)), 1, atol=1e-3)
        np.testing.assert_allclose(own.T @ own / 40, np.eye(4), atol=1e-4)
    crossed = mapped[0].T @ mapped[1] / 40
    np.testing.assert_allclose(crossed, np.diag(np.diag(crossed)), atol=1e-4)
    assert (np.diff(np.diag(crossed)) < 0).all()
    assert (np.diag(crossed) > 0).all()


def test_cca_with_a_ridge_solves_its_eigenvalue_problem() -> None:
    x, z = (side - side.mean(0) for side in class_means(DATA))
    xx, zz, xz = x.T @ x / 12, z.T @ z / 12, x.T @ z / 12
    xx, zz = (part + 1e-3 * np.trace(part) / 6 * np.eye(6) for part in (xx, zz))
    values, _ = scipy.linalg.eigh(xz @ np.linalg.inv(zz) @ xz.T, xx)
    found = cca(*DATA.all(), dim=6)
    left, right = found.visible.astype(np.float64), found.infrared.astype(np.float64)
    np.testing.assert_allclose(left.T @ xx @ left, np.eye(6), atol=1e-4)
    np.testing.assert_allclose(right.T @ zz @ right, np.eye(6), atol=1e-4)
    np.testing.assert_allclose(left.T @ xz @ right, np.diag(np.sqrt(values[::-1])), atol=1e-4)


def test_cca_has_fewer_directions_than_people() -> None:
    few = people(count=4, dim=6, own=3)
    assert cca(*few.all(), dim=6).directions == 3


def test_cca_sees_through_different_maps_where_one_map_does_not() -> None:
    train, test = people(count=60, turn=1.5), people(count=30, turn=1.5, seed=1)
    assert rank1(cca(*train.all(), dim=5), test) > 0.7
    assert max(rank1(metric(*train.all(), dim=5), test) for metric in (xqda, kissme, lfda)) < 0.3


def slow_affinity(features: np.ndarray, neighbours: int) -> np.ndarray:
    apart = np.array([[np.linalg.norm(a - b) for b in features] for a in features])
    scale = [sorted(row)[min(neighbours, len(row) - 1)] for row in apart]
    return np.array(
        [
            [np.exp(-(apart[i, j] ** 2) / (scale[i] * scale[j])) for j in range(len(features))]
            for i in range(len(features))
        ]
    )


def test_local_scatters_are_those_of_all_pairs() -> None:
    x, who, z, whose = DATA.all()
    features, identity = np.concatenate([x, z]), np.concatenate([who, whose])
    count = len(features)
    between, within = np.zeros((6, 6)), np.zeros((6, 6))
    near = np.zeros((count, count))
    for person in np.unique(identity):
        rows = np.flatnonzero(identity == person)
        near[np.ix_(rows, rows)] = slow_affinity(features[rows], 3)
    for i in range(count):
        for j in range(count):
            own = (identity == identity[i]).sum()
            outer = np.outer(features[i] - features[j], features[i] - features[j]) / 2
            same = identity[i] == identity[j]
            within += near[i, j] / own * outer
            between += (near[i, j] * (1 / count - 1 / own) if same else 1 / count) * outer
    found = local_scatters(features, identity, neighbours=3)
    np.testing.assert_allclose(found[0], between, atol=1e-9)
    np.testing.assert_allclose(found[1], within, atol=1e-9)


def test_affinity_of_duplicates_and_of_few() -> None:
    duplicates = np.array([[0.0], [0.0], [0.0], [5.0]])
    near = affinity(duplicates, neighbours=2)
    assert near[:3, :3].min() == 1
    assert near[3, :3].tolist() == [0, 0, 0]
    assert affinity(duplicates[:1], neighbours=7).tolist() == [[1.0]]
    pair = affinity(np.array([[0.0], [2.0]]), neighbours=7)
    np.testing.assert_allclose(pair, [[1, np.exp(-1)], [np.exp(-1), 1]])


def test_lfda_solves_its_eigenvalue_problem() -> None:
    x, who, z, whose = DATA.all()
    between, within = local_scatters(np.concatenate([x, z]), np.concatenate([who, whose]), neighbours=7)
    within = within + 1e-3 * np.trace(within) / 6 * np.eye(6)
    found = lfda(*DATA.all(), dim=6).visible.astype(np.float64)
    np.testing.assert_allclose(found.T @ within @ found, np.eye(6), atol=1e-4)
    ratios = found.T @ between @ found
    np.testing.assert_allclose(ratios, np.diag(np.diag(ratios)), atol=1e-3)
    assert (np.diff(np.diag(ratios)) < 0).all()


def test_lfda_of_people_whose_images_are_all_equal_is_refused() -> None:
    who = np.repeat(np.arange(3), 2)
    features = np.eye(3)[who]
    with pytest.raises(TrainingError, match="lfda: .*no image of an identity differs"):
        lfda(features, who, features, who, dim=2)


def test_lfda_keeps_groups_of_one_person_apart_that_fisher_would_merge() -> None:
    """One person comes in two groups on either side of the other: all means are equal along the telling direction."""
    rng = np.random.default_rng(0)
    who = np.repeat([0, 1], 40)
    sides = np.concatenate([np.repeat([-10.0, 10.0], 20), np.zeros(40)])
    features = np.stack([sides, np.where(who == 0, -0.3, 0.3)], 1) + rng.standard_normal((80, 2))
    half = np.arange(80) % 2 == 0
    found = lfda(features[half], who[half], features[~half], who[~half], dim=1).visible[:, 0]
    assert abs(found[0]) > 3 * abs(found[1])
    groups = features[who == 0], features[who == 1]
    within = sum(np.cov(group.T) for group in groups)
    fisher = np.linalg.solve(within, groups[0].mean(0) - groups[1].mean(0))
    assert abs(fisher[0]) < 0.1 * abs(fisher[1])
