from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visir.core.draws import IdentityBalanced, Pairs, Unpaired
from visir.core.errors import ConfigError, DatasetError
from visir.core.types import ImageTable, Modality
from visir.data.sampling import sampler, usable


def table_of(counts):
    """A table with counts[i] = (visible, infrared) images of identity 10*i+3, rows mixed."""
    identity, modality = [], []
    for i, both in enumerate(counts):
        for kind, count in enumerate(both):
            identity += [10 * i + 3] * count
            modality += [kind] * count
    order = np.random.default_rng(0).permutation(len(identity))
    identity, modality = np.array(identity, np.int64)[order], np.array(modality, np.int64)[order]
    paths = tuple(f"{n}.png" for n in range(len(order)))
    return ImageTable(Path("set"), paths, identity, modality + 1, modality)


people = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=4, max_size=8)
draws = st.one_of(
    st.builds(Pairs, st.sampled_from([2, 4]), st.sampled_from(["visible", "matched"])),
    st.builds(
        IdentityBalanced, st.sampled_from([2, 4]), st.integers(1, 3), st.sampled_from(["independent", "permuted"])
    ),
    st.builds(Unpaired, st.sampled_from([2, 4])),
)


@given(people, draws, st.integers(0, 3), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_batches_are_laid_out_alike_and_depend_on_the_step_alone(counts, draw, seed, step):
    table = table_of(counts)
    drawn = sampler(draw, table, seed=seed)
    rows = drawn.rows(step)
    half = len(rows) // 2
    assert drawn.steps_per_epoch >= 1
    assert rows.dtype == np.int64
    assert (table.modality[rows[:half]] == Modality.VISIBLE).all()
    assert (table.modality[rows[half:]] == Modality.INFRARED).all()
    if not isinstance(draw, Unpaired):
        assert np.array_equal(table.identity[rows[:half]], table.identity[rows[half:]])
    fresh = sampler(draw, table, seed=seed)
    fresh.rows(step + 5)
    assert np.array_equal(fresh.rows(step), rows)


@given(people, draws, st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_two_ranks_draw_what_one_rank_draws(counts, draw, step):
    table = table_of(counts)
    one = sampler(draw, table, seed=1)
    two = [sampler(draw, table, seed=1, rank=rank, world=2) for rank in (0, 1)]
    joined = np.empty(one.joint, np.int64)
    for part in two:
        assert part.steps_per_epoch == one.steps_per_epoch
        rows = part.rows(step)
        joined[part.places] = rows
        half = len(rows) // 2
        assert np.array_equal(table.modality[rows], np.repeat([0, 1], half))
    assert np.array_equal(joined, one.rows(step))
    assert not set(two[0].places) & set(two[1].places)
    if isinstance(draw, IdentityBalanced):
        first, second = (set(table.identity[part.rows(step)]) for part in two)
        assert not first & second
        assert len(first) == len(second) == draw.identities // 2


@given(people, st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_pairs_over_visible_walk_every_visible_image_once_an_epoch(counts, epoch):
    table = table_of(counts)
    drawn = sampler(Pairs(1), table, seed=2)
    assert drawn.steps_per_epoch == sum(visible for visible, _ in counts)
    steps = range(epoch * drawn.steps_per_epoch, (epoch + 1) * drawn.steps_per_epoch)
    visible, infrared = np.stack([drawn.rows(step) for step in steps]).T
    assert np.array_equal(np.sort(visible), np.flatnonzero(table.modality == Modality.VISIBLE))
    for i, (many_visible, many_infrared) in enumerate(counts):
        partners = infrared[table.identity[visible] == 10 * i + 3]
        used = np.unique(partners, return_counts=True)[1]
        assert used.max() - used.min() <= 1  # none again before all were used
        assert len(used) == min(many_visible, many_infrared)


@given(people)
@settings(max_examples=30, deadline=None)
def test_matched_pairs_repeat_only_the_shorter_list(counts):
    table = table_of(counts)
    drawn = sampler(Pairs(1, "matched"), table, seed=2)
    assert drawn.steps_per_epoch == sum(max(both) for both in counts)
    pairs = np.stack([drawn.rows(step) for step in range(drawn.steps_per_epoch)])
    assert np.array_equal(np.unique(pairs), np.arange(len(table)))
    for i, both in enumerate(counts):
        mine = pairs[table.identity[pairs[:, 0]] == 10 * i + 3]
        for column, size in zip(mine.T, both, strict=True):
            used = np.unique(column, return_counts=True)[1]
            assert len(used) == size
            assert used.max() - used.min() <= 1


def test_regdb_and_sysu_epochs_have_the_published_number_of_steps():
    regdb = table_of([(10, 10)] * 206)
    assert sampler(Pairs(32, "matched"), regdb, seed=0).steps_per_epoch == 64
    counts = np.full((296, 2), (68, 33))
    counts[: 20284 - 68 * 296, 0] += 1
    counts[: 9929 - 33 * 296, 1] += 1
    sysu = table_of(counts.tolist())
    assert sysu.summary()["visible"] == 20284
    assert sampler(Pairs(32), sysu, seed=0).steps_per_epoch == 633
    # AGW's count of batches: floor(max(visible, infrared) / (P * K)) + 1
    assert sampler(IdentityBalanced(8, 4), sysu, seed=0).steps_per_epoch == 20284 // 32 + 1


def test_permuted_identities_come_once_an_epoch():
    table = table_of([(3, 3)] * 7)
    drawn = sampler(IdentityBalanced(2, 2, "permuted"), table, seed=0)
    assert drawn.steps_per_epoch == 3
    seen = []
    for step in range(3, 6):
        rows = drawn.rows(step)
        assert len(set(rows.tolist())) == 8
        seen += np.unique(table.identity[rows]).tolist()
    assert len(seen) == len(set(seen)) == 6


@given(people, st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_unpaired_images_start_over_only_when_used_up(counts, images):
    table = table_of(counts)
    drawn = sampler(Unpaired(images), table, seed=0)
    steps = 3 * drawn.steps_per_epoch
    halves = np.concatenate([drawn.rows(step).reshape(2, images) for step in range(steps)], axis=1)
    for modality, walked in zip(Modality, halves, strict=True):
        own = np.flatnonzero(table.modality == modality)
        for first in range(0, len(walked) - len(own) + 1, len(own)):
            assert np.array_equal(np.sort(walked[first : first + len(own)]), own)


def test_unpaired_images_of_some_cameras():
    table = table_of([(6, 6)] * 4)
    camera = np.empty(len(table), np.int64)
    for modality, first in ((Modality.VISIBLE, 1), (Modality.INFRARED, 3)):
        camera[table.modality == modality] = first + np.arange(24) % 2
    table = replace(table, camera=camera)
    drawn = sampler(Unpaired(4, cameras=(1, 4)), table, seed=0)
    assert drawn.steps_per_epoch == 3
    rows = np.concatenate([drawn.rows(step) for step in range(3)])
    assert np.array_equal(np.sort(rows), np.flatnonzero(np.isin(camera, (1, 4))))
    with pytest.raises(
        DatasetError, match="both modalities of cameras 1, 2 and 4 .* 0 infrared; .* give other cameras"
    ):
        sampler(Unpaired(4, cameras=(1, 2)), table, seed=0)


def test_epochs_and_seeds_differ():
    drawn = sampler(Pairs(8), table_of([(9, 9)] * 6), seed=0)
    other = sampler(Pairs(8), table_of([(9, 9)] * 6), seed=1)
    assert not np.array_equal(drawn.rows(0), drawn.rows(drawn.steps_per_epoch))
    assert not np.array_equal(drawn.rows(0), other.rows(0))


@pytest.mark.parametrize(
    ("draw", "error", "words"),
    [
        (Pairs(64), DatasetError, "at least 64 pairs for one batch, the table makes 12; lower stream.draw.pairs"),
        (IdentityBalanced(9, 2), DatasetError, "at least 9 identities for one batch, the table has 4"),
        (Unpaired(30), DatasetError, "12 visible and 12 infrared; lower stream.draw.images"),
        (Pairs(0), ConfigError, "stream.draw.pairs: expected a positive multiple"),
    ],
)
def test_too_small_a_table_is_told(draw, error, words):
    with pytest.raises(error, match=words):
        sampler(draw, table_of([(3, 3)] * 4), seed=0)


def test_a_batch_that_ranks_cannot_share_is_told():
    with pytest.raises(ConfigError, match=r"stream\.draw\.pairs: expected a positive multiple of the 3 ranks.*got 32"):
        sampler(Pairs(32), table_of([(30, 30)] * 4), seed=0, rank=1, world=3)
    with pytest.raises(ConfigError, match=r"stream\.draw\.identities: .*got 4"):
        sampler(IdentityBalanced(4, 3), table_of([(30, 30)] * 4), seed=0, world=3)


def test_identities_of_one_modality_are_named_and_can_be_left_out():
    table = table_of([(2, 2), (3, 0), (0, 1), (2, 3)])
    with pytest.raises(DatasetError, match=r"2 of 4 identities have images of one modality only \(13, 23\)"):
        sampler(Pairs(2), table, seed=0)
    with pytest.warns(UserWarning, match=r"2 of 4 identities .* left out of training \(13, 23\)"):
        kept = usable(table)
    assert kept.identities().tolist() == [3, 33]
    assert usable(kept) is kept
    assert sampler(Pairs(2), kept, seed=0).steps_per_epoch == 2
    with pytest.raises(DatasetError, match="got none among 2 identities"):
        usable(table_of([(2, 0), (0, 3)]))
