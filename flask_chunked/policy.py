"""``UploadPolicy``: what an application decides about uploads, as options and hooks.

It knows no routes and no requests; :class:`~flask_chunked.ChunkedUploadBlueprint` is a
policy that can be registered in an app.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from flask import current_app
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, select

from .config.settings import Settings
from .engine.records import Upload
from .schemas import ChunkedUploadSchema
from .storage.base import Storage

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


class Registered(Protocol):
    """What a policy needs of its registration in the current app."""

    name: str
    settings: Settings
    model: type[Any]


class UploadPolicy:
    """The options and hooks of one kind of upload.

    Class attributes are the options, methods the hooks. A hook refuses by raising
    :class:`~flask_chunked.ChunkedUploadError` or by ``flask.abort()``. It may be a
    coroutine function if ``flask[async]`` is installed.
    """

    #: The Flask-SQLAlchemy extension; ``None``: the app's.
    db: SQLAlchemy | None = None
    #: The uploads' model, a subclass of ``ChunkedUploadMixin`` and ``db.Model``.
    model: type[Any] | None = None
    #: The marshmallow schema of the JSON answers and of the form's own fields.
    schema_class: type[ChunkedUploadSchema] = ChunkedUploadSchema
    #: Name of the file part in a form.
    field_name: str = "file"
    #: The model's attribute that holds the owner.
    user_field_name: str = "user"
    #: Demand the digest of the whole file at completion, and compare it.
    do_checksum_check: bool = True
    #: The most parts that a form may have, including the file.
    max_form_parts: int = 10
    #: ``Location`` has scheme and host; behind a proxy, that needs ``ProxyFix``.
    absolute_location: bool = False
    #: The largest file in bytes; ``None``: ``CHUNKED_UPLOAD_MAX_BYTES``.
    max_bytes: int | str | None = None
    #: Unfinished uploads of one owner; ``None``: ``..._MAX_OPEN_UPLOADS``.
    max_open_uploads: int | str | None = None
    #: Bytes of these together; ``None``: ``..._MAX_TOTAL_BYTES``.
    max_total_bytes: int | str | None = None
    #: Bytes of these and of finished files; ``None``: ``..._MAX_STORED_BYTES``.
    max_stored_bytes: int | str | None = None
    #: Keep partial uploads (tus concatenation) after their final upload is complete;
    #: ``None``: ``..._KEEP_PARTIALS``.
    keep_partials: bool | None = None
    #: Storage class, factory or dotted path; ``None``: ``..._STORAGE_CLASS``.
    storage_class: type[Storage] | Callable[..., Storage] | str | None = None
    #: Keyword arguments of the storage class.
    storage_options: Mapping[str, object] | None = None
    #: ``strftime`` pattern of the directory; ``None``: ``..._PATH``. A subclass may
    #: also write ``path = "videos/%Y"``; the method ``path`` stays available.
    upload_path: str | None = None
    #: Name of the checksum; ``None``: ``..._CHECKSUM``.
    checksum: str | None = None
    #: Life of an idle unfinished upload; ``None``: ``..._EXPIRATION_DELTA``.
    expiration_delta: timedelta | None = None
    #: Serve the content of finished uploads; ``None``: ``..._DOWNLOADS``.
    downloads: bool | None = None
    #: Allow uploads without an owner; ``None``: ``..._ALLOW_ANONYMOUS``.
    allow_anonymous: bool | None = None

    @property
    def registration(self) -> Registered:
        """This policy in the current app."""
        raise NotImplementedError

    def overrides(self, hook: str) -> bool:
        """True if the application overrides the hook; others are never called."""
        theirs = getattr(type(self), hook) is not getattr(UploadPolicy, hook)
        return theirs or hook in vars(self)

    # -- hooks: override these -------------------------------------------------------

    def get_user_id(self) -> object:
        """The id of the caller; ``None``: the caller is unknown.

        The default is the id of Flask-Login's ``current_user``.

        :raises RuntimeError: Flask-Login is not set up, and anonymous uploads are off.
        """
        if hasattr(current_app, "login_manager"):
            from flask_login import current_user

            return current_user.get_id() if current_user.is_authenticated else None
        if self.registration.settings.allow_anonymous:
            return None
        raise RuntimeError(
            f"Blueprint {self.registration.name!r} cannot know whose uploads it "
            "receives. Set up Flask-Login, override get_user_id(), or set "
            "CHUNKED_UPLOAD_ALLOW_ANONYMOUS = True (then everyone who knows an "
            "upload's URL may use it)."
        )

    def get_max_bytes(self) -> int | None:
        """The largest file for this caller in bytes; ``None``: no limit."""
        return self.registration.settings.max_bytes

    def get_max_open_uploads(self) -> int | None:
        """How many unfinished uploads this caller may have; ``None``: no limit."""
        return self.registration.settings.max_open_uploads

    def get_max_total_bytes(self) -> int | None:
        """How many bytes these may declare together; ``None``: no limit."""
        return self.registration.settings.max_total_bytes

    def get_max_stored_bytes(self) -> int | None:
        """How many bytes this caller's unfinished uploads and finished files may have
        together; ``None``: no limit.
        """
        return self.registration.settings.max_stored_bytes

    def get_fields(self) -> Mapping[str, object]:
        """Values for the model's own columns of a new upload, in the creating request.

        For example the project's id in the URL: ``{"project_id":
        request.view_args["project_id"]}``. They replace what the client sends. A key
        that is no column of the model's own is an error.
        """
        return {}

    def get_path(self, upload: Upload) -> str | None:
        """The directory of a new upload's file, such as ``f"projects/{project}"``.

        It is relative to the directories of ``CHUNKED_UPLOAD_PATH`` that contain no
        ``%``, or on S3 to ``prefix``. It is asked once, after ``validate``, and is
        stored with the upload.

        :param upload: a snapshot; it has no bytes yet.
        :return: names joined by slashes, each of at most 150 bytes of UTF-8, none of
            them ``.`` or ``..``; ``None``: the directory of ``CHUNKED_UPLOAD_PATH``, or
            on S3 the day.
        """
        return None

    def new_name(self, upload: Upload) -> str | None:
        """How the name of a new upload's file begins; a hyphen and the id follow.

        :param upload: a snapshot; it has no bytes yet.
        :return: at most 150 bytes of UTF-8 without a slash, and not ``.`` or ``..``;
            ``None`` or an empty text: the name begins with the id.
        """
        return None

    def get_query(self) -> Select[Any]:
        """The uploads that this blueprint serves; an override may only narrow it.

        The restriction to the caller's own uploads is added to it.
        """
        here = self.registration
        return select(here.model).where(here.model.blueprint == here.name)

    def authorize(self, action: str, upload: Upload | None) -> bool:
        """True if the caller may do it; called for every request, the owner's too.

        It must return a plain value: a bool, number, string or ``None``.

        :param action: create, append, complete, read, list, download, terminate
            (unfinished) or delete (finished).
        :param upload: a snapshot; ``None`` for create and list.
        """
        return True

    def validate(self, upload: Upload) -> Awaitable[None] | None:
        """Refuse an upload by what the client declares, before its first byte.

        ``upload.length`` is ``None`` if the client defers it; the hook is called once
        more when it is declared. It is not called for partial uploads, but for their
        final upload.
        """

    def inspect(self, upload: Upload, head: bytes) -> Awaitable[None] | None:
        """Refuse an upload by its first bytes (4096, or all of a smaller file).

        It is called once; a refusal removes the upload.
        """

    def verify(self, upload: Any) -> Awaitable[None] | None:
        """Refuse an upload by its content, with all bytes there, before completion.

        :param upload: the model's instance in ``db.session``.
        """

    def deliver(self, upload: Any) -> Awaitable[None] | None:
        """Process the finished upload, for example queue it or move it.

        It is called at least once, in the completing request or later by ``flask
        chunked-uploads deliver``, so it must be idempotent and need no request. An
        exception is logged, and the hook is called again after 1, 2, 4 and so on up to
        60 minutes. ``upload.attempts`` counts the calls.

        :param upload: the model's instance in ``db.session``.
        """

    def on_completion(
        self, upload: Any
    ) -> ResponseReturnValue | Awaitable[ResponseReturnValue | None] | None:
        """Shape the answer to the client; a repeated request calls it again.

        :param upload: the model's instance in ``db.session``.
        :return: anything that a view may return; ``None``: the upload's JSON. An
            ``HTTPException`` is the answer, too: the upload stays complete.
        """
        return None


#: The names of the hooks.
HOOKS = tuple(
    name
    for name, value in vars(UploadPolicy).items()
    if inspect.isfunction(value) and name != "overrides"
)
