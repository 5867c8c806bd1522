"""The repository: compare-and-set of bytes, lengths, events, files and quotas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from flask_chunked.database.parts import PartTable
from flask_chunked.database.repository import SQLRepository
from flask_chunked.engine.records import (
    CompletionRecord,
    NewUpload,
    OffsetCommit,
    Quota,
    Upload,
)
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    CommitUnanswered,
    QuotaExceeded,
    TooManyUploads,
)
from flask_chunked.storage.base import Part
from tests.faults.commits import AFTER, BEFORE, NOTHING, lossy

from ..conftest import AppFactory
from .conftest import NOW, Concatenations

EVENT_ID = UUID("0a1b2c3d-0000-4000-8000-000000000000")
RECORD = CompletionRecord(EVENT_ID, delivered=False, digest="md5:0")
LENGTH = 10
SECOND = timedelta(seconds=1)


def create(
    factory: Concatenations, length: int | None = LENGTH, **columns: Any
) -> Upload:
    """An upload of an unknown owner, with these columns."""
    new = NewUpload(None, "a.bin", length=length, dialect="test")
    upload = factory.engine.create.upload(new)
    return at(factory, upload, **columns) if columns else upload


def at(factory: Concatenations, upload: Upload, **columns: Any) -> Upload:
    """The upload after its columns were changed."""
    factory.set(upload, **columns)
    return row_of(factory, upload)


def row_of(factory: Concatenations, upload: Upload) -> Upload:
    """The upload as the database has it."""
    row = factory.repository.get(upload.id)
    assert row is not None
    return row


def step_of(upload: Upload, offset: int, **more: Any) -> OffsetCommit:
    """A move of the upload's offset."""
    step = OffsetCommit(
        upload.id,
        upload.fence,
        upload.offset,
        offset,
        start=upload.offset,
        digest="d",
        state={"n": 1},
        hash_state=b"h",
        at=NOW,
    )
    return replace(step, **more)


def lose_first(fate: str) -> Callable[[int], str]:
    """Lose the answer to the first commit."""
    return lambda number: fate if number == 0 else NOTHING


# -- bytes -----------------------------------------------------------------------------


def test_step_moves_the_offset_and_all_that_belongs_to_it(
    factory: Concatenations,
) -> None:
    upload = create(factory)
    assert factory.repository.advance(step_of(upload, 3))
    assert row_of(factory, upload) == replace(
        upload,
        offset=3,
        last_start=0,
        last_digest="d",
        last_activity_at=NOW,
        storage_state={"n": 1},
        hash_state=b"h",
    )


@pytest.mark.parametrize(
    "other",
    [{"fence": 7}, {"old_offset": 2}, {"offset": LENGTH + 1}],
    ids=["fence", "offset", "beyond the length"],
)
def test_step_of_another_row_moves_nothing(
    factory: Concatenations, other: dict[str, Any]
) -> None:
    upload = create(factory)
    step = replace(step_of(upload, 3), **other)
    assert not factory.repository.advance(step)
    assert row_of(factory, upload) == upload


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.UPLOADING])
def test_step_needs_an_open_upload(factory: Concatenations, status: Status) -> None:
    upload = create(factory, status=status.value)
    assert not factory.repository.advance(step_of(upload, 3))
    assert not factory.repository.holds(upload.id, upload.fence, upload.offset)


def test_step_to_the_end_begins_the_completion(factory: Concatenations) -> None:
    upload = create(factory)
    early = step_of(upload, 3, completes=True, verify_started_at=NOW)
    assert not factory.repository.advance(early)
    assert factory.repository.advance(replace(early, offset=LENGTH))
    row = row_of(factory, upload)
    assert (row.status, row.offset) == (Status.COMPLETING, LENGTH)
    assert (row.fence, row.verify_started_at) == (upload.fence + 1, NOW)


def test_step_to_the_end_may_complete_the_upload(factory: Concatenations) -> None:
    upload = create(factory)
    step = step_of(upload, LENGTH, completes=True, completion=RECORD)
    # The quota of an upload that counts changes in another transaction.
    counted = at(factory, upload, reserved=LENGTH)
    assert not factory.repository.advance(step)
    assert row_of(factory, upload) == counted
    at(factory, upload, reserved=None)
    assert factory.repository.advance(step)
    row = row_of(factory, upload)
    assert (row.status, row.event_id, row.digest) == (
        Status.COMPLETE,
        EVENT_ID,
        "md5:0",
    )
    assert (row.completed_at, row.fence) == (NOW, upload.fence + 1)


def test_fence_is_held_by_the_writer_of_this_offset(factory: Concatenations) -> None:
    upload = create(factory, offset=3)
    table = factory.repository
    assert table.holds(upload.id, upload.fence, 3)
    assert not table.holds(upload.id, upload.fence + 1, 3)
    assert not table.holds(upload.id, upload.fence, 2)
    assert not table.holds(EVENT_ID, upload.fence, 3)


STEPS: dict[str, dict[str, Any]] = {
    "part": {"offset": 3},
    "end": {"completes": True, "verify_started_at": NOW},
    "completion": {"completes": True, "completion": RECORD},
}


@pytest.mark.parametrize("more", STEPS.values(), ids=STEPS)
def test_row_shows_whether_an_unanswered_step_happened(
    factory: Concatenations, more: dict[str, Any]
) -> None:
    upload = create(factory)
    # The storage's state alone does not show it.
    step = replace(step_of(upload, LENGTH), state=None, **more)
    table = factory.repository
    with (
        lossy(factory.database, lose_first(BEFORE)),
        pytest.raises(CommitUnanswered),
    ):
        table.advance(step)
    assert row_of(factory, upload) == upload
    with lossy(factory.database, lose_first(AFTER)) as commits:
        assert table.advance(step)
    assert commits.lost == 1
    assert row_of(factory, upload).offset == step.offset


def test_state_shows_whether_an_unanswered_step_without_bytes_happened(
    factory: Concatenations,
) -> None:
    upload = create(factory)
    step = step_of(upload, 0)
    with (
        lossy(factory.database, lose_first(BEFORE)),
        pytest.raises(CommitUnanswered),
    ):
        factory.repository.advance(step)


# -- parts -----------------------------------------------------------------------------


@pytest.fixture
def with_parts(
    factory: Concatenations, monkeypatch: pytest.MonkeyPatch
) -> SQLRepository:
    """The repository of a storage that keeps parts."""
    parts = PartTable(factory.repository._statements._table)
    factory.database.create_tables([parts.table])
    monkeypatch.setattr(factory.repository, "_parts", parts)
    return factory.repository


def test_parts_are_stored_with_the_offset(
    factory: Concatenations, with_parts: SQLRepository
) -> None:
    upload = create(factory)
    first, second = Part(1, 3, '"a"'), Part(2, 4, '"b"', "c")
    assert with_parts.advance(step_of(upload, 3, parts=(first,)))
    refused = step_of(upload, 7, parts=(second,))
    assert not with_parts.advance(refused)
    assert with_parts.parts(upload.id) == [first]
    assert with_parts.advance(replace(refused, old_offset=3))
    assert with_parts.parts(upload.id) == [first, second]


# -- lengths ---------------------------------------------------------------------------


def test_length_is_declared_once_and_supersedes_writers(
    factory: Concatenations,
) -> None:
    upload = create(factory, None, offset=3)
    table = factory.repository
    declared = table.declare_length(upload, 5, None)
    assert declared == replace(upload, length=5, fence=upload.fence + 1)
    assert table.declare_length(upload, 5, None) is None
    assert row_of(factory, upload) == declared


@pytest.mark.parametrize(
    ("offset", "length"), [(4, 5), (3, 2)], ids=["more bytes", "below the offset"]
)
def test_length_fits_the_bytes_that_were_seen(
    factory: Concatenations, offset: int, length: int
) -> None:
    seen = create(factory, None, offset=3)
    row = at(factory, seen, offset=offset)
    assert factory.repository.declare_length(seen, length, None) is None
    assert row_of(factory, seen) == row


def test_row_shows_whether_an_unanswered_declaration_happened(
    factory: Concatenations,
) -> None:
    upload = create(factory, None)
    table = factory.repository
    with (
        lossy(factory.database, lose_first(BEFORE)),
        pytest.raises(CommitUnanswered),
    ):
        table.declare_length(upload, 5, None)
    with lossy(factory.database, lose_first(AFTER)):
        assert table.declare_length(upload, 5, None) == row_of(factory, upload)
    assert row_of(factory, upload).length == 5


# -- verification and delivery ---------------------------------------------------------


def test_verification_is_noted_for_its_own_request_and_is_activity(
    factory: Concatenations,
) -> None:
    upload = create(factory, status="completing", offset=LENGTH)
    table = factory.repository
    table.note_verification(upload.id, upload.fence - 1, NOW)
    assert row_of(factory, upload) == upload
    table.note_verification(upload.id, upload.fence, NOW)
    noted = row_of(factory, upload)
    assert noted.verify_started_at == noted.last_activity_at == NOW
    table.note_verification(upload.id, upload.fence, None)
    assert row_of(factory, upload) == replace(noted, verify_started_at=None)


def test_one_request_delivers_a_pending_event_at_a_time(
    factory: Concatenations,
) -> None:
    table = factory.repository
    pending = create(factory, status="complete", event_id=EVENT_ID)
    claimed = table.claim_delivery(pending.id, NOW, NOW - SECOND)
    assert claimed is not None
    assert (claimed.delivery_started_at, claimed.attempts) == (NOW, 1)
    assert table.claim_delivery(pending.id, NOW + SECOND, NOW - SECOND) is None
    again = table.claim_delivery(pending.id, NOW + SECOND, NOW)
    assert again is not None
    assert again.attempts == 2
    table.mark_delivered(pending.id, NOW)
    assert row_of(factory, pending).delivered_at == NOW
    assert table.claim_delivery(pending.id, NOW + SECOND, NOW + SECOND) is None


@pytest.mark.parametrize(
    "columns",
    [{"status": "complete"}, {"status": "completing", "event_id": EVENT_ID}],
    ids=["no event", "not complete"],
)
def test_nothing_else_is_delivered(
    factory: Concatenations, columns: dict[str, Any]
) -> None:
    upload = create(factory, **columns)
    assert factory.repository.claim_delivery(upload.id, NOW, NOW) is None


# -- files and rows --------------------------------------------------------------------


def test_file_that_is_gone_is_forgotten_and_the_record_stays(
    factory: Concatenations,
) -> None:
    upload = create(factory, status="complete", storage_state={"n": 1})
    factory.repository.forget_file(upload.id)
    row = row_of(factory, upload)
    assert row == replace(upload, storage_key=None, storage_state=None)
    assert row.blob is None


@pytest.mark.parametrize("fate", [BEFORE, AFTER])
def test_row_is_removed_though_the_commit_is_not_answered(
    factory: Concatenations, fate: str
) -> None:
    upload, other = create(factory), create(factory)
    with lossy(factory.database, lose_first(fate)) as commits:
        factory.repository.terminate(upload.id, upload.created_at)
    assert commits.lost == 1
    assert [row.id for row in factory.repository.matching()] == [other.id]


def test_row_of_a_final_upload_is_removed_with_its_names(
    factory: Concatenations,
) -> None:
    a, b = factory.partial(b"a", 2), factory.partial(b"b")
    final, other = factory.final(a, b), factory.final(b)
    with lossy(factory.database, lose_first(AFTER)):
        factory.repository.terminate(final.id, final.created_at)
    assert factory.repository.get(final.id) is None
    assert factory.names() == {(other.id, b.id)}


# -- quotas ----------------------------------------------------------------------------


@pytest.fixture
def counted(app_factory: AppFactory) -> Iterator[Concatenations]:
    """Uploads that a quota counts, and files too."""
    app = app_factory(
        CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2,
        CHUNKED_UPLOAD_MAX_BYTES=20,
        CHUNKED_UPLOAD_MAX_STORED_BYTES=30,
    )
    with app.app_context():
        yield Concatenations(app)


def sums_of(counted: Concatenations) -> list[tuple[Any, ...]]:
    """The quota rows: owner, uploads, bytes, stored bytes."""
    quotas = counted.repository._quotas
    assert quotas is not None
    with counted.database.transaction() as connection:
        rows = connection.execute(quotas.table.select()).all()
    return [(row.owner, row.uploads, row.size, row.stored) for row in rows]


def test_room_is_checked_without_a_change(counted: Concatenations) -> None:
    table = counted.repository
    # The first check inserts the owner's row.
    table.require_room("ann", Quota(1, 10, 10))
    assert sums_of(counted) == [("ann", 0, 0, 0)]
    with pytest.raises(QuotaExceeded):
        table.require_room("ann", Quota(1, 10, 11))
    with pytest.raises(TooManyUploads):
        table.require_room("ann", Quota(0, None, 0))
    assert sums_of(counted) == [("ann", 0, 0, 0)]


def test_declared_length_replaces_what_was_reserved(counted: Concatenations) -> None:
    upload = create(counted, None)
    assert upload.reserved == 20
    declared = counted.repository.declare_length(upload, 5, None)
    assert declared is not None and declared.reserved == 5
    assert sums_of(counted) == [("", 1, 5, 0)]


def test_declared_length_that_the_quota_refuses_changes_nothing(
    counted: Concatenations,
) -> None:
    upload = create(counted, None)
    with pytest.raises(QuotaExceeded):
        counted.repository.declare_length(upload, 50, Quota(None, None, 50, 30))
    assert row_of(counted, upload) == upload
    assert sums_of(counted) == [("", 1, 20, 0)]


def test_file_that_is_gone_is_subtracted_once(counted: Concatenations) -> None:
    upload = create(counted, offset=LENGTH)
    done = counted.repository.finish(upload, RECORD, NOW)
    assert done is not None
    assert sums_of(counted) == [("", 0, 0, LENGTH)]
    for _ in range(2):
        counted.repository.forget_file(upload.id)
    assert sums_of(counted) == [("", 0, 0, 0)]


def test_mismatch_is_found_for_all_and_for_one_and_mended(
    counted: Concatenations,
) -> None:
    create(counted)
    table = counted.repository
    assert table.quota_mismatches() == []
    quotas = table._quotas
    assert quotas is not None
    with counted.database.transaction() as connection:
        connection.execute(update(quotas.table).values(uploads=3, size=7, stored=1))
    (found,) = table.quota_mismatches()
    assert (found.owner, found.uploads, found.size, found.stored) == ("", 2, -3, 1)
    assert table.quota_mismatch_of(None) == found
    assert table.quota_mismatch_of("ann") is None
    table.recount(None)
    assert sums_of(counted) == [("", 1, LENGTH, 0)]


def test_without_quotas_nothing_is_wrong(factory: Concatenations) -> None:
    assert factory.repository.quota_mismatches() == []
