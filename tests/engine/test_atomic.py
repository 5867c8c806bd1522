"""Atomic chunks: written in place, committed as a whole or discarded."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from flask_chunked.engine import atomic
from flask_chunked.engine.atomic import AtomicWriter, ShortChunk
from flask_chunked.engine.digest_thread import WORTH
from flask_chunked.engine.records import ExpectedDigest, NewUpload, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    BodyInterrupted,
    ChunkedUploadError,
    DatabaseUnavailable,
    MalformedBody,
    OffsetMismatch,
    StorageFull,
    Superseded,
    UnknownUpload,
    UploadExpired,
)
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.local import LocalStorage
from tests.engine.fakes import Bench, ScriptedReader

OLD = b"01234"
NEW = b"56789"


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No byte stays in memory."""
    monkeypatch.setattr(AtomicWriter, "most_kept", 0)


@pytest.fixture(params=["memory", "disk"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """An engine in memory, then on a real directory."""
    if request.param == "disk":
        return Bench(storage=LocalStorage(StorageSettings(base=str(tmp_path))))
    return Bench()


@pytest.fixture
def upload(bench: Bench) -> Upload:
    """An upload with half of its bytes."""
    upload = bench.engine.create.upload(
        NewUpload("ann", "a", length=10, dialect="test", hash_name="md5")
    )
    return bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))


def size(bench: Bench, upload: Upload) -> int | None:
    blob = bench.row(upload).blob
    assert blob is not None
    measured: int | None = bench.storage.measure(blob)
    return measured


def put(writer: AtomicWriter, *blocks: bytes) -> None:
    for block in blocks:
        writer.wait_for_buffer()
        writer.write(memoryview(bytearray(block)))


def reader(*, is_short: bool = False) -> ScriptedReader:
    reader = ScriptedReader(b"unread")
    reader.is_short = is_short
    return reader


@pytest.mark.parametrize("is_short", [True, False])
def test_a_chunk_counts_when_it_is_committed(
    bench: Bench, upload: Upload, is_short: bool
) -> None:
    with bench.engine.append.hold(upload, 5, reader(is_short=is_short)) as writer:
        put(writer, NEW[:2])
        assert writer.is_inside
        writer.pause()
        assert not writer.is_inside
        put(writer, NEW[2:])
        assert bench.row(upload).offset == 5
        after = bench.engine.append.commit(writer)
    assert after == bench.row(upload)
    assert after.offset == 10
    assert bench.stored(upload) == OLD + NEW
    expected = ExpectedDigest("md5", hashlib.md5(OLD + NEW).hexdigest())
    assert (
        bench.engine.complete.request(after, expected).upload.status is Status.COMPLETE
    )
    assert bench.policy.seen("chunk_received") == [5, 10]


def test_a_chunk_may_be_committed_after_a_pause(bench: Bench, upload: Upload) -> None:
    with bench.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW)
        writer.pause()
        assert bench.engine.append.commit(writer).offset == 10
    assert bench.stored(upload) == OLD + NEW


def test_an_uncommitted_chunk_is_truncated(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        raise MalformedBody("no end")
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)
    after = bench.engine.append.stream(upload, 5, 10, ScriptedReader(b"other"))
    assert bench.stored(after) == OLD + b"other"


def test_an_empty_chunk_changes_nothing(bench: Bench, upload: Upload) -> None:
    with pytest.raises(MalformedBody), bench.engine.append.hold(upload, 5, reader()):
        raise MalformedBody("no file")
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)


def test_the_next_append_truncates_where_rollback_fails(
    bench: Bench, upload: Upload
) -> None:
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        bench.repository.failing.add("claim")
        raise MalformedBody("no end")
    bench.repository.failing.clear()
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 10)
    bench.engine.append.stream(bench.row(upload), 5, 8, ScriptedReader(b"abc"))
    assert bench.stored(upload) == OLD + b"abc"


def test_another_start_than_the_offset_is_refused(bench: Bench, upload: Upload) -> None:
    with pytest.raises(OffsetMismatch), bench.engine.append.hold(upload, 4, reader()):
        pytest.fail("writer")


def test_a_superseded_writer_writes_no_more(bench: Bench, upload: Upload) -> None:
    body = reader()
    with pytest.raises(Superseded), bench.engine.append.hold(upload, 5, body) as writer:
        put(writer, NEW[:2])
        writer.pause()
        taken = bench.engine.append.take_over(upload)
        assert body.interrupts == 1
        bench.engine.append.stream(taken, 5, 10, ScriptedReader(b"other"))
        put(writer, NEW[2:])
    assert bench.stored(upload) == OLD + b"other"


def test_a_superseded_writer_commits_no_more(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(Superseded),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        writer.pause()
        bench.engine.append.take_over(upload)
        bench.engine.append.commit(writer)
    assert bench.row(upload).offset == 5


def test_an_interrupted_body_is_superseded(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(Superseded),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW[:2])
        writer.pause()
        bench.engine.append.take_over(upload)
        raise BodyInterrupted


def test_an_upload_that_is_gone_is_unknown(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(UnknownUpload),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW[:2])
        writer.pause()
        bench.engine.remove.terminate(upload)
        put(writer, NEW[2:])
    assert not list(bench.storage.stored())


def test_a_section_ends_when_its_time_is_up(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    with bench.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW[:1])
        bench.repository.before = asked.append
        put(writer, NEW[1:2])
        assert asked == []
        monkeypatch.setattr(atomic, "SECTION_SECONDS", -1)
        writer.pause()
        put(writer, NEW[2:3], NEW[3:4])
        assert asked == ["holds", "holds"]


@pytest.mark.parametrize("pauses", [True, False])
def test_the_first_bytes_are_inspected_before_they_count(
    bench: Bench, pauses: bool
) -> None:
    bench.policy.inspects = True
    upload = bench.create(10)
    upload = bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))
    with bench.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW)
        if pauses:
            writer.pause()
        bench.engine.append.commit(writer)
    assert bench.policy.seen("inspect") == [OLD + NEW]


def test_a_chunk_that_inspect_refuses_is_removed(bench: Bench) -> None:
    bench.policy.inspects = True
    bench.policy.refusals["inspect"] = ChunkedUploadError("no")
    upload = bench.create(10)
    upload = bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))
    with (
        pytest.raises(ChunkedUploadError),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        bench.engine.append.commit(writer)
    assert upload.id not in bench.repository.rows
    assert not list(bench.storage.stored())


def test_a_full_disk_keeps_the_committed_bytes(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(StorageFull),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW[:2])

        def refuse(block: memoryview) -> None:
            raise StorageFull

        monkeypatch.setattr(writer._appender, "write", refuse)
        put(writer, NEW[2:])
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)


def test_a_lost_database_keeps_the_committed_bytes(
    bench: Bench, upload: Upload
) -> None:
    with (
        pytest.raises(DatabaseUnavailable),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        bench.repository.failing.add("advance")
        bench.engine.append.commit(writer)
    bench.repository.failing.clear()
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)


def test_a_length_declared_meanwhile_supersedes_the_chunk(bench: Bench) -> None:
    upload = bench.create(None)
    upload = bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))
    with (
        pytest.raises(Superseded),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        bench.engine.declare.length(upload, 10)
        bench.engine.append.commit(writer)
    row = bench.row(upload)
    assert (row.offset, row.length) == (5, 10)
    bench.engine.append.stream(row, 5, 10, ScriptedReader(NEW))
    assert bench.stored(upload) == OLD + NEW


# -- all of it at once -----------------------------------------------------------------


@pytest.fixture
def uninspected(bench: Bench) -> Bench:
    """No hook inspects the bytes before their commit."""
    bench.policy.inspects = False
    return bench


def statements(bench: Bench) -> list[str]:
    """The names of the repository's methods that are called from now on."""
    asked: list[str] = []
    bench.repository.before = asked.append
    return asked


def test_a_chunk_in_one_section_needs_no_claim(
    uninspected: Bench, upload: Upload
) -> None:
    asked = statements(uninspected)
    with uninspected.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW[:2], NEW[2:])
        uninspected.engine.append.commit(writer)
    assert asked[:1] == ["advance"]
    assert uninspected.row(upload).fence == upload.fence
    assert uninspected.stored(upload) == OLD + NEW


def test_a_pause_claims_the_upload(uninspected: Bench, upload: Upload) -> None:
    asked = statements(uninspected)
    with uninspected.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW[:2])
        writer.pause()
        assert asked == ["claim"]
        put(writer, NEW[2:])
        uninspected.engine.append.commit(writer)
    assert asked[:3] == ["claim", "holds", "advance"]


def test_uncommitted_bytes_of_another_writer_need_a_claim(
    uninspected: Bench, upload: Upload
) -> None:
    with (
        suppress(MalformedBody),
        uninspected.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, b"discarded")
        writer.pause()
        uninspected.repository.failing.add("claim")
        raise MalformedBody("no end")
    uninspected.repository.failing.clear()
    assert size(uninspected, upload) == 14
    asked = statements(uninspected)
    with uninspected.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW)
        uninspected.engine.append.commit(writer)
    assert asked[:2] == ["claim", "advance"]
    assert uninspected.stored(upload) == OLD + NEW


@pytest.mark.parametrize("ending", ["pause", "commit", "rollback"])
def test_only_a_refused_commit_truncates_where_the_row_has_changed(
    uninspected: Bench, upload: Upload, ending: str
) -> None:
    expected = MalformedBody if ending == "rollback" else OffsetMismatch
    with (
        pytest.raises(expected),
        uninspected.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        # As another writer does that needs no section.
        uninspected.repository.rows[upload.id] = replace(
            uninspected.row(upload), offset=7
        )
        if ending == "pause":
            writer.pause()
        elif ending == "commit":
            uninspected.engine.append.commit(writer)
        raise MalformedBody("no end")
    # Only the row says whose the bytes are, and the row has changed.
    assert size(uninspected, upload) == (5 if ending == "commit" else 10)


@pytest.mark.parametrize("ending", ["pause", "commit"])
def test_a_take_over_supersedes_an_unclaimed_chunk(
    uninspected: Bench, upload: Upload, ending: str
) -> None:
    """Take over as another process does, without interrupting the body."""
    with (
        pytest.raises(Superseded),
        uninspected.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        taken = uninspected.repository.take_over(upload.id)
        if ending == "pause":
            writer.pause()
        uninspected.engine.append.commit(writer)
    assert taken is not None
    after = uninspected.engine.append.stream(taken, 5, 10, ScriptedReader(b"other"))
    assert uninspected.stored(after) == OLD + b"other"


def test_a_late_claim_does_not_supersede_a_newer_one(
    uninspected: Bench, upload: Upload
) -> None:
    with (
        pytest.raises(Superseded),
        uninspected.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW[:2])
        claimed = uninspected.repository.claim(upload.id, 5)
        writer.pause()
    assert uninspected.row(upload) == claimed


def test_an_unclaimed_commit_interrupts_a_stalled_request(
    uninspected: Bench, upload: Upload
) -> None:
    stalled = reader()
    with (
        uninspected.engine.readers.register(upload.id, stalled),
        uninspected.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        uninspected.engine.append.commit(writer)
        assert stalled.interrupts == 0
    assert stalled.interrupts == 1


def test_an_upload_that_expires_during_a_chunk_refuses_the_commit(
    uninspected: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", 5)
    with (
        pytest.raises(UploadExpired),
        uninspected.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        uninspected.clock.now += timedelta(days=2)
        uninspected.engine.append.commit(writer)
    assert (uninspected.row(upload).offset, size(uninspected, upload)) == (5, 5)


def test_a_section_that_takes_too_long_is_due(
    uninspected: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with uninspected.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW[:2])
        assert not writer.is_due
        writer.pause()
        monkeypatch.setattr(atomic, "SECTION_SECONDS", -1)
        put(writer, NEW[2:])
        assert writer.is_due


# -- long ones -------------------------------------------------------------------------

LONG = bytes(range(256)) * (WORTH // 256)


@pytest.fixture
def plain(bench: Bench) -> Upload:
    """Five bytes of a long upload without a digest."""
    upload = bench.create(5 + 3 * WORTH)
    return bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))


@pytest.mark.parametrize("pauses", [True, False])
def test_long_blocks_without_a_digest_are_written_at_once(
    bench: Bench, plain: Upload, pauses: bool
) -> None:
    blocks = [LONG, LONG[::-1], NEW, LONG[:-5]]
    with bench.engine.append.hold(plain, 5, reader()) as writer:
        for end, block in enumerate(blocks, 1):
            put(writer, block)
            assert not writer.is_at_work
            assert size(bench, plain) == 5 + len(b"".join(blocks[:end]))
        if pauses:
            writer.pause()
        assert bench.engine.append.commit(writer).offset == 5 + 3 * WORTH
    assert bench.stored(plain) == OLD + b"".join(blocks)


def test_a_digest_thread_may_still_read_a_block(bench: Bench, upload: Upload) -> None:
    with bench.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, LONG)
        assert writer.is_at_work
        writer.rollback()


def test_an_uncommitted_long_chunk_is_truncated(bench: Bench, plain: Upload) -> None:
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(plain, 5, reader()) as writer,
    ):
        put(writer, LONG, LONG, LONG)
        raise MalformedBody("no end")
    assert (bench.row(plain).offset, size(bench, plain)) == (5, 5)


def test_a_full_disk_keeps_the_committed_bytes_before_a_long_chunk(
    bench: Bench, plain: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(StorageFull),
        bench.engine.append.hold(plain, 5, reader()) as writer,
    ):
        put(writer, LONG)

        def refuse(block: memoryview) -> None:
            raise StorageFull

        monkeypatch.setattr(writer._appender, "write", refuse)
        put(writer, LONG)
    assert (bench.row(plain).offset, size(bench, plain)) == (5, 5)


# -- short chunks ----------------------------------------------------------------------


def test_a_refused_short_chunk_supersedes_no_request(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", 5)
    before = bench.row(upload)
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW[:2], NEW[2:])
        assert not writer.is_inside
        raise MalformedBody("no end")
    assert bench.row(upload) == before
    assert size(bench, upload) == 5


@pytest.mark.parametrize("most", [1, 4, 5])
def test_bytes_in_memory_are_written_first(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", most)
    with bench.engine.append.hold(upload, 5, reader()) as writer:
        put(writer, NEW[:1], NEW[1:4], NEW[4:])
        assert writer.is_inside == (most < 5)
        bench.engine.append.commit(writer)
    assert bench.stored(upload) == OLD + NEW
    expected = ExpectedDigest("md5", hashlib.md5(OLD + NEW).hexdigest())
    bench.engine.complete.request(bench.row(upload), expected)


def test_a_chunk_in_memory_is_refused_at_another_offset(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", 5)
    with (
        pytest.raises(OffsetMismatch),
        bench.engine.append.hold(upload, 5, reader()) as writer,
    ):
        put(writer, NEW)
        bench.engine.append.stream(upload, 5, 10, ScriptedReader(b"other"))
        bench.engine.append.commit(writer)
    assert bench.stored(upload) == OLD + b"other"


def test_few_bytes_stay_in_memory() -> None:
    chunk = ShortChunk()
    assert chunk.write(memoryview(b"abc")) == 3
    assert chunk.write(memoryview(b"d")) == 1
    assert chunk.content == b"abcd"
