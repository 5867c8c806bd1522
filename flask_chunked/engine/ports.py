"""What the engine needs from the outside, as small protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ..storage.base import Part, Storage
from .records import Cutoff, Ending, Quota, Step, Upload


class Repository(Protocol):
    """Rows of uploads; each method is one short transaction.

    Every method raises :class:`~flask_chunked.exceptions.DatabaseUnavailable` when the
    database does not answer; nothing is half-done then.
    """

    def create(
        self,
        draft: Upload,
        fields: Mapping[str, object],
        quota: Quota | None,
        members: Sequence[UUID] = (),
    ) -> Upload:
        """Insert the draft's row, and count it where there is a quota.

        :param members: the partial uploads of a final one. They count no more as
            unfinished, and being named is activity of theirs.
        :raises InvalidFields: a column of the model refuses its value.
        :raises PartialMissing: a member is gone.
        :raises TooManyFinals: too many finals wait for a member already.
        :raises CommitUnanswered: nobody knows whether the row is there.
        :raises TooManyUploads, QuotaExceeded: the quota has no room.
        """

    def require_room(self, owner: object, quota: Quota) -> None:
        """Would there be room now?

        :raises TooManyUploads, QuotaExceeded: there is none.
        """

    def get(self, upload_id: UUID) -> Upload | None:
        """The row, in whatever state."""

    def claim(
        self, upload_id: UUID, start: int, fence: int | None = None
    ) -> Upload | None:
        """Bump the fence if the upload is open and its offset is ``start``.

        :param fence: only if it is still this one; ``None`` may then also mean that the
            reply to the claim was lost.
        """

    def take_over(self, upload_id: UUID) -> Upload | None:
        """Bump the fence if the upload is open, whatever its offset."""

    def holds(self, upload_id: UUID, fence: int, offset: int) -> bool:
        """Is the upload still open, with this fence and this offset?"""

    def advance(self, step: Step) -> bool:
        """Move the offset by compare-and-set; begin or end completion, if it says so.

        ``False``: somebody else is there, or declared a length that this goes beyond.
        """

    def parts(self, upload_id: UUID) -> Sequence[Part]:
        """What steps left there of parts; asked where the storage keeps any."""

    def declare_length(
        self, seen: Upload, length: int, quota: Quota | None
    ) -> Upload | None:
        """Store the length of an open upload that has none; the fence is bumped.

        Only while the offset is as seen, so that what was asked of the application
        about these bytes holds.

        :param quota: limits for what the upload counts from now on.
        :raises QuotaExceeded: it would count more than there is room for.
        """

    def members(self, final_id: UUID) -> Sequence[Upload | None]:
        """The rows of a final upload's members, in order; ``None``: it is gone."""

    def waiting_finals(self, upload_id: UUID) -> Sequence[Upload]:
        """Open final uploads that this partial upload is a member of."""

    def is_used_up(self, upload_id: UUID) -> bool:
        """Is a complete final made of this partial upload, and no other waits?"""

    def group_activity(self, upload: Upload) -> datetime | None:
        """Last activity in the waiting concatenation that the upload belongs to."""

    def begin_completion(
        self, upload_id: UUID, at: datetime, verify_stale: datetime | None
    ) -> Upload | None:
        """Uploading or completing, all bytes there -> completing, fence bumped.

        It counts as activity, so that no upload expires while it is being finished.

        :param verify_stale: ``verify`` is asked in it, by one request at a time: not
            while another one has been at it since then; ``None``: it is not asked.
        """

    def note_verification(
        self, upload_id: UUID, fence: int, started_at: datetime | None
    ) -> None:
        """``verify`` is still at work; ``None``: it is not, and failed."""

    def refuse_completion(self, upload_id: UUID, fence: int) -> None:
        """Completing -> uploading, if the fence is still this one."""

    def complete(
        self,
        upload_id: UUID,
        ending: Ending,
        at: datetime,
    ) -> Upload | None:
        """Completing -> complete, with digest and completion event, at once."""

    def finish(self, seen: Upload, ending: Ending, at: datetime) -> Upload | None:
        """Uploading -> complete, if fence and offset are as seen and all is there."""

    def begin_termination(
        self, upload_id: UUID, *, spare_complete: bool = False
    ) -> Upload | None:
        """Any state -> terminating, fence bumped.

        :param spare_complete: not one that is complete by then.
        """

    def begin_expiry(self, upload_id: UUID, cutoff: Cutoff) -> Upload | None:
        """Unfinished, or a partial upload, and too old -> expired."""

    def remove(self, upload: Upload) -> None:
        """Delete the row; nothing there is success."""

    def expirable(self, cutoff: Cutoff, expired_too: bool) -> Iterator[Upload]:
        """Unfinished rows that are too old (and expired ones)."""

    def expirable_of(self, owner: object, cutoff: Cutoff) -> Iterator[Upload]:
        """Unfinished rows of one owner that are too old."""

    def claim_delivery(
        self, upload_id: UUID, at: datetime, stale: datetime
    ) -> Upload | None:
        """Take the pending completion event, unless one took it after ``stale``."""

    def mark_delivered(self, upload_id: UUID, at: datetime) -> None:
        """The completion event was delivered."""

    def undelivered(self, before: datetime) -> Iterator[Upload]:
        """Rows whose completion event is pending since ``before``."""


class Reader(Protocol):
    """A request's body, as far as it has come in."""

    @property
    def ended(self) -> bool:
        """The announced end was reached."""

    @property
    def is_short(self) -> bool:
        """Is so little announced that it comes in one block?"""

    def read(self) -> memoryview:
        """Up to one block of what is there, without waiting long.

        Empty when the body ended, or when the client is silent (:meth:`wait` then).
        A block is valid until another one was handed out and the next is asked for.

        :raises BodyInterrupted: the client is gone; all before was handed out.
        """

    def unread(self, block: memoryview) -> None:
        """Take back the block that was read last, while more is to come."""

    def read_ready(self) -> memoryview:
        """Like :meth:`read`, inside a section: waits a few milliseconds at most.

        Empty also where nobody can tell whether there is something to read.
        """

    def pour(self, pipe: int, count: int) -> int | None:
        """Move up to ``count`` bytes into a pipe without looking at them.

        :return: how many, as :meth:`read_ready`; ``None``: not possible here.
        """

    def wait(self) -> None:
        """Wait for the client.

        :raises BodyTimeout: nothing came for the read timeout.
        :raises BodyInterrupted: the client is gone.
        """

    def linger(self, seconds: float) -> bool:
        """Wait for the client, but no longer than this.

        :return: did it go on?
        """

    @property
    def is_let_go(self) -> bool:
        """Was :meth:`interrupt` called, and cut the body short?"""

    def interrupt(self) -> None:
        """Called from another thread: stop waiting, the body ends here."""


class Policy(Protocol):
    """What the application wants to know and may refuse (by raising)."""

    @property
    def inspects(self) -> bool:
        """Does :meth:`inspect` do anything? It costs a read where it does."""

    @property
    def verifies(self) -> bool:
        """Does :meth:`verify` do anything? No upload is finished without it then."""

    @property
    def delivers(self) -> bool:
        """Does :meth:`deliver` do anything? Its claim costs two transactions."""

    @property
    def counts_stored(self) -> bool:
        """Do finished uploads count in a limit?"""

    @property
    def keeps_partials(self) -> bool:
        """Do partial uploads stay once their final upload is complete?"""

    def max_bytes(self) -> int | None:
        """The largest file for the caller in bytes; ``None``: no limit."""

    def quota(self, length: int | None) -> Quota | None:
        """What holds for the caller's next upload; ``None``: nothing does.

        :raises LengthUndeclared: the length is deferred, bytes are limited, and the
            caller has no largest file.
        """

    def validate(self, upload: Upload) -> None:
        """Before the first byte, and once more when a deferred length is declared."""

    def inspect(self, upload: Upload, head: bytes) -> None:
        """Once, when the first bytes are there and before they are committed."""

    def verify(self, upload: Upload) -> None:
        """All bytes are there and not yet announced."""

    def deliver(self, upload: Upload) -> None:
        """After completion, at least once."""

    def is_heard(self, event: str) -> bool:
        """Does anybody want to be told? Saves what telling him costs."""

    def announce(self, event: str, upload: Upload) -> None:
        """After a commit; cannot refuse."""


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
