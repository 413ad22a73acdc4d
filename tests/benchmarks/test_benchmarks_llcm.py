"""LLCM: the tables, the seeded draws exactly as the published code makes them, the rule, damaged input."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tiny_layouts import LLCM_CAMERAS, LLCM_TEST, LLCM_TRAIN, llcm_images, write_llcm
from visir.benchmarks.llcm import BENCHMARK, same_sighting
from visir.core.errors import DatasetError
from visir.core.types import ImageTable, Modality, Record
from visir.evaluation.evaluate import evaluate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_llcm(tmp_path / "cam7" / "LLCM")  # a root with "cam" in it has misled a published parser


def published_draw(root: Path, modality: str, trial: int) -> list[str]:
    """The gallery as published code draws it: global generator, folder listings, identity-major."""
    state = random.getstate()
    random.seed(trial)
    drawn = []
    for person in sorted(f"{person:04d}" for person in LLCM_TEST):
        for camera in LLCM_CAMERAS[modality]:
            folder = root / f"test_{modality}" / f"cam{camera}" / person
            if folder.is_dir():
                drawn.append(random.choice(sorted(path.relative_to(root).as_posix() for path in folder.iterdir())))
    random.setstate(state)
    return drawn


def test_test_rows_are_visible_first_and_identity_major(root: Path) -> None:
    table = BENCHMARK.read(root, "test", 1)
    expected = [
        (f"test_{modality}/cam{camera}/{person:04d}/f{number}.jpg", person, camera, number_of_modality)
        for number_of_modality, modality in enumerate(("vis", "nir"))
        for person in LLCM_TEST
        for camera in LLCM_CAMERAS[modality]
        for number in range(llcm_images(modality, camera, person))
    ]
    columns = zip(table.paths, table.identity.tolist(), table.camera.tolist(), table.modality.tolist(), strict=True)
    assert list(columns) == expected


def test_training_rows_follow_the_lists_with_folder_numbers_and_cameras_from_the_names(root: Path) -> None:
    table = BENCHMARK.read(root, "trainval", 1)
    lines = [(root / "idx" / f"train_{word}.txt").read_text().splitlines() for word in ("vis", "nir")]
    assert list(table.paths) == [line.split()[0] for part in lines for line in part]
    assert table.identities().tolist() == list(LLCM_TRAIN)
    assert table.camera.tolist() == [1, 4] * 10
    assert table.modality.tolist() == [0] * 10 + [1] * 10


def test_a_name_without_camera_gives_camera_0_which_hides_nothing(root: Path) -> None:
    for word in ("vis", "nir"):
        file = root / "idx" / f"train_{word}.txt"
        for path in (root / word).rglob("*.jpg"):
            path.rename(path.with_name(path.name.replace("_c0", "_k0")))
        file.write_text(file.read_text().replace("_c0", "_k0"))
    table = BENCHMARK.read(root, "validation", 1)
    assert set(table.camera) == {0}
    assert not same_sighting(table, table).any()
    trial = BENCHMARK.validation(1).trials(table)[0]
    assert len(trial.gallery) == len(table.identities())


@pytest.mark.parametrize("trial", range(10))
def test_draws_equal_those_of_the_published_code(root: Path, trial: int) -> None:
    table = BENCHMARK.read(root, "test", 1)
    made = BENCHMARK.protocols(1)
    drawn = {name: protocol.trials(table)[trial] for name, protocol in made.items()}
    assert [table.paths[row] for row in drawn["llcm-v2i"].gallery] == published_draw(root, "nir", trial)
    assert [table.paths[row] for row in drawn["llcm-i2v"].gallery] == published_draw(root, "vis", trial)
    assert [table.paths[row] for row in drawn["llcm-v2i-released"].query] == published_draw(root, "nir", trial)


def test_draws_are_these() -> None:
    """``random.seed(0)`` and ``random.seed(9)`` of Python 3.2 or later on cells of 5, 6, 4 and 3 images."""
    sizes = {(1, 1): 5, (1, 4): 6, (2, 2): 4, (2, 9): 3}
    records = [
        Record(f"test_nir/cam{camera}/{person:04d}/f{n}.jpg", person, camera, Modality.INFRARED)
        for (person, camera), size in sizes.items()
        for n in range(size)
    ]
    table = ImageTable.from_records(Path(), [*records, Record("v", 1, 1, Modality.VISIBLE)])
    picked = [
        [table.paths[row][-5] for row in trial.gallery] for trial in BENCHMARK.protocols(1)["llcm-v2i"].trials(table)
    ]
    assert picked[0] == list("3301")
    assert picked[9] == list("3421")


def test_draws_do_not_depend_on_the_order_of_the_table_nor_touch_the_global_generator(root: Path) -> None:
    table = BENCHMARK.read(root, "test", 1)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    before = random.getstate()
    for protocol in BENCHMARK.protocols(1).values():
        for one, other in zip(protocol.trials(table), protocol.trials(shuffled), strict=True):
            assert {table.paths[r] for r in one.gallery} == {shuffled.paths[r] for r in other.gallery}
            assert {table.paths[r] for r in one.query} == {shuffled.paths[r] for r in other.query}
    assert random.getstate() == before


def test_stray_files_change_no_draw_but_are_told(root: Path) -> None:
    table = BENCHMARK.read(root, "test", 1)
    for name in ("Thumbs.db", ".DS_Store"):
        (root / "test_nir" / "cam1" / "0003" / name).write_bytes(b"x")
    assert BENCHMARK.read(root, "test", 1).paths == table.paths
    (warning,) = [finding for finding in BENCHMARK.inspect(root) if "Stray" in finding.what]
    assert "Stray files among the images: 2 (.DS_Store, Thumbs.db)" in warning.what
    assert "published code draws" in warning.what


def test_the_two_meanings_of_visible_to_infrared(root: Path) -> None:
    table = BENCHMARK.read(root, "test", 1)
    made = BENCHMARK.protocols(1)
    assert list(made) == ["llcm-v2i", "llcm-v2i-released", "llcm-i2v"]
    assert {protocol.cmc for protocol in made.values()} == {"identity"}
    described, released = (made[name].trials(table) for name in ("llcm-v2i", "llcm-v2i-released"))
    assert len(described) == len(released) == 10
    for one, other in zip(described, released, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.query, other.gallery)
        np.testing.assert_array_equal(one.gallery, other.query)
    np.testing.assert_array_equal(described[0].query, np.flatnonzero(table.modality == Modality.VISIBLE))
    backward = made["llcm-i2v"].trials(table)[0]
    np.testing.assert_array_equal(backward.query, np.flatnonzero(table.modality == Modality.INFRARED))


def test_rule_of_the_worked_example() -> None:
    """Example E of the literature sheet: only the gallery image of the same identity and camera leaves."""

    def table(*people: tuple[int, int]) -> ImageTable:
        return ImageTable.from_records(Path(), [Record("", i, c, Modality.VISIBLE) for i, c in people])

    hidden = same_sighting(table((1, 1), (2, 2)), table((1, 1), (1, 2), (2, 1), (2, 3), (3, 1)))
    assert hidden.tolist() == [[True, False, False, False, False], [False] * 5]


def test_worked_example_through_the_evaluator() -> None:
    """Example E: each gallery cell has one image, so every draw is the same gallery."""
    people = [(1, 1, 0), (2, 2, 0), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 3, 1), (3, 1, 1)]
    records = [Record(str(n), i, c, Modality(m)) for n, (i, c, m) in enumerate(people)]
    table = ImageTable.from_records(Path(), records)
    similarity = 0.5 * (1 - np.array([[0.1, 0.5, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.4, 0.5]]))
    gallery = np.vstack([similarity, np.sqrt(1 - (similarity**2).sum(axis=0))]).T
    features = np.vstack([np.eye(2, 3), gallery])
    report = evaluate(features, table, BENCHMARK.protocols(1)["llcm-v2i"], ranks=3)
    assert len(report.trials) == 10
    np.testing.assert_allclose(report.curve, [[0, 1 / 2, 1]] * 10)
    assert report.mean()["mAP"] == pytest.approx(3 / 8)
    assert report.mean()["mINP"] == pytest.approx(3 / 8)


@pytest.mark.parametrize(
    ("gone", "split", "message"),
    [
        ("test_vis/cam5", "test", r"test_vis/cam5: the camera folder is missing; LLCM has test_vis/cam1 to cam9"),
        (
            "test_nir",
            "test",
            r"test_nir: no such folder\. The root of LLCM must hold test_vis, test_nir, idx; it holds",
        ),
        ("idx/test_id.txt", "test", r"test_id\.txt: the split file is missing"),
        ("idx/train_nir.txt", "trainval", r"train_nir\.txt: the split list is missing"),
        ("nir", "trainval", r"nir: no such folder"),
        ("nir/0005/0005_c04_s200656_f4_nir.jpg", "trainval", r"train_nir\.txt, line 6: names nir/0005/0005_c04"),
    ],
)
def test_missing_parts(root: Path, gone: str, split: str, message: str) -> None:
    target = root / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(DatasetError, match=message):
        BENCHMARK.read(root, split, 1)  # type: ignore[arg-type]
    assert any(finding.severity == "error" for finding in BENCHMARK.inspect(root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"3, 8, 12, 700", r"test_id\.txt: names person 700, but no camera folder"),
        (b"3, eight", r"test_id\.txt: expected integers parted by commas, got 'eight'"),
        (b"\xff\xfe3", r"test_id\.txt: not a readable text file"),
        (b"", r"test_id\.txt: expected identities"),
    ],
)
def test_damaged_identity_list(root: Path, text: bytes, message: str) -> None:
    (root / "idx" / "test_id.txt").write_bytes(text)
    with pytest.raises(DatasetError, match=message):
        BENCHMARK.read(root, "test", 1)


def test_label_of_two_people(root: Path) -> None:
    file = root / "idx" / "train_vis.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], lines[4].rpartition(" ")[0] + " 0"]))
    with pytest.raises(DatasetError, match=r"train_vis\.txt, line 5: label 0 and folder 5 do not belong together"):
        BENCHMARK.read(root, "trainval", 1)


def test_people_in_training_and_test_are_found(root: Path) -> None:
    for word in ("vis", "nir"):
        file = root / "idx" / f"train_{word}.txt"
        (root / word / "0001").rename(root / word / "0003")
        file.write_text(file.read_text().replace(f"{word}/0001/", f"{word}/0003/"))
    (error,) = [finding.what for finding in BENCHMARK.inspect(root) if finding.severity == "error"]
    assert error == "The same people in training and test: 1 (3)."
