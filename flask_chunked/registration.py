"""One policy registered in one app: its model, database, storage and engine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flask import Flask
from sqlalchemy import BigInteger, Select, Table, bindparam, false, inspect, or_

from .config.settings import Settings
from .database.connections import SQLiteSettings
from .database.parts import PartTable
from .database.quotas import QuotaTable
from .database.repository import SQLRepository
from .database.session_guard import SessionGuard
from .database.statements import Statements
from .database.transactions import Database
from .database.transitions import Tables
from .engine.engine import Engine
from .engine.expiry import Lifetimes
from .engine.records import Upload
from .exceptions import (
    ConfigurationError,
    UnknownUpload,
)
from .hook_calls import HookCalls
from .models import add_owner_index, default_model
from .models.checks import require_model
from .models.columns import python_type
from .models.fields import FieldLoader
from .policy import UploadPolicy
from .policy_hooks import LIMITS, PolicyHooks
from .storage.base import Storage, StorageSettings

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


logger = logging.getLogger("flask_chunked")

EXTENSION = "chunked_uploads"


class Registration:
    """A policy registered in an app under a name.

    :param name: the full endpoint prefix; it is stored with each upload.
    """

    def __init__(
        self, app: Flask, policy: UploadPolicy, name: str, settings: Settings
    ) -> None:
        self.app = app
        self.policy = policy
        self.name = name
        self.settings = settings
        self.calls = HookCalls(app, policy, name)
        self.db, self.model = db, model = _resolve_model(app, policy, name, settings)
        self.sessions = SessionGuard.of(db)
        self.schema = policy.schema_class()
        self.user_field = policy.user_field_name
        require_model(model, self.user_field, app.config, name)
        self.user_column = _user_column(model, self.user_field)
        self._owner_type = python_type(self.user_column.type)
        self.fields = FieldLoader(self.schema, model, self.user_field, name)
        add_owner_index(self.table, self.user_column)
        statements = Statements.of(self.table)
        self.members = statements.members
        self.removals = statements.removals
        bind_key = getattr(model, "__bind_key__", None)
        self.database = Database(
            db, bind_key, SQLiteSettings(settings.durable, settings.sqlite_wal)
        )
        self.quotas = self._make_quotas()
        self.storage = self._make_storage()
        self.parts = PartTable(self.table) if self.storage.keeps_parts else None
        self.database.tables = self.tables
        self.repository = SQLRepository(
            self.database,
            model,
            name,
            self.user_field,
            Tables(statements, self.quotas, self.parts),
        )
        self.repository.name_fields(self.fields.keys)
        self.hooks = PolicyHooks(
            policy, settings, self.sessions, self.quotas, self.calls, self.instance
        )
        #: "The owner is unknown" -> the statement that finds one upload.
        self._finders: dict[bool, Select[Any]] = {}
        self.engine = Engine(
            name,
            self.repository,
            self.storage,
            self.hooks,
            Lifetimes(settings.expiration_delta, settings.max_lifetime),
        )

    @property
    def table(self) -> Table:
        """The model's table."""
        table: Table = self.model.__table__
        return table

    @property
    def tables(self) -> list[Table]:
        """The tables that the database must have: the model's and our own."""
        optional = [one.table for one in (self.quotas, self.parts) if one is not None]
        return [self.table, self.members.table, self.removals.table, *optional]

    def _make_quotas(self) -> QuotaTable | None:
        """The counts of owners; ``None``: no limit is set."""
        settings = self.settings
        limits = (settings.max_open_uploads, settings.max_total_bytes)
        overrides = self.policy.overrides
        counts_stored = settings.max_stored_bytes is not None or overrides(
            "get_max_stored_bytes"
        )
        is_limited = limits != (None, None) or any(map(overrides, LIMITS))
        if not is_limited and not counts_stored:
            return None
        return QuotaTable(
            self.table,
            self.user_column,
            self.name,
            self.members,
            deferred=settings.max_bytes,
            counts_stored=counts_stored,
        )

    def _make_storage(self) -> Storage:
        settings = StorageSettings(
            base=self.app.instance_path,
            path=self.settings.path,
            durable=self.settings.durable,
            incomplete_ext=self.settings.incomplete_ext,
            complete_ext=self.settings.complete_ext,
        )
        factory = self.settings.load_storage_class()
        storage = factory(settings, **dict(self.policy.storage_options or {}))
        self._warn_if_public(storage.identity)
        return storage

    def _warn_if_public(self, identity: str) -> None:
        """Warn of a directory below the static folder, which Flask serves to all."""
        kind, _, root = identity.partition(":")
        static = self.app.static_folder
        if kind != "local" or static is None:
            return
        if Path(root).resolve().is_relative_to(Path(static).resolve()):
            logger.warning(
                "uploads of %r lie below the application's static folder, where "
                "everybody can read them. Set CHUNKED_UPLOAD_PATH to another directory",
                self.name,
            )

    def instance(self, upload: Upload) -> Any:
        """The upload's model instance in the application's ``db.session``, fresh."""
        with self.database.translate_errors():
            found = self.db.session.get(self.model, upload.id, populate_existing=True)
        if found is None:
            raise UnknownUpload()
        return found

    def coerce_owner(self, value: object) -> object:
        """A user id in the column's type.

        :raises ValueError: the column cannot hold exactly this id.
        """
        wanted = self._owner_type
        if value is None or wanted is None or type(value) is wanted is str:
            return value
        try:
            owner = value if isinstance(value, wanted) else wanted(value)
            is_exact = not isinstance(owner, int) or (
                # int() also takes "1_0", "٣" and 1.9, which may be other people's ids.
                str(owner) == str(value) and abs(owner) <= self._largest_integer()
            )
        except (ValueError, TypeError, AttributeError, OverflowError):
            is_exact = False
        if not is_exact:
            column = f"{self.user_column.name} ({self.user_column.type})"
            raise ValueError(
                f"get_user_id() returned {str(value)[:60]!r}, which the owner's column "
                f"{column} cannot hold. Give the column the type of the ids"
            )
        return owner

    def _largest_integer(self) -> int:
        """The largest value of the owner's column; drivers raise for larger ones."""
        wide = isinstance(self.user_column.type, BigInteger)
        if wide or self.database.engine().dialect.name == "sqlite":
            return 2**63 - 1
        return 2**31 - 1

    def find(self, owner: object, upload_id: UUID) -> Upload | None:
        """The upload; ``None`` if the owner may not see it or it does not exist."""
        if self.policy.overrides("get_query"):
            query = self.visible(self.calls("get_query"), owner, listing=False)
            return self.repository.find(query, upload_id)
        statement = self._finders.get(owner is None)
        if statement is None:
            known: Any = None if owner is None else bindparam("owner")
            query = self.visible(self.policy.get_query(), known, listing=False)
            statement = self.repository.one_of(query)
            self._finders[owner is None] = statement
        return self.repository.find_by(statement, upload_id=upload_id, owner=owner)

    def visible(
        self, query: Select[Any], owner: object, *, listing: bool
    ) -> Select[Any]:
        """Restrict a query to the uploads that the caller may see."""
        if not self.settings.user_restricted:
            return query
        mine = false() if owner is None else self.user_column == owner
        if self.settings.allow_anonymous and not listing:
            # Knowledge of the unguessable URL gives access to an upload without owner.
            mine = or_(mine, self.user_column.is_(None))
        return query.where(mine)


def _resolve_model(
    app: Flask, policy: UploadPolicy, name: str, settings: Settings
) -> tuple[SQLAlchemy, type[Any]]:
    """The ``db`` and the model of a policy in an app.

    :raises ConfigurationError: there is no ``db``, or a required model is missing.
    """
    model = policy.model
    db = policy.db or getattr(model, "__fsa__", None)
    db = db or app.extensions.get("sqlalchemy")
    if db is None:
        raise ConfigurationError(
            f"Blueprint {name!r} needs a database: call db.init_app(app) of "
            "Flask-SQLAlchemy before register_blueprint(), or pass db= to the blueprint"
        )
    if model is not None:
        return db, model
    if settings.abstract_model:
        raise ConfigurationError(
            f"CHUNKED_UPLOAD_ABSTRACT_MODEL is set, so blueprint {name!r} "
            "must name a model (model = ... or model=...)"
        )
    return db, default_model(db)


def _user_column(model: type[Any], field: str) -> Any:
    attributes = inspect(model).column_attrs
    if field not in attributes:
        raise ConfigurationError(
            f"user_field_name {field!r} is no column of model {model.__name__}; "
            f"it has: {', '.join(sorted(a.key for a in attributes))}"
        )
    return attributes[field].columns[0]


def registered(app: Flask, blueprint: str | None) -> list[Registration]:
    """The app's blueprints, or the one of this name.

    :raises LookupError: the app has no such blueprint.
    """
    known = registrations(app)
    if blueprint is None:
        return list(known.values())
    if blueprint not in known:
        names = ", ".join(sorted(known)) or "none"
        raise LookupError(
            f"no blueprint {blueprint!r} receives uploads; known: {names}"
        )
    return [known[blueprint]]


def release_sessions(app: Flask, source: str) -> None:
    """Let ``db.session`` return its connection before our statements use others.

    They would wait for the locks of the session, or for its connection.

    :param source: the function that is called, for the error's text.
    :raises RuntimeError: the session has uncommitted writes.
    """
    for here in registrations(app).values():
        here.sessions.release(f"what ran before {source}")


def registrations(app: Flask) -> dict[str, Registration]:
    """All blueprints of the app, by the name they are registered under."""
    state: dict[str, Registration] = app.extensions.setdefault(EXTENSION, {})
    return state


def dispose(app: Flask) -> None:
    """Close the database connections that the library has opened for the app.

    The next request opens new ones. Connections of the application's engines stay as
    they are. Call it where a test deletes the database's file, and before a fork.
    """
    with app.app_context():
        for here in registrations(app).values():
            here.database.dispose()
