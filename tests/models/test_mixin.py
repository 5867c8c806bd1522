"""The mixin in a user's model: columns, checks, keys and binds of their own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from marshmallow import fields
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Uuid,
    event,
    insert,
    inspect,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column, relationship, validates

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ChunkedUploadMixin,
    ChunkedUploadSchema,
    create_tables,
)
from flask_chunked.models import UTCDateTime

from ..apps import registered, rows
from ..conftest import AppFactory
from ..exchange import begin, detail, finish, put_form, put_raw, send

COLUMNS = [
    "id",
    "blueprint",
    "user",
    "filename",
    "offset",
    "length",
    "status",
    "fence",
    "last_start",
    "last_digest",
    "created_at",
    "last_activity_at",
    "completed_at",
    "storage_key",
    "dialect",
    "partial",
    "concat",
    "raw_metadata",
    "content_type",
    "hash_name",
    "hash_state",
    "digest",
    "event_id",
    "delivered_at",
    "attempts",
    "storage_state",
    "verify_started_at",
    "expected_digest",
    "attached_at",
]
#: Of the index of lists, after the column that has owners.
REST = ["status", "partial", "created_at", "id"]


def table_of(app: Flask) -> Table:
    return registered(app).table


# -- columns and checks ----------------------------------------------------------------


@pytest.mark.parametrize("name", COLUMNS)
def test_every_promised_column_is_there(app: Flask, name: str) -> None:
    assert name in table_of(app).c
    with app.app_context():
        there = inspect(registered(app).database.engine()).get_columns("chunked_upload")
    assert name in {column["name"] for column in there}


def test_nothing_is_called_metadata(app: Flask) -> None:
    assert "metadata" not in table_of(app).c


@pytest.mark.parametrize("name", ["offset", "length", "fence", "last_start"])
def test_sizes_have_64_bits(app: Flask, name: str) -> None:
    assert isinstance(table_of(app).c[name].type, BigInteger)


def test_sizes_beyond_32_bits_are_kept(app: Flask) -> None:
    url = begin(app.test_client(), b"abc", 2**40)
    assert rows(app)[0].length == 2**40
    assert app.test_client().head(url).headers["Upload-Length"] == str(2**40)


VALUES = {
    "negative-offset": {"offset": -1},
    "offset-past-length": {"offset": 11, "length": 10},
    "unknown-status": {"status": "asleep"},
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_database_refuses_what_cannot_be(app: Flask, values: dict[str, Any]) -> None:
    whole = {
        "id": uuid.uuid4(),
        "blueprint": "uploads",
        "filename": "a",
        "offset": 0,
        "status": "uploading",
        "fence": 0,
        "created_at": datetime.now(timezone.utc),
        "last_activity_at": datetime.now(timezone.utc),
        "dialect": "",
        "partial": False,
        "attempts": 0,
    }
    database = registered(app).database
    with app.app_context():
        with pytest.raises(IntegrityError), database.transaction() as connection:
            connection.execute(insert(table_of(app)).values({**whole, **values}))
        with database.transaction() as connection:
            connection.execute(insert(table_of(app)).values(whole))


def test_times_are_aware_and_utc_whatever_zone_they_come_in(app: Flask) -> None:
    column = UTCDateTime()
    zone = timezone(timedelta(hours=5))
    moment = datetime(2026, 1, 1, 2, 0, tzinfo=zone)
    with app.app_context():
        dialect = registered(app).database.engine().dialect
    bound = column.process_bind_param(moment, dialect)
    assert bound == datetime(2025, 12, 31, 21, 0)
    assert column.process_result_value(bound, dialect) == moment
    assert column.process_bind_param(None, dialect) is None
    assert column.process_result_value(None, dialect) is None


# -- a model of one's own --------------------------------------------------------------


class TitledSchema(ChunkedUploadSchema):
    title = fields.String()
    tag = fields.Integer(dump_only=True)


class Titled(ChunkedUploadBlueprint):
    schema_class = TitledSchema


def test_table_args_of_the_model_are_kept(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        __tablename__ = "films"
        __table_args__ = (
            CheckConstraint("title <> ''", name="films_title"),
            Index("ix_films_title", "title"),
        )
        title: Mapped[str | None] = mapped_column(String(20))

    app = app_factory(db=db, model=Video, blueprint_class=Titled)
    names = {constraint.name for constraint in table_of(app).constraints}
    assert {"films_title", "films_status", "films_offset_ge_0"} <= names
    assert {"ix_films_title", "ix_films_owner"} <= {
        index.name for index in table_of(app).indexes
    }
    client = app.test_client()
    refused = put_form(client, b"abc", fields={"title": ""})
    assert refused.status_code == 400
    assert refused.json is not None
    assert "title" in refused.json["errors"]
    assert put_form(client, b"abc", fields={"title": "x"}).status_code == 200


NAMING = {
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}


def indexes_of(app: Flask, table: str) -> dict[str | None, list[str | None]]:
    """Name -> columns, as the database says."""
    with app.app_context():
        known = inspect(registered(app).database.engine()).get_indexes(table)
    return {index["name"]: index["column_names"] for index in known}


def test_naming_convention_of_the_application_is_respected(
    app_factory: AppFactory,
) -> None:
    db = SQLAlchemy(metadata=MetaData(naming_convention=NAMING))
    app = app_factory(db=db)
    with app.app_context():
        checks = inspect(registered(app).database.engine()).get_check_constraints(
            "chunked_upload"
        )
    assert {str(check["name"]) for check in checks} == {
        f"ck_chunked_upload_chunked_upload_{rest}"
        for rest in ("offset_ge_0", "offset_le_length", "status")
    }
    assert send(app.test_client(), b"abc").status_code == 200


@pytest.mark.parametrize("naming", [None, NAMING], ids=["ours", "convention"])
@pytest.mark.parametrize("name", ["Media", "Film", "Short"])
@pytest.mark.parametrize("joined", [False, True], ids=["single", "joined-too"])
def test_classes_that_share_a_table_work_as_models(
    app_factory: AppFactory, naming: dict[str, str] | None, name: str, joined: bool
) -> None:
    db = SQLAlchemy(metadata=MetaData(naming_convention=naming))

    class Media(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__: Mapping[str, Any] = {
            "polymorphic_on": "kind",
            "polymorphic_identity": "Media",
        }

    class Film(Media):
        __mapper_args__: Mapping[str, Any] = {"polymorphic_identity": "Film"}

    class Short(Film):
        __mapper_args__: Mapping[str, Any] = {"polymorphic_identity": "Short"}

    if joined:

        class Song(Media):
            id: Mapped[uuid.UUID] = mapped_column(
                ForeignKey("media.id"), primary_key=True
            )
            __mapper_args__: Mapping[str, Any] = {"polymorphic_identity": "Song"}

    seen: list[str] = []

    class Uploads(ChunkedUploadBlueprint):
        model: Any = {"Media": Media, "Film": Film, "Short": Short}[name]

        def get_user_id(self) -> object:
            return "ada"

        def verify(self, upload: Any) -> None:
            seen.append(type(upload).__name__)

    app = app_factory(db=db, blueprint_class=Uploads)
    with app.app_context():
        db.create_all()
    client = app.test_client()
    url = begin(client, b"abc", 6)
    assert client.get(url).status_code == 200
    assert client.head(url).headers["Upload-Offset"] == "3"
    assert put_form(client, b"def", start=3, url=url).status_code == 200
    assert finish(client, url, b"abcdef").status_code == 200
    assert len(client.get("/uploads/?status=all&count=1").json or []) == 1
    assert rows(app)[0].extra["kind"] == name
    assert client.delete(url).status_code == 204
    assert seen == [name]


def test_class_of_another_kind_does_not_see_an_upload(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Media(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        kind: Mapped[str] = mapped_column(String(20))
        __mapper_args__: Mapping[str, Any] = {
            "polymorphic_on": "kind",
            "polymorphic_identity": "media",
        }

    class Film(Media):
        __mapper_args__: Mapping[str, Any] = {"polymorphic_identity": "film"}

    class Uploads(ChunkedUploadBlueprint):
        model = Film

        def get_user_id(self) -> object:
            return "ada"

    app = app_factory(db=db, blueprint_class=Uploads)
    client = app.test_client()
    url = begin(client, b"abc", 6)
    assert len(client.get("/uploads/?status=all").json or []) == 1
    with app.app_context():
        db.session.execute(update(Media).values(kind="media"))
        db.session.commit()
    assert client.get(url).status_code == 404
    assert client.get("/uploads/?status=all").json == []


@pytest.mark.parametrize("naming", [None, NAMING], ids=["ours", "convention"])
def test_blueprints_that_share_a_model_share_its_index(
    app_factory: AppFactory, naming: dict[str, str] | None
) -> None:
    db = SQLAlchemy(metadata=MetaData(naming_convention=naming))

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        person: Mapped[int | None]

    class Film(Video):
        pass

    class OfPersons(ChunkedUploadBlueprint):
        user_field_name = "person"

    app = app_factory(db=db, model=Video)
    for name, kind in (("two", ChunkedUploadBlueprint), ("three", OfPersons)):
        app.register_blueprint(kind(name, __name__, model=Film), url_prefix=f"/{name}")
    with app.app_context():
        db.drop_all()
    create_tables(app)
    prefix = "" if naming is None else "ix_video_"
    assert indexes_of(app, "video") == {
        f"{prefix}ix_video_activity": ["status", "last_activity_at"],
        f"{prefix}ix_video_owner": ["blueprint", "user", *REST],
        f"{prefix}ix_video_owner_person": ["blueprint", "person", *REST],
    }


def test_owner_may_be_a_foreign_key_of_another_name(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Person(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        person_id: Mapped[int] = mapped_column("person", ForeignKey("person.id"))
        person: Mapped[Person] = relationship(Person)

    seen: list[object] = []

    class Uploads(ChunkedUploadBlueprint):
        model = Video
        user_field_name = "person_id"

        def get_user_id(self) -> object:
            return "3"

        def on_completion(self, upload: Any) -> None:
            seen.append(upload.person.id)

    app = app_factory(
        db=db, blueprint_class=Uploads, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False
    )
    with app.app_context():
        db.create_all()
        db.session.add(Person(id=3))
        db.session.commit()
    client = app.test_client()
    url = begin(client, b"abc", 3)
    assert client.get(url).json["user"] == 3  # type: ignore[index]
    assert len(client.get("/uploads/").json or []) == 1
    assert finish(client, url, b"abc").status_code == 200
    assert seen == [3]


def test_required_owner_column_without_an_owner_is_said_so(
    app_factory: AppFactory,
) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        user: Mapped[str] = mapped_column(String(20))

    app = app_factory(db=db, model=Video)
    answer = put_raw(app.test_client(), b"abc")
    assert answer.status_code == 401
    assert "user cannot be determined" in detail(answer)
    assert rows(app) == []


def test_owner_may_be_a_uuid(app_factory: AppFactory) -> None:
    db = SQLAlchemy()
    owner = uuid.uuid4()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        user: Mapped[uuid.UUID | None] = mapped_column(Uuid)

    class Uploads(ChunkedUploadBlueprint):
        model = Video

        def get_user_id(self) -> object:
            return str(owner)

    app = app_factory(db=db, blueprint_class=Uploads)
    client = app.test_client()
    url = begin(client, b"abc", 3)
    assert client.get(url).json["user"] == str(owner)  # type: ignore[index]
    assert rows(app)[0].user == owner


def test_validators_of_the_model_refuse_with_400(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str | None]

        @validates("title")
        def check_title(self, key: str, value: str) -> str:
            if value == "rude":
                raise ValueError("Mind your language")
            if value == "secret":
                raise ChunkedUploadError("Not for you", status=403)
            return value.title()

    app = app_factory(db=db, model=Video, blueprint_class=Titled)
    client = app.test_client()
    rude = put_form(client, b"abc", fields={"title": "rude"})
    assert rude.status_code == 400
    assert rude.json is not None
    assert rude.json["errors"] == {"title": ["Mind your language"]}
    secret = put_form(client, b"abc", fields={"title": "secret"})
    assert (secret.status_code, detail(secret)) == (403, "Not for you")
    assert rows(app) == []
    put_form(client, b"abc", fields={"title": "my film"})
    assert rows(app)[0].title == "My Film"


def test_events_and_defaults_of_the_model_run(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str] = mapped_column(default="untitled")
        tag: Mapped[int | None]

    @event.listens_for(Video, "before_insert")
    def tag(mapper: object, connection: object, video: Video) -> None:
        video.tag = len(video.filename)

    app = app_factory(db=db, model=Video, blueprint_class=Titled)
    answer = put_raw(app.test_client(), b"abc", fields={"filename": "a.mov"})
    assert answer.json is not None
    assert (answer.json["title"], answer.json["tag"]) == ("untitled", 5)


def test_unique_column_of_the_model_refuses_with_400(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        title: Mapped[str] = mapped_column(unique=True)

    app = app_factory(db=db, model=Video, blueprint_class=Titled)
    client = app.test_client()
    answers = [put_form(client, b"abc", fields={"title": "x"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert "title" in answers[1].json["errors"]  # type: ignore[index]
    assert len(rows(app)) == 1


def test_model_may_live_in_another_bind(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        __bind_key__ = "media"

    seen: list[bool] = []

    class Uploads(ChunkedUploadBlueprint):
        model = Video

        def on_completion(self, upload: Any) -> None:
            seen.append(upload in db.session)

    app = app_factory(
        db=db,
        blueprint_class=Uploads,
        SQLALCHEMY_BINDS={"media": f"sqlite:///{tmp_path}/media.db"},
    )
    assert send(app.test_client(), b"abc").status_code == 200
    assert seen == [True]
    with app.app_context():
        ours = registered(app).database.engine()
        assert str(ours.url).endswith("/media.db")
        assert set(inspect(ours).get_table_names()) == {
            "video",
            "chunked_upload_member",
            "chunked_upload_removal",
        }
        assert inspect(db.engine).get_table_names() == []


def test_two_models_keep_their_uploads_apart(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Film(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    class Song(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    app = app_factory(db=db, model=Film)
    app.register_blueprint(
        ChunkedUploadBlueprint("songs", __name__, model=Song), url_prefix="/songs"
    )
    create_tables(app)
    client = app.test_client()
    url = begin(client, b"abc", 6, url="/songs/")
    assert client.get(re.sub("/songs/", "/uploads/", url)).status_code == 404
    assert (len(rows(app)), len(rows(app, "songs"))) == (0, 1)


def test_a_row_made_by_hand_is_a_valid_upload(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        here.db.session.add(here.model(blueprint="uploads", length=3))
        here.db.session.commit()
        (upload,) = here.repository.matching()
    assert (upload.offset, upload.status.value, upload.is_complete) == (
        0,
        "uploading",
        False,
    )
    assert upload.created_at.tzinfo is timezone.utc
