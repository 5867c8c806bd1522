"""A chunk that is held: written where it will be, and nothing before it is whole."""

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
from flask_chunked.engine.records import Expected, NewUpload, Upload
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
    """Chunks are written as they come."""
    monkeypatch.setattr(AtomicWriter, "most_kept", 0)


@pytest.fixture(params=["memory", "disk"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """An engine in memory, then on a real directory."""
    if request.param == "disk":
        return Bench(storage=LocalStorage(StorageSettings(base=str(tmp_path))))
    return Bench()


@pytest.fixture
def upload(bench: Bench) -> Upload:
    """Half an upload."""
    upload = bench.engine.create.upload(
        NewUpload("ann", "a", length=10, dialect="test", hash_name="md5")
    )
    return bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))


def size(bench: Bench, upload: Upload) -> int | None:
    blob = bench.row(upload).blob
    assert blob is not None
    measured: int | None = bench.storage.measure(blob)
    return measured


def put(held: AtomicWriter, *blocks: bytes) -> None:
    for block in blocks:
        held.wait_for_buffer()
        held.write(memoryview(bytearray(block)))


def reader(*, is_short: bool = False) -> ScriptedReader:
    reader = ScriptedReader(b"unread")
    reader.is_short = is_short
    return reader


@pytest.mark.parametrize("is_short", [True, False])
def test_a_chunk_counts_when_it_is_committed(
    bench: Bench, upload: Upload, is_short: bool
) -> None:
    with bench.engine.append.hold(upload, 5, reader(is_short=is_short)) as held:
        put(held, NEW[:2])
        assert held.is_inside
        held.pause()
        assert not held.is_inside
        put(held, NEW[2:])
        assert bench.row(upload).offset == 5
        after = bench.engine.append.commit(held)
    assert after == bench.row(upload)
    assert after.offset == 10
    assert bench.stored(upload) == OLD + NEW
    expected = Expected("md5", hashlib.md5(OLD + NEW).hexdigest())
    assert (
        bench.engine.complete.request(after, expected).upload.status is Status.COMPLETE
    )
    assert bench.policy.seen("chunk_received") == [5, 10]


def test_it_may_be_committed_when_others_were_let_in(
    bench: Bench, upload: Upload
) -> None:
    with bench.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW)
        held.pause()
        assert bench.engine.append.commit(held).offset == 10
    assert bench.stored(upload) == OLD + NEW


def test_what_is_not_committed_is_cut_off(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        raise MalformedBody("no end")
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)
    after = bench.engine.append.stream(upload, 5, 10, ScriptedReader(b"other"))
    assert bench.stored(after) == OLD + b"other"


def test_a_chunk_of_nothing_leaves_nothing_to_cut(bench: Bench, upload: Upload) -> None:
    with pytest.raises(MalformedBody), bench.engine.append.hold(upload, 5, reader()):
        raise MalformedBody("no file")
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)


def test_where_it_cannot_be_cut_off_the_next_append_does(
    bench: Bench, upload: Upload
) -> None:
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        bench.repository.failing.add("claim")
        raise MalformedBody("no end")
    bench.repository.failing.clear()
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 10)
    bench.engine.append.stream(bench.row(upload), 5, 8, ScriptedReader(b"abc"))
    assert bench.stored(upload) == OLD + b"abc"


def test_nobody_begins_elsewhere(bench: Bench, upload: Upload) -> None:
    with pytest.raises(OffsetMismatch), bench.engine.append.hold(upload, 4, reader()):
        pytest.fail("held")


def test_whoever_is_taken_over_writes_no_more(bench: Bench, upload: Upload) -> None:
    body = reader()
    with pytest.raises(Superseded), bench.engine.append.hold(upload, 5, body) as held:
        put(held, NEW[:2])
        held.pause()
        taken = bench.engine.append.take_over(upload)
        assert body.interrupts == 1
        bench.engine.append.stream(taken, 5, 10, ScriptedReader(b"other"))
        put(held, NEW[2:])
    assert bench.stored(upload) == OLD + b"other"


def test_whoever_is_taken_over_commits_no_more(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(Superseded),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        held.pause()
        bench.engine.append.take_over(upload)
        bench.engine.append.commit(held)
    assert bench.row(upload).offset == 5


def test_a_body_that_was_cut_for_another_one_is_superseded(
    bench: Bench, upload: Upload
) -> None:
    with (
        pytest.raises(Superseded),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW[:2])
        held.pause()
        bench.engine.append.take_over(upload)
        raise BodyInterrupted


def test_an_upload_that_is_gone_is_unknown(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(UnknownUpload),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW[:2])
        held.pause()
        bench.engine.remove.terminate(upload)
        put(held, NEW[2:])
    assert not list(bench.storage.stored())


def test_a_section_ends_when_its_time_is_up(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    with bench.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW[:1])
        bench.repository.before = asked.append
        put(held, NEW[1:2])
        assert asked == []
        monkeypatch.setattr(atomic, "SECTION_SECONDS", -1)
        held.pause()
        put(held, NEW[2:3], NEW[3:4])
        assert asked == ["holds", "holds"]


@pytest.mark.parametrize("pauses", [True, False])
def test_the_first_bytes_are_inspected_before_they_count(
    bench: Bench, pauses: bool
) -> None:
    bench.policy.inspects = True
    upload = bench.create(10)
    upload = bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))
    with bench.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW)
        if pauses:
            held.pause()
        bench.engine.append.commit(held)
    assert bench.policy.seen("inspect") == [OLD + NEW]


def test_what_inspection_refuses_is_gone(bench: Bench) -> None:
    bench.policy.inspects = True
    bench.policy.refusals["inspect"] = ChunkedUploadError("no")
    upload = bench.create(10)
    upload = bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))
    with (
        pytest.raises(ChunkedUploadError),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        bench.engine.append.commit(held)
    assert upload.id not in bench.repository.rows
    assert not list(bench.storage.stored())


def test_a_full_disk_leaves_what_was_there(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(StorageFull),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW[:2])

        def refuse(block: memoryview) -> None:
            raise StorageFull

        monkeypatch.setattr(held._appender, "write", refuse)
        put(held, NEW[2:])
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)


def test_a_lost_database_leaves_what_was_there(bench: Bench, upload: Upload) -> None:
    with (
        pytest.raises(DatabaseUnavailable),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        bench.repository.failing.add("advance")
        bench.engine.append.commit(held)
    bench.repository.failing.clear()
    assert (bench.row(upload).offset, size(bench, upload)) == (5, 5)


def test_a_chunk_that_does_not_know_the_length_does_not_count(bench: Bench) -> None:
    upload = bench.create(None)
    upload = bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))
    with (
        pytest.raises(Superseded),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        bench.engine.declare.length(upload, 10)
        bench.engine.append.commit(held)
    row = bench.row(upload)
    assert (row.offset, row.length) == (5, 10)
    bench.engine.append.stream(row, 5, 10, ScriptedReader(NEW))
    assert bench.stored(upload) == OLD + NEW


# -- all of it at once -----------------------------------------------------------------


@pytest.fixture
def hasty(bench: Bench) -> Bench:
    """Nothing has to be looked at between writing and commit."""
    bench.policy.inspects = False
    return bench


def statements(bench: Bench) -> list[str]:
    """What the repository is asked for from here on."""
    asked: list[str] = []
    bench.repository.before = asked.append
    return asked


def test_a_chunk_that_comes_at_once_is_not_claimed(
    hasty: Bench, upload: Upload
) -> None:
    asked = statements(hasty)
    with hasty.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW[:2], NEW[2:])
        hasty.engine.append.commit(held)
    assert asked[:1] == ["advance"]
    assert hasty.row(upload).fence == upload.fence
    assert hasty.stored(upload) == OLD + NEW


def test_it_is_claimed_before_others_are_let_in(hasty: Bench, upload: Upload) -> None:
    asked = statements(hasty)
    with hasty.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW[:2])
        held.pause()
        assert asked == ["claim"]
        put(held, NEW[2:])
        hasty.engine.append.commit(held)
    assert asked[:3] == ["claim", "holds", "advance"]


def test_where_something_is_behind_the_upload_it_is_claimed_first(
    hasty: Bench, upload: Upload
) -> None:
    with suppress(MalformedBody), hasty.engine.append.hold(upload, 5, reader()) as held:
        put(held, b"dead tail")
        held.pause()
        hasty.repository.failing.add("claim")
        raise MalformedBody("no end")
    hasty.repository.failing.clear()
    assert size(hasty, upload) == 14
    asked = statements(hasty)
    with hasty.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW)
        hasty.engine.append.commit(held)
    assert asked[:2] == ["claim", "advance"]
    assert hasty.stored(upload) == OLD + NEW


@pytest.mark.parametrize("ending", ["pause", "commit", "drop"])
def test_only_a_refused_commit_cuts_where_the_row_has_moved(
    hasty: Bench, upload: Upload, ending: str
) -> None:
    expected = MalformedBody if ending == "drop" else OffsetMismatch
    with pytest.raises(expected), hasty.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW)
        # Of a writer that has no need to get in.
        hasty.repository.rows[upload.id] = replace(hasty.row(upload), offset=7)
        if ending == "pause":
            held.pause()
        elif ending == "commit":
            hasty.engine.append.commit(held)
        raise MalformedBody("no end")
    # Only the row tells whose the bytes are, and it is not what it was.
    assert size(hasty, upload) == (5 if ending == "commit" else 10)


@pytest.mark.parametrize("ending", ["pause", "commit"])
def test_head_takes_over_from_a_chunk_that_is_not_claimed(
    hasty: Bench, upload: Upload, ending: str
) -> None:
    """In another process, so that the body goes on."""
    with (
        pytest.raises(Superseded),
        hasty.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        taken = hasty.repository.take_over(upload.id)
        if ending == "pause":
            held.pause()
        hasty.engine.append.commit(held)
    assert taken is not None
    after = hasty.engine.append.stream(taken, 5, 10, ScriptedReader(b"other"))
    assert hasty.stored(after) == OLD + b"other"


def test_a_newer_claim_is_not_claimed_over(hasty: Bench, upload: Upload) -> None:
    with (
        pytest.raises(Superseded),
        hasty.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW[:2])
        claimed = hasty.repository.claim(upload.id, 5)
        held.pause()
    assert hasty.row(upload) == claimed


def test_whoever_stalls_is_let_go_by_a_chunk_that_is_not_claimed(
    hasty: Bench, upload: Upload
) -> None:
    stalled = reader()
    with (
        hasty.engine.readers.register(upload.id, stalled),
        hasty.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        hasty.engine.append.commit(held)
        assert stalled.interrupts == 0
    assert stalled.interrupts == 1


def test_an_upload_that_expired_while_its_chunk_came_takes_no_more(
    hasty: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", 5)
    with (
        pytest.raises(UploadExpired),
        hasty.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        hasty.clock.now += timedelta(days=2)
        hasty.engine.append.commit(held)
    assert (hasty.row(upload).offset, size(hasty, upload)) == (5, 5)


def test_a_section_that_takes_too_long_is_due(
    hasty: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hasty.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW[:2])
        assert not held.is_due
        held.pause()
        monkeypatch.setattr(atomic, "SECTION_SECONDS", -1)
        put(held, NEW[2:])
        assert held.is_due


# -- long ones -------------------------------------------------------------------------

LONG = bytes(range(256)) * (WORTH // 256)


@pytest.fixture
def plain(bench: Bench) -> Upload:
    """Five bytes of a long upload, whose digest nobody wants."""
    upload = bench.create(5 + 3 * WORTH)
    return bench.engine.append.stream(upload, 0, 5, ScriptedReader(OLD))


@pytest.mark.parametrize("pauses", [True, False])
def test_long_blocks_are_written_as_they_come(
    bench: Bench, plain: Upload, pauses: bool
) -> None:
    blocks = [LONG, LONG[::-1], NEW, LONG[:-5]]
    with bench.engine.append.hold(plain, 5, reader()) as held:
        for end, block in enumerate(blocks, 1):
            put(held, block)
            assert not held.is_at_work
            assert size(bench, plain) == 5 + len(b"".join(blocks[:end]))
        if pauses:
            held.pause()
        assert bench.engine.append.commit(held).offset == 5 + 3 * WORTH
    assert bench.stored(plain) == OLD + b"".join(blocks)


def test_whoever_takes_a_digest_may_be_at_work_on_a_block(
    bench: Bench, upload: Upload
) -> None:
    with bench.engine.append.hold(upload, 5, reader()) as held:
        put(held, LONG)
        assert held.is_at_work
        held.rollback()


def test_a_long_chunk_that_is_not_committed_is_cut_off(
    bench: Bench, plain: Upload
) -> None:
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(plain, 5, reader()) as held,
    ):
        put(held, LONG, LONG, LONG)
        raise MalformedBody("no end")
    assert (bench.row(plain).offset, size(bench, plain)) == (5, 5)


def test_disk_that_is_full_leaves_what_was_there(
    bench: Bench, plain: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(StorageFull),
        bench.engine.append.hold(plain, 5, reader()) as held,
    ):
        put(held, LONG)

        def refuse(block: memoryview) -> None:
            raise StorageFull

        monkeypatch.setattr(held._appender, "write", refuse)
        put(held, LONG)
    assert (bench.row(plain).offset, size(bench, plain)) == (5, 5)


# -- short chunks ----------------------------------------------------------------------


def test_a_short_chunk_that_is_refused_supersedes_nobody(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", 5)
    before = bench.row(upload)
    with (
        pytest.raises(MalformedBody),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW[:2], NEW[2:])
        assert not held.is_inside
        raise MalformedBody("no end")
    assert bench.row(upload) == before
    assert size(bench, upload) == 5


@pytest.mark.parametrize("most", [1, 4, 5])
def test_what_was_kept_comes_first(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", most)
    with bench.engine.append.hold(upload, 5, reader()) as held:
        put(held, NEW[:1], NEW[1:4], NEW[4:])
        assert held.is_inside == (most < 5)
        bench.engine.append.commit(held)
    assert bench.stored(upload) == OLD + NEW
    expected = Expected("md5", hashlib.md5(OLD + NEW).hexdigest())
    bench.engine.complete.request(bench.row(upload), expected)


def test_a_chunk_that_was_kept_too_long_finds_another_offset(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AtomicWriter, "most_kept", 5)
    with (
        pytest.raises(OffsetMismatch),
        bench.engine.append.hold(upload, 5, reader()) as held,
    ):
        put(held, NEW)
        bench.engine.append.stream(upload, 5, 10, ScriptedReader(b"other"))
        bench.engine.append.commit(held)
    assert bench.stored(upload) == OLD + b"other"


def test_few_bytes_are_kept_in_memory() -> None:
    chunk = ShortChunk()
    assert chunk.write(memoryview(b"abc")) == 3
    assert chunk.write(memoryview(b"d")) == 1
    assert chunk.content == b"abcd"
