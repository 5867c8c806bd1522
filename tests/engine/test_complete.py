"""Completion: digests, races, crashes, delivery."""

from __future__ import annotations

import errno
import hashlib
import io
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from flask_chunked.engine.complete import ATTEMPTS
from flask_chunked.engine.records import ExpectedDigest, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    BytesMissing,
    ChecksumMismatch,
    ChunkedUploadError,
    CompletionInProgress,
    DatabaseUnavailable,
    Incomplete,
    StorageError,
    UnknownUpload,
    UploadExpired,
)
from flask_chunked.storage.base import Receipt
from flask_chunked.storage.memory import MemoryAppender
from tests.engine.fakes import Bench, ScriptedReader, idle_since

CONTENT = b"0123456789"


def md5(content: bytes = CONTENT) -> ExpectedDigest:
    return ExpectedDigest("md5", hashlib.md5(content).hexdigest())


WRONG = ExpectedDigest("md5", "0" * 32)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def upload(bench: Bench) -> Upload:
    return bench.filled(CONTENT)


def test_all_bytes_and_the_right_digest_complete(bench: Bench, upload: Upload) -> None:
    done = bench.engine.complete.request(upload, md5())
    assert done.completed_now
    row = bench.row(upload)
    assert (row.status, row.digest) == (Status.COMPLETE, f"md5:{md5().hexdigest}")
    assert row.event_id is not None
    assert row.delivered_at is not None
    hooks = [name for name, _ in bench.policy.calls]
    assert hooks[-3:] == ["verify", "completed", "deliver"]


@pytest.mark.parametrize("shape", [str.upper, str.lower, lambda text: f" {text} "])
def test_hex_digests_compare_in_any_case(
    bench: Bench, upload: Upload, shape: object
) -> None:
    assert callable(shape)
    bench.engine.complete.request(upload, ExpectedDigest("md5", shape(md5().hexdigest)))
    assert bench.row(upload).is_complete


@pytest.mark.parametrize("text", ["0" * 32, "", "ä", "xyz", "0" * 5000])
def test_a_wrong_digest_changes_nothing(
    bench: Bench, upload: Upload, text: str
) -> None:
    with pytest.raises(ChecksumMismatch):
        bench.engine.complete.request(upload, ExpectedDigest("md5", text))
    row = bench.row(upload)
    assert (row.status, row.event_id, row.offset) == (Status.UPLOADING, None, 10)
    assert bench.engine.complete.request(upload, md5()).completed_now


def test_an_unrequested_digest_is_not_stored(bench: Bench, upload: Upload) -> None:
    bench.engine.complete.request(upload, None)
    assert bench.row(upload).digest is None


@pytest.mark.parametrize("length", [20, None])
def test_missing_bytes_are_reported(bench: Bench, length: int | None) -> None:
    upload = bench.create(length)
    bench.engine.append.stream(upload, 0, None, ScriptedReader(CONTENT))
    with pytest.raises(Incomplete) as caught:
        bench.engine.complete.request(upload, md5())
    assert (caught.value.offset, caught.value.length) == (10, length)


def test_an_upload_that_is_being_finished_does_not_expire(bench: Bench) -> None:
    upload = bench.filled()
    limit = idle_since(bench)
    bench.clock.advance(seconds=1)
    bench.repository.failing = {"complete"}
    with pytest.raises(DatabaseUnavailable):
        bench.engine.complete.request(upload, None)
    assert bench.engine.remove.expire(upload, limit, keep_record=False) is None


def test_an_empty_file_completes(bench: Bench) -> None:
    upload = bench.create(0)
    bench.engine.complete.request(upload, md5(b""))
    assert bench.stored(upload) == b""


def test_a_repeated_completion_gives_the_same_answer(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.complete.request(upload, md5())
    again = bench.engine.complete.request(upload, md5())
    assert not again.completed_now
    assert again.upload == bench.row(upload)
    assert len(bench.policy.seen("deliver")) == 1


def test_a_repeat_that_wants_no_digest_compares_none(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.complete.request(upload, md5())
    assert not bench.engine.complete.request(upload, None).completed_now


def test_a_repeat_with_a_wrong_digest_is_refused_and_it_stays_complete(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.complete.request(upload, md5())
    with pytest.raises(ChecksumMismatch):
        bench.engine.complete.request(upload, WRONG)
    assert bench.row(upload).is_complete


def test_a_file_finished_without_digest_is_compared_by_reading(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.complete.request(upload, None)
    assert not bench.engine.complete.request(upload, md5()).completed_now
    with pytest.raises(ChecksumMismatch):
        bench.engine.complete.request(upload, WRONG)


def test_a_file_that_was_moved_away_has_nothing_to_compare(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.complete.request(upload, None)
    bench.repository.rows[upload.id] = replace(bench.row(upload), storage_key=None)
    assert not bench.engine.complete.request(upload, WRONG).completed_now


def test_verify_refuses_and_is_asked_again(bench: Bench, upload: Upload) -> None:
    bench.policy.refusals["verify"] = ChunkedUploadError("infected", status=422)
    for _ in range(2):
        with pytest.raises(ChunkedUploadError, match="infected"):
            bench.engine.complete.request(upload, md5())
        assert bench.row(upload).status is Status.UPLOADING
    bench.policy.refusals.clear()
    assert bench.engine.complete.request(upload, md5()).completed_now


@pytest.mark.parametrize("step", ["complete", "verify"])
def test_a_completion_whose_process_died_is_repeated(
    bench: Bench, upload: Upload, step: str
) -> None:
    if step == "verify":
        bench.policy.refusals["verify"] = KeyboardInterrupt()
    else:
        bench.repository.failing = {"complete"}
    with pytest.raises((DatabaseUnavailable, KeyboardInterrupt)):
        bench.engine.complete.request(upload, md5())
    assert bench.row(upload).status is Status.COMPLETING
    bench.policy.refusals.clear()
    bench.repository.failing = set()
    assert bench.engine.complete.request(upload, md5()).completed_now
    assert bench.stored(upload) == CONTENT


def test_the_loser_of_two_completions_repeats_the_answer(
    bench: Bench, upload: Upload
) -> None:
    bench.policy.verifies = False

    def win_first(name: str) -> None:
        if name == "complete":
            bench.repository.before = lambda _: None
            bench.engine.complete.request(upload, md5())

    bench.repository.before = win_first
    answer = bench.engine.complete.request(upload, md5())
    assert not answer.completed_now
    assert answer.upload == bench.row(upload)
    assert len(bench.policy.seen("deliver")) == 1


def test_a_wrong_digest_at_the_same_time_does_not_stop_a_right_one(
    bench: Bench, upload: Upload
) -> None:
    bench.policy.verifies = False

    def interfere(name: str) -> None:
        if name == "complete":
            bench.repository.before = lambda _: None
            with pytest.raises(ChecksumMismatch):
                bench.engine.complete.request(upload, WRONG)

    bench.repository.before = interfere
    assert bench.engine.complete.request(upload, md5()).completed_now


def test_endless_interference_asks_the_client_to_retry(
    bench: Bench, upload: Upload
) -> None:
    interfered = 0

    def interfere(name: str) -> None:
        nonlocal interfered
        if name == "complete":
            interfered += 1
            bench.repository.refuse_completion(upload.id, bench.row(upload).fence)

    bench.repository.before = interfere
    with pytest.raises(DatabaseUnavailable):
        bench.engine.complete.request(upload, md5())
    assert interfered == ATTEMPTS


@pytest.mark.parametrize("expected", [None, md5()], ids=["unchecked", "checked"])
@pytest.mark.parametrize(
    ("keep", "error"), [(False, UnknownUpload), (True, UploadExpired)]
)
def test_an_upload_removed_during_completion_is_reported(
    bench: Bench,
    upload: Upload,
    expected: ExpectedDigest | None,
    keep: bool,
    error: type[Exception],
) -> None:
    begin = bench.repository.begin_completion

    def begin_then_lose(upload_id: UUID, *asked: Any) -> Upload | None:
        begun = begin(upload_id, *asked)
        bench.engine.remove.expire(
            bench.row(upload), idle_since(bench), keep_record=keep
        )
        return begun

    bench.repository.begin_completion = begin_then_lose  # type: ignore[assignment, method-assign]
    with pytest.raises(error):
        bench.engine.complete.request(upload, expected)


def test_completing_an_upload_that_is_being_removed_is_unknown(
    bench: Bench, upload: Upload
) -> None:
    bench.repository.begin_termination(upload.id)
    with pytest.raises(UnknownUpload):
        bench.engine.complete.request(upload, None)


@pytest.mark.parametrize("expected", [None, md5()], ids=["unchecked", "checked"])
def test_missing_files_are_reported(
    bench: Bench, upload: Upload, expected: ExpectedDigest | None
) -> None:
    assert upload.blob is not None
    bench.storage.delete(upload.blob)
    with pytest.raises(BytesMissing):
        bench.engine.complete.request(upload, expected)


def test_unreadable_bytes_are_reported_and_completion_succeeds_later(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BadSector(io.BytesIO):
        def readinto(self, buffer: object) -> int:
            raise OSError(errno.EIO, "bad sector")

    with monkeypatch.context() as patch:
        patch.setattr(bench.storage, "open", lambda blob: BadSector())
        with pytest.raises(StorageError):
            bench.engine.complete.request(upload, md5())
    assert bench.row(upload).status is Status.COMPLETING
    assert bench.engine.complete.request(upload, md5()).completed_now


def test_bytes_removed_while_they_are_read_mean_a_removed_upload(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Removed(io.BytesIO):
        def readinto(self, buffer: object) -> int:
            bench.engine.remove.terminate(upload)
            raise OSError("cannot read") from BytesMissing()

    monkeypatch.setattr(bench.storage, "open", lambda blob: Removed())
    with pytest.raises(UnknownUpload):
        bench.engine.complete.request(upload, md5())


# -- delivery --------------------------------------------------------------------------


def test_a_delivery_that_raised_stays_pending(bench: Bench, upload: Upload) -> None:
    bench.policy.refusals["deliver"] = ZeroDivisionError()
    assert bench.engine.complete.request(upload, md5()).completed_now
    row = bench.row(upload)
    assert (row.is_complete, row.delivered_at, row.attempts) == (True, None, 1)
    bench.policy.refusals.clear()
    assert list(bench.engine.complete.deliver_pending(timedelta(seconds=60))) == []
    bench.clock.advance(seconds=60)
    delivered = [
        ok for _, ok in bench.engine.complete.deliver_pending(timedelta(seconds=60))
    ]
    assert delivered == [True]
    assert bench.row(upload).attempts == 2
    events = bench.policy.seen("deliver")
    assert events == [row.event_id, row.event_id]


def test_one_request_delivers_at_a_time(bench: Bench, upload: Upload) -> None:
    done = bench.engine.complete.request(upload, None).upload
    bench.repository.rows[upload.id] = replace(bench.row(upload), delivered_at=None)
    assert bench.engine.complete.deliver(done) is False
    bench.clock.advance(seconds=61)
    assert bench.engine.complete.deliver(done) is True
    assert bench.engine.complete.deliver(done) is False


def test_a_process_that_dies_in_delivery_leaves_it_pending(
    bench: Bench, upload: Upload
) -> None:
    bench.policy.refusals["deliver"] = SystemExit()
    with pytest.raises(SystemExit):
        bench.engine.complete.request(upload, md5())
    assert bench.row(upload).is_complete
    assert bench.row(upload).delivered_at is None


def test_an_event_without_a_deliver_hook_is_delivered_at_once(
    bench: Bench,
) -> None:
    bench.policy.delivers = False
    upload = bench.filled()
    done = bench.engine.complete.request(upload, None).upload
    assert done.delivered_at == done.completed_at == bench.clock.now
    assert bench.policy.seen("deliver") == []
    assert list(bench.engine.complete.deliver_pending(timedelta(0))) == []


# -- with the last byte ----------------------------------------------------------------


def append_last(bench: Bench, upload: Upload, *script: object) -> Upload:
    reader = ScriptedReader(*script)  # type: ignore[arg-type]
    start, stop = upload.offset, upload.length
    return bench.engine.append.stream(
        upload, start, stop, reader, exact=False, finishing=True
    )


def test_completion_begins_with_the_commit_of_the_last_byte(bench: Bench) -> None:
    part = append_last(bench, bench.create(), b"01234")
    assert part.status is Status.UPLOADING
    begun = append_last(bench, part, b"56789")
    assert begun == bench.row(begun)
    assert begun.status is Status.COMPLETING
    done = bench.engine.complete.finish(begun)
    assert done.completed_now
    assert bench.row(begun).is_complete
    hooks = [name for name, _ in bench.policy.calls]
    assert hooks[-4:] == ["chunk_received", "verify", "completed", "deliver"]


def test_completion_does_not_begin_where_the_length_is_unknown(bench: Bench) -> None:
    assert append_last(bench, bench.create(None), CONTENT).status is Status.UPLOADING


def test_staged_chunk_begins_completion_too(bench: Bench) -> None:
    upload = bench.create()
    stage = bench.storage.stage()
    stage.write(CONTENT)
    begun = bench.engine.append.whole(upload, 0, stage, finishing=True)
    assert begun.status is Status.COMPLETING
    assert bench.engine.complete.finish(begun).completed_now


def test_completion_begun_with_the_last_byte_survives_its_process(bench: Bench) -> None:
    begun = append_last(bench, bench.create(), CONTENT)
    with pytest.raises(CompletionInProgress):
        bench.engine.complete.request(bench.row(begun), md5())
    bench.clock.advance(seconds=60)
    assert bench.engine.complete.request(bench.row(begun), md5()).completed_now


def test_a_completion_that_another_request_ended_begins_again(bench: Bench) -> None:
    bench.policy.verifies = False
    part = append_last(bench, bench.create(), CONTENT[:5])
    begun = append_last(bench, part, CONTENT[5:])
    assert begun.status is Status.COMPLETING

    def refuse(name: str) -> None:
        if name == "complete":
            bench.repository.before = lambda _: None
            with pytest.raises(ChecksumMismatch):
                bench.engine.complete.request(begun, WRONG)

    bench.repository.before = refuse
    assert bench.engine.complete.finish(begun).completed_now
    assert bench.row(begun).is_complete


def test_a_storage_failure_at_the_last_byte_is_no_take_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The received bytes are committed, and that commit bumps this request's fence."""
    flush = MemoryAppender.flush
    failures = [StorageError()]

    def fail_once(appender: MemoryAppender) -> Receipt:
        if failures:
            raise failures.pop()
        return flush(appender)

    monkeypatch.setattr(MemoryAppender, "flush", fail_once)
    upload = bench.create()
    with pytest.raises(StorageError):
        append_last(bench, upload, CONTENT)
    assert bench.row(upload).status is Status.COMPLETING
    assert bench.engine.complete.request(bench.row(upload), md5()).completed_now


def test_a_verification_that_just_failed_is_repeated(bench: Bench) -> None:
    upload = bench.filled()
    stale = bench.clock() - timedelta(seconds=60)
    other = bench.repository.begin_completion(upload.id, bench.clock(), stale)
    assert other is not None

    def refused(name: str) -> None:
        if name == "get":
            bench.repository.before = lambda name: None
            bench.repository.refuse_completion(other.id, other.fence)

    bench.repository.before = refused
    assert bench.engine.complete.request(upload, None).completed_now
