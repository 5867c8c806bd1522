"""State changes: their conditions, what they set, and commits without an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from flask_chunked.database.repository import SQLRepository
from flask_chunked.database.transactions import Database
from flask_chunked.engine.records import CompletionRecord, Cutoff, NewUpload, Upload
from flask_chunked.engine.states import Event, Status, sources
from flask_chunked.exceptions import CommitUnanswered
from tests.faults.commits import AFTER, BEFORE, NOTHING, lossy

from ..conftest import AppFactory
from .conftest import ACTIVE, IDLE, NOW, SINCE, Concatenations

UNKNOWN = UUID("3b241101-e2bb-4255-8caf-4136c566a962")
EVENT_ID = UUID("0a1b2c3d-0000-4000-8000-000000000000")
RECORD = CompletionRecord(EVENT_ID, delivered=False, digest="md5:0")
EXPIRED = Cutoff(SINCE, None, verify_stale=NOW)
LENGTH = 10


@pytest.fixture(params=[True, False], ids=["returning", "select"])
def returning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A database with ``UPDATE ... RETURNING``, then one without."""
    if not request.param:
        no = property(lambda database: False)
        monkeypatch.setattr(Database, "supports_update_returning", no)
    return bool(request.param)


both = pytest.mark.usefixtures("returning")


@pytest.fixture
def repository(factory: Concatenations) -> SQLRepository:
    return factory.repository


@pytest.fixture
def upload(factory: Concatenations) -> Upload:
    """An upload of ten bytes, of which it has none."""
    new = NewUpload(None, "a.bin", length=LENGTH, dialect="test")
    return factory.engine.create.upload(new)


def at(factory: Concatenations, upload: Upload, **columns: Any) -> Upload:
    """The upload after its columns were changed."""
    factory.set(upload, **columns)
    row = factory.repository.get(upload.id)
    assert row is not None
    return row


Change = Callable[[SQLRepository, Upload], Upload | None]

#: Each event, with arguments that refuse nothing but a state.
CHANGES: dict[Event, Change] = {
    Event.APPEND: lambda table, row: table.claim(row.id, row.offset),
    Event.TAKE_OVER: lambda table, row: table.take_over(row.id),
    Event.BEGIN_COMPLETION: lambda table, row: table.begin_completion(
        row.id, NOW, None
    ),
    Event.COMPLETE: lambda table, row: table.complete(row.id, RECORD, NOW),
    Event.FINISH: lambda table, row: table.finish(row, RECORD, NOW),
    Event.TERMINATE: lambda table, row: table.begin_termination(row.id),
    Event.EXPIRE: lambda table, row: table.begin_expiry(row.id, EXPIRED),
}


@both
@pytest.mark.parametrize("event", CHANGES)
def test_each_change_needs_a_state_of_the_table(
    factory: Concatenations, upload: Upload, event: Event
) -> None:
    for status in Status:
        row = at(
            factory,
            upload,
            status=status.value,
            offset=LENGTH,
            last_activity_at=IDLE,
            # A partial upload may expire in every state that is not the last one.
            partial=event is Event.EXPIRE,
        )
        changed = CHANGES[event](factory.repository, row)
        assert (changed is not None) is (status in sources(event)), status
        assert factory.repository.get(upload.id) == (changed or row)


@both
def test_upload_that_is_gone_is_not_changed(
    repository: SQLRepository, upload: Upload
) -> None:
    for change in CHANGES.values():
        assert change(repository, replace(upload, id=UNKNOWN)) is None


@pytest.mark.parametrize("event", CHANGES)
def test_each_change_supersedes_the_writers_before_it(
    factory: Concatenations, upload: Upload, event: Event
) -> None:
    status = sources(event)[0]
    row = at(
        factory,
        upload,
        status=status.value,
        offset=LENGTH,
        last_activity_at=IDLE,
    )
    changed = CHANGES[event](factory.repository, row)
    assert changed is not None
    assert changed.fence == row.fence + 1


# -- conditions ------------------------------------------------------------------------


@both
def test_claim_needs_the_offset_and_the_fence_if_there_is_one(
    factory: Concatenations, upload: Upload
) -> None:
    table, row = factory.repository, at(factory, upload, offset=3)
    assert table.claim(row.id, 0) is None
    assert table.claim(row.id, 3, row.fence + 1) is None
    assert table.claim(row.id, 3, row.fence) == replace(row, fence=row.fence + 1)
    assert table.claim(row.id, 3, row.fence) is None
    assert table.claim(row.id, 3) == replace(row, fence=row.fence + 2)


def test_completion_begins_with_all_bytes_and_is_activity(
    factory: Concatenations, upload: Upload
) -> None:
    table, row = factory.repository, at(factory, upload, offset=LENGTH - 1)
    assert table.begin_completion(row.id, NOW, None) is None
    at(factory, upload, offset=LENGTH)
    begun = table.begin_completion(row.id, NOW, None)
    assert begun is not None
    assert (begun.status, begun.last_activity_at) == (Status.COMPLETING, NOW)
    assert begun.verify_started_at is None


def test_verification_keeps_a_second_one_away_until_it_is_stale(
    factory: Concatenations, upload: Upload
) -> None:
    table = factory.repository
    at(factory, upload, offset=LENGTH)
    begun = table.begin_completion(upload.id, NOW, NOW)
    assert begun is not None
    assert begun.verify_started_at == NOW
    second = timedelta(seconds=1)
    later = NOW + timedelta(seconds=90)
    assert table.begin_completion(upload.id, later, NOW - second) is None
    again = table.begin_completion(upload.id, later, NOW)
    assert again is not None
    assert again.verify_started_at == later


def test_completion_is_refused_by_the_request_that_began_it_only(
    factory: Concatenations, upload: Upload
) -> None:
    table = factory.repository
    at(factory, upload, offset=LENGTH)
    begun = table.begin_completion(upload.id, NOW, NOW)
    assert begun is not None
    table.refuse_completion(upload.id, begun.fence - 1)
    assert table.get(upload.id) == begun
    table.refuse_completion(upload.id, begun.fence)
    row = table.get(upload.id)
    # The fence stays, so that the client's next request continues.
    assert row == replace(begun, status=Status.UPLOADING, verify_started_at=None)


def test_complete_upload_has_its_digest_and_its_event(
    factory: Concatenations, upload: Upload
) -> None:
    row = at(factory, upload, status="completing", offset=LENGTH)
    done = factory.repository.complete(row.id, RECORD, NOW)
    assert done is not None
    assert (done.status, done.digest, done.event_id) == (
        Status.COMPLETE,
        "md5:0",
        EVENT_ID,
    )
    assert done.completed_at == done.last_activity_at == NOW
    assert (done.delivered_at, done.attempts, done.reserved) == (None, 0, None)


def test_event_without_a_hook_is_delivered_with_the_row(
    factory: Concatenations, upload: Upload
) -> None:
    row = at(factory, upload, status="completing", offset=LENGTH)
    done = factory.repository.complete(
        row.id, CompletionRecord(EVENT_ID, delivered=True), NOW
    )
    assert done is not None
    assert done.delivered_at == NOW


@pytest.mark.parametrize(
    ("seen", "offset"),
    [({"fence": 7}, LENGTH), ({"offset": 3}, LENGTH), ({"offset": 3}, 3)],
    ids=["another fence", "another offset", "missing bytes"],
)
def test_upload_is_finished_as_it_was_seen_and_with_all_bytes(
    factory: Concatenations, upload: Upload, seen: dict[str, Any], offset: int
) -> None:
    table, row = factory.repository, at(factory, upload, offset=offset)
    assert table.finish(replace(row, **seen), RECORD, NOW) is None
    row = at(factory, upload, offset=LENGTH)
    done = table.finish(row, RECORD, NOW)
    assert done is not None
    assert (done.status, done.event_id) == (Status.COMPLETE, EVENT_ID)


@both
def test_termination_is_repeated_after_a_crash(
    repository: SQLRepository, upload: Upload
) -> None:
    first = repository.begin_termination(upload.id)
    again = repository.begin_termination(upload.id)
    assert first is not None and again is not None
    assert first.status is again.status is Status.TERMINATING


@both
def test_termination_may_spare_a_complete_upload(
    factory: Concatenations, upload: Upload
) -> None:
    table = factory.repository
    row = at(factory, upload, status="complete", offset=LENGTH)
    assert table.begin_termination(row.id, spare_complete=True) is None
    assert table.get(row.id) == row
    assert table.begin_termination(row.id) is not None


def test_upload_expires_at_a_limit_unless_it_is_being_verified(
    factory: Concatenations, upload: Upload
) -> None:
    table, row = factory.repository, at(factory, upload, last_activity_at=ACTIVE)
    assert table.begin_expiry(row.id, EXPIRED) is None
    assert table.begin_expiry(row.id, Cutoff(None, row.created_at)) is not None
    at(factory, upload, status="completing", last_activity_at=IDLE)
    at(factory, upload, verify_started_at=NOW + timedelta(seconds=1))
    assert table.begin_expiry(row.id, EXPIRED) is None
    at(factory, upload, verify_started_at=NOW)
    assert table.begin_expiry(row.id, EXPIRED) is not None


# -- what ends with an upload ----------------------------------------------------------


@pytest.fixture
def counted(app_factory: AppFactory) -> Iterator[Concatenations]:
    """Uploads that a quota counts."""
    app = app_factory(CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=5)
    with app.app_context():
        yield Concatenations(app)


ENDS = (Event.COMPLETE, Event.FINISH, Event.TERMINATE, Event.EXPIRE)


@both
@pytest.mark.parametrize("event", ENDS)
def test_end_of_an_upload_returns_what_its_quota_has_reserved(
    counted: Concatenations, event: Event
) -> None:
    new = NewUpload(None, "a.bin", length=LENGTH, dialect="test")
    upload = counted.engine.create.upload(new)
    assert upload.reserved == LENGTH
    row = at(
        counted,
        upload,
        status=sources(event)[0].value,
        offset=LENGTH,
        last_activity_at=IDLE,
    )
    ended = CHANGES[event](counted.repository, row)
    assert ended is not None and ended.reserved is None
    assert counted.repository.get(upload.id) == ended
    assert counted.repository.quota_mismatches() == []


def test_claim_returns_nothing_to_the_quota(counted: Concatenations) -> None:
    new = NewUpload(None, "a.bin", length=LENGTH, dialect="test")
    upload = counted.engine.create.upload(new)
    claimed = counted.repository.claim(upload.id, 0)
    assert claimed is not None and claimed.reserved == LENGTH


class Parts:
    """A table of parts that notes what is dropped."""

    def __init__(self) -> None:
        self.dropped: list[UUID] = []

    def drop(self, connection: object, upload_id: UUID) -> None:
        self.dropped.append(upload_id)


@both
@pytest.mark.parametrize("event", ENDS)
def test_end_of_an_upload_drops_its_parts(
    factory: Concatenations,
    upload: Upload,
    monkeypatch: pytest.MonkeyPatch,
    event: Event,
) -> None:
    parts = Parts()
    monkeypatch.setattr(factory.repository, "_parts", parts)
    row = at(factory, upload, offset=LENGTH, last_activity_at=ACTIVE)
    refused = event in (Event.COMPLETE, Event.EXPIRE)
    if refused:
        # Not in this state, and not before the limit.
        assert CHANGES[event](factory.repository, row) is None
        assert parts.dropped == []
    row = at(
        factory,
        upload,
        status=sources(event)[0].value,
        last_activity_at=IDLE,
    )
    assert CHANGES[event](factory.repository, row) is not None
    assert parts.dropped == [upload.id]


# -- commits without an answer ---------------------------------------------------------


def lose_first(fate: str) -> Callable[[int], str]:
    """Lose the answer to the first commit."""
    return lambda number: fate if number == 0 else NOTHING


@both
@pytest.mark.parametrize("fate", [BEFORE, AFTER])
@pytest.mark.parametrize("event", [Event.APPEND, Event.TAKE_OVER])
def test_change_that_may_happen_twice_is_repeated(
    factory: Concatenations, upload: Upload, event: Event, fate: str
) -> None:
    with lossy(factory.database, lose_first(fate)) as commits:
        changed = CHANGES[event](factory.repository, upload)
    assert commits.lost == 1
    assert changed is not None
    assert changed.fence == upload.fence + (2 if fate == AFTER else 1)


@both
@pytest.mark.parametrize("event", ENDS)
def test_row_shows_whether_an_end_happened(
    factory: Concatenations, upload: Upload, event: Event
) -> None:
    row = at(
        factory,
        upload,
        status=sources(event)[0].value,
        offset=LENGTH,
        last_activity_at=IDLE,
    )
    change = CHANGES[event]
    with (
        lossy(factory.database, lose_first(BEFORE)),
        pytest.raises(CommitUnanswered),
    ):
        change(factory.repository, row)
    assert factory.repository.get(upload.id) == row
    with lossy(factory.database, lose_first(AFTER)) as commits:
        ended = change(factory.repository, row)
    assert commits.lost == 1
    assert ended is not None
    assert ended == factory.repository.get(upload.id)


def test_completion_by_another_request_leaves_this_one_unanswered(
    factory: Concatenations, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = factory.repository
    row = at(factory, upload, status="completing", offset=LENGTH)
    read = table.get

    def get(upload_id: UUID) -> Upload | None:
        monkeypatch.setattr(table, "get", read)
        return table.complete(
            upload_id, CompletionRecord(uuid4(), delivered=False), NOW
        )

    monkeypatch.setattr(table, "get", get)
    with (
        lossy(factory.database, lose_first(BEFORE)),
        pytest.raises(CommitUnanswered),
    ):
        table.complete(row.id, RECORD, NOW)
