"""``visir gallery`` and ``visir search``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visir.cli.options import DeviceOption, JsonOption
from visir.core.errors import GalleryError

if TYPE_CHECKING:
    from visir.core.types import Modality
    from visir.gallery.entry import Filter

app = typer.Typer(help="A persistent, searchable store of person pictures.", no_args_is_help=True)

GalleryArgument = Annotated[Path, typer.Argument(help="Folder of the gallery.")]
EncoderOption = Annotated[Path, typer.Option(help="Trained run folder, or its encoder folder.")]
ModalityOption = Annotated[str | None, typer.Option(help="visible or infrared: the spectrum of all pictures given.")]
CamerasOption = Annotated[str | None, typer.Option("--camera", help="Only these cameras, such as 1,2.")]
ExcludeOption = Annotated[str | None, typer.Option("--exclude-camera", help="Not these cameras, such as 3.")]
SinceOption = Annotated[str | None, typer.Option(help="Only pictures taken then or later, ISO 8601.")]
UntilOption = Annotated[str | None, typer.Option(help="Only pictures taken before then, ISO 8601.")]
AmongOption = Annotated[str | None, typer.Option(help="Only visible or only infrared pictures.")]
UserOption = Annotated[str | None, typer.Option(help="Who acts, for the log; the login name by default.")]


@app.command()
def add(
    gallery: GalleryArgument,
    sources: Annotated[list[Path], typer.Argument(help="Data sets, folders of pictures, or pictures.")],
    encoder: EncoderOption,
    modality: ModalityOption = None,
    camera: Annotated[int | None, typer.Option(help="Camera of all of them; of a data set, only this camera.")] = None,
    identity: Annotated[str | None, typer.Option(help="Name of the person on all of them.")] = None,
    taken_at: Annotated[str | None, typer.Option(help="When they were taken, ISO 8601.")] = None,
    split: Annotated[str, typer.Option(help="Of a data set: train, validation, trainval or test.")] = "test",
    draw: Annotated[int, typer.Option(help="Of a data set: its partition.")] = 1,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="A new gallery keeps small pictures.")] = False,
    user: UserOption = None,
    device: DeviceOption = None,
) -> None:
    """Store pictures; makes the gallery if there is none. What is stored already is recognised and left as it is."""
    from visir.experiment.enroll import Known, collect, open_service
    from visir.experiment.evaluate import as_split

    known = Known(_modality(modality), camera, identity, taken_at)
    pictures = collect(sources, known, split=as_split(split), draw=draw)
    service = open_service(gallery, encoder, device=device, user=user, create=True, thumbnails=thumbnails)
    result = service.enroll(pictures.paths, pictures.entries)
    for problem in result.problems:
        typer.echo(f"left out: {problem}", err=True)
    typer.echo(f"{gallery}: {result.added} added, {result.repeated} known already, {len(result.problems)} unreadable")
    if result.problems and not result.added + result.repeated:
        raise typer.Exit(2)


@app.command(name="list")
def list_entries(
    gallery: GalleryArgument,
    among: AmongOption = None,
    cameras: CamerasOption = None,
    identity: Annotated[str | None, typer.Option(help="Only this person.")] = None,
    as_json: JsonOption = False,
    user: UserOption = None,
) -> None:
    """List what is stored, one line a picture."""
    from visir.experiment.enroll import open_service

    where = _filter(among=among, cameras=cameras, identity=identity)
    for one in open_service(gallery, None, user=user).entries(where):
        row = {"key": one.key, **_entry(one.entry), "enrolled_at": one.enrolled_at, "enrolled_by": one.enrolled_by}
        typer.echo(json.dumps(row) if as_json else _line(row))


@app.command()
def status(gallery: GalleryArgument, as_json: JsonOption = False) -> None:
    """Count what is stored, by modality and camera."""
    from visir.experiment.enroll import open_service

    facts = open_service(gallery, None).status()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:18} {value}")


@app.command()
def remove(
    gallery: GalleryArgument,
    identity: Annotated[str | None, typer.Option(help="Delete this person and everything derived.")] = None,
    key: Annotated[
        list[int] | None, typer.Option(help="Delete the picture of this key; may be repeated.", min=0, max=2**63 - 1)
    ] = None,
    source: Annotated[str | None, typer.Option(help="Delete the picture that came from here.")] = None,
    user: UserOption = None,
) -> None:
    """Delete pictures, their vectors and thumbnails, and every mention in the log."""
    from visir.experiment.enroll import open_service

    count = open_service(gallery, None, user=user).remove(identity=identity, keys=key, source=source)
    if not count:
        raise GalleryError(
            f"{gallery}: no stored picture matches, so nothing was removed; 'visir gallery list' shows all."
        )
    typer.echo(f"{gallery}: {count} pictures removed")


def search(
    images: Annotated[list[Path], typer.Argument(help="Query pictures, crops of one person each.")],
    gallery: Annotated[Path, typer.Option(help="Folder of the gallery.")],
    encoder: EncoderOption,
    modality: Annotated[str, typer.Option(help="Spectrum of the queries: visible or infrared.")],
    k: Annotated[int, typer.Option("-k", help="How many answers.")] = 10,
    among: AmongOption = None,
    cameras: CamerasOption = None,
    exclude: ExcludeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    user: UserOption = None,
    device: DeviceOption = None,
) -> None:
    """Search a gallery with pictures of one spectrum; answers best first. Every search is logged with its user."""
    from visir.core.types import Modality
    from visir.experiment.enroll import open_service

    where = _filter(among=among, cameras=cameras, exclude=exclude, since=since, until=until)
    service = open_service(gallery, encoder, device=device, user=user)
    answers = service.search_many(images, Modality.parse(modality), k, where)
    for image, matches in zip(images, answers, strict=True):
        rows = [
            {"rank": i, "score": round(m.score, 6), "key": m.key, **_entry(m.entry)} for i, m in enumerate(matches, 1)
        ]
        if as_json:
            typer.echo(json.dumps({"query": str(image), "matches": rows}))
            continue
        typer.echo(f"{image}: {len(rows) or 'no'} matches")
        for row in rows:
            typer.echo("  " + _line(row))


def _modality(text: str | None) -> Modality | None:
    from visir.core.types import Modality

    return None if text is None else Modality.parse(text)


def _filter(
    *,
    among: str | None = None,
    cameras: str | None = None,
    exclude: str | None = None,
    since: str | None = None,
    until: str | None = None,
    identity: str | None = None,
) -> Filter:
    from visir.gallery.entry import Filter

    return Filter(
        modality=_modality(among),
        cameras=_numbers(cameras),
        exclude_cameras=_numbers(exclude) or frozenset(),
        since=since,
        until=until,
        identities=frozenset({identity}) if identity else None,
    )


def _numbers(text: str | None) -> frozenset[int] | None:
    if text is None:
        return None
    try:
        return frozenset(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"expected camera numbers such as 1,2, got {text!r}") from error


def _entry(entry: Any) -> dict[str, Any]:
    return {
        "identity": entry.identity,
        "camera": entry.camera,
        "modality": entry.modality.name.lower(),
        "taken_at": entry.taken_at,
        "source": entry.source,
    }


def _line(row: dict[str, Any]) -> str:
    score = f"{row['rank']:3d}.  {row['score']:+.4f}  " if "rank" in row else ""
    shown = {name: "-" if row[name] is None else row[name] for name in ("identity", "camera", "taken_at")}
    return (
        f"{score}key {row['key']}  identity {shown['identity']}  camera {shown['camera']} "
        f"({row['modality']})  {shown['taken_at']}  {row['source']}"
    )
