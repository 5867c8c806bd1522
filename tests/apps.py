"""Applications for tests: real SQLite files, real directories, one blueprint."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Select
from werkzeug.routing import Rule

from flask_chunked import ChunkedUploadBlueprint, create_tables
from flask_chunked.engine.records import Upload
from flask_chunked.registration import Registration, registrations
from tests.places import STORAGE, places, stored_objects

#: Of the apps that name no other: its model and tables are built once, and that is more
#: than half of what an app costs.
_DB = SQLAlchemy()
#: Names of tables, and whether there is a log -> a new file of SQLite with them.
_NEW_FILES: dict[tuple[object, ...], bytes] = {}

#: The version of Flask.
FLASK = tuple(int(part) for part in version("flask").split(".")[:3])


#: What a rule's builder of URLs is made of -> the builder.
_BUILDERS: dict[tuple[object, ...], Callable[..., tuple[str, str]]] = {}
#: Model, blueprint and conditions -> the statements that find one upload.
_FINDERS: dict[tuple[object, ...], dict[bool, Select[Any]]] = {}


class CachingRule(Rule):
    """Compiles the builder of its URLs once for all apps: a fifth of an app's cost."""

    def _compile_builder(
        self, append_unknown: bool = True
    ) -> Callable[..., tuple[str, str]]:
        converters = tuple((n, type(one)) for n, one in self._converters.items())
        plain = not self.defaults and "(" not in self.rule
        made_of = (self.rule, tuple(self._trace), converters, append_unknown)
        if not plain or made_of not in _BUILDERS:
            built = super()._compile_builder(append_unknown)
            if not plain:
                return built
            _BUILDERS[made_of] = built
        return _BUILDERS[made_of]


class CachingFlask(Flask):
    """An app that is made fast."""

    url_rule_class = CachingRule


def make_app(
    tmp_path: Path,
    *,
    blueprint_class: type[ChunkedUploadBlueprint] = ChunkedUploadBlueprint,
    model: type[Any] | None = None,
    db: SQLAlchemy | None = None,
    url_prefix: str = "/uploads",
    **config: object,
) -> Flask:
    """An app with the blueprint ``uploads``, anonymous uploads allowed.

    :param config: keys of ``app.config``, over the defaults.
    """
    app = CachingFlask("tests", instance_path=str(tmp_path / "instance"))
    app.config.update(
        TESTING=True,
        SECRET_KEY="test",
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True,
        **places(tmp_path),
    )
    app.config.update(config)
    if db is None:
        # A model of a test's own must not stay in the tables of all others.
        db = _DB if model is None else SQLAlchemy()
    db.init_app(app)
    blueprint = blueprint_class("uploads", __name__, model=model)
    app.register_blueprint(blueprint, url_prefix=url_prefix)
    _share_finders(registered(app))
    _create_tables(app)
    return app


def _share_finders(here: Registration) -> None:
    """Let apps that find uploads alike use one statement: SQLite's is compiled once."""
    if here.db is _DB:
        settings = here.settings
        conditions = (settings.user_restricted, settings.allow_anonymous)
        kind = (here.model, here.name, here.user_field, *conditions)
        here._finders = _FINDERS.setdefault(kind, {})


def _create_tables(app: Flask) -> None:
    """``create_tables``; where an app had the same tables, a copy of its new file."""
    here = registered(app)
    uri = str(app.config["SQLALCHEMY_DATABASE_URI"])
    file = Path(uri.removeprefix("sqlite:///"))
    if here.db is not _DB or not uri.startswith("sqlite:///") or file.exists():
        create_tables(app)
        return
    tables = ((t.key, *sorted(str(one.name) for one in t.indexes)) for t in here.tables)
    kind = (*tables, here.settings.sqlite_wal)
    if kind in _NEW_FILES:
        file.write_bytes(_NEW_FILES[kind])
        with app.app_context():
            here.database.engine()
        return
    create_tables(app)
    dispose(app)
    _NEW_FILES[kind] = file.read_bytes()


def dispose(app: Flask) -> None:
    """Close the pooled connections of an app."""
    with app.app_context():
        for here in registrations(app).values():
            here.database.dispose()
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()


def registered(app: Flask, name: str = "uploads") -> Registration:
    """The blueprint's registration, with engine, repository and storage."""
    return registrations(app)[name]


def blueprint_of(app: Flask, name: str = "uploads") -> ChunkedUploadBlueprint:
    """The blueprint that is registered under this name."""
    blueprint = app.blueprints[name]
    assert isinstance(blueprint, ChunkedUploadBlueprint)
    return blueprint


def rows(app: Flask, name: str = "uploads") -> list[Upload]:
    """All rows of the blueprint's uploads."""
    with app.app_context():
        return list(registered(app, name).repository.matching())


def set_clock(app: Flask, clock: Callable[[], datetime], name: str = "uploads") -> None:
    """Give the engine another time, which a request that is under way sees too."""
    registered(app, name).engine.clock = clock


def stop_clock(app: Flask, now: datetime, name: str = "uploads") -> None:
    """Let the engine's time stand still at this moment."""
    set_clock(app, lambda: now, name)


def stored_files(tmp_path: Path) -> list[Any]:
    """Every file below the instance directory, or every object in its stead."""
    if os.environ.get(STORAGE) == "s3":
        return stored_objects(tmp_path)
    root = tmp_path / "instance"
    return sorted(path for path in root.rglob("*") if path.is_file())
