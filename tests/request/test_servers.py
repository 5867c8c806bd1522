"""The sources of a body: gunicorn's and Werkzeug's objects, and plain streams.

They read from socket pairs, without a server; tests/servers has real servers.
"""

from __future__ import annotations

import io
import logging
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.http.body import Body, LengthReader  # type: ignore[import-untyped]
from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]

from flask_chunked.exceptions import (
    BodyInterrupted,
    BodyTimeout,
)
from flask_chunked.request import servers
from flask_chunked.request.body import BLOCK_SIZE, BodyReader, open_body
from flask_chunked.request.servers import SMALLEST_READ

CONTENT = bytes(range(256)) * 40

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The client's end of a connection, and the server's."""
    client, server = socket.socketpair()
    client.settimeout(5)
    with client, server:
        yield client, server


def everything(reader: BodyReader) -> bytes:
    """The body as the engine reads it."""
    found = b""
    while not reader.ended:
        block = bytes(reader.read())
        found += block
        if not block and not reader.ended:
            reader.wait()
    return found


def is_closed(client: socket.socket) -> bool:
    """True if the client sees the end of the connection."""
    ready = select.select([client], [], [], 0)[0]
    return bool(ready) and client.recv(1) == b""


# -- gunicorn --------------------------------------------------------------------------


def gunicorn(server: socket.socket, length: int, held: bytes = b"") -> dict[str, Any]:
    """The environ of a request whose parser has read some of the body already."""
    unreader = SocketUnreader(server)
    unreader.unread(held)
    body = Body(LengthReader(unreader, length))
    return {
        "SERVER_SOFTWARE": "gunicorn/tests",
        "wsgi.input": body,
        "gunicorn.socket": server,
        "CONTENT_LENGTH": str(length),
    }


def left(environ: dict[str, Any]) -> tuple[int, bytes]:
    """The bytes of the body that gunicorn expects, and those that it has buffered."""
    reader = environ["wsgi.input"].reader
    return reader.length, reader.unreader.buf.getvalue()


@pytest.mark.parametrize("held", [0, 1, 100, len(CONTENT) - 1, len(CONTENT)])
@pytest.mark.parametrize("peeked", [0, 1, 50])
def test_gunicorn_returns_what_it_has_buffered_then_what_arrives(
    pair: Pair, held: int, peeked: int
) -> None:
    client, server = pair
    environ = gunicorn(server, len(CONTENT), CONTENT[:held])
    client.sendall(CONTENT[held:] + b"GET / HTTP/1.1")
    # A before_request function of the application has read the beginning.
    seen = environ["wsgi.input"].read(peeked)
    environ["CONTENT_LENGTH"] = str(len(CONTENT) - len(seen))
    assert seen + everything(open_body(environ, 5)) == CONTENT
    # Keep-alive: the body is read to its end, the next request is untouched.
    still, holds = left(environ)
    assert still == 0
    pending = len(b"GET / HTTP/1.1") - len(holds)
    assert holds + (server.recv(100) if pending else b"") == b"GET / HTTP/1.1"


def test_gunicorn_with_the_next_request_buffered_returns_the_body_only(
    pair: Pair,
) -> None:
    environ = gunicorn(pair[1], 10, b"0123456789GET / HTTP/1.1")
    assert everything(open_body(environ, 5)) == b"0123456789"
    assert left(environ) == (0, b"GET / HTTP/1.1")


def test_gunicorn_returns_at_once_what_has_arrived(pair: Pair) -> None:
    client, server = pair
    reader = open_body(gunicorn(server, 10, b"01"), 5)
    client.sendall(b"234")
    assert bytes(reader.read()) == b"01234"
    assert not reader.ended


@pytest.mark.parametrize("held", [b"", b"012"])
def test_gunicorn_client_that_disconnects_is_not_the_end(
    pair: Pair, held: bytes
) -> None:
    client, server = pair
    environ = gunicorn(server, 10, held)
    client.shutdown(socket.SHUT_WR)
    reader = open_body(environ, 5)
    assert (bytes(reader.read()) if held else b"") == held
    with pytest.raises(BodyInterrupted):
        reader.read()
    assert left(environ)[0] == 10 - len(held)


def test_gunicorn_silent_client_is_not_read_any_more(pair: Pair) -> None:
    client, server = pair
    reader = open_body(gunicorn(server, 10, b"012"), 0.01)
    assert bytes(reader.read()) == b"012"
    with pytest.raises(BodyTimeout):
        reader.wait()
    # It can still read the answer, but what it sends now is not read.
    server.sendall(b"answer")
    assert client.recv(10) == b"answer"
    assert server.recv(10) == b""
    reader.close_connection()
    assert is_closed(client)


# -- Werkzeug --------------------------------------------------------------------------


@pytest.fixture
def werkzeug(pair: Pair) -> Iterator[dict[str, Any]]:
    """The environ of the development server's request."""
    with pair[1].makefile("rb", -1) as stream:
        yield {
            "SERVER_SOFTWARE": "Werkzeug/tests",
            "wsgi.input": stream,
            "werkzeug.socket": pair[1],
            "CONTENT_LENGTH": "10",
        }


@pytest.mark.parametrize("held", [0, 1, 9, 10])
def test_werkzeug_returns_what_is_buffered_then_what_arrives(
    pair: Pair, werkzeug: dict[str, Any], held: int
) -> None:
    client, _ = pair
    client.sendall(b"Head: x\r\n" + b"0123456789"[:held])
    assert werkzeug["wsgi.input"].readline() == b"Head: x\r\n"
    reader = open_body(werkzeug, 5)
    # Bytes that followed the headers are in the buffer, where poll() cannot see them.
    assert bytes(reader.read()) == b"0123456789"[:held]
    client.sendall(b"0123456789"[held:] + b"GET")
    assert everything(reader) == b"0123456789"[held:]
    assert werkzeug["wsgi.input"].read(3) == b"GET"


def test_werkzeug_silent_client_times_out_and_the_socket_blocks_as_before(
    pair: Pair, werkzeug: dict[str, Any]
) -> None:
    client, server = pair
    client.sendall(b"012")
    reader = open_body(werkzeug, 0.01)
    assert bytes(reader.read()) == b"012"
    assert server.getblocking()
    with pytest.raises(BodyTimeout):
        reader.wait()
    reader.close_connection()
    assert is_closed(client)


def test_werkzeug_client_that_disconnects_is_not_the_end(
    pair: Pair, werkzeug: dict[str, Any]
) -> None:
    pair[0].sendall(b"012")
    pair[0].shutdown(socket.SHUT_WR)
    reader = open_body(werkzeug, 5)
    assert bytes(reader.read()) == b"012"
    with pytest.raises(BodyInterrupted):
        reader.read()


@pytest.mark.parametrize("kind", ["gunicorn", "werkzeug"])
def test_waiting_reader_is_interrupted_from_another_thread(
    pair: Pair, werkzeug: dict[str, Any], kind: str
) -> None:
    environ = werkzeug if kind == "werkzeug" else gunicorn(pair[1], 10)
    reader = open_body(environ, 60)
    errors: list[BaseException] = []

    def receive() -> None:
        try:
            everything(reader)
        except BodyInterrupted as error:
            errors.append(error)

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    reader.interrupt()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [BodyInterrupted]
    assert reader.must_close


def test_gunicorn_socket_is_not_polled_where_bytes_are_there(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def polled(connection: socket.socket, seconds: float) -> bool:
        raise AssertionError("it was polled")

    monkeypatch.setattr(servers, "_readable", polled)
    pair[0].sendall(CONTENT)
    reader = open_body(gunicorn(pair[1], len(CONTENT)), 5)
    assert bytes(reader.read()) == CONTENT


def test_gunicorn_source_returns_at_once_if_nothing_is_there(pair: Pair) -> None:
    source = servers.GunicornSource(gunicorn(pair[1], 5))
    view = memoryview(bytearray(10))
    assert source.receive_nowait(view) is None
    pair[0].sendall(b"0123456789")
    # Not the bytes that follow the body.
    assert source.receive_nowait(view) == 5
    assert bytes(view[:5]) == b"01234"


def test_gunicorn_source_returns_buffered_bytes_first(pair: Pair) -> None:
    source = servers.GunicornSource(gunicorn(pair[1], 10, b"01234"))
    pair[0].sendall(b"56789")
    view = memoryview(bytearray(10))
    assert source.receive_nowait(view) is None
    assert source.receive(view) == 5
    assert source.receive_nowait(view[5:]) == 5
    assert bytes(view) == b"0123456789"


def test_sockets_that_are_not_the_systems_are_polled_first(pair: Pair) -> None:
    class Green:
        """As gevent's: it switches to other requests until bytes arrive."""

        def recv_into(self, *args: object) -> int:
            raise AssertionError("it would wait")

    environ = gunicorn(pair[1], 10)
    environ["gunicorn.socket"] = Green()
    source = servers.GunicornSource(environ)
    assert source.receive_nowait(memoryview(bytearray(10))) is None


def test_sockets_with_a_timeout_are_polled_first(pair: Pair) -> None:
    """Python polls such a socket before each call."""
    pair[1].settimeout(60)
    source = servers.GunicornSource(gunicorn(pair[1], 10))
    pair[0].sendall(b"0123456789")
    assert source.receive_nowait(memoryview(bytearray(10))) is None


# -- streams ---------------------------------------------------------------------------


class Slow:
    """A stream, and the clock that its reads advance."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.now = 0.0
        self.sizes: list[int] = []

    def read(self, size: int) -> bytes:
        self.sizes.append(size)
        self.now += self.seconds.pop(0) if self.seconds else 0
        return b"x" * size

    def monotonic(self) -> float:
        return self.now


def test_stream_is_read_in_sizes_that_the_client_keeps_up_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Slow(0, 0, 1, 0.04, 0)
    monkeypatch.setattr(servers, "time", stream)
    length = SMALLEST_READ * (1 + 2 + 4 + 1 + 2) + 5
    reader = open_body({"wsgi.input": stream, "CONTENT_LENGTH": str(length)}, 5)
    assert len(everything(reader)) == length
    sizes = [SMALLEST_READ * n for n in (1, 2, 4, 1, 2)]
    assert stream.sizes == [*sizes, 5]


def test_stream_of_a_fast_client_is_read_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Slow()
    monkeypatch.setattr(servers, "time", stream)
    environ = {"wsgi.input": stream, "CONTENT_LENGTH": str(20 * BLOCK_SIZE)}
    everything(open_body(environ, 5))
    assert max(stream.sizes) == BLOCK_SIZE
    assert len(stream.sizes) < 20 + 10 + 10


@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": 1}], ids=["any", "known"])
def test_chunked_body_is_a_stream_until_it_ends(
    pair: Pair, environ: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    if environ:
        environ = {"gunicorn.socket": pair[1]}
    environ |= {
        "wsgi.input": io.BytesIO(CONTENT),
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
    }
    assert everything(open_body(environ, 7)) == CONTENT
    # The server's socket has the timeout; using it is normal and logs no warning.
    assert pair[1].gettimeout() == (7 if "gunicorn.socket" in environ else None)
    assert caplog.records == []


def test_stream_without_a_connection_can_be_shut_down() -> None:
    environ = {"wsgi.input": io.BytesIO(b"012"), "CONTENT_LENGTH": "10"}
    reader = open_body(environ, 5)
    reader.interrupt()
    reader.close_connection()
    assert reader.must_close


def test_stream_with_a_connection_is_shut_down(pair: Pair) -> None:
    client, server = pair
    environ = {
        "wsgi.input": server.makefile("rb", 0),
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "werkzeug.socket": server,
    }
    with environ["wsgi.input"]:  # type: ignore[attr-defined]
        reader = open_body(environ, 0.01)
        with pytest.raises(BodyTimeout):
            reader.read()
        server.sendall(b"answer")
        assert client.recv(10) == b"answer"
        reader.close_connection()
        assert is_closed(client)


# -- servers that changed --------------------------------------------------------------


@pytest.fixture
def no_earlier_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_warned", set())


CHANGED: dict[str, Any] = {
    "no reader": io.BytesIO(CONTENT),
    "no unreader": type("Body", (io.BytesIO,), {"reader": None})(CONTENT),
}


@pytest.mark.usefixtures("no_earlier_warning")
@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
@pytest.mark.parametrize("name", CHANGED)
def test_server_whose_attributes_changed_is_read_by_its_stream_with_one_warning(
    pair: Pair, caplog: pytest.LogCaptureFixture, name: str, key: str
) -> None:
    def send(software: str) -> bytes:
        stream = CHANGED[name]
        stream.seek(0)
        environ = {
            "SERVER_SOFTWARE": software,
            "wsgi.input": stream,
            key: pair[1],
            "CONTENT_LENGTH": str(len(CONTENT)),
        }
        return everything(open_body(environ, 5))

    with caplog.at_level(logging.WARNING, "flask_chunked"):
        for software in ("changed/2", "changed/2", "changed/3", "changed/2"):
            assert send(software) == CONTENT
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in told] == [
        "reading changed/2 by its stream",
        "reading changed/3 by its stream",
    ]


@pytest.mark.usefixtures("no_earlier_warning")
@pytest.mark.parametrize("kind", ["gunicorn", "werkzeug"])
def test_tls_connection_is_read_by_its_stream(
    pair: Pair, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    class SSLSocket:
        """Has the standard library's class name; poll() misses its buffer."""

        def settimeout(self, seconds: float) -> None:
            self.seconds = seconds

    tls: Any = SSLSocket()
    environ = gunicorn(pair[1], 10, b"0123456789")
    if kind == "werkzeug":
        environ["wsgi.input"] = io.BufferedReader(io.BytesIO(b"0123456789"))
        del environ["gunicorn.socket"]
    environ[f"{kind}.socket"] = tls
    assert everything(open_body(environ, 9)) == b"0123456789"
    assert tls.seconds == 9
    assert "TLS" in caplog.text


# -- servers that buffer whole bodies --------------------------------------------------


def test_a_server_that_buffers_bodies_is_warned_about_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_warned", set())
    environ = {"SERVER_SOFTWARE": "waitress", "wsgi.input": io.BytesIO(b"abc")}
    for length in (3, BLOCK_SIZE, BLOCK_SIZE + 1, 2**30):
        open_body({**environ, "CONTENT_LENGTH": str(length)}, 5)
    (record,) = caplog.records
    assert "waitress reads each request's body to its end" in record.getMessage()
    assert "chunks of a few MiB" in record.getMessage()


def test_other_servers_are_not_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_warned", set())
    for server in ("gunicorn/27.0", "Werkzeug/3.1", "cheroot/10", ""):
        environ = {"SERVER_SOFTWARE": server, "wsgi.input": io.BytesIO(b"abc")}
        open_body({**environ, "CONTENT_LENGTH": str(2**30)}, 5)
    assert caplog.records == []
