"""Readers that are interrupted when another request has their upload."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from uuid import uuid4

import pytest

from flask_chunked.engine.interruption import ActiveReaders
from flask_chunked.engine.records import Upload
from flask_chunked.exceptions import (
    BodyInterrupted,
    ChunkedUploadError,
    OffsetMismatch,
    Superseded,
    UnknownUpload,
)
from tests.engine.fakes import Bench, ScriptedReader


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_reader_of_an_upload_is_interrupted_once() -> None:
    readers, reader, other = ActiveReaders(), ScriptedReader(), ScriptedReader()
    upload_id = uuid4()
    with readers.register(upload_id, reader), readers.register(uuid4(), other):
        readers.interrupt(upload_id)
        readers.interrupt(upload_id)
        assert (reader.interrupts, other.interrupts) == (1, 0)


def test_no_reader_is_interrupted_after_its_request() -> None:
    readers, reader = ActiveReaders(), ScriptedReader()
    upload_id = uuid4()
    with pytest.raises(BodyInterrupted), readers.register(upload_id, reader):
        raise BodyInterrupted
    readers.interrupt(upload_id)
    assert reader.interrupts == 0


def test_a_request_that_ends_keeps_its_successor_registered() -> None:
    readers, first, second = ActiveReaders(), ScriptedReader(), ScriptedReader()
    upload_id = uuid4()
    overtaken = ExitStack()
    overtaken.enter_context(readers.register(upload_id, first))
    with readers.register(upload_id, second):
        overtaken.close()
        readers.interrupt(upload_id)
        assert (first.interrupts, second.interrupts) == (0, 1)


class SilentReader:
    """A body of some bytes and then silence, until it is interrupted."""

    ended = False
    is_short = False

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._interrupted = threading.Event()
        self.is_waiting = threading.Event()

    def read(self) -> memoryview:
        content, self._content = self._content, b""
        return memoryview(content)

    def unread(self, block: memoryview) -> None:
        self._content = bytes(block)

    def read_nowait(self) -> memoryview:
        return memoryview(b"")

    def splice_into(self, pipe: int, count: int) -> int | None:
        return None

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is None, "commits to memory are cheap"
        self.is_waiting.set()
        assert self._interrupted.wait(30), "the reader was not interrupted"
        raise BodyInterrupted

    @property
    def interrupted(self) -> bool:
        return self._interrupted.is_set()

    def interrupt(self) -> None:
        self._interrupted.set()


def take_over(bench: Bench, upload: Upload) -> None:
    assert bench.engine.append.take_over(upload).offset == 3


def append(bench: Bench, upload: Upload) -> None:
    reader = ScriptedReader(b"def")
    assert bench.engine.append.stream(upload, 3, 6, reader).offset == 6


def terminate(bench: Bench, upload: Upload) -> None:
    bench.engine.remove.terminate(upload)


@pytest.mark.parametrize(
    ("newer", "error"),
    [
        # The received bytes were committed before the wait, so none is lost.
        (take_over, Superseded),
        (append, Superseded),
        (terminate, UnknownUpload),
    ],
)
def test_a_newer_request_frees_the_thread_of_a_silent_client(
    bench: Bench,
    newer: Callable[[Bench, Upload], None],
    error: type[ChunkedUploadError],
) -> None:
    upload = bench.create(10)
    reader = SilentReader(b"abc")
    raised: list[Exception] = []

    def receive() -> None:
        try:
            bench.engine.append.stream(upload, 0, 10, reader)
        except ChunkedUploadError as error:
            raised.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    assert reader.is_waiting.wait(30)
    newer(bench, upload)
    thread.join(30)
    assert not thread.is_alive()
    assert [type(caught) for caught in raised] == [error]


def test_a_refused_append_interrupts_no_reader(bench: Bench) -> None:
    upload = bench.create(10)

    def refused() -> None:
        with pytest.raises(OffsetMismatch):
            bench.engine.append.stream(upload, 7, 10, ScriptedReader(b"hij"))

    reader = ScriptedReader(b"abc", None, refused, b"defghij")
    assert bench.engine.append.stream(upload, 0, 10, reader).offset == 10
    assert reader.interrupts == 0


def test_a_take_over_of_a_removed_upload_interrupts_no_reader(bench: Bench) -> None:
    upload = bench.create(10)
    bench.engine.remove.terminate(upload)
    with pytest.raises(UnknownUpload):
        bench.engine.append.take_over(upload)
