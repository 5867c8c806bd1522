"""The interface of a dialect: one protocol on the upload resources.

A dialect never imports another one; what several dialects need is in this package's
other modules or in ``request``.
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
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Dialect(ABC):
    """One protocol on the upload resources.

    The first dialect that matches a request answers it and renders its errors. A bare
    request, without a header of any dialect, goes to the last one; the answer has the
    headers of all dialects, see :meth:`upload_headers`.
    """

    name: str

    @abstractmethod
    def matches(self, request: UploadRequest) -> bool:
        """True if the request is in this dialect."""

    @abstractmethod
    def handle(self, request: UploadRequest) -> Response:
        """Answer the request.

        :raises ChunkedUploadError: the request is refused; the dispatcher calls
            :meth:`render_error`.
        """

    @abstractmethod
    def render_error(
        self, request: UploadRequest, error: ChunkedUploadError
    ) -> Response:
        """The response to the error, in this dialect's format."""

    def choose(
        self, request: UploadRequest, handlers: Mapping[str, Handler]
    ) -> Handler:
        """The handler of the request's method.

        :param handlers: of the request's target, by method.
        :raises MethodNotAllowed: the target does not have the method.
        :raises UnsupportedEncoding: the body is compressed or otherwise encoded (RFC
            9110, section 8.4).
        """
        handler = handlers.get(request.method)
        if handler is None:
            raise MethodNotAllowed(request.method, (*handlers, "OPTIONS"))
        if request.method in _WITH_BODY and request.has_encoded_body():
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
