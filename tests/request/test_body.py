"""The reader of a body: short reads, silence, truncation, timeouts, draining, closing.

The sources of these tests follow a script. Sources of servers have their tests in
test_servers.py, real servers in tests/servers.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_chunked.exceptions import (
    BodyInterrupted,
    BodyTimeout,
    BodyTooSlow,
    LengthRequired,
    MalformedHeader,
)
from flask_chunked.request.body import (
    BLOCK_SIZE,
    DRAIN_BYTES,
    BodyReader,
    body_length,
    open_body,
)

CONTENT = bytes(range(256)) * 40


class ScriptedSource:
    """A source that follows a script: bytes, an error, or ``None`` for silence."""

    pollable = True

    def __init__(self, *script: bytes | BaseException | None) -> None:
        self.script = list(script)
        self.asked: list[int] = []
        self.ends: list[str] = []

    def receive(self, view: memoryview) -> int:
        self.asked.append(len(view))
        step = self.script.pop(0) if self.script else b""
        if isinstance(step, BaseException):
            raise step
        assert step is not None, "the reader must not wait for a silent client here"
        taken, rest = step[: len(view)], step[len(view) :]
        view[: len(taken)] = taken
        if rest:
            self.script.insert(0, rest)
        return len(taken)

    def receive_nowait(self, view: memoryview) -> int | None:
        return None

    def wait(self, seconds: float) -> bool:
        if self.script and self.script[0] is None:
            self.script.pop(0)
            return False
        return True

    def descriptor(self) -> int | None:
        return None

    def consumed(self, count: int) -> None:
        raise AssertionError("there is no descriptor")

    def shutdown_read(self) -> None:
        self.ends.append("shutdown read")

    def close_connection(self) -> None:
        self.ends.append("close")


def ticking(monkeypatch: pytest.MonkeyPatch, step: float) -> Callable[[], float]:
    """A clock that advances by so many seconds each time it is read."""
    now = [0.0]

    def tick() -> float:
        now[0] += step
        return now[0]

    monkeypatch.setattr("flask_chunked.request.body.time.monotonic", tick)
    return lambda: now[0]


def everything(reader: BodyReader) -> bytes:
    """The body as the engine reads it."""
    found = b""
    while not reader.ended:
        block = bytes(reader.read())
        found += block
        if not block and not reader.ended:
            reader.wait()
    return found


# -- the reader ------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10, None], ids=["announced", "chunked"])
def test_short_reads_are_one_block(length: int | None) -> None:
    reader = BodyReader(ScriptedSource(b"0", b"123", b"456789"), length, 1)
    assert bytes(reader.read()) == b"0123456789"
    assert (reader.ended, reader.received, reader.must_close) == (True, 10, False)
    assert bytes(reader.read()) == b""


def test_no_more_is_asked_for_than_was_announced() -> None:
    source = ScriptedSource(b"01", b"23456789 and the next request")
    assert everything(BodyReader(source, 10, 1)) == b"0123456789"
    assert source.asked == [10, 8]
    assert source.script == [b" and the next request"]


def test_block_is_never_larger_than_the_body_nor_than_a_block() -> None:
    small, large = (
        ScriptedSource(b"0123456789"),
        ScriptedSource(b"x" * (BLOCK_SIZE + 5)),
    )
    BodyReader(small, 10, 1).read()
    assert small.asked == [10]
    reader = BodyReader(large, BLOCK_SIZE + 5, 1)
    assert [len(reader.read()), len(reader.read())] == [BLOCK_SIZE, 5]
    assert max(large.asked) == BLOCK_SIZE


def test_silence_hands_over_what_is_there() -> None:
    reader = BodyReader(ScriptedSource(b"01234", None, b"56789"), 10, 1)
    assert bytes(reader.read()) == b"01234"
    assert not reader.ended
    reader.wait()
    assert bytes(reader.read()) == b"56789"


def test_a_short_wait_says_whether_the_client_went_on_and_never_times_out() -> None:
    reader = BodyReader(ScriptedSource(b"01234", None, None, b"56789"), 10, 1)
    assert bytes(reader.read()) == b"01234"
    assert not reader.wait(0.5)
    assert reader.wait(0.5)
    assert bytes(reader.read()) == b"56789"


def test_a_short_wait_ends_when_the_client_is_lost() -> None:
    reader = BodyReader(ScriptedSource(ConnectionResetError()), 10, 1)
    for ask in (reader.read, lambda: reader.wait(1)):
        with pytest.raises(BodyInterrupted):
            ask()


def test_a_client_below_the_minimum_rate_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ticking(monkeypatch, 0.5)
    source = ScriptedSource(*[b"0", None] * 40)
    reader = BodyReader(source, 10_000, 10, min_rate=2)
    received = b""
    with pytest.raises(BodyTooSlow) as caught:
        while True:
            received += bytes(reader.read())
    assert "2 bytes per second" in caught.value.detail
    assert (caught.value.seconds, caught.value.status) == (10, 503)
    assert received == b"0" * reader.received
    assert source.ends == ["shutdown read"]
    assert 10 <= clock() <= 30


def test_a_client_at_the_minimum_rate_does_not_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticking(monkeypatch, 0.5)
    reader = BodyReader(ScriptedSource(*[b"01234567", None] * 40), 320, 10, min_rate=2)
    assert len(everything(reader)) == 320


def test_the_rate_of_a_complete_body_is_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticking(monkeypatch, 20)
    reader = BodyReader(ScriptedSource(b"0"), 1, 10, min_rate=2)
    assert bytes(reader.read()) == b"0"


def test_silence_beyond_the_timeout_is_final() -> None:
    source = ScriptedSource(b"01234", None, None, b"56789")
    reader = BodyReader(source, 10, 2.5)
    assert bytes(reader.read()) == b"01234"
    for ask in (reader.wait, reader.wait, reader.read):
        with pytest.raises(BodyTimeout) as caught:
            ask()
        assert caught.value.seconds == 2.5
    assert source.ends == ["shutdown read"]
    assert reader.must_close


ENDS = {
    "end of file": b"",
    "reset": ConnectionResetError(),
    "broken pipe": BrokenPipeError(),
    "value error": ValueError("Invalid chunk size"),
    "end of file error": EOFError(),
    "an error of the server's own": type("ChunkMissingTerminator", (IOError,), {})(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_truncated_body_returns_what_arrived_and_then_an_error(
    end: bytes | Exception,
) -> None:
    reader = BodyReader(ScriptedSource(b"012", end), 10, 1)
    assert bytes(reader.read()) == b"012"
    for ask in (reader.read, reader.wait, reader.read):
        with pytest.raises(BodyInterrupted):
            ask()
    assert (reader.ended, reader.received, reader.must_close) == (False, 3, True)


def test_chunked_body_that_breaks_has_not_ended() -> None:
    reader = BodyReader(
        ScriptedSource(b"012", ValueError("Invalid chunk size")), None, 1
    )
    assert bytes(reader.read()) == b"012"
    with pytest.raises(BodyInterrupted):
        reader.read()
    assert not reader.ended


def test_timeout_of_the_server_is_a_body_timeout() -> None:
    source = ScriptedSource(b"012", TimeoutError())
    reader = BodyReader(source, 10, 1)
    assert bytes(reader.read()) == b"012"
    with pytest.raises(BodyTimeout):
        reader.read()
    assert source.ends == ["shutdown read"]


def test_exit_of_the_worker_is_not_a_client_error() -> None:
    reader = BodyReader(ScriptedSource(b"012", SystemExit(1)), 10, 1)
    with pytest.raises(SystemExit):
        reader.read()
    assert reader.received == 3


def read_into(reader: BodyReader, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: reader.read_into(memoryview(buffer))])


def test_read_into_takes_what_is_there() -> None:
    reader = BodyReader(ScriptedSource(b"012", b"3456", b"789"), 10, 1)
    assert [read_into(reader, 5) for _ in range(3)] == [b"01234", b"56789", b""]


def test_read_into_waits_for_the_client() -> None:
    reader = BodyReader(ScriptedSource(b"012", None, b"3456789"), 10, 1)
    assert [read_into(reader, 20) for _ in range(3)] == [b"012", b"3456789", b""]


@pytest.mark.parametrize(
    ("script", "error"),
    [((b"012", b""), BodyInterrupted), ((b"012", None, None, None), BodyTimeout)],
    ids=["cut", "silent"],
)
def test_read_into_does_not_take_a_failure_for_the_end(
    script: tuple[bytes | None, ...], error: type[Exception]
) -> None:
    reader = BodyReader(ScriptedSource(*script), 10, 1)
    assert read_into(reader, 20) == b"012"
    for _ in range(2):
        with pytest.raises(error):
            read_into(reader, 20)


def test_a_block_is_returned_in_time_however_slowly_it_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flask_chunked.request.body.FILL_SECONDS", -1)
    reader = BodyReader(ScriptedSource(b"0", b"1", b"2"), 3, 1)
    assert [bytes(reader.read()) for _ in range(3)] == [b"0", b"1", b"2"]


def test_read_nowait_returns_what_is_there() -> None:
    source = ScriptedSource(b"012", None, b"34", b"")
    reader = BodyReader(source, 10, 1)
    assert bytes(reader.read_nowait()) == b"012"
    assert bytes(reader.read_nowait()) == b"34"
    # The failure is reported by the method that waits for bytes.
    assert bytes(reader.read_nowait()) == b""
    with pytest.raises(BodyInterrupted):
        reader.read()


def test_read_nowait_returns_nothing_from_an_unpollable_source() -> None:
    source = ScriptedSource(b"012")
    source.pollable = False
    assert bytes(BodyReader(source, 10, 1).read_nowait()) == b""
    assert source.script == [b"012"]


def test_read_nowait_into_fills_a_view() -> None:
    source = ScriptedSource(b"012", None, b"34", b"")
    reader, view = BodyReader(source, 10, 1), memoryview(bytearray(8))
    assert [reader.read_nowait_into(view) for _ in range(2)] == [3, 2]
    assert bytes(view[:2]) == b"34"
    with pytest.raises(BodyInterrupted):
        reader.read_nowait_into(view)


def test_read_nowait_into_fills_nothing_from_an_unpollable_source() -> None:
    source = ScriptedSource(b"012")
    source.pollable = False
    assert BodyReader(source, 10, 1).read_nowait_into(memoryview(bytearray(8))) == 0
    assert source.script == [b"012"]


def test_a_block_is_valid_until_another_was_returned() -> None:
    reader = BodyReader(ScriptedSource(b"012", None, None, b"345", None, b"678"), 9, 1)
    blocks = []
    while not reader.ended:
        block = reader.read()
        if block:
            blocks.append(block)
            assert [bytes(one) for one in blocks[-2:]] in (
                [b"012"],
                [b"012", b"345"],
                [b"345", b"678"],
            )
    assert len(blocks) == 3


def test_a_source_without_descriptor_cannot_be_spliced() -> None:
    assert BodyReader(ScriptedSource(b"012"), 10, 1).splice_into(-1, 5) is None


# -- splicing --------------------------------------------------------------------------


class Socket(ScriptedSource):
    """A source that reads a real socket."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._socket = connection
        self.count = 0

    def wait(self, seconds: float) -> bool:
        return bool(select.select([self._socket], [], [], seconds)[0])

    def descriptor(self) -> int | None:
        return self._socket.fileno()

    def consumed(self, count: int) -> None:
        self.count += count


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, Socket]]:
    """A client's end of a TCP connection, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            yield client, Socket(server)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    outlet, inlet = os.pipe()
    yield outlet, inlet
    os.close(outlet)
    os.close(inlet)


Connection = tuple[socket.socket, Socket]
Pipe = tuple[int, int]


def test_splicing_stops_at_the_end_of_the_body(
    connection: Connection, pipe: Pipe
) -> None:
    client, source = connection
    client.sendall(b"0123456789 and the next request")
    reader = BodyReader(source, 10, 1)
    assert reader.splice_into(pipe[1], 4) == 4
    assert reader.splice_into(pipe[1], 100) == 6
    assert os.read(pipe[0], 100) == b"0123456789"
    assert (reader.ended, reader.received, source.count) == (True, 10, 10)


def test_splicing_from_a_silent_client_moves_nothing(
    connection: Connection, pipe: Pipe
) -> None:
    assert BodyReader(connection[1], 10, 1).splice_into(pipe[1], 10) == 0


def test_a_truncated_spliced_body_fails_the_next_read(
    connection: Connection, pipe: Pipe
) -> None:
    client, source = connection
    client.sendall(b"012")
    client.shutdown(socket.SHUT_WR)
    reader = BodyReader(source, 10, 1)
    assert reader.splice_into(pipe[1], 10) == 3
    assert reader.splice_into(pipe[1], 10) == 0
    with pytest.raises(BodyInterrupted):
        reader.read()
    assert reader.splice_into(pipe[1], 10) is None


@pytest.mark.parametrize(
    ("error", "spliced", "must_close"),
    [
        (BlockingIOError(), 0, False),
        (OSError(errno.EINVAL, ""), None, False),
        (ConnectionResetError(), 0, True),
    ],
    ids=["nothing there", "no such socket", "reset"],
)
def test_splicing_that_fails(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    spliced: int | None,
    must_close: bool,
) -> None:
    def fail(*arguments: object) -> int:
        raise error

    client, source = connection
    client.sendall(b"012")
    monkeypatch.setattr(os, "splice", fail)
    reader = BodyReader(source, 10, 1)
    assert reader.splice_into(-1, 10) == spliced
    assert reader.must_close is must_close


def test_chunked_bodies_are_not_spliced(connection: Connection) -> None:
    connection[0].sendall(b"012")
    assert BodyReader(connection[1], None, 1).splice_into(-1, 10) is None


# -- the end of a body -----------------------------------------------------------------


def test_interrupt_affects_unfinished_bodies_only() -> None:
    open_one, ended = ScriptedSource(b"0"), ScriptedSource(b"0")
    unfinished, finished = BodyReader(open_one, 2, 1), BodyReader(ended, 1, 1)
    finished.read()
    for reader in (unfinished, finished):
        reader.interrupt()
    assert (open_one.ends, unfinished.must_close) == (["shutdown read"], True)
    assert (ended.ends, finished.must_close) == ([], False)


# -- what is left of a refused body ----------------------------------------------------


def test_drain_reads_a_little_and_no_more() -> None:
    source = ScriptedSource(*[b"x" * BLOCK_SIZE] * 9)
    reader = BodyReader(source, 9 * BLOCK_SIZE, 1)
    reader.drain()
    assert DRAIN_BYTES <= reader.received <= DRAIN_BYTES + BLOCK_SIZE
    assert not reader.ended


@pytest.mark.parametrize(
    "script",
    [(None,), (b"0", None, None, None), (b"",), (b"0", ConnectionResetError())],
    ids=["silent", "silent later", "cut", "reset"],
)
def test_drain_neither_waits_nor_raises(script: tuple[Any, ...]) -> None:
    source = ScriptedSource(*script)
    BodyReader(source, 10, 1).drain()
    assert source.ends == []


def test_drain_leaves_streams_alone_that_could_keep_it_waiting() -> None:
    stream = io.BytesIO(b"0123456789")
    open_body({"wsgi.input": stream, "CONTENT_LENGTH": "10"}, 1).drain()
    assert stream.tell() == 0


# -- lengths ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "length"),
    [
        ({}, 0),
        ({"CONTENT_LENGTH": ""}, 0),
        ({"CONTENT_LENGTH": "0"}, 0),
        ({"CONTENT_LENGTH": "9" * 19}, int("9" * 19)),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}, None),
    ],
    ids=["none", "empty", "zero", "largest", "chunked"],
)
def test_length_of_a_body(environ: dict[str, Any], length: int | None) -> None:
    assert body_length(environ) == length


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({"CONTENT_LENGTH": "-1"}, MalformedHeader),
        ({"CONTENT_LENGTH": "1" * 20}, MalformedHeader),
        ({"CONTENT_LENGTH": "\u0661"}, MalformedHeader),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, LengthRequired),
        (
            {
                "HTTP_TRANSFER_ENCODING": "chunked",
                "wsgi.input_terminated": True,
                "CONTENT_LENGTH": "5",
            },
            LengthRequired,
        ),
    ],
    ids=["negative", "20 digits", "arabic", "swallowed", "both"],
)
def test_length_that_cannot_be_known_is_an_error(
    environ: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        body_length(environ)
