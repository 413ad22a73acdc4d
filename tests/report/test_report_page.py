"""The page: complete, self-contained, safe, reproducible; and what happens to damaged run folders."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_run import clustered, log_lines, write_features

from visir.benchmarks import catalog
from visir.core.errors import ConfigError, EvaluationError, StorageError
from visir.core.types import ImageTable
from visir.evaluation.evaluate import evaluate
from visir.report.page import write_report
from visir.report.ranked import RankedList, Shown

FIGURES = ["cmc-folder", "correlation", "distances", "map", "ranked-hardest", "ranked-representative", "training"]
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(make_run: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    assert write_report(run, queries=3, top=4) == run / "report.html"
    return Page(run / "report.html")


@pytest.fixture
def own(make_run: Callable[[Path], Path], tmp_path: Path) -> Path:
    """A run folder that the test may damage."""
    return make_run(tmp_path / "own")


def quick(run: Path, **options: object) -> Page:
    """The page alone, with few pictures."""
    return Page(write_report(run, queries=1, top=2, figures=False, **options))  # type: ignore[arg-type]


def test_every_picture_is_inside_decodable_and_described(page: Page) -> None:
    pictures = page.all("img")
    assert len(pictures) == 5 + 2 * 3 * (1 + 4)
    for picture in pictures:
        assert picture["alt"]
        kind, _, content = str(picture["src"]).partition(";base64,")
        raw = base64.b64decode(content, validate=True)
        if kind == "data:image/svg+xml":
            assert ElementTree.fromstring(raw).tag.endswith("svg")
        else:
            assert kind in ("data:image/jpeg", "data:image/png")
            Image.open(io.BytesIO(raw)).verify()


def test_page_asks_for_nothing_outside(page: Page, run: Path) -> None:
    text = (run / "report.html").read_text()
    assert not page.all("script") + page.all("link") + page.all("iframe")
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "srcset"):
            address = attributes.get(name) or ""
            assert not address.startswith(("http:", "https:", "//"))
    assert "@import" not in text
    assert "url(" not in text
    policy = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert len(text) < 8_000_000


def test_links_lead_somewhere(page: Page, run: Path) -> None:
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert len(anchors) == sum("id" in attributes for _, attributes in page.tags)
    for link in page.all("a"):
        address = str(link["href"])
        if address.startswith("#"):
            assert address[1:] in anchors
        else:
            assert (run / address).is_file()


def test_figures_are_there_as_files(page: Page, run: Path) -> None:
    files = sorted((run / "figures").iterdir())
    assert [file.name for file in files] == sorted(f"{n}.{k}" for n in FIGURES for k in ("png", "svg", "pdf"))
    for file in files:
        if file.suffix == ".png":
            Image.open(file).verify()
        elif file.suffix == ".svg":
            ElementTree.parse(file)
        else:
            assert file.read_bytes().startswith(b"%PDF")


def test_numbers_are_those_of_the_reports(page: Page, run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())
    for report in [*scores["reports"], *scores["comparisons"]["untrained"]]:
        row = "".join(f"{100 * report['mean'][m]:.2f}" for m in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP"))
        assert row in re.sub(r"\s", "", page.text)
        assert report["protocol"] in page.text
        assert f"{report['trials'][0]['scored']} queries scored" in page.text
    assert "48.71––" in page.text.replace("\n", "")  # the published row, with gaps where nothing was published
    assert "beta: 1.0" in page.text


def test_trials_are_listed_with_mean_and_deviation(own: Path) -> None:
    scores = json.loads((own / "scores.json").read_text())
    first = scores["reports"][0]
    second = {**first["trials"][0], "trial": "2", "rank1": 0.0, "mAP": 0.25}
    first["trials"].append(second)
    first["curve"].append([0.5] * len(first["curve"][0]))
    (own / "scores.json").write_text(json.dumps(scores))
    text = quick(own).text
    low, high = 0.0, first["trials"][0]["rank1"]
    assert f"{50 * (low + high):.2f} ± {50 * (high - low):.2f}" in text
    assert "Each of the 2 trials" in text
    assert "25.00" in text


def test_equal_runs_give_equal_bytes(page: Page, run: Path, tmp_path: Path) -> None:
    write_report(run, output=tmp_path / "report.html", queries=3, top=4)
    assert (tmp_path / "report.html").read_bytes() == (run / "report.html").read_bytes()
    for file in (run / "figures").iterdir():
        assert (tmp_path / "figures" / file.name).read_bytes() == file.read_bytes(), file.name


def test_hostile_names_stay_text(own: Path) -> None:
    config = (own / "experiment.yaml").read_text().replace("method: dfe", f"method: '{HOSTILE}'")
    (own / "experiment.yaml").write_text(config)
    with (own / "log.jsonl").open("a") as log:
        log.write(json.dumps({"kind": "note", "text": HOSTILE}) + "\n")
    shown = Shown(own / HOSTILE.replace("/", "_"), camera=HOSTILE, identity=HOSTILE, score=0.5, correct=True)
    page = quick(own, searches=[RankedList(shown, (shown, shown), remark=HOSTILE)])
    assert not page.all("script")
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(str(picture["src"]).startswith("data:") for picture in page.all("img"))
    assert page.text.count(HOSTILE) >= 5
    assert "Gallery search" in page.text


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("experiment.yaml", "visir train CONFIG --run"),
        ("log.jsonl", "visir train CONFIG --run"),
        ("scores.json", "visir evaluate"),
        ("features.npz", "visir evaluate"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(own: Path, name: str, command: str) -> None:
    (own / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name} is missing; '{command} .*own' makes it\.$"):
        write_report(own)
    assert not (own / "report.html").exists()


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such run folder"):
        write_report(tmp_path / "nothing")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"reports": []}', '{"reports": [{}]}', '{"reports": [1]}', '{"reports": 3}']
)
def test_damaged_scores(own: Path, content: str) -> None:
    (own / "scores.json").write_text(content)
    with pytest.raises(EvaluationError, match="expected"):
        write_report(own)


def test_damaged_features(own: Path, table: ImageTable, features: np.ndarray) -> None:
    path = own / "features.npz"
    whole = path.read_bytes()
    for damaged in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(EvaluationError, match="expected a whole .npz file"):
            write_report(own)
    np.savez(path, features=features)
    with pytest.raises(EvaluationError, match="expected the arrays .* it holds features"):
        write_report(own)
    broken = features.copy()
    broken[3] = np.inf
    write_features(path, broken, table)
    with pytest.raises(EvaluationError, match="1 of 42 rows"):
        write_report(own)
    assert not (own / "report.html").exists()


def test_a_run_without_validation_and_with_a_cut_log_gives_a_report(own: Path) -> None:
    lines = log_lines(validate=False)
    (own / "log.jsonl").write_text("\n".join([*lines, lines[0][:20]]))
    page = quick(own)
    assert "No validation was run" in page.text
    assert "1 damaged line left out" in page.text


def test_an_empty_log_costs_the_training_figure_only(own: Path) -> None:
    (own / "log.jsonl").write_text("")
    page = quick(own)
    assert "A figure is left out. training curves: the log holds no step" in page.text
    assert len(page.all("img")) == 4 + 2 * (1 + 2)
    assert "#training" not in [link["href"] for link in page.all("a")]


def test_pictures_that_moved_are_blank_and_counted(own: Path, table: ImageTable, features: np.ndarray) -> None:
    moved = ImageTable(Path("/nowhere"), table.paths, table.identity, table.camera, table.modality)
    write_features(own / "features.npz", features, moved)
    page = quick(own)
    assert re.search(r"\d+ picture\(s\) of the ranked lists could not be read", page.text)
    assert any("picture not readable" in str(picture["alt"]) for picture in page.all("img"))


def test_features_of_another_evaluation_are_noticed(own: Path, table: ImageTable) -> None:
    write_features(own / "features.npz", clustered(table, noise=9.0, gap=9.0, seed=5), table)
    assert "one of them is of another evaluation" in quick(own).text


def test_untrained_features_of_other_images_are_left_out(own: Path, table: ImageTable, features: np.ndarray) -> None:
    write_features(own / "features-untrained.npz", features[:-1], table.take(np.arange(len(table) - 1)))
    assert "is of other images" in quick(own).text
    (own / "features-untrained.npz").write_bytes(b"damaged")
    assert "Untrained features left out" in quick(own).text


def test_an_unknown_protocol_costs_the_ranked_lists_only(own: Path) -> None:
    scores = json.loads((own / "scores.json").read_text())
    for report in scores["reports"]:
        report["protocol"] = f"folder-{report['protocol']}-gone"
    (own / "scores.json").write_text(json.dumps(scores))
    page = quick(own)
    assert "Ranked lists are left out. folder: no protocol" in page.text
    assert len(page.all("img")) == 5


def test_reports_of_two_benchmarks_get_two_figures(own: Path, table: ImageTable, features: np.ndarray) -> None:
    scores = json.loads((own / "scores.json").read_text())
    protocol = catalog.find("folder").protocols(1)["folder-i2v"]
    scores["reports"].append({**evaluate(features, table, protocol).as_dict(), "protocol": "sysu-all-1-official"})
    (own / "scores.json").write_text(json.dumps(scores))
    page = quick(own)
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {"figure-cmc-sysu", "figure-cmc-folder"} <= anchors


def test_a_synthetic_twin_is_called_one(own: Path, table: ImageTable, features: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "visir-twin.json").write_text(json.dumps({"layout": "folder", "counts": {}}))
    moved = ImageTable(tmp_path, table.paths, table.identity, table.camera, table.modality)
    write_features(own / "features.npz", features, moved)
    page = quick(own)
    assert "synthetic twin" in page.text
    assert "not comparable with published ones" in page.text


def test_the_page_alone_writes_no_figures_and_links_to_none(own: Path) -> None:
    page = quick(own)
    assert not (own / "figures").exists()
    assert not any(str(link["href"]).startswith("figures/") for link in page.all("a"))
    assert "#files" not in [link["href"] for link in page.all("a")]


def test_a_page_that_cannot_be_written(own: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not be written"):
        write_report(own, output=tmp_path / "file" / "report.html", queries=1, top=1, figures=False)


@pytest.mark.slow
def test_kill_while_writing_leaves_whole_files(run: Path, page: Page, tmp_path: Path) -> None:
    """kill -9 in the middle of the figures: the old page and whole figures stay."""
    own = shutil.copytree(run, tmp_path / "own")
    before = (own / "report.html").read_bytes()
    watched = own / "figures" / "cmc-folder.svg"
    stamp = watched.stat().st_mtime_ns
    code = "import sys, pathlib; from visir.report.page import write_report; write_report(pathlib.Path(sys.argv[1]))"
    writer = subprocess.Popen([sys.executable, "-c", code, str(own)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while watched.stat().st_mtime_ns == stamp and writer.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    os.kill(writer.pid, signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    assert (own / "report.html").read_bytes() == before
    for name in FIGURES:
        Image.open(own / "figures" / f"{name}.png").verify()
        ElementTree.parse(own / "figures" / f"{name}.svg")
