import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from visir.core.draws import Augment, IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.errors import ConfigError, DatasetError, ImageError
from visir.core.types import ImageTable, Modality, Record
from visir.data.converted import converted_images
from visir.data.images import Preprocess, decode, prepare
from visir.data.loading import Pictures, ahead, images, sources

EVERYTHING = Augment(0.5, 2, 0.5, 0.5, 0.3)


def make(root):
    rng = np.random.default_rng(0)
    records = []
    for identity in range(5):
        for modality, count in ((0, 4), (1, 5)):
            for k in range(count):
                name = f"{identity}_{modality}_{k}.png"
                Image.fromarray(rng.integers(0, 256, (20, 12, 3), np.uint8)).save(root / name)
                records.append(Record(name, 3 * identity + 1, modality + 2, Modality(modality)))
    return ImageTable.from_records(root, records)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make(tmp_path_factory.mktemp("loading"))


def equal(one, other):
    fields = ("images", "identity", "camera", "modality")
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in fields)


def loading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("visir-loading")]


@pytest.mark.parametrize("draw", [Pairs(4), IdentityBalanced(2, 2), Unpaired(3)])
def test_workers_and_cache_change_nothing(table, draw):
    streams = {"main": Stream(draw, 16, 8, EVERYTHING)}
    ways = [
        sources(table, streams, seed=5, workers=workers, cache_mib=mib)["main"]
        for workers, mib in ((0, 0), (1, 0.003), (2, 1))
    ]
    walks = [list(way.batches(2, 9)) for way in ways]
    assert [len(walk) for walk in walks] == [7, 7, 7]
    for step, (plain, one, two) in enumerate(zip(*walks, strict=True), start=2):
        assert equal(plain, one)
        assert equal(plain, two)
        assert equal(plain, ways[2].batch(step))


def test_pictures_are_read_larger_where_asked(table):
    enlarged = {"main": Stream(Pairs(4), 16, 8, Augment(flip=0.0, enlarge=4))}
    batch = sources(table, enlarged, seed=5)["main"].batch(1)
    assert batch.images.shape == (8, 3, 16, 8)
    larger = prepare([decode(table.file(i)) for i in range(len(table))], Preprocess(20, 12))
    crops = [image[:, y : y + 16, x : x + 8] for image in larger for y in range(5) for x in range(5)]
    for image in batch.images:
        assert any(torch.equal(image, crop) for crop in crops)


def test_a_batch_holds_prepared_pictures_and_ranked_labels(table):
    source = sources(table, {"main": Stream(Pairs(4), 16, 8, Augment(flip=0.0))}, seed=5)["main"]
    batch = source.batch(3)
    assert batch.images.shape == (8, 3, 16, 8)
    assert batch.images.dtype == torch.float32
    assert batch.modality.tolist() == [0] * 4 + [1] * 4
    assert batch.identity.max() < 5
    everyone = prepare([decode(table.file(i)) for i in range(len(table))], Preprocess(16, 8))
    for image, identity, camera, modality in zip(
        batch.images, batch.identity, batch.camera, batch.modality, strict=True
    ):
        (row,) = [i for i in range(len(table)) if torch.equal(everyone[i], image)]
        assert (table.labels()[row], table.camera[row], table.modality[row]) == (identity, camera, modality)


def test_two_ranks_load_what_one_rank_loads(table):
    streams = {"main": Stream(Pairs(4), 16, 8, EVERYTHING)}
    whole = sources(table, streams, seed=5)["main"].batch(6)
    parts = [sources(table, streams, seed=5, rank=rank, world=2)["main"].batch(6) for rank in (0, 1)]
    for half in (0, 1):
        joined = torch.cat([part.images.chunk(2)[half] for part in parts])
        assert torch.equal(joined, whole.images.chunk(2)[half])


def test_streams_share_a_cache_and_draw_differently(table):
    stream = Stream(Unpaired(3), 16, 8)
    both = sources(table, {"a": stream, "b": stream}, seed=5, cache_mib=1)
    assert both["a"]._pictures is both["b"]._pictures
    assert not equal(both["a"].batch(0), both["b"].batch(0))


def test_the_cache_keeps_to_its_bound_and_decodes_once(table, monkeypatch):
    decoded = []

    def counted(path):
        decoded.append(path)
        return decode(path)

    monkeypatch.setattr("visir.data.loading.decode", counted)
    size = 16 * 8 * 3
    pictures = Pictures(table, 16, 8, cache_mib=10.5 * size / 2**20)
    for _ in range(2):
        seen = [pictures.read(row).copy() for row in range(len(table))]
    assert pictures.cached == 10
    assert len(decoded) == 2 * len(table) - 10
    assert np.array_equal(seen, [Pictures(table, 16, 8).read(row) for row in range(len(table))])


def test_many_threads_fill_the_cache_rightly(table):
    pictures = Pictures(table, 16, 8, cache_mib=1)
    rows = np.random.default_rng(0).integers(0, len(table), 400).tolist()
    found = list(ahead(lambda row: pictures.read(row).copy(), rows, workers=8))
    alone = [Pictures(table, 16, 8).read(row) for row in range(len(table))]
    assert all(np.array_equal(one, alone[row]) for one, row in zip(found, rows, strict=True))
    assert pictures.cached == len(set(rows))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_named_and_threads_end(tmp_path, workers):
    table = make(tmp_path)
    whole = table.file(7).read_bytes()
    table.file(7).write_bytes(whole[: len(whole) // 2])
    source = sources(table, {"main": Stream(Pairs(4), 16, 8)}, seed=5, workers=workers)["main"]
    with pytest.raises(ImageError, match=table.paths[7]):
        list(source.batches(0, 20))
    with pytest.raises(ImageError, match=table.paths[7]):
        list(images(table, Preprocess(16, 8), workers=workers))
    assert not loading_threads()


def test_stopping_early_ends_the_threads(table):
    source = sources(table, {"main": Stream(Pairs(4), 16, 8)}, seed=5, workers=2)["main"]
    batches = source.batches(0, 1000)
    next(batches)
    assert loading_threads()
    batches.close()
    assert not loading_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_images_come_in_order(table, workers):
    wanted = np.array([3, 30, 0, 7, 7], np.int64)
    parts = list(images(table, Preprocess(16, 8), rows=wanted, batch=2, workers=workers))
    assert [rows.tolist() for rows, _ in parts] == [[3, 30], [0, 7], [7]]
    for rows, pixels in parts:
        assert pixels.dtype == torch.uint8
        for row, picture in zip(rows, pixels, strict=True):
            assert np.array_equal(picture.numpy(), Pictures(table, 16, 8).read(row))
    assert sum(len(rows) for rows, _ in images(table, Preprocess(16, 8), workers=workers)) == len(table)
    assert list(images(table, Preprocess(16, 8), rows=wanted[:0], workers=workers)) == []


def test_decoding_in_threads_leaves_the_warning_filters_alone(table):
    import warnings

    before = list(warnings.filters)
    list(ahead(lambda row: decode(table.file(row)), [row % len(table) for row in range(300)], workers=8))
    assert list(warnings.filters) == before


def test_impossible_sizes_are_told(table):
    with pytest.raises(ConfigError, match="expected at least 1 pixel"):
        sources(table, {"main": Stream(Pairs(4), 0, 8)}, seed=5)


@pytest.fixture(scope="module")
def converted(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    for i, path in enumerate(table.paths):
        name = folder / (path if i % 2 else path.replace(".png", ".jpg"))
        Image.fromarray(255 - decode(table.file(i))).save(name)
    return converted_images(table, folder)


def test_converted_images_stand_beside_their_own(table, converted):
    assert converted.modality.tolist() == (1 - table.modality).tolist()
    plain = Augment(flip=0.0)
    stream = Stream(Pairs(4), 16, 8, plain, converted=True)
    source = sources(table, {"main": stream}, seed=5, converted=converted, cache_mib=1)["main"]
    without = sources(table, {"main": replace(stream, converted=False)}, seed=5)["main"]
    batch = source.batch(3)
    assert without.batch(3).converted is None
    assert equal(batch, without.batch(3)), "what is drawn does not depend on the conversion"
    rows = source._rows.rows(3).tolist()
    expected = prepare([decode(converted.file(row)) for row in rows], source.preprocess)
    torch.testing.assert_close(batch.converted, expected)
    assert torch.equal(batch.of(Modality.INFRARED).converted, batch.converted[4:])
    assert torch.equal(batch.to(torch.device("cpu")).converted, batch.converted)


def test_converted_images_are_changed_apart(table, converted):
    stream = Stream(Pairs(4), 16, 8, Augment(flip=0.5), converted=True)
    one, two = (sources(table, {"main": stream}, seed=5, converted=converted, workers=w)["main"] for w in (0, 2))
    batches = list(two.batches(0, 4))
    assert all(torch.equal(one.batch(i).converted, batch.converted) for i, batch in enumerate(batches))
    rows = [one._rows.rows(i) for i in range(4)]
    plain = [prepare([decode(converted.file(row)) for row in part], one.preprocess) for part in rows]
    mirrored = [(b.converted - p).abs().amax((1, 2, 3)) > 0.1 for b, p in zip(batches, plain, strict=True)]
    real = [prepare([decode(table.file(row)) for row in part], one.preprocess) for part in rows]
    flipped = [(b.images - p).abs().amax((1, 2, 3)) > 0.1 for b, p in zip(batches, real, strict=True)]
    assert not torch.equal(torch.cat(mirrored), torch.cat(flipped))


@pytest.mark.parametrize(("way", "half"), [("ir2v", slice(4, 8)), ("v2ir", slice(0, 4))])
def test_one_direction_alone(table, converted, way, half):
    plain = Augment(flip=0.0)
    both = sources(table, {"main": Stream(Pairs(4), 16, 8, plain, converted=True)}, seed=5, converted=converted)
    stream = Stream(Pairs(4), 16, 8, plain, converted=way)
    own = converted_images(table, converted.root, stream.converts)
    assert [path == "" for path in own.paths] == [m not in stream.converts for m in table.modality.tolist()]
    found = sources(table, {"main": stream}, seed=5, converted=own)["main"].batch(3)
    expected = both["main"].batch(3)
    assert torch.equal(found.converted[half], expected.converted[half])
    black = prepare([np.zeros((16, 8, 3), np.uint8)], Preprocess(16, 8))
    others = torch.ones(8, dtype=torch.bool)
    others[half] = False
    torch.testing.assert_close(found.converted[others], black.expand(4, -1, -1, -1))


def test_of_several_conversions_each_image_has_one(table, tmp_path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "conversion.json").write_text("{}")
        for path in table.paths[: None if part == "a" else -1]:
            (tmp_path / part / path).write_bytes(b"x")
    (tmp_path / "c").mkdir()  # no conversion: nothing says so
    found = converted_images(table, tmp_path)
    parts = [path.split("/")[0] for path in found.paths]
    assert [path.split("/", 1)[1] for path in found.paths] == list(table.paths)
    assert abs(parts.count("a") - parts.count("b")) < len(table) / 2
    assert parts[-1] == "a", "the only one"
    assert converted_images(table, tmp_path).paths == found.paths


def test_an_image_outside_of_the_data_set_is_not_its_own_conversion(table, tmp_path):
    outside = replace(table, paths=(str(table.file(0)), *table.paths[1:]))
    with pytest.raises(DatasetError, match=r"lies outside of it.*'visir data convert'"):
        converted_images(outside, tmp_path)


def test_missing_conversions_are_named(table, converted, tmp_path):
    (tmp_path / table.paths[0]).write_bytes(b"x")
    with pytest.raises(DatasetError, match=f"{len(table) - 1} are missing, the first is that of {table.paths[1]}"):
        converted_images(table, tmp_path)
    with pytest.raises(ConfigError, match=r"benchmark\.converted=DIR"):
        sources(table, {"main": Stream(Pairs(4), 16, 8, converted=True)}, seed=5)
