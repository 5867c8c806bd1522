"""A request's body, shared by the application and the upload.

The application may look at its request before the upload does, in hooks, and after it.
A stream that counts takes the place of the request's own before anyone can look. So the
upload knows whether the body is untouched, and never stores a part of it as the whole.
"""

from __future__ import annotations

import io
import weakref
from typing import IO, Any, cast

from flask import Request
from werkzeug.wsgi import LimitedStream, get_content_length, get_input_stream

from ..exceptions import ChunkedUploadError, MalformedBody
from .body import BodyReader, body_length, open_body
from .server_input import SHARED_STREAM, bytes_taken
from .servers import StreamSource

#: Bytes of one read of a body that is read as a whole.
READ_SIZE = 64 * 2**10


class SharedStream(io.RawIOBase):
    """The body of one request as the application sees it.

    It returns what has not been read yet. While an upload reads the body it raises
    RuntimeError; after that it has ended.

    :ivar server_input: the server's own stream.
    :ivar taken: bytes that the application has read.
    """

    def __init__(self, http: Request) -> None:
        # A plain reference would make a cycle, since the environ holds this stream.
        # ``http`` may be Flask's proxy; the environ has the request itself.
        self._http = weakref.ref(http.environ.get("werkzeug.request") or http)
        self.server_input: IO[bytes] = http.environ["wsgi.input"]
        self.taken = 0
        #: Something was read, or may have been read, before this stream was there.
        self._is_late = "stream" in http.__dict__
        self._stream: IO[bytes] | None = None
        self._length: int | None = None
        self._reader: BodyReader | None = None
        self._has_ended = False
        self._is_over = False
        self._is_lent = False
        #: Bytes that a parser of ours has read; ``None``: it was not asked.
        self._parsed: int | None = None
        self._is_malformed = False

    @classmethod
    def of(cls, http: Request) -> SharedStream:
        """The stream of a request, which takes its place there if there is none yet."""
        environ = http.environ
        found: SharedStream | None = environ.get(SHARED_STREAM)
        if found is None:
            found = environ[SHARED_STREAM] = cls(http)
            if not found._is_late:
                http.stream = environ["wsgi.input"] = cast("IO[bytes]", found)
        return found

    # -- for the application -------------------------------------------------------

    def readable(self) -> bool:
        """Always true."""
        return True

    def tell(self) -> int:
        """The number of bytes that the application has read."""
        return self.taken

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 is the end.

        :raises RuntimeError: an upload is reading the body.
        """
        if self._is_over or (self._reader is not None and self._reader.ended):
            return 0
        if self._reader is not None and not self._is_lent:
            raise RuntimeError(
                "An upload is reading the body of this request. Read it earlier, in "
                "before_request or authorize, and as a whole (request.get_data(), "
                "request.form); or read the stored file, in verify or deliver"
            )
        view = memoryview(buffer).cast("B")
        data = self._opened().read(len(view))
        view[: len(data)] = data
        if not self._is_lent:
            self.taken += len(data)
            self._has_ended = self._has_ended or (not data and len(view) > 0)
        return len(data)

    def readall(self) -> bytes:
        """The rest of the body."""
        content = bytearray()
        while block := self.read(READ_SIZE):
            content += block
            stream = self._opened()
            if self.taken == self._length:
                break
            if isinstance(stream, LimitedStream) and stream.is_exhausted:
                # Another read would be an error if the limit is MAX_CONTENT_LENGTH.
                break
        return bytes(content)

    def _opened(self) -> IO[bytes]:
        """The stream that Werkzeug would use, with the application's limit."""
        if self._stream is None:
            http = self._http()
            if http is None:
                return io.BytesIO()
            environ = {**http.environ, "wsgi.input": self.server_input}
            self._length = get_content_length(environ)
            self._stream = get_input_stream(
                environ, max_content_length=http.max_content_length
            )
        return self._stream

    # -- for the parser of forms -----------------------------------------------------

    def note_form(self, parsed: int, *, malformed: bool) -> None:
        """Note that a form was parsed for the application.

        :param parsed: bytes that the parser has read.
        """
        self._parsed = parsed
        self._is_malformed = malformed

    def require_form(self, http: Request) -> None:
        """Check that ``form`` and ``files`` of the request show the whole body.

        :raises MalformedBody: it is no form.
        :raises RuntimeError: something else has read bytes of it.
        """
        if self._parsed is None:
            # The application has a parser of its own.
            is_whole = self._is_whole(http)
        else:
            is_whole = self._parsed == self.taken
            if is_whole and self._is_malformed:
                raise MalformedBody("Malformed multipart/form-data body")
            is_whole = is_whole and self._is_whole(http)
        if not is_whole:
            raise self._refusal()

    # -- for the upload --------------------------------------------------------------

    def is_untouched(self, http: Request) -> bool:
        """True if nothing of the body was read, as far as the server can say."""
        return self._is_untouched(_length_of(http))

    def take(
        self, http: Request, timeout: float, min_rate: int | None = None
    ) -> BodyReader:
        """A reader of the whole body; the application can read no more of it.

        :param timeout: seconds of silence after which reading ends with an error.
        :param min_rate: bytes per second; ``None``: no limit.
        :raises RuntimeError: the application has read bytes that cannot be read again.
        """
        environ = http.environ
        length = body_length(environ)
        if length == 0 or self._is_untouched(length):
            present = environ["wsgi.input"]
            if present is self or present is self.server_input:
                self._reader = open_body(environ, timeout, min_rate)
            else:
                # A function of the application has put a wrapper around this stream.
                source = StreamSource({"wsgi.input": _Lent(self, http)}, None, timeout)
                self._reader = BodyReader(source, length, timeout, min_rate)
            return self._reader
        data = self._read_again(http)
        source = StreamSource({"wsgi.input": io.BytesIO(data)}, None, timeout)
        return BodyReader(source, len(data), timeout)

    def read_through(self, stream: IO[bytes], size: int) -> bytes:
        """Read from a wrapper of this stream for the upload."""
        self._is_lent = True
        try:
            return stream.read(size)
        finally:
            self._is_lent = False

    def end(self) -> None:
        """End the stream when the upload has been answered."""
        self._is_over = True
        self._reader = None

    def _is_untouched(self, length: int | None) -> bool:
        """:meth:`is_untouched` for a body of this length in bytes."""
        if self.taken or self._is_late or self._is_over or self._reader is not None:
            return False
        return not bytes_taken(self.server_input, length)

    def _is_whole(self, http: Request) -> bool:
        """True if the application has read the body to its end."""
        length = _length_of(http)
        whole = self._has_ended if length is None else self.taken == length
        return whole and not self._is_late

    def _read_again(self, http: Request) -> bytes:
        """What Werkzeug has kept of a body that the application has read as a whole."""
        if self._is_whole(http):
            # Nothing is left to read: the result is what is kept, or nothing.
            self._is_over = True
            data = http.get_data(cache=False)
            if len(data) == self.taken:
                return data
        raise self._refusal()

    def _refusal(self) -> RuntimeError:
        return RuntimeError(
            "Bytes of this request's body were read before the upload could read "
            f"them ({self.taken} of them by the application). Nothing was stored. "
            "Leave the body unread, or read it as a whole with request.get_data() or "
            "request.form, which keep what they read"
        )


class _Lent:
    """The stream that the application has put in the environ, read for an upload."""

    def __init__(self, shared: SharedStream, http: Request) -> None:
        self._shared = shared
        self._stream: IO[bytes] = http.environ["wsgi.input"]

    def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes."""
        return self._shared.read_through(self._stream, size)


def _length_of(http: Request) -> int | None:
    """Bytes of the body; ``None``: it is chunked, or its length is malformed."""
    try:
        return body_length(http.environ)
    except ChunkedUploadError:
        return None
