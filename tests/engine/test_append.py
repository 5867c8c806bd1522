"""Appending: offsets, fences, silent and interrupted clients, repeats."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flask_chunked.engine import stream
from flask_chunked.engine.records import OffsetCommit
from flask_chunked.exceptions import (
    AlreadyComplete,
    BodyInterrupted,
    ChunkedUploadError,
    ChunkSizeMismatch,
    DatabaseUnavailable,
    OffsetMismatch,
    StorageFull,
    Superseded,
    UnknownUpload,
    UploadExpired,
)
from flask_chunked.storage.base import Stage
from flask_chunked.storage.memory import MemoryAppender
from tests.engine.fakes import Bench, ScriptedReader, disconnect, idle_since


def stage_of(bench: Bench, content: bytes) -> Stage:
    stage: Stage = bench.storage.stage()
    stage.write(content)
    return stage


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_blocks_become_the_file(bench: Bench) -> None:
    upload = bench.create(10)
    after = bench.engine.append.stream(upload, 0, 6, ScriptedReader(b"abc", b"def"))
    assert (after.offset, bench.stored(upload)) == (6, b"abcdef")
    after = bench.engine.append.stream(upload, 6, 10, ScriptedReader(b"ghij"))
    assert (after.offset, bench.stored(upload)) == (10, b"abcdefghij")


def test_creation_makes_a_row_and_no_bytes(bench: Bench) -> None:
    bench.create(10)
    assert list(bench.storage.stored()) == []


@pytest.mark.parametrize("start", [1, 5, 11])
def test_stale_offset_is_a_conflict_and_supersedes_no_request(
    bench: Bench, start: int
) -> None:
    upload = bench.create(10)
    with pytest.raises(OffsetMismatch) as caught:
        bench.engine.append.stream(upload, start, start + 1, ScriptedReader(b"x"))
    assert (caught.value.expected, caught.value.provided) == (0, start)
    assert bench.row(upload).fence == 0


def test_append_to_a_complete_upload_is_refused(bench: Bench) -> None:
    upload = bench.filled()
    bench.engine.complete.request(upload, None)
    with pytest.raises(AlreadyComplete):
        bench.engine.append.stream(bench.row(upload), 10, 11, ScriptedReader(b"x"))


def test_the_received_bytes_of_an_interrupted_body_stay(bench: Bench) -> None:
    upload = bench.create(10)
    with pytest.raises(BodyInterrupted):
        bench.engine.append.stream(upload, 0, 10, ScriptedReader(b"abcd", disconnect()))
    assert bench.row(upload).offset == 4
    assert bench.stored(upload) == b"abcd"
    assert bench.policy.seen("chunk_received") == [4]


def test_progress_without_a_receiver_is_not_announced(bench: Bench) -> None:
    bench.policy.unheard.add("chunk_received")
    upload = bench.create(10)
    bench.engine.append.stream(upload, 0, 4, ScriptedReader(b"abcd"))
    assert bench.row(upload).offset == 4
    assert bench.policy.seen("chunk_received") == []


def test_a_worker_that_exits_commits_the_received_bytes(bench: Bench) -> None:
    upload = bench.create(10)
    with pytest.raises(SystemExit):
        bench.engine.append.stream(
            upload, 0, 10, ScriptedReader(b"abcd", SystemExit(1))
        )
    assert bench.row(upload).offset == 4


def test_a_body_that_ends_early_is_a_size_mismatch(bench: Bench) -> None:
    upload = bench.create(10)
    with pytest.raises(ChunkSizeMismatch) as caught:
        bench.engine.append.stream(upload, 0, 10, ScriptedReader(b"abcd"))
    assert (caught.value.actual, caught.value.reported) == (4, 10)
    assert bench.row(upload).offset == 4


def test_a_body_beyond_its_range_is_kept_up_to_the_range(bench: Bench) -> None:
    upload = bench.create(10)
    with pytest.raises(ChunkSizeMismatch) as caught:
        bench.engine.append.stream(upload, 0, 4, ScriptedReader(b"abcdef"))
    assert (caught.value.actual, caught.value.reported) == (6, 4)
    assert bench.stored(upload) == b"abcd"


def test_a_block_beyond_the_range_is_not_written(bench: Bench) -> None:
    upload = bench.create(10)
    with pytest.raises(ChunkSizeMismatch):
        bench.engine.append.stream(upload, 0, 4, ScriptedReader(b"abcd", b"ef"))
    assert bench.stored(upload) == b"abcd"


def test_no_announced_end_takes_the_whole_body(bench: Bench) -> None:
    upload = bench.create(10)
    after = bench.engine.append.stream(upload, 0, None, ScriptedReader(b"abc"))
    assert after.offset == 3


def test_bytes_are_committed_before_the_wait_for_a_silent_client(
    bench: Bench,
) -> None:
    upload = bench.create(10)
    seen: list[int] = []
    reader = ScriptedReader(b"abc", None, lambda: seen.append(bench.row(upload).offset))
    with pytest.raises(ChunkSizeMismatch):
        bench.engine.append.stream(upload, 0, 10, reader)
    assert seen == [3]
    assert reader.waited >= 1


@pytest.fixture
def expensive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The committed offsets of a storage whose commits are expensive."""
    monkeypatch.setattr(MemoryAppender, "commit_interval", 1.0)
    offsets: list[int] = []
    advance = bench.repository.advance

    def note(commit: OffsetCommit) -> bool:
        offsets.append(commit.offset)
        return advance(commit)

    monkeypatch.setattr(bench.repository, "advance", note)
    return offsets


@pytest.mark.parametrize(
    ("interval", "goes_on", "seconds", "commits"),
    [
        pytest.param(60.0, True, 60.0, [9], id="goes-on"),
        pytest.param(60.0, False, 60.0, [3, 6, 9], id="stays-silent"),
        pytest.param(60.0, True, 0.0, [3, 6, 9], id="a-commit-is-due"),
        pytest.param(0.0, True, 60.0, [3, 6, 9], id="commits-are-cheap"),
    ],
)
def test_a_pause_makes_no_expensive_commit_before_it_is_due(
    bench: Bench,
    expensive: list[int],
    monkeypatch: pytest.MonkeyPatch,
    interval: float,
    goes_on: bool,
    seconds: float,
    commits: list[int],
) -> None:
    monkeypatch.setattr(MemoryAppender, "commit_interval", interval)
    monkeypatch.setattr(stream, "COMMIT_SECONDS", seconds)
    upload = bench.create(9)
    reader = ScriptedReader(b"abc", None, b"def", None, b"ghi")
    reader.goes_on = goes_on
    assert bench.engine.append.stream(upload, 0, 9, reader).offset == 9
    assert expensive == commits
    assert bench.stored(upload) == b"abcdefghi"
    assert all(0 < timeout <= interval for timeout in reader.timeouts)


def test_without_uncommitted_bytes_the_wait_is_plain(
    bench: Bench, expensive: list[int]
) -> None:
    upload = bench.create(3)
    reader = ScriptedReader(None, b"abc")
    bench.engine.append.stream(upload, 0, 3, reader)
    assert (reader.timeouts, reader.waited, expensive) == ([], 1, [3])


def test_bytes_before_a_pause_stay_when_the_client_is_lost_in_it(
    bench: Bench, expensive: list[int]
) -> None:
    upload = bench.create(9)
    reader = ScriptedReader(b"abc", None, BodyInterrupted())
    with pytest.raises(BodyInterrupted):
        bench.engine.append.stream(upload, 0, 9, reader)
    assert expensive == [3]
    assert bench.row(upload).offset == 3


def test_long_bodies_commit_in_sections(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "COMMIT_BYTES", 4)
    upload = bench.create(10)
    commits: list[str] = []
    bench.repository.before = lambda name: (
        commits.append(name) if name == "advance" else None
    )
    bench.engine.append.stream(upload, 0, 10, ScriptedReader(b"abcd", b"efgh", b"ij"))
    assert len(commits) == 3


def test_a_take_over_stops_the_writer_and_its_bytes_do_not_count(
    bench: Bench,
) -> None:
    upload = bench.create(10)
    offsets: list[int] = []

    def take_over() -> None:
        offsets.append(bench.engine.append.take_over(upload).offset)

    reader = ScriptedReader(b"abc", None, take_over, b"XYZ")
    with pytest.raises(Superseded) as caught:
        bench.engine.append.stream(upload, 0, 10, reader)
    assert offsets == [3]
    assert caught.value.expected == 3
    assert reader.interrupts == 1
    after = bench.engine.append.stream(upload, 3, 6, ScriptedReader(b"def"))
    assert (after.offset, bench.stored(upload)) == (6, b"abcdef")


def test_the_next_append_truncates_uncommitted_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = bench.create(10)
    bench.repository.failing = {"advance"}
    with pytest.raises(DatabaseUnavailable):
        bench.engine.append.stream(upload, 0, 6, ScriptedReader(b"abcdef"))
    bench.repository.failing = set()
    assert bench.row(upload).offset == 0
    after = bench.engine.append.stream(upload, 0, 2, ScriptedReader(b"xy"))
    blob = after.blob
    assert blob is not None
    assert (bench.stored(upload), bench.storage.measure(blob)) == (b"xy", 2)


def test_a_lost_compare_and_set_is_superseded(bench: Bench) -> None:
    upload = bench.create(10)

    def steal(name: str) -> None:
        if name == "advance":
            bench.repository.before = lambda _: None
            bench.repository.take_over(upload.id)

    bench.repository.before = steal
    with pytest.raises(Superseded):
        bench.engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    assert bench.row(upload).offset == 0


def test_a_writer_whose_upload_was_removed_leaves_no_bytes(bench: Bench) -> None:
    upload = bench.create(10)
    reader = ScriptedReader(
        b"abc", lambda: bench.engine.remove.terminate(upload), b"def"
    )
    with pytest.raises(UnknownUpload):
        bench.engine.append.stream(upload, 0, 10, reader)
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []


@pytest.mark.parametrize("sent", [b"", b"abc"], ids=["silent", "begun"])
def test_an_interrupted_writer_is_superseded(bench: Bench, sent: bytes) -> None:
    upload = bench.create(10)
    reader = ScriptedReader(
        sent, None, lambda: bench.engine.append.take_over(upload), BodyInterrupted()
    )
    with pytest.raises(Superseded) as caught:
        bench.engine.append.stream(upload, 0, 10, reader)
    assert (caught.value.expected, caught.value.provided) == (len(sent), 0)


def test_a_silent_writer_whose_upload_is_terminated_gets_unknown(bench: Bench) -> None:
    upload = bench.create(10)
    reader = ScriptedReader(
        None, lambda: bench.engine.remove.terminate(upload), BodyInterrupted()
    )
    with pytest.raises(UnknownUpload):
        bench.engine.append.stream(upload, 0, 10, reader)


def test_a_writer_whose_upload_expired_gets_expired(bench: Bench) -> None:
    upload = bench.create(10)

    def expire() -> None:
        bench.engine.remove.expire(upload, idle_since(bench), keep_record=True)

    reader = ScriptedReader(expire, b"def")
    with pytest.raises(UploadExpired):
        bench.engine.append.stream(upload, 0, 10, reader)
    assert list(bench.storage.stored()) == []


def test_a_full_storage_keeps_the_offset(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = bench.create(10)
    bench.engine.append.stream(upload, 0, 4, ScriptedReader(b"abcd"))
    with pytest.raises(StorageFull):
        bench.engine.append.stream(
            bench.row(upload), 4, 10, ScriptedReader(StorageFull())
        )
    assert bench.row(upload).offset == 4


def test_a_staged_chunk_is_appended_whole(bench: Bench) -> None:
    upload = bench.create(6)
    for start, content in ((0, b"abc"), (3, b"def")):
        stage = stage_of(bench, content)
        after = bench.engine.append.whole(upload, start, stage)
    assert (after.offset, bench.stored(upload)) == (6, b"abcdef")


def test_the_last_chunk_again_is_the_same_answer(bench: Bench) -> None:
    upload = bench.create(6)
    stage = stage_of(bench, b"abc")
    bench.engine.append.whole(upload, 0, stage)
    fence = bench.row(upload).fence
    again = stage_of(bench, b"abc")
    after = bench.engine.append.whole(upload, 0, again)
    assert (after.offset, after.fence) == (3, fence)


def test_other_bytes_in_the_last_range_are_a_conflict(bench: Bench) -> None:
    upload = bench.create(6)
    stage = stage_of(bench, b"abc")
    bench.engine.append.whole(upload, 0, stage)
    other = stage_of(bench, b"xyz")
    with pytest.raises(OffsetMismatch) as caught:
        bench.engine.append.whole(upload, 0, other)
    assert caught.value.expected == 3


def test_another_range_is_a_conflict_whatever_its_bytes(bench: Bench) -> None:
    upload = bench.create(6)
    bench.engine.append.whole(upload, 0, stage_of(bench, b"abc"))
    with pytest.raises(OffsetMismatch):
        bench.engine.append.whole(upload, 0, stage_of(bench, b"ab"))


def test_append_to_a_removed_upload_is_unknown(bench: Bench) -> None:
    upload = bench.create(6)
    bench.engine.remove.terminate(upload)
    stage = stage_of(bench, b"abc")
    with pytest.raises(UnknownUpload):
        bench.engine.append.whole(upload, 0, stage)


def test_an_upload_removed_between_claim_and_answer_is_unknown(bench: Bench) -> None:
    upload = bench.create(6)
    stage = stage_of(bench, b"abc")

    def remove(name: str) -> None:
        if name == "claim":
            bench.repository.before = lambda _: None
            bench.repository.rows.clear()

    bench.repository.before = remove
    with pytest.raises(UnknownUpload):
        bench.engine.append.whole(upload, 0, stage)


def test_a_storage_failure_after_a_take_over_is_superseded(
    bench: Bench,
) -> None:
    upload = bench.create(10)

    def fail() -> None:
        bench.engine.append.take_over(upload)
        raise StorageFull()

    with pytest.raises(Superseded):
        bench.engine.append.stream(upload, 0, 10, ScriptedReader(fail))


# -- inspect ---------------------------------------------------------------------------


def test_inspect_sees_the_first_bytes_once(bench: Bench) -> None:
    upload = bench.create(9000)
    engine = bench.engine
    engine.append.stream(upload, 0, 3000, ScriptedReader(b"a" * 3000))
    assert bench.policy.seen("inspect") == []
    engine.append.stream(upload, 3000, 6000, ScriptedReader(b"b" * 3000))
    assert bench.policy.seen("inspect") == [b"a" * 3000 + b"b" * 1096]
    engine.append.stream(upload, 6000, 9000, ScriptedReader(b"c" * 3000))
    assert len(bench.policy.seen("inspect")) == 1


def test_inspect_sees_a_small_file_whole(bench: Bench) -> None:
    bench.filled(b"tiny")
    assert bench.policy.seen("inspect") == [b"tiny"]


def test_inspect_of_an_unknown_length_waits_for_4096_bytes(bench: Bench) -> None:
    upload = bench.create(None)
    bench.engine.append.stream(upload, 0, None, ScriptedReader(b"a" * 4095))
    assert bench.policy.seen("inspect") == []
    bench.engine.append.stream(upload, 4095, None, ScriptedReader(b"b"))
    assert bench.policy.seen("inspect") == [b"a" * 4095 + b"b"]


def test_inspect_of_an_empty_file_sees_no_bytes(bench: Bench) -> None:
    bench.create(0)
    assert bench.policy.seen("inspect") == [b""]


def test_a_head_refused_in_mid_body_removes_the_upload(bench: Bench) -> None:
    upload = bench.create(9000)
    bench.policy.refusals["inspect"] = ChunkedUploadError("no")
    reader = ScriptedReader(b"a" * 5000, None, b"b" * 4000)
    with pytest.raises(ChunkedUploadError):
        bench.engine.append.stream(upload, 0, 9000, reader)
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []


@pytest.mark.parametrize("length", [9000, None])
def test_a_head_refused_after_a_first_commit_removes_the_upload(
    bench: Bench, length: int | None
) -> None:
    upload = bench.create(length)
    bench.policy.refusals["inspect"] = ChunkedUploadError("no")
    committed: list[int] = []
    reader = ScriptedReader(
        b"a" * 1000,
        # During the silence, the received bytes are committed.
        None,
        lambda: committed.append(bench.row(upload).offset),
        b"b" * 4000,
    )
    with pytest.raises(ChunkedUploadError, match="no"):
        bench.engine.append.stream(upload, 0, length, reader, exact=False)
    assert committed == [1000]
    assert bench.policy.seen("inspect") == [b"a" * 1000 + b"b" * 3096]
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []
    assert bench.policy.seen("terminated") == [1000]


@pytest.mark.parametrize("staged", [False, True])
def test_a_refused_head_removes_the_upload(bench: Bench, staged: bool) -> None:
    upload = bench.create(3)
    bench.policy.refusals["inspect"] = ChunkedUploadError("no such files here")
    with pytest.raises(ChunkedUploadError, match="no such files here"):
        if staged:
            stage = stage_of(bench, b"abc")
            bench.engine.append.whole(upload, 0, stage)
        else:
            bench.engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []


def test_a_broken_inspect_commits_nothing_and_keeps_the_upload(bench: Bench) -> None:
    upload = bench.create(3)
    bench.policy.refusals["inspect"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        bench.engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    assert bench.row(upload).offset == 0


def test_a_refusal_does_not_remove_what_another_request_took_over(
    bench: Bench,
) -> None:
    upload = bench.create(3)
    bench.policy.refusals["inspect"] = ChunkedUploadError("no")
    asked = bench.policy.inspect

    def inspect(upload_: object, head: bytes) -> None:
        bench.engine.append.take_over(upload)
        asked(upload, head)

    bench.policy.inspect = inspect  # type: ignore[assignment]
    with pytest.raises(ChunkedUploadError):
        bench.engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    assert upload.id in bench.repository.rows


def test_a_policy_that_does_not_inspect_is_not_asked(bench: Bench) -> None:
    bench.policy.inspects = False
    bench.filled()
    bench.create(0)
    assert bench.policy.seen("inspect") == []


# -- the clock -------------------------------------------------------------------------


def test_expiry_slides_with_committed_bytes(bench: Bench) -> None:
    upload = bench.create(10)
    bench.clock.advance(hours=23)
    upload = bench.engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    bench.clock.advance(hours=23)
    upload = bench.engine.append.stream(upload, 3, 6, ScriptedReader(b"def"))
    bench.clock.advance(hours=24)
    with pytest.raises(UploadExpired):
        bench.engine.append.stream(upload, 6, 9, ScriptedReader(b"ghi"))


def test_a_take_over_is_no_activity(bench: Bench) -> None:
    upload = bench.create(10)
    bench.clock.advance(hours=23)
    taken = bench.engine.append.take_over(upload)
    assert bench.engine.expiry.expires_at(taken) == upload.created_at + timedelta(
        days=1
    )


def test_without_expiration_uploads_live_for_ever() -> None:
    bench = Bench(expiration=None)
    upload = bench.create(10)
    bench.clock.advance(days=10_000)
    assert bench.engine.expiry.expires_at(upload) is None
    assert list(bench.engine.remove.expirable(expired_too=True)) == []
    bench.engine.expiry.require_live(upload)


def test_taking_over_a_complete_upload_reads_it(bench: Bench) -> None:
    upload = bench.filled()
    done = bench.engine.complete.request(upload, None).upload
    assert bench.engine.append.take_over(upload) == bench.row(upload)
    assert bench.row(upload).fence == done.fence


# -- bodies that need not reach the end ------------------------------------------------


def test_an_inexact_body_may_end_before_the_stop(bench: Bench) -> None:
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


def test_an_inexact_body_that_is_interrupted_raises(bench: Bench) -> None:
    upload = bench.create(10)
    with pytest.raises(BodyInterrupted):
        bench.engine.append.stream(
            upload, 0, 10, ScriptedReader(b"abc", disconnect()), exact=False
        )
    assert bench.row(upload).offset == 3
