"""Every figure: what it draws, what it says, what it refuses. Read back from the figure, not from a picture of it."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from visir.benchmarks import catalog
from visir.core.errors import EvaluationError, StorageError
from visir.core.types import ImageTable, Modality
from visir.evaluation.ranking import rank
from visir.evaluation.report import Report
from visir.report.curves import cmc_curves, training_curves
from visir.report.log import TrainingLog, Validation, read_log
from visir.report.pictures import HEIGHT, WIDTH, thumbnail
from visir.report.ranked import RankedList, Shown, from_ranking, hardest, ranked_lists, representative
from visir.report.spaces import correlation_curves, distance_histograms, feature_map
from visir.report.style import Illustration, printable, render, save


def texts(one: Illustration) -> str:
    return "\n".join(text.get_text() for text in one.figure.findobj(matplotlib.text.Text))


def report(protocol: str, *curves: list[float]) -> Report:
    scores = dict.fromkeys(("rank5", "rank10", "rank20", "mAP", "mINP"), 0.5)
    counts = {"scored": 9, "unscored": 0, "ties": 0}
    trials = tuple({"trial": str(i), "rank1": curve[0], **scores, **counts} for i, curve in enumerate(curves, 1))
    return Report(protocol, "image", "cosine", trials, np.array(curves))


def check(one: Illustration) -> None:
    """A title, a label with its unit on every labelled axis, words beside it, and no change of global settings."""
    titles = [axes.get_title(loc=side) for axes in one.figure.axes for side in ("left", "center", "right")]
    assert any(titles)
    assert one.title
    assert one.caption.endswith(".")
    assert one.alt.endswith(".")


def test_figures_leave_global_settings_alone(table: ImageTable, features: np.ndarray) -> None:
    before = dict(matplotlib.rcParams)
    one = feature_map(features, table)
    render(one.figure, "svg")
    assert dict(matplotlib.rcParams) == before
    import sys

    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_cmc_draws_the_mean_curve_and_names_protocols() -> None:
    one = cmc_curves([("ours", report("sysu-a", [0.2, 0.4], [0.4, 0.8])), ("", report("sysu-b", [0.1, 0.9]))])
    check(one)
    (axes,) = one.figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[1, pytest.approx(30)], [2, pytest.approx(60)]]
    assert axes.lines[1].get_ydata().tolist() == pytest.approx([10, 90])
    assert "%" in axes.get_ylabel()
    assert "ours · sysu-a (rank-1 30.00 %)" in texts(one)
    assert "sysu-b (rank-1 10.00 %)" in texts(one)
    assert "band" in one.caption


def test_cmc_never_mixes_benchmarks() -> None:
    with pytest.raises(EvaluationError, match="one benchmark, got regdb, sysu"):
        cmc_curves([("", report("sysu-a", [0.2])), ("", report("regdb-a", [0.2]))])
    with pytest.raises(EvaluationError, match="got nothing"):
        cmc_curves([])


def test_training_curves_show_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = (
        f'{{"kind": "step", "step": {s}, "losses": {{"a": {s + 1.0}}}, "learning_rate": {{"m": 0.1}}}}'
        for s in range(9)
    )
    path.write_text("\n".join(lines))
    one = training_curves(read_log(path))
    check(one)
    losses, rates = one.figure.axes
    assert losses.lines[0].get_ydata().tolist() == list(range(1, 10))
    assert rates.lines[0].get_ydata().tolist() == [0.1] * 9
    assert "No validation" in one.caption
    log = TrainingLog(validations=(Validation(1, "", {"rank1": 0.25}), Validation(2, "", {"rank1": 0.5, "mAP": 0.1})))
    (only,) = training_curves(log).figure.axes
    assert only.lines[0].get_xydata().tolist() == [[1, 25], [2, 50]]
    with pytest.raises(EvaluationError, match="no step and no validation"):
        training_curves(TrainingLog())


def test_training_curves_of_a_log_with_gaps_only() -> None:
    log = TrainingLog(steps=np.arange(3.0), losses={"a": np.full(3, np.nan)}, rates={"m": np.zeros(3)})
    render(training_curves(log).figure, "png", dpi=40)


def test_distances_say_means_and_overlap(table: ImageTable, features: np.ndarray) -> None:
    one = distance_histograms(features, table)
    check(one)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    across = (table.modality[:, None] == 0) & (table.modality[None] == 1)
    same = table.identity[:, None] == table.identity[None]
    means = distance[across & same].mean(), distance[across & ~same].mean()
    assert f"visible – infrared: mean same {means[0]:.3f}, different {means[1]:.3f}, overlap" in one.alt
    assert len(one.figure.axes) == 3


def test_distances_without_pairs_of_a_kind(table: ImageTable, features: np.ndarray) -> None:
    single = np.flatnonzero(table.modality == Modality.VISIBLE)[::3]
    one = distance_histograms(features[single], table.take(single))
    assert "no pairs" in one.alt
    assert "nan" not in one.alt + texts(one)
    with pytest.raises(EvaluationError, match="at least one pair"):
        distance_histograms(features[:1], table.take(np.array([0])))


def test_map_has_a_marker_for_every_picture_of_the_sample(table: ImageTable, features: np.ndarray) -> None:
    one = feature_map(features, table, identities=5, images=2)
    check(one)
    (axes,) = one.figure.axes
    assert sum(len(group.get_offsets()) for group in axes.collections) == 5 * 2 * 2
    colours = {to_hex(group.get_facecolor()[0]) for group in axes.collections}
    assert len(colours) == 5
    assert f"{5 * 2 * 2} test pictures of 5 identities" in one.caption


def test_correlation_curves_are_columns_of_the_two_matrices(table: ImageTable, features: np.ndarray) -> None:
    one = correlation_curves({"untrained": -features, "trained": features}, table)
    check(one)
    first, second = one.figure.axes
    curves = [np.asarray(line.get_ydata(), float) for line in second.lines[:2]]
    assert [np.isnan(curve).sum() for curve in curves] == [1, 1]
    shown = float(np.nansum((curves[0] - curves[1]) ** 2))
    assert f"squared difference {shown:.4f}" in texts(one)
    # the features of both panels have equal correlations, so both panels say the same
    assert first.get_title(loc="right") == second.get_title(loc="right")
    assert "L_c" in one.caption


def test_correlation_curves_need_three_people_seen_twice(tiny_table: ImageTable) -> None:
    with pytest.raises(EvaluationError, match="at least 3 identities .* got 2"):
        correlation_curves({"trained": np.eye(11, dtype=np.float32)}, tiny_table)
    with pytest.raises(EvaluationError, match="at least one set"):
        correlation_curves({}, tiny_table)


def frames(one: Illustration) -> list[str]:
    (axes,) = one.figure.axes
    return [to_hex(patch.get_edgecolor()).upper() for patch in axes.patches if isinstance(patch, Rectangle)]


def test_ranked_lists_frame_right_green_wrong_red_query_blue(table: ImageTable, features: np.ndarray) -> None:
    protocol = catalog.find("folder").protocols(1)["folder-i2v"]
    trial = protocol.trials(table)[0]
    ranking = rank(features, table, trial, protocol, k=5)
    places = hardest(ranking, table, 3)
    lists = from_ranking(ranking, table, places, top=5)
    one = ranked_lists(lists, name="r", title="Ranked", caption="Words.")
    check(one)
    expected = []
    for place in places:
        expected += ["#0072B2", *("#12855E" if right else "#C7362B" for right in ranking.correct[place])]
    assert frames(one) == expected
    assert texts(one).count("✓") == ranking.correct[places].sum()
    assert texts(one).count("✗") == (~ranking.correct[places]).sum()
    assert lists[0].query.camera == 2
    assert {match.camera for match in lists[0].matches} == {1}
    assert f"average precision {100 * ranking.average_precision[places[0]]:.1f} %" in lists[0].remark


def test_hardest_and_representative_queries(table: ImageTable, features: np.ndarray) -> None:
    protocol = catalog.find("folder").protocols(1)["folder-i2v"]
    ranking = rank(features, table, protocol.trials(table)[0], protocol, k=5)
    precision = ranking.average_precision
    worst = hardest(ranking, table, 4)
    assert precision[worst[0]] == precision.min()
    assert (np.diff(precision[worst]) >= 0).all()
    assert len(set(table.identity[ranking.query[worst]].tolist())) == 4
    assert len(hardest(ranking, table, 999)) == len(ranking.query)
    spread = representative(ranking, 5)
    assert (np.diff(precision[spread]) <= 0).all()
    assert len(set(spread.tolist())) == 5
    assert len(representative(ranking, 999)) == len(ranking.query)


def test_queries_without_a_match_are_never_shown(table: ImageTable, features: np.ndarray) -> None:
    keep = ~((table.identity == 0) & (table.modality == Modality.VISIBLE))
    part = table.take(keep)
    protocol = catalog.find("folder").protocols(1)["folder-i2v"]
    ranking = rank(features[keep], part, protocol.trials(part)[0], protocol, k=5)
    for places in (hardest(ranking, part, 999), representative(ranking, 999)):
        assert len(places) == len(ranking.query) - 3
        assert 0 not in part.identity[ranking.query[places]]


def test_short_lists_and_unknown_matches(tmp_path: Path) -> None:
    query = Shown(tmp_path / "missing.png")
    unknown = Shown(tmp_path / "missing.png", camera="gate", identity="x" * 99, score=-0.0001)
    one = ranked_lists([RankedList(query, (unknown,)), RankedList(query)], name="s", title="Search", caption="Words.")
    assert frames(one) == ["#0072B2", "#8A8F98", "#0072B2"]
    assert "gate" in texts(one)
    assert "\n0.000" in texts(one)
    assert "right" not in one.alt
    with pytest.raises(EvaluationError, match="at least one query"):
        ranked_lists([], name="s", title="Search", caption="Words.")


def test_names_with_formulas_and_foreign_letters_are_drawn_without_warnings(tmp_path: Path) -> None:
    names = ["$\\frac{a$", "人物", "a\nb", "$x^2$ _{"]
    query = Shown(tmp_path / "q.png", identity=names[0], camera=names[1])
    matches = tuple(Shown(tmp_path / "m.png", identity=name, camera=name, score=0.5, correct=True) for name in names)
    one = ranked_lists([RankedList(query, matches)], name="s", title="$", caption="Words.")
    render(one.figure, "png", dpi=50)
    assert printable("人物") == "??"


def test_thumbnails_keep_proportions_and_never_fail(tmp_path: Path) -> None:
    wide = np.full((20, 60, 3), 200, np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = thumbnail(tmp_path / "wide.png")
    assert found is not None
    assert found.shape == (HEIGHT, WIDTH, 3)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    for name in ("empty.png", "text.png", "absent.png"):
        assert thumbnail(tmp_path / name) is None


def test_files_are_readable_reproducible_and_sharp(tmp_path: Path) -> None:
    def draw() -> Illustration:
        return cmc_curves([("", report("sysu-a", [0.2, 0.4], [0.4, 0.8]))])

    files = save(draw(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cmc.pdf", "cmc.png", "cmc.svg"]
    with Image.open(files["png"]) as picture:
        assert picture.size[0] == pytest.approx(7.0 * 300, abs=2)
    assert files["pdf"].read_bytes().startswith(b"%PDF")
    for kind, path in files.items():
        assert render(draw().figure, kind) == path.read_bytes(), kind
    assert b"<text" not in files["svg"].read_bytes()  # letters are paths: the same on every machine
    Image.open(io.BytesIO(render(draw().figure, "png"))).verify()
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        save(draw(), tmp_path / "file")
