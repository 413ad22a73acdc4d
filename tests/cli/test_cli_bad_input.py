"""Bad input gets one sentence and exit code 2; nothing is lost and nothing half-written stays."""

import json
import shutil

import numpy as np
import pytest
import yaml


def refused(outcome, *words):
    """Exit code 2 and one line that says these words."""
    assert outcome.code == 2, (outcome.out, outcome.err)
    said = [line for line in outcome.err.splitlines() if line.startswith("visir: ")]
    assert len(said) == 1, outcome.err
    for word in words:
        assert word in said[0]
    assert "Traceback" not in outcome.err


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_wrong_roots(visir, tmp_path, tiny_config):
    refused(visir("data", "doctor", tmp_path / "none"), "no such folder")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "letters.txt").write_text("hello")
    refused(visir("train", tiny_config, "--root", tmp_path / "odd", "--run", tmp_path / "run"), "cam1")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("broken", "word"),
    [("cam3", "cam3"), ("exp/train_id.txt", "train_id"), ("exp/rand_perm_cam.mat", "rand_perm_cam.mat")],
)
def test_missing_parts_of_a_data_set(visir, tmp_path, tiny_sysu, tiny_config, tiny_run, broken, word):
    root = tmp_path / "sysu"
    shutil.copytree(tiny_sysu, root)
    target = root / broken
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    for stem in ("train_id.mat",):
        (root / "exp" / stem).unlink(missing_ok=True)
    if broken.endswith("cam.mat"):
        refused(visir("evaluate", tiny_run, "--root", root), word)
    else:
        refused(visir("train", tiny_config, "--root", root, "--run", tmp_path / "run"), word)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff half a picture"])
def test_damaged_images_are_named(visir, tmp_path, tiny_sysu, tiny_config, content):
    root = tmp_path / "sysu"
    shutil.copytree(tiny_sysu, root)
    training = sorted((root / "cam3").glob("*/0001.jpg"))
    for image in training:
        image.write_bytes(content)
    refused(visir("train", tiny_config, "--root", root, "--run", tmp_path / "run"), "cam3", ".jpg")


def test_configuration_mistakes(visir, tmp_path, tiny_config):
    run = ("--run", tmp_path / "run")
    refused(visir("train", tmp_path / "none.yaml", *run), "no such configuration file")
    refused(visir("train", tiny_config, "--set", "with.alhpa=2", *run), "Did you mean 'alpha'")
    refused(visir("train", tiny_config, "--set", "with.backbone=resnet51", *run), "resnet51")
    refused(visir("train", tiny_config, "--set", "method=dff", *run), "Did you mean 'dfe'")
    refused(visir("train", tiny_config, "--weights", tmp_path / "none.safetensors", *run), "none.safetensors")
    assert not (tmp_path / "run" / "encoder").exists()


def test_values_that_cannot_be(visir, tmp_path, tiny_config, tiny_run):
    run = ("--run", tmp_path / "run")
    for setting, word in {
        "with.recipe.momentum=0": "nesterov",
        "with.parts=0": "with.parts",
        "with.stream={": "YAML",
        "train.validate_every=-5": "validate_every",
        "benchmark.protocols=[sysu-all-1-draw]": "Did you mean",
        "seed=true": "seed",
    }.items():
        refused(visir("train", tiny_config, "--set", setting, *run), word.split(".")[0])
    refused(visir("train", tiny_config, "--device", "gpu", *run), "device")
    refused(visir("evaluate", tiny_run, "--device", "gpu"), "device")
    refused(visir("evaluate", tiny_run, "--device", "cuda:63"), "GPU")
    assert not (tmp_path / "run").exists()


def test_a_root_with_any_characters(visir, tmp_path, tiny_sysu, tiny_config):
    odd = tmp_path / "tw #1: a"
    odd.symlink_to(tiny_sysu)
    outcome = visir("train", tiny_config, "--root", odd, "--run", tmp_path / "run", "--set", "train.steps_per_epoch=1")
    assert outcome.code == 0, outcome.err
    stored = yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())
    assert stored["benchmark"]["root"] == str(odd)


def test_runs_that_are_none(visir, tmp_path, tiny_run):
    refused(visir("evaluate", tmp_path), "expected a run folder")
    refused(visir("report", tmp_path), "experiment.yaml is missing")
    refused(visir("evaluate", tiny_run, "--protocol", "sysu-all-2-official"), "Did you mean")
    (tmp_path / "run").mkdir()
    shutil.copy(tiny_run / "experiment.yaml", tmp_path / "run")
    refused(visir("evaluate", tmp_path / "run"), "encoder")


def test_a_damaged_encoder(visir, tmp_path, tiny_run):
    shutil.copytree(tiny_run / "encoder", tmp_path / "run" / "encoder")
    shutil.copy(tiny_run / "experiment.yaml", tmp_path / "run")
    (file,) = (tmp_path / "run" / "encoder").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(visir("evaluate", tmp_path / "run"), "damaged")


def test_a_checkpoint_of_another_experiment(visir, tmp_path, tiny_config, tiny_run):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = files(run)
    refused(visir("train", tiny_config, "--run", run, "--set", "with.beta=7"), "another experiment", "--fresh")
    assert files(run) == before


def test_nan_features(visir, tmp_path, tiny_sysu):
    values = np.zeros((2, 4), np.float32)
    values[1, 2] = np.nan
    np.savez(tmp_path / "f.npz", camera=[1, 3], person=[1, 1], image=[1, 1], feature=values)
    common = ("--protocol", "sysu-all-1-official", "--split", tiny_sysu / "exp")
    outcome = visir("score", tmp_path / "f.npz", *common)
    refused(outcome)
    (tmp_path / "half.npz").write_bytes((tmp_path / "f.npz").read_bytes()[:50])
    refused(visir("score", tmp_path / "half.npz", *common), "half.npz")
    refused(visir("score", tmp_path / "f.npz", "--protocol", "sysu-al-1-official", "--split", tmp_path), "Did you mean")


def test_a_gallery_of_another_encoder(visir, tmp_path, tiny_sysu, tiny_run, tiny_config):
    gallery, other = tmp_path / "g", tmp_path / "other"
    picture = next((tiny_sysu / "cam1").glob("*/0001.jpg"))
    arguments = (picture, "--modality", "visible", "--encoder")
    assert visir("gallery", "add", gallery, *arguments, tiny_run).code == 0
    assert visir("train", tiny_config, "--run", other, "--set", "seed=9").code == 0
    refused(visir("gallery", "add", gallery, *arguments, other), "encoder")
    refused(visir("search", picture, "--modality", "visible", "--gallery", gallery, "--encoder", other), "encoder")
    assert json.loads(visir("gallery", "status", gallery, "--json").out)["pictures"] == 1


def test_searches_that_cannot_be_answered(visir, tmp_path, tiny_sysu, tiny_run):
    picture = next((tiny_sysu / "cam1").glob("*/0001.jpg"))
    ask = ("search", picture, "--encoder", tiny_run, "--modality")
    refused(visir(*ask, "visible", "--gallery", tmp_path / "none"), "none")
    gallery = tmp_path / "g"
    assert visir("gallery", "add", gallery, picture, "--modality", "visible", "--encoder", tiny_run).code == 0
    refused(visir(*ask, "sonar", "--gallery", gallery), "expected 'visible' or 'infrared'")
    refused(visir(*ask, "visible", "--gallery", gallery, "-k", 0), "k")
    refused(visir(*ask, "visible", "--gallery", gallery, "--since", "yesterday"), "yesterday")
    (tmp_path / "empty.jpg").touch()
    bad = ("search", tmp_path / "empty.jpg", "--encoder", tiny_run, "--modality", "visible", "--gallery", gallery)
    refused(visir(*bad), "empty file")
    assert visir(*ask, "visible", "--gallery", gallery, "--camera", "one").code == 2


def test_galleries_say_when_nothing_was_done(visir, tmp_path, tiny_sysu, tiny_run):
    gallery = tmp_path / "g"
    (tmp_path / "empty.jpg").touch()
    picture = next((tiny_sysu / "cam1").glob("*/0001.jpg"))
    common = ("--modality", "visible", "--encoder", tiny_run)
    unreadable = visir("gallery", "add", gallery, tmp_path / "empty.jpg", *common)
    assert unreadable.code == 2
    assert "0 added" in unreadable.out
    assert visir("gallery", "add", gallery, picture, *common).code == 0
    refused(visir("gallery", "remove", gallery, "--identity", "nobody"), "no stored picture matches")
    refused(visir("gallery", "add", gallery, picture, *common, "--camera", -5), "camera")


def test_the_demo_never_writes_among_other_files(visir, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    refused(visir("demo", "--run", tmp_path), "no demo's")
    assert files(tmp_path) == ["mine.txt"]


def test_tables_name_images_only(visir, tmp_path):
    (tmp_path / "secret.txt").write_text("hello")
    (tmp_path / "index.csv").write_text("path,identity,modality\nsecret.txt,1,visible\n")
    refused(visir("data", "convert", tmp_path, tmp_path.parent / "out"), "expected the path of an image")


def test_a_twin_never_overwrites(visir, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    refused(visir("data", "make", tmp_path, "--size", "tiny"), str(tmp_path))
    assert files(tmp_path) == ["mine.txt"]
    refused(visir("data", "make", tmp_path / "new", "--size", "small"), "small")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train",), "visir: missing argument 'config'; 'visir train -h' tells what it takes."),
        (("train", "dfe/sysu_mm01", "--bogus"), "visir: no such option: --bogus; 'visir train -h' tells"),
        (("trian",), "visir: no such command 'trian'; did you mean 'train'; 'visir -h' tells"),
        (("reproduce", "dfe", "--parallel", "0"), "visir: invalid value for '--parallel'"),
        (("reproduce", "dfe", "--seeds"), "visir: Option '--seeds' requires an argument."),
    ],
)
def test_a_wrong_command_line_gets_one_sentence(visir, words, told):
    outcome = visir(*words)
    assert outcome.code == 2
    assert outcome.err.startswith(told)
    assert outcome.err.count("\n") == 1
    assert not outcome.out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected 'key: value' lines; the file is empty."),
        ("method: dfe\nwith: [1,\n", ", line 3: expected YAML, got: "),
        ("just words\n", "expected 'key: value' lines, got 'just words'."),
    ],
)
def test_a_damaged_experiment_file_is_told_with_its_line(visir, tmp_path, text, told):
    (tmp_path / "one.yaml").write_text(text)
    outcome = visir("train", tmp_path / "one.yaml")
    assert outcome.code == 2
    assert told in outcome.err
    assert outcome.err.count("\n") == 1


def test_an_interrupted_command_says_that_it_stopped(visir, monkeypatch):
    from visir.experiment import config

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(config, "load", interrupted)
    outcome = visir("train", "dfe/sysu_mm01")
    assert (outcome.code, outcome.err) == (130, "visir: stopped; what was finished is kept.\n")
