"""SYSU-MM01: reading, the official and the seeded galleries, and what the doctor is told."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from visir.benchmarks.sysu_mm01 import BENCHMARK
from visir.core.errors import DatasetError
from visir.core.types import ImageTable, Modality
from visir.evaluation.evaluate import evaluate, evaluate_many
from visir.evaluation.protocol import Protocol

# Worked example: person -> camera -> images. Person 2 is seen by camera 3 and, in the same room, by camera 2.
EXAMPLE = {1: {1: 3, 3: 2, 4: 2, 6: 1}, 2: {2: 2, 3: 1, 5: 1}, 3: {4: 2, 6: 2}}
TRAIN = {4: {1: 2, 3: 2}, 5: {2: 2, 6: 2}, 6: {5: 1, 6: 1}}
VALIDATION = {7: {1: 2, 3: 2}, 8: {2: 2, 6: 2}}
IDENTITIES = 8


def permutations(people: dict[int, dict[int, int]], trials: int = 10) -> np.ndarray:
    """Six cells of one cell a person of (trials, n) permutations, as in the authors' file."""
    cameras = np.empty((6, 1), object)
    for camera in range(1, 7):
        cells = np.empty((IDENTITIES, 1), object)
        for person in range(1, IDENTITIES + 1):
            images = people.get(person, {}).get(camera, 0)
            rng = np.random.default_rng(100 * camera + person)
            rows = [rng.permutation(images) + 1 for _ in range(trials if images else 0)]
            cells[person - 1, 0] = np.array(rows, np.uint8).reshape(len(rows), images)
        cameras[camera - 1, 0] = cells
    return cameras


def write_sysu(root: Path) -> Path:
    """The layout with empty files: reading looks at names alone."""
    everyone = {**EXAMPLE, **TRAIN, **VALIDATION}
    for camera in range(1, 7):
        for person, seen in everyone.items():
            for number in range(1, seen.get(camera, 0) + 1):
                path = root / f"cam{camera}" / f"{person:04d}" / f"{number:04d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    (root / "exp").mkdir()
    (root / "exp" / "train_id.txt").write_text("4,5,6\n")
    (root / "exp" / "val_id.txt").write_text("7, 8,")
    (root / "exp" / "test_id.txt").write_text("1,2\n3 ,\n")
    scipy.io.savemat(root / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": permutations(everyone)})
    counts = {"identities_test": 3, "cam1": 7}
    (root / "visir-twin.json").write_text(json.dumps({"layout": "sysu_mm01", "counts": counts}))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_sysu(tmp_path / "SYSU")


def protocol(name: str) -> Protocol:
    return BENCHMARK.protocols(1)[name]


def cells(table: ImageTable, rows: np.ndarray) -> list[tuple[int, int]]:
    return [(int(table.identity[i]), int(table.camera[i])) for i in rows]


def random_features(table: ImageTable) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((len(table), 8)).astype(np.float32)


def test_reading(root):
    test = BENCHMARK.read(root, "test", 1)
    assert test.paths[:4] == ("cam1/0001/0001.jpg", "cam1/0001/0002.jpg", "cam1/0001/0003.jpg", "cam2/0002/0001.jpg")
    assert list(test.paths) == sorted(test.paths)
    assert test.identities().tolist() == [1, 2, 3]
    assert [int(m) for m in test.modality] == [
        Modality.INFRARED if c in (3, 6) else Modality.VISIBLE for c in test.camera
    ]
    assert BENCHMARK.read(root, "train", 1).identities().tolist() == [4, 5, 6]
    assert BENCHMARK.read(root, "validation", 1).identities().tolist() == [7, 8]
    assert BENCHMARK.read(root, "trainval", 1).identities().tolist() == [4, 5, 6, 7, 8]


def test_lists_are_read_from_matlab_files_too(root):
    (root / "exp" / "test_id.txt").unlink()
    scipy.io.savemat(root / "exp" / "test_id.mat", {"id": np.array([[1, 2, 3]], np.uint16)})
    assert BENCHMARK.read(root, "test", 1).identities().tolist() == [1, 2, 3]


def test_example_h_official(root):
    table = BENCHMARK.read(root, "test", 1)
    order = permutations({**EXAMPLE, **TRAIN, **VALIDATION})
    for mode, expected in (("all", [(1, 1), (2, 2), (1, 4), (3, 4), (2, 5)]), ("indoor", [(1, 1), (2, 2)])):
        trials = protocol(f"sysu-{mode}-1-official").trials(table)
        assert [trial.name for trial in trials] == [str(t) for t in range(1, 11)]
        for t, trial in enumerate(trials):
            assert cells(table, trial.gallery) == expected
            assert len(trial.query) == 6
            for row, (person, camera) in zip(trial.gallery, expected, strict=True):
                number = int(order[camera - 1, 0][person - 1, 0][t, 0])
                assert table.paths[row] == f"cam{camera}/{person:04d}/{number:04d}.jpg"
    reports = evaluate_many(
        random_features(table),
        table,
        [protocol("sysu-all-1-official"), protocol("sysu-indoor-1-official")],
        device="cpu",
    )
    assert [(r.scored, r.unscored) for r in reports] == [(6, 0), (3, 3)]


def test_example_h_seeded(root):
    table = BENCHMARK.read(root, "test", 1)
    for mode, expected in (("all", [(1, 1), (1, 4), (2, 2), (2, 5), (3, 4)]), ("indoor", [(1, 1), (2, 2)])):
        trials = protocol(f"sysu-{mode}-1-seeded").trials(table)
        assert [trial.name for trial in trials] == [str(t) for t in range(10)]
        assert all(cells(table, trial.gallery) == expected for trial in trials)
    ten = protocol("sysu-all-10-seeded").trials(table)[0]
    assert sorted(ten.gallery.tolist()) == np.flatnonzero(table.modality == 0).tolist(), "all there are, if fewer"


def test_seeded_draw_is_the_global_generator_but_disturbs_nobody(root):
    table = BENCHMARK.read(root, "test", 1)
    random.seed(77)
    before = random.getstate()
    trials = protocol("sysu-all-1-seeded").trials(table)
    assert random.getstate() == before
    for seed, trial in enumerate(trials):
        random.seed(seed)
        names = []
        for person in (1, 2, 3):
            for camera in (1, 2, 4, 5):
                folder = root / f"cam{camera}" / f"{person:04d}"
                if folder.is_dir():
                    names.append(random.choice(sorted(str(path) for path in folder.iterdir())))
        assert [str(table.file(row)) for row in trial.gallery] == names


def test_galleries_do_not_depend_on_the_order_of_the_table(root):
    table = BENCHMARK.read(root, "test", 1)
    moved = table.take(np.random.default_rng(1).permutation(len(table)))
    for name in BENCHMARK.protocols(1):
        for one, other in zip(protocol(name).trials(table), protocol(name).trials(moved), strict=True):
            assert [table.paths[i] for i in one.gallery] == [moved.paths[i] for i in other.gallery]
            assert {table.paths[i] for i in one.query} == {moved.paths[i] for i in other.query}


def test_camera_three_does_not_see_camera_two(root):
    table = BENCHMARK.read(root, "test", 1)
    hidden = protocol("sysu-all-1-official").hidden(table, table)
    assert hidden.sum() == (table.camera == 3).sum() * (table.camera == 2).sum() > 0
    assert hidden[table.camera == 3][:, table.camera == 2].all()


def test_validation_is_held_out_training_people(root):
    table = BENCHMARK.read(root, "validation", 1)
    chosen = BENCHMARK.validation(1)
    assert chosen.name not in BENCHMARK.protocols(1)
    report = evaluate(random_features(table), table, chosen, device="cpu")
    assert report.scored + report.unscored == (table.modality == 1).sum() == 4


def test_the_default_protocol_is_first():
    assert next(iter(BENCHMARK.protocols(1))) == "sysu-all-1-official"
    assert len(BENCHMARK.protocols(1)) == 8


def test_split_files_may_lie_in_the_root_itself(root, tmp_path):
    table = BENCHMARK.read(root, "test", 1)
    (tmp_path / "split").mkdir()
    for name in ("rand_perm_cam.mat", "test_id.txt"):
        (root / "exp" / name).rename(tmp_path / "split" / name)
    elsewhere = ImageTable(tmp_path / "split", table.paths, table.identity, table.camera, table.modality)
    assert len(protocol("sysu-all-1-official").trials(elsewhere)[0].gallery) == 5


def test_training_people_in_the_features_are_left_out_of_the_test(root):
    test, train = (BENCHMARK.read(root, split, 1) for split in ("test", "train"))
    records = [table.row(i) for table in (train, test) for i in range(len(table))]
    both = ImageTable.from_records(root, records)
    for name in BENCHMARK.protocols(1):
        for one, other in zip(protocol(name).trials(test), protocol(name).trials(both), strict=True):
            assert [test.paths[i] for i in one.gallery] == [both.paths[i] for i in other.gallery]
            assert [test.paths[i] for i in one.query] == [both.paths[i] for i in other.query]


def test_a_missing_permutation_file_names_the_alternative(root):
    table = BENCHMARK.read(root, "test", 1)
    (root / "exp" / "rand_perm_cam.mat").unlink()
    with pytest.raises(DatasetError, match=r"rand_perm_cam.mat: .*missing.*sysu-all-1-seeded"):
        protocol("sysu-all-1-official").trials(table)
    assert protocol("sysu-all-1-seeded").trials(table)


def other_permutations(root: Path, content: object) -> None:
    path = root / "exp" / "rand_perm_cam.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged"),
        (b"MATLAB 5.0 MAT-file" + bytes(300), "damaged"),
        ({"something": np.ones(3)}, "expected a variable 'rand_perm_cam'"),
        ({"rand_perm_cam": np.ones((6, 1))}, "expected cells of permutations for 6 cameras, got 6"),
        ({"rand_perm_cam": permutations({**EXAMPLE})[:5]}, "expected cells of permutations for 6 cameras, got 5"),
        ({"rand_perm_cam": np.array([["a"] * 6], object)}, "holds something else"),
        ({"rand_perm_cam": permutations(EXAMPLE, trials=3)}, "identity 1 in camera 1 has 3 permutations, of 10"),
        (
            {"rand_perm_cam": permutations({**EXAMPLE, 1: {1: 2, 4: 2}})},
            "identity 1 in camera 1 has 3 images, of 2 that are permuted",
        ),
        (
            {"rand_perm_cam": permutations({2: EXAMPLE[2]})},
            "identity 1 in camera 1 has 3 images, of 0 that are permuted",
        ),
    ],
)
def test_permutations_that_do_not_fit_are_refused(root, content, words):
    other_permutations(root, content)
    with pytest.raises(DatasetError, match=words) as caught:
        protocol("sysu-all-1-official").trials(BENCHMARK.read(root, "test", 1))
    assert "rand_perm_cam.mat" in str(caught.value)
    assert any("rand_perm_cam.mat" in f.what + f.path and f.severity == "error" for f in BENCHMARK.inspect(root))


def test_a_table_without_some_test_people_is_no_official_score(root):
    table = BENCHMARK.read(root, "test", 1)
    part = table.take(table.identity != 2)
    for name in ("sysu-all-1-official", "sysu-all-1-seeded"):
        with pytest.raises(DatasetError, match=r"1 of 3 test identities have no image in the table \(2\)"):
            protocol(name).trials(part)


def findings(root: Path) -> str:
    return "\n".join(f"{f.severity}: {f.what} {f.repair} {f.path}" for f in BENCHMARK.inspect(root))


def test_a_whole_set_has_only_expected_findings(root):
    (root / "cam1" / "0003").mkdir()  # a folder without images is no fault of numbering
    assert findings(root) == ""
    assert BENCHMARK.recognise(root)
    assert BENCHMARK.count(root) == {
        "identities_train": 3, "identities_validation": 2, "identities_test": 3,
        "cam1": 7, "cam2": 6, "cam3": 7, "cam4": 4, "cam5": 2, "cam6": 8,
    }  # fmt: skip


def test_real_sets_are_held_against_the_published_counts(root):
    (root / "visir-twin.json").unlink()
    said = findings(root)
    assert "warning: identities_test: expected 96, found 3." in said
    assert "warning: cam6: expected 5,980, found 8." in said
    assert "note: rand_perm_cam.mat is not the published file" in said


def remove(path: Path) -> None:
    for inner in sorted(path.rglob("*"), reverse=True):
        inner.rmdir() if inner.is_dir() else inner.unlink()
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda r: remove(r / "cam5"), "error: cam5 is missing."),
        (lambda r: remove(r / "exp"), "error: exp is missing."),
        (lambda r: remove(r / "exp" / "val_id.txt"), "val_id.txt: the split file is missing, and so is val_id.mat"),
        (lambda r: (r / "exp" / "test_id.txt").write_text("1,two"), "expected integers parted by commas, got 'two'"),
        (lambda r: (r / "exp" / "test_id.txt").write_text(" ,\n"), "got an empty file"),
        (
            lambda r: (r / "exp" / "test_id.txt").write_text("1,2,3,4"),
            "error: 1 people are in train_id and test_id (4).",
        ),
        (
            lambda r: (r / "exp" / "test_id.txt").write_text("1,2,3,9"),
            "error: 1 people of the test list have no image (0009)",
        ),
        (lambda r: remove(r / "exp" / "rand_perm_cam.mat"), "warning: "),
        (lambda r: (r / "cam1" / "0001" / "Thumbs.db").touch(), "Thumbs.db"),
        (lambda r: (r / "cam1" / "0001" / "._0001.jpg").touch(), "._0001.jpg"),
        (lambda r: remove(r / "cam1" / "0001" / "0002.jpg"), "cam1: images of 1 people are not numbered 0001, 0002"),
        (lambda r: remove(r / "cam4" / "0003" / "0002.jpg"), "cam4/0003 has 1 images, of 2"),
        (lambda r: (r / "cam4" / "0003" / "0003.jpg").touch(), "cam4/0003 has 3 images, of 2"),
        (
            lambda r: remove(r / "cam6" / "0003"),
            "warning: 1 people of the test list have images of one modality only (0003)",
        ),
        (lambda r: (r / "cam1" / "someone").mkdir(), "cam1/someone is no identity of four digits"),
        (lambda r: (r / "cam1" / "0001.jpg").touch(), "cam1"),
    ],
)
def test_findings(root, damage, expected):
    damage(root)
    assert expected in findings(root)


def test_wrong_nesting_is_found(root, tmp_path):
    (tmp_path / "outer").mkdir()
    root.rename(tmp_path / "outer" / "SYSU-MM01")
    said = findings(tmp_path / "outer")
    assert "error: The data set lies one folder deeper, in SYSU-MM01." in said
    assert not BENCHMARK.recognise(tmp_path / "outer")


@pytest.mark.parametrize("broken", ["cam4", "exp"])
def test_reading_without_a_folder_tells_what_is_there(root, broken):
    remove(root / broken)
    with pytest.raises(DatasetError, match=f"{broken}: no such folder.*it holds"):
        BENCHMARK.read(root, "test", 1)


def test_a_split_without_images_is_an_error(root):
    (root / "exp" / "test_id.txt").write_text("91,92")
    with pytest.raises(DatasetError, match="none of the 2 identities of 'test' has an image; expected .*cam1/0091"):
        BENCHMARK.read(root, "test", 1)


def test_lists_that_matlab_stored_as_doubles(tmp_path):
    from visir.benchmarks._files import read_id_list

    scipy.io.savemat(tmp_path / "test_id.mat", {"id": np.array([[3.0, 11.0]])})
    assert read_id_list(tmp_path, "test_id") == [3, 11]
    scipy.io.savemat(tmp_path / "test_id.mat", {"id": np.array([[3.5]])})
    with pytest.raises(DatasetError, match=r"got '3\.5'"):
        read_id_list(tmp_path, "test_id")


def test_strays_beside_the_identity_folders_are_named(tiny_sysu, tmp_path):
    root = tmp_path / "sysu"
    shutil.copytree(tiny_sysu, root)
    (root / "cam1" / "Thumbs.db").touch()
    assert [finding.what for finding in BENCHMARK.inspect(root)] == ["Stray files among the images: 1 (Thumbs.db)."]
