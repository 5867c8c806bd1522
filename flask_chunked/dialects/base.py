"""What a dialect is, what it may ask of its host, and which one speaks.

A dialect never imports another one; what several need is here or in ``forms``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Protocol
from uuid import UUID

from flask import Request, Response

from ..config.settings import Settings
from ..database.queries import Page
from ..engine.engine import Engine
from ..engine.gate import Action, require
from ..engine.records import Upload
from ..exceptions import (
    ChunkedUploadError,
    FinalUpload,
    MethodNotAllowed,
    PartialUpload,
    UnsupportedEncoding,
)
from ..request.body import BodyReader, body_length, open_body


class Target(Enum):
    """What the request's path names."""

    COLLECTION = "collection"
    UPLOAD = "upload"
    FILE = "file"
    UNKNOWN = "unknown"


class Host(Protocol):
    """What a registered blueprint gives its dialects for one request."""

    @property
    def engine(self) -> Engine:
        """The engine of this registration."""

    @property
    def settings(self) -> Settings:
        """The configuration of this registration."""

    @property
    def field_name(self) -> str:
        """Name of the file part."""

    @property
    def max_form_parts(self) -> int:
        """The most parts that a multipart body may have."""

    @property
    def checksum_wanted(self) -> bool:
        """Is the digest of the whole file demanded at completion?"""

    @property
    def checksum_in_passing(self) -> str | None:
        """Algorithm of the digest that new uploads take while their bytes pass."""

    @property
    def may_defer_length(self) -> bool:
        """May an upload be created whose length nobody knows yet?"""

    def max_bytes(self) -> int | None:
        """The largest file for this caller, in bytes."""

    def owner(self) -> object:
        """The caller, ``None`` where nobody knows it."""

    def require_owner(self) -> object:
        """The owner of an upload that is to be created.

        :raises OwnerRequired: unknown, and anonymous uploads are not allowed.
        """

    def authorize(self, action: Action, upload: Upload | None = None) -> None:
        """Ask the policy.

        :raises NotAuthorized: it says no.
        """

    @property
    def authorizes(self) -> bool:
        """May the policy say no, for reasons that it finds in the upload's row?"""

    def is_authorized(self, action: Action, upload: Upload) -> bool:
        """Ask the policy without refusing."""

    def find(self, upload_id: UUID | None) -> Upload:
        """The upload, where the caller may see it.

        :raises UnknownUpload: unknown, malformed and foreign ids alike.
        """

    def page(self, page: Page) -> list[Upload]:
        """A page of the caller's uploads."""

    def count(self, page: Page) -> int:
        """How many uploads all pages have."""

    def load_fields(self, form: Mapping[str, str]) -> Mapping[str, object]:
        """The form's fields that the schema knows, validated.

        :raises InvalidFields: the schema refuses one.
        """

    def represent(self, upload: Upload) -> dict[str, object]:
        """The JSON of an upload."""

    def url(self, upload: Upload) -> str:
        """Absolute URL of the upload."""

    def content_url(self, upload: Upload) -> str | None:
        """Absolute URL of the content, where it may be downloaded."""

    def collection_url(self) -> str:
        """Absolute URL of the collection."""

    def location(self, upload: Upload) -> str:
        """What ``Location`` says: relative, or absolute where that is wanted."""

    def completion_response(self, upload: Upload) -> Response | None:
        """What ``on_completion`` wants to answer; ``None``: the dialect's own."""

    def release_session(self) -> None:
        """Give the application's pooled connection back.

        Before a client is waited for, and before a write of our own, which SQLite
        would keep waiting for the application's.

        :raises RuntimeError: ``db.session`` holds uncommitted writes.
        """


@dataclass(slots=True)
class Call:
    """One request as the dispatcher understood it.

    :param method: after a method override.
    :param upload_id: of an UPLOAD or FILE target; ``None`` where it is malformed.
    """

    request: Request
    method: str
    target: Target
    upload_id: UUID | None
    host: Host
    dialects: Sequence[Dialect]
    #: Name of the dialect that answers.
    spoken: str = ""
    #: The upload that the request turned out to be about.
    subject: Upload | None = None
    _body: BodyReader | None = None

    def header(self, name: str) -> str | None:
        """A header of the request; ``None``: not sent."""
        # As the server's environ has it: nearly all that are asked for are not there,
        # and Werkzeug's headers raise and catch an error for each of those.
        value: str | None = self.request.environ.get(_environ_key(name))
        return value

    def has_mimetype(self, mimetype: str) -> bool:
        """Is this what ``Content-Type`` says, whatever parameters it has?"""
        text = self.request.environ.get("CONTENT_TYPE")
        return text == mimetype or (bool(text) and self.request.mimetype == mimetype)

    @property
    def body(self) -> BodyReader:
        """The body's reader; the first use gives the session's connection back."""
        if self._body is None:
            self.host.release_session()
            self._body = self.open_body()
        return self._body

    def announced_length(self) -> int | None:
        """Bytes of the body; ``None`` where it is chunked."""
        return body_length(self.request.environ)

    def has_packed_body(self) -> bool:
        """Does the request carry a body whose ``Content-Encoding`` is not identity?"""
        codings = (self.header("Content-Encoding") or "").lower().split(",")
        if {coding.strip() for coding in codings} <= {"", "identity"}:
            return False
        try:
            return self.announced_length() != 0
        except ChunkedUploadError:
            # What is wrong with a length is wrong with the length of a body.
            return True

    def open_body(self) -> BodyReader:
        """A reader of the body, as the server at hand wants it read."""
        settings = self.host.settings
        return open_body(self.request.environ, settings.read_timeout, settings.min_rate)

    def drain(self) -> None:
        """Read a little of what a refused request still sends."""
        try:
            if self._body is None and self.announced_length() == 0:
                return
            body = self._body or self.open_body()
        except ChunkedUploadError:
            return
        body.drain()

    def hang_up_after(self, response: Response) -> None:
        """A connection whose body went wrong takes no further request."""
        if self._body is not None and self._body.is_spoilt:
            response.call_on_close(self._body.hang_up)

    def find(self, action: Action) -> Upload:
        """The upload that the path names, if the caller may see it.

        :raises UnknownUpload: there is none, or the caller may not.
        :raises PartialUpload, FinalUpload: its kind does not allow the action.
        """
        self.subject = self.find_other(self.upload_id, action)
        return self.subject

    def abandon(self, upload: Upload) -> None:
        """Drop an upload of this request's own; no answer is about it any more."""
        self.host.engine.abandon(upload)
        self.subject = None

    @contextmanager
    def creating(self, upload: Upload) -> Iterator[None]:
        """:meth:`abandon` the new upload if its creating request fails in here."""
        self.subject = upload
        try:
            with self.host.engine.creating(upload):
                yield
        except BaseException:
            self.subject = None
            raise

    def find_other(self, upload_id: UUID | None, action: Action) -> Upload:
        """The same for an upload that the request names elsewhere."""
        found = self.host.find(upload_id)
        try:
            require(found, action, self.spoken)
        except (PartialUpload, FinalUpload):
            # Permission comes first: without it a client learns nothing of the kind.
            self.host.authorize(action, found)
            raise
        return found


Handler = Callable[[Call], Response]
#: Methods whose bodies are stored or hold fields.
_TAKING = frozenset({"POST", "PUT", "PATCH"})


@lru_cache(maxsize=64)
def _environ_key(name: str) -> str:
    """Where WSGI keeps a header, other than ``Content-Type`` and ``Content-Length``."""
    return "HTTP_" + name.upper().replace("-", "_")


class Dialect(ABC):
    """One protocol on the upload resources.

    The dispatcher asks the dialects in order which one speaks; that one answers the
    request and renders its errors. For bare requests (no dialect's own header) the
    last one speaks, with the headers of all: see :meth:`describe`.
    """

    name: str

    @abstractmethod
    def speaks(self, call: Call) -> bool:
        """Is the request in this dialect?"""

    @abstractmethod
    def handle(self, call: Call) -> Response:
        """Answer the request.

        :raises ChunkedUploadError: refused; the dispatcher has it rendered.
        """

    @abstractmethod
    def render_error(self, call: Call, error: ChunkedUploadError) -> Response:
        """The error in this dialect's words."""

    def choose(self, call: Call, handlers: Mapping[str, Handler]) -> Handler:
        """The handler of the request's method. A packed body reaches none of them.

        :param handlers: of the request's target, by method.
        :raises MethodNotAllowed: the target does not have the method.
        :raises UnsupportedEncoding: the body is packed (RFC 9110, section 8.4).
        """
        handler = handlers.get(call.method)
        if handler is None:
            raise MethodNotAllowed(call.method, (*handlers, "OPTIONS"))
        if call.method in _TAKING and call.has_packed_body():
            raise UnsupportedEncoding()
        return handler

    def capabilities(self, call: Call) -> Mapping[str, str]:
        """This dialect's headers about what the server can do, for OPTIONS."""
        return {}

    @abstractmethod
    def describe(self, call: Call, upload: Upload) -> Mapping[str, str]:
        """This dialect's headers about an upload, for bare HEAD and GET."""
