"""Which images make a batch: pure functions of the step, the same on any machine and with any number of workers.

A sampler draws the batch of all ranks together and hands each rank its share, so that two ranks see exactly what one
rank would. Every share is laid out alike: its visible images first, then as many infrared ones.
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from visir.core.draws import Draw, IdentityBalanced, Pairs, Unpaired
from visir.core.errors import ConfigError, DatasetError
from visir.core.seeds import generator
from visir.core.types import ImageTable, IntArray, Modality


class Sampler(ABC):
    """Rows of a table for every step.

    Attributes:
        steps_per_epoch: full batches in an epoch.
        places: (B,) int64, where this rank's images lie in the batch of all ranks; numbers that are drawn for each
            image (augmentation) are drawn by place, so that they do not depend on the number of ranks.
        joint: length of the batch of all ranks.
    """

    steps_per_epoch: int

    def __init__(self, seed: int, half: int, rank: int, world: int, *, key: str, unit: int = 1) -> None:
        """``half`` images of each modality over all ranks, handed out in blocks of ``unit`` images."""
        if half < 1 or (half // unit) % world:
            raise ConfigError(
                f"{key}: expected a positive multiple of the {world} ranks that share a batch, got {half // unit}."
            )
        share = half // world
        self._seed, self._half = seed, half
        self._mine = slice(rank * share, (rank + 1) * share)
        own = np.arange(half, dtype=np.int64)[self._mine]
        self.places: IntArray = np.concatenate([own, own + half])
        self.joint = 2 * half

    def rows(self, step: int) -> IntArray:
        """(B,) int64 rows of the table for this rank at ``step``: visible images first, then infrared ones."""
        visible, infrared = self._draw(step)
        return np.concatenate([visible[self._mine], infrared[self._mine]])

    @abstractmethod
    def _draw(self, step: int) -> tuple[IntArray, IntArray]:
        """(half,) visible and (half,) infrared rows of all ranks."""


def sampler(draw: Draw, table: ImageTable, *, seed: int, rank: int = 0, world: int = 1) -> Sampler:
    """The sampler that ``draw`` describes.

    The sizes in ``draw`` are those of the batch of all ranks; each rank gets 1/world of it. For identity-balanced
    batches the shares hold different identities.

    Raises:
        ConfigError: a batch that cannot be shared out evenly.
        DatasetError: too few images or identities for one batch, or identities seen in one modality only
            (:func:`usable` drops them).
    """
    match draw:
        case Pairs():
            return PairSampler(draw, table, seed, rank, world)
        case IdentityBalanced():
            return IdentitySampler(draw, table, seed, rank, world)
        case Unpaired():
            return UnpairedSampler(draw, table, seed, rank, world)


def usable(table: ImageTable) -> ImageTable:
    """The table without the identities that lack a modality; a warning names them.

    Raises:
        DatasetError: no identity has both modalities.
    """
    lacking = _one_sided(table)
    if not len(lacking):
        return table
    kept = table.take(~np.isin(table.identity, lacking))
    if not len(kept):
        raise DatasetError(
            f"{table.root}: expected identities with visible and infrared images, got none among "
            f"{len(lacking)} identities. Do both modalities number their people alike?"
        )
    warnings.warn(
        f"{table.root}: {len(lacking)} of {len(table.identities())} identities have images of one modality only and "
        f"are left out of training ({_named(lacking)}).",
        stacklevel=2,
    )
    return kept


def _one_sided(table: ImageTable) -> IntArray:
    visible = np.unique(table.identity[table.modality == Modality.VISIBLE])
    infrared = np.unique(table.identity[table.modality == Modality.INFRARED])
    return np.setxor1d(visible, infrared)


def _named(identities: IntArray, most: int = 5) -> str:
    more = ", ..." if len(identities) > most else ""
    return ", ".join(str(identity) for identity in identities[:most]) + more


def _by_identity(table: ImageTable) -> list[tuple[IntArray, IntArray]]:
    """The (visible, infrared) rows of each identity, identities ascending."""
    lacking = _one_sided(table)
    if len(lacking):
        raise DatasetError(
            f"{table.root}: {len(lacking)} of {len(table.identities())} identities have images of one modality only "
            f"({_named(lacking)}); training pairs need both. Remove them, or pass the table through "
            "visir.data.sampling.usable."
        )
    order = np.lexsort((table.modality, table.identity))
    code = table.identity[order] * 2 + table.modality[order]
    groups: Sequence[IntArray] = np.split(order, np.flatnonzero(np.diff(code)) + 1) if len(order) else []
    return list(zip(groups[::2], groups[1::2], strict=True))


def _cover(rng: np.random.Generator, rows: IntArray, count: int) -> IntArray:
    """``count`` of ``rows``: fresh permutations one after the other, so none comes again before all have come."""
    rounds = -(-count // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:count]


class PairSampler(Sampler):
    """Pairs of one identity; see :class:`visir.core.draws.Pairs`."""

    def __init__(self, draw: Pairs, table: ImageTable, seed: int, rank: int, world: int) -> None:
        super().__init__(seed, draw.pairs, rank, world, key="stream.draw.pairs")
        matched = draw.over == "matched"
        self._groups = [
            (visible, infrared, max(len(visible), len(infrared)) if matched else len(visible))
            for visible, infrared in _by_identity(table)
        ]
        pairs = sum(count for _, _, count in self._groups)
        self.steps_per_epoch = pairs // draw.pairs
        if not self.steps_per_epoch:
            raise DatasetError(
                f"{table.root}: expected at least {draw.pairs} pairs for one batch, the table makes {pairs}; "
                "lower stream.draw.pairs."
            )
        self._epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)  # two, as loading runs ahead into the next

    def _draw(self, step: int) -> tuple[IntArray, IntArray]:
        epoch, place = divmod(step, self.steps_per_epoch)
        visible, infrared = self._epoch(epoch)
        batch = slice(place * self._half, (place + 1) * self._half)
        return visible[batch], infrared[batch]

    def _draw_epoch(self, epoch: int) -> tuple[IntArray, IntArray]:
        rng = generator(self._seed, "pairs", epoch)
        visible = np.concatenate([_cover(rng, rows, count) for rows, _, count in self._groups])
        infrared = np.concatenate([_cover(rng, rows, count) for _, rows, count in self._groups])
        order = rng.permutation(len(visible))
        return visible[order], infrared[order]


class IdentitySampler(Sampler):
    """P identities with K images of each modality; see :class:`visir.core.draws.IdentityBalanced`.

    Images of an identity do not repeat in a batch unless it has fewer than K. With ``order="independent"`` an epoch
    has floor(max(visible, infrared) / (P * K)) + 1 batches, as the published two-stream baselines count.
    """

    def __init__(self, draw: IdentityBalanced, table: ImageTable, seed: int, rank: int, world: int) -> None:
        half = draw.identities * draw.images
        super().__init__(seed, half, rank, world, unit=draw.images, key="stream.draw.identities")
        self._people, self._images, self._permuted = draw.identities, draw.images, draw.order == "permuted"
        self._groups = _by_identity(table)
        if len(self._groups) < draw.identities:
            raise DatasetError(
                f"{table.root}: expected at least {draw.identities} identities for one batch, the table has "
                f"{len(self._groups)}; lower stream.draw.identities."
            )
        if self._permuted:
            self.steps_per_epoch = len(self._groups) // draw.identities
        else:
            visible = int((table.modality == Modality.VISIBLE).sum())
            self.steps_per_epoch = max(visible, len(table) - visible) // half + 1

    def _draw(self, step: int) -> tuple[IntArray, IntArray]:
        rng = generator(self._seed, "identities", step)
        chosen = [self._groups[i] for i in self._choose(rng, step)]
        visible = np.concatenate([_cover(rng, rows, self._images) for rows, _ in chosen])
        infrared = np.concatenate([_cover(rng, rows, self._images) for _, rows in chosen])
        return visible, infrared

    def _choose(self, rng: np.random.Generator, step: int) -> IntArray:
        if not self._permuted:
            return rng.choice(len(self._groups), self._people, replace=False)
        epoch, place = divmod(step, self.steps_per_epoch)
        everyone = generator(self._seed, "identity order", epoch).permutation(len(self._groups))
        return everyone[place * self._people : (place + 1) * self._people]


class UnpairedSampler(Sampler):
    """Each modality shuffled by itself; see :class:`visir.core.draws.Unpaired`.

    The larger modality is walked once an epoch; each starts over with a fresh permutation when it is used up.
    """

    def __init__(self, draw: Unpaired, table: ImageTable, seed: int, rank: int, world: int) -> None:
        super().__init__(seed, draw.images, rank, world, key="stream.draw.images")
        drawn = np.isin(table.camera, draw.cameras) if draw.cameras else np.ones(len(table), np.bool_)
        self._rows = {modality: np.flatnonzero(drawn & (table.modality == modality)) for modality in Modality}
        sizes = [len(rows) for rows in self._rows.values()]
        if min(sizes) < 1 or max(sizes) < draw.images:
            of = f" of cameras {', '.join(map(str, draw.cameras))}" if draw.cameras else ""
            raise DatasetError(
                f"{table.root}: expected images of both modalities{of} and {draw.images} of the larger one for one "
                f"batch, got {sizes[0]} visible and {sizes[1]} infrared; lower stream.draw.images"
                f"{', or give other cameras' if of else ''}."
            )
        self.steps_per_epoch = max(sizes) // draw.images
        self._round = functools.lru_cache(maxsize=4)(self._draw_round)

    def _draw(self, step: int) -> tuple[IntArray, IntArray]:
        return self._next(Modality.VISIBLE, step), self._next(Modality.INFRARED, step)

    def _next(self, modality: Modality, step: int) -> IntArray:
        size = len(self._rows[modality])
        first, last = step * self._half, (step + 1) * self._half
        rounds = range(first // size, (last - 1) // size + 1)
        joined = np.concatenate([self._round(modality, number) for number in rounds])
        return joined[first - rounds.start * size :][: self._half]

    def _draw_round(self, modality: Modality, number: int) -> IntArray:
        return generator(self._seed, f"unpaired {modality.name}", number).permutation(self._rows[modality])
