"""Score a trained run on the test images of its benchmark, and embed any known data set."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from visir.benchmarks import catalog as benchmarks
from visir.benchmarks.base import Benchmark, Split, partition_of, without_partition
from visir.core.errors import ConfigError, DatasetError, EvaluationError, nearest
from visir.core.files import write_json
from visir.core.types import ImageTable
from visir.engine.conversion import with_conversions
from visir.engine.embedder import Embedder
from visir.engine.encoders import load_encoder
from visir.engine.runtime import choose_device
from visir.evaluation.evaluate import evaluate_many
from visir.evaluation.protocol import Protocol
from visir.evaluation.report import Report, format_table
from visir.evaluation.scorefile import Format, format_report, save_features
from visir.experiment.config import Experiment
from visir.experiment.folder import RunFolder


def evaluate_run(
    run: Path,
    *,
    root: Path | None = None,
    protocols: Sequence[str] = (),
    device: str | None = None,
    facts: Mapping[str, Any] | None = None,
    comparisons: Mapping[str, Sequence[Report]] | None = None,
    converter: Path | None = None,
) -> list[Report]:
    """Embed the test images once, score them by every protocol asked for, and leave features.npz and scores.json.

    Args:
        run: a trained run folder.
        root: folder of the data set, if it is no longer where the experiment says.
        protocols: protocol ids; by default those of the experiment, or the benchmark's first one.
        device: None for a GPU where there is one.
        facts: single values to keep beside the scores.
        comparisons: label -> scores of something else on the same images, to keep beside ours.
        converter: run of a network that converts pictures; infrared images are then also embedded as it makes them
            visible (:class:`visir.engine.conversion.WithConversions`), and what is left has names of its own,
            features-converted.npz and scores-converted.json.

    Raises:
        ConfigError: not a run folder, or a protocol that the benchmark does not have.
        CheckpointError: nothing trained in it yet, or a converter that does not convert.
    """
    folder = RunFolder(run)
    experiment = folder.read_experiment()
    table = read_test(experiment, root)
    chosen = choose_protocols(experiment, protocols)
    encoder = load_encoder(run)
    if converter is not None:
        encoder = with_conversions(encoder, load_encoder(converter))
    embedder = Embedder(encoder.network, encoder.preprocess, encoder.fingerprint, device=choose_device(device))
    features = embedder.embed_table(table)
    reports = evaluate_many(features, table, chosen, distance=embedder.distance)
    features_file, scores_file = folder.features, folder.scores
    if converter is not None:
        features_file, scores_file = folder.converted_features, folder.converted_scores
        facts = {**(facts or {}), "converter": encoder.about["converter"]}
    save_features(features_file, features, replace(table, root=table.root.absolute()))
    scores = {
        **(facts or {}),
        **_warnings(folder, experiment, root, table),
        "encoder": embedder.fingerprint,
        "reports": [report.as_dict() for report in reports],
        "comparisons": {k: [one.as_dict() for one in v] for k, v in (comparisons or {}).items()},
    }
    write_json(scores_file, scores)
    return reports


def _warnings(folder: RunFolder, experiment: Experiment, root: Path | None, test: ImageTable) -> dict[str, str]:
    """What a reader of the scores must know; printed, and kept beside them."""
    found = _seen_in_training(experiment, root, test)
    if not folder.encoder.is_dir():
        found["training"] = "the training has not ended; these are the scores of its newest checkpoint"
    for warning in found.values():
        sys.stderr.write(f"warning: {warning}\n")
    return {f"warning, {name}": warning for name, warning in found.items()}


def _seen_in_training(experiment: Experiment, root: Path | None, test: ImageTable) -> dict[str, str]:
    """A warning when people of the test were trained on, as in a folder without a split column.

    Another ``root`` than the one that was trained on has people of its own, whatever their numbers.
    """
    section = experiment.benchmark
    try:
        where = experiment.root()
        if root is not None and root.resolve() != where.resolve():
            return {}
        trained = benchmarks.find(section.name).read(where, section.split, section.draw)
    except (ConfigError, DatasetError):  # the training part need not be at hand
        return {}
    both = len(np.intersect1d(trained.identities(), test.identities()))
    if not both:
        return {}
    count = f"{both} of {len(test.identities())} test identities"
    return {"people": f"{count} were trained on; these are no scores of unseen people"}


def read_test(experiment: Experiment, root: Path | None = None) -> ImageTable:
    """The test images of an experiment's benchmark."""
    section = experiment.benchmark
    where = root if root is not None else experiment.root()
    return benchmarks.find(section.name).read(where, "test", section.draw)


def choose_protocols(experiment: Experiment, names: Sequence[str] = ()) -> list[Protocol]:
    """The protocols asked for, or else those of the experiment, or else the benchmark's first one.

    A name without partition, such as ``regdb-v2t-img``, means that of the experiment's draw, ``regdb-t03-v2t-img``.
    """
    section = experiment.benchmark
    benchmark = benchmarks.find(section.name)
    known = dict(benchmark.protocols(section.draw))
    known |= {without_partition(name): protocol for name, protocol in known.items()}
    wanted = list(names) or list(section.protocols) or [next(iter(known))]
    return [_of(benchmark, known, name) for name in wanted]


def published(experiment: Experiment, reports: Sequence[Report]) -> list[str]:
    """A line for each report whose protocol has published figures in the experiment file: in percent, with source."""
    lines = []
    for report in reports:
        figures = experiment.published.get(report.protocol)
        if isinstance(figures, Mapping):
            text = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
            lines.append(
                f"published  {report.protocol}: {text} ({experiment.published.get('source', 'no source given')})"
            )
    return lines


def same_training(experiments: Sequence[Experiment]) -> None:
    """Raise ConfigError unless the experiments differ in their draw alone, so that their scores may be averaged."""
    digests = {replace(e, benchmark=replace(e.benchmark, draw=1)).digest() for e in experiments}
    lists = {tuple(protocol.name for protocol in choose_protocols(e)) for e in experiments}
    if len(digests) > 1 or len({len(names) for names in lists}) > 1:
        raise ConfigError(
            "evaluate: expected runs of one experiment over several draws, got runs with different configurations; "
            "evaluate them one by one."
        )


def find_protocol(name: str) -> Protocol:
    """The protocol with this id, of any benchmark that ships with visir.

    Raises:
        ConfigError: no such protocol; the nearest known id is named.
    """
    draw = partition_of(name)
    known: dict[str, Protocol] = {}
    for benchmark in map(benchmarks.find, benchmarks.available()):
        number = draw or 1
        known |= benchmark.protocols(number if 1 <= number <= benchmark.draws else 1)
    if name not in known:
        raise ConfigError(f"unknown protocol {name!r}. {nearest(name, known)}")
    return known[name]


def _of(benchmark: Benchmark, known: Mapping[str, Protocol], name: str) -> Protocol:
    if name not in known:
        raise ConfigError(f"{benchmark.title} has no protocol {name!r}. {nearest(name, known)}")
    return known[name]


def format_reports(reports: Sequence[Report], form: Format = "table") -> str:
    """Several reports as one text: a table, a JSON list, or CSV whose first column is the protocol id."""
    if form == "table":
        return format_table(reports)
    if form == "json":
        return json.dumps([report.as_dict() for report in reports], indent=2)
    texts = [format_report(report, "csv").splitlines() for report in reports]
    rows = [f"{report.protocol},{line}" for report, lines in zip(reports, texts, strict=True) for line in lines[1:]]
    return "\n".join([f"protocol,{texts[0][0]}", *rows])


def chance(table: ImageTable, protocol: Protocol) -> float:
    """The rank-1 in [0, 1] that a random order of every gallery is expected to give, over trials and scored queries."""
    values = []
    for trial in protocol.trials(table):
        query, gallery = table.take(trial.query), table.take(trial.gallery)
        seen = ~protocol.hidden(query, gallery)
        same = (query.identity[:, None] == gallery.identity) & (query.identity[:, None] >= 0)
        right = (seen & same).sum(axis=1)
        scored = right > 0
        if not scored.any():
            raise EvaluationError(f"{protocol.name}: no query of trial {trial.name} has a right image in the gallery.")
        values.append(float((right[scored] / seen.sum(axis=1)[scored]).mean()))
    return float(np.mean(values))


SPLITS: tuple[Split, ...] = ("train", "validation", "trainval", "test")


def as_split(name: str) -> Split:
    """The split of this name; a ConfigError lists them."""
    for split in SPLITS:
        if split == name:
            return split
    raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, got {name!r}.")


def embed_data_set(
    run: Path, root: Path, output: Path, *, split: str = "test", draw: int = 1, device: str | None = None
) -> tuple[int, int]:
    """Embed one split of a data set into an npz file.

    Returns:
        number of images and length of a feature.
    """
    table = benchmarks.recognise(root).read(root, as_split(split), draw)
    embedder = Embedder.open(run, device=choose_device(device))
    save_features(output, embedder.embed_table(table), replace(table, root=root.absolute()))
    return len(table), embedder.dim
