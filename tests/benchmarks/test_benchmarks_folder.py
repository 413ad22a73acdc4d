"""The ``folder`` benchmark: two plain folders, CSV and Parquet tables, splits, the ``exclude`` rule, bad tables."""

from __future__ import annotations

import builtins
import datetime
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tiny_layouts import picture, write_folder
from visir.benchmarks.folder import BENCHMARK, same_exclude
from visir.core.errors import DatasetError
from visir.core.types import ImageTable, Modality, Record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "mine")


HEADER = "path,identity,camera,modality,time,track,exclude,split"


def write_table(root: Path, lines: Sequence[str], header: str = HEADER) -> Path:
    for number in range(6):
        picture(root / f"images/{number}.png")
    (root / "index.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


FULL = [
    "images/0.png,anna,4,visible,2024-05-31T10:15:00+02:00,t1,a,train",
    "images/1.png,anna,5,ir,2024-05-31 08:15:00,t2,a,train",
    "images/2.png,berta,4,rgb,,,,val",
    "images/3.png,berta,5,NIR,,,,validation",
    "images/4.png,carla,,thermal,,,b,test",
    '"images/5.png",carla,,visible,2024-05-31T08:15:00Z,,-1,test',
]


def test_two_plain_folders(root: Path) -> None:
    table = BENCHMARK.read(root, "test", 1)
    assert table.paths[:3] == ("visible/alice/0.png", "visible/alice/1.png", "visible/bob/0.png")
    assert table.identity.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2
    assert table.camera.tolist() == [1] * 8 + [2] * 8
    assert table.modality.tolist() == [0] * 8 + [1] * 8
    assert set(table.exclude) == {-1}  # equal file names exclude nothing: that would leave no match


def test_whole_numbers_stay_and_are_ordered_as_numbers(tmp_path: Path) -> None:
    table = BENCHMARK.read(write_folder(tmp_path, ["10", "0002", "7"]), "test", 1)
    assert table.identity.tolist() == [2, 2, 7, 7, 10, 10] * 2
    assert table.paths[0] == "visible/0002/0.png"


def test_names_that_would_be_one_number_are_ranked(tmp_path: Path) -> None:
    table = BENCHMARK.read(write_folder(tmp_path, ["7", "07", "8"], images=1), "test", 1)
    assert [(path.split("/")[1], number) for path, number in zip(table.paths, table.identity, strict=True)][:3] == [
        ("07", 0),
        ("7", 1),
        ("8", 2),
    ]


def test_everything_is_test_and_training_parts_it(tmp_path: Path) -> None:
    root = write_folder(tmp_path, [f"m{n:04d}" for n in range(20)], images=1)
    whole, train, held = (BENCHMARK.read(root, split, 1) for split in ("trainval", "train", "validation"))
    assert whole.paths == BENCHMARK.read(root, "test", 1).paths
    assert len(held.identities()) == 3
    assert sorted(train.paths + held.paths) == sorted(whole.paths)
    assert not set(train.identities()) & set(held.identities())


def test_a_person_of_one_modality_stays_and_is_never_held_out(root: Path) -> None:
    shutil.rmtree(root / "infrared" / "bob")
    assert 1 in BENCHMARK.read(root, "test", 1).identities()
    assert 1 not in BENCHMARK.read(root, "validation", 1).identities()


def test_table_columns(tmp_path: Path) -> None:
    root = write_table(tmp_path, FULL)
    table = BENCHMARK.read(root, "trainval", 1)
    assert [table.row(i) for i in range(4)] == [
        Record("images/0.png", 0, 4, Modality.VISIBLE, 0, "2024-05-31T08:15:00Z", "t1"),
        Record("images/1.png", 0, 5, Modality.INFRARED, 0, "2024-05-31T08:15:00Z", "t2"),
        Record("images/2.png", 1, 4, Modality.VISIBLE),
        Record("images/3.png", 1, 5, Modality.INFRARED),
    ]
    test = BENCHMARK.read(root, "test", 1)
    assert [test.row(i) for i in range(2)] == [
        Record("images/4.png", 2, 2, Modality.INFRARED, 1),
        Record("images/5.png", 2, 1, Modality.VISIBLE, -1, "2024-05-31T08:15:00Z"),
    ]
    assert BENCHMARK.read(root, "train", 1).paths == ("images/0.png", "images/1.png")
    assert BENCHMARK.read(root, "validation", 1).paths == ("images/2.png", "images/3.png")
    assert BENCHMARK.read(root / "index.csv", "test", 1).paths == test.paths


def test_table_with_train_and_test_only_holds_out_training_people(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    lines = []
    for person in range(8):
        for modality in ("visible", "infrared"):
            path = picture(tmp_path / f"{person}{modality}.png").name
            lines.append(f"{path},{person},{modality},{'train' if person < 6 else 'test'}")
    write_table(tmp_path, lines, "path,identity,modality,split")
    train, held = (BENCHMARK.read(tmp_path, split, 1) for split in ("train", "validation"))
    assert (len(train.identities()), len(held.identities())) == (4, 2)
    assert set(BENCHMARK.read(tmp_path, "test", 1).identities()) == {6, 7}


def test_absolute_paths_and_other_columns(tmp_path: Path) -> None:
    image = picture(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "here"
    root.mkdir()
    (root / "index.csv").write_text(f"Path, Identity ,modality,weather\n{image},7,ir,rain\n")
    table = BENCHMARK.read(root, "test", 1)
    assert table.file(0) == image
    assert table.identity.tolist() == [7]


@pytest.mark.parametrize("missing_numbers_as_floats", [False, True])
def test_parquet_equals_csv(tmp_path: Path, missing_numbers_as_floats: bool) -> None:
    by_csv = BENCHMARK.read(write_table(tmp_path / "csv", FULL), "trainval", 1)
    shutil.copytree(tmp_path / "csv" / "images", tmp_path / "parquet" / "images")
    values = [line.replace('"', "").split(",") for line in FULL]
    columns: dict[str, Any] = {name: [v[i] for v in values] for i, name in enumerate(HEADER.split(","))}
    columns["camera"] = [int(text) if text else None for text in columns["camera"]]
    if missing_numbers_as_floats:
        columns["camera"] = [float("nan") if value is None else float(value) for value in columns["camera"]]
    moments = [datetime.datetime.fromisoformat(text) if text else None for text in columns["time"]]
    columns["time"] = [moment and moment.replace(tzinfo=moment.tzinfo or datetime.UTC) for moment in moments]
    columns["track"] = [text or None for text in columns["track"]]
    pq.write_table(pa.table(columns), tmp_path / "parquet" / "index.parquet")
    by_parquet = BENCHMARK.read(tmp_path / "parquet", "trainval", 1)
    assert [by_parquet.row(i) for i in range(4)] == [by_csv.row(i) for i in range(4)]


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.parquet").write_bytes(b"")
    real = builtins.__import__

    def without_pyarrow(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(DatasetError, match=r"index\.parquet: reading Parquet needs pyarrow: pip install"):
        BENCHMARK.read(tmp_path, "test", 1)


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "index.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DatasetError, match=r"index\.parquet: not a readable Parquet file"):
        BENCHMARK.read(tmp_path, "test", 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/0.png,a,1,visible", r"line 2: expected 8 values, got 4"),
        ("images/0.png,,1,visible,,,,", r"line 2: 'path' and 'identity' must not be empty"),
        ("images/0.png,-1,1,visible,,,,", r"line 2: expected a name or a number from 0 as identity, got -1"),
        ("images/0.png,a,one,visible,,,,", r"line 2: expected a whole number from 0 as camera, got 'one'"),
        ("images/0.png,a,1,green,,,,", r"line 2: modality: expected 'visible' or 'infrared', got 'green'"),
        ("images/0.png,a,1,visible,noon,,,", r"line 2: expected a time such as .*, got 'noon'"),
        ("images/0.png,a,1,visible,,,,tset", r"line 2: unknown split 'tset'\. Did you mean 'test'"),
        ("images/9.png,a,1,visible,,,,", r"line 2: names the image images/9\.png, but there is no"),
        ('images/0.png,"a,1,visible,,,,', r"line \d: not readable as CSV"),
    ],
)
def test_damaged_rows_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DatasetError, match=r"index\.csv, " + message):
        BENCHMARK.read(write_table(tmp_path, [line]), "test", 1)


def test_more_damaged_tables(tmp_path: Path) -> None:
    def reading(lines: Sequence[str], header: str = HEADER) -> None:
        BENCHMARK.read(write_table(tmp_path, lines, header), "test", 1)

    with pytest.raises(DatasetError, match=r"index\.csv: the column 'modality' is missing"):
        reading([], "path,identity,camera")
    with pytest.raises(DatasetError, match=r"unknown column 'exlude'; it is close to 'exclude'"):
        reading([], "path,identity,modality,exlude")
    with pytest.raises(DatasetError, match=r"the column 'path' is there twice"):
        reading([], "path,identity,modality,path")
    with pytest.raises(DatasetError, match=r"expected a line for each image"):
        reading([])
    with pytest.raises(DatasetError, match=r"line 3: images/0\.png is also in line 2"):
        reading(["images/0.png,a,1,visible,,,,"] * 2)
    with pytest.raises(DatasetError, match=r"line 3: the column 'split' is empty here and filled elsewhere"):
        reading(["images/0.png,a,1,visible,,,,test", "images/1.png,a,1,ir,,,,"])
    with pytest.raises(DatasetError, match=r"no image of the split 'test'; the column 'split' has train"):
        reading(["images/0.png,a,1,visible,,,,train"])
    (tmp_path / "index.csv").write_bytes(b"path,identity,modality\nimages/0.png,Zo\xeb,ir\n")
    with pytest.raises(DatasetError, match=r"index\.csv, line 2: expected UTF-8 text"):
        BENCHMARK.read(tmp_path, "test", 1)
    (tmp_path / "index.parquet").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holds index\.csv and index\.parquet"):
        BENCHMARK.read(tmp_path, "test", 1)


def test_missing_folders(root: Path) -> None:
    shutil.rmtree(root / "infrared")
    with pytest.raises(
        DatasetError, match=r"infrared: no such folder\. .* must hold visible, infrared; it holds visible"
    ):
        BENCHMARK.read(root, "test", 1)
    shutil.rmtree(root / "visible")
    for top in ("visible", "infrared"):
        (root / top).mkdir()
    with pytest.raises(DatasetError, match=r"no images\. Expected visible/<identity>/<image>"):
        BENCHMARK.read(root, "test", 1)


def test_protocols_ask_infrared_first(root: Path) -> None:
    table = BENCHMARK.read(root, "test", 1)
    made = BENCHMARK.protocols(1)
    assert list(made) == ["folder-i2v", "folder-v2i"]
    (trial,) = made["folder-i2v"].trials(table)
    np.testing.assert_array_equal(trial.query, np.arange(8, 16))
    np.testing.assert_array_equal(trial.gallery, np.arange(8))
    (back,) = made["folder-v2i"].trials(table)
    np.testing.assert_array_equal(back.query, trial.gallery)
    assert BENCHMARK.validation(1).name == "folder-i2v-validation"
    assert {protocol.cmc for protocol in made.values()} == {"image"}


def test_exclude_hides_equal_values_and_minus_one_none() -> None:
    def table(*values: int) -> ImageTable:
        return ImageTable.from_records(Path(), [Record("", 0, 1, Modality.VISIBLE, v) for v in values])

    hidden = same_exclude(table(3, -1, 0), table(-1, 3, 0, 3))
    assert hidden.tolist() == [[False, True, False, True], [False] * 4, [False, False, True, False]]
    assert BENCHMARK.protocols(1)["folder-i2v"].hidden is same_exclude


def test_findings(root: Path) -> None:
    assert [finding.severity for finding in BENCHMARK.inspect(root)] == ["note"]
    picture(root / "visible" / "loose.png")
    picture(root / "infrared" / "alice" / "deeper" / "0.png")
    (root / "visible" / "bob" / "Thumbs.db").write_bytes(b"x")
    said = {finding.what for finding in BENCHMARK.inspect(root)}
    assert "Images directly in visible: 1; expected one folder for each identity." in said
    assert "alice in infrared holds folders." in said
    assert "Stray files among the images: 1 (Thumbs.db)." in said


def test_findings_of_a_table(tmp_path: Path) -> None:
    root = write_table(tmp_path, [*FULL[:5], FULL[5].replace("carla", "anna")])
    write_folder(root, ["zoe"])
    said = {finding.what for finding in BENCHMARK.inspect(root)}
    assert "Identities in the split test and in another one: 1 (anna)." in said
    assert "Images in visible or infrared that the table does not name, so not used: 4." in said


@pytest.mark.parametrize("column", ["identity", "camera", "exclude"])
def test_numbers_too_large_for_a_table_do_not_overflow(tmp_path, column):
    huge = "9" * 20
    values = {"identity": "1", "camera": "1", "exclude": "4", column: huge}
    rows = [f"{m}.png,{values['identity']},{values['camera']},{m},{values['exclude']}" for m in ("visible", "infrared")]
    (tmp_path / "index.csv").write_text("path,identity,camera,modality,exclude\n" + "\n".join(rows) + "\n")
    for modality in ("visible", "infrared"):
        Image.new("RGB", (4, 8)).save(tmp_path / f"{modality}.png")
    if column == "camera":
        with pytest.raises(DatasetError, match="as camera"):
            BENCHMARK.read(tmp_path, "test", 1)
    else:
        assert len(BENCHMARK.read(tmp_path, "test", 1)) == 2
