"""The paired bootstrap against loops, where the truth is known, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest

from visir.core.errors import EvaluationError
from visir.evaluation import bootstrap
from visir.evaluation.bootstrap import PairedTrial, draws, paired_bootstrap


def some_trials(rng, people=9, trials=3, figures=2):
    """Trials of different queries; the last person is in one trial alone."""
    made = []
    for t in range(trials):
        identity = 10 * rng.integers(0, people - (t > 0), 25)
        if t == 0:
            identity[:2] = 10 * (people - 1)
        made.append(PairedTrial(identity, rng.random((25, figures)), rng.random((25, figures))))
    return made


def slow_difference(trials, times):
    """One resample by loops: ``times`` is person -> how often drawn."""
    means = []
    for trial in trials:
        total, queries = np.zeros(trial.first.shape[1]), 0
        for identity, first, second in zip(trial.identity.tolist(), trial.first, trial.second, strict=True):
            for _ in range(int(times[identity])):
                total, queries = total + (first - second), queries + 1
        if queries:
            means.append(total / queries)
    return np.mean(means, axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_slow_bootstrap_with_the_same_resamples(seed):
    trials = some_trials(np.random.default_rng(seed))
    people = sorted({int(i) for trial in trials for i in trial.identity})
    found = paired_bootstrap(trials, resamples=60, seed=seed, level=0.9)
    counts = np.concatenate(list(draws(len(people), 60, seed)))
    slow = np.array([slow_difference(trials, dict(zip(people, row, strict=True))) for row in counts])
    np.testing.assert_allclose(found.difference, slow_difference(trials, dict.fromkeys(people, 1)), atol=1e-14)
    np.testing.assert_allclose([found.low, found.high], np.quantile(slow, [0.05, 0.95], axis=0), atol=1e-14)
    np.testing.assert_array_equal(found.better, [sum(column > 0) / 60 for column in slow.T])
    sides = [min(sum(column <= 0), sum(column >= 0)) for column in slow.T]
    np.testing.assert_allclose(found.p_value, [min(1, 2 * (side + 1) / 61) for side in sides])
    assert (found.identities, found.resamples) == (len(people), 60)


def test_draws_are_a_function_of_the_seed_and_not_of_the_pieces():
    whole = np.concatenate(list(draws(7, 40, 3)))
    assert whole.shape == (40, 7)
    assert set(whole.sum(axis=1)) == {7}
    pieces = list(draws(7, 40, 3, chunk=50))
    assert max(map(len, pieces)) == 7
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert (np.concatenate(list(draws(7, 40, 4))) != whole).any()
    assert len({tuple(row) for row in whole}) > 30


def test_pieces_change_nothing(monkeypatch):
    trials = some_trials(np.random.default_rng(5))
    whole = paired_bootstrap(trials, resamples=50)
    monkeypatch.setattr(bootstrap.draws, "__kwdefaults__", {"chunk": 30})
    pieces = paired_bootstrap(trials, resamples=50)
    for name in ("difference", "low", "high", "better", "p_value"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), atol=1e-15)


def test_equal_systems_do_not_differ():
    identity, values = np.arange(40) // 4, np.random.default_rng(0).random((40, 3))
    found = paired_bootstrap([PairedTrial(identity, values, values.copy())], resamples=200)
    for name in ("difference", "low", "high", "better"):
        assert getattr(found, name).tolist() == [0, 0, 0]
    assert found.p_value.tolist() == [1, 1, 1]


def test_rounding_is_no_difference():
    first = np.tile([0.1, 0.2, 0.3], 10)[:, None]
    second = np.tile([0.3, 0.1, 0.2], 10)[:, None] + 1e-17
    found = paired_bootstrap([PairedTrial(np.arange(30) // 3, first, second)], resamples=200)
    assert (found.difference, found.low, found.high, found.better, found.p_value) == (0, 0, 0, 0, 1)


def test_swapped_systems_give_the_mirror_image():
    trials = some_trials(np.random.default_rng(8))
    one = paired_bootstrap(trials, resamples=300)
    other = paired_bootstrap([PairedTrial(t.identity, t.second, t.first) for t in trials], resamples=300)
    np.testing.assert_allclose(one.low, -other.high, atol=1e-12)
    np.testing.assert_allclose(one.better, 1 - other.better, atol=1e-12)
    np.testing.assert_array_equal(one.p_value, other.p_value)


def test_more_trials_of_the_same_people_do_not_make_it_surer():
    (trial,) = some_trials(np.random.default_rng(2), trials=1)
    one, many = (paired_bootstrap([trial] * times, resamples=300) for times in (1, 10))
    np.testing.assert_allclose(many.high - many.low, one.high - one.low, atol=1e-12)


def test_a_trial_of_which_nobody_was_drawn_is_left_out():
    rng = np.random.default_rng(4)
    trials = [PairedTrial(np.array([person]), rng.random((1, 1)), rng.random((1, 1))) for person in range(3)]
    single = sorted(float((t.first - t.second)[0, 0]) for t in trials)
    found = paired_bootstrap(trials, resamples=2000, level=0.999)
    assert found.low[0] == pytest.approx(single[0])  # one person alone, drawn three times
    assert found.high[0] == pytest.approx(single[-1])


def experiment(rng, people, truth):
    """Two systems on queries of ``people``: an effect for each person, and noise for each query."""
    identity = np.repeat(np.arange(people), rng.integers(2, 9, people))
    effect = truth + 0.3 * rng.standard_normal(people)
    second = rng.random(len(identity))
    first = second + effect[identity] + 0.2 * rng.standard_normal(len(identity))
    return identity, first[:, None], second[:, None]


def test_intervals_hold_the_truth_as_often_as_they_say():
    """And with single queries resampled, as if they were people, they do not."""
    rng, truth, repeats = np.random.default_rng(0), 0.03, 500
    held, naive, rejected = 0, 0, 0
    for number in range(repeats):
        identity, first, second = experiment(rng, 96, truth)
        found = paired_bootstrap([PairedTrial(identity, first, second)], resamples=400, seed=number)
        held += bool(found.low[0] <= truth <= found.high[0])
        apart = paired_bootstrap([PairedTrial(np.arange(len(identity)), first, second)], resamples=100, seed=number)
        naive += bool(apart.low[0] <= truth <= apart.high[0])
        null = paired_bootstrap([PairedTrial(identity, first - truth, second)], resamples=400, seed=number)
        rejected += bool(null.p_value[0] < 0.05)
    assert 0.92 <= held / repeats <= 0.97
    assert naive / repeats < 0.8
    assert 0.03 <= rejected / repeats <= 0.08


def test_intervals_hold_the_truth_when_partitions_share_people():
    """As RegDB's: each partition tests another half of the same people."""
    rng, repeats, held, widths = np.random.default_rng(1), 200, 0, []
    for number in range(repeats):
        people, effect = 80, 0.3 * rng.standard_normal(80)
        trials = []
        for _ in range(5):
            tested = np.repeat(rng.permutation(people)[: people // 2], 3)
            second = rng.random((len(tested), 1))
            trials.append(PairedTrial(tested, second + effect[tested][:, None], second))
        found = paired_bootstrap(trials, resamples=300, seed=number)
        held += bool(found.low[0] <= 0 <= found.high[0])
        widths.append(found.high[0] - found.low[0])
    assert 0.9 <= held / repeats <= 0.98
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.3 / np.sqrt(80), rel=0.25)


VALUES = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("identity", "first", "second", "word"),
    [
        (np.arange(3), VALUES, VALUES, r"\(3,\), \(4, 2\)"),
        (np.arange(4), VALUES, VALUES[:, :1], r"\(4, 1\)"),
        (np.arange(0), VALUES[:0], VALUES[:0], "at least one query"),
        (np.arange(4), VALUES[:, 0], VALUES[:, 0], r"\(q, m\)"),
        (np.arange(4), VALUES, VALUES + np.nan, "NaN"),
    ],
)
def test_trials_that_cannot_be(identity, first, second, word):
    with pytest.raises(EvaluationError, match=word):
        PairedTrial(identity, first, second)


def test_what_cannot_be_resampled():
    trial = PairedTrial(np.arange(4), VALUES, VALUES)
    with pytest.raises(EvaluationError, match="no trials"):
        paired_bootstrap([])
    with pytest.raises(EvaluationError, match=r"equally many figures, got \[1, 2\]"):
        paired_bootstrap([trial, PairedTrial(np.arange(4), VALUES[:, :1], VALUES[:, :1])])
    with pytest.raises(EvaluationError, match="at least two people"):
        paired_bootstrap([PairedTrial(np.zeros(4, np.int64), VALUES, VALUES)])
    for wrong in ({"resamples": 0}, {"level": 1.0}, {"level": 0.0}):
        with pytest.raises(EvaluationError, match="at least one resample"):
            paired_bootstrap([trial], **wrong)
