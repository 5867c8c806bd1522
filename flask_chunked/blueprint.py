"""``ChunkedUploadBlueprint``: a policy that can be registered in an app.

It is the only place that connects dialects, engine, storage and database with an app.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, TypeVar, cast, overload
from uuid import UUID

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    has_request_context,
    request,
    request_started,
)
from flask.blueprints import BlueprintSetupState

from . import cli
from .config.settings import Settings
from .cors import share_answers
from .database.session_guard import detached
from .dialects.base import Dialect
from .dialects.content_range.dialect import ContentRangeDialect
from .dialects.tus.dialect import TusDialect
from .engine.gate import require_file
from .engine.records import Upload
from .exceptions import BytesMissing, UnknownUpload
from .models import ChunkedUploadMixin
from .policy import UploadPolicy
from .protocol.upload_id import parse_upload_id
from .registration import Registration, registrations, release_sessions
from .request.context import Target
from .request.form_parser import share_body
from .routes import SetupState, add_rules, dispatch, failure_response
from .storage.base import Blob

if TYPE_CHECKING:
    from flask.sansio.app import App
    from flask_sqlalchemy import SQLAlchemy

View = TypeVar("View", bound=Callable[..., Any])

#: Setting -> attribute of the blueprint that overrides the app's key.
OVERRIDES = {
    "storage_class": "storage_class",
    "path": "upload_path",
    "checksum": "checksum",
    "expiration_delta": "expiration_delta",
    "downloads": "downloads",
    "allow_anonymous": "allow_anonymous",
    "max_bytes": "max_bytes",
    "max_open_uploads": "max_open_uploads",
    "max_total_bytes": "max_total_bytes",
    "max_stored_bytes": "max_stored_bytes",
    "keep_partials": "keep_partials",
}


class _PathOption:
    """``path``: called, it is :meth:`ChunkedUploadBlueprint.file_path`; assigned, it is
    the option ``upload_path``.
    """

    def __get__(
        self, blueprint: ChunkedUploadBlueprint | None, owner: type[Any]
    ) -> _PathOption | Callable[[Any], Path]:
        return self if blueprint is None else blueprint.file_path

    def __set__(self, blueprint: ChunkedUploadBlueprint, value: object) -> None:
        blueprint.upload_path = _path_of(value)


class ChunkedUploadBlueprint(UploadPolicy, Blueprint):
    """Receives large files in pieces.

    Subclass it to write a policy: class attributes are the options, methods the hooks.
    A hook refuses by raising :class:`~flask_chunked.ChunkedUploadError`.

    :param name: the blueprint's name, stored with each upload.
    :param db: the Flask-SQLAlchemy extension; default: the app's.
    :param model: the uploads' model; default: the class's ``model``, else a model
        with the table ``chunked_upload`` on ``db``.
    """

    #: The dialects, in the order in which they are asked; the last one is the default.
    dialects: ClassVar[tuple[type[Dialect], ...]] = (TusDialect, ContentRangeDialect)

    def __init__(
        self,
        name: str,
        import_name: str,
        *,
        db: SQLAlchemy | None = None,
        model: type[Any] | None = None,
        **blueprint_options: Any,
    ) -> None:
        blueprint_options.setdefault("static_folder", Path(__file__).parent / "static")
        blueprint_options.setdefault("static_url_path", "/static")
        super().__init__(name, import_name, **blueprint_options)
        if db is not None:
            self.db = db
        if model is not None:
            self.model = model
        self._dialects: Sequence[Dialect] = [dialect() for dialect in self.dialects]
        self.record(self._register_in)
        # Flask logs the error and sends its signal before it calls this handler.
        self.register_error_handler(500, self._answer_failure)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._adopt_path()

    @classmethod
    def _adopt_path(cls) -> None:
        """Take a ``path`` that the class, or a base of it, sets as ``upload_path``."""
        given = inspect.getattr_static(cls, "path")
        # Anything else is the method, or an application's own method of this name.
        if given is None or isinstance(given, (str, os.PathLike)):
            cls.upload_path = _path_of(given)
            cls.path = vars(ChunkedUploadBlueprint)["path"]

    # -- what an application does with a finished file ---------------------------------
    # An upload is a model instance, a snapshot or an id.

    def open_file(self, upload: Any) -> BinaryIO:
        """A binary reader of the file, on every storage.

        :param upload: an instance, a snapshot or an id (``UUID``, or its text).
        :raises BytesMissing: the file was moved away or removed.
        :raises PartialUpload: a partial upload is not a file.
        :raises UnknownUpload: the blueprint has no upload of this id.
        """
        upload = self._resolve(upload)
        return self._registration_of(upload).storage.open(_blob(upload))

    def file_path(self, upload: Any) -> Path:
        """The finished file's path on this machine.

        :param upload: an instance, a snapshot or an id (``UUID``, or its text).
        :raises NotLocal: the storage has no paths.
        """
        upload = self._resolve(upload)
        return self._registration_of(upload).storage.path(_blob(upload))

    def move_file(self, upload: Any, destination: str | Path) -> None:
        """Move the finished file to a local path; the record stays, without a file.

        Call it again after a crash: it then completes the move.

        :param upload: an instance, a snapshot or an id (``UUID``, or its text).
        :raises UnknownUpload: it is removed.
        :raises RuntimeError: ``db.session`` has uncommitted writes; nothing is moved.
        """
        here, row = self._current(upload, "move_file()")
        require_file(row)
        if not row.is_complete:
            raise BytesMissing("Only the file of a complete upload can be moved")
        if row.storage_key is None and Path(destination).is_file():
            return
        here.storage.move(_blob(row), destination)
        here.repository.forget_file(row.id)

    def delete_upload(self, upload: Any) -> None:
        """Remove the upload: its bytes and its record.

        :param upload: an instance, a snapshot or an id (``UUID``, or its text).
        :raises UnknownUpload: it is already removed.
        :raises RuntimeError: ``db.session`` has uncommitted writes; nothing is removed.
        """
        with detached(upload):
            here, row = self._current(upload, "delete_upload()")
            here.engine.remove.terminate(row)

    def open(self, upload: Any) -> BinaryIO:
        """Short for :meth:`open_file`."""
        return self.open_file(upload)

    #: Short for :meth:`file_path`. A string that a subclass or an instance assigns is
    #: the option ``upload_path``; both are right for type checkers.
    path: Any = _PathOption()

    def move(self, upload: Any, destination: str | Path) -> None:
        """Short for :meth:`move_file`."""
        self.move_file(upload, destination)

    @overload
    def delete(self, rule: str, **options: Any) -> Callable[[View], View]: ...

    @overload
    def delete(self, rule: Upload | ChunkedUploadMixin | UUID) -> None: ...

    def delete(self, rule: Any, **options: Any) -> Any:
        """Flask's decorator for a rule; for an upload, :meth:`delete_upload`.

        :param rule: a string is a rule, also if it is an id: those are ``UUID`` here.
        """
        if isinstance(rule, str):
            return super().delete(rule, **options)
        if options:
            raise TypeError(f"delete() of an upload takes no {', '.join(options)}")
        return self.delete_upload(rule)

    def _current(self, upload: Any, source: str) -> tuple[Registration, Upload]:
        """The upload's row, read after ``db.session`` has returned its connection.

        :param source: the method that is called.
        :raises UnknownUpload: there is none.
        :raises RuntimeError: the session has uncommitted writes.
        """
        if isinstance(upload, (str, UUID)):
            release_sessions(current_app, source)
            found = self._resolve(upload)
            return self._registration_of(found), found
        # The release expires the attributes of instances.
        here, upload_id = self._registration_of(upload), upload.id
        release_sessions(current_app, source)
        row = here.repository.get(upload_id)
        if row is None:
            raise UnknownUpload()
        return here, row

    def _resolve(self, upload: Any) -> Any:
        """The upload that an id names; everything else is an upload already."""
        if not isinstance(upload, (str, UUID)):
            return upload
        upload_id = parse_upload_id(upload) if isinstance(upload, str) else upload
        if upload_id is None:
            raise UnknownUpload()
        for here in self._registrations():
            found = here.repository.get(upload_id)
            if found is not None and found.blueprint == here.name:
                return found
        raise UnknownUpload()

    # -- wiring ----------------------------------------------------------------------

    @property
    def registration(self) -> Registration:
        """This blueprint in the current app, under the current request's name."""
        known = registrations(current_app)
        if has_request_context() and request.blueprint in known:
            here = known[request.blueprint]
            if here.policy is self:
                return here
        return self._registrations()[0]

    def _registrations(self) -> list[Registration]:
        """This blueprint in the current app, under all its names."""
        known = registrations(current_app).values()
        found = [here for here in known if here.policy is self]
        if not found:
            raise RuntimeError(
                f"Blueprint {self.name!r} is not registered in the current app"
            )
        return found

    def _registration_of(self, upload: Any) -> Registration:
        here = registrations(current_app).get(upload.blueprint)
        return self.registration if here is None else here

    def make_setup_state(
        self, app: App, options: dict[str, Any], first_registration: bool = False
    ) -> BlueprintSetupState:
        """Flask's hook: the object that adds this blueprint's rules to the app."""
        return SetupState(self, app, options, first_registration)

    def send_static_file(self, filename: str, **view_args: object) -> Response:
        """Serve a file of the browser client, whatever variables the prefix has."""
        return super().send_static_file(filename)

    def _register_in(self, state: BlueprintSetupState) -> None:
        app = cast(Flask, state.app)
        name = f"{state.name_prefix}.{state.name}".lstrip(".")
        # The application may have assigned ``path`` to the class after its definition.
        if type(self) is not ChunkedUploadBlueprint:
            self._adopt_path()
        settings = self._settings(app)
        here = Registration(app, self, name, settings)
        registrations(app)[name] = here

        def act(
            target: Target, upload_id: str, view_args: Mapping[str, object]
        ) -> Response:
            return dispatch(here, self._dialects, (target, upload_id), view_args)

        add_rules(state, app, name, act)
        share_answers(app, name, settings.cors_origins)
        # Sent before any function of the application can look at the body.
        request_started.connect(share_body, app)
        cli.add_commands(app)

    def _answer_failure(self, error: Exception) -> Response:
        return failure_response(self.registration, self._dialects)

    def _settings(self, app: Flask) -> Settings:
        overrides = {key: self._option(name) for key, name in OVERRIDES.items()}
        return Settings.from_config(app.config, overrides)

    def _option(self, name: str) -> object:
        # getattr() would turn a plain factory function into a bound method.
        return vars(self).get(name, inspect.getattr_static(type(self), name))


def _blob(upload: Any) -> Blob:
    """The storage's view of a snapshot or of a model instance."""
    require_file(upload)
    if upload.storage_key is None:
        raise BytesMissing("The file of this upload was moved away")
    return Blob(upload.storage_key, upload.offset, upload.storage_state)


def _path_of(value: object) -> str | None:
    """The option ``upload_path``.

    :raises TypeError: the value is neither a path nor ``None``.
    """
    if value is None:
        return None
    if isinstance(value, (str, os.PathLike)):
        return str(os.fspath(value))
    raise TypeError(
        f"path is {type(value).__name__}; it must be a strftime pattern such as "
        "'videos/%Y/%m'. To replace the method, override file_path() in a subclass"
    )
