"""How each WSGI server holds a request's body: one small adapter for each.

The servers' behaviour was measured: gunicorn and cheroot report a truncated body as
complete, most lose the bytes of an interrupted ``read(n)``, and none has a read timeout
of its own.
"""

from __future__ import annotations

import _socket
import contextlib
import io
import logging
import select
import socket
import time
from typing import Any, Protocol

from .server_input import is_gunicorn, is_werkzeug, server_input

logger = logging.getLogger("flask_chunked")

#: Servers that read a body to its end before they call the application.
BUFFERING_SERVERS = frozenset({"waitress"})
#: The most bytes that one read asks for.
LARGEST_READ = 256 * 2**10
#: Bytes of the first read from a server without a socket; later reads adapt.
SMALLEST_READ = 16 * 2**10
#: Why a server's own stream is not read past: who wraps it must see the bytes.
_WRAPPED = "a middleware wraps wsgi.input, or this version has another class"
#: A read that takes more seconds than this has waited for the client.
QUICK_SECONDS = 0.05


class Source(Protocol):
    """One way to get bytes: a server's socket, or its input stream.

    :ivar pollable: True if :meth:`wait` knows whether bytes are there.
    """

    pollable: bool

    def receive(self, view: memoryview) -> int:
        """Fill some of the view; 0 is the end of the stream."""

    def receive_nowait(self, view: memoryview) -> int | None:
        """The same without waiting; ``None``: nothing is there, or it is unknown."""

    def wait(self, seconds: float) -> bool:
        """Wait for bytes for at most so many seconds; True if there are some."""

    def descriptor(self) -> int | None:
        """The socket, if the next byte comes from there; else ``None``."""

    def consumed(self, count: int) -> None:
        """Note that the caller took so many bytes from :meth:`descriptor`."""

    def shutdown_read(self) -> None:
        """Stop receiving: a read that waits returns, and no more bytes arrive."""

    def close_connection(self) -> None:
        """Close the connection in both directions, after the answer was sent."""


class GunicornSource:
    """gunicorn, all workers: first the bytes that it has buffered, then its socket.

    The adapter keeps the reader's count of remaining bytes up to date, so that
    keep-alive works and pipelined requests stay untouched.
    """

    pollable = True

    def __init__(self, environ: dict[str, Any]) -> None:
        self._body = server_input(environ)
        if not is_gunicorn(self._body, "LengthReader"):
            raise AttributeError(_WRAPPED)
        self._reader = self._body.reader
        self._unreader = self._reader.unreader
        self._socket: socket.socket = environ["gunicorn.socket"]
        # Use every attribute that the adapter needs: if one is missing in another
        # version of gunicorn, this raises, and the caller falls back to the stream.
        self._reader.length + self._body.buf.tell() + self._unreader.buf.tell()
        if type(self._socket).__name__ == "SSLSocket":
            raise AttributeError("TLS sockets hide bytes from poll()")
        # Other sockets wait in spite of MSG_DONTWAIT: gevent's switch to other
        # requests, and Python polls a socket that has a timeout.
        self._supports_nowait = (
            isinstance(self._socket, _socket.socket) and not self._socket.gettimeout()
        )

    def receive(self, view: memoryview) -> int:
        """Buffered bytes, else one ``recv_into``."""
        # Read no more than is buffered: for more, read() would wait, and the body's
        # own read() always requests a kilobyte from its reader.
        for holder, held in (
            (self._body, self._body.buf.tell()),
            (self._reader, self._unreader.buf.tell()),
        ):
            if held:
                data = holder.read(min(held, len(view)))
                view[: len(data)] = data
                return len(data)
        return self._receive_from_socket(view)

    def receive_nowait(self, view: memoryview) -> int | None:
        """A ``recv_into`` that does not wait, which saves a call of ``poll``."""
        if not self._supports_nowait or self._buffered():
            return None
        try:
            return self._receive_from_socket(view, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def _receive_from_socket(self, view: memoryview, flags: int = 0) -> int:
        wanted = min(len(view), self._reader.length)
        count = self._socket.recv_into(view[:wanted], 0, flags)
        self._reader.length -= count
        return count

    def wait(self, seconds: float) -> bool:
        """Poll the socket, unless bytes are buffered."""
        return self._buffered() or _readable(self._socket, seconds)

    def descriptor(self) -> int | None:
        """The socket; report to :meth:`consumed` what is read from it."""
        return None if self._buffered() else self._socket.fileno()

    def consumed(self, count: int) -> None:
        """Subtract the bytes from the reader's count."""
        self._reader.length -= count

    def _buffered(self) -> bool:
        return bool(self._body.buf.tell() + self._unreader.buf.tell())

    def shutdown_read(self) -> None:
        """See :meth:`Source.shutdown_read`."""
        _shut(self._socket, socket.SHUT_RD)

    def close_connection(self) -> None:
        """See :meth:`Source.close_connection`."""
        _shut(self._socket, socket.SHUT_RDWR)


class BufferedSource:
    """Werkzeug's development server: a ``BufferedReader`` over its socket."""

    pollable = True

    def __init__(self, environ: dict[str, Any]) -> None:
        self._input: io.BufferedReader = server_input(environ)
        self._socket: socket.socket = environ["werkzeug.socket"]
        if type(self._socket).__name__ == "SSLSocket":
            raise AttributeError("TLS sockets hide bytes from poll()")
        if not is_werkzeug(self._input, self._socket):
            raise AttributeError(_WRAPPED)

    def receive(self, view: memoryview) -> int:
        """One ``read1``: what is buffered, or one read of the socket."""
        return self._input.readinto1(view)

    def receive_nowait(self, view: memoryview) -> int | None:
        """None: unknown without a read that may wait."""
        return None

    def wait(self, seconds: float) -> bool:
        """Poll the socket; a small part may also be buffered after the headers."""
        if _readable(self._socket, 0):
            return True
        # peek() returns buffered bytes without a system call, but blocks if the buffer
        # is empty. The socket is not readable, so make it non-blocking meanwhile.
        self._socket.setblocking(False)
        try:
            if self._input.peek(1):
                return True
        except OSError:
            return False
        finally:
            self._socket.setblocking(True)
        return _readable(self._socket, seconds)

    def descriptor(self) -> int | None:
        """None: bytes may be in a buffer that cannot be inspected."""
        return None

    def consumed(self, count: int) -> None:
        """Never called, because there is no descriptor."""

    def shutdown_read(self) -> None:
        """See :meth:`Source.shutdown_read`."""
        _shut(self._socket, socket.SHUT_RD)

    def close_connection(self) -> None:
        """See :meth:`Source.close_connection`."""
        _shut(self._socket, socket.SHUT_RDWR)


class StreamSource:
    """Every other server, and chunked bodies: ``read(n)`` of adaptive size.

    ``read(n)`` returns only when n bytes are there, and an interrupted one loses its
    bytes. So reads are small while the client is slow and grow while it is fast.
    """

    pollable = False

    def __init__(self, environ: dict[str, Any], connection: Any, timeout: float):
        self._read = server_input(environ).read
        self._connection = connection
        if connection is not None:
            connection.settimeout(timeout)
        self._size = SMALLEST_READ

    def receive(self, view: memoryview) -> int:
        """One ``read(n)``."""
        size = min(self._size, len(view))
        began = time.monotonic()
        data = self._read(size)
        quick = time.monotonic() - began < QUICK_SECONDS
        self._size = min(self._size * 2, LARGEST_READ) if quick else SMALLEST_READ
        view[: len(data)] = data
        return len(data)

    def receive_nowait(self, view: memoryview) -> int | None:
        """None: unknown without a read that may wait."""
        return None

    def wait(self, seconds: float) -> bool:
        """True: only reading shows whether bytes are there."""
        return True

    def descriptor(self) -> int | None:
        """None: bytes may be in a buffer that cannot be inspected."""
        return None

    def consumed(self, count: int) -> None:
        """Never called, because there is no descriptor."""

    def shutdown_read(self) -> None:
        """See :meth:`Source.shutdown_read`."""
        if self._connection is not None:
            _shut(self._connection, socket.SHUT_RD)

    def close_connection(self) -> None:
        """See :meth:`Source.close_connection`."""
        if self._connection is not None:
            _shut(self._connection, socket.SHUT_RDWR)


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(how)


def _readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


_warned: set[str] = set()


def _warn_of_buffering(environ: dict[str, Any], length: int | None) -> None:
    """Warn once for each server that buffers whole bodies."""
    server = str(environ.get("SERVER_SOFTWARE", "")).partition("/")[0].lower()
    is_small = length is not None and length <= LARGEST_READ
    if server not in BUFFERING_SERVERS or is_small or server in _warned:
        return
    _warned.add(server)
    logger.warning(
        "%s reads each request's body to its end before the application sees it: it "
        "loses all bytes of an interrupted request and writes every byte twice. Use "
        "another server (gunicorn with threads, for example), or let clients send "
        "chunks of a few MiB",
        server,
    )


def source_of(environ: dict[str, Any], length: int | None, timeout: float) -> Source:
    """The source that suits the WSGI server.

    :param length: of the body in bytes; ``None``: chunked.
    :param timeout: seconds of silence after which a read may fail.
    """
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
                logger.warning(
                    "reading %s by its stream: its socket cannot be used (%s)",
                    server[:40],
                    error,
                )
    _warn_of_buffering(environ, length)
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return StreamSource(environ, connection, timeout)
