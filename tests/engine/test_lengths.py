"""Lengths that are declared late, and bodies that need not reach one."""

from __future__ import annotations

import pytest

from flask_chunked.engine.gate import MAX_LENGTH
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    BodyInterrupted,
    ChunkSizeMismatch,
    Incomplete,
    LengthBelowOffset,
    LengthChanged,
    Superseded,
    UnknownUpload,
    UploadExpired,
)
from tests.engine.fakes import Bench, ScriptedReader, cut, idle_since


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- declare_length --------------------------------------------------------------------


@pytest.mark.parametrize("length", [3, 4, MAX_LENGTH - 1])
def test_a_deferred_length_is_stored_once(bench: Bench, length: int) -> None:
    upload = bench.create(None)
    upload = bench.engine.append.stream(upload, 0, None, ScriptedReader(b"abc"))
    declared = bench.engine.declare.length(upload, length)
    assert declared == bench.row(upload)
    assert (declared.length, declared.offset) == (length, 3)
    assert bench.engine.declare.length(upload, length) == declared
    with pytest.raises(LengthChanged) as caught:
        bench.engine.declare.length(upload, length + 1)
    assert (caught.value.declared, caught.value.provided) == (length, length + 1)
    assert bench.row(upload) == declared


def test_a_length_below_the_offset_is_refused(bench: Bench) -> None:
    upload = bench.create(None)
    upload = bench.engine.append.stream(upload, 0, None, ScriptedReader(b"abc"))
    with pytest.raises(LengthBelowOffset) as caught:
        bench.engine.declare.length(upload, 2)
    assert (caught.value.offset, caught.value.provided) == (3, 2)
    assert bench.row(upload).length is None


@pytest.mark.parametrize("length", [2, 6])
def test_no_bytes_count_of_a_writer_that_does_not_know_the_length(
    bench: Bench, length: int
) -> None:
    upload = bench.create(None)
    reader = ScriptedReader(b"abc", lambda: bench.engine.declare.length(upload, length))
    with pytest.raises(Superseded):
        bench.engine.append.stream(upload, 0, None, reader, exact=False)
    assert reader.interrupts == 1
    assert (bench.row(upload).offset, bench.row(upload).length) == (0, length)
    content = b"abcdef"[:length]
    after = bench.engine.append.stream(upload, 0, length, ScriptedReader(content))
    assert bench.engine.complete.request(after, None).upload.is_complete
    assert bench.stored(upload) == content


def test_an_empty_file_of_deferred_length_completes(bench: Bench) -> None:
    upload = bench.create(None)
    with pytest.raises(Incomplete):
        bench.engine.complete.request(upload, None)
    declared = bench.engine.declare.length(upload, 0)
    assert bench.engine.complete.request(declared, None).upload.is_complete
    assert bench.stored(upload) == b""


def test_the_length_of_a_complete_upload_stands(bench: Bench) -> None:
    upload = bench.create(None)
    part = bench.engine.append.stream(upload, 0, None, ScriptedReader(b"abc"))
    bench.engine.complete.request(bench.engine.declare.length(part, 3), None)
    # Asked with what a request saw before that, and with the row as it is.
    for seen in (part, bench.row(upload)):
        assert bench.engine.declare.length(seen, 3).length == 3
        with pytest.raises(LengthChanged):
            bench.engine.declare.length(seen, 4)
    assert bench.engine.declare.length(part, 3).status is Status.COMPLETE


def test_the_length_of_a_removed_upload_is_unknown(bench: Bench) -> None:
    upload = bench.create(None)
    bench.engine.remove.terminate(upload)
    with pytest.raises(UnknownUpload):
        bench.engine.declare.length(upload, 3)


def test_the_length_of_an_expired_upload_is_not_declared(bench: Bench) -> None:
    upload = bench.create(None)
    bench.engine.remove.expire(upload, idle_since(bench), keep_record=True)
    with pytest.raises(UploadExpired):
        bench.engine.declare.length(upload, 3)


# -- bodies that need not reach the end ------------------------------------------------


def test_a_body_that_ends_before_the_stop_is_kept(bench: Bench) -> None:
    upload = bench.create(10)
    reader = ScriptedReader(b"abc")
    after = bench.engine.append.stream(upload, 0, 10, reader, exact=False)
    assert (after.offset, bench.stored(upload)) == (3, b"abc")


def test_an_empty_body_changes_nothing(bench: Bench) -> None:
    upload = bench.create(10)
    after = bench.engine.append.stream(upload, 0, 10, ScriptedReader(), exact=False)
    assert after.offset == 0
    assert list(bench.storage.stored()) == []
    assert bench.policy.seen("chunk_received") == []


@pytest.mark.parametrize(
    "blocks", [[b"abcdefghijXY"], [b"abcdefgh", b"ijXY"], [b"abcdefghij", b"XY"]]
)
def test_a_body_beyond_the_stop_is_kept_up_to_it(
    bench: Bench, blocks: list[bytes]
) -> None:
    upload = bench.create(10)
    with pytest.raises(ChunkSizeMismatch):
        bench.engine.append.stream(
            upload, 0, 10, ScriptedReader(*blocks, b"never read"), exact=False
        )
    assert bench.row(upload).offset == 10
    assert bench.stored(upload) == b"abcdefghij"
    blob = bench.row(upload).blob
    assert blob is not None
    assert bench.storage.measure(blob) == 10


def test_a_cut_body_is_told_also_where_its_end_is_open(bench: Bench) -> None:
    upload = bench.create(10)
    with pytest.raises(BodyInterrupted):
        bench.engine.append.stream(
            upload, 0, 10, ScriptedReader(b"abc", cut()), exact=False
        )
    assert bench.row(upload).offset == 3
