"""``ChunkedUploadBlueprint``: routes, dispatch and the policy of an application.

The only place that wires dialects, engine, storage and database to an app.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

from flask import Blueprint, Flask, Response, current_app, has_request_context, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, select

from . import cli
from .config.settings import Settings
from .dialects.base import Dialect
from .dialects.content_range.dialect import ContentRangeDialect
from .dialects.tus.dialect import TusDialect
from .engine.gate import require_file
from .engine.records import Upload
from .exceptions import BytesMissing, UnknownUpload
from .registration import Registration, registrations, resolve_model
from .routes import add_rules, answer_failure, dispatch
from .schemas import ChunkedUploadSchema
from .storage.base import Blob, Storage

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

#: Setting -> attribute of the blueprint that stands for the app's key.
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


class ChunkedUploadBlueprint(Blueprint):
    """Receives large files in pieces.

    Subclass it for a policy of your own: class attributes are the options, methods the
    hooks. A hook refuses by raising :class:`~flask_chunked.ChunkedUploadError`.

    :param name: the blueprint's name, stored with each upload.
    :param db: the Flask-SQLAlchemy extension; default: the app's.
    :param model: the uploads' model; default: the class's ``model``, else a table
        ``chunked_upload`` made on ``db``.
    """

    #: The uploads' model, a subclass of ``ChunkedUploadMixin`` and ``db.Model``.
    model: type[Any] | None = None
    #: The marshmallow schema of the JSON answers and of the form's own fields.
    schema_class: type[ChunkedUploadSchema] = ChunkedUploadSchema
    #: Name of the file part in a form.
    field_name: str = "file"
    #: The model's attribute that holds the owner.
    user_field_name: str = "user"
    #: Is the digest of the whole file demanded, and compared, at completion?
    do_checksum_check: bool = True
    #: The most parts that a form may have, the file's included.
    max_form_parts: int = 10
    #: Does ``Location`` carry scheme and host? Behind a proxy, see ``ProxyFix`` then.
    absolute_location: bool = False
    #: The largest file in bytes; ``None``: ``CHUNKED_UPLOAD_MAX_BYTES``.
    max_bytes: int | str | None = None
    #: Unfinished uploads of one owner; ``None``: ``..._MAX_OPEN_UPLOADS``.
    max_open_uploads: int | str | None = None
    #: Bytes of these in all; ``None``: ``..._MAX_TOTAL_BYTES``.
    max_total_bytes: int | str | None = None
    #: Bytes of these and of finished files in all; ``None``: ``..._MAX_STORED_BYTES``.
    max_stored_bytes: int | str | None = None
    #: Keep partial uploads (tus concatenation) once their final upload is complete;
    #: ``None``: ``..._KEEP_PARTIALS``.
    keep_partials: bool | None = None
    #: Storage class, factory or dotted path; ``None``: ``..._STORAGE_CLASS``.
    storage_class: type[Storage] | Callable[..., Storage] | str | None = None
    #: Keyword arguments of the storage class.
    storage_options: Mapping[str, object] | None = None
    #: ``strftime`` pattern of the directory; ``None``: ``..._PATH``. A subclass may
    #: also write ``path = "videos/%Y"``; the method :meth:`path` stays what it is.
    upload_path: str | None = None
    #: Name of the checksum; ``None``: ``..._CHECKSUM``.
    checksum: str | None = None
    #: Life of an idle unfinished upload; ``None``: ``..._EXPIRATION_DELTA``.
    expiration_delta: timedelta | None = None
    #: Serve the content of finished uploads; ``None``: ``..._DOWNLOADS``.
    downloads: bool | None = None
    #: Uploads without an owner; ``None``: ``..._ALLOW_ANONYMOUS``.
    allow_anonymous: bool | None = None

    #: The dialects, in the order in which they are asked; the last speaks by default.
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
        self.db = db
        if model is not None:
            self.model = model
        self._speakers: Sequence[Dialect] = [dialect() for dialect in self.dialects]
        self.record(self._register_in)
        # Flask has logged and announced the error before it asks here for an answer.
        self.register_error_handler(500, self._answer_failure)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        # The option and the method share the name; a string is meant as the option.
        if isinstance(cls.__dict__.get("path"), str):
            cls.upload_path = cls.__dict__["path"]
            del cls.path

    # -- policy: override these ------------------------------------------------------

    def get_user_id(self) -> object:
        """Who is asking; ``None``: nobody that we know.

        The default is Flask-Login's ``current_user``.

        :raises RuntimeError: nothing tells who asks, and anonymous uploads are off.
        """
        if hasattr(current_app, "login_manager"):
            from flask_login import current_user  # type: ignore[import-untyped]

            return current_user.get_id() if current_user.is_authenticated else None
        if self.registration.settings.allow_anonymous:
            return None
        raise RuntimeError(
            f"Blueprint {self.name!r} cannot know whose uploads it receives. Set up "
            "Flask-Login, override get_user_id(), or set "
            "CHUNKED_UPLOAD_ALLOW_ANONYMOUS = True (then whoever knows an upload's URL "
            "may use it)."
        )

    def get_max_bytes(self) -> int | None:
        """The largest file for this caller in bytes; ``None``: no limit."""
        return self.registration.settings.max_bytes

    def get_max_open_uploads(self) -> int | None:
        """How many unfinished uploads this caller may have; ``None``: no limit."""
        return self.registration.settings.max_open_uploads

    def get_max_total_bytes(self) -> int | None:
        """How many bytes these may have in all, as declared; ``None``: no limit."""
        return self.registration.settings.max_total_bytes

    def get_max_stored_bytes(self) -> int | None:
        """How many bytes unfinished uploads and finished files of this caller may have
        in all; ``None``: no limit.
        """
        return self.registration.settings.max_stored_bytes

    def get_query(self) -> Select[Any]:
        """The uploads that this blueprint serves; narrow it, never widen it.

        The owner's restriction is added to it.
        """
        here = self.registration
        return select(here.model).where(here.model.blueprint == here.name)

    def authorize(self, action: str, upload: Upload | None) -> bool:
        """May the caller do it? Called for every request, also for the owner's own.

        :param action: create, append, complete, read, list, download, terminate
            (unfinished) or delete (finished).
        :param upload: a snapshot; ``None`` for create and list.
        """
        return True

    def validate(self, upload: Upload) -> None:
        """Refuse an upload by what is declared, before its first byte.

        ``upload.length`` is ``None`` where the client defers it; the hook is asked once
        more when it is declared. Partial uploads are not asked about: their final is.
        """

    def inspect(self, upload: Upload, head: bytes) -> None:
        """Refuse an upload by its first bytes (4096, or all of a smaller file).

        Called once; a refusal removes the upload.
        """

    def verify(self, upload: Any) -> None:
        """Refuse an upload by its content; all bytes are there, nobody was told.

        :param upload: the model's instance in ``db.session``.
        """

    def deliver(self, upload: Any) -> None:
        """Do with the finished upload what the application wants: queue it, move it.

        Called at least once, in the completing request or later by ``flask
        chunked-uploads deliver``, so it must be idempotent and need no request. If it
        raises, that is logged and it is called again later.

        :param upload: the model's instance in ``db.session``.
        """

    def on_completion(self, upload: Any) -> ResponseReturnValue | None:
        """Shape the answer to the client; it may be asked again for a repeat.

        :param upload: the model's instance in ``db.session``.
        :return: anything that a view may return; ``None``: the upload's JSON.
        """
        return None

    # -- what an application does with a finished file ---------------------------------

    def open(self, upload: Any) -> BinaryIO:
        """A binary reader of the file, on every storage.

        :raises BytesMissing: it was moved away or removed.
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

        Repeated after a crash it finishes what it began.
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
        """Remove the upload, bytes and record.

        :raises UnknownUpload: it is gone already.
        """
        here = self._registration_of(upload)
        row = here.repository.get(upload.id)
        if row is None:
            raise UnknownUpload()
        here.engine.terminate(row)

    # -- wiring ----------------------------------------------------------------------

    @property
    def registration(self) -> Registration:
        """This blueprint in the current app, under the current request's name."""
        known = registrations(current_app)
        if has_request_context() and request.blueprint in known:
            here = known[request.blueprint]
            if here.blueprint is self:
                return here
        for here in known.values():
            if here.blueprint is self:
                return here
        raise RuntimeError(
            f"Blueprint {self.name!r} is not registered in the current app"
        )

    @property
    def speakers(self) -> Sequence[Dialect]:
        """The dialects, in the order in which they are asked."""
        return self._speakers

    def overrides(self, hook: str) -> bool:
        """Did the application give this hook a body? One without costs nothing."""
        theirs = getattr(type(self), hook) is not getattr(ChunkedUploadBlueprint, hook)
        return theirs or hook in vars(self)

    def _registration_of(self, upload: Any) -> Registration:
        here = registrations(current_app).get(upload.blueprint)
        return self.registration if here is None else here

    def _register_in(self, state: BlueprintSetupState) -> None:
        app = cast(Flask, state.app)
        name = f"{state.name_prefix}.{state.name}".lstrip(".")
        settings = self._settings(app)
        db, model = resolve_model(app, self, settings)
        here = Registration(app, self, name, settings, db, model)
        registrations(app)[name] = here

        def view(rest: str = "", **view_args: Any) -> Response:
            return dispatch(here, rest, view_args)

        add_rules(state, name, view)
        cli.add_commands(app)

    def _answer_failure(self, error: Exception) -> Response:
        return answer_failure(self.registration)

    def _settings(self, app: Flask) -> Settings:
        overrides = {key: self._option(name) for key, name in OVERRIDES.items()}
        return Settings.from_config(app.config, overrides)

    def _option(self, name: str) -> object:
        # From the class: a plain factory function must not become a bound method.
        return vars(self).get(name, inspect.getattr_static(type(self), name))


def _blob(upload: Any) -> Blob:
    """What the storage needs of a snapshot or of a model's instance."""
    require_file(upload)
    if upload.storage_key is None:
        raise BytesMissing("The file of this upload was moved away")
    return Blob(upload.storage_key, upload.offset, upload.storage_state)
