"""Feature files, ours and other programs', and reports as text."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from visir.core.errors import EvaluationError, StorageError
from visir.core.types import ImageTable, Modality
from visir.evaluation.report import METRICS, Report
from visir.evaluation.scorefile import format_report, load_features, save_features

NUMBERED = {
    "camera": np.array([1, 3, 1], np.int16),
    "person": np.array([6, 6, 12]),
    "image": np.array([1, 1, 1]),
    "feature": np.ones((3, 4), np.float32),
}


def test_ours_there_and_back(tmp_path):
    table = ImageTable(
        Path("/data/set"),
        ("a/ä.jpg", "b.png"),
        np.array([3, -1]),
        np.array([1, 2]),
        np.array([0, 1]),
        np.array([-1, 5]),
    )
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_features(tmp_path / "deep" / "f.npz", features, table)
    back, same = load_features(tmp_path / "deep" / "f.npz")
    np.testing.assert_array_equal(back, features)
    assert back.dtype == np.float32
    assert [same.row(i) for i in range(2)] == [table.row(i) for i in range(2)]
    assert same.root == table.root
    assert load_features(tmp_path / "deep" / "f.npz", tmp_path)[1].root == tmp_path


def test_wrong_numbers_of_rows_write_nothing(tmp_path):
    table = ImageTable(Path(), ("a",), np.array([1]), np.array([1]), np.array([0]))
    with pytest.raises(EvaluationError, match="expected 1 rows of features, got 2"):
        save_features(tmp_path / "f.npz", np.ones((2, 3)), table)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        save_features(tmp_path / "file" / "f.npz", np.ones((1, 3)), table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_numbered_features_become_paths(tmp_path):
    np.savez(tmp_path / "f.npz", **NUMBERED)
    features, table = load_features(tmp_path / "f.npz", tmp_path / "split")
    assert features.shape == (3, 4)
    assert table.paths == ("cam1/0006/0001.jpg", "cam3/0006/0001.jpg", "cam1/0012/0001.jpg")
    assert table.modality.tolist() == [Modality.VISIBLE, Modality.INFRARED, Modality.VISIBLE]
    assert table.root == tmp_path / "split"
    assert load_features(tmp_path / "f.npz")[1].root == tmp_path


@pytest.mark.parametrize("images", [3, 10_001])
def test_numbered_images_are_in_order_of_number_when_sorted_by_path(tmp_path, images):
    numbers = np.random.default_rng(0).permutation(images) + 1
    ones = np.ones(images, np.int64)
    np.savez(tmp_path / "f.npz", camera=ones, person=ones, image=numbers, feature=np.ones((images, 1), np.float32))
    _, table = load_features(tmp_path / "f.npz")
    assert [path for _, path in sorted(zip(numbers.tolist(), table.paths, strict=True))] == sorted(table.paths)
    shifted = {"camera": ones, "person": 7 * ones, "image": numbers + 1, "feature": np.ones((images, 1), np.float32)}
    np.savez(tmp_path / "f.npz", **shifted)
    with pytest.raises(EvaluationError, match=f"person 7 in camera 1 to be numbered 1 to {images},.* got {images + 1}"):
        load_features(tmp_path / "f.npz")


OURS = {
    "features": np.ones((2, 3), np.float32),
    "path": np.array(["a", "b"]),
    "identity": np.array([1, 2]),
    "camera": np.array([1, 2]),
    "modality": np.array([0, 1]),
}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.ones(3)}, "expected the arrays camera, person, image, feature, or features, path, .*; it holds x"),
        ({}, "it holds nothing"),
        ({**NUMBERED, "camera": np.ones(2, np.int64)}, "expected 3 whole numbers in 'camera'"),
        ({**NUMBERED, "person": np.ones(3)}, "expected 3 whole numbers in 'person'.*float64"),
        ({**NUMBERED, "image": np.array([0, 1, 2])}, "expected numbers from 1 in 'image', got 0"),
        (
            {**NUMBERED, "camera": np.ones(3, int), "person": np.ones(3, int)},
            "image 1 of person 1 in camera 1 is given twice",
        ),
        (
            {**NUMBERED, "image": np.array([1, 2, 1])},
            "images of person 6 in camera 3 to be numbered 1 to 1, as many as there are, got 2",
        ),
        ({**NUMBERED, "feature": np.ones(3)}, "floats as features"),
        ({**NUMBERED, "feature": np.ones((3, 4), np.int64)}, "floats as features"),
        ({**NUMBERED, "feature": np.array([{}] * 3)}, "plain arrays"),
        ({**OURS, "modality": np.array([0, 2])}, "modalities 0"),
        ({**OURS, "path": np.array(["a"])}, "expected 2 values in 'path'"),
        ({**OURS, "identity": np.array(["1", "2"])}, "whole numbers in 'identity'"),
        ({**OURS, "exclude": np.array([1])}, "whole numbers in 'exclude'"),
        ({k: v for k, v in OURS.items() if k != "camera"}, "expected the arrays"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(EvaluationError, match=words) as caught:
        load_features(tmp_path / "f.npz")
    assert "f.npz" in str(caught.value)


@pytest.mark.parametrize("part", [0, 1, 30, 200, 0.5, 0.95, -1])
def test_damaged_files_are_refused(tmp_path, part):
    path = tmp_path / "f.npz"
    np.savez(path, **NUMBERED)
    whole = path.read_bytes()
    cut = int(part * len(whole)) if isinstance(part, float) else part
    path.write_bytes(whole[:cut])
    with pytest.raises(EvaluationError, match="f.npz"):
        load_features(path)


@pytest.mark.parametrize("place", range(0, 1100, 23))
def test_flipped_bytes_are_refused_or_harmless(tmp_path, place):
    path = tmp_path / "f.npz"
    np.savez(path, **NUMBERED)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 0xFF
    path.write_bytes(content)
    said = "f.npz is harmless"
    try:
        load_features(path)
    except EvaluationError as error:  # any other kind fails the test
        said = str(error)
    assert "f.npz" in said


def test_missing_files_and_other_formats_are_refused(tmp_path):
    with pytest.raises(EvaluationError, match="no such file"):
        load_features(tmp_path / "f.npz")
    np.save(tmp_path / "f.npy", np.ones(3))
    with pytest.raises(EvaluationError, match="f.npy"):
        load_features(tmp_path / "f.npy")


def test_a_report_in_three_formats():
    trials = tuple(
        {"trial": str(t), **dict.fromkeys(METRICS, v), "scored": 3, "unscored": 0, "ties": 0}
        for t, v in ((1, 1 / 3), (2, 2 / 3))
    )
    report = Report("sysu-all-1-official", "identity", "cosine", trials, np.ones((2, 20)))
    rows = list(csv.reader(io.StringIO(format_report(report, "csv"))))
    assert rows[0] == ["trial", "rank1", "rank5", "rank10", "rank20", "mAP", "mINP"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "mean", "std"]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx([1 / 3, 2 / 3, 1 / 2, 1 / 6], abs=1e-15)
    assert json.loads(format_report(report, "json")) == report.as_dict()
    assert "sysu-all-1-official" in format_report(report)
    with pytest.raises(EvaluationError, match="table, json or csv"):
        format_report(report, "xml")  # type: ignore[arg-type]
