"""What a reproduction refuses before anything is made, in one sentence; and what it does with damaged files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from small_ablation import finish, own, pretend, report, rows

from visir.benchmarks import catalog as benchmarks
from visir.core.errors import CheckpointError, ConfigError, DatasetError
from visir.experiment.ablation import read_ablation
from visir.experiment.folder import RunFolder
from visir.reproduce import places, planning
from visir.reproduce.command import Request, run_ablation, run_tables
from visir.reproduce.jobs import Job, Setup, jobs
from visir.reproduce.locks import FOLDER, hold
from visir.reproduce.places import name_data
from visir.reproduce.pretraining import pretrained
from visir.reproduce.run import BUSY, run_job, run_jobs
from visir.twin import Size

DFE = ("reproduce", "dfe")
PROTOCOL = "sysu-all-1-official"


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data set from the environment; relative places are in the test's own folder."""
    for name in ("SYSU_MM01", "REGDB", "LLCM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained: every run is finished at once."""
    monkeypatch.setattr(planning, "run_jobs", pretend)


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": ("seed=3",)}, "--set seed=3: seed cannot be set; give --seeds"),
        ({"settings": ("benchmark.root=/x",)}, "benchmark.root cannot be set; give --root"),
        ({"settings": ("benchmark.draw=2",)}, "benchmark.draw cannot be set; give --draws"),
        ({"settings": ("method=agw",)}, "method cannot be set; the rows name their methods"),
        ({"settings": ("published=tone",)}, "published cannot be set"),
        ({"settings": ("train={}",)}, "'train' is a whole section"),
        ({"settings": ("train.epochs",)}, "expected dotted.key=value"),
        ({"settings": ("=3",)}, "--set =3: expected dotted.key=value"),
        ({"settings": ("train..epochs=3",)}, "expected dotted.key=value"),
        ({"settings": ("train.epochs={",)}, "expected a YAML value"),
        ({"devices": ("cpu", "gpu")}, "--device gpu: device: expected auto, cpu, cuda or cuda:N"),
        ({"pretrained": True, "twin": "tiny"}, "--pretrained and --twin tiny: the small network"),
        (
            {"pretrained": True, "settings": ("with.weights=scratch",)},
            "with.weights=scratch and --pretrained: give one",
        ),
        ({"benchmarks": ("llcm",)}, "these rows are not on 'llcm'. Known: regdb, sysu_mm01"),
    ],
)
def test_options_that_no_row_could_run_with(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    request = replace(Request(twin="tiny"), **changes)  # type: ignore[arg-type]
    for run in (lambda: run_tables("dfe", (), (), request), lambda: run_ablation(Path("dfe/ablation"), (), request)):
        with pytest.raises(ConfigError, match=re.escape(message)):
            run()
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "with.alpha=2",
            r"with.alpha=2 does not fit .*hog/euclidean.* and \d+ more \(.*unknown key 'alpha'.*\). "
            r"It fits dfe/baseline.*: choose rows that it fits with --system",
        ),
        ("with.zzz=2", r"--set with.zzz=2 fits none of these rows \(.*unknown key 'zzz'"),
        ("with.recipe.momentum=0", r"fits none of these rows \((?!hog).*recipe"),
    ],
)
def test_a_setting_that_does_not_fit_some_rows_names_them(setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run_tables("dfe", ("table1",), (), Request(twin="tiny", settings=("train.epochs=2", setting)))
    assert left(tmp_path) == []


def test_a_network_that_is_not_there_is_told_before_any_row_runs(tmp_path: Path) -> None:
    for run in (
        lambda request: run_tables("dfe", ("table1",), ("dfe/full",), request),
        lambda request: run_ablation(Path("dfe/ablation"), ("full",), request),
    ):
        with pytest.raises(ConfigError, match="dfe/full on .*: unknown backbone 'zzz'"):
            run(Request(twin="tiny", settings=("with.backbone=zzz",)))
    assert left(tmp_path) == []


def test_rows_that_nothing_runs(tmp_path: Path, tiny_regdb: Path) -> None:
    for words, message in {
        ("collected", "llcm-released"): "collected llcm-released: visir runs none of these rows",
        ("dfe", "table1"): "no data set at hand: these rows need SYSU-MM01, --root gave RegDB. Their authors",
    }.items():
        with pytest.raises(ConfigError, match=message):
            run_tables(words[0], words[1:], (), Request(roots=(tiny_regdb,)))
    with pytest.raises(ConfigError, match="nothing to run; no row is left"):
        request = Request(twin="tiny", benchmarks=("sysu_mm01",))
        run_ablation(Path("dfe/ablation"), ("original-proportion",), request)
    assert left(tmp_path) == []


def test_systems_are_found_with_hyphens_and_the_nearest_of_the_method_is_named(pretending: None) -> None:
    for name, message in {
        "dfe": "unknown system 'dfe'. Did you mean 'dfe/full'? Known: dfe/baseline, dfe/full, dfe/original-proportion",
        "DFE/full": "Did you mean 'dfe/full'? 'visir list' shows all.",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            run_tables("dfe", (), (name,), Request(twin="tiny"))
    with pytest.raises(ConfigError, match="no data set at hand"):
        run_tables("base-derivative", (), ("base-derivative/full",), Request())


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(ConfigError, match="--output: expected a folder, .*file is a file"):
            run_tables("dfe", (), (), Request(twin="tiny", output=output))
    for document, message in {
        tmp_path: "expected the name of a file to write, got a folder",
        Path(): "expected the name of a file to write, got a folder",
        tmp_path / "file" / "page.md": "--document: expected a folder, .*file is a file",
        tmp_path / "file": "was not written by visir and would be replaced",
    }.items():
        with pytest.raises(ConfigError, match=message):
            run_tables("dfe", (), (), Request(twin="tiny", document=document))
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["results.md", "results.csv", "results.tex", "results.html"])
def test_results_of_something_else_are_never_replaced(
    name: str, tmp_path: Path, tiny_sysu: Path, pretending: None
) -> None:
    file = own(tmp_path, tiny_sysu)
    run_ablation(file, (), Request(output=tmp_path / "out"))
    run_ablation(file, (), Request(output=tmp_path / "out", document=tmp_path / "out" / "results.md"))
    (tmp_path / "out" / name).write_bytes(b"\xffmine")
    with pytest.raises(ConfigError, match=f"its {name} was not written by visir"):
        run_ablation(file, (), Request(output=tmp_path / "out"))
    assert (tmp_path / "out" / name).read_bytes() == b"\xffmine"


def test_roots_that_are_none_or_two(
    tmp_path: Path, tiny_sysu: Path, tiny_regdb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=f"--root: {tiny_sysu} and .*again are both SYSU-MM01"):
        (tmp_path / "again").symlink_to(tiny_sysu)
        run_tables("dfe", (), (), Request(roots=(tiny_sysu, tmp_path / "again")))
    for root, message in {
        tmp_path / "none": "no such folder",
        tiny_regdb: "expected a folder of SYSU-MM01, .*RegDB",
    }.items():
        monkeypatch.setenv("SYSU_MM01", str(root))
        with pytest.raises(DatasetError, match=f"environment variable SYSU_MM01: .*{message}"):
            run_tables("dfe", ("table1",), (), Request())
    assert left(tmp_path) == ["again"]


def test_a_data_set_that_is_not_whole_is_told_before_anything_is_made(
    tmp_path: Path, tiny_sysu: Path, tiny_regdb: Path
) -> None:
    shutil.copytree(tiny_sysu, tmp_path / "sysu")
    next((tmp_path / "sysu" / "cam1").rglob("*.jpg")).unlink()
    with pytest.raises(DatasetError, match=r"the synthetic twin is not whole \(cam1: expected \d+, found \d+\)"):
        run_tables("dfe", ("table1",), ("dfe/full",), Request(roots=(tmp_path / "sysu",), output=tmp_path / "out"))
    shutil.copytree(tiny_regdb, tmp_path / "regdb")
    (tmp_path / "regdb" / "visir-twin.json").unlink()  # as if it were the real one
    (tmp_path / "regdb" / "idx" / "test_visible_7.txt").unlink()
    with pytest.raises(DatasetError, match="test_visible_7.txt"):
        run_tables("dfe", ("table3",), ("dfe/full",), Request(roots=(tmp_path / "regdb",), output=tmp_path / "out"))
    assert not (tmp_path / "out" / "runs").exists()


def test_runs_on_other_data_are_never_taken_for_these(tmp_path: Path, tiny_sysu: Path, pretending: None) -> None:
    file = own(tmp_path, tiny_sysu)
    request = Request(output=tmp_path / "out")
    run_ablation(file, (), request)
    stored = [json.loads(path.read_text())["data"] for path in (tmp_path / "out").rglob("scores.json")]
    assert len(stored) == 4
    assert set(stored) == {name_data(benchmarks.find("sysu_mm01"), tiny_sysu, 1)}
    assert stored[0].startswith("synthetic twin tiny, seed 0")
    other = tmp_path / "other"
    shutil.copytree(tiny_sysu, other)
    (other / "visir-twin.json").unlink()
    with pytest.raises(ConfigError, match=r"is of other data \(synthetic twin .*\) than .*other holds now \(images"):
        run_ablation(file, (), replace(request, roots=(other,)))
    whole = name_data(benchmarks.find("sysu_mm01"), other, 1)
    picture = next((other / "cam1").rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"more")
    assert name_data(benchmarks.find("sysu_mm01"), other, 1) != whole


def test_finished_runs_need_no_data_set(tmp_path: Path, tiny_sysu: Path, pretending: None) -> None:
    shutil.copytree(tiny_sysu, tmp_path / "data")
    file = own(tmp_path, tmp_path / "data")
    run_ablation(file, (), Request(output=tmp_path / "out"))
    before = rows(tmp_path / "out")
    shutil.rmtree(tmp_path / "data")
    run_ablation(file, (), Request(output=tmp_path / "out", finished=True))
    assert rows(tmp_path / "out") == before
    assert {row["difference"] for row in before} == {""}


def test_a_file_of_ones_own_is_no_publication(tmp_path: Path, tiny_sysu: Path, pretending: None) -> None:
    file = own(tmp_path, tiny_sysu).rename(tmp_path / "dfe.yaml")
    run_ablation(file, ("full",), Request(output=tmp_path / "out"))
    assert {(row["system"], row["published"]) for row in rows(tmp_path / "out")} == {("dfe/full", "")}
    assert read_ablation(file).experiment(read_ablation(file).rows[0], "sysu_mm01").published == {}


def test_a_row_that_cannot_be_built_is_named(tmp_path: Path, tiny_sysu: Path) -> None:
    file = own(tmp_path, tiny_sysu)
    content = yaml.safe_load(file.read_text())
    content["rows"][1]["set"] = {"with.bta": 1}
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="mine/plain on SYSU-MM01: with.bta: unknown key 'bta'. Did you mean 'beta'"):
        run_ablation(file, (), Request())
    own(tmp_path, tiny_sysu, train={"epoch": 3})
    with pytest.raises(ConfigError, match=r"base.yaml: train.epoch: unknown key 'epoch'. Did you mean 'epochs'"):
        run_ablation(file, (), Request())


NAMES = ["100 % & <b>_x_</b>", "[a] | b", "*", "a\\b^~{}$#", "`c`", '"d", e']


def test_names_with_any_characters_are_shown_as_they_are(tmp_path: Path, tiny_sysu: Path, pretending: None) -> None:
    file = own(tmp_path, tiny_sysu)
    listed = [{"name": name, "set": {"with.dim": 4 + i}} for i, name in enumerate(NAMES)]
    file.write_text(yaml.safe_dump({"base": "base.yaml", "rows": listed}))
    run_ablation(file, (), Request(output=tmp_path / "out"))
    assert {row["row"] for row in rows(tmp_path / "out")} == set(NAMES)
    texts = {kind: (tmp_path / "out" / f"results.{kind}").read_text() for kind in ("md", "tex", "html")}
    body = [line for line in texts["md"].splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in body}) == 1
    assert re.search(r"^\| \\\* \[mine/\\\*\] \|", texts["md"], re.M)
    assert "100 % & \\<b>_x_\\</b>" in texts["md"]
    cells = [line.split(" & ")[0] for line in texts["tex"].splitlines() if line.endswith("\\\\")]
    assert "{*} {[}mine/{*}{]}" in cells
    assert "{[}a{]} \\textbar{} b {[}mine/{[}a{]} \\textbar{} b{]}" in cells
    assert not any(cell.startswith(("[", "*")) for cell in cells), "an argument of the line's end before it"
    assert "100 \\% \\& \\textless{}b\\textgreater{}\\_x\\_" in texts["tex"]
    assert "<b>" not in texts["html"]
    assert "100 % &amp; &lt;b&gt;_x_&lt;/b&gt;" in texts["html"]


@pytest.fixture
def job(tmp_path: Path, tiny_sysu: Path) -> Job:
    ablation = read_ablation(own(tmp_path, tiny_sysu))
    setup = Setup(tmp_path / "out", {"sysu_mm01": tiny_sysu}, seeds=(0,))
    (found,) = jobs(ablation, ablation.rows[0], "sysu_mm01", [PROTOCOL], setup)
    return found


DAMAGE: dict[str, Callable[[dict[str, object]], object]] = {
    "no reports": lambda one: {**one, "reports": []},
    "a protocol alone": lambda one: {**one, "reports": [{"protocol": PROTOCOL}]},
    "not a number": lambda one: json.loads(json.dumps(one).replace("0.5", "NaN")),
    "a list": lambda one: [one],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_scores_are_made_again(damage: Callable[[dict[str, object]], object], job: Job) -> None:
    finish(job, [report(PROTOCOL, [0.5])])
    assert planning.finished(job) is not None
    file = RunFolder(job.folder).scores
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    assert planning.finished(job) is None
    shutil.rmtree(job.folder)
    assert run_job(job, "cpu", "these data") is None
    found = planning.finished(job)
    assert found is not None
    assert found["data"] == "these data"


def test_a_damaged_log_costs_no_table(tmp_path: Path, tiny_sysu: Path, pretending: None) -> None:
    file = own(tmp_path, tiny_sysu)
    run_ablation(file, (), Request(output=tmp_path / "out"))
    for log in (tmp_path / "out").rglob("log.jsonl"):
        log.write_bytes(b'\xff\xfe\n3\n[1]\n{"kind": "step", "seconds": "x"}\n{"kind": "step", "seconds": 7}\n{"kind"')
    run_ablation(file, (), Request(output=tmp_path / "out", finished=True))
    assert {row["seconds"] for row in rows(tmp_path / "out")} == {"7.0"}


def test_what_nobody_foresaw_is_one_failed_row(job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = replace(job.experiment.options, dim=10**13)  # type: ignore[call-arg]
    greedy = replace(job, experiment=replace(job.experiment, options=options), folder=job.folder.with_name("greedy"))
    failed = run_jobs([greedy, job], devices=["cpu"])
    assert set(failed) == {greedy.folder}
    trace = tmp_path / "out" / "errors" / "greedy.txt"
    assert failed[greedy.folder].startswith("RuntimeError: ")
    assert failed[greedy.folder].endswith(f"({trace} tells where)")
    assert "Traceback" in trace.read_text()
    assert "FAILED" in capsys.readouterr().err
    assert planning.finished(job) is not None
    assert run_job(replace(greedy, experiment=job.experiment), "cpu") is None
    assert not trace.exists()


def test_a_run_that_another_process_has_is_left_to_it(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    lock = job.folder.parents[1] / FOLDER / job.folder.name
    with hold(lock) as held:
        assert held
        assert run_job(job, "cpu", patient=False) == BUSY
        finish(job, [report(PROTOCOL, [0.5])])  # by the other one
    assert run_job(job, "cpu") is None
    assert not (job.folder / "experiment.yaml").exists(), "it was not trained again"


def test_a_table_takes_no_figures_from_another(job: Job) -> None:
    assert run_job(job, "cpu") is None
    other = replace(job, protocols=("sysu-indoor-1-official",))
    assert planning.finished(other) is None
    assert run_job(other, "cpu") is None
    assert planning.finished(other) is not None
    assert planning.finished(job) is not None


def test_what_a_killed_process_left_is_removed(job: Job) -> None:
    job.folder.mkdir(parents=True)
    (job.folder / ".experiment.yaml.abc.tmp").write_text("half")
    assert run_job(job, "cpu") is None
    assert not list(job.folder.rglob("*.tmp"))


def test_what_was_left_in_a_twin_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "twins" / "regdb"
    root.mkdir(parents=True)
    made: list[Path] = []
    monkeypatch.setattr(places, "write_twin", lambda root, **_: made.append(root))
    for content in (None, {"layout": "regdb", "counts": {}, "complete": False}):
        if content is not None:
            (root / "visir-twin.json").write_text(json.dumps(content))
        (root / ".1.txt.abc.tmp").write_text("half")
        places.make_twin(Request(twin="tiny"), "regdb", tmp_path)
        assert [path.name for path in root.iterdir() if path.suffix == ".tmp"] == []
    assert made == [root, root]


def test_a_run_that_cannot_go_on_says_how_to_begin_it_again(job: Job) -> None:
    assert run_job(job, "cpu") is None
    shutil.rmtree(RunFolder(job.folder).encoder)
    for file in RunFolder(job.folder).checkpoints.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    with pytest.warns(UserWarning, match="missing or damaged"):
        said = run_job(job, "cpu")
    assert said is not None
    assert said.endswith(f"Restore one from a backup. Remove {job.folder} to begin this run again.")
    (job.folder / "experiment.yaml").write_text("{")
    assert str(run_job(job, "cpu")).endswith(f"Remove {job.folder} to begin this run again.")
    shutil.rmtree(job.folder)
    assert run_job(job, "cpu") is None


def test_a_damaged_common_start_is_made_again(tmp_path: Path) -> None:
    size = Size(6, 2, 2, ((2, 2),), 48, 24, 1)
    made = {"name": "tiny", "height": 48, "width": 24, "images": 8, "steps": 2, "size": size}
    file = pretrained(tmp_path / "start", **made)  # type: ignore[arg-type]
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-10]):
        file.write_bytes(damaged)
        assert pretrained(tmp_path / "start", **made).read_bytes() == whole  # type: ignore[arg-type]
    assert load_file(file)
    file.unlink()
    shutil.rmtree(tmp_path / "start" / "run" / "encoder")
    for checkpoint in (tmp_path / "start" / "run" / "checkpoints").iterdir():
        checkpoint.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="missing or damaged"),
        pytest.raises(CheckpointError, match="start/run to begin it again"),
    ):
        pretrained(tmp_path / "start", **made)  # type: ignore[arg-type]
