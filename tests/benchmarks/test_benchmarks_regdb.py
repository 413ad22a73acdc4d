"""RegDB: what is read, in which order, how it is parted, and what is said of damaged lists."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tiny_layouts import picture, regdb_partition, write_regdb, write_regdb_matrix
from visir.benchmarks.regdb import BENCHMARK
from visir.core.errors import ConfigError, DatasetError
from visir.core.types import ImageTable, Modality, Record
from visir.evaluation.evaluate import evaluate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_regdb(tmp_path / "RegDB")


def rows(table: ImageTable) -> list[tuple[str, int, int, int]]:
    return list(zip(table.paths, table.identity.tolist(), table.camera.tolist(), table.modality.tolist(), strict=True))


def test_rows_keep_the_order_of_the_lists_and_the_folder_numbers(root: Path) -> None:
    expected = []
    for top, modality in (("Visible", 0), ("Thermal", 1)):
        for line in (root / "idx" / f"test_{top.lower()}_3.txt").read_text().splitlines():
            path = line.split(" ")[0]
            expected.append((path, int(path.split("/")[1]), modality + 1, modality))
    assert rows(BENCHMARK.read(root, "test", 3)) == expected


@pytest.mark.parametrize("draw", [1, 7, 10])
def test_people_of_training_and_test_never_share_a_number(root: Path, draw: int) -> None:
    train, test = (BENCHMARK.read(root, split, draw) for split in ("trainval", "test"))
    assert set(train.identities()) == set(regdb_partition(8, draw)[0])
    assert set(test.identities()) == set(regdb_partition(8, draw)[1])
    assert train.labels().max() == 3


def test_validation_is_a_stable_part_of_the_training_people(tmp_path: Path) -> None:
    root = write_regdb(tmp_path / "RegDB", people=80, images=1)
    whole, train, held = (BENCHMARK.read(root, split, 1) for split in ("trainval", "train", "validation"))
    assert len(held.identities()) == 6  # 15 % of 40
    assert set(train.identities()) | set(held.identities()) == set(whole.identities())
    assert not set(train.identities()) & set(held.identities())
    assert held.paths == BENCHMARK.read(root, "validation", 1).paths
    order = {path: place for place, path in enumerate(whole.paths)}
    assert [order[path] for path in train.paths] == sorted(order[path] for path in train.paths)


def test_too_few_people_to_hold_any_out(tmp_path: Path) -> None:
    root = write_regdb(tmp_path / "RegDB", people=4)
    assert len(BENCHMARK.read(root, "trainval", 1)) == 8
    with pytest.raises(DatasetError, match=r"at least 3 identities .* got 2.*trainval"):
        BENCHMARK.read(root, "validation", 1)


@pytest.mark.parametrize("place", ["RegDB_split.mat", "idx/RegDB_split.mat"])
def test_missing_lists_are_rebuilt_from_the_split_matrix(root: Path, place: str) -> None:
    listed = [rows(BENCHMARK.read(root, split, 4)) for split in ("trainval", "test")]
    shutil.rmtree(root / "idx")
    (root / "idx").mkdir()
    write_regdb_matrix(root / place)
    rebuilt = [rows(BENCHMARK.read(root, split, 4)) for split in ("trainval", "test")]
    assert [sorted(part) for part in rebuilt] == [sorted(part) for part in listed]
    assert rebuilt[1] == sorted(rebuilt[1], key=lambda row: (row[3], row[1], row[0]))


def test_matrix_naming_an_absent_person(root: Path) -> None:
    shutil.rmtree(root / "idx")
    write_regdb_matrix(root / "RegDB_split.mat", people=20)
    with pytest.raises(DatasetError, match=r"RegDB_split\.mat: row 1 of 'T\w+Idx' names person \d+, who has no images"):
        BENCHMARK.read(root, "test", 1)


def test_converted_copies_with_another_suffix_are_found(tmp_path: Path) -> None:
    root = write_regdb(tmp_path / "RegDB")
    expected = [path.replace(".bmp", ".png") for path in BENCHMARK.read(root, "test", 1).paths]
    for path in list(root.rglob("*.bmp")):
        path.unlink()
        picture(path.with_suffix(".png"))
    table = BENCHMARK.read(root, "test", 1)
    assert list(table.paths) == expected
    assert all(table.file(i).is_file() for i in range(len(table)))


def test_backslashes_byte_order_mark_and_windows_line_ends(root: Path) -> None:
    expected = BENCHMARK.read(root, "test", 1).paths
    for word in ("visible", "thermal"):
        file = root / "idx" / f"test_{word}_1.txt"
        text = "\r\n".join("./" + line.replace("/", "\\") for line in file.read_text().splitlines())
        file.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    assert BENCHMARK.read(root, "test", 1).paths == expected


def test_protocols(root: Path) -> None:
    made = BENCHMARK.protocols(1)
    assert list(made) == ["regdb-t01-v2t-img", "regdb-t01-t2v-img", "regdb-t01-v2t-id", "regdb-t01-t2v-id"]
    assert [protocol.cmc for protocol in made.values()] == ["image", "image", "identity", "identity"]
    assert next(iter(BENCHMARK.protocols(10))) == "regdb-t10-v2t-img"
    table = BENCHMARK.read(root, "test", 1)
    (forth,), (back,) = (made[f"regdb-t01-{way}-img"].trials(table) for way in ("v2t", "t2v"))
    np.testing.assert_array_equal(forth.query, np.arange(8))
    np.testing.assert_array_equal(forth.gallery, np.arange(8, 16))
    np.testing.assert_array_equal(forth.query, back.gallery)
    np.testing.assert_array_equal(forth.gallery, back.query)
    assert forth.name == "1"


def test_no_camera_rule_ever_hides_anything(root: Path) -> None:
    table = BENCHMARK.read(root, "test", 1)
    for protocol in BENCHMARK.protocols(1).values():
        (trial,) = protocol.trials(table)
        assert not protocol.hidden(table.take(trial.query), table.take(trial.gallery)).any()
    assert set(table.of(Modality.VISIBLE).camera) == {1}  # never 2 against 3, as SYSU-MM01 numbers them
    assert set(table.of(Modality.INFRARED).camera) == {2}


@pytest.mark.parametrize(("level", "curve"), [("img", [0, 0, 1 / 2, 1 / 2, 1, 1]), ("id", [0, 1 / 2, 1, 1, 1, 1])])
def test_worked_example_at_both_levels_of_the_curve(level: str, curve: list[float]) -> None:
    """Example F: the two published lines differ in the curve alone."""
    records = [Record(f"v{n}", 1, 1, Modality.VISIBLE) for n in range(2)]
    records += [Record(f"t{n}", identity, 2, Modality.INFRARED) for n, identity in enumerate((2, 2, 2, 3, 1, 1))]
    similarity = 0.5 * (1 - np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.1, 0.2, 0.5, 0.6, 0.3, 0.7]]))
    gallery = np.vstack([similarity, np.sqrt(1 - (similarity**2).sum(axis=0))]).T
    table = ImageTable.from_records(Path(), records)
    features = np.vstack([np.eye(2, 3), gallery])
    report = evaluate(features, table, BENCHMARK.protocols(1)[f"regdb-t01-v2t-{level}"], ranks=6)
    np.testing.assert_allclose(report.curve, [curve])
    assert report.mean()["mAP"] == pytest.approx(3 / 10)
    assert report.mean()["mINP"] == pytest.approx(1 / 3)


def test_the_published_size_raises_no_finding(tmp_path: Path) -> None:
    root = write_regdb(tmp_path / "RegDB", people=412, images=10)
    assert BENCHMARK.inspect(root) == []
    assert BENCHMARK.count(root) == BENCHMARK.published
    for split in ("trainval", "test"):
        assert len(BENCHMARK.read(root, split, 10)) == 4120  # type: ignore[arg-type]
    (trial,) = BENCHMARK.protocols(1)["regdb-t01-t2v-id"].trials(BENCHMARK.read(root, "test", 1))
    assert (len(trial.query), len(trial.gallery)) == (2060, 2060)


def test_validation_protocol_scores_the_held_out_people_under_its_own_name(root: Path) -> None:
    protocol = BENCHMARK.validation(2)
    assert protocol.name == "regdb-t02-v2t-img-validation"
    held = BENCHMARK.read(root, "validation", 2)
    (trial,) = protocol.trials(held)
    assert set(held.identity[trial.query]) == set(held.identity[trial.gallery])
    assert set(held.modality[trial.query]) == {Modality.VISIBLE}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"Visible/1/male_v_00000_1.bmp", r"line 2: expected 'Visible/<identity>/<image> <label>', got"),
        (b"Visible/1/male_v_00000_1.bmp x7", r"line 2: expected a whole number as label, got 'x7'"),
        (b"Visible/1/male_v_00000_1.bmp -1", r"line 2: expected a whole number as label, got '-1'"),
        (b"Thermal/1/male_t_00000_1.bmp 0", r"line 2: expected 'Visible/"),
        (b"Visible/one/a.bmp 0", r"line 2: expected 'Visible/"),
        (b"/etc/passwd 0", r"line 2: expected 'Visible/"),
        (b"Visible/../../a.bmp 0", r"line 2: expected 'Visible/"),
        (b"Visible/1/nobody.bmp 0", r"line 2: names Visible/1/nobody\.bmp, which is not below .*RegDB"),
        (b"Visible/1/m\xff\xfe.bmp 0", r"line 2: expected UTF-8 text"),
        (b"Visible/{other}/male_v_00000_{other}.bmp 0", r"line 2: label 0 and folder \d+ do not belong together"),
    ],
)
def test_damaged_lines_name_file_and_line(root: Path, line: bytes, message: str) -> None:
    file = root / "idx" / "test_visible_1.txt"
    lines = file.read_bytes().splitlines()
    lines[1] = line.replace(b"{other}", str(regdb_partition(8, 1)[0][0]).encode())
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(DatasetError, match=r"test_visible_1\.txt, " + message):
        BENCHMARK.read(root, "test", 1)


def test_lists_of_the_two_modalities_must_mean_the_same_people(root: Path) -> None:
    file = root / "idx" / "test_thermal_1.txt"
    shifted = [f"{line.split()[0]} {(int(line.split()[1]) + 1) % 4}" for line in file.read_text().splitlines()]
    file.write_text("\n".join(shifted))
    with pytest.raises(DatasetError, match=r"test_thermal_1\.txt, line 1: label 1 and folder"):
        BENCHMARK.read(root, "test", 1)


def test_empty_list(root: Path) -> None:
    (root / "idx" / "test_visible_1.txt").write_text("\n\n")
    with pytest.raises(DatasetError, match=r"test_visible_1\.txt: expected lines .* got an empty file"):
        BENCHMARK.read(root, "test", 1)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("idx/test_thermal_1.txt", r"test_thermal_1\.txt: the split list is missing.*RegDB_split\.mat"),
        ("idx", r"test_visible_1\.txt: the split list is missing"),
        ("Thermal", r"Thermal: no such folder\. The root of RegDB must hold Visible, Thermal; it holds Visible, idx"),
        (".", r"The root of RegDB must hold Visible, Thermal; it holds nothing"),
    ],
)
def test_missing_parts(root: Path, gone: str, message: str) -> None:
    target = root / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(DatasetError, match=message):
        BENCHMARK.read(root, "test", 1)


def test_damaged_matrix(root: Path) -> None:
    shutil.rmtree(root / "idx")
    (root / "RegDB_split.mat").write_bytes(b"not a matrix at all")
    with pytest.raises(DatasetError, match=r"RegDB_split\.mat: damaged"):
        BENCHMARK.read(root, "test", 1)


@pytest.mark.parametrize(("split", "draw"), [("test", 0), ("test", 11), ("tset", 1)])
def test_splits_and_draws_that_do_not_exist(root: Path, split: str, draw: int) -> None:
    with pytest.raises(ConfigError, match=re.compile("from 1 to 10|Did you mean 'test'")):
        BENCHMARK.read(root, split, draw)  # type: ignore[arg-type]


def test_people_in_training_and_test_are_found(root: Path) -> None:
    assert [finding.severity for finding in BENCHMARK.inspect(root)].count("error") == 0
    for word in ("visible", "thermal"):
        shutil.copy(root / "idx" / f"train_{word}_5.txt", root / "idx" / f"test_{word}_5.txt")
    (error,) = [finding.what for finding in BENCHMARK.inspect(root) if finding.severity == "error"]
    people = ", ".join(str(person) for person in sorted(regdb_partition(8, 5)[0]))
    assert error == f"Partition 5 has the same people in training and test: 4 ({people})."
