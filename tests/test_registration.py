"""Registering: several apps, several blueprints, one ``db``, start-up errors."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadMixin,
    ConfigurationError,
    create_tables,
    deliver_pending,
)

from .apps import registered, rows
from .conftest import NewApp
from .exchange import begin, put_raw, send

# -- which db --------------------------------------------------------------------------


def test_app_without_a_database_is_an_error_that_names_both_ways(
    new_app: NewApp,
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        new_app().register_blueprint(ChunkedUploadBlueprint("uploads", __name__))
    assert "db.init_app(app)" in str(caught.value)
    assert "db=" in str(caught.value)


def test_db_may_be_passed_before_it_is_initialized(new_app: NewApp) -> None:
    db = SQLAlchemy()
    app = new_app()
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__, db=db), url_prefix="/uploads"
    )
    db.init_app(app)
    create_tables(app)
    assert send(app.test_client(), b"abc").status_code == 200


def test_db_of_the_model_is_taken(new_app: NewApp) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    app = new_app(db)
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__, model=Video), url_prefix="/uploads"
    )
    create_tables(app)
    assert send(app.test_client(), b"abc").status_code == 200


# -- several apps and blueprints -------------------------------------------------------


def test_one_blueprint_object_serves_two_apps(new_app: NewApp) -> None:
    blueprint = ChunkedUploadBlueprint("uploads", __name__)
    apps = [new_app(SQLAlchemy(), "one"), new_app(SQLAlchemy(), "two")]
    apps[1].config["CHUNKED_UPLOAD_MAX_BYTES"] = 2
    for app in apps:
        app.register_blueprint(blueprint, url_prefix="/uploads")
        create_tables(app)
    assert put_raw(apps[0].test_client(), b"abc").status_code == 200
    assert put_raw(apps[1].test_client(), b"abc").status_code == 400
    assert put_raw(apps[1].test_client(), b"ab").status_code == 200
    assert [row.length for app in apps for row in rows(app)] == [3, 2]


def test_two_blueprints_without_a_model_share_one_table(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    for name in ("films", "songs"):
        app.register_blueprint(
            ChunkedUploadBlueprint(name, __name__), url_prefix=f"/{name}"
        )
    create_tables(app)
    client = app.test_client()
    for name in ("films", "songs"):
        assert send(client, b"abc", url=f"/{name}/").status_code == 200
        assert [row.blueprint for row in rows(app, name)] == [name]
    films, songs = registered(app, "films"), registered(app, "songs")
    assert films.model is songs.model
    assert films.table.name == "chunked_upload"


def test_two_apps_of_one_factory_share_a_module_level_db(new_app: NewApp) -> None:
    db = SQLAlchemy()

    def create_app(name: str) -> Flask:
        app = new_app(db, name)
        app.register_blueprint(
            ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
        )
        create_tables(app)
        return app

    first, second = create_app("one"), create_app("two")
    url = begin(first.test_client(), b"abc", 6)
    assert second.test_client().get(url).status_code == 404
    assert first.test_client().get(url).status_code == 200
    assert send(second.test_client(), b"abc").status_code == 200
    assert [len(rows(app)) for app in (first, second)] == [1, 1]


def test_one_blueprint_registered_twice_serves_under_both_names(
    new_app: NewApp,
) -> None:
    seen: list[tuple[str, bytes]] = []

    class Uploads(ChunkedUploadBlueprint):
        max_bytes = 4
        fail = True

        def deliver(self, upload: Any) -> None:
            if self.fail:
                raise ConnectionError
            with self.open(upload) as file:
                seen.append((upload.blueprint, file.read()))

    app = new_app(SQLAlchemy())
    blueprint = Uploads("uploads", __name__)
    app.register_blueprint(blueprint, url_prefix="/films", name="films")
    app.register_blueprint(blueprint, url_prefix="/songs", name="songs")
    create_tables(app)
    client = app.test_client()
    for name, data in (("films", b"abc"), ("songs", b"defg")):
        url = begin(client, data, len(data), url=f"/{name}/")
        assert url.startswith(f"http://localhost/{name}/")
        theirs = "songs" if name == "films" else "films"
        assert client.get(url.replace(name, theirs)).status_code == 404
        assert send(client, data, url=f"/{name}/").status_code == 200
        assert put_raw(client, b"x", total=5, url=f"/{name}/").status_code == 400
    blueprint.fail = False
    with app.app_context():
        assert len(list(deliver_pending(older_than=timedelta(0)))) == 2
    assert sorted(seen) == [("films", b"abc"), ("songs", b"defg")]


def test_blueprint_without_a_prefix_leaves_the_apps_urls_alone(
    new_app: NewApp,
) -> None:
    app = new_app(SQLAlchemy())
    app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))

    @app.get("/about")
    def about() -> str:
        return "about"

    create_tables(app)
    client = app.test_client()
    assert client.get("/about").data == b"about"
    url = begin(client, b"abc", 3, url="/")
    assert client.get(url).status_code == 200


def test_blueprint_that_is_not_registered_says_so(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    stray = ChunkedUploadBlueprint("stray", __name__)
    with app.app_context(), pytest.raises(RuntimeError, match="'stray' is not regist"):
        stray.get_max_bytes()


# -- configuration ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("CHUNKED_UPLOAD_MAX_BYTE", "CHUNKED_UPLOAD_MAX_BYTES"),
        ("CHUNKED_UPLOAD_USER_RESTRICED", "CHUNKED_UPLOAD_USER_RESTRICTED"),
        ("CHUNKED_UPLOAD_QUOTA", "CHUNKED_UPLOAD_"),
    ],
)
def test_unknown_key_names_the_nearest(new_app: NewApp, key: str, nearest: str) -> None:
    app = new_app(SQLAlchemy(), **{key: 1})
    with pytest.raises(ConfigurationError, match=f"{key}.*did you mean {nearest}"):
        app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))


def test_strings_of_the_environment_are_accepted_for_every_key(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "EXPIRATION_DELTA": "12h",
        "PATH": "files/%Y",
        "CHECKSUM": "sha256",
        "COMPLETE_EXT": ".whole",
        "INCOMPLETE_EXT": ".half",
        "STORAGE_CLASS": "flask_chunked.storage.memory:MemoryStorage",
        "USER_RESTRICTED": "FALSE",
        "ABSTRACT_MODEL": "0",
        "MAX_BYTES": "5GiB",
        "ALLOW_ANONYMOUS": "true",
        "DURABLE": "False",
        "DOWNLOADS": "1",
        "READ_TIMEOUT": "45",
        "SQLITE_WAL": "false",
    }
    for key, value in values.items():
        monkeypatch.setenv(f"FLASK_CHUNKED_UPLOAD_{key}", value)
    app = new_app(SQLAlchemy())
    app.config.from_prefixed_env()
    app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))
    settings = registered(app).settings
    assert settings.expiration_delta == timedelta(hours=12)
    assert settings.path == "files/%Y"
    assert settings.checksum == "sha256"
    assert (settings.complete_ext, settings.incomplete_ext) == (".whole", ".half")
    assert type(registered(app).storage).__name__ == "MemoryStorage"
    assert settings.max_bytes == 5 * 2**30
    assert settings.read_timeout == 45.0
    switches = (
        settings.user_restricted,
        settings.abstract_model,
        settings.durable,
        settings.sqlite_wal,
    )
    assert switches == (False, False, False, False)
    assert (settings.allow_anonymous, settings.downloads) == (True, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("MAX_BYTES", "5 GB"), ("DOWNLOADS", "yes"), ("READ_TIMEOUT", "soon")],
)
def test_wrong_string_of_the_environment_names_its_key(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(f"FLASK_CHUNKED_UPLOAD_{key}", value)
    app = new_app(SQLAlchemy())
    app.config.from_prefixed_env()
    with pytest.raises(ConfigurationError, match=f"CHUNKED_UPLOAD_{key} = '{value}'"):
        app.register_blueprint(ChunkedUploadBlueprint("uploads", __name__))


def test_configuration_is_read_once(new_app: NewApp) -> None:
    app = new_app(SQLAlchemy())
    app.register_blueprint(
        ChunkedUploadBlueprint("uploads", __name__), url_prefix="/uploads"
    )
    create_tables(app)
    app.config["CHUNKED_UPLOAD_MAX_BYTES"] = 1
    with closing(put_raw(app.test_client(), b"abc")) as answer:
        assert answer.status_code == 200
