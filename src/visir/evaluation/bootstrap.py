"""How sure a difference between two systems is: a paired bootstrap over the people that were searched for.

Queries of one person succeed and fail together, so that thousands of queries of a hundred people tell little more than
a hundred people do. What is drawn with replacement is therefore the person, with all its queries, in all trials, and
for both systems alike: the cluster bootstrap (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
section 3.8) of paired differences. Galleries and trained weights stay as they are; what another training would have
given is not in the interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from visir.core.errors import EvaluationError
from visir.core.seeds import generator
from visir.core.types import IntArray

DoubleArray = npt.NDArray[np.float64]

CHUNK_ELEMENTS = 1 << 21  # numbers held at a time: 16 MiB an array, of which there are about four
ROUNDING = 1e-12  # figures in [0, 1] that differ by less are equal


@dataclass(frozen=True, eq=False)
class PairedTrial:
    """What two systems scored on the same queries of one trial; unmatched queries are not among them.

    Attributes:
        identity: (q,) int64, the person of each query. One number is one person in all trials.
        first: (q, m) float64, m figures of each query by the first system.
        second: (q, m) float64, the same by the second system.

    Raises:
        EvaluationError: no queries, shapes that do not fit, or NaN or infinite figures.
    """

    identity: IntArray
    first: DoubleArray
    second: DoubleArray

    def __post_init__(self) -> None:
        shape = self.first.shape
        if len(shape) != 2 or 0 in shape or self.second.shape != shape or self.identity.shape != shape[:1]:
            raise EvaluationError(
                f"bootstrap: expected (q,) identities and twice the same (q, m) figures of at least one query, got "
                f"{self.identity.shape}, {shape} and {self.second.shape}."
            )
        if not (np.isfinite(self.first).all() and np.isfinite(self.second).all()):
            raise EvaluationError(
                "bootstrap: expected finite figures, got NaN or infinity; leave unmatched queries out."
            )


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """m differences, first less second, with what the resamples say about them.

    Attributes:
        difference: (m,) float64, the mean over trials of the mean over queries.
        low: (m,) float64, lower end of the percentile interval.
        high: (m,) float64, its upper end.
        better: (m,) float64, the share of resamples in which the first system is better; where both are equal it is
            not.
        p_value: (m,) float64 in (0, 1], two-sided: twice the smaller share of resamples on either side of zero, zero
            counting on both, each share of one resample more (so it is never 0), and at most 1.
        identities: how many people are drawn, and from how many.
        resamples: how many draws were made.
    """

    difference: DoubleArray
    low: DoubleArray
    high: DoubleArray
    better: DoubleArray
    p_value: DoubleArray
    identities: int
    resamples: int


def paired_bootstrap(
    trials: Sequence[PairedTrial], *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Bootstrap:
    """Resample people and look at the difference each time.

    In one resample every person counts as often as drawn: with c_i for person i, a trial's difference is
    sum_i c_i d_i / sum_i c_i n_i, where d_i is the sum of first - second over the n_i queries of the person; trials are
    then averaged. A trial of which nobody was drawn is left out of that resample. Sums of people are formed once, so
    that all resamples are one matrix product, made in pieces of bounded size.

    Args:
        trials: the trials of one protocol. Trials of several partitions share the draw of people, so that somebody
            who is tested in many partitions comes and goes in all of them.
        resamples: number of draws.
        seed: the same seed draws the same.
        level: of the interval, in (0, 1).

    Raises:
        EvaluationError: no trials, trials of different numbers of figures, fewer than two people, or a number or level
            that cannot be.

    >>> person = np.repeat(np.arange(50), 4)
    >>> worse = np.linspace(0, 1, 200)[:, None]
    >>> found = paired_bootstrap([PairedTrial(person, worse + 0.25, worse)], resamples=100)
    >>> found.difference.round(3).tolist(), found.low.round(3).tolist(), found.p_value.round(3).tolist()
    ([0.25], [0.25], [0.02])
    """
    if resamples < 1 or not 0 < level < 1:
        raise EvaluationError(
            f"bootstrap: expected at least one resample and a level in (0, 1), got {resamples} and {level}."
        )
    sums, counts = _by_person(trials)
    differences = _snapped(np.concatenate([_means(c, sums, counts) for c in draws(len(counts), resamples, seed)]))
    below, above = (differences <= 0).sum(axis=0), (differences >= 0).sum(axis=0)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Bootstrap(
        difference=_snapped(_means(np.ones((1, len(counts))), sums, counts)[0]),
        low=low,
        high=high,
        better=(differences > 0).mean(axis=0),
        p_value=np.minimum(2 * (np.minimum(below, above) + 1) / (resamples + 1), 1.0),
        identities=len(counts),
        resamples=resamples,
    )


def draws(people: int, resamples: int, seed: int, *, chunk: int = CHUNK_ELEMENTS) -> Iterator[DoubleArray]:
    """How often each person is in each resample: ``people`` of them, drawn with replacement.

    Args:
        people: at least 1.
        resamples: number of draws.
        seed: decides them together with ``people``; the size of the pieces does not.
        chunk: numbers in a piece.

    Yields:
        (b, people) float64 pieces, ``resamples`` rows in all; every row sums to ``people``.
    """
    random, step = generator(seed, "bootstrap"), max(1, chunk // max(people, 1))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = random.integers(0, people, (rows, people)) + people * np.arange(rows)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=rows * people).reshape(rows, people).astype(np.float64)


def _by_person(trials: Sequence[PairedTrial]) -> tuple[DoubleArray, DoubleArray]:
    """(P, T, m) sums of first - second of every person in every trial, and (P, T) numbers of queries."""
    widths = {trial.first.shape[1] for trial in trials}
    if len(widths) != 1:
        raise EvaluationError(
            f"bootstrap: expected trials of equally many figures, got {sorted(widths) or 'no trials'}."
        )
    people = np.unique(np.concatenate([trial.identity for trial in trials]))
    if len(people) < 2:
        raise EvaluationError("bootstrap: expected queries of at least two people, got one; nothing can be resampled.")
    sums = np.zeros((len(people), len(trials), widths.pop()))
    counts = np.zeros(sums.shape[:2])
    for number, trial in enumerate(trials):
        places = np.searchsorted(people, trial.identity)
        np.add.at(sums[:, number], places, trial.first - trial.second)
        np.add.at(counts[:, number], places, 1.0)
    return sums, counts


def _means(drawn: DoubleArray, sums: DoubleArray, counts: DoubleArray) -> DoubleArray:
    """(b, m) differences of b resamples: (b, P) counts of people times the sums of people, averaged over trials.

    One trial at a time, so that nothing grows beyond the piece of resamples.
    """
    total, seen = np.zeros((len(drawn), sums.shape[2])), np.zeros((len(drawn), 1))
    for number in range(sums.shape[1]):
        queries = (drawn @ counts[:, number])[:, None]
        total += drawn @ sums[:, number] / np.maximum(queries, 1.0)  # no queries: the sums are zero, too
        seen += queries > 0
    return total / seen


def _snapped(differences: DoubleArray) -> DoubleArray:
    """Differences in the last bits are none: the order of a sum must not decide which system is better."""
    return np.where(np.abs(differences) < ROUNDING, 0.0, differences)
