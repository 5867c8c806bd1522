"""What a dialect is: one protocol on the upload resources.

A dialect never imports another one; what several need is in this package's other
modules or in ``request``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from flask import Response

from ..engine.records import Upload
from ..exceptions import ChunkedUploadError, MethodNotAllowed, UnsupportedEncoding
from ..request.context import UploadRequest

Handler = Callable[[UploadRequest], Response]
#: Methods whose bodies are stored or hold fields.
_TAKING = frozenset({"POST", "PUT", "PATCH"})


class Dialect(ABC):
    """One protocol on the upload resources.

    The dispatcher asks the dialects in order which one speaks; that one answers the
    request and renders its errors. For bare requests (no dialect's own header) the
    last one speaks, with the headers of all: see :meth:`upload_headers`.
    """

    name: str

    @abstractmethod
    def matches(self, request: UploadRequest) -> bool:
        """Is the request in this dialect?"""

    @abstractmethod
    def handle(self, request: UploadRequest) -> Response:
        """Answer the request.

        :raises ChunkedUploadError: refused; the dispatcher has it rendered.
        """

    @abstractmethod
    def render_error(
        self, request: UploadRequest, error: ChunkedUploadError
    ) -> Response:
        """The error in this dialect's words."""

    def choose(
        self, request: UploadRequest, handlers: Mapping[str, Handler]
    ) -> Handler:
        """The handler of the request's method. A packed body reaches none of them.

        :param handlers: of the request's target, by method.
        :raises MethodNotAllowed: the target does not have the method.
        :raises UnsupportedEncoding: the body is packed (RFC 9110, section 8.4).
        """
        handler = handlers.get(request.method)
        if handler is None:
            raise MethodNotAllowed(request.method, (*handlers, "OPTIONS"))
        if request.method in _TAKING and request.has_encoded_body():
            raise UnsupportedEncoding()
        return handler

    def capabilities(self, request: UploadRequest) -> Mapping[str, str]:
        """This dialect's headers about what the server can do, for OPTIONS."""
        return {}

    @abstractmethod
    def upload_headers(
        self, request: UploadRequest, upload: Upload
    ) -> Mapping[str, str]:
        """This dialect's headers about an upload, for bare HEAD and GET."""
