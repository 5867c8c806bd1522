"""The engine's ports in memory; tests can make them fail."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from flask_chunked.engine.engine import Engine
from flask_chunked.engine.expiry import Lifetimes
from flask_chunked.engine.members import Members
from flask_chunked.engine.records import (
    CompletionRecord,
    Cutoff,
    NewUpload,
    OffsetCommit,
    Quota,
    Upload,
)
from flask_chunked.engine.states import UNFINISHED, Event, Status, sources, target
from flask_chunked.exceptions import (
    BodyInterrupted,
    DatabaseUnavailable,
    PartialMissing,
    QuotaExceeded,
    TooManyUploads,
)
from flask_chunked.storage.base import Part, StorageSettings
from flask_chunked.storage.memory import MemoryStorage

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Clock:
    """A clock that only ``advance`` moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


class MemoryRepository:
    """The repository port, with a dictionary as its table.

    :ivar failing: names of methods that raise ``DatabaseUnavailable``.
    :ivar before: called with a method's name before the method runs, to cause races.
    """

    def __init__(self) -> None:
        self.rows: dict[UUID, Upload] = {}
        self.named: dict[UUID, tuple[UUID, ...]] = {}
        self.sent: dict[UUID, list[Part]] = {}
        self.failing: set[str] = set()
        self.before: Callable[[str], None] = lambda name: None
        self._lock = threading.RLock()

    def _enter(self, name: str) -> None:
        self.before(name)
        if name in self.failing:
            raise DatabaseUnavailable()

    def create(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None,
        members: Sequence[UUID] = (),
    ) -> Upload:
        self._enter("create")
        if quota is not None:
            self.require_room(draft.user, quota)
        with self._lock:
            if not self.rows.keys() >= set(members):
                raise PartialMissing()
            for upload_id in members:
                self.rows[upload_id] = replace(
                    self.rows[upload_id], last_activity_at=draft.created_at
                )
            self.rows[draft.id] = draft
            if members:
                self.named[draft.id] = tuple(members)
        return draft

    def require_room(self, owner: object, quota: Quota) -> None:
        mine = [row for row in self.rows.values() if row.reserved is not None]
        mine = [row for row in mine if row.user == owner]
        if quota.max_uploads is not None and len(mine) >= quota.max_uploads:
            raise TooManyUploads(quota.max_uploads)

    def get(self, upload_id: UUID) -> Upload | None:
        self._enter("get")
        return self.rows.get(upload_id)

    def _move(
        self,
        upload_id: UUID,
        event: Event,
        condition: Callable[[Upload], bool] = lambda row: True,
        **changes: object,
    ) -> Upload | None:
        with self._lock:
            row = self.rows.get(upload_id)
            if row is None or row.status not in sources(event) or not condition(row):
                return None
            changed = replace(
                row,
                status=target(event),
                fence=row.fence + 1,
                **changes,  # type: ignore[arg-type]
            )
            self.rows[upload_id] = changed
            return changed

    def claim(
        self, upload_id: UUID, start: int, expected_fence: int | None = None
    ) -> Upload | None:
        self._enter("claim")
        return self._move(
            upload_id,
            Event.APPEND,
            lambda row: row.offset == start and expected_fence in (None, row.fence),
        )

    def take_over(self, upload_id: UUID) -> Upload | None:
        self._enter("take_over")
        return self._move(upload_id, Event.TAKE_OVER)

    def holds(self, upload_id: UUID, fence: int, offset: int) -> bool:
        self._enter("holds")
        row = self.rows.get(upload_id)
        return (
            row is not None
            and row.status is Status.UPLOADING
            and (row.fence, row.offset) == (fence, offset)
        )

    def advance(self, commit: OffsetCommit) -> bool:
        self._enter("advance")
        with self._lock:
            if not self.holds(commit.upload_id, commit.fence, commit.old_offset):
                return False
            length = self.rows[commit.upload_id].length
            if length is not None and commit.offset > length:
                return False
            self.rows[commit.upload_id] = replace(
                self.rows[commit.upload_id],
                offset=commit.offset,
                last_start=commit.start,
                last_digest=commit.digest,
                hash_state=commit.hash_state,
                last_activity_at=commit.at,
                storage_state=commit.state,
            )
            self.sent.setdefault(commit.upload_id, []).extend(commit.parts)
            if commit.completion is not None:
                self._end(commit.upload_id, Event.FINISH, commit.completion, commit.at)
            elif commit.completes:
                self._move(
                    commit.upload_id,
                    Event.BEGIN_COMPLETION,
                    verify_started_at=commit.verify_started_at,
                )
            return True

    def parts(self, upload_id: UUID) -> list[Part]:
        self._enter("parts")
        return list(self.sent.get(upload_id, ()))

    def declare_length(
        self, seen: Upload, length: int, quota: Quota | None
    ) -> Upload | None:
        self._enter("declare_length")
        with self._lock:
            row = self.rows.get(seen.id)
            if row is None or row.status is not Status.UPLOADING:
                return None
            if row.length is not None or row.offset > length:
                return None
            if row.offset != seen.offset:
                return None
            if quota is not None and quota.max_bytes is not None:
                more = length - (row.reserved or 0)
                if more > quota.max_bytes:
                    raise QuotaExceeded(quota.max_bytes, quota.max_bytes)
                row = replace(row, reserved=length)
            self.rows[seen.id] = replace(row, length=length, fence=row.fence + 1)
            return self.rows[seen.id]

    def members(self, final_id: UUID) -> list[Upload | None]:
        self._enter("members")
        return [self.rows.get(upload_id) for upload_id in self.named.get(final_id, ())]

    def waiting_finals(self, upload_id: UUID) -> list[Upload]:
        self._enter("waiting_finals")
        finals = [
            self.rows.get(final_id)
            for final_id, ids in self.named.items()
            if upload_id in ids
        ]
        return [row for row in finals if row and row.status is Status.UPLOADING]

    def is_used_up(self, upload_id: UUID) -> bool:
        self._enter("is_used_up")
        finals = [
            self.rows.get(final_id)
            for final_id, ids in self.named.items()
            if upload_id in ids
        ]
        waits = any(row and row.status in UNFINISHED for row in finals)
        return not waits and any(row is None or row.completed_at for row in finals)

    def group_activity(self, upload: Upload) -> datetime | None:
        self._enter("group_activity")
        finals = self.waiting_finals(upload.id) if upload.partial else [upload]
        rows = [row for final in finals for row in self.members(final.id)]
        if upload.partial:
            rows += finals
        return max((row.last_activity_at for row in rows if row), default=None)

    def begin_completion(
        self, upload_id: UUID, at: datetime, verify_stale: datetime | None
    ) -> Upload | None:
        self._enter("begin_completion")

        def may_begin(row: Upload) -> bool:
            started = row.verify_started_at
            is_busy = row.status is Status.COMPLETING and started is not None
            if is_busy and started is not None:
                is_busy = started > (at if verify_stale is None else verify_stale)
            return row.offset == row.length and not is_busy

        return self._move(
            upload_id,
            Event.BEGIN_COMPLETION,
            may_begin,
            last_activity_at=at,
            verify_started_at=None if verify_stale is None else at,
        )

    def note_verification(
        self, upload_id: UUID, fence: int, started_at: datetime | None
    ) -> None:
        self._enter("note_verification")
        with self._lock:
            row = self.rows.get(upload_id)
            if row is None or row.status is not Status.COMPLETING or row.fence != fence:
                return
            self.rows[upload_id] = replace(row, verify_started_at=started_at)

    def refuse_completion(self, upload_id: UUID, fence: int) -> None:
        self._enter("refuse_completion")
        self._move(
            upload_id,
            Event.REFUSE_COMPLETION,
            lambda row: row.fence == fence,
            verify_started_at=None,
        )

    def complete(
        self,
        upload_id: UUID,
        record: CompletionRecord,
        at: datetime,
    ) -> Upload | None:
        self._enter("complete")
        return self._end(upload_id, Event.COMPLETE, record, at)

    def finish(
        self, seen: Upload, record: CompletionRecord, at: datetime
    ) -> Upload | None:
        self._enter("finish")
        mine = (seen.fence, seen.length)
        return self._end(
            seen.id,
            Event.FINISH,
            record,
            at,
            lambda row: (row.fence, row.offset) == mine,
        )

    def _end(
        self,
        upload_id: UUID,
        event: Event,
        record: CompletionRecord,
        at: datetime,
        condition: Callable[[Upload], bool] = lambda row: True,
    ) -> Upload | None:
        with self._lock:
            row = self._move(upload_id, event, condition, verify_started_at=None)
            if row is not None:
                row = self.rows[upload_id] = record.apply(row, at)
            return row

    def begin_termination(
        self, upload_id: UUID, *, spare_complete: bool = False
    ) -> Upload | None:
        self._enter("begin_termination")
        return self._move(
            upload_id,
            Event.TERMINATE,
            lambda row: not (spare_complete and row.is_complete),
        )

    def begin_expiry(self, upload_id: UUID, cutoff: Cutoff) -> Upload | None:
        self._enter("begin_expiry")
        return self._move(
            upload_id,
            Event.EXPIRE,
            lambda row: _may_expire(row) and self._is_beyond(row, cutoff),
        )

    def remove(self, upload: Upload) -> None:
        self._enter("remove")
        self.rows.pop(upload.id, None)
        if upload.completed_at is None:
            self.named.pop(upload.id, None)

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        for row in list(self.rows.values()):
            old = _may_expire(row) and self._is_beyond(row, cutoff)
            if old or (expired_too and row.status is Status.EXPIRED):
                yield row

    def expirable_of(self, owner: object, cutoff: Cutoff) -> Iterator[Upload]:
        for row in self.expirable(cutoff, expired_too=False):
            if row.user == owner:
                yield row

    def claim_delivery(
        self, upload_id: UUID, at: datetime, stale: datetime
    ) -> Upload | None:
        self._enter("claim_delivery")
        row = self.rows[upload_id]
        started = row.delivery_started_at
        if row.delivered_at is not None or (started is not None and started > stale):
            return None
        self.rows[upload_id] = replace(
            row, delivery_started_at=at, attempts=row.attempts + 1
        )
        return self.rows[upload_id]

    def mark_delivered(self, upload_id: UUID, at: datetime) -> None:
        self._enter("mark_delivered")
        self.rows[upload_id] = replace(self.rows[upload_id], delivered_at=at)

    def undelivered(self, before: datetime) -> Iterator[Upload]:
        for row in list(self.rows.values()):
            started = row.delivery_started_at or row.completed_at
            pending = row.event_id is not None and row.delivered_at is None
            if pending and started is not None and started <= before:
                yield row

    def _is_beyond(self, row: Upload, cutoff: Cutoff) -> bool:
        since, before = cutoff.idle_since, cutoff.created_before
        if before is not None and row.created_at <= before:
            return True
        if since is None or row.last_activity_at > since:
            return False
        active = self.group_activity(row)
        return active is None or active <= since


def _may_expire(row: Upload) -> bool:
    if row.status is Status.COMPLETE:
        return row.partial
    return row.status in sources(Event.EXPIRE)


class RecordingPolicy:
    """A policy that records its calls and raises the given refusals.

    :ivar refusals: hook -> the error that it raises.
    :ivar inspects: it has an ``inspect``.
    :ivar verifies: it has a ``verify``.
    :ivar delivers: it has a ``deliver``.
    :ivar limits: the quota of every owner.
    :ivar largest: the largest file in bytes.
    """

    def __init__(self) -> None:
        self.inspects = True
        self.verifies = True
        self.delivers = True
        self.counts_stored = False
        self.keeps_partials = True
        self.largest: int | None = None
        self.limits: Quota | None = None
        self.unheard: set[str] = set()
        self.calls: list[tuple[str, object]] = []
        self.refusals: dict[str, BaseException] = {}

    def _asked(self, hook: str, seen: object) -> None:
        self.calls.append((hook, seen))
        if hook in self.refusals:
            raise self.refusals[hook]

    def seen(self, hook: str) -> list[object]:
        return [seen for name, seen in self.calls if name == hook]

    def max_bytes(self) -> int | None:
        return self.largest

    def quota(self, length: int | None) -> Quota | None:
        return self.limits and replace(self.limits, reserve=length or 0)

    def validate(self, upload: Upload) -> None:
        self._asked("validate", upload.length)

    def inspect(self, upload: Upload, head: bytes) -> None:
        self._asked("inspect", head)

    def verify(self, upload: Upload) -> None:
        self._asked("verify", upload.offset)

    def deliver(self, upload: Upload) -> None:
        self._asked("deliver", upload.event_id)

    def is_heard(self, event: str) -> bool:
        return event not in self.unheard

    def announce(self, event: str, upload: Upload) -> None:
        self.calls.append((event, upload.offset))


class ScriptedReader:
    """A body as a list: bytes are blocks, ``None`` is silence, errors are raised.

    A callable is called between two blocks, to cause races.

    :ivar is_short: the body is short, so its writer may claim late.
    :ivar can_splice: its bytes can go through a pipe.
    :ivar interrupts: the number of interruptions; the script goes on.
    :ivar waited: how often :meth:`wait` saw the client go on.
    :ivar goes_on: silence ends during a :meth:`wait` with a timeout.
    :ivar timeouts: the timeouts of :meth:`wait`, in seconds.
    """

    def __init__(
        self, *script: bytes | BaseException | Callable[[], object] | None
    ) -> None:
        self._script = list(script)
        self.waited = 0
        self.interrupts = 0
        self.can_splice = False
        self.goes_on = True
        self.timeouts: list[float] = []
        self.is_short = False

    @property
    def ended(self) -> bool:
        return not self._script

    def read(self) -> memoryview:
        if self._script and self._script[0] is None:
            return memoryview(b"")
        item = self._script.pop(0)
        if isinstance(item, BaseException):
            raise item
        if callable(item):
            item()
            return memoryview(b"")
        assert isinstance(item, bytes)
        return memoryview(item)

    def unread(self, block: memoryview) -> None:
        self._script.insert(0, bytes(block))

    def read_nowait(self) -> memoryview:
        ready = bool(self._script) and isinstance(self._script[0], (bytes, Exception))
        return self.read() if ready else memoryview(b"")

    def splice_into(self, pipe: int, count: int) -> int | None:
        if not self.can_splice or not self._script:
            return None
        block = self._script[0]
        if not isinstance(block, bytes):
            return 0
        del self._script[0]
        moved = os.write(pipe, block[:count])
        if block[moved:]:
            self._script.insert(0, block[moved:])
        return moved

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            self.timeouts.append(timeout)
            if not self.goes_on:
                return False
        self.waited += 1
        if self._script and self._script[0] is None:
            self._script.pop(0)
        return True

    @property
    def interrupted(self) -> bool:
        """True if it was interrupted."""
        return self.interrupts > 0

    def interrupt(self) -> None:
        self.interrupts += 1


@dataclass
class Bench:
    """An engine in memory, with access to all its ports."""

    repository: MemoryRepository = field(default_factory=MemoryRepository)
    policy: RecordingPolicy = field(default_factory=RecordingPolicy)
    clock: Clock = field(default_factory=Clock)
    expiration: timedelta | None = timedelta(days=1)
    lifetime: timedelta | None = None
    #: In memory, unless a test passes another one.
    storage: Any = field(
        default_factory=lambda: MemoryStorage(StorageSettings(base="/nowhere"))
    )

    def __post_init__(self) -> None:
        self.engine = Engine(
            "uploads",
            self.repository,
            self.storage,
            self.policy,
            Lifetimes(self.expiration, self.lifetime),
        )
        self.engine.clock = self.clock

    def create(self, length: int | None = 10, **more: Any) -> Upload:
        """:param more: further fields of the new upload."""
        return self.engine.create.upload(
            NewUpload("ann", "a.bin", length=length, dialect="test", **more)
        )

    def partial(self, content: bytes, length: int | None = None) -> Upload:
        """A partial upload that begins with these bytes; complete without a length."""
        upload = self.material(length or len(content))
        reader = ScriptedReader(content)
        upload = self.engine.append.stream(upload, 0, None, reader)
        if upload.offset == upload.length:
            upload = self.engine.complete.request(upload, None).upload
        return upload

    def material(self, length: int | None) -> Upload:
        """A partial upload without bytes."""
        return self.create(length, partial=True, concat="partial")

    def final(self, *partials: Upload) -> Upload:
        """The row of a final upload without bytes."""
        urls = " ".join(str(partial.id) for partial in partials)
        new = NewUpload(
            "ann", "a.bin", length=None, dialect="test", concat=f"final;{urls}"
        )
        members = Members(tuple(self.row(partial) for partial in partials))
        return self.engine.concatenate.create(new, members)

    def filled(self, content: bytes = b"0123456789") -> Upload:
        upload = self.create(len(content))
        reader = ScriptedReader(content)
        return self.engine.append.stream(upload, 0, len(content), reader)

    def row(self, upload: Upload) -> Upload:
        return self.repository.rows[upload.id]

    def stored(self, upload: Upload) -> bytes:
        blob = self.row(upload).blob
        assert blob is not None
        with self.storage.open(blob) as reader:
            content: bytes = reader.read(2**20)
            return content


def idle_since(bench: Bench) -> Cutoff:
    """Every upload that is idle by now."""
    return Cutoff(bench.clock(), None)


def disconnect() -> BodyInterrupted:
    """The error of a client that has disconnected."""
    return BodyInterrupted()
