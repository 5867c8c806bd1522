"""How a request's body is read from each WSGI server; one small adapter a server.

The habits that force each rule are measured facts of the servers: gunicorn and cheroot
end a cut body without an error, most lose an unfinished ``read(n)``, none has a read
timeout of its own. So bytes are counted against Content-Length, never EOF alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import select
import socket
import time
from typing import Any, Protocol

from .exceptions import BodyInterrupted, BodyTimeout, LengthRequired, MalformedHeader

logger = logging.getLogger("flask_chunked")

#: Bytes of one block, the most that a reader holds.
BLOCK_SIZE = 2**20
#: Seconds without a byte after which a client counts as silent.
PATIENCE = 0.05
#: Reads of servers without a socket start with so many bytes and adapt.
SMALLEST_READ = 16 * 2**10
#: Bytes of a refused body that are read away, so that the client can read the answer.
DRAIN_BYTES = 2**20
#: Seconds that this may take.
DRAIN_SECONDS = 1.0


class Source(Protocol):
    """One way to get bytes: a server's socket, or its input stream."""

    def receive(self, view: memoryview) -> int:
        """Fill some of the view; 0 is the end of the stream."""

    def wait(self, seconds: float) -> bool:
        """Is there something to receive within so many seconds?"""

    def give_up(self) -> None:
        """The client was silent for too long: nothing is read from it any more."""

    def hang_up(self) -> None:
        """Close the connection both ways, after the answer was sent."""


class GunicornSource:
    """gunicorn, all workers: what it buffered first, then its socket.

    The reader's own count of what is left is kept true, so that keep-alive goes on
    working and pipelined requests are left alone.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._body = environ["wsgi.input"]
        self._reader = self._body.reader
        self._unreader = self._reader.unreader
        self._socket: socket.socket = environ["gunicorn.socket"]
        # Everything that is relied on is touched here; what is missing falls back.
        self._reader.length + self._body.buf.tell() + self._unreader.buf.tell()
        if type(self._socket).__name__ == "SSLSocket":
            raise AttributeError("TLS sockets hide bytes from poll()")

    def receive(self, view: memoryview) -> int:
        """Buffered bytes, else one ``recv_into``."""
        # Each is asked for no more than it holds: for more it would wait, and the
        # body's own read() always asks its reader for a kilobyte.
        for holder, held in (
            (self._body, self._body.buf.tell()),
            (self._reader, self._unreader.buf.tell()),
        ):
            if held:
                data = holder.read(min(held, len(view)))
                view[: len(data)] = data
                return len(data)
        count = self._socket.recv_into(view[: min(len(view), self._reader.length)])
        self._reader.length -= count
        return count

    def wait(self, seconds: float) -> bool:
        """Poll the socket, unless bytes are buffered."""
        buffered = self._body.buf.tell() + self._unreader.buf.tell()
        return bool(buffered) or _readable(self._socket, seconds)

    def give_up(self) -> None:
        """See :meth:`Source.give_up`."""
        _shut(self._socket, socket.SHUT_RD)

    def hang_up(self) -> None:
        """See :meth:`Source.hang_up`."""
        _shut(self._socket, socket.SHUT_RDWR)


class BufferedSource:
    """Werkzeug's development server: a ``BufferedReader`` over its socket."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self._input: io.BufferedReader = environ["wsgi.input"]
        self._socket: socket.socket = environ["werkzeug.socket"]
        if not isinstance(self._input, io.BufferedReader):
            raise AttributeError("wsgi.input is no BufferedReader")
        if type(self._socket).__name__ == "SSLSocket":
            raise AttributeError("TLS sockets hide bytes from poll()")
        self._buffered = True

    def receive(self, view: memoryview) -> int:
        """One ``read1``: what is buffered, or one read of the socket."""
        data = self._input.read1(len(view))
        self._buffered = False
        view[: len(data)] = data
        return len(data)

    def wait(self, seconds: float) -> bool:
        """Poll the socket; a small part may also be buffered behind the headers."""
        if _readable(self._socket, 0):
            return True
        # peek() returns buffered bytes without a system call, and would block on an
        # empty buffer: with the socket unreadable it is asked not to.
        self._socket.setblocking(False)
        try:
            if self._input.peek(1):
                return True
        except OSError:
            return False
        finally:
            self._socket.setblocking(True)
        return _readable(self._socket, seconds)

    def give_up(self) -> None:
        """See :meth:`Source.give_up`."""
        _shut(self._socket, socket.SHUT_RD)

    def hang_up(self) -> None:
        """See :meth:`Source.hang_up`."""
        _shut(self._socket, socket.SHUT_RDWR)


class StreamSource:
    """Every other server, and chunked bodies: ``read(n)`` of adaptive size.

    ``read(n)`` returns only when n bytes are there, and what an interrupted one had is
    lost; so reads are small while the client is slow and grow while it is fast.
    """

    def __init__(self, environ: dict[str, Any], connection: Any, timeout: float):
        self._read = environ["wsgi.input"].read
        self._connection = connection
        if connection is not None:
            connection.settimeout(timeout)
        self._size = SMALLEST_READ

    def receive(self, view: memoryview) -> int:
        """One ``read(n)``."""
        size = min(self._size, len(view))
        began = time.monotonic()
        data = self._read(size)
        quick = time.monotonic() - began < PATIENCE
        self._size = min(self._size * 2, BLOCK_SIZE) if quick else SMALLEST_READ
        view[: len(data)] = data
        return len(data)

    def wait(self, seconds: float) -> bool:
        """Unknown; reading is the only way to find out."""
        return True

    def give_up(self) -> None:
        """See :meth:`Source.give_up`."""
        if self._connection is not None:
            _shut(self._connection, socket.SHUT_RD)

    def hang_up(self) -> None:
        """See :meth:`Source.hang_up`."""
        if self._connection is not None:
            _shut(self._connection, socket.SHUT_RDWR)


class BodyReader:
    """The body of one request, in blocks of one reused buffer.

    :param length: Content-Length in bytes; ``None``: the server ends the body itself.
    :param timeout: seconds of silence after which the client is given up.
    """

    def __init__(self, source: Source, length: int | None, timeout: float) -> None:
        self._source = source
        self._length = length
        self._timeout = timeout
        self._buffer: memoryview | None = None
        self._failure: BodyInterrupted | BodyTimeout | None = None
        self._is_interrupted = False
        self._last = 0
        self.received = 0
        self.ended = length == 0

    def read(self) -> memoryview:
        """Up to one block of what is there; see the engine's ``Reader`` port."""
        if self._failure is not None:
            raise self._failure
        if self._buffer is None:
            self._buffer = memoryview(bytearray(self._block_size()))
        filled = 0
        while filled < len(self._buffer) and not self.ended:
            if not self._source.wait(PATIENCE):
                break
            if not self._receive(self._buffer[filled:]):
                break
            filled += self._last
        if not filled and self._failure is not None:
            raise self._failure
        return self._buffer[:filled]

    def wait(self) -> None:
        """Wait for the client; see the engine's ``Reader`` port."""
        if self._failure is not None:
            raise self._failure
        if not self._source.wait(self._timeout):
            self._time_out()
            raise BodyTimeout(self._timeout)

    def read_file(self, size: int = -1) -> bytes:
        """``read`` of a file object, for parsers; waits for the client.

        :param size: the most bytes to return; never more than one block.
        """
        while not self.ended:
            want = BLOCK_SIZE if size < 0 else min(size, BLOCK_SIZE)
            chunk = bytearray(want)
            self.wait()
            if not self._receive(memoryview(chunk)):
                if self._failure is not None:
                    raise self._failure
                continue
            return bytes(chunk[: self._last])
        return b""

    def interrupt(self) -> None:
        """End the body from another thread; see the engine's ``Reader`` port."""
        # One that is all here needs no letting go, and its connection may live on.
        if not self.ended:
            self._is_interrupted = True
            self._source.give_up()

    @property
    def is_spoilt(self) -> bool:
        """Did the body end before its end, so that the connection is of no use?

        What the client still sends would be taken for its next request.
        """
        return self._failure is not None or self._is_interrupted

    def hang_up(self) -> None:
        """Close the connection; to be called when the answer was sent."""
        self._source.hang_up()

    def drain(self) -> None:
        """Read a little of a body that nobody wants, for the sake of the answer."""
        if isinstance(self._source, StreamSource):
            # Without a socket to poll this could wait for the client for ever.
            return
        deadline = time.monotonic() + DRAIN_SECONDS
        drained = 0
        try:
            while not self.ended and drained < DRAIN_BYTES:
                left = deadline - time.monotonic()
                if left <= 0 or not self._source.wait(min(left, PATIENCE)):
                    return
                drained += len(self.read())
        except (BodyInterrupted, BodyTimeout):
            return

    def _time_out(self) -> None:
        self._failure = BodyTimeout(self._timeout)
        self._source.give_up()

    def _block_size(self) -> int:
        return BLOCK_SIZE if self._length is None else min(BLOCK_SIZE, self._length)

    def _receive(self, view: memoryview) -> bool:
        """Receive once, at the end of what is announced stop; ``False``: nothing."""
        if self._length is not None:
            view = view[: self._length - self.received]
        try:
            self._last = self._source.receive(view)
        except TimeoutError:
            self._time_out()
            return False
        # Servers tell a lost client, and chunks that are none, in errors of their own;
        # all mean the same, and what arrived before is kept.
        except Exception as error:
            logger.debug("request body ended with %r", type(error).__name__)
            self._failure = BodyInterrupted()
            return False
        self.received += self._last
        if self._length is None:
            self.ended = not self._last
        elif self.received == self._length:
            self.ended = True
        elif not self._last:
            self._failure = BodyInterrupted()
        return bool(self._last)


def body_length(environ: dict[str, Any]) -> int | None:
    """Bytes of the body; ``None`` where the server ends it itself (chunked).

    :raises MalformedHeader: Content-Length is no number.
    :raises LengthRequired: a chunked body that this server does not pass on.
    """
    if environ.get("HTTP_TRANSFER_ENCODING"):
        if environ.get("CONTENT_LENGTH") or not environ.get("wsgi.input_terminated"):
            raise LengthRequired()
        return None
    text = environ.get("CONTENT_LENGTH") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise MalformedHeader("Content-Length", text[:40], "not a number of bytes")
    return int(text)


def open_body(environ: dict[str, Any], timeout: float) -> BodyReader:
    """The reader of a request's body, by what the server shows in its environ.

    :param timeout: seconds of silence after which the client is given up.
    """
    length = body_length(environ)
    return BodyReader(_source(environ, length, timeout), length, timeout)


_warned: set[str] = set()


def _source(environ: dict[str, Any], length: int | None, timeout: float) -> Source:
    if length is not None:
        try:
            if "gunicorn.socket" in environ:
                return GunicornSource(environ)
            if "werkzeug.socket" in environ:
                return BufferedSource(environ)
        except (AttributeError, KeyError, TypeError) as error:
            server = str(environ.get("SERVER_SOFTWARE", "server"))
            if server not in _warned:
                _warned.add(server)
                logger.warning("reading %s by its stream: %s", server[:40], error)
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return StreamSource(environ, connection, timeout)


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(how)


def _readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
