"""``visir evaluate``, ``score`` and ``embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visir.cli.options import DeviceOption, Distance, Format, FormatOption, ProtocolOption, RootOption


def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(help="Trained run folder; several are combined, as RegDB's ten draws are.")
    ],
    root: RootOption = None,
    protocols: ProtocolOption = None,
    form: FormatOption = Format.table,
    fewer: Annotated[
        bool, typer.Option("--fewer", help="Combine fewer draws than the protocol has; said in the label.")
    ] = False,
    converter: Annotated[
        Path | None,
        typer.Option(
            help="Run of a network that converts, such as cyclegan: infrared images are also embedded as it makes them "
            "visible. Writes scores-converted.json instead."
        ),
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Score a trained run by the official protocols of its benchmark; writes scores.json and features.npz into it."""
    from visir.evaluation.report import combine
    from visir.experiment.evaluate import evaluate_run, format_reports, published, same_training
    from visir.experiment.folder import RunFolder

    experiments = [RunFolder(run).read_experiment() for run in runs]
    same_training(experiments)
    per_run = [
        evaluate_run(run, root=root, protocols=protocols or (), device=device, converter=converter) for run in runs
    ]
    if len(per_run) > 1:
        reports = [combine(list(rows), incomplete=fewer) for rows in zip(*per_run, strict=True)]
    else:
        reports = per_run[0]
    typer.echo(format_reports(reports, form.value))
    if converter is not None:
        typer.echo(f"Infrared images also as {converter} makes them visible.", err=True)
    if form is Format.table:
        for line in published(experiments[0], reports):
            typer.echo(line)


def score(
    features: Annotated[
        Path, typer.Argument(help="npz from visir embed, or with camera, person, image (from 1) and feature.")
    ],
    protocol: Annotated[str, typer.Option(help="Protocol id, such as sysu-all-1-official.")],
    split: Annotated[
        Path | None,
        typer.Option(help="Folder with rand_perm_cam.mat and test_id.mat, if not the data set's own."),
    ] = None,
    form: FormatOption = Format.table,
    distance: Annotated[
        Distance, typer.Option(help="euclidean or manhattan on the features as given, or cosine.")
    ] = Distance.euclidean,
) -> None:
    """Score features from anywhere by an official protocol, without images and without a trained run."""
    from visir.evaluation.evaluate import evaluate as run_evaluation
    from visir.evaluation.scorefile import format_report, load_features
    from visir.experiment.evaluate import find_protocol

    values, table = load_features(features, split)
    report = run_evaluation(values, table, find_protocol(protocol), distance=distance.value)
    typer.echo(format_report(report, form.value))


def embed(
    run: Annotated[Path, typer.Argument(help="Trained run folder, or its encoder folder.")],
    root: Annotated[Path, typer.Argument(help="Folder of a known data set.")],
    output: Annotated[Path, typer.Option(help="npz file to write.")] = Path("features.npz"),
    split: Annotated[str, typer.Option(help="train, validation, trainval or test.")] = "test",
    draw: Annotated[int, typer.Option(help="Train/test partition, for RegDB 1 to 10.")] = 1,
    device: DeviceOption = None,
) -> None:
    """Embed every image of a data set: arrays features, path, identity, camera and modality."""
    from visir.experiment.evaluate import embed_data_set

    count, dim = embed_data_set(run, root, output, split=split, draw=draw, device=device)
    typer.echo(f"{output}: {count} features of length {dim}")
