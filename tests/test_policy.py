"""The policy's class attributes, ``get_query`` and ``get_user_id``, overridden."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Integer, Select, String
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ConfigurationError,
)
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.memory import MemoryStorage
from tests.apps import blueprint_of

from .apps import make_app, registered, rows
from .conftest import AppFactory
from .exchange import (
    begin,
    detail,
    finish,
    put_form,
    put_raw,
    send,
)

# -- names -----------------------------------------------------------------------------


def test_field_name_names_the_file_part(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        field_name = "clip"

    client = app_factory(blueprint_class=Uploads).test_client()
    assert put_form(client, b"abc", part="clip").status_code == 200
    assert detail(put_form(client, b"abc")) == "No chunk file was submitted"


def test_user_field_name_names_the_owner(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        owner_id: Mapped[int | None] = mapped_column("owner", Integer)

    class Uploads(ChunkedUploadBlueprint):
        model = Video
        user_field_name = "owner_id"

        def get_user_id(self) -> object:
            return "17"

    app = app_factory(db=db, blueprint_class=Uploads)
    answer = put_raw(app.test_client(), b"abc", total=6)
    assert answer.json is not None
    assert answer.json["user"] == 17
    with app.app_context():
        video = db.session.scalars(db.select(Video)).one()
        assert (video.owner_id, video.user) == (17, None)


def test_user_field_name_that_is_no_column_is_named(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        user_field_name = "owner"

    with pytest.raises(ConfigurationError, match=r"'owner' is no column.*user"):
        app_factory(blueprint_class=Uploads)


# -- limits ----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [5, "5", "5B"])
def test_max_bytes_of_a_blueprint_wins(
    app_factory: AppFactory, limit: int | str
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        max_bytes = limit

    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_MAX_BYTES=3)
    client = app.test_client()
    assert put_raw(client, b"abcde").status_code == 200
    answer = put_raw(client, b"a", total=6)
    assert detail(answer) == "Size of file exceeds the limit (5 bytes)"
    assert len(rows(app)) == 1


def test_get_max_bytes_may_depend_on_the_caller(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            from flask import request

            return request.headers["X-User"]

        def get_max_bytes(self) -> int | None:
            return None if self.get_user_id() == "gold" else 5

    client = app_factory(
        blueprint_class=Uploads, CHUNKED_UPLOAD_MAX_BYTES=1
    ).test_client()
    assert put_raw(client, b"abcdef", headers={"X-User": "gold"}).status_code == 200
    refused = put_raw(client, b"abcdef", headers={"X-User": "tin"})
    assert detail(refused) == "Size of file exceeds the limit (5 bytes)"


@pytest.mark.parametrize(("parts", "status"), [(3, 200), (4, 413)])
def test_max_form_parts_bounds_a_form(
    app_factory: AppFactory, parts: int, status: int
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        max_form_parts = 3

    app = app_factory(blueprint_class=Uploads)
    more = {f"field{i}": "x" for i in range(parts - 1)}
    answer = put_form(app.test_client(), b"abc", fields=more)
    assert answer.status_code == status
    assert len(rows(app)) == (status == 200)


# -- checksums -------------------------------------------------------------------------


def test_do_checksum_check_off_wants_no_digest(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        do_checksum_check = False

    app = app_factory(blueprint_class=Uploads)
    client = app.test_client()
    url = begin(client, b"abc", 3)
    assert client.post(url, data={"md5": "not compared"}).status_code == 200
    assert rows(app)[0].is_complete


def test_do_checksum_check_is_on(app: Flask) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 3)
    assert detail(client.post(url)) == "Checksum of type 'md5' is required"
    assert detail(client.post(url, data={"md5": "0"})) == "checksum does not match"
    assert not rows(app)[0].is_complete


def test_checksum_of_a_blueprint_wins(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        checksum = "sha256"

    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_CHECKSUM="sha1")
    client = app.test_client()
    url = begin(client, b"abc", 3)
    refused = client.post(url, data={"sha1": hashlib.sha1(b"abc").hexdigest()})
    assert detail(refused) == "Checksum of type 'sha256' is required"
    digest = hashlib.sha256(b"abc").hexdigest()
    assert client.post(url, data={"sha256": digest}).status_code == 200
    assert rows(app)[0].digest == f"sha256:{digest}"


# -- storage ---------------------------------------------------------------------------


def test_storage_class_and_options_make_the_storage(app_factory: AppFactory) -> None:
    class Patient(LocalStorage):
        pass

    class Uploads(ChunkedUploadBlueprint):
        storage_class = Patient
        storage_options = {"lock_timeout": 7.0}

    app = app_factory(
        blueprint_class=Uploads,
        CHUNKED_UPLOAD_STORAGE_CLASS="flask_chunked.storage.memory:MemoryStorage",
    )
    storage = registered(app).storage
    assert isinstance(storage, Patient)
    assert storage._lock_timeout.seconds == 7.0
    assert send(app.test_client(), b"abc").status_code == 200


def test_storage_class_may_be_a_plain_function(app_factory: AppFactory) -> None:
    seen: list[StorageSettings] = []

    def factory(settings: StorageSettings, **options: object) -> MemoryStorage:
        seen.append(settings)
        assert options == {"bucket": "b"}
        return MemoryStorage(settings)

    class Uploads(ChunkedUploadBlueprint):
        storage_class = factory
        storage_options = {"bucket": "b"}

    app = app_factory(blueprint_class=Uploads)
    assert len(seen) == 1
    assert seen[0].base == app.instance_path
    assert send(app.test_client(), b"abc").status_code == 200


def test_path_of_a_blueprint_wins_and_the_method_stays(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        path = "videos/%Y"  # type: ignore[assignment]

    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_PATH="elsewhere")
    send(app.test_client(), b"abc")
    (row,) = rows(app)
    year = datetime.now(timezone.utc).strftime("%Y")
    blueprint = blueprint_of(app)
    with app.app_context():
        path = blueprint.path(row)
    assert path == tmp_path / "instance" / "videos" / year / f"{row.id}.done"
    assert path.read_bytes() == b"abc"


def test_subclass_of_a_blueprint_with_a_path_keeps_it(
    app_factory: AppFactory,
) -> None:
    class Videos(ChunkedUploadBlueprint):
        path = "videos"  # type: ignore[assignment]

    class Short(Videos):
        pass

    app = app_factory(blueprint_class=Short)
    assert registered(app).settings.path == "videos"


def test_upload_path_names_the_directory_too(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        upload_path = "videos/%m"

    assert registered(app_factory(blueprint_class=Uploads)).settings.path == "videos/%m"


# -- time, downloads, owners -----------------------------------------------------------


def test_expiration_delta_of_a_blueprint_wins(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        expiration_delta = timedelta(microseconds=1)

    app = app_factory(blueprint_class=Uploads)
    client = app.test_client()
    created = put_raw(client, b"", total=0)
    assert created.json is not None
    answer = client.get(created.json["url"])
    assert (answer.status_code, detail(answer)) == (410, "Upload has expired")


@pytest.mark.parametrize("own", [True, False])
def test_downloads_of_a_blueprint_wins(app_factory: AppFactory, own: bool) -> None:
    class Uploads(ChunkedUploadBlueprint):
        downloads = own

    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_DOWNLOADS=not own)
    client = app.test_client()
    done = send(client, b"abc").json
    assert done is not None
    assert (done["file"] is not None) is own
    with client.get(f"/uploads/{done['id']}/file") as answer:
        assert answer.status_code == (200 if own else 404)
        assert (answer.data == b"abc") is own


@pytest.mark.parametrize("own", [True, False])
def test_allow_anonymous_of_a_blueprint_wins(
    app_factory: AppFactory, own: bool
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        allow_anonymous = own

        def get_user_id(self) -> object:
            return None

    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=not own)
    answer = put_raw(app.test_client(), b"abc")
    assert answer.status_code == (200 if own else 401)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_bytes", "many"),
        ("checksum", "shake_128"),
        ("storage_class", 7),
        ("expiration_delta", timedelta(0)),
        ("downloads", "perhaps"),
        ("allow_anonymous", 2),
        ("upload_path", ""),
    ],
)
def test_a_wrong_attribute_is_named_at_start_up(
    tmp_path: Path, name: str, value: object
) -> None:
    policy = type("Uploads", (ChunkedUploadBlueprint,), {name: value})
    shown = "path" if name == "upload_path" else name
    with pytest.raises(ConfigurationError, match=f"^{shown} = "):
        make_app(tmp_path, blueprint_class=policy)


def test_attributes_of_one_blueprint_leave_others_alone(
    app_factory: AppFactory,
) -> None:
    class Small(ChunkedUploadBlueprint):
        max_bytes = 2

    app = app_factory()
    app.register_blueprint(Small("small", __name__), url_prefix="/small")
    client = app.test_client()
    assert put_raw(client, b"abc").status_code == 200
    assert put_raw(client, b"abc", url="/small/").status_code == 400


def test_finishing_uses_the_settings_of_the_registration(
    app_factory: AppFactory,
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        downloads = True

    client = app_factory(blueprint_class=Uploads).test_client()
    url = begin(client, b"abc", 3)
    shown = client.get(url)
    assert shown.headers.get("Link") is None
    finish(client, url, b"abc")
    assert client.get(url).headers["Link"] == (f'<{url}/file>; rel="enclosure"')


# -- get_query -------------------------------------------------------------------------


def test_get_query_narrows_what_is_served(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def get_query(self) -> Select[Any]:
            model = self.registration.model
            return super().get_query().where(model.filename != "hidden")

    app = app_factory(
        blueprint_class=Uploads,
        CHUNKED_UPLOAD_USER_RESTRICTED=False,
    )
    client = app.test_client()
    shown = begin(client, b"abc", 6, fields={"filename": "shown"})
    hidden = begin(client, b"abc", 6, fields={"filename": "hidden"})
    assert client.get(shown).status_code == 200
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        assert client.open(hidden, method=method).status_code == 404
    listed = client.get("/uploads/?count=1")
    assert [one["url"] for one in listed.json or []] == [shown]
    assert listed.headers["X-Total-Count"] == "1"
    assert len(rows(app)) == 2


def test_get_query_may_join_another_table(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Project(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    class Uploads(ChunkedUploadBlueprint):
        model = Video

        def get_query(self) -> Select[Any]:
            return super().get_query().join(Project, Project.name == Video.filename)

    app = app_factory(
        db=db, blueprint_class=Uploads, CHUNKED_UPLOAD_USER_RESTRICTED=False
    )
    with app.app_context():
        db.create_all()
        db.session.add(Project(name="film"))
        db.session.commit()
    client = app.test_client()
    film = begin(client, b"abc", 6, fields={"filename": "film"})
    other = begin(client, b"abc", 6, fields={"filename": "other"})
    assert client.get(film).status_code == 200
    assert client.get(other).status_code == 404
    assert len(client.get("/uploads/?count=1").json or []) == 1


# -- get_user_id -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "owner"),
    [
        pytest.param(17, 17, id="int"),
        pytest.param("17", 17, id="digits"),
        pytest.param("seventeen", None, id="word"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="none"),
        pytest.param([17], None, id="list"),
        pytest.param(float("inf"), None, id="infinite"),
        pytest.param("9" * 30, None, id="too-large"),
        pytest.param("9" * 5000, None, id="5000-digits"),
    ],
)
def test_user_id_is_coerced_to_the_columns_type(
    app_factory: AppFactory, value: object, owner: int | None
) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        user: Mapped[int | None] = mapped_column()  # type: ignore[assignment]

    class Uploads(ChunkedUploadBlueprint):
        model = Video

        def get_user_id(self) -> object:
            return value

    app = app_factory(
        db=db, blueprint_class=Uploads, CHUNKED_UPLOAD_ALLOW_ANONYMOUS=False
    )
    client = app.test_client()
    answer = put_raw(client, b"abc", total=6)
    if owner is not None:
        assert answer.status_code == 200
        assert [row.user for row in rows(app)] == [owner]
        return
    assert answer.status_code == 401
    assert detail(answer) == (
        "Upload requires user authentication but user cannot be determined"
    )
    assert rows(app) == []
    assert client.get("/uploads/").json == []
    unknown = "/uploads/3b241101-e2bb-4255-8caf-4136c566a962"
    assert client.get(unknown).status_code == 404


def test_the_users_whole_life_goes_by_one_id(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def get_user_id(self) -> object:
            return 7  # into a text column

    app = app_factory(blueprint_class=Uploads)
    client = app.test_client()
    assert send(client, b"abc").status_code == 200
    assert rows(app)[0].user == "7"
