"""A partial upload is material for a final one: nowhere is it taken for a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy.orm import Mapped

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    Status,
    Upload,
    upload_completed,
    uploads,
)
from flask_chunked.exceptions import PartialUpload
from tests.apps import blueprint_of, registered, rows
from tests.conftest import AppFactory
from tests.dialects.tus import Tus, metadata
from tests.exchange import id_of, send

KEYS = {
    "length",
    "digest",
    "id",
    "url",
    "file",
    "filename",
    "offset",
    "created_at",
    "status",
    "completed_at",
    "user",
}


class Owned(ChunkedUploadBlueprint):
    """Has an owner, since lists are of an owner's."""

    def get_user_id(self) -> object:
        return "ann"


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(blueprint_class=Owned, CHUNKED_UPLOAD_DOWNLOADS=True)


@pytest.fixture
def tus(app: Flask) -> Tus:
    return Tus(app.test_client())


# -- what shows uploads --------------------------------------------------------------


def listed(app: Flask, query: str) -> list[Any]:
    answer = app.test_client().get(f"/uploads/?{query}")
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json or []]


def by_python(app: Flask, query: str) -> list[Any]:
    wanted = None if "all" in query else Status.UPLOADING
    wanted = Status.COMPLETE if "complete" in query else wanted
    with app.app_context():
        found = uploads(status=wanted, partial="partial=1" in query)
        return [str(upload.id) for upload in found]


def by_command(app: Flask, query: str) -> list[Any]:
    arguments = ["chunked-uploads", "list", "--json"]
    arguments += ["--partial"] if "partial=1" in query else []
    if "all" not in query:
        arguments += ["--status", "complete" if "complete" in query else "uploading"]
    result = app.test_cli_runner().invoke(args=arguments, catch_exceptions=False)
    return [one["id"] for one in json.loads(result.stdout)]


#: What is asked for; what is shown of the uploads in the test.
SHOWN = {
    "status=pending": {"begun", "waiting"},
    "status=complete": {"file", "final"},
    "status=all": {"begun", "waiting", "file", "final"},
    "status=pending&partial=1": {"half"},
    "status=complete&partial=1": {"whole"},
    "status=all&partial=1": {"half", "whole"},
}


@pytest.mark.parametrize("shown", [listed, by_python, by_command])
def test_lists_show_partials_or_files_and_never_both(
    app: Flask, tus: Tus, shown: Callable[[Flask, str], list[Any]]
) -> None:
    whole, half = tus.partial(b"abc"), tus.partial(b"a", 3)
    urls = {
        "whole": whole,
        "half": half,
        "begun": tus.create(3),
        "file": send(app.test_client(), b"abc").json["url"],  # type: ignore[index]
        "final": tus.final(whole).headers["Location"],
        "waiting": tus.final(whole, half).headers["Location"],
    }
    names = {str(id_of(url)): name for name, url in urls.items()}
    for query, right in SHOWN.items():
        found = [names[upload_id] for upload_id in shown(app, query)]
        assert sorted(found) == sorted(right), query


@pytest.mark.parametrize("length", [3, 5])
def test_a_partial_says_so_in_its_json_and_has_no_file(
    app: Flask, tus: Tus, length: int
) -> None:
    url = tus.partial(b"abc", length)
    answer = tus.client.get(url)
    body = answer.json
    assert body is not None
    assert body.keys() == {*KEYS, "partial"}
    assert (body["partial"], body["file"], body["offset"]) == (True, None, 3)
    assert "Link" not in answer.headers
    assert tus.client.get(url + "/file").status_code == 404
    assert tus.client.head(url + "/file").status_code == 404


def test_other_kinds_say_nothing_of_being_partial(app: Flask, tus: Tus) -> None:
    final = tus.final(tus.partial(b"abc")).headers["Location"]
    for url in (tus.create(3), final):
        assert (tus.client.get(url).json or {}).keys() == KEYS


def test_a_partial_tells_a_bare_head_where_it_stands(tus: Tus) -> None:
    answer = tus.client.head(tus.partial(b"abc", 5))
    told = (answer.headers["Upload-Offset"], answer.headers["Upload-Length"])
    assert (answer.status_code, *told) == (200, "3", "5")


# -- what hands files out ------------------------------------------------------------


def test_an_application_cannot_take_a_partial_for_a_file(
    app: Flask, tus: Tus, tmp_path: Path
) -> None:
    upload_id = id_of(tus.partial(b"abc"))
    here = registered(app)
    operations = (
        blueprint_of(app).open,
        blueprint_of(app).path,
        lambda upload: blueprint_of(app).move(upload, tmp_path / "taken"),
    )
    with app.app_context():
        uploads_as_given = [*rows(app), here.db.session.get(here.model, upload_id)]
        for upload, operation in product(uploads_as_given, operations):
            with pytest.raises(PartialUpload):
                operation(upload)
    assert not (tmp_path / "taken").exists()
    assert tus.final(str(upload_id)).status_code == 201


class Scanned(Owned):
    """Refuses every file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delivered: list[Any] = []

    def verify(self, upload: Any) -> None:
        raise ChunkedUploadError("A virus", status=422)

    def deliver(self, upload: Any) -> None:
        self.delivered.append(upload.id)


def test_what_verify_refuses_is_no_file_by_being_partial(
    app_factory: AppFactory,
) -> None:
    app = app_factory(blueprint_class=Scanned, CHUNKED_UPLOAD_DOWNLOADS=True)
    completed: list[Upload] = []

    def receive(_: Flask, upload: Upload) -> None:
        completed.append(upload)

    with upload_completed.connected_to(receive, sender=app):
        tus = Tus(app.test_client())
        url = tus.partial(b"EVIL")
        assert tus.final(url).status_code == 422
    assert completed == []
    assert registered(app).policy.delivered == []  # type: ignore[attr-defined]
    assert tus.client.get(url + "/file").status_code == 404
    assert [row.partial for row in rows(app)] == [True]


# -- the policy of README ------------------------------------------------------------


class Films(Owned):
    """Takes MP4 files by name and by their first bytes."""

    def validate(self, upload: Upload) -> None:
        if not upload.filename.lower().endswith(".mp4"):
            raise ChunkedUploadError("Only .mp4 files are taken", status=422)

    def inspect(self, upload: Upload, head: bytes) -> None:
        if head[4:8] != b"ftyp":
            raise ChunkedUploadError("This is no MP4 file", status=422)


FILM = b"\0\0\0\x18ftypmp42" + bytes(5000)
TITLED = metadata(filename="a.mp4", title="Nosferatu")


@pytest.fixture
def films(app_factory: AppFactory) -> Tus:
    """A table with a column of its own, which must be given."""
    db = SQLAlchemy()

    class Film(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str | None]

    class FilmSchema(ChunkedUploadSchema):
        title = fields.String(required=True)

    policy = type("Uploads", (Films,), {"model": Film, "schema_class": FilmSchema})
    app = app_factory(db=db, blueprint_class=policy, CHUNKED_UPLOAD_DOWNLOADS=True)
    return Tus(app.test_client())


@pytest.mark.parametrize(
    "told", ["", TITLED, metadata(title="x" * 9, filename="a.txt")]
)
def test_parallel_uploads_pass_a_policy_that_is_about_the_file(
    films: Tus, told: str
) -> None:
    more = {"Upload_Metadata": told} if told else {}
    urls = []
    for part in (FILM[:2500], FILM[2500:]):
        answer = films.post(
            part, Upload_Length=str(len(part)), Upload_Concat="partial", **more
        )
        assert answer.status_code == 201, answer.text
        urls.append(answer.headers["Location"])
    final = films.final(*urls, Upload_Metadata=TITLED)
    assert final.status_code == 201, final.text
    assert films.content(final.headers["Location"]) == FILM


@pytest.mark.parametrize(
    ("told", "order", "answer"),
    [
        pytest.param(metadata(filename="a.txt", title="x"), (0, 1), 422, id="name"),
        pytest.param(TITLED, (1, 0), 422, id="first bytes"),
        pytest.param(metadata(filename="a.mp4"), (0, 1), 400, id="required field"),
    ],
)
def test_the_policy_is_asked_about_the_final_upload(
    films: Tus, told: str, order: tuple[int, int], answer: int
) -> None:
    urls = [films.partial(FILM[:2500]), films.partial(FILM[2500:])]
    final = films.final(*(urls[n] for n in order), Upload_Metadata=told)
    assert final.status_code == answer
    assert (films.client.get("/uploads/?status=all").json or []) == []
