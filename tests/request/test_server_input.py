"""What a server's stream can tell about bytes that were read from it."""

from __future__ import annotations

import io
import socket
import tempfile
from typing import Any

import pytest
from cheroot.server import ChunkedRFile, KnownLengthRFile
from gunicorn.http.body import (  # type: ignore[import-untyped]
    Body,
    ChunkedReader,
    LengthReader,
)
from gunicorn.http.unreader import IterUnreader  # type: ignore[import-untyped]

from flask_chunked.request.server_input import (
    bytes_taken,
    is_gunicorn,
    is_werkzeug,
    server_input,
)

CONTENT = bytes(range(250)) * 40
LENGTH = len(CONTENT)


def gunicorn() -> Any:
    return Body(LengthReader(IterUnreader([CONTENT]), LENGTH))


def cheroot() -> Any:
    return KnownLengthRFile(io.BytesIO(CONTENT), LENGTH)


def spooled() -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(CONTENT)
    file.seek(0)
    return file


def later() -> Any:
    """A file whose body does not begin at 0."""
    file = io.BytesIO(b"head" + CONTENT)
    file.seek(4)
    return file


STREAMS = {
    "gunicorn": gunicorn,
    "cheroot": cheroot,
    "memory": lambda: io.BytesIO(CONTENT),
    "file": spooled,
    "later": later,
}


@pytest.mark.parametrize("count", [0, 1, 1024, 5000, LENGTH])
@pytest.mark.parametrize("name", STREAMS)
def test_bytes_that_were_read_are_counted(name: str, count: int) -> None:
    stream = STREAMS[name]()
    assert len(stream.read(count)) == count
    assert bytes_taken(stream, LENGTH) == count
    assert stream.read(LENGTH) == CONTENT[count:]
    if hasattr(stream, "close"):
        stream.close()


def test_a_cut_body_was_not_read() -> None:
    assert bytes_taken(io.BytesIO(CONTENT[:100]), LENGTH) == 0


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED_STREAMS: dict[str, Any] = {
    "gunicorn": lambda: Body(ChunkedReader(None, IterUnreader([CHUNKED]))),
    "cheroot": lambda: ChunkedRFile(io.BytesIO(CHUNKED), 1000),
}


@pytest.mark.parametrize("count", [0, 1, 5, 100])
@pytest.mark.parametrize("name", CHUNKED_STREAMS)
def test_a_chunked_body_was_begun_or_not(name: str, count: int) -> None:
    stream = CHUNKED_STREAMS[name]()
    if count:
        stream.read(count)
    assert bool(bytes_taken(stream, None)) == bool(count)


class Unknown:
    """A stream that tells nothing."""


def test_a_stream_that_tells_nothing_counts_as_unread() -> None:
    assert bytes_taken(Unknown(), LENGTH) == bytes_taken(Unknown(), None) == 0


def test_only_a_servers_own_stream_is_its_own() -> None:
    class Wrapper(Body):  # type: ignore[misc]
        """Also has a reader."""

    reader = LengthReader(IterUnreader([CONTENT]), LENGTH)
    assert is_gunicorn(Body(reader), "LengthReader")
    assert not is_gunicorn(Body(reader), "ChunkedReader")
    assert not is_gunicorn(Wrapper(reader), "LengthReader")
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as stream:
        assert is_werkzeug(stream, ours)
        assert not is_werkzeug(stream, theirs)
        assert not is_werkzeug(io.BytesIO(), ours)
        with io.BufferedReader(io.BytesIO()) as buffered:
            assert not is_werkzeug(buffered, ours)


def test_without_a_shared_stream_the_environ_has_the_servers_own() -> None:
    stream = io.BytesIO()
    assert server_input({"wsgi.input": stream}) is stream
