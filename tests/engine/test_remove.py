"""Removal: termination, expiry, discarded uploads, uncommitted bytes, members."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest

from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    BodyInterrupted,
    DatabaseUnavailable,
    StorageError,
    UnknownUpload,
    UploadExpired,
    UploadInUse,
)
from tests.engine.fakes import Bench, ScriptedReader, disconnect


@pytest.fixture
def bench() -> Bench:
    """Partial uploads are not kept."""
    bench = Bench()
    bench.policy.keeps_partials = False
    return bench


@pytest.fixture
def upload(bench: Bench) -> Upload:
    """An upload with all its bytes."""
    return bench.filled(b"0123456789")


# -- termination, expiry and discarded uploads -----------------------------------------


def test_termination_removes_bytes_and_row(bench: Bench, upload: Upload) -> None:
    bench.engine.remove.terminate(upload)
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []
    with pytest.raises(UnknownUpload):
        bench.engine.remove.terminate(upload)


def test_a_termination_that_the_database_does_not_answer_changes_nothing(
    bench: Bench, upload: Upload
) -> None:
    bench.repository.failing = {"terminate"}
    with pytest.raises(DatabaseUnavailable):
        bench.engine.remove.terminate(upload)
    assert bench.row(upload) == upload
    assert len(list(bench.storage.stored())) == 1


def test_a_moved_file_leaves_only_a_record_to_remove(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.complete.request(upload, None)
    bench.repository.rows[upload.id] = replace(bench.row(upload), storage_key=None)
    bench.engine.remove.terminate(upload)
    assert bench.repository.rows == {}


@pytest.mark.parametrize("keep", [False, True], ids=["remove", "keep"])
def test_expiry_removes_bytes_and_maybe_the_record(bench: Bench, keep: bool) -> None:
    upload = bench.filled()
    bench.clock.advance(days=2)
    for candidate, before in bench.engine.remove.expirable(expired_too=not keep):
        assert bench.engine.remove.expire(candidate, before, keep_record=keep)
    assert list(bench.storage.stored()) == []
    assert (upload.id in bench.repository.rows) is keep
    assert bench.policy.seen("expired") == [10]
    if keep:
        with pytest.raises(UploadExpired):
            bench.engine.expiry.require_live(bench.row(upload))
        again = list(bench.engine.remove.expirable(expired_too=False))
        assert again == []
        for candidate, before in bench.engine.remove.expirable(expired_too=True):
            bench.engine.remove.expire(candidate, before, keep_record=False)
        assert bench.repository.rows == {}
        assert bench.policy.seen("expired") == [10]


def test_a_lifetime_ends_however_active_the_upload_is() -> None:
    bench = Bench(lifetime=timedelta(hours=30))
    upload = bench.create(10)
    for _ in range(2):
        bench.clock.advance(hours=14)
        upload = bench.engine.append.stream(
            upload, upload.offset, None, ScriptedReader(b"ab"), exact=False
        )
    assert bench.engine.expiry.expires_at(upload) == upload.created_at + timedelta(
        hours=30
    )
    assert list(bench.engine.remove.expirable(expired_too=True)) == []
    bench.clock.advance(hours=2)
    with pytest.raises(UploadExpired):
        bench.engine.expiry.require_live(upload)
    ((candidate, cutoff),) = bench.engine.remove.expirable(expired_too=True)
    assert bench.engine.remove.expire(candidate, cutoff, keep_record=False)
    assert bench.repository.rows == {}


def test_a_lifetime_alone_keeps_idle_uploads() -> None:
    bench = Bench(expiration=None, lifetime=timedelta(days=3))
    upload = bench.create(10)
    bench.clock.advance(days=2)
    bench.engine.expiry.require_live(upload)
    assert list(bench.engine.remove.expirable(expired_too=True)) == []
    bench.clock.advance(days=1)
    assert [
        found.id for found, _ in bench.engine.remove.expirable(expired_too=True)
    ] == [upload.id]


def test_an_upload_with_new_activity_does_not_expire(bench: Bench) -> None:
    upload = bench.create(10)
    bench.clock.advance(days=2)
    ((candidate, before),) = bench.engine.remove.expirable(expired_too=True)
    bench.repository.rows[upload.id] = replace(
        bench.row(upload), last_activity_at=bench.clock()
    )
    assert bench.engine.remove.expire(candidate, before, keep_record=False) is None
    assert upload.id in bench.repository.rows


def test_a_complete_upload_never_expires(bench: Bench, upload: Upload) -> None:
    bench.engine.complete.request(upload, None)
    bench.clock.advance(days=2)
    assert list(bench.engine.remove.expirable(expired_too=True)) == []
    bench.engine.expiry.require_live(bench.row(upload))


@pytest.mark.parametrize("started", [False, True])
def test_an_upload_whose_creation_failed_is_discarded(
    bench: Bench, started: bool
) -> None:
    upload = bench.create(10)
    if started:
        bench.engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    bench.engine.remove.discard(upload, unless_started=True)
    assert (upload.id in bench.repository.rows) is started
    bench.engine.remove.discard(upload)
    assert bench.repository.rows == {}
    bench.engine.remove.discard(upload)


@pytest.mark.parametrize("error", [None, StorageError(), KeyboardInterrupt()], ids=repr)
def test_a_creating_request_that_fails_leaves_nothing(
    bench: Bench, error: BaseException | None
) -> None:
    upload = bench.create(10)
    with (
        nullcontext() if error is None else pytest.raises(type(error)),
        bench.engine.remove.discarding(upload),
    ):
        if error is not None:
            raise error
    assert (upload.id in bench.repository.rows) is (error is None)


@pytest.mark.parametrize("started", [False, True])
def test_a_creating_request_that_fails_may_keep_received_bytes(
    bench: Bench, started: bool
) -> None:
    upload = bench.create(10)
    with (
        pytest.raises(BodyInterrupted),
        bench.engine.remove.discarding(upload, unless_started=True),
    ):
        script = [b"abc", disconnect()] if started else [disconnect()]
        bench.engine.append.stream(upload, 0, 10, ScriptedReader(*script))
    assert (upload.id in bench.repository.rows) is started


def test_discarding_an_upload_that_another_request_removes_succeeds(
    bench: Bench,
) -> None:
    upload = bench.create(10)

    def interfere(name: str) -> None:
        if name == "terminate":
            bench.repository.before = lambda _: None
            bench.engine.remove.terminate(upload)

    bench.repository.before = interfere
    bench.engine.remove.discard(upload)
    assert bench.repository.rows == {}


def test_a_complete_upload_is_never_discarded(bench: Bench, upload: Upload) -> None:
    bench.engine.complete.request(upload, None)
    bench.engine.remove.discard(upload)
    assert bench.row(upload).is_complete


# -- uploads that other rows refer to --------------------------------------------------


def test_an_upload_in_use_is_not_terminated(bench: Bench, upload: Upload) -> None:
    reader = ScriptedReader(b"abc")
    bench.repository.in_use = {upload.id}
    with (
        bench.engine.readers.register(upload.id, reader),
        pytest.raises(UploadInUse),
    ):
        bench.engine.remove.terminate(upload)
    assert reader.interrupts == 0
    assert bench.row(upload) == upload
    assert len(list(bench.storage.stored())) == 1
    assert bench.policy.seen("terminated") == []


@pytest.mark.parametrize("way", ["discard", "refuse"])
def test_a_refused_upload_in_use_stays_and_the_refusal_is_answered(
    bench: Bench, upload: Upload, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.repository.in_use = {upload.id}
    getattr(bench.engine.remove, way)(upload)
    assert bench.row(upload) == upload
    assert f"{upload.id} is not removed: upload_in_use" in caplog.text


def test_an_expired_upload_in_use_loses_its_bytes_and_keeps_its_record(
    bench: Bench,
) -> None:
    uploads = [bench.filled() for _ in range(3)]
    used = uploads[1]
    bench.repository.in_use = {used.id}
    bench.clock.advance(days=2)
    for run in range(2):
        found = list(bench.engine.remove.expirable(expired_too=True))
        outcomes = list(
            bench.engine.remove.expire_all(
                [one for one, _ in found], found[0][1], keep_records=False
            )
        )
        failed = {one.upload.id for one in outcomes if one.error is not None}
        assert failed == {used.id}
        assert {one.upload.status for one in outcomes} == {Status.EXPIRED}
        assert len(outcomes) == (1 if run else 3)
        assert bench.row(used).status is Status.EXPIRED
        assert list(bench.storage.stored()) == []
        # Announced once.
        assert bench.policy.seen("expired") == [10, 10, 10]


def test_deletions_that_may_not_survive_a_power_failure_are_noted_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def removing() -> Iterator[None]:
        yield
        raise StorageError()

    uploads = [bench.filled() for _ in range(2)]
    bench.clock.advance(days=2)
    cutoff = bench.engine.expiry.cutoff()
    assert cutoff is not None
    monkeypatch.setattr(bench.storage, "removing", removing)
    outcomes = list(bench.engine.remove.expire_all(uploads, cutoff, keep_records=False))
    assert [type(one.error) for one in outcomes] == [StorageError, StorageError]
    assert set(bench.repository.noted) == {one.id for one in uploads}


# -- many uploads ----------------------------------------------------------------------


def test_uploads_that_do_not_expire_are_outcomes_with_their_cause(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = [bench.filled() for _ in range(2)]
    bench.clock.advance(days=2)
    cutoff = bench.engine.expiry.cutoff()
    assert cutoff is not None
    bench.repository.failing = {"expire", "expire_all"}
    outcomes = list(bench.engine.remove.expire_all(uploads, cutoff, keep_records=False))
    assert [type(one.error) for one in outcomes] == [DatabaseUnavailable] * 2
    assert [one.upload.status for one in outcomes] == [one.status for one in uploads]
    assert len(list(bench.storage.stored())) == 2
    assert all(f"{one.id} does not expire" in caplog.text for one in uploads)


@pytest.mark.parametrize("keep", [False, True], ids=["remove", "keep"])
def test_an_upload_with_new_activity_is_no_outcome(bench: Bench, keep: bool) -> None:
    upload = bench.create(10)
    bench.clock.advance(days=2)
    cutoff = bench.engine.expiry.cutoff()
    assert cutoff is not None
    bench.repository.rows[upload.id] = replace(
        bench.row(upload), last_activity_at=bench.clock()
    )
    outcomes = bench.engine.remove.expire_all([upload], cutoff, keep_records=keep)
    assert list(outcomes) == []
    assert bench.row(upload).status is Status.UPLOADING


def test_an_upload_without_bytes_expires(bench: Bench) -> None:
    upload = replace(bench.create(10), storage_key=None)
    bench.repository.rows[upload.id] = upload
    bench.clock.advance(days=2)
    ((candidate, cutoff),) = bench.engine.remove.expirable(expired_too=True)
    expired = bench.engine.remove.expire(candidate, cutoff, keep_record=True)
    assert expired is not None and expired.error is None
    assert bench.row(upload).status is Status.EXPIRED


# -- uncommitted bytes -----------------------------------------------------------------


def with_uncommitted_bytes(bench: Bench) -> Upload:
    """Three committed bytes, followed by three uncommitted ones."""
    upload = bench.create(10)
    bench.engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    bench.repository.failing = {"advance"}
    with pytest.raises(DatabaseUnavailable):
        bench.engine.append.stream(bench.row(upload), 3, 6, ScriptedReader(b"def"))
    bench.repository.failing = set()
    return bench.row(upload)


def test_uncommitted_bytes_can_be_truncated(bench: Bench) -> None:
    upload = with_uncommitted_bytes(bench)
    assert upload.blob is not None
    assert bench.storage.measure(upload.blob) == 6
    assert bench.engine.remove.truncate_uncommitted(upload)
    assert bench.storage.measure(upload.blob) == 3


def test_uncommitted_bytes_of_a_newer_writer_stay(bench: Bench) -> None:
    upload = with_uncommitted_bytes(bench)

    def take(name: str) -> None:
        if name == "holds":
            bench.repository.before = lambda _: None
            bench.repository.take_over(upload.id)

    bench.repository.before = take
    assert not bench.engine.remove.truncate_uncommitted(upload)
    assert upload.blob is not None
    assert bench.storage.measure(upload.blob) == 6
    moved_on = replace(upload, offset=1)
    assert not bench.engine.remove.truncate_uncommitted(moved_on)


def test_a_finished_file_can_be_truncated_but_no_moved_one(
    bench: Bench, upload: Upload
) -> None:
    done = bench.engine.complete.request(upload, None).upload
    assert bench.engine.remove.truncate_uncommitted(done)
    assert not bench.engine.remove.truncate_uncommitted(replace(done, storage_key=None))


# -- members of final uploads ----------------------------------------------------------


def complete(bench: Bench, final: Upload) -> Upload:
    members = bench.engine.concatenate.members(final)
    return bench.engine.concatenate.assemble(bench.row(final), members)


@pytest.fixture
def used(bench: Bench) -> tuple[Upload, Upload]:
    """A partial upload that a complete final is made of, and another final for it."""
    part, late = bench.partial(b"abc"), bench.partial(b"d", 2)
    waiting = bench.final(part, late)
    assert complete(bench, bench.final(part)).is_complete
    return part, waiting


def test_removing_the_last_waiting_final_removes_used_members(
    bench: Bench, used: tuple[Upload, Upload]
) -> None:
    part, waiting = used
    assert part.id in bench.repository.rows
    bench.engine.remove.terminate(waiting)
    assert part.id not in bench.repository.rows


def test_a_member_that_has_expired_is_not_terminated(
    bench: Bench, used: tuple[Upload, Upload]
) -> None:
    part, waiting = used
    bench.clock.advance(days=2)
    bench.engine.remove.terminate(waiting)
    assert part.id in bench.repository.rows
    assert len(bench.policy.seen("terminated")) == 1


def test_a_member_in_use_stays_and_the_final_is_removed(
    bench: Bench, used: tuple[Upload, Upload], caplog: pytest.LogCaptureFixture
) -> None:
    part, waiting = used
    bench.repository.in_use = {part.id}
    bench.engine.remove.terminate(waiting)
    assert waiting.id not in bench.repository.rows
    assert part.id in bench.repository.rows
    assert f"{part.id} is not removed: upload_in_use" in caplog.text


def test_a_final_is_removed_where_its_members_cannot_be_read(
    bench: Bench, used: tuple[Upload, Upload], caplog: pytest.LogCaptureFixture
) -> None:
    part, waiting = used
    bench.repository.failing.add("members")
    bench.engine.remove.terminate(waiting)
    assert waiting.id not in bench.repository.rows
    assert part.id in bench.repository.rows
    assert "are not removed: database_unavailable" in caplog.text
