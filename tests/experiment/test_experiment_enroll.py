import pytest

from visir.core.errors import DatasetError
from visir.core.types import Modality
from visir.experiment.enroll import Known, collect


def test_a_data_set_brings_its_own_labels(tiny_sysu):
    found = collect([tiny_sysu], Known(camera=3))
    assert {entry.camera for entry in found.entries} == {3}
    assert {entry.modality for entry in found.entries} == {Modality.INFRARED}
    assert len(found.paths) == len(found.entries) > 0
    with pytest.raises(DatasetError, match="identity, taken_at cannot be given"):
        collect([tiny_sysu], Known(identity="bo", taken_at="2024-05-31T08:15:00Z"))
    with pytest.raises(DatasetError, match="expected pictures of camera 9, it has cameras 1, 2, 3, 4, 5, 6"):
        collect([tiny_sysu], Known(camera=9))


def test_plain_pictures_take_what_is_given(tiny_sysu, tmp_path):
    folder = next((tiny_sysu / "cam1").iterdir())
    found = collect([folder], Known(Modality.VISIBLE, camera=7, identity="bo"))
    assert {(entry.camera, entry.identity) for entry in found.entries} == {(7, "bo")}
    with pytest.raises(DatasetError, match="expected pictures, found none"):
        collect([tmp_path], Known(Modality.VISIBLE))
    with pytest.raises(DatasetError, match="no such file or folder"):
        collect([tmp_path / "none"], Known())
