import numpy as np
import pytest

from visir.core.errors import DatasetError
from visir.core.types import ImageTable, Modality, Record


def table(tmp_path, n=4):
    records = [Record(f"a/{i}.jpg", identity=10 * (i % 2), camera=i + 1, modality=Modality(i % 2)) for i in range(n)]
    return ImageTable.from_records(tmp_path, records)


def test_rows_survive_the_columns(tmp_path):
    made = table(tmp_path)
    assert made.row(3) == Record("a/3.jpg", 10, 4, Modality.INFRARED)
    assert made.file(2) == tmp_path / "a" / "2.jpg"
    assert made.labels().tolist() == [0, 1, 0, 1]
    assert made.summary() == {"images": 4, "visible": 2, "infrared": 2, "identities": 2, "cameras": 4}


def test_take_by_rows_and_by_mask_agree(tmp_path):
    made = table(tmp_path)
    by_rows, by_mask = made.take(np.array([0, 2])), made.of(Modality.VISIBLE)
    assert by_rows.paths == by_mask.paths == ("a/0.jpg", "a/2.jpg")
    assert made.take(np.array([2, 0])).camera.tolist() == [3, 1]
    assert len(made.take(np.array([], np.int64))) == 0


def test_columns_are_checked_and_read_only(tmp_path):
    with pytest.raises(DatasetError, match="expected 2 values in 'camera', got 1"):
        ImageTable(tmp_path, ("a", "b"), np.array([1, 2]), np.array([1]), np.array([0, 1]))
    with pytest.raises(DatasetError, match="modalities 0"):
        ImageTable(tmp_path, ("a",), np.array([1]), np.array([1]), np.array([2]))
    with pytest.raises(ValueError, match="read-only"):
        table(tmp_path).identity[0] = 5


def test_a_table_does_not_follow_the_array_it_was_made_of(tmp_path):
    identity = np.array([1, 2])
    made = ImageTable(tmp_path, ("a", "b"), identity, np.array([1, 1]), np.array([0, 1]))
    identity[0] = 9
    assert made.identity.tolist() == [1, 2]


@pytest.mark.parametrize("word", ["infrared", "IR", " nir ", "Thermal"])
def test_modality_words(word):
    assert Modality.parse(word) is Modality.INFRARED
    assert Modality.parse(word).other is Modality.VISIBLE


def test_unknown_modality_word():
    with pytest.raises(DatasetError, match="got 'sonar'"):
        Modality.parse("sonar")
