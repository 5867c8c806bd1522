"""Creation with a short first body, completion in one statement, and quotas."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flask_chunked.engine.records import ExpectedDigest, NewUpload, Quota, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    BodyInterrupted,
    BytesMissing,
    ChecksumMismatch,
    CommitUnanswered,
    DatabaseUnavailable,
    InvalidFields,
    StorageError,
    StorageFull,
    Superseded,
    TooManyUploads,
    UnknownUpload,
)
from flask_chunked.storage.base import Blob
from tests.engine.fakes import Bench, ScriptedReader

CONTENT = b"0123456789"
MD5 = ExpectedDigest("md5", hashlib.md5(CONTENT).hexdigest())
HEARD = ("created", "chunk_received", "completed", "deliver")


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.policy.inspects = bench.policy.verifies = False
    return bench


def short(*script: object) -> ScriptedReader:
    reader = ScriptedReader(*script)  # type: ignore[arg-type]
    reader.is_short = True
    return reader


def new(length: int | None = len(CONTENT), **more: Any) -> NewUpload:
    return NewUpload("ann", "a.bin", length=length, dialect="test", **more)


def calls_of(bench: Bench) -> list[str]:
    calls: list[str] = []
    bench.repository.before = calls.append
    return calls


def heard(bench: Bench) -> list[str]:
    return [name for name, _ in bench.policy.calls if name in HEARD]


def create(
    bench: Bench, reader: ScriptedReader, size: int | None = 10, **more: Any
) -> Upload:
    return bench.engine.create.with_body(new(**more), reader, size, finishing=True)


# -- creation with all bytes -----------------------------------------------------------


def test_all_bytes_are_one_statement_and_complete(bench: Bench) -> None:
    calls = calls_of(bench)
    upload = create(bench, short(CONTENT))
    assert calls == ["create", "claim_delivery", "mark_delivered"]
    row = bench.row(upload)
    assert (row.status, row.offset, row.last_start) == (Status.COMPLETE, 10, 0)
    assert row.completed_at == row.created_at == bench.clock()
    assert row.event_id is not None
    assert bench.stored(upload) == CONTENT
    assert list(bench.storage.finished) == [row.storage_key]
    assert bench.storage.unfinished == {}
    assert heard(bench) == list(HEARD)


def test_event_without_a_deliver_hook_is_delivered_with_the_row(bench: Bench) -> None:
    bench.policy.delivers = False
    calls = calls_of(bench)
    row = bench.row(create(bench, short(CONTENT)))
    assert calls == ["create"]
    assert row.event_id is not None
    assert row.delivered_at == bench.clock()
    assert heard(bench) == ["created", "chunk_received", "completed"]


def test_first_bytes_are_a_chunk_like_any_other(bench: Bench) -> None:
    upload = create(bench, short(CONTENT[:4]), 4, hash_name="md5")
    row = bench.row(upload)
    assert (row.status, row.offset, row.last_start) == (Status.UPLOADING, 4, 0)
    assert bench.engine.append.is_repeat(
        row, 0, 4, hashlib.sha256(CONTENT[:4]).hexdigest()
    )
    row = bench.engine.append.stream(row, 4, 10, ScriptedReader(CONTENT[4:]))
    assert bench.engine.complete.request(row, MD5).completed_now
    assert bench.row(upload).digest == f"md5:{MD5.hexdigest}"
    assert bench.stored(upload) == CONTENT


def test_length_may_come_later(bench: Bench) -> None:
    upload = create(bench, short(CONTENT), length=None)
    assert (upload.status, upload.offset) == (Status.UPLOADING, 10)
    assert heard(bench) == ["created", "chunk_received"]


def test_creation_without_finishing_leaves_the_upload_open(bench: Bench) -> None:
    upload = bench.engine.create.with_body(new(), short(CONTENT), 10, finishing=False)
    assert (upload.status, upload.offset) == (Status.UPLOADING, 10)
    assert list(bench.storage.unfinished) == [upload.storage_key]


def test_content_in_memory_is_stored_at_creation(bench: Bench) -> None:
    assert bench.engine.create.fills_first
    upload = bench.engine.create.with_content(new(), bytearray(CONTENT))
    assert (upload.status, upload.offset) == (Status.UPLOADING, 10)
    assert bench.stored(upload) == CONTENT


def test_content_in_memory_counts_in_the_quota(bench: Bench) -> None:
    bench.policy.limits = Quota(max_uploads=1, max_bytes=None, reserve=0)
    upload = bench.engine.create.with_content(new(), CONTENT)
    assert upload.reserved == 10


def _with(**changes: object) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        for name, value in changes.items():
            setattr(bench.policy, name, value)

    return change


def _on_another_storage(bench: Bench) -> None:
    bench.storage.finishes_first = False


LONG_WAYS: dict[str, tuple[Callable[[Bench], None], dict[str, Any]]] = {
    "inspect": (_with(inspects=True), {}),
    "verify": (_with(verifies=True), {}),
    "quota": (_with(limits=Quota(9, None, 0)), {}),
    "partial": (_with(), {"partial": True}),
    "storage": (_on_another_storage, {}),
    "nothing announced": (_with(), {"size": None}),
    "nothing comes": (_with(), {"size": 0}),
}


@pytest.mark.parametrize(("change", "more"), LONG_WAYS.values(), ids=LONG_WAYS)
def test_row_is_inserted_first_where_a_hook_or_rule_needs_it(
    bench: Bench, change: Callable[[Bench], None], more: dict[str, Any]
) -> None:
    change(bench)
    reader = short(CONTENT)
    upload = create(bench, reader, **more)
    assert (upload.status, upload.offset) == (Status.UPLOADING, 0)
    assert not reader.ended
    assert list(bench.storage.stored()) == []


def test_row_is_inserted_first_for_a_long_body(bench: Bench) -> None:
    assert create(bench, ScriptedReader(CONTENT)).offset == 0


def test_body_of_a_slow_client_waits_for_the_row(bench: Bench) -> None:
    reader = short(CONTENT[:3], None, CONTENT[3:])
    upload = create(bench, reader)
    assert (upload.offset, heard(bench)) == (0, ["created"])
    upload = bench.engine.append.stream_first(upload, 10, reader)
    assert bench.stored(upload) == CONTENT


def test_client_that_disconnects_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(BodyInterrupted):
        create(bench, short(BodyInterrupted()))
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []


# -- creation that fails ---------------------------------------------------------------


def test_bytes_that_cannot_be_stored_make_no_upload(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(blob: Blob, content: bytes, *, finished: bool) -> None:
        raise StorageFull

    monkeypatch.setattr(bench.storage, "put", put)
    with pytest.raises(StorageFull):
        create(bench, short(CONTENT))
    assert bench.repository.rows == {}
    assert heard(bench) == []


@pytest.mark.parametrize("error", [DatabaseUnavailable(), InvalidFields({})])
@pytest.mark.parametrize("deletes", [True, False])
def test_refused_row_removes_the_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, deletes: bool
) -> None:
    def refuse(name: str) -> None:
        if name == "create":
            raise error

    def delete(blob: Blob) -> None:
        raise StorageError

    bench.repository.before = refuse
    if not deletes:
        # The file stays for ``check``, and the first error is raised.
        monkeypatch.setattr(bench.storage, "delete", delete)
    with pytest.raises(type(error)):
        create(bench, short(CONTENT))
    assert len(list(bench.storage.stored())) == (0 if deletes else 1)
    assert heard(bench) == []


def test_bytes_stay_where_the_row_may_exist(bench: Bench) -> None:
    def lose(name: str) -> None:
        raise CommitUnanswered

    bench.repository.before = lose
    with pytest.raises(CommitUnanswered):
        create(bench, short(CONTENT))
    assert len(list(bench.storage.stored())) == 1


# -- all bytes in one body -------------------------------------------------------------


def append_all(bench: Bench, upload: Upload) -> Upload:
    return bench.engine.append.stream(upload, 0, 10, short(CONTENT), finishing=True)


def test_all_bytes_finish_an_upload_with_one_statement(bench: Bench) -> None:
    upload = bench.create()
    calls = calls_of(bench)
    done = append_all(bench, upload)
    assert done.is_complete
    assert [call for call in calls if call != "holds"] == [
        *("advance", "claim_delivery", "mark_delivered")
    ]
    delivered = bench.row(upload)
    assert delivered.delivered_at is not None
    assert done == replace(
        delivered, delivered_at=None, delivery_started_at=None, attempts=0
    )
    assert bench.stored(upload) == CONTENT
    assert bench.storage.unfinished == {}
    assert heard(bench) == list(HEARD)


@pytest.mark.parametrize("name", ["verify", "partial", "quota", "storage"])
def test_all_bytes_begin_completion_where_one_statement_cannot_end_it(
    bench: Bench, name: str
) -> None:
    change, more = LONG_WAYS[name]
    change(bench)
    upload = bench.create(**more)
    begun = append_all(bench, upload)
    assert begun.status is Status.COMPLETING
    assert bench.engine.complete.finish(begun).completed_now
    assert bench.stored(upload) == CONTENT


def test_finished_file_of_a_crash_is_replaced_by_completion_only(bench: Bench) -> None:
    upload = bench.create()
    assert upload.blob is not None
    with bench.storage.put(upload.blob, b"of one that died", finished=True):
        pass
    begun = append_all(bench, upload)
    assert begun.status is Status.COMPLETING
    bench.engine.complete.finish(begun)
    assert bench.stored(upload) == CONTENT


def test_last_bytes_of_several_chunks_only_begin_completion(bench: Bench) -> None:
    upload = bench.create()
    upload = bench.engine.append.stream(upload, 0, 4, short(CONTENT[:4]))
    begun = bench.engine.append.stream(
        upload, 4, 10, short(CONTENT[4:]), finishing=True
    )
    assert begun.status is Status.COMPLETING


def test_body_in_several_blocks_only_begins_completion(bench: Bench) -> None:
    upload = bench.create()
    half = short(CONTENT[:5], CONTENT[5:])
    assert bench.engine.append.stream(upload, 0, 10, half, finishing=True).offset == 10
    assert bench.row(upload).status is Status.COMPLETING


def test_body_below_its_length_completes_nothing(bench: Bench) -> None:
    upload = bench.create()
    upload = bench.engine.append.stream(
        upload, 0, 10, short(CONTENT[:4]), exact=False, finishing=True
    )
    assert (upload.status, upload.offset) == (Status.UPLOADING, 4)


def test_upload_that_was_taken_over_gets_no_finished_file(bench: Bench) -> None:
    upload = bench.create()
    bench.engine.append.take_over(upload)
    with pytest.raises(Superseded):
        append_all(bench, upload)
    assert (bench.row(upload).status, bench.row(upload).offset) == (
        Status.UPLOADING,
        0,
    )
    assert list(bench.storage.stored()) == []
    assert append_all(bench, bench.row(upload)).is_complete


# -- completion of what is there -------------------------------------------------------


def filled(bench: Bench) -> Upload:
    return bench.engine.create.with_content(new(hash_name="md5"), CONTENT)


@pytest.mark.parametrize("expected", [MD5, None])
def test_completion_is_one_statement(
    bench: Bench, expected: ExpectedDigest | None
) -> None:
    upload = filled(bench)
    calls = calls_of(bench)
    done = bench.engine.complete.request(upload, expected)
    assert done.completed_now
    assert calls == ["finish", "claim_delivery", "mark_delivered"]
    row = bench.row(upload)
    assert row.is_complete
    assert row.digest == (f"md5:{MD5.hexdigest}" if expected else None)
    assert bench.stored(upload) == CONTENT
    assert heard(bench) == list(HEARD)


def test_wrong_digest_changes_nothing(bench: Bench) -> None:
    upload = filled(bench)
    calls = calls_of(bench)
    with pytest.raises(ChecksumMismatch):
        bench.engine.complete.request(upload, ExpectedDigest("md5", "0" * 32))
    assert calls == []
    assert bench.row(upload) == upload
    assert list(bench.storage.unfinished) == [upload.storage_key]


def test_digest_that_was_not_computed_is_read(bench: Bench) -> None:
    upload = bench.engine.create.with_content(new(), CONTENT)
    calls = calls_of(bench)
    assert bench.engine.complete.request(upload, MD5).completed_now
    assert calls[0] == "begin_completion"


def test_completion_begins_again_after_a_take_over(bench: Bench) -> None:
    upload = filled(bench)
    bench.engine.append.take_over(upload)
    calls = calls_of(bench)
    assert bench.engine.complete.request(upload, MD5).completed_now
    assert calls[:3] == ["finish", "begin_completion", "complete"]
    assert bench.stored(upload) == CONTENT


def test_concurrent_completions_complete_it_once(bench: Bench) -> None:
    upload = filled(bench)

    def another(name: str) -> None:
        if name == "finish":
            bench.repository.before = lambda name: None
            assert bench.engine.complete.request(upload, MD5).completed_now

    bench.repository.before = another
    assert not bench.engine.complete.request(upload, MD5).completed_now
    assert heard(bench) == list(HEARD)


def test_completion_that_has_begun_continues(bench: Bench) -> None:
    upload = filled(bench)
    begun = bench.repository.begin_completion(upload.id, bench.clock(), None)
    assert begun is not None
    calls = calls_of(bench)
    assert bench.engine.complete.request(begun, MD5).completed_now
    assert calls[:2] == ["begin_completion", "complete"]


def test_removed_upload_is_unknown(bench: Bench) -> None:
    upload = filled(bench)
    bench.engine.remove.terminate(upload)
    with pytest.raises(UnknownUpload):
        bench.engine.complete.request(upload, MD5)
    assert list(bench.storage.stored()) == []


def test_missing_bytes_are_reported(bench: Bench) -> None:
    upload = filled(bench)
    assert upload.blob is not None
    bench.storage.delete(upload.blob)
    with pytest.raises(BytesMissing):
        bench.engine.complete.request(upload, MD5)


# -- quotas ----------------------------------------------------------------------------

ONE = Quota(max_uploads=1, max_bytes=None, reserve=0)


@pytest.fixture
def limited() -> Bench:
    """One unfinished upload is allowed."""
    bench = Bench()
    bench.policy.limits = ONE
    return bench


def test_the_upload_stores_what_its_quota_counts(limited: Bench) -> None:
    assert limited.create(10).reserved == 10
    limited.policy.limits = None
    assert limited.create(10).reserved is None


@pytest.mark.parametrize("expiration", [timedelta(days=1), None])
def test_a_full_quota_refuses_before_the_body_and_at_creation(
    expiration: timedelta | None,
) -> None:
    limited = Bench(expiration=expiration)
    limited.policy.limits = ONE
    upload = limited.create(10)
    with pytest.raises(TooManyUploads):
        limited.engine.create.require_room(upload.user, 10)
    with pytest.raises(TooManyUploads):
        limited.create(10)
    assert list(limited.repository.rows) == [upload.id]
    limited.engine.create.require_room("bob", 10)
    limited.policy.limits = None
    limited.engine.create.require_room(upload.user, 10)


@pytest.mark.parametrize("ask", ["require_room", "create"])
def test_expired_uploads_make_room(limited: Bench, ask: str) -> None:
    old = limited.filled(b"abc")
    limited.clock.advance(days=2)
    made: Upload | None = None
    if ask == "create":
        made = limited.create(10)
    else:
        limited.engine.create.require_room(old.user, 10)
    assert set(limited.repository.rows) == ({made.id} if made else set())
    assert list(limited.storage.stored()) == []
    assert limited.policy.seen("expired") == [3]


def test_an_upload_that_another_request_completes_is_not_discarded(
    limited: Bench,
) -> None:
    upload = limited.filled()

    def interfere(name: str) -> None:
        if name == "begin_termination":
            limited.repository.before = lambda name: None
            limited.engine.complete.request(upload, None)

    limited.repository.before = interfere
    limited.engine.remove.discard(upload)
    assert limited.row(upload).is_complete
    assert limited.stored(upload) == b"0123456789"
