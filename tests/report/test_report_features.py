"""The numbers behind the figures, against slow loops and worked examples."""

from __future__ import annotations

import numpy as np
import pytest

from visir.core.errors import EvaluationError
from visir.core.types import ImageTable, Modality
from visir.report import features as made

V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741


def slow_pairs(table: ImageTable, first: Modality, second: Modality, *, same: bool) -> set[tuple[int, int]]:
    found = set()
    for a in range(len(table)):
        for b in range(len(table)):
            wanted = table.modality[a] == first and table.modality[b] == second and a != b
            known = table.identity[a] >= 0 and table.identity[b] >= 0
            if wanted and known and (table.identity[a] == table.identity[b]) == same:
                found.add((a, b))
    return found


@pytest.mark.parametrize(("first", "second"), [(V, V), (I, I), (V, I), (I, V)])
@pytest.mark.parametrize("same", [True, False])
def test_all_pairs_once_where_they_fit(tiny_table: ImageTable, first: Modality, second: Modality, same: bool) -> None:
    rows, others = made.pairs(tiny_table, first, second, same=same, most=1000)
    got = list(zip(rows.tolist(), others.tolist(), strict=True))
    assert len(got) == len(set(got))
    assert set(got) == slow_pairs(tiny_table, first, second, same=same)


@pytest.mark.parametrize("same", [True, False])
def test_sampled_pairs_are_bounded_valid_uniform_and_reproducible(table: ImageTable, same: bool) -> None:
    everything = slow_pairs(table, V, I, same=same)
    most = len(everything) - 1
    rows, others = made.pairs(table, V, I, same=same, most=most, seed=3)
    got = list(zip(rows.tolist(), others.tolist(), strict=True))
    assert len(got) == most
    assert set(got) <= everything
    again = made.pairs(table, V, I, same=same, most=most, seed=3)
    assert np.array_equal(rows, again[0])
    assert np.array_equal(others, again[1])
    counts: dict[tuple[int, int], int] = dict.fromkeys(everything, 0)
    draws = 0
    for seed in range(300):
        for pair in zip(*(x.tolist() for x in made.pairs(table, V, I, same=same, most=most, seed=seed)), strict=True):
            counts[pair] += 1
            draws += 1
    expected = draws / len(everything)
    assert max(abs(count - expected) for count in counts.values()) < 6 * np.sqrt(expected)


def test_no_pairs_of_an_absent_modality(tiny_table: ImageTable) -> None:
    rows, others = made.pairs(tiny_table.of(V), I, I, same=True, most=10)
    assert len(rows) == len(others) == 0


def test_distances_equal_a_loop(table: ImageTable, features: np.ndarray) -> None:
    unit = made.unit_length(features, table)
    rows, others = made.pairs(table, V, I, same=False, most=1000)
    found = made.cosine_distances(unit, rows, others, block=7)
    for distance, a, b in zip(found, rows, others, strict=True):
        x, y = features[a].astype(np.float64), features[b].astype(np.float64)
        assert distance == pytest.approx(1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5)


def test_correlation_matrix_equals_numpy(features: np.ndarray) -> None:
    assert np.allclose(made.pearson(features[:9]), np.corrcoef(features[:9].astype(np.float64)), atol=1e-12)


@pytest.mark.parametrize(
    ("visible", "infrared", "loss"),
    [
        ([[1, 2, 3], [3, 2, 1]], [[1, 2, 3], [2, 4, 6]], 4.0),
        ([[1, 2, 3], [3, 2, 1], [1, 0, 1]], [[1, 2, 3], [3, 1, 2], [0, 0, 3]], 2 / 3),
    ],
)
def test_correlation_loss_of_worked_examples(visible: list, infrared: list, loss: float) -> None:
    features = np.array([*visible, *infrared], np.float32)
    count = len(visible)
    both = made.Correlations.of(features, np.arange(count), np.arange(count, 2 * count))
    assert both.loss() == pytest.approx(loss, abs=1e-6)
    assert both.difference().mean() == pytest.approx(loss, abs=1e-6)


def test_constant_feature_correlates_with_nothing() -> None:
    matrix = made.pearson(np.array([[1, 1, 1], [1, 2, 3]], np.float32))
    assert matrix.tolist() == [[0, 0], [0, pytest.approx(1)]]


def test_aligned_rows_show_the_same_known_people(table: ImageTable, tiny_table: ImageTable) -> None:
    visible, infrared = made.aligned_rows(table, 5, seed=1)
    assert len(visible) == 5
    assert np.array_equal(table.identity[visible], table.identity[infrared])
    assert (table.modality[visible] == V).all()
    assert (table.modality[infrared] == I).all()
    assert len(np.unique(table.identity[visible])) == 5
    few = made.aligned_rows(tiny_table, 99)[0]
    assert tiny_table.identity[few].tolist() == [1, 2]


def test_map_sample_is_bounded_and_prefers_people_with_both_modalities(tiny_table: ImageTable) -> None:
    rows = made.sample_for_map(tiny_table, identities=2, images=2)
    assert set(tiny_table.identity[rows].tolist()) == {1, 2}
    assert max(np.bincount(tiny_table.identity[rows])) == 4
    assert np.array_equal(rows, made.sample_for_map(tiny_table, identities=2, images=2))


def test_map_uses_principal_components_for_few_or_equal_pictures() -> None:
    few = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    places, method = made.project(few)
    assert method == "principal components"
    assert places.shape == (9, 2)
    squared = places.std(axis=0) ** 2
    values = np.linalg.eigvalsh(np.cov(few.T.astype(np.float64), bias=True))[::-1]
    assert squared == pytest.approx(values[:2], rel=1e-5)
    equal, method = made.project(np.ones((20, 4), np.float32))
    assert method == "principal components"
    assert not equal.any()
    assert made.project(np.ones((1, 1), np.float32))[0].shape == (1, 2)


def test_map_separates_separate_people_and_is_reproducible() -> None:
    draw = np.random.default_rng(0)
    person = np.repeat(np.arange(3), 10)
    values = (10 * np.eye(8)[person] + draw.normal(size=(30, 8))).astype(np.float32)
    places, method = made.project(values, seed=5)
    assert method.startswith("t-SNE")
    assert np.array_equal(places, made.project(values, seed=5)[0])
    centres = np.array([places[person == p].mean(axis=0) for p in range(3)])
    nearest = np.linalg.norm(places[:, None] - centres[None], axis=2).argmin(axis=1)
    assert np.array_equal(nearest, person)


def test_unusable_features_are_refused(table: ImageTable, features: np.ndarray) -> None:
    broken = features.copy()
    broken[4, 2] = np.nan
    with pytest.raises(EvaluationError, match=f"1 of {len(table)} rows, first for {table.paths[4]}"):
        made.unit_length(broken, table)
    for wrong in (features[:-1], features[0], features[:, :0]):
        with pytest.raises(EvaluationError, match="expected shape"):
            made.unit_length(wrong, table)


def test_unit_length_leaves_its_argument_alone(table: ImageTable, features: np.ndarray) -> None:
    before = features.copy()
    unit = made.unit_length(features, table)
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(features, before)
