"""Parts of ``visir reproduce``: the common budget, which runs are needed, what they gave, and the four formats."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_ablation import finish, report

from visir.core.draws import IdentityBalanced, Pairs, Stream, Unpaired
from visir.core.errors import ConfigError
from visir.core.files import write_json
from visir.evaluation.report import METRICS
from visir.experiment.ablation import systems
from visir.experiment.folder import RunFolder
from visir.methods.base import Recipe
from visir.nets.backbones import backbone
from visir.reproduce.budget import BUDGETS, within
from visir.reproduce.claims import claims, orderings
from visir.reproduce.jobs import Setup, jobs, obstacle, scores, unique
from visir.reproduce.outcome import Outcome, outcome
from visir.reproduce.pretraining import pretrained
from visir.reproduce.protocols import benchmark_of
from visir.reproduce.render import comma_separated, latex, markdown, page
from visir.reproduce.sheet import Line, Ordering, Results, Sheet
from visir.twin import Size

KNOWN = systems()
TINY, DEMO = BUDGETS["tiny"], BUDGETS["demo"]


@pytest.mark.parametrize("system", sorted(KNOWN))
@pytest.mark.parametrize("budget", BUDGETS.values(), ids=lambda one: one.name)
def test_every_row_has_the_budget_and_keeps_the_rest(system: str, budget) -> None:
    ablation, row = KNOWN[system]
    for benchmark in ablation.benchmarks(row):
        before = ablation.experiment(row, benchmark)
        after = ablation.experiment(row, benchmark, below=within(budget, before))
        shorter = after.train.epochs / before.train.epochs
        for name, published in vars(before.options).items():
            ours = getattr(after.options, name)
            if name in {"backbone", "weights"} or isinstance(published, Stream):
                continue
            if name == "width":
                assert ours == max(4, published * budget.share), "networks that make pictures are narrower"
            elif name.endswith("_epochs"):
                assert ours == pytest.approx(shorter * published), "phases keep their proportion"
            elif isinstance(published, Recipe):
                assert name == "recipe" or ours.optimizer == published.optimizer
                assert ours.backbone_rate / ours.head_rate == pytest.approx(
                    published.backbone_rate / published.head_rate
                )
            else:
                assert ours == published, "what the publication is about stays"
        if "train.steps_per_epoch" not in within(budget, before):
            continue  # a system without steps
        stream = after.options.stream
        assert (stream.height, stream.width) == (budget.height, budget.width)
        half = budget.pictures if hasattr(after.options, "width") else budget.images
        assert after.train.epochs * (after.train.steps_per_epoch or 0) == pytest.approx(budget.steps, rel=0.25)
        match stream.draw:
            case Pairs(pairs=pairs):
                assert pairs == half
            case IdentityBalanced(identities=identities, images=images):
                assert identities == min(half // images, budget.identities)
            case Unpaired(images=images):
                assert images == half


def test_an_output_may_be_moved_and_called_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for output in (tmp_path / "here", tmp_path / "there", Path("there")):
        weights = output.resolve() / "pretrained" / "tiny.safetensors"
        roots = {"sysu_mm01": Path("/data")}
        setup = Setup(output, roots, budget=DEMO, weights=weights.as_posix())
        (job,) = jobs(*KNOWN["dfe/full"], "sysu_mm01", ["sysu-all-1-official"], setup)
        assert job.experiment.options.weights == str(weights)
        names.append(job.folder.name)
    assert len(set(names)) == 1
    mine = replace(setup, settings=("with.weights=/other/tiny.safetensors",))
    (job,) = jobs(*KNOWN["dfe/full"], "sysu_mm01", ["sysu-all-1-official"], mine)
    assert job.folder.name != names[0], "other weights are another training"


def test_the_budget_is_the_same_number_of_steps_for_every_schedule() -> None:
    ablation, row = KNOWN["dfe/full"]
    values = within(DEMO, ablation.experiment(row, "sysu_mm01"))
    assert (values["train.epochs"], values["train.steps_per_epoch"]) == (20, DEMO.steps // 20)
    assert values["with.recipe"]["drops"] == [14.0, 18.0]


def test_one_run_for_each_partition_and_seed_and_each_run_once(tmp_path: Path) -> None:
    setup = Setup(tmp_path, {"regdb": Path("/data")}, draws=3, seeds=(0, 4), budget=TINY)
    found = jobs(*KNOWN["dfe/full"], "regdb", ["regdb-v2t-img"], setup)
    assert len(found) == 6 == len({job.folder for job in found})
    assert {(j.experiment.benchmark.draw, j.experiment.seed) for j in found} == {
        (d, s) for d in (1, 2, 3) for s in (0, 4)
    }
    assert all(job.experiment.root() == Path("/data") for job in found)
    again = jobs(*KNOWN["dfe/full"], "regdb", ["regdb-t2v-img"], setup)
    merged = unique([*found, *again])
    assert len(merged) == 6
    assert merged[0].protocols == ("regdb-v2t-img", "regdb-t2v-img")
    longer = jobs(*KNOWN["dfe/full"], "regdb", ["regdb-v2t-img"], replace(setup, settings=("train.epochs=99",)))
    assert not {job.folder for job in longer} & {job.folder for job in found}
    with pytest.raises(ConfigError, match="no protocol 'regdb-v2x'"):
        jobs(*KNOWN["dfe/full"], "regdb", ["regdb-v2x"], setup)


def test_what_the_user_sets_goes_over_the_budget(tmp_path: Path) -> None:
    setup = Setup(
        tmp_path, {"sysu_mm01": Path("/d")}, settings=("with.stream.height=64", "train.epochs=1"), budget=TINY
    )
    (job,) = jobs(*KNOWN["dfe/full"], "sysu_mm01", ["sysu-all-1-official"], setup)
    assert (job.experiment.options.stream.height, job.experiment.options.stream.width) == (64, 24)
    assert job.experiment.train.epochs == 1


def test_means_and_deviations_over_partitions_and_seeds_are_kept_apart(tmp_path: Path) -> None:
    setup = Setup(tmp_path, {"regdb": Path("/data")}, draws=2, seeds=(0, 1))
    found = jobs(*KNOWN["dfe/full"], "regdb", ["regdb-v2t-img"], setup)
    values = {(1, 0): 0.2, (2, 0): 0.4, (1, 1): 0.5, (2, 1): 0.5}
    assert outcome(found, "regdb-v2t-img") is None, "nothing is there yet"
    for job in found:
        draw, seed = job.experiment.benchmark.draw, job.experiment.seed
        finish(job, [report(f"regdb-t{draw:02d}-v2t-img", [values[draw, seed]])])
    got = outcome(found, "regdb-v2t-img")
    assert got is not None
    assert got.protocol == "regdb-v2t-img (2 of 10 splits)"
    assert got.mean["rank1"] == pytest.approx(40.0)
    assert got.over_trials["rank1"] == pytest.approx((10.0 + 0.0) / 2)
    assert got.over_seeds is not None
    assert got.over_seeds["rank1"] == pytest.approx(np.std([30.0, 50.0], ddof=1))
    assert (got.seeds, got.seconds) == (2, 6.0)
    assert got.reasons == ("random initial weights; the publication starts from ImageNet's", "2 of 10 partitions")
    assert outcome(found, "regdb-t2v-img") is None, "another protocol is another number"


def test_a_run_is_finished_only_with_encoder_and_all_protocols(tmp_path: Path) -> None:
    setup = Setup(tmp_path, {"sysu_mm01": Path("/data")})
    names = ["sysu-all-1-official", "sysu-indoor-1-official"]
    (job,) = jobs(*KNOWN["dfe/full"], "sysu_mm01", names, setup)
    assert scores(job) is None
    finish(job, [report(names[0], [0.5])])
    assert scores(job) is None
    write_json(RunFolder(job.folder).scores, {"reports": [report(name, [0.5]).as_dict() for name in names]})
    assert scores(job) is not None
    RunFolder(job.folder).scores.write_text("{")
    assert scores(job) is None
    assert obstacle(job) is None


def test_protocols_lead_to_their_data_set() -> None:
    assert [benchmark_of(name) for name in ("sysu-all-1-official", "regdb-v2t-img", "regdb-t03-v2t-img")] == [
        "sysu_mm01",
        "regdb",
        "regdb",
    ]
    with pytest.raises(ConfigError, match="Did you mean 'regdb-v2t-img'"):
        benchmark_of("regdb-v2t-imgs")


def test_claims_name_systems_that_exist_and_follow_the_printed_numbers() -> None:
    assert all(system in KNOWN for pair in claims() for system in pair)
    assert len(set(claims())) == len(claims())
    from visir.reproduce.claims import _printed

    printed = [_printed(*pair, protocol) for pair in claims() for protocol in ("sysu-all-1-official", "regdb-v2t-img")]
    known = [value for value in printed if value is not None]
    assert len(known) > len(claims()) / 2
    assert sum(value > 0 for value in known) > 0.85 * len(known)


def test_a_claim_with_one_side_says_what_is_missing() -> None:
    assert list(orderings({}, {})) == []


@pytest.mark.parametrize(
    ("ours", "interval", "verdict"),
    [(None, None, "not run: why"), (2.0, (1.0, 3.0), "holds"), (-2.0, (-3.0, -1.0), "does not hold"),
     (1.0, (-1.0, 3.0), "undecided"), (0.0, (0.0, 0.0), "undecided")],
)  # fmt: skip
def test_a_claim_holds_when_zero_is_outside(ours, interval, verdict) -> None:
    assert Ordering("a", "b", "p", 3.0, ours, interval, "why").verdict == verdict


def results(*, comparable: bool = True) -> Results:
    means = dict(zip(METRICS, (51.0, 70.0, 80.0, 90.0, 48.59, 30.0), strict=True))
    spread = dict.fromkeys(METRICS, 1.5)
    ours = Outcome("sysu-all-1-official", means, spread, spread, 3, 125.0, ("random | weights",))
    lines = (
        Line("DFE & <co>_1", "dfe/full", {"sysu-all-1-official": {"rank1": 48.71, "mAP": 48.59}},
             {"sysu-all-1-official": ours}, own=True, remarks=("rank20 is printed twice",)),
        Line("HOG", None, {"sysu-all-1-official": {"rank1": 2.76}}, reason="not determined"),
        Line("elsewhere", None, {"regdb-v2t-img": {"rank1": 1.0}}, reason="nothing here"),
    )  # fmt: skip
    sheet = Sheet("dfe, table1", "Main", {"sysu-all-1-official": ("rank1", "mAP")}, lines, ("a note",), comparable)
    claim = Ordering("dfe/full", "dfe/baseline", "sysu-all-1-official", 5.03, 2.0, (1.0, 3.0))
    return Results("Reproduction of dfe", ("A fact.",), (sheet,), (claim,), "visir reproduce dfe")


def test_markdown_and_csv_say_the_same() -> None:
    text = markdown(results())
    assert "48.71 / 51.00 (+2.29) | 48.59 / 48.59 (+0.00) | 1.50 / 1.50 | 1.50 / 1.50 | 2.1 min" in text
    assert "random \\| weights; rank20 is printed twice" in text
    assert "| HOG | 2.76 | - |  |  |  | not determined |" in text
    assert "elsewhere" not in text, "a row without a figure of this protocol has no place in its table"
    assert "1 holds, 0 undecided, 0 does not hold, 0 not run" in text
    rows = list(csv.DictReader(io.StringIO(comma_separated(results()))))
    assert len(rows) == 4
    assert rows[0]["difference"] == "2.2900"
    assert (rows[1]["figure"], rows[1]["published"], rows[1]["ours"], rows[1]["seeds"]) == (
        "mAP",
        "48.5900",
        "48.5900",
        "3",
    )
    assert (rows[2]["published"], rows[2]["ours"], rows[2]["notes"]) == ("2.7600", "", "not determined")


def test_nothing_is_subtracted_where_nothing_is_comparable() -> None:
    assert "48.71 / 51.00 |" in markdown(results(comparable=False))
    rows = list(csv.DictReader(io.StringIO(comma_separated(results(comparable=False)))))
    assert {row["difference"] for row in rows} == {""}


def test_latex_is_balanced_and_escaped() -> None:
    text = latex(results())
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 1
    assert "DFE \\& \\textless{}co\\textgreater{}\\_1" in text
    assert not re.search(r"(?<!\\)&(?=co)", text)
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = page(results())

    class Check(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag, attrs):
            assert not {"src", "href"} & {name for name, _ in attrs}
            if tag not in ("meta",):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    check = Check()
    check.feed(text)
    assert check.open == []
    assert "DFE &amp; &lt;co&gt;_1" in text
    assert '<tr class="own">' in text
    assert '<tr class="holds">' in text


def test_the_common_start_is_a_network_of_other_people_and_made_once(tmp_path: Path) -> None:
    small = Size(6, 2, 2, ((2, 2),), 48, 24, 1)
    made = {"name": "tiny", "height": 48, "width": 24, "images": 8, "steps": 3, "size": small}
    file = pretrained(tmp_path / "start", **made)
    weights = load_file(file)
    fresh = backbone("tiny", weights="scratch", image_size=(48, 24))
    assert set(weights) == set(fresh.trunk.state_dict())
    started = backbone("tiny", weights=str(file), image_size=(48, 24))
    assert all(torch.equal(weights[name], value) for name, value in started.trunk.state_dict().items())
    assert any(not torch.equal(weights[name], value) for name, value in fresh.trunk.state_dict().items())
    before = file.stat().st_mtime_ns
    assert pretrained(tmp_path / "start", **made) == file
    assert file.stat().st_mtime_ns == before
    again = load_file(pretrained(tmp_path / "again", **made))
    assert all(torch.equal(weights[name], value) for name, value in again.items())


def test_only_rows_whose_publication_starts_from_imagenet_get_the_common_start() -> None:
    for system, expected in (("dfe/full", "start.safetensors"), ("zero_padding/one-stream", "scratch")):
        experiment = KNOWN[system][0].experiment(KNOWN[system][1], "sysu_mm01")
        assert within(DEMO, experiment, weights="start.safetensors")["with.weights"] == expected
    assert "with.weights" not in within(DEMO, KNOWN["hog/xqda"][0].experiment(KNOWN["hog/xqda"][1], "regdb"))


def test_pretrained_takes_weights_that_exist(tmp_path: Path) -> None:
    setup = Setup(tmp_path, {"regdb": Path("/d")}, draws=1, pretrained=True)
    options = {
        s: jobs(*KNOWN[s], "regdb", [], setup)[0].experiment.options for s in ("dfe/full", "bdtr/full", "hog/cca")
    }
    assert [one.weights for one in options.values()] == ["imagenet", "imagenet", "scratch"]
    assert options["bdtr/full"].backbone == "alexnet_torchvision"
    plain = jobs(*KNOWN["zero_padding/one-stream"], "regdb", [], setup)[0].experiment.options
    assert plain.weights == "scratch"
