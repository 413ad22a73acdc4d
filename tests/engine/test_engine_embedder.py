from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_toys import program

from visir.core.errors import CheckpointError, EvaluationError, ImageError, StorageError
from visir.core.types import Modality
from visir.data.images import Preprocess, decode, prepare
from visir.engine import checkpoint, encoders
from visir.engine.build import build, describe, seeded
from visir.engine.embedder import Embedder
from visir.engine.encoders import load_encoder, save_encoder
from visir.methods import catalog

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(small):
    method, events = program.train(small, "engine_toys.plain", epochs=1)
    last = [event.state() for event in events][-1]
    return method, last


def test_vectors_are_those_of_the_encoder_in_the_order_of_the_table(small, trained):
    method, _ = trained
    embedder = Embedder.of(method, device=CPU, batch=7)
    found = embedder.embed_table(small, workers=2, show_progress=False)
    pictures = [decode(small.file(i)) for i in range(len(small))]
    with torch.no_grad():
        expected = method.eval().encoder(prepare(pictures, Preprocess(16, 8)), torch.tensor(small.modality))
    expected = torch.nn.functional.normalize(expected).numpy()
    assert found.dtype == np.float32
    assert found.shape == (len(small), embedder.dim)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    visible = [picture for picture, kind in zip(pictures, small.modality, strict=True) if kind == 0]
    np.testing.assert_allclose(
        embedder.embed(iter(visible), Modality.VISIBLE), expected[small.modality == 0], atol=1e-6
    )
    assert embedder.embed([], Modality.INFRARED).shape == (0, embedder.dim)


def test_the_mode_of_every_part_is_given_back(small, trained):
    method, _ = trained
    method.train()
    method.encoder.body[1].eval()  # a frozen part
    Embedder.of(method, device=CPU).embed_table(small, show_progress=False)
    assert method.encoder.body[4].training
    assert not method.encoder.body[1].training


def test_a_saved_encoder_gives_the_same_vectors_and_name(small, trained, tmp_path):
    method, state = trained
    path = save_encoder(tmp_path / "encoder", method)
    checkpoint.save(tmp_path / "checkpoints", state)
    here = Embedder.of(method, device=CPU)
    vectors = here.embed_table(small, show_progress=False)
    kept = checkpoint.latest(tmp_path / "checkpoints")
    for place in (path, path.parent, tmp_path, kept, kept.parent):
        opened = Embedder.open(place, device=CPU)
        assert opened.fingerprint == here.fingerprint
        assert opened.preprocess == Preprocess(16, 8)
        assert np.array_equal(opened.embed_table(small, show_progress=False), vectors)
    path.unlink()
    assert Embedder.open(tmp_path, device=CPU).fingerprint == here.fingerprint  # from its checkpoint


def test_the_fingerprint_changes_with_anything_that_changes_vectors(trained):
    method, _ = trained
    weights, about, preprocess = method.encoder.state_dict(), describe(method), Preprocess(16, 8)
    base = encoders.fingerprint(weights, about, preprocess)
    moved = {**weights, "body.0.weight": weights["body.0.weight"] * 1.0001}
    assert encoders.fingerprint(moved, about, preprocess) != base
    assert encoders.fingerprint(weights, about, replace(preprocess, rule="nearest")) != base
    assert encoders.fingerprint(weights, {**about, "method": "other"}, preprocess) != base
    elsewhere = {**about, "config": {**about["config"], "weights": "imagenet"}}
    assert encoders.fingerprint(weights, elsewhere, preprocess) == base


def test_loading_never_fetches_pretrained_weights(small, tmp_path, monkeypatch):
    name = "engine_toys.plain"
    kind = catalog.find(name)
    method = build(name, kind.Config(weights="imagenet"), 6)
    path = save_encoder(tmp_path, method)
    asked = []
    monkeypatch.setattr(kind, "__init__", _noting(kind.__init__, asked))
    assert load_encoder(path).about["config"]["weights"] == "imagenet"
    assert asked == ["scratch"]


def _noting(usual, asked):
    def init(self, config, num_identities):
        asked.append(config.weights)
        usual(self, config, num_identities)

    return init


def test_damaged_and_foreign_files_are_told(trained, tmp_path):
    method, _ = trained
    with pytest.raises(CheckpointError, match="expected an encoder file, a checkpoint, or a run folder"):
        Embedder.open(tmp_path)
    path = save_encoder(tmp_path, method)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Embedder.open(tmp_path)


def test_an_encoder_of_an_unknown_method_or_option_is_told(trained, tmp_path, monkeypatch):
    method, _ = trained
    monkeypatch.setattr(type(method), "__module__", "lab.vanished")
    with pytest.raises(CheckpointError, match=r"cannot rebuild \(method 'lab.vanished': no such module"):
        load_encoder(save_encoder(tmp_path, method))
    monkeypatch.undo()
    about = describe(method)
    about["config"]["heads"] = 3
    monkeypatch.setattr(encoders, "describe", lambda method: about)
    with pytest.raises(CheckpointError, match="cannot rebuild .*unknown key 'heads'"):
        load_encoder(save_encoder(tmp_path, method))


def test_a_folder_that_cannot_be_written_is_told(trained, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="could not be written"):
        save_encoder(tmp_path / "file", trained[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_vectors_that_cannot_be_compared_are_told_with_their_image(small, value):
    broken = Embedder(_Constant(value), Preprocess(16, 8), "x", device=CPU, batch=4)
    with pytest.raises(EvaluationError, match=r"0_0_3\.png: the encoder gave a vector of length"):
        broken.embed_table(small, show_progress=False)
    with pytest.raises(EvaluationError, match="image 3: the encoder gave a vector"):
        broken.embed([np.zeros((9, 9, 3), np.uint8)] * 6, Modality.VISIBLE)


class _Constant(torch.nn.Module):
    dim = 2

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images, modality):
        vectors = torch.ones(len(images), 2)
        vectors[3:] = self.value
        return vectors


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_told(trained, picture):
    embedder = Embedder.of(trained[0], device=CPU)
    with pytest.raises(EvaluationError, match="image 1: expected an"):
        embedder.embed([np.zeros((4, 4, 3), np.uint8), picture], Modality.VISIBLE)


def test_a_damaged_image_is_named(small, trained, tmp_path):
    for path in small.root.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "14_1_2.png").write_bytes(b"GIF89a")
    with pytest.raises(ImageError, match=r"14_1_2\.png"):
        Embedder.of(trained[0], device=CPU).embed_table(program.read(tmp_path), show_progress=False)


def test_low_precision_is_near(small, trained):
    plain, low = (
        Embedder.of(trained[0], device=CPU, precision=precision).embed_table(small, show_progress=False)
        for precision in ("fp32", "bf16")
    )
    assert low.dtype == np.float32
    assert (plain * low).sum(1).min() > 0.999


def test_progress_is_shown_when_asked(small, trained, capsys):
    Embedder.of(trained[0], device=CPU, batch=10).embed_table(small)
    assert "embedding, 10 images at a time: 7/7" in capsys.readouterr().err


def test_initial_weights_depend_on_the_seed_alone():
    config = catalog.find("engine_toys.plain").Config()
    one, two, other = (build("engine_toys.plain", config, 6, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["encoder.body.0.weight"], other["encoder.body.0.weight"])
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded(0, "x"):
        torch.rand(3)
    assert torch.equal(torch.rand(2), expected)
