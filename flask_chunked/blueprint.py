"""``ChunkedUploadBlueprint``: a policy that can be registered in an app.

It is the only place that connects dialects, engine, storage and database with an app.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

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
from .dialects.base import Dialect
from .dialects.content_range.dialect import ContentRangeDialect
from .dialects.tus.dialect import TusDialect
from .engine.gate import require_file
from .exceptions import BytesMissing, UnknownUpload
from .policy import UploadPolicy
from .registration import Registration, registrations
from .request.form_parser import share_body
from .routes import add_rules, answer_failure, dispatch
from .storage.base import Blob

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

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
        # The option and the method share the name; a string is the option.
        if isinstance(cls.__dict__.get("path"), str):
            cls.upload_path = cls.__dict__["path"]
            del cls.path

    # -- what an application does with a finished file ---------------------------------

    def open(self, upload: Any) -> BinaryIO:
        """A binary reader of the file, on every storage.

        :raises BytesMissing: the file was moved away or removed.
        :raises PartialUpload: a partial upload is not a file.
        """
        return self._registration_of(upload).storage.open(_blob(upload))

    def path(self, upload: Any) -> Path:
        """The finished file's path on this machine.

        :raises NotLocal: the storage has no paths.
        """
        return self._registration_of(upload).storage.path(_blob(upload))

    def move(self, upload: Any, destination: str | Path) -> None:
        """Move the finished file to a local path; the record stays, without a file.

        Call it again after a crash: it then completes the move.
        """
        here = self._registration_of(upload)
        require_file(upload)
        if not upload.is_complete:
            raise BytesMissing("Only the file of a complete upload can be moved")
        if upload.storage_key is None and Path(destination).is_file():
            return
        here.storage.move(_blob(upload), destination)
        here.repository.forget_file(upload.id)

    def delete(self, upload: Any) -> None:  # type: ignore[override]
        """Remove the upload: its bytes and its record.

        :raises UnknownUpload: it is already removed.
        """
        here = self._registration_of(upload)
        row = here.repository.get(upload.id)
        if row is None:
            raise UnknownUpload()
        here.engine.remove.terminate(row)

    # -- wiring ----------------------------------------------------------------------

    @property
    def registration(self) -> Registration:
        """This blueprint in the current app, under the current request's name."""
        known = registrations(current_app)
        if has_request_context() and request.blueprint in known:
            here = known[request.blueprint]
            if here.policy is self:
                return here
        for here in known.values():
            if here.policy is self:
                return here
        raise RuntimeError(
            f"Blueprint {self.name!r} is not registered in the current app"
        )

    def _registration_of(self, upload: Any) -> Registration:
        here = registrations(current_app).get(upload.blueprint)
        return self.registration if here is None else here

    def _register_in(self, state: BlueprintSetupState) -> None:
        app = cast(Flask, state.app)
        name = f"{state.name_prefix}.{state.name}".lstrip(".")
        settings = self._settings(app)
        here = Registration(app, self, name, settings)
        registrations(app)[name] = here

        def view(rest: str = "", **view_args: Any) -> Response:
            return dispatch(here, self._dialects, rest, view_args)

        add_rules(state, name, view)
        # Sent before any function of the application can look at the body.
        request_started.connect(share_body, app)
        cli.add_commands(app)

    def _answer_failure(self, error: Exception) -> Response:
        return answer_failure(self.registration, self._dialects)

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
