"""The one client of all measurements: raw sockets, content sent from a memory file.

Knows HTTP/1.1 as far as the receivers speak it; nothing of uploads.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from urllib.parse import urlsplit

MIB = 1024 * 1024
HOST = "127.0.0.1"

#: Seconds without progress after which a receiver is given up.
PATIENCE = 600

#: The memory file repeats after so many bytes: 32 GiB do not fit into memory.
LONGEST = 1024 * MIB


class ClientError(Exception):
    """A receiver did not do what the measurement is about."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the source's content, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Request:
    """One request; its body is ``before``, a slice of the content, ``after``.

    :param part: ``create``, ``data`` or ``finish``: what its time counts as.
    :param fresh: on a new connection, so that any worker may answer.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    before: bytes = b""
    content: Slice | None = None
    after: bytes = b""
    part: str = "data"
    fresh: bool = False

    def head(self) -> bytes:
        """Request line and header section."""
        size = len(self.before) + len(self.after)
        size += self.content.length if self.content else 0
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {HOST}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if size or self.method != "GET":
            lines.append(f"Content-Length: {size}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Is this the last answer on its connection?"""
        return self.headers.get("connection", "").lower() == "close"

    def path(self, header: str) -> str:
        """Path and query of a URL in a header."""
        return path_of(self.headers[header])


def path_of(url: str) -> str:
    """Path and query of a URL, as a request line takes them."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


class ResponseParser:
    """Bytes in, answers out; one request is under way at a time."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Response | None:
        """The answer, as soon as all of it is there.

        :param data: ``b""``: the receiver has closed the connection.
        :raises ClientError: it closed too early.
        """
        self._data += data
        while True:
            head, found, body = self._data.partition(b"\r\n\r\n")
            if not found:
                break
            status, headers = _parse_head(head)
            if status >= 200:
                whole = _body(status, headers, body, closed=not data)
                if whole is None:
                    break
                self._data = b""
                return Response(status, headers, whole)
            self._data = body
        if not data:
            raise ClientError(f"closed after {self._data[:200]!r}")
        return None


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return int(first.split()[1]), headers


def _body(
    status: int, headers: dict[str, str], data: bytes, *, closed: bool
) -> bytes | None:
    """The answer's body; ``None`` where more must come."""
    if status in (204, 304):
        return b""
    if "content-length" in headers:
        length = int(headers["content-length"])
        return data[:length] if len(data) >= length else None
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _dechunk(data)
    return data if closed else None


def _dechunk(data: bytes) -> bytes | None:
    body = b""
    while True:
        line, found, rest = data.partition(b"\r\n")
        if not found:
            return None
        size = int(line.split(b";")[0], 16)
        if len(rest) < size + 2:
            return None
        if size == 0:
            return body
        body += rest[:size]
        data = rest[size + 2 :]


class Source:
    """The content of all uploads, in a memory file.

    :param length: of the largest upload, in bytes; the content repeats after 1 GiB.
    """

    def __init__(self, length: int) -> None:
        self._size = min(length, LONGEST)
        self._file = os.memfd_create("benchmarks")
        block = random.Random(1).randbytes(MIB)  # the same bytes in each run
        for number in range(-(-self._size // MIB)):
            stamped = struct.pack("!Q", number) + block[8:]
            os.write(self._file, stamped[: self._size - number * MIB])
        self._digest = lru_cache(maxsize=None)(self._compute_digest)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def pieces(self, part: Slice) -> list[Slice]:
        """Where the bytes of a part are in the memory file, in order."""
        found = []
        offset, end = part.offset, part.offset + part.length
        while offset < end:
            start = offset % self._size
            length = min(end - offset, self._size - start)
            found.append(Slice(start, length))
            offset += length
        return found

    def read(self, part: Slice) -> bytes:
        """The bytes of a part."""
        return b"".join(
            os.pread(self._file, piece.length, piece.offset)
            for piece in self.pieces(part)
        )

    def send(self, connection: socket.socket, part: Slice) -> None:
        """Send a part without a copy through Python."""
        for piece in self.pieces(part):
            offset, left = piece.offset, piece.length
            while left:
                sent = os.sendfile(connection.fileno(), self._file, offset, left)
                offset, left = offset + sent, left - sent

    def digest(self, name: str, part: Slice) -> str:
        """Digest of a part, in hex; computed once."""
        return self._digest(name, part)

    def _compute_digest(self, name: str, part: Slice) -> str:
        digest = hashlib.new(name)
        for done in range(0, part.length, 4 * MIB):
            size = min(4 * MIB, part.length - done)
            digest.update(self.read(Slice(part.offset + done, size)))
        return digest.hexdigest()


def open_socket(port: int) -> socket.socket:
    """A connection on which nothing waits for ever."""
    connection = socket.create_connection((HOST, port))
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # On the socket, not in Python: sendfile on a blocking socket is one system call.
    patience = struct.pack("ll", PATIENCE, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    return connection


class Connection:
    """A keep-alive connection that is opened again where the receiver closes it."""

    def __init__(self, port: int, source: Source) -> None:
        self._port = port
        self._source = source
        self._socket: socket.socket | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> socket.socket:
        """The socket; connected now if it is not."""
        if self._socket is None:
            self._socket = open_socket(self._port)
        return self._socket

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, request: Request) -> Response:
        """Send a request, wait for its answer.

        :raises ClientError: the connection is closed or silent for too long.
        """
        if request.fresh:
            self.close()
        connection = self.open()
        try:
            send(connection, request, self._source)
        except OSError as error:
            # The answer says why it was refused, if it can still be read.
            answer = self._rest(connection)
            raise ClientError(
                f"{request.method} {request.path}: {error} {answer!r}"
            ) from error
        parser = ResponseParser()
        response = None
        while response is None:
            try:
                response = parser.feed(connection.recv(256 * 1024))
            except OSError as error:
                raise ClientError(
                    f"{request.method} {request.path}: {error}"
                ) from error
        if response.closes:
            self.close()
        return response

    @staticmethod
    def _rest(connection: socket.socket) -> bytes:
        try:
            return connection.recv(500)
        except OSError:
            return b""


def send(connection: socket.socket, request: Request, source: Source) -> None:
    """Send head and body."""
    start = request.head() + request.before
    if request.content is None:
        connection.sendall(start + request.after)
        return
    if request.content.length <= 64 * 1024:
        connection.sendall(start + source.read(request.content) + request.after)
        return
    connection.sendall(start, socket.MSG_MORE)
    source.send(connection, request.content)
    if request.after:
        connection.sendall(request.after)
