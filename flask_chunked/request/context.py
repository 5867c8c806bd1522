"""``UploadRequest``: one HTTP request as the dialects see it, and its caller."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

from flask import Request, Response
from sqlalchemy import Select
from werkzeug.utils import cached_property

from ..config.settings import Settings
from ..database.queries import Page
from ..engine.engine import Engine
from ..engine.gate import Action, require
from ..engine.records import Upload
from ..exceptions import (
    Aborted,
    ChunkedUploadError,
    FinalUpload,
    NotAuthorized,
    OwnerRequired,
    PartialUpload,
    UnknownUpload,
)
from ..policy import UploadPolicy
from ..registration import Registration
from .aborts import take_abort
from .body import BodyReader, body_length
from .representation import Representation
from .shared_stream import SharedStream


class Target(Enum):
    """What the request's path names."""

    COLLECTION = "collection"
    UPLOAD = "upload"
    FILE = "file"
    UNKNOWN = "unknown"


class HeaderSource(Protocol):
    """What a request needs of every dialect, whichever one answers it."""

    name: str

    def render_error(
        self, request: UploadRequest, error: ChunkedUploadError
    ) -> Response:
        """The response to the error, in the dialect's format."""

    def capabilities(self, request: UploadRequest) -> Mapping[str, str]:
        """Headers about what the server can do, for OPTIONS."""

    def upload_headers(
        self, request: UploadRequest, upload: Upload
    ) -> Mapping[str, str]:
        """Headers about an upload, for bare HEAD and GET."""


class Access:
    """The caller of one request, and the policy's answers about them."""

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._has_unusable_id = False

    @cached_property
    def owner(self) -> object:
        """The caller; ``None``: unknown, or the id does not fit. Asked once."""
        owner = self._registration.calls("get_user_id")
        # Looking up a user takes a pooled connection. If every request held one while
        # waiting for a second one, for our own transactions, all would wait forever.
        self._registration.sessions.release_if_clean()
        try:
            return self._registration.coerce_owner(owner)
        except ValueError as error:
            logging.getLogger("flask_chunked").warning("%s", error)
            self._has_unusable_id = True
            return None

    def require_owner(self) -> object:
        """The owner of an upload that is to be created.

        :raises OwnerRequired: the caller is unknown, and anonymous uploads are off; or
            the caller's id does not fit the owner's column.
        """
        is_open = self._registration.settings.allow_anonymous
        if self.owner is None and (self._has_unusable_id or not is_open):
            raise OwnerRequired()
        return self.owner

    def max_bytes(self) -> int | None:
        """The largest file for this caller in bytes; ``None``: no limit."""
        return self._registration.hooks.max_bytes()

    @property
    def may_defer_length(self) -> bool:
        """True if an upload may be created without its length."""
        return self._registration.hooks.may_defer_length

    def authorize(self, action: Action, upload: Upload | None = None) -> None:
        """Ask ``authorize``.

        :raises NotAuthorized: the answer is false.
        :raises ChunkedUploadError: the hook's own refusal.
        """
        if not self._registration.calls.authorize(action.value, upload):
            raise NotAuthorized()

    @property
    def authorizes(self) -> bool:
        """True if the application overrides ``authorize``."""
        return self._registration.policy.overrides("authorize")

    def is_authorized(self, action: Action, upload: Upload) -> bool:
        """Ask ``authorize``; a refusal of any kind is ``False``."""
        try:
            self.authorize(action, upload)
        except ChunkedUploadError:
            return False
        return True

    def find(self, upload_id: UUID | None) -> Upload:
        """The upload, if the caller may see it.

        :param upload_id: ``None`` for a malformed id.
        :raises UnknownUpload: for unknown, malformed and foreign ids alike.
        """
        # Look up the owner for a malformed id, too: reading the session adds a ``Vary``
        # header, and the answers must not differ.
        owner = self.owner
        if upload_id is None:
            raise UnknownUpload()
        found = self._registration.find(owner, upload_id)
        if found is None:
            raise UnknownUpload()
        return found

    def page(self, page: Page) -> list[Upload]:
        """A page of the caller's uploads."""
        return self._registration.repository.page(self._listing(), page)

    def count(self, page: Page) -> int:
        """The number of uploads on all pages."""
        return self._registration.repository.count(self._listing(), page)

    def _listing(self) -> Select[Any]:
        return self._registration.visible(
            self._registration.calls("get_query"), self.owner, listing=True
        )


class UploadRequest:
    """One request: what it asks for, its body, its caller, our policy.

    :ivar http: Flask's request.
    :ivar method: after a method override.
    :ivar upload_id: of an UPLOAD or FILE target; ``None`` if it is malformed.
    :ivar dialect: name of the dialect that answers.
    :ivar subject: the upload that the request concerns, once it is known.
    """

    __slots__ = (
        "_body",
        "access",
        "dialect",
        "dialects",
        "engine",
        "http",
        "method",
        "policy",
        "registration",
        "representation",
        "settings",
        "subject",
        "target",
        "upload_id",
    )

    def __init__(
        self,
        registration: Registration,
        http: Request,
        method: str,
        path: tuple[Target, UUID | None],
        view_args: Mapping[str, object],
        dialects: Sequence[HeaderSource],
    ) -> None:
        self.registration = registration
        self.http = http
        self.method = method
        self.target, self.upload_id = path
        self.dialects = dialects
        self.dialect = ""
        self.subject: Upload | None = None
        self.engine: Engine = registration.engine
        self.settings: Settings = registration.settings
        self.policy: UploadPolicy = registration.policy
        self.access = Access(registration)
        self.representation = Representation(registration, view_args)
        self._body: BodyReader | None = None

    # -- headers -------------------------------------------------------------------

    def header(self, name: str) -> str | None:
        """A header of the request; ``None``: not sent."""
        # Read the environ: most headers that are looked up are absent, and Werkzeug's
        # ``headers`` raises and catches an error for each absent one.
        value: str | None = self.http.environ.get(_environ_key(name))
        return value

    def has_mimetype(self, mimetype: str) -> bool:
        """True if ``Content-Type`` has this media type, whatever its parameters."""
        text = self.http.environ.get("CONTENT_TYPE")
        return text == mimetype or (bool(text) and self.http.mimetype == mimetype)

    @property
    def checksum_in_passing(self) -> str | None:
        """Algorithm of the digest that new uploads compute while their bytes arrive."""
        return self.settings.checksum if self.policy.do_checksum_check else None

    # -- the body ------------------------------------------------------------------

    @property
    def body(self) -> BodyReader:
        """The body's reader; the first use returns the session's connection."""
        if self._body is None:
            self.release_session()
            self._body = self.open_body()
        return self._body

    def release_session(self) -> None:
        """Return the connection of the application's session to its pool.

        Call it before waiting for the client, and before a write of our own: SQLite
        would block that until the application's transaction ends.

        :raises RuntimeError: ``db.session`` holds uncommitted writes.
        """
        self.registration.sessions.release("what ran before the upload was touched")

    def announced_length(self) -> int | None:
        """Bytes of the body; ``None`` if it is chunked."""
        return body_length(self.http.environ)

    def has_encoded_body(self) -> bool:
        """True if the body has a ``Content-Encoding`` other than identity."""
        codings = (self.header("Content-Encoding") or "").lower().split(",")
        if {coding.strip() for coding in codings} <= {"", "identity"}:
            return False
        try:
            return self.announced_length() != 0
        except ChunkedUploadError:
            # Treat a malformed length as a body.
            return True

    @property
    def stream(self) -> SharedStream:
        """The body as the application sees it."""
        return SharedStream.of(self.http)

    def open_body(self) -> BodyReader:
        """A reader of the body that suits the WSGI server.

        :raises RuntimeError: the application has read a part of the body.
        """
        settings = self.settings
        return self.stream.take(self.http, settings.read_timeout, settings.min_rate)

    def drain(self) -> None:
        """Read a little of what a refused request still sends."""
        if self._body is None:
            try:
                if self.announced_length() == 0 or not self.stream.is_untouched(
                    self.http
                ):
                    return
            except ChunkedUploadError:
                return
        (self._body or self.open_body()).drain()

    def close_connection_after(self, response: Response) -> None:
        """Close the connection after the answer if the body was not read to its end."""
        if self._body is not None and self._body.must_close:
            response.call_on_close(self._body.close_connection)

    # -- the upload ----------------------------------------------------------------

    def find(self, action: Action) -> Upload:
        """The upload that the path names, if the caller may see it.

        :raises UnknownUpload: there is none, or the caller may not.
        :raises PartialUpload, FinalUpload: its kind does not allow the action.
        """
        self.subject = self.find_other(self.upload_id, action)
        return self.subject

    def find_other(self, upload_id: UUID | None, action: Action) -> Upload:
        """As :meth:`find`, for an upload that header, field or query names."""
        found = self.access.find(upload_id)
        try:
            require(found, action, self.dialect)
        except (PartialUpload, FinalUpload):
            # Check permission first: without it, a client must not learn the kind.
            self.access.authorize(action, found)
            raise
        return found

    def completion_response(self, upload: Upload) -> Response | None:
        """The answer of ``on_completion``; ``None``: the dialect's own."""
        try:
            return self.representation.completion_response(upload)
        except Aborted as aborted:
            # It is the answer: the upload stays complete.
            (dialect,) = (one for one in self.dialects if one.name == self.dialect)
            response = dialect.render_error(self, aborted)
            take_abort(response, aborted)
            return response

    def discard(self, upload: Upload) -> None:
        """Remove an upload that this request created, and answer without it."""
        self.engine.remove.discard(upload)
        self.subject = None

    @contextmanager
    def creating(self, upload: Upload) -> Iterator[None]:
        """Remove the new upload if the block fails."""
        self.subject = upload
        try:
            with self.engine.remove.discarding(upload):
                yield
        except BaseException:
            self.subject = None
            raise


@lru_cache(maxsize=64)
def _environ_key(name: str) -> str:
    """Where WSGI keeps a header, other than ``Content-Type`` and ``Content-Length``."""
    return "HTTP_" + name.upper().replace("-", "_")
