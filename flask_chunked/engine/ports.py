"""The protocols that the engine uses; other packages implement them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ..storage.base import Part, Place, Storage
from .records import (
    CompletionRecord,
    Cutoff,
    OffsetCommit,
    Quota,
    Removal,
    Removed,
    Upload,
)


class Repository(Protocol):
    """Rows of uploads; each method is one short transaction.

    Every method raises :class:`~flask_chunked.exceptions.DatabaseUnavailable` when the
    database does not answer. It then changes all or nothing.
    """

    def create(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None,
        members: Sequence[UUID] = (),
    ) -> Upload:
        """Insert the draft's row, and count it if there is a quota.

        :param members: the partial uploads of a final one. They no longer count as
            unfinished, and the insert renews their activity.
        :raises InvalidFields: a column of the model refuses its value.
        :raises PartialMissing: a member is gone.
        :raises TooManyFinals: too many finals already wait for a member.
        :raises CommitUnanswered: the row may exist or not.
        :raises TooManyUploads, QuotaExceeded: the quota has no room.
        """

    def require_room(self, owner: object, quota: Quota) -> None:
        """Check that the quota has room now.

        :raises TooManyUploads, QuotaExceeded: it has none.
        """

    def get(self, upload_id: UUID) -> Upload | None:
        """The row, in any state; ``None``: there is none."""

    def claim(
        self, upload_id: UUID, start: int, expected_fence: int | None = None
    ) -> Upload | None:
        """Increment the fence if the upload is open and its offset is ``start``.

        :param expected_fence: the row must still have it; ``None``: any. With a fence,
            a result of ``None`` may also mean that the answer to the claim was lost.
        """

    def take_over(self, upload_id: UUID) -> Upload | None:
        """Increment the fence if the upload is open, at any offset."""

    def holds(self, upload_id: UUID, fence: int, offset: int) -> bool:
        """True if the upload is still open, with this fence and this offset."""

    def advance(self, commit: OffsetCommit) -> bool:
        """Move the offset by compare-and-set.

        The completion begins or ends with it, if ``commit`` says so.

        :return: ``False``: another request has the upload, or declared a length that
            the commit exceeds.
        """

    def parts(self, upload_id: UUID) -> Sequence[Part]:
        """The parts of all commits; called only if the storage keeps parts."""

    def declare_length(
        self, seen: Upload, length: int, quota: Quota | None
    ) -> Upload | None:
        """Store the length of an open upload that has none, and increment the fence.

        The offset must still be that of ``seen``, because the application has approved
        these bytes only.

        :param quota: limits for the bytes that the upload counts from now on.
        :raises QuotaExceeded: the quota has no room for them.
        """

    def members(self, final_id: UUID) -> Sequence[Upload | None]:
        """The rows of a final upload's members, in order; ``None``: the row is gone."""

    def waiting_finals(self, upload_id: UUID) -> Sequence[Upload]:
        """The open final uploads that have this partial upload as a member."""

    def is_used_up(self, upload_id: UUID) -> bool:
        """True if a complete final has this member and no open final has it."""

    def group_activity(self, upload: Upload) -> datetime | None:
        """The last activity in the open concatenation that the upload is part of."""

    def begin_completion(
        self, upload_id: UUID, at: datetime, verify_stale: datetime | None
    ) -> Upload | None:
        """Uploading or completing, all bytes stored -> completing, fence incremented.

        It counts as activity, so no upload expires while it is being completed.

        :param verify_stale: refuse if another request has renewed its verification
            since then; ``None``: the completion does not call ``verify``.
        """

    def note_verification(
        self, upload_id: UUID, fence: int, started_at: datetime | None
    ) -> None:
        """Note that ``verify`` is still running; ``None``: it has failed."""

    def refuse_completion(self, upload_id: UUID, fence: int) -> None:
        """Completing -> uploading, if the row still has this fence."""

    def complete(
        self,
        upload_id: UUID,
        record: CompletionRecord,
        at: datetime,
    ) -> Upload | None:
        """Completing -> complete, together with digest and completion event."""

    def finish(
        self, seen: Upload, record: CompletionRecord, at: datetime
    ) -> Upload | None:
        """Uploading -> complete, if fence and offset match and no byte is missing."""

    def terminate(
        self, upload_id: UUID, at: datetime, *, spare_complete: bool = False
    ) -> Removed | None:
        """Delete the row, in any state, and note the removal of its bytes.

        :param at: the present moment.
        :param spare_complete: refuse an upload that is complete.
        :raises UploadInUse: the database refuses, because other rows refer to this one.
        """

    def begin_expiry(self, upload_id: UUID, cutoff: Cutoff) -> Upload | None:
        """Unfinished or partial, and too old -> expired."""

    def expire(self, upload_id: UUID, cutoff: Cutoff, at: datetime) -> Removed | None:
        """As :meth:`terminate`, if the upload is expired or :meth:`begin_expiry` could
        expire it.
        """

    def expire_all(
        self, upload_ids: Sequence[UUID], cutoff: Cutoff, at: datetime
    ) -> Sequence[Removed]:
        """:meth:`expire` for several uploads, all or none in one transaction.

        Not for members and final uploads of a concatenation.

        :return: those that were deleted; the others have become active.
        """

    def removals(self) -> Iterator[Removal]:
        """The removals that were noted and not forgotten."""

    def forget_removals(self, upload_ids: Sequence[UUID]) -> None:
        """Delete the notes of removals whose bytes are gone."""

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        """Unfinished rows that are too old; with ``expired_too`` also expired rows."""

    def expirable_of(self, owner: object, cutoff: Cutoff) -> Iterator[Upload]:
        """Unfinished rows of one owner that are too old."""

    def claim_delivery(
        self, upload_id: UUID, at: datetime, stale: datetime
    ) -> Upload | None:
        """Take the pending completion event, unless it was taken after ``stale``."""

    def mark_delivered(self, upload_id: UUID, at: datetime) -> None:
        """Note that the completion event was delivered."""

    def undelivered(self, before: datetime) -> Iterator[Upload]:
        """Rows whose completion event has been pending since ``before``."""


class Reader(Protocol):
    """Reads a request's body as it arrives."""

    @property
    def ended(self) -> bool:
        """True if the announced end is reached."""

    @property
    def is_short(self) -> bool:
        """True if the announced size fits into one block."""

    def read(self) -> memoryview:
        """Up to one block of the bytes that have arrived, without a long wait.

        It is empty when the body has ended, or when the client is silent (then call
        :meth:`wait`). A block stays valid until the second call after its own.

        :raises BodyInterrupted: the client is gone, and all its bytes were returned.
        """

    def unread(self, block: memoryview) -> None:
        """Take back the last block, if the body has not ended."""

    def read_nowait(self) -> memoryview:
        """:meth:`read` for use in a section: it waits a few milliseconds at most.

        It is also empty if the server cannot say whether bytes have arrived.
        """

    def splice_into(self, pipe: int, count: int) -> int | None:
        """Move up to ``count`` bytes into a pipe without reading them.

        :return: the number of bytes, as in :meth:`read_nowait`; ``None``: not possible.
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the client.

        :param timeout: return after so many seconds; ``None``: the read timeout
            applies, and its end is an error.
        :return: ``True``: the client went on; ``False``: ``timeout`` passed first.
        :raises BodyTimeout: no byte arrived within the read timeout.
        :raises BodyInterrupted: the client is gone.
        """

    @property
    def interrupted(self) -> bool:
        """True if :meth:`interrupt` ended the body early."""

    def interrupt(self) -> None:
        """End the body at once. Another thread calls it."""


class Policy(Protocol):
    """The application's hooks and limits. A hook refuses by raising."""

    @property
    def inspects(self) -> bool:
        """True if the application has an ``inspect``; it costs a read."""

    @property
    def verifies(self) -> bool:
        """True if the application has a ``verify``; no upload completes without it."""

    @property
    def delivers(self) -> bool:
        """True if the application has a ``deliver``; it costs two transactions."""

    @property
    def counts_stored(self) -> bool:
        """True if a quota counts finished uploads."""

    @property
    def keeps_partials(self) -> bool:
        """True if partial uploads stay once their final upload is complete."""

    def max_bytes(self) -> int | None:
        """The largest file for the caller in bytes; ``None``: no limit."""

    def quota(self, length: int | None) -> Quota | None:
        """The limits for the caller's next upload; ``None``: there are none.

        :raises LengthUndeclared: the length is deferred, bytes are limited, and the
            caller has no largest file size.
        """

    def fields(self) -> Mapping[str, object]:
        """Values for the application's own columns of a new upload."""

    @property
    def places(self) -> bool:
        """True if the application chooses directories or names of files."""

    def place(self, upload: Upload) -> Place:
        """Where the application wants the file of a new upload.

        :raises InvalidPlace: it names no place that a file could have.
        """

    def validate(self, upload: Upload) -> None:
        """Called before the first byte, and when a deferred length is declared."""

    def inspect(self, upload: Upload, head: bytes) -> None:
        """Called once, before the first bytes are committed."""

    def verify(self, upload: Upload) -> None:
        """Called when all bytes are stored, before completion is announced."""

    def deliver(self, upload: Upload) -> None:
        """Called after completion, at least once."""

    def is_heard(self, event: str) -> bool:
        """True if the signal has a receiver; without one it is not sent."""

    def announce(self, event: str, upload: Upload) -> None:
        """Send a signal after a commit; receivers cannot refuse."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside the engine that its parts use.

    :param policy: the application's hooks and limits.
    :param clock: returns the present moment, aware UTC.
    :param new_id: returns a new random id.
    """

    repository: Repository
    storage: Storage
    policy: Policy
    clock: Callable[[], datetime]
    new_id: Callable[[], UUID]
