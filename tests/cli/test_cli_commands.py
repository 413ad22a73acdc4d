import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest

COMMANDS = [
    [],
    ["data"],
    ["data", "doctor"],
    ["data", "make"],
    ["data", "convert"],
    ["train"],
    ["evaluate"],
    ["score"],
    ["embed"],
    ["convert"],
    ["gallery"],
    ["gallery", "add"],
    ["gallery", "list"],
    ["gallery", "status"],
    ["gallery", "remove"],
    ["search"],
    ["compare"],
    ["reproduce"],
    ["ablate"],
    ["report"],
    ["demo"],
    ["list"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(visir, words):
    outcome = visir(*words, "--help")
    assert outcome.code == 0
    assert "Usage" in outcome.out


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "sys.argv = ['visir', 'train', '--help']\n"
        "from visir.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "sys.exit(bool({'torch', 'lancedb', 'matplotlib', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_version(visir):
    assert visir("--version").out == "visir 0.1.0\n"


def test_list_names_methods_and_protocols(visir):
    out = visir("list").out
    assert "method     dfe" in out
    assert "sysu-all-1-official" in out
    assert "file       dfe                dfe/ablation, dfe/regdb, dfe/sysu_mm01" in out


def test_both_commands_that_run_rows_have_the_same_options(visir):
    """Told once, in one order, behind what is each one's own."""
    options = []
    for command in ("reproduce", "ablate"):
        listed = re.findall(r"^│ (--[a-z]+)", visir(command, "--help").out, re.M)
        options.append([name for name in listed if name not in ("--system", "--row")])
    assert options[0] == options[1]
    assert {"--root", "--twin", "--seeds", "--set", "--finished", "--document", "--parallel"} <= set(options[0])


def test_make_and_doctor(visir, tmp_path):
    made = visir("data", "make", tmp_path / "t", "--layout", "regdb", "--size", "tiny", "--workers", 1)
    assert made.code == 0, made.err
    report = json.loads(visir("data", "doctor", tmp_path / "t", "--json").out)
    assert report["benchmark"] == "regdb"
    (tmp_path / "t" / "idx" / "train_visible_1.txt").unlink()
    broken = visir("data", "doctor", tmp_path / "t")
    assert broken.code == 2
    assert "train_visible_1.txt" in broken.out


def test_convert_writes_a_folder_data_set(visir, tmp_path, tiny_sysu):
    assert visir("data", "convert", tiny_sysu, tmp_path / "plain").code == 0
    assert json.loads(visir("data", "doctor", tmp_path / "plain", "--json").out)["benchmark"] == "folder"


def test_train_evaluate_report_from_the_command_line(visir, tmp_path, tiny_config):
    run = tmp_path / "run"
    trained = visir("train", tiny_config, "--run", run, "--device", "cpu", "--set", "seed=3")
    assert trained.code == 0, trained.err
    assert "from scratch" in trained.err
    again = visir("train", tiny_config, "--run", run, "--device", "cpu", "--set", "seed=3")
    assert again.code == 0, again.err
    table = visir("evaluate", run)
    assert "sysu-all-1-official" in table.out
    assert "sysu-indoor-1-official" in table.out
    rows = list(csv.DictReader(io.StringIO(visir("evaluate", run, "--format", "csv").out)))
    assert {row["protocol"] for row in rows} == {"sysu-all-1-official", "sysu-indoor-1-official"}
    assert visir("report", run).code == 0
    assert (run / "report.html").stat().st_size > 10_000
    other = visir("train", tiny_config, "--run", run, "--set", "seed=4")
    assert other.code == 2
    assert "another experiment" in other.err


def test_score_speaks_three_formats(visir, tmp_path, tiny_sysu, tiny_run):
    with np.load(tiny_run / "features.npz") as found:
        arrays = {name: found[name] for name in found.files}
    parts = [path.split("/") for path in arrays["path"].tolist()]
    camera, person, image = (np.array([int(p[i].removeprefix("cam").split(".")[0]) for p in parts]) for i in range(3))
    numbered = tmp_path / "numbered.npz"
    np.savez(numbered, camera=camera, person=person, image=image, feature=arrays["features"])
    common = ("score", numbered, "--protocol", "sysu-all-1-official", "--split", tiny_sysu / "exp")
    stored = json.loads((tiny_run / "scores.json").read_text())["reports"][0]["mean"]
    ours = json.loads(visir(*common, "--format", "json", "--distance", "cosine").out)["mean"]
    assert ours == pytest.approx(stored, abs=1e-9)
    rows = list(csv.reader(io.StringIO(visir(*common, "--format", "csv").out)))
    assert rows[0] == ["trial", "rank1", "rank5", "rank10", "rank20", "mAP", "mINP"]
    assert [row[0] for row in rows[1:]] == [*map(str, range(1, 11)), "mean", "std"]
    assert "sysu-all-1-official" in visir(*common).out


def test_embed_writes_what_score_reads(visir, tmp_path, tiny_sysu, tiny_run):
    done = visir("embed", tiny_run, tiny_sysu, "--output", tmp_path / "f.npz", "--device", "cpu")
    assert done.code == 0, done.err
    score = visir("score", tmp_path / "f.npz", "--protocol", "sysu-all-1-official", "--split", tiny_sysu / "exp")
    assert score.code == 0, score.err


def test_a_gallery_from_filling_to_forgetting(visir, tmp_path, tiny_sysu, tiny_run):
    gallery = tmp_path / "gallery"
    person = (tiny_sysu / "exp" / "test_id.txt").read_text().split(",")[0].strip()
    query = tiny_sysu / "cam3" / f"{int(person):04d}" / "0001.jpg"
    added = visir("gallery", "add", gallery, tiny_sysu, "--encoder", tiny_run, "--user", "ana")
    assert added.code == 0, added.err
    assert "0 unreadable" in added.out
    again = visir("gallery", "add", gallery, tiny_sysu, "--encoder", tiny_run)
    assert again.out.split(": ")[1].startswith("0 added")
    search = ("search", query, "--gallery", gallery, "--encoder", tiny_run, "--modality", "infrared", "-k", 3)
    found = json.loads(visir(*search, "--json", "--camera", "1,2").out)
    assert {match["camera"] for match in found["matches"]} <= {1, 2}
    everything = json.loads(visir(*search, "--json").out)["matches"]
    assert everything[0]["source"] == str(query)
    assert everything[0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert everything[0]["identity"] == person
    listed = visir("gallery", "list", gallery, "--identity", person, "--json").out.splitlines()
    assert {json.loads(line)["identity"] for line in listed} == {person}
    removed = visir("gallery", "remove", gallery, "--identity", person)
    assert f"{len(listed)} pictures removed" in removed.out
    assert person not in {m["identity"] for m in json.loads(visir(*search, "--json").out)["matches"]}
    status = json.loads(visir("gallery", "status", gallery, "--json").out)
    assert status["identities"] == 3


def test_single_pictures_need_their_modality(visir, tmp_path, tiny_sysu, tiny_run):
    picture = next((tiny_sysu / "cam1").glob("*/0001.jpg"))
    common = ("gallery", "add", tmp_path / "g", picture, "--encoder", tiny_run)
    refused = visir(*common)
    assert refused.code == 2
    assert "visible or infrared" in refused.err
    assert visir(*common, "--modality", "visible", "--camera", 4, "--identity", "bo").code == 0
    row = json.loads(visir("gallery", "list", tmp_path / "g", "--json").out)
    assert (row["identity"], row["camera"], row["modality"]) == ("bo", 4, "visible")
