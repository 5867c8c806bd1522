"""Where each WSGI server keeps a request's body; one small adapter a server.

The habits that force each rule are measured facts of the servers: gunicorn and cheroot
end a cut body without an error, most lose an unfinished ``read(n)``, none has a read
timeout of its own.
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

logger = logging.getLogger("flask_chunked")

#: Servers that read a body to its end before they call the application.
BUFFERING = frozenset({"waitress"})
#: The most bytes that one read asks for.
LARGEST_READ = 256 * 2**10
#: Reads of servers without a socket start with so many bytes and adapt.
SMALLEST_READ = 16 * 2**10
#: A read that takes longer, in seconds, waited for the client.
QUICK = 0.05


class Source(Protocol):
    """One way to get bytes: a server's socket, or its input stream.

    :ivar polls: can :meth:`wait` tell whether something is there?
    """

    polls: bool

    def receive(self, view: memoryview) -> int:
        """Fill some of the view; 0 is the end of the stream."""

    def receive_at_once(self, view: memoryview) -> int | None:
        """The same without waiting; ``None``: nothing is there, as far as is known."""

    def wait(self, seconds: float) -> bool:
        """Is there something to receive within so many seconds?"""

    def descriptor(self) -> int | None:
        """The socket, if whatever comes next comes from there; else ``None``."""

    def moved(self, count: int) -> None:
        """So many bytes were taken from :meth:`descriptor`."""

    def give_up(self) -> None:
        """The client was silent for too long: nothing is read from it any more."""

    def hang_up(self) -> None:
        """Close the connection both ways, after the answer was sent."""


class GunicornSource:
    """gunicorn, all workers: what it buffered first, then its socket.

    The reader's own count of what is left is kept true, so that keep-alive goes on
    working and pipelined requests are left alone.
    """

    polls = True

    def __init__(self, environ: dict[str, Any]) -> None:
        self._body = environ["wsgi.input"]
        self._reader = self._body.reader
        self._unreader = self._reader.unreader
        self._socket: socket.socket = environ["gunicorn.socket"]
        # Everything that is relied on is touched here; what is missing falls back.
        self._reader.length + self._body.buf.tell() + self._unreader.buf.tell()
        if type(self._socket).__name__ == "SSLSocket":
            raise AttributeError("TLS sockets hide bytes from poll()")
        # Others wait, whatever the flags say: gevent's let other requests run, and one
        # with a timeout is polled by Python first.
        self._tells_at_once = (
            isinstance(self._socket, _socket.socket) and not self._socket.gettimeout()
        )

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
        return self._receive_from_socket(view)

    def receive_at_once(self, view: memoryview) -> int | None:
        """A ``recv_into`` that does not wait, so that nobody has to poll first."""
        if not self._tells_at_once or self._buffered():
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
        """The socket; what moves past us must be told to :meth:`moved`."""
        return None if self._buffered() else self._socket.fileno()

    def moved(self, count: int) -> None:
        """Bytes went from the socket elsewhere."""
        self._reader.length -= count

    def _buffered(self) -> bool:
        return bool(self._body.buf.tell() + self._unreader.buf.tell())

    def give_up(self) -> None:
        """See :meth:`Source.give_up`."""
        _shut(self._socket, socket.SHUT_RD)

    def hang_up(self) -> None:
        """See :meth:`Source.hang_up`."""
        _shut(self._socket, socket.SHUT_RDWR)


class BufferedSource:
    """Werkzeug's development server: a ``BufferedReader`` over its socket."""

    polls = True

    def __init__(self, environ: dict[str, Any]) -> None:
        self._input: io.BufferedReader = environ["wsgi.input"]
        self._socket: socket.socket = environ["werkzeug.socket"]
        if not isinstance(self._input, io.BufferedReader):
            raise AttributeError("wsgi.input is no BufferedReader")
        if type(self._socket).__name__ == "SSLSocket":
            raise AttributeError("TLS sockets hide bytes from poll()")

    def receive(self, view: memoryview) -> int:
        """One ``read1``: what is buffered, or one read of the socket."""
        return self._input.readinto1(view)

    def receive_at_once(self, view: memoryview) -> int | None:
        """None: only a read would tell."""
        return None

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

    def descriptor(self) -> int | None:
        """None: bytes may be in a buffer that cannot be looked into."""
        return None

    def moved(self, count: int) -> None:
        """Never called, as there is no descriptor."""

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

    polls = False

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
        quick = time.monotonic() - began < QUICK
        self._size = min(self._size * 2, LARGEST_READ) if quick else SMALLEST_READ
        view[: len(data)] = data
        return len(data)

    def receive_at_once(self, view: memoryview) -> int | None:
        """None: only a read would tell."""
        return None

    def wait(self, seconds: float) -> bool:
        """Unknown; reading is the only way to find out."""
        return True

    def descriptor(self) -> int | None:
        """None: bytes may be in a buffer that cannot be looked into."""
        return None

    def moved(self, count: int) -> None:
        """Never called, as there is no descriptor."""

    def give_up(self) -> None:
        """See :meth:`Source.give_up`."""
        if self._connection is not None:
            _shut(self._connection, socket.SHUT_RD)

    def hang_up(self) -> None:
        """See :meth:`Source.hang_up`."""
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
    """Say once that this server hands bodies over only when they are whole."""
    server = str(environ.get("SERVER_SOFTWARE", "")).partition("/")[0].lower()
    is_small = length is not None and length <= LARGEST_READ
    if server not in BUFFERING or is_small or server in _warned:
        return
    _warned.add(server)
    logger.warning(
        "%s reads each request's body to its end before it hands it over: of one that "
        "is cut nothing is kept, and its bytes are written twice. Use another server "
        "(gunicorn with threads, say), or let clients send chunks of a few MiB",
        server,
    )


def source_of(environ: dict[str, Any], length: int | None, timeout: float) -> Source:
    """The source that suits the server which made this environ."""
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
    _warn_of_buffering(environ, length)
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    return StreamSource(environ, connection, timeout)
