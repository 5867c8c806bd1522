"""Literal HTTP/1.1 over a socket that can be cut, stalled and reused."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from types import TracebackType
from typing import Any


class Wire:
    """One connection to a server on this machine.

    :param tls: speak TLS, and believe whatever certificate there is.
    """

    def __init__(self, port: int, *, tls: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._socket = context.wrap_socket(self._socket)
        self._rest = b""
        #: The server said that the connection ends with its answer.
        self.is_last = False
        #: Headers of the last answer, all in lower case.
        self.fields: dict[str, str] = {}

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def head(self, method: str, path: str, **headers: str | int) -> None:
        """Send a request's head; underscores in header names are dashes."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{n.replace('_', '-')}: {value}" for n, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        """Send bytes of a body."""
        self._socket.sendall(data)

    def fin(self) -> None:
        """Say that nothing more comes; the answer can still be read."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST, as a lost host's address does."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def answer(self, method: str = "GET") -> tuple[int, Any]:
        """Status and body of the next answer: JSON as what it says, else text.

        :param method: of its request, as the server sees it (RFC 9112, section 6.3).
        :raises ConnectionError: the server closed without one.
        """
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        self.fields = {n.decode(): v.decode("latin-1") for n, v in fields.items()}
        self.is_last = fields.get(b"connection") == b"close"
        status = int(head.split(b" ", 2)[1])
        has_body = method != "HEAD" and status not in (204, 304)
        length = int(fields.get(b"content-length", b"0")) if has_body else 0
        while len(self._rest) < length:
            self._receive()
        body, self._rest = self._rest[:length], self._rest[length:]
        if fields.get(b"content-type", b"").startswith(b"application/json"):
            return status, json.loads(body)
        return status, body.decode() or None

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed")
        self._rest += data
