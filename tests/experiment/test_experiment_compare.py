"""Comparisons of evaluated runs: their numbers, their groups, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
import scipy.io

from evaluated_runs import write_evaluated
from tiny_layouts import regdb_partition, write_folder, write_regdb
from visir.core.errors import ConfigError, EvaluationError
from visir.core.files import write_json
from visir.evaluation.bootstrap import PairedTrial, paired_bootstrap
from visir.evaluation.ranking import rank
from visir.evaluation.report import Report, combine
from visir.evaluation.scorefile import load_features, save_features
from visir.experiment.compare import FIGURES, compare_runs
from visir.experiment.comparison import format_comparisons
from visir.experiment.evaluate import find_protocol

ALL, INDOOR = "sysu-all-1-official", "sysu-indoor-1-official"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_sysu):
    """Name -> run folder, made once each; read only."""
    base, made = tmp_path_factory.mktemp("runs"), {}

    def get(name, **settings):
        if name not in made:
            made[name] = write_evaluated(base / name, tiny_sysu, **{"protocols": (ALL, INDOOR), **settings})
        return made[name]

    return get


@pytest.fixture
def good(runs):
    return runs("good", noise=0.5)


@pytest.fixture
def bad(runs):
    return runs("bad", noise=2.0)


@pytest.fixture(scope="module")
def regdb(tmp_path_factory):
    return write_regdb(tmp_path_factory.mktemp("data") / "regdb", people=12)


def reports(run):
    found = map(Report.from_dict, json.loads((run / "scores.json").read_text())["reports"])
    return {report.protocol: report for report in found}


def compare(first, second, **options):
    return compare_runs([first], [second], device="cpu", **{"resamples": 200, **options})


def rows(comparison, place=0):
    return {row.figure: row for row in comparison.protocols[place].rows}


def test_figures_are_the_official_ones(good, bad):
    found = compare(good, bad)
    assert [one.protocol for one in found.protocols] == [ALL, INDOOR]
    for place, name in enumerate((ALL, INDOOR)):
        ours = rows(found, place)
        assert tuple(ours) == FIGURES
        for figure, row in ours.items():
            for score, run in ((row.first, good), (row.second, bad)):
                report = reports(run)[name]
                assert score.mean == pytest.approx(report.mean()[figure], abs=1e-12)
                assert score.trial_std == pytest.approx(report.std()[figure], abs=1e-12)
                assert score.seed_std is None
            assert row.difference == pytest.approx(row.first.mean - row.second.mean, abs=1e-12)
            assert row.low <= row.difference <= row.high
    best = rows(found)["mAP"]
    assert best.low > 0
    assert (best.better, best.p_value) == (1.0, pytest.approx(2 / 201))


def test_intervals_are_those_of_single_queries(good, bad):
    """Through the other function that scores single queries, trial by trial."""
    table = load_features(good / "features.npz")[1]
    protocol, trials = find_protocol(ALL), []
    for trial in protocol.trials(table):
        values = []
        for run in (good, bad):
            found = rank(load_features(run / "features.npz")[0], table, trial, protocol)
            scored = found.first > 0
            values.append(np.stack([found.first <= 1, found.average_precision], axis=1)[scored].astype(np.float64))
        trials.append(PairedTrial(table.identity[found.query][scored], *values))
    slow = paired_bootstrap(trials, resamples=200, seed=3)
    ours = rows(compare(good, bad, seed=3))
    for column, figure in enumerate(("rank1", "mAP")):
        assert ours[figure].low == pytest.approx(slow.low[column], abs=1e-12)
        assert ours[figure].high == pytest.approx(slow.high[column], abs=1e-12)
        assert ours[figure].p_value == slow.p_value[column]


def test_a_run_does_not_differ_from_itself(good, tmp_path):
    shutil.copytree(good, tmp_path / "copy")
    for row in rows(compare(good, tmp_path / "copy")).values():
        assert (row.difference, row.low, row.high, row.better, row.p_value) == (0, 0, 0, 0, 1)


def test_the_seed_decides_the_resamples(good, bad):
    one, same, other = (compare(good, bad, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.protocols != other.protocols


def test_unmatched_queries_are_left_out(tmp_path):
    root = write_folder(tmp_path / "data", people=[f"p{n}" for n in range(6)], images=3)
    shutil.rmtree(root / "visible" / "p0")
    options = {"benchmark": "folder", "protocols": ("folder-i2v", "folder-v2i")}
    first, second = (write_evaluated(tmp_path / f"{n}", root, noise=n, **options) for n in (1.0, 2.0))
    found = compare(first, second)
    there, back = found.protocols
    assert (there.queries, there.unscored, there.identities) == (15, 3, 5)
    assert (back.queries, back.unscored, back.identities) == (15, 0, 5)
    assert rows(found)["mAP"].first.mean == pytest.approx(reports(first)["folder-i2v"].mean()["mAP"], abs=1e-12)
    assert "3 queries without a right image left out" in format_comparisons([found])


def test_seeds_are_averaged_and_told_apart_from_trials(runs):
    first = [runs(f"a{seed}", seed=seed) for seed in (1, 2, 3)]
    second = [runs(f"b{seed}", seed=seed, noise=0.7, beta=0.0) for seed in (4, 5)]
    found = compare_runs(first, second, resamples=200, device="cpu")
    values = np.array([[trial["mAP"] for trial in reports(run)[ALL].trials] for run in first])  # seeds, trials
    score = rows(found)["mAP"].first
    assert score.mean == pytest.approx(values.mean())
    assert score.trial_std == pytest.approx(values.mean(axis=0).std())
    assert score.seed_std == pytest.approx(values.mean(axis=1).std(ddof=1))
    assert (found.first.seeds, found.second.seeds) == ((1, 2, 3), (4, 5))
    assert f"(seeds ±{100 * score.seed_std:.2f})" in format_comparisons([found])
    assert compare_runs(first[::-1], second[::-1], resamples=200, device="cpu").protocols == found.protocols
    same = compare_runs(first, first[::-1], resamples=200, device="cpu")
    assert {(row.difference, row.low, row.high) for row in same.protocols[0].rows} == {(0, 0, 0)}


def test_groups_that_are_none(runs, good, tmp_path):
    other = runs("other", seed=9, beta=0.0, gamma=0.25)
    with pytest.raises(EvaluationError, match=r"grouped but differ in with.beta \(1.0 and 0.0\); with.gamma"):
        compare_runs([good, other], [good])
    shutil.copytree(good, tmp_path / "again")
    with pytest.raises(EvaluationError, match="both have draw 1 and seed 0"):
        compare_runs([other], [good, tmp_path / "again"])


def partitions(base, root, letter, draws, **options):
    protocols = ("regdb-v2t-img", "regdb-t2v-id")
    settings = {"benchmark": "regdb", "protocols": protocols, **options}
    return [write_evaluated(base / f"{letter}{n}", root, draw=n, **settings) for n in draws]


def test_draws_are_paired_by_their_number(tmp_path, regdb):
    first = partitions(tmp_path, regdb, "a", (1, 2, 3), noise=1.0)
    second = partitions(tmp_path, regdb, "b", (3, 1, 2), noise=2.0, seed=5)
    found = compare_runs(first, second, resamples=200, device="cpu")
    assert [one.protocol for one in found.protocols] == [
        "regdb-v2t-img (3 of 10 splits)",
        "regdb-t2v-id (3 of 10 splits)",
    ]
    people = {person for draw in (1, 2, 3) for person in regdb_partition(12, draw)[1]}
    assert (found.protocols[0].trials, found.protocols[0].identities) == (3, len(people))  # with 6 of them in a draw
    for side, group in (("first", first), ("second", second)):
        whole = combine([reports(run)[f"regdb-t{int(run.name[1]):02d}-v2t-img"] for run in group], incomplete=True)
        for figure in FIGURES:
            score = getattr(rows(found)[figure], side)
            assert score.mean == pytest.approx(whole.mean()[figure], abs=1e-12)
            assert score.trial_std == pytest.approx(whole.std()[figure], abs=1e-12)
    single = compare(first[0], second[1])
    assert single.protocols[0].protocol == "regdb-t01-v2t-img"
    assert "±" not in format_comparisons([single])
    chosen = compare(first[0], second[1], protocols=["regdb-t2v-id"])
    assert [one.protocol for one in chosen.protocols] == ["regdb-t01-t2v-id"]


def test_all_draws_have_the_label_of_the_protocol(tmp_path, regdb):
    runs = partitions(tmp_path, regdb, "a", range(1, 11))
    assert compare_runs(runs, runs, resamples=100, device="cpu").protocols[0].protocol == "regdb-v2t-img"


def test_draws_that_do_not_meet(tmp_path, regdb):
    one, two = partitions(tmp_path, regdb, "a", (1, 2))
    (seeded,) = partitions(tmp_path, regdb, "b", (1,), seed=1)
    with pytest.raises(EvaluationError, match="is of draw 1, .*a2 is of draw 2|is of draw 1, .* of draw 2; different"):
        compare(one, two)
    with pytest.raises(EvaluationError, match="draws 1, 2, .* of draw 1; different draws are different test sets"):
        compare_runs([one, two], [seeded])
    with pytest.raises(EvaluationError, match="same seeds in every draw of a group, got others: draw 1 has 0, 1; draw"):
        compare_runs([one, two, seeded], [one, two])


def test_runs_without_scores(good, tmp_path):
    with pytest.raises(ConfigError, match="expected a run folder"):
        compare(good, tmp_path)
    shutil.copytree(good, tmp_path / "run")
    (tmp_path / "run" / "scores.json").write_text('{"reports": [{}]}')
    with pytest.raises(EvaluationError, match=f"damaged file. Run: visir evaluate {tmp_path / 'run'}"):
        compare(tmp_path / "run", good)
    for name in ("scores.json", "features.npz"):
        (tmp_path / "run" / name).unlink()
        with pytest.raises(EvaluationError, match=f"found no scores. Run: visir evaluate {tmp_path / 'run'}"):
            compare(good, tmp_path / "run")


def test_only_common_protocols_are_compared(runs, good):
    indoor = runs("indoor", protocols=(INDOOR,))
    found = compare(good, indoor)
    assert [one.protocol for one in found.protocols] == [INDOOR]
    assert any(f"{good} was scored by {ALL}" in warning for warning in found.warnings)
    outdoor = runs("outdoor", protocols=(ALL,))
    with pytest.raises(EvaluationError, match=f"no protocol in common: .* {ALL}, .* {INDOOR};"):
        compare(outdoor, indoor)
    with pytest.raises(ConfigError, match=f"protocol '{ALL}'. Did you mean '{INDOOR}'"):
        compare(good, indoor, protocols=[ALL])
    assert not any("left out" in warning for warning in compare(good, indoor, protocols=[INDOOR]).warnings)


def changed(run, to, change):
    """A copy of a run whose features.npz went through ``change``."""
    shutil.copytree(run, to)
    features, table = load_features(run / "features.npz")
    save_features(to / "features.npz", *change(features, table))
    return to


def test_other_test_sets_are_refused(good, tmp_path, regdb):
    (other,) = partitions(tmp_path, regdb, "a", (1,))
    with pytest.raises(EvaluationError, match="tested on sysu_mm01, .* on regdb"):
        compare(good, other)
    fewer = changed(good, tmp_path / "fewer", lambda f, t: (f[1:], t.take(np.arange(1, len(t)))))
    with pytest.raises(EvaluationError, match=r"different images: 1 images are in .*good alone, such as cam1/"):
        compare(good, fewer)
    turned = changed(good, tmp_path / "turned", lambda f, t: (f[::-1], t.take(np.arange(len(t))[::-1])))
    with pytest.raises(EvaluationError, match="the same ones, in another order"):
        compare(good, turned)

    def renamed(features, table):
        identity = table.identity.copy()
        identity[0] = 77
        object.__setattr__(table, "identity", identity)
        return features, table

    with pytest.raises(EvaluationError, match=r"different labels: cam1/\S+ has identity \d+ and 77"):
        compare(good, changed(good, tmp_path / "renamed", renamed))


def test_other_galleries_are_refused(good, tiny_sysu, tmp_path):
    """The same images, with other permutations beside them."""
    shutil.copytree(tiny_sysu, tmp_path / "data")
    path = tmp_path / "data" / "exp" / "rand_perm_cam.mat"
    cells = scipy.io.loadmat(path)["rand_perm_cam"]
    for camera in cells.ravel():
        for cell in camera.ravel():
            cell[0][...] = cell[0][::-1].copy()  # the ten draws in another order
    scipy.io.savemat(path, {"rand_perm_cam": cells})
    other = write_evaluated(tmp_path / "other", tmp_path / "data", protocols=(ALL, INDOOR))
    with pytest.raises(EvaluationError, match=f"{ALL}, trial 1: .* have different gallery images"):
        compare(good, other)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(EvaluationError, match="other: .*rand_perm_cam.* no longer at .*data, say where with --root"):
        compare(good, other)


def test_a_moved_data_set(good, bad, tiny_sysu, tmp_path):
    def move(features, table):
        object.__setattr__(table, "root", tmp_path / "gone")
        return features, table

    moved = changed(bad, tmp_path / "moved", move)
    with pytest.raises(EvaluationError, match="--root"):
        compare(good, moved)
    assert compare(good, moved, root=tiny_sysu).protocols == compare(good, bad).protocols


def test_files_of_two_evaluations_are_refused(good, bad, tmp_path):
    shutil.copytree(good, tmp_path / "mixed")
    shutil.copy(bad / "features.npz", tmp_path / "mixed")
    with pytest.raises(EvaluationError, match=f"another evaluation. Run: visir evaluate {tmp_path / 'mixed'}"):
        compare(good, tmp_path / "mixed")


def test_warnings(runs, good, tmp_path):
    assert [text[:17] for text in compare(good, good).warnings] == ["only 2 people are"]
    everybody = runs("everybody", split="trainval", warnings=("the training has not ended",))
    texts = compare(good, everybody).warnings
    assert any("was trained on 'train'" in text and "on 'trainval'" in text for text in texts)
    assert f"{everybody}: the training has not ended" in texts


def test_formats(good, bad, runs):
    pair = [compare(good, bad), compare(good, runs("third", noise=1.0, seed=7))]
    content = json.loads(format_comparisons(pair, "json"))
    assert [one["second"]["seeds"] for one in content] == [[0], [7]]
    assert content[0]["protocols"][0]["rows"][0]["figure"] == "rank1"
    lines = list(csv.DictReader(io.StringIO(format_comparisons(pair, "csv"))))
    assert len(lines) == 2 * 2 * 5
    assert float(lines[3]["difference"]) == rows(pair[0])["mAP"].difference
    assert (lines[3]["first"], lines[3]["figure"], lines[3]["first_seed_std"]) == (str(good), "mAP", "")
    table, markdown = (format_comparisons(pair[:1], form) for form in ("table", "markdown"))
    for text in (table, markdown):
        assert f"{good} (dfe, seed 0)" in text
        assert f"{ALL}: 10 trials" in text
        assert "95 % interval" in text
        assert "200 paired resamples of people (seed 0)" in text
    body = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in body} == {8}
    mean = f"{100 * rows(pair[0])['rank1'].first.mean:.2f} ±"
    assert mean in table
    assert mean in markdown


def test_scores_that_are_no_numbers_or_none_at_all(good, tmp_path):
    shutil.copytree(good, tmp_path / "run")
    path = tmp_path / "run" / "scores.json"
    content = json.loads(path.read_text())

    def written(change):
        reports = [change({**one}) for one in content["reports"]]
        path.write_text(json.dumps({**content, "reports": [one for one in reports if one is not None]}))
        return tmp_path / "run"

    def without(report):
        report["trials"] = [{**trial, "mAP": float("nan")} for trial in report["trials"]]
        return report

    with pytest.raises(EvaluationError, match="scores.json says mAP nan % .* one of them is of another evaluation"):
        compare(good, written(without))
    for change in (lambda one: None, lambda one: {**one, "distance": "none"}):
        with pytest.raises(EvaluationError, match=f"damaged file. Run: visir evaluate {tmp_path / 'run'}"):
            compare(written(change), good)


def test_copies_with_other_pictures_are_refused(good, tiny_sysu, tmp_path):
    """The same names and labels, other files."""
    shutil.copytree(tiny_sysu, tmp_path / "data")
    other = write_evaluated(tmp_path / "other", tmp_path / "data", protocols=(ALL, INDOOR))
    compare(good, other)
    for picture in (tmp_path / "data").rglob("*.jpg"):
        picture.write_bytes(picture.read_bytes() + b"more")
    with pytest.raises(
        EvaluationError, match=r"different images: cam\d/\S+ has [\d,]+ bytes in .* and [\d,]+ in .*/data"
    ):
        compare(good, other)
    shutil.rmtree(tmp_path / "data")
    compare(good, other, root=tiny_sysu)


def test_places_that_are_none(good, bad, tmp_path):
    with pytest.raises(ConfigError, match="--root .*none: no such folder"):
        compare(good, bad, root=tmp_path / "none")
    with pytest.raises(
        EvaluationError, match=f"{good}: .*rand_perm_cam.* no longer at {tmp_path}, give another --root"
    ):
        compare(good, bad, root=tmp_path)
    with pytest.raises(ConfigError, match="device: expected auto, cpu, cuda or cuda:N, got 'gpu'"):
        compare_runs([good], [bad], device="gpu")
    assert compare_runs([good], [bad], device="auto", resamples=200).protocols == compare(good, bad).protocols


def test_features_that_cannot_be_scored_name_their_run(good, tmp_path):
    broken = changed(good, tmp_path / "broken", lambda f, t: (np.where(np.arange(len(f))[:, None] == 3, np.nan, f), t))
    with pytest.raises(EvaluationError, match=f"{broken}: features: row 3 .*NaN"):
        compare(good, broken)


def test_damaged_features_are_named(good, tmp_path):
    shutil.copytree(good, tmp_path / "run")
    (tmp_path / "run" / "features.npz").write_bytes(b"half")
    with pytest.raises(EvaluationError, match="features.npz: expected a whole"):
        compare(good, tmp_path / "run")
    write_json(tmp_path / "run" / "scores.json", [1])
    with pytest.raises(EvaluationError, match="damaged"):
        compare(good, tmp_path / "run")
