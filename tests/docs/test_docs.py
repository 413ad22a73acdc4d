"""The documents are true: every command in them runs, every Python block compiles, every link leads somewhere.

Commands of one document run in order, in one folder, on tiny twins that stand in for the real data sets.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
SMALL = [
    "with.backbone=resnet10t",
    "with.stream.height=32",
    "with.stream.width=16",
    "train.epochs=1",
    "train.steps_per_epoch=2",
    "train.workers=0",
    "train.precision=fp32",
]
SMALLER = {
    "dfe": ["with.dim=8", "with.stream.draw.pairs=4"],
    "center": ["with.stream.draw.identities=4"],
    "d2rl": ["with.backbone=tiny", "with.width=4", "with.translation_epochs=0.3", "with.warmup_epochs=0.3"],
    "cyclegan": ["with.width=4", "with.blocks=1", "with.stream.augment.enlarge=4"],
    "ce2l": ["with.dim=8", "with.stream.draw.identities=4", "with.stream.augment.enlarge=4"],
}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands(path: Path) -> list[str]:
    return [line[2:] for block in blocks(path, "console") for line in block.splitlines() if line.startswith("$ ")]


def ids(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_sysu, tiny_regdb, tiny_llcm):
    """A folder as a user would have it, with stand-ins for the real data sets under real/."""
    (tmp_path / "real").mkdir()
    for name, twin in {"SYSU-MM01": tiny_sysu, "RegDB": tiny_regdb, "LLCM": tiny_llcm}.items():
        (tmp_path / "real" / name).symlink_to(twin)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests" / "contract"))
    return tmp_path


def prepare(path: Path, folder: Path) -> None:
    """What a document takes from the one before it: a trained run, or the file it shows."""
    from visir.experiment.config import load
    from visir.experiment.evaluate import evaluate_run
    from visir.experiment.folder import RunFolder
    from visir.experiment.shipped import find_config
    from visir.experiment.train import train

    if path.name in {"evaluation.md", "gallery.md"}:
        settings = [*SMALL, *SMALLER["dfe"], "benchmark.root=real/SYSU-MM01"]
        train(load(find_config("dfe/sysu_mm01"), settings), folder / "runs" / "dfe", device="cpu")
    if path.name == "evaluation.md":  # the runs it is compared with: of other seeds and losses, with the same features
        evaluate_run(folder / "runs" / "dfe", device="cpu")
        weak = ["with.beta=0", "with.gamma=0"]
        for name, extra in {"dfe-1": ["seed=1"], "baseline": weak, "baseline-1": ["seed=1", *weak]}.items():
            other = RunFolder(folder / "runs" / name)
            other.write_experiment(load(find_config("dfe/sysu_mm01"), [*settings, *extra]))
            for file in ("features.npz", "scores.json"):
                shutil.copy(folder / "runs" / "dfe" / file, other.path)
    if path.name == "reproducing.md":
        for name, text in zip(("ablation.yaml", "dfe.yaml"), blocks(path, "yaml"), strict=True):
            (folder / name).write_text(text.replace("/data/", "real/"))
    if path.name == "adding-a-method.md":
        (folder / "data").mkdir()
        (folder / "data" / "twin").symlink_to(folder / "real" / "SYSU-MM01")
        (folder / "center_pull.yaml").write_text(blocks(path, "yaml")[0])


def small_converter(folder: Path) -> Path:
    """In place of the converter that a file of CE2L names."""
    from visir.experiment.config import load
    from visir.experiment.shipped import find_config

    experiment = load(find_config(Path("cyclegan/sysu_mm01")), [*SMALL, *SMALLER["cyclegan"]])
    file = folder / "converter.yaml"
    file.write_text(yaml.safe_dump(experiment.resolved()))
    return file


def shortened(words: list[str]) -> list[str]:
    """One row and a few steps of a table or an ablation; the whole of it is another test's."""
    if "--twin" in words:
        return ["--system", "dfe/full"]
    sizes = SMALLER["dfe"] if words[1] == "ablate" else ["with.stream.draw.identities=4"]
    only = [] if words[1] == "ablate" else ["--system", "base_derivative/b1"]
    return [*only, *(part for setting in [*SMALL, *sizes] for part in ("--set", setting))]


def run(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visir.cli import main

    words = shlex.split(command.replace("/data/", "real/"))
    if words[:3] == ["cd", "visir"] or words[0] == "git":
        return  # about getting the repository, checked by whoever reads this file from it
    if words[0] == "make":
        assert (
            subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, check=False, capture_output=True).returncode == 0
        )
        return
    if words[0] == "torchrun":
        launch = words.index("visir") + 1
        small = [part for setting in [*SMALL, *SMALLER["dfe"]] for part in ("--set", setting)]
        launched = [sys.executable, "-m", "torch.distributed.run", *words[1:launch], *words[launch:], *small]
        done = subprocess.run(launched, cwd=folder, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("trained. Next") == 1
        return
    assert words[0] == "visir", command
    if words[1] == "train":
        extra = [*SMALL, *SMALLER[next(name for name in SMALLER if name in words[2])]]
        if "ce2l" in words[2] and not any("benchmark.converted" in word for word in words):
            extra.append(f"benchmark.converter={small_converter(folder)}")
        words = [w for w in words if w != "--pretrained"] + [part for s in extra for part in ("--set", s)]
    if words[1] in ("reproduce", "ablate"):
        words += shortened(words)
    expanded = [str(p) for w in words for p in (sorted(folder.glob(w)) if "*" in w else [w])]
    monkeypatch.setattr(sys, "argv", expanded)
    with pytest.raises(SystemExit) as stopped:
        main()
        raise SystemExit(0)
    assert not stopped.value.code, command


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if commands(p)], ids=ids)
def test_every_command_runs(path, folder, monkeypatch):
    prepare(path, folder)
    for command in commands(path):
        run(command, folder, monkeypatch)


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_python_blocks_compile_and_links_lead_somewhere(path):
    for block in blocks(path, "python"):
        compile(block, str(path), "exec")
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"
    assert not re.findall(r"`(benchmarks/\w+\.py)`", text) or all(
        (REPOSITORY / script).is_file() for script in re.findall(r"(benchmarks/bench_\w+\.py)", text)
    )


def test_the_method_of_the_document_is_the_one_that_is_tested():
    shown = blocks(REPOSITORY / "docs" / "adding-a-method.md", "python")[0]
    tested = (REPOSITORY / "tests" / "contract" / "mylab" / "center_pull.py").read_text(encoding="utf-8")
    assert shown == tested


def test_the_benchmark_of_the_document_works(tmp_path, monkeypatch):
    (tmp_path / "mylab_docs").mkdir()
    (tmp_path / "mylab_docs" / "corridor.py").write_text(
        blocks(REPOSITORY / "docs" / "adding-a-benchmark.md", "python")[0]
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from visir.benchmarks import catalog
    from visir.evaluation.evaluate import evaluate

    benchmark = catalog.find("mylab_docs.corridor")
    images = tmp_path / "images"
    images.mkdir()
    for person in range(8):
        for camera in (1, 2, 9):
            Image.new("RGB", (8, 16)).save(images / f"{person}_{camera}_0.jpg")
    (tmp_path / "train.txt").write_text("0\n1\n2\n3\n4\n")
    assert benchmark.recognise(tmp_path)
    assert not benchmark.inspect(tmp_path)
    parts = {split: set(benchmark.read(tmp_path, split, 1).identity) for split in ("train", "validation", "test")}
    assert parts == {"train": {1, 2, 3, 4}, "validation": {0}, "test": {5, 6, 7}}
    table = benchmark.read(tmp_path, "test", 1)
    features = np.eye(8)[table.identity]
    report = evaluate(features, table, benchmark.protocols(1)["corridor-i2v"])
    assert report.mean()["rank1"] == report.mean()["mAP"] == 1.0
