"""From pictures to answers: enrolling, searching, removing, and what is logged."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visir.core.errors import GalleryError, ImageError, StorageError
from visir.core.types import ByteArray, Modality
from visir.gallery import service as service_module
from visir.gallery.audit import AuditLog
from visir.gallery.entry import Entry, Filter
from visir.gallery.service import SearchService, digest
from visir.gallery.store import Settings, VectorStore, create_store, open_store

PictureOf = Callable[[int, int], ByteArray]
PEOPLE, SHOTS = 12, 4


def entry(person: int, shot: int) -> Entry:
    return Entry(
        source=f"camera{shot}/person-{person:03d}.png",
        modality=Modality(shot % 2),
        camera=shot,
        identity=f"person {person:03d}",
        taken_at=f"2026-03-{1 + person % 28:02d}T08:00:00Z",
    )


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> VectorStore:
    return create_store(tmp_path / "gallery", settings)


@pytest.fixture
def service(store: VectorStore, embedder: Any, picture: PictureOf) -> SearchService:
    made = SearchService(embedder, store, user="ann")
    places = [(person, shot) for person in range(PEOPLE) for shot in range(SHOTS)]
    made.enroll([picture(*place) for place in places], [entry(*place) for place in places])
    return made


def test_an_infrared_query_finds_its_person_among_the_visible(service: SearchService, picture: PictureOf) -> None:
    for person in range(PEOPLE):
        matches = service.search(picture(person, 9), Modality.INFRARED, 3, Filter(modality=Modality.VISIBLE))
        assert [match.entry.identity for match in matches[:2]] == [f"person {person:03d}"] * 2
        assert {match.entry.modality for match in matches} == {Modality.VISIBLE}
        assert matches[0].score >= matches[1].score >= matches[2].score


def test_all_filters_together(service: SearchService, picture: PictureOf) -> None:
    where = Filter(cameras=frozenset({1, 2}), exclude_cameras=frozenset({2}), since="2026-03-03", until="2026-03-05")
    matches = service.search(picture(2, 9), Modality.VISIBLE, 50, where)
    assert [match.entry.identity for match in matches] == ["person 002", "person 003"]
    assert {match.entry.camera for match in matches} == {1}


def test_many_queries_equal_one_by_one(service: SearchService, picture: PictureOf) -> None:
    queries = [picture(person, 7) for person in range(4)]
    many = service.search_many(queries, Modality.INFRARED, 5)
    assert many == [service.search(query, Modality.INFRARED, 5) for query in queries]
    assert service.search_many([], Modality.INFRARED) == []


def test_an_empty_gallery_finds_nothing(store: VectorStore, embedder: Any, picture: PictureOf) -> None:
    assert SearchService(embedder, store).search(picture(0, 0), Modality.VISIBLE) == []


def test_enrolling_streams_and_goes_on_past_unreadable_files(
    tmp_path: Path, store: VectorStore, embedder: Any, picture: PictureOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CHUNK", 4)
    files = []
    for number in range(10):
        file = tmp_path / f"{number}.png"
        Image.fromarray(picture(number, 0)).save(file)
        files.append(file)
    files[3].write_bytes(b"")
    files[8].write_bytes(files[8].read_bytes()[:200])
    files.append(tmp_path / "absent.png")
    service = SearchService(embedder, store)
    done = service.enroll(files, [Entry(str(file), Modality.VISIBLE) for file in files])
    assert done.keys.tolist() == [0, 1, 2, -1, 3, 4, 5, 6, -1, 7, -1]
    assert (done.added, done.repeated) == (8, 0)
    assert len(done.problems) == 3
    assert all(
        str(file) in problem for file, problem in zip([files[3], files[8], files[10]], done.problems, strict=True)
    )
    assert max(embedder.calls) <= 4
    again = service.enroll(files[:3], [Entry(str(file), Modality.VISIBLE) for file in files[:3]])
    assert again.keys.tolist() == [0, 1, 2]
    assert (again.added, again.repeated) == (0, 3)
    assert sum(embedder.calls) == 8  # what is known is not embedded again


def test_large_pictures_make_small_batches(
    store: VectorStore, embedder: Any, picture: PictureOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "CHUNK_BYTES", 2 * picture(0, 0).nbytes)
    SearchService(embedder, store).enroll([picture(n, 0) for n in range(5)], [entry(n, 0) for n in range(5)])
    assert embedder.calls == [2, 2, 1]


def test_bytes_arrays_and_files_are_the_same_picture(
    tmp_path: Path, service: SearchService, picture: PictureOf
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(1, 1)).save(buffer, "PNG")
    (tmp_path / "one.png").write_bytes(buffer.getvalue())
    answers = [
        service.search(query, Modality.INFRARED, 1)[0]
        for query in (picture(1, 1), buffer.getvalue(), tmp_path / "one.png")
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].score == pytest.approx(1.0, abs=1e-6)
    assert service.enroll([buffer.getvalue()], [entry(1, 1)]).repeated == 1


def test_thumbnails_are_small_pictures(service: SearchService, picture: PictureOf) -> None:
    content = service.store.thumbnail(5)
    assert content is not None
    with Image.open(io.BytesIO(content)) as shown:
        assert shown.size == (32, 64)
        assert np.abs(np.asarray(shown, float) - picture(1, 1)).mean() < 12


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (b"", "empty file"),
        (b"not a picture", "not a whole, readable image"),
        (Path("absent.jpg"), "cannot be read"),
        (np.zeros((4, 4), np.uint8), r"expected \(H, W, 3\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"expected \(H, W, 3\) uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"expected \(H, W, 3\) uint8"),
    ],
)
def test_unreadable_queries(service: SearchService, query: Any, said: str) -> None:
    before = len(service.audit.lines())
    with pytest.raises(ImageError, match=said):
        service.search(query, Modality.INFRARED)
    assert len(service.audit.lines()) == before


def test_another_encoder_is_refused(store: VectorStore, embedder: Any) -> None:
    embedder.fingerprint = "0ther" * 8
    with pytest.raises(GalleryError, match=r"encoder 5eed5eed5eed, but this one is 0ther0ther0t; .* new gallery"):
        SearchService(embedder, store)
    embedder.fingerprint, embedder.dim = store.settings.fingerprint, 7
    with pytest.raises(GalleryError, match="vectors of length 24, but this encoder makes 7"):
        SearchService(embedder, store)


def test_an_encoder_that_breaks_changes_nothing(
    service: SearchService, embedder: Any, picture: PictureOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = service.store.version()
    monkeypatch.setattr(embedder, "embed", lambda images, modality: np.full((len(images), 24), np.nan, np.float32))
    with pytest.raises(GalleryError, match="enrolling: expected finite values"):
        service.enroll([picture(50, 0)], [entry(50, 0)])
    with pytest.raises(GalleryError, match="searching: expected finite values"):
        service.search(picture(50, 0), Modality.VISIBLE)
    monkeypatch.setattr(embedder, "embed", lambda images, modality: np.zeros((1, 3), np.float32))
    with pytest.raises(GalleryError, match=r"encoder: expected vectors of shape \(1, 24\), got \(1, 3\)"):
        service.search(picture(50, 0), Modality.VISIBLE)
    assert service.store.version() == version


def test_without_an_encoder_one_can_look_and_remove(service: SearchService, picture: PictureOf) -> None:
    keeper = SearchService(None, open_store(service.store.uri))
    assert keeper.status()["pictures"] == PEOPLE * SHOTS
    assert keeper.remove(keys=[0]) == 1
    with pytest.raises(GalleryError, match="need an encoder"):
        keeper.search(picture(0, 0), Modality.VISIBLE)
    with pytest.raises(GalleryError, match="need an encoder"):
        keeper.enroll([picture(80, 0)], [entry(80, 0)])


def test_one_entry_for_each_picture(service: SearchService, picture: PictureOf) -> None:
    with pytest.raises(GalleryError, match="one entry for each picture, got 0 for 1"):
        service.enroll([picture(0, 0)], [])


def test_status_counts(service: SearchService) -> None:
    status = service.status()
    assert status["pictures"] == 48
    assert (status["visible"], status["infrared"]) == (24, 24)
    assert status["identities"] == 12
    assert status["cameras"] == {0: 12, 1: 12, 2: 12, 3: 12}
    assert (status["first_taken_at"], status["last_taken_at"]) == ("2026-03-01T08:00:00Z", "2026-03-12T08:00:00Z")
    assert status["fingerprint"] == "5eed" * 16
    assert status["bytes"] > 48 * 24 * 4


def test_everything_is_logged_without_pictures(service: SearchService, picture: PictureOf) -> None:
    query = picture(3, 9)
    matches = service.search(query, Modality.INFRARED, 4, Filter(cameras=frozenset({0})), user="bob")
    service.entries(Filter(identities=frozenset({"person 003"})))
    begun, enrolled, searched, listed = service.audit.lines()
    assert (begun["action"], begun["user"], begun["pictures"]) == ("enroll", "ann", 48)
    assert (enrolled["action"], enrolled["user"], enrolled["added"]) == ("enrolled", "ann", 48)
    assert (searched["action"], searched["user"], searched["k"]) == ("search", "bob", 4)
    assert searched["filter"] == {"cameras": [0]}
    assert searched["query_sha256"] == [digest(query)]
    assert searched["keys"] == [[match.key for match in matches]]
    assert (listed["action"], listed["count"]) == ("list", 4)


def test_a_search_that_cannot_be_logged_is_not_answered(
    store: VectorStore, embedder: Any, picture: PictureOf, tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()
    service = SearchService(embedder, store, audit=AuditLog(tmp_path / "log"))
    with pytest.raises(StorageError, match="nothing was answered"):
        service.search(picture(0, 0), Modality.VISIBLE)


def test_removing_a_person_removes_every_trace(
    service: SearchService, picture: PictureOf, traces: Callable[[Path, bytes], list[str]]
) -> None:
    folder = Path(service.store.uri)
    theirs = [one for one in service.store.select() if one.entry.identity == "person 005"]
    small = [service.store.thumbnail(one.key) for one in theirs]
    service.search(picture(5, 0), Modality.VISIBLE, 6)
    service.search(picture(6, 0), Modality.VISIBLE, 2, Filter(identities=frozenset({"person 005", "person 006"})))
    secrets = [b"person 005", b"person-005", *(one.digest.encode() for one in theirs), *(s for s in small if s)]
    assert all(traces(folder, secret) for secret in secrets)
    assert service.remove(identity="person 005") == SHOTS
    assert [secret for secret in secrets if traces(folder, secret)] == []
    gone = {one.key for one in theirs}
    searches = [line for line in service.audit.lines() if line["action"] == "search"]
    assert not gone & {key for line in searches for keys in line["keys"] for key in keys}
    assert searches[0]["forgotten"] == SHOTS + 1
    assert len(searches[0]["keys"][0]) == 6 - SHOTS
    assert service.audit.lines()[-1]["removed"] == SHOTS
    assert all(match.key not in gone for match in service.search(picture(5, 0), Modality.VISIBLE, 48))
    assert service.status()["pictures"] == (PEOPLE - 1) * SHOTS


def test_a_removal_while_a_search_answers_leaves_no_trace(
    service: SearchService,
    picture: PictureOf,
    traces: Callable[[Path, bytes], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, query = Path(service.store.uri), picture(5, 0)
    gone = {one.key for one in service.store.select() if one.entry.identity == "person 005"}
    other, search = SearchService(None, open_store(folder)), service.store.search

    def removed_meanwhile(*args: Any) -> Any:
        answers = search(*args)
        assert gone & {match.key for match in answers[0]}
        assert other.remove(identity="person 005") == SHOTS
        return answers

    monkeypatch.setattr(service.store, "search", removed_meanwhile)
    matches = service.search(query, Modality.VISIBLE, 6, Filter(identities=frozenset({"person 005", "person 006"})))
    line = service.audit.lines()[-1]
    assert line["action"] == "search"
    assert line["keys"] == [[match.key for match in matches]]
    assert matches
    assert not gone & {match.key for match in matches}
    assert line["filter"] == {"identities": ["person 006"], "unknown_identities": 1}
    assert line["forgotten"] == SHOTS + 1
    assert traces(folder, b"person 005") == traces(folder, digest(query).encode()) == []


def test_a_search_while_a_removal_is_under_way_leaves_no_trace(
    service: SearchService,
    picture: PictureOf,
    traces: Callable[[Path, bytes], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, query = Path(service.store.uri), picture(5, 0)
    gone = {one.key for one in service.store.select() if one.entry.identity == "person 005"}
    remove = service.store.remove

    def searched_meanwhile(keys: Any) -> int:  # what the log had to forget beforehand is forgotten already
        service.search(query, Modality.VISIBLE, 6, Filter(identities=frozenset({"person 005"})))
        assert traces(folder, b"person 005")
        return remove(keys)

    monkeypatch.setattr(service.store, "remove", searched_meanwhile)
    assert service.remove(keys=sorted(gone)) == SHOTS
    search = next(line for line in service.audit.lines() if line["action"] == "search")
    assert (search["keys"], search["query_sha256"], search["forgotten"]) == ([[]], [], SHOTS + 2)
    assert traces(folder, b"person 005") == traces(folder, digest(query).encode()) == []


def test_the_log_does_not_name_whom_the_gallery_does_not_know(service: SearchService, picture: PictureOf) -> None:
    service.remove(identity="person 005")
    where = Filter(identities=frozenset({"person 005", "person 006"}))
    service.search(picture(1, 0), Modality.VISIBLE, 3, where)
    service.entries(where)
    for line in service.audit.lines()[-2:]:
        assert line["filter"] == {"identities": ["person 006"], "unknown_identities": 1}
    assert "person 005" not in service.audit.path.read_text()


def test_a_removal_takes_what_is_enrolled_meanwhile(
    service: SearchService,
    picture: PictureOf,
    traces: Callable[[Path, bytes], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    select = service.store.select
    late = [picture(5, 70), picture(5, 71)]

    def enrolled_meanwhile(*args: Any, **options: Any) -> Any:
        found = list(select(*args, **options))
        if late and "source" in options:  # asked by the service; the store itself asks while nobody else can write
            assert service.enroll([late.pop()], [entry(5, 0)]).added == 1
        return iter(found)

    monkeypatch.setattr(service.store, "select", enrolled_meanwhile)
    assert service.remove(identity="person 005") == SHOTS + 2
    assert service.audit.lines()[-1]["removed"] == SHOTS + 2
    assert not list(select(Filter(identities=frozenset({"person 005"}))))
    assert traces(Path(service.store.uri), b"person 005") == []


def test_nothing_is_written_that_cannot_be_logged(service: SearchService, picture: PictureOf, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    blind = SearchService(service._embedder, service.store, audit=AuditLog(tmp_path / "log"))
    version = service.store.version()
    with pytest.raises(StorageError, match="every enrolment"):
        blind.enroll([picture(60, 0)], [entry(60, 0)])
    with pytest.raises(StorageError, match="every enrolment"):
        blind.remove(identity="person 005")
    assert service.store.version() == version


def test_the_log_says_what_is_about_to_be_written(
    service: SearchService, picture: PictureOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(service.store, "add", killed)
    monkeypatch.setattr(service.store, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        service.enroll([picture(60, 0)], [entry(60, 0)], user="bob")
    with pytest.raises(KeyboardInterrupt):
        service.remove(identity="person 005", user="eve")
    assert [(line["user"], line["action"]) for line in service.audit.lines()[-2:]] == [
        ("bob", "enroll"),
        ("eve", "remove"),
    ]


def test_removing_by_key_and_by_source(service: SearchService, picture: PictureOf) -> None:
    service.search(picture(2, 0), Modality.VISIBLE, 1, Filter(identities=frozenset({"person 002"})))
    assert service.remove(source="camera0/person-002.png") == 1
    assert service.remove(source="camera0/person-002.png") == 0
    assert service.remove(keys=[0, 1, 1, 999]) == 2
    assert service.status()["pictures"] == 45
    search = next(line for line in service.audit.lines() if line["action"] == "search")
    assert search["filter"] == {"identities": ["person 002"]}  # others of that name are still here


@pytest.mark.parametrize("what", [{}, {"identity": "a", "source": "b"}, {"keys": [1], "identity": "a"}])
def test_removing_wants_exactly_one_choice(service: SearchService, what: dict[str, Any]) -> None:
    with pytest.raises(GalleryError, match="exactly one of"):
        service.remove(**what)


def test_the_name_of_the_login_by_default(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carol")
    service = SearchService(None, store)
    service.entries()
    assert service.audit.lines()[-1]["user"] == "carol"
