import json
import resource
import struct

import pytest
import torch
from engine_same import finish, same_bits
from engine_toys import program
from safetensors.torch import save_file

from visir.core.errors import CheckpointError, StorageError
from visir.engine import checkpoint, files


@pytest.fixture(scope="module")
def states(small):
    """The states after each of seven steps."""
    _, events = program.train(small, "engine_toys.gan", epochs=1)
    return [event.state() for event in events][:7]


def test_a_checkpoint_comes_back_bit_for_bit(states, tmp_path):
    path = checkpoint.save(tmp_path, states[3])
    assert path.name == "step-00000004.safetensors"
    same_bits(checkpoint.load(path), states[3])
    assert checkpoint.load(path).epoch == pytest.approx(4 / 7)


def test_the_newest_are_kept(states, tmp_path):
    for state in states:
        checkpoint.save(tmp_path, state, keep=3)
    assert [path.name[-13:-12] for path in sorted(tmp_path.iterdir())] == ["5", "6", "7"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-00000007.safetensors"


def test_nothing_saved_nothing_found(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "nowhere") is None
    (tmp_path / "step-0007.txt").write_text("no checkpoint")
    assert checkpoint.latest(tmp_path) is None


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:5]),
        lambda path: flip(path, -3),
        lambda path: flip(path, 30),
        lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"),
        lambda path: save_file({"a": torch.ones(2)}, path),
    ],
)
def test_a_damaged_one_is_named_and_the_one_before_is_used(states, tmp_path, damage):
    checkpoint.save(tmp_path, states[0])
    damaged = checkpoint.save(tmp_path, states[1])
    damage(damaged)
    with pytest.raises(CheckpointError, match=r"step-00000002\.safetensors"):
        checkpoint.load(damaged)
    with pytest.warns(UserWarning, match=r"left out: .*step-00000002\.safetensors"):
        found = checkpoint.latest(tmp_path)
    same_bits(checkpoint.load(found), states[0])


def test_another_kind_of_file_is_told(states, tmp_path):
    files.write(tmp_path / "step-00000009.safetensors", {"a": torch.ones(2)}, {"kind": "encoder"})
    with pytest.raises(CheckpointError, match="expected a training checkpoint, got 'encoder'"):
        checkpoint.load(tmp_path / "step-00000009.safetensors")


def test_a_full_disk_costs_nothing(states, tmp_path):
    """A limit on the size of files stands for a full disk: the system call that writes fails."""
    before = checkpoint.save(tmp_path, states[0])
    whole = before.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
    try:
        for state in (states[1], states[0]):
            with pytest.raises(StorageError, match="could not be written"):
                checkpoint.save(tmp_path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [before]
    assert before.read_bytes() == whole
    same_bits(checkpoint.load(checkpoint.latest(tmp_path)), states[0])


def test_the_file_is_plain_safetensors_with_a_json_header(states, tmp_path):
    path = checkpoint.save(tmp_path, states[2])
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["visir"])
    assert about["step"] == 3
    assert about["about"]["method"] == "engine_toys.gan"
    assert "model/generator.0.weight" in header
    assert "optimizer/generator/0/exp_avg" in header


def test_a_method_that_changed_is_told(states, small, tmp_path):
    state = checkpoint.load(checkpoint.save(tmp_path, states[2]))
    del state.tensors["model/generator.0.weight"]
    with pytest.raises(CheckpointError, match=r"does not fit the method: .*generator\.0\.weight"):
        program.train(small, "engine_toys.gan", resume=state)


def test_digests_see_names_shapes_types_and_bits():
    base = {"a": torch.zeros(4), "b": torch.ones(2, 3)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2, 3)},
        {"a": torch.zeros(4), "b": torch.ones(3, 2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2, 3)},
        {"a": torch.tensor([0.0, 0.0, 0.0, -0.0]), "b": torch.ones(2, 3)},
    ]
    assert files.digest(base) == files.digest({"b": torch.ones(3, 2).T.clone(), "a": torch.zeros(4)})
    assert len({files.digest(base), *map(files.digest, others), files.digest(base, "text")}) == 6


def test_a_state_of_the_end_is_saved_like_any_other(small, tmp_path):
    _, state = finish(program.train(small, "engine_toys.plain", epochs=1)[1])
    same_bits(checkpoint.load(checkpoint.save(tmp_path, state)), state)
