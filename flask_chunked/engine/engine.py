"""The engine: create, append, take over, terminate, expire. One object, many requests.

Talks to ports only. What a client reads about it is a dialect's affair.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from ..exceptions import ChunkedUploadError, FinalUpload, UnknownUpload
from ..storage.base import Buffer, Storage
from .append import Appending
from .complete import Completer
from .concatenate import Members, load_members
from .create import Creator
from .declaration import Declarer
from .expiry import Expiry, utcnow
from .gate import Action, Gate, Kind, kind_of, require
from .ports import Policy, Reader, Repository
from .records import Completion, Cutoff, Expected, NewUpload, Upload
from .states import Status
from .tails import cut_tail
from .writer import Intake

logger = logging.getLogger("flask_chunked")


class Engine(Appending):
    """Everything that can happen to an upload.

    :param expiration: how long an unfinished upload lives after its last committed
        byte; ``None``: for ever.
    :param lifetime: how long it lives in all; ``None``: for ever.
    """

    def __init__(
        self,
        *,
        blueprint: str,
        repository: Repository,
        storage: Storage,
        policy: Policy,
        expiration: timedelta | None,
        lifetime: timedelta | None = None,
        clock: Callable[[], datetime] = utcnow,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        gate = Gate(policy, storage)
        expiry = Expiry(
            expiration, lifetime, lambda: self.clock(), repository.group_activity
        )
        completer = Completer(repository, storage, gate, clock, new_id)
        super().__init__(repository, storage, gate, clock, expiry, completer)
        self._declarer = Declarer(repository, storage, gate)
        self._creator = Creator(
            blueprint,
            repository,
            storage,
            gate,
            new_id,
            clock=lambda: self.clock(),
            make_room=self._make_room,
            completer=completer,
        )

    def expires_at(self, upload: Upload) -> datetime | None:
        """When time gives the upload up; ``None``: never."""
        return self.expiry.expires_at(upload)

    # -- create ---------------------------------------------------------------------

    def create(self, new: NewUpload) -> Upload:
        """Make the upload's row; no file appears before the first byte.

        :raises InvalidFields: the model refuses a value.
        :raises TooManyUploads, QuotaExceeded: the owner's quota has no room.
        """
        return self._creator.create(new)

    def create_with(
        self, new: NewUpload, reader: Reader, size: int | None, *, finishing: bool
    ) -> Upload:
        """:meth:`create`, with the first bytes where they are few and all here.

        The offset tells: at 0 the body is still to be taken (:meth:`append_stream`).

        :param size: announced bytes of the body; ``None``: nobody knows.
        :param finishing: the upload is completed where these are all its bytes; the
            status tells.
        :raises: as :meth:`create`, and :class:`StorageError`; nothing is left then.
        :raises CommitUnanswered: the upload is there, or its bytes alone are.
        """
        return self._creator.create_with(new, reader, size, finishing=finishing)

    def create_filled(self, new: NewUpload, content: Buffer) -> Upload:
        """The same with bytes that are here; only where :attr:`fills_first`."""
        return self._creator.create_filled(new, content)

    @property
    def fills_first(self) -> bool:
        """May a few bytes be stored before there is a row of their upload?"""
        return self._creator.fills_first

    def require_room(self, owner: object, length: int | None) -> None:
        """Refuse before the body what :meth:`create` would refuse behind it.

        :raises TooManyUploads, QuotaExceeded: the owner's quota has no room.
        """
        self._creator.require_room(owner, length)

    def take_over(self, upload: Upload) -> Upload:
        """Bump the fence, so that the offset told is accepted by the next append.

        An upload that is not open any more is just read.

        :raises UnknownUpload: it was terminated meanwhile.
        """
        taken = self.repository.take_over(upload.id)
        if taken is None:
            return self._current(upload.id)
        self._receiving.interrupt(upload.id)
        return taken

    def declare_length(self, upload: Upload, length: int) -> Upload:
        """Store a length that was deferred; once known it never changes.

        The application is asked again now that the length is known, and about the first
        bytes of a small file whose bytes are all there. Its refusal removes the upload.

        :raises LengthChanged: it is known, and another.
        :raises LengthBelowOffset: more bytes than that are there.
        :raises TooLarge, QuotaExceeded: it is more than is allowed; nothing changed.
        :raises OffsetMismatch: more bytes came since the upload was looked at.
        """
        declarer = self._declarer
        declarer.require_possible(upload, length)
        if upload.length is not None:
            return upload
        head = declarer.head_of(upload, length)
        try:
            declarer.ask(upload, length, head)
        except ChunkedUploadError:
            self._give_up(upload)
            raise
        declared = declarer.store(upload, length)
        if declared is not None:
            self._receiving.interrupt(upload.id)
            return declared
        row = self._current(upload.id)
        declarer.require_possible(row, length)
        if row.length is None:
            raise self.refuse_offset(row, upload.offset)
        return row

    @contextmanager
    def creating(
        self, upload: Upload, *, unless_started: bool = False
    ) -> Iterator[None]:
        """Drop the upload if its creating request fails in here.

        Its client never learned the URL.

        :param unless_started: keep it when bytes of it are committed.
        """
        try:
            yield
        except BaseException:
            self.abandon(upload, unless_started=unless_started)
            raise

    def abandon(self, upload: Upload, *, unless_started: bool = False) -> None:
        """Drop an upload that is not complete, unless it is gone already.

        :param unless_started: keep it when bytes of it are committed.
        """
        row = self.repository.get(upload.id)
        if row is None or row.is_complete or (unless_started and row.offset):
            return
        # Another request may complete it, or remove it, at the same time.
        with suppress(UnknownUpload):
            self.terminate(row, spare_complete=True)

    # -- completion ----------------------------------------------------------------

    def complete(self, upload: Upload, expected: Expected | None) -> Completion:
        """Finish the upload; asked again, it answers the same again.

        :param expected: the client's digest, ``None`` where none is wanted.
        :raises Incomplete: bytes are missing.
        :raises ChecksumMismatch: the digest differs; nothing changed.
        :raises FinalUpload: an unfinished one is completed by its members alone.
        :raises CompletionInProgress: another request is verifying it.
        """
        require(upload, Action.COMPLETE)
        if expected is None and kind_of(upload) is Kind.FINAL:
            # Only a checksum is compared with one that is complete.
            raise FinalUpload()
        return self._completer.complete(upload, expected)

    def wait_for_completion(self, upload: Upload) -> Completion:
        """Wait a few seconds for the request that verifies the upload.

        :raises CompletionInProgress: it is still at work.
        """
        found = self._completer.wait_for_other(upload)
        return found or self._dropping(self._completer.complete(upload, None))

    def finish(self, begun: Upload) -> Completion:
        """Go on with the completion that an append of this request began."""
        return self._completer.finish(begun)

    def deliver(self, upload: Upload) -> bool:
        """Deliver the completion event, if it is pending and nobody is at it."""
        return self._completer.deliver(upload)

    def deliver_pending(self, older_than: timedelta) -> Iterator[tuple[Upload, bool]]:
        """Deliver events that are pending for longer; yields what came of each."""
        for upload in self.repository.undelivered(self.clock() - older_than):
            yield upload, self._completer.deliver(upload, older_than)

    # -- concatenation -------------------------------------------------------------

    def create_final(self, new: NewUpload, members: Members) -> Upload:
        """Make the row of a final upload, and note its members.

        From here on it counts its whole length and its members count no more.

        :raises: as :meth:`create`.
        :raises TooLarge: what is known of the members is too much already.
        :raises PartialMissing: a member was removed meanwhile.
        :raises TooManyFinals: too many final uploads wait for a member already.
        """
        ids = tuple(upload.id for upload in members.uploads)
        self._gate.require_length(members.known)
        final = replace(new, length=members.length, members=ids, least=members.reserved)
        return self.create(final)

    def members(self, final: Upload) -> Members:
        """The partial uploads of a final one.

        :raises PartialMissing: one is gone.
        """
        return load_members(self.repository, final)

    def finals_waiting_for(self, upload: Upload) -> Sequence[Upload]:
        """Final uploads that cannot be made before this partial one is complete."""
        return self.repository.waiting_finals(upload.id)

    def note_length(self, final: Upload, members: Members) -> Upload:
        """Store a final upload's length as soon as its members tell it."""
        length = members.length
        if final.status is not Status.UPLOADING or length is None:
            return final
        return self.declare_length(final, length)

    def assemble(self, final: Upload, members: Members) -> Upload:
        """Make a final upload from its members, or go on where a crash left it.

        :param members: complete, all of them.
        """
        if final.status is Status.UPLOADING:
            final = self.note_length(final, members)
            if final.offset < (final.length or 0):
                claimed = self._claim(final, final.offset)
                with self._intake(claimed, Intake) as intake:
                    for blob, start in members.from_offset(final.offset):
                        intake.copy(blob, start)
        elif final.status is not Status.COMPLETING:
            return final
        return self.complete_final(final)

    def complete_final(self, final: Upload) -> Upload:
        """Complete a final upload whose bytes are all there."""
        return self._dropping(self._completer.complete(final, None)).upload

    def _dropping(self, completion: Completion) -> Completion:
        """Remove the members of a final upload that is complete, if that is wanted."""
        if completion.first:
            self._drop(self._droppable(completion.upload))
        return completion

    # -- the end -------------------------------------------------------------------

    def expire(
        self, upload: Upload, cutoff: Cutoff, *, keep_record: bool
    ) -> Upload | None:
        """Give one upload up if it is still unfinished and still too old."""
        fresh = upload.status is not Status.EXPIRED
        gone = self.repository.begin_expiry(upload.id, cutoff) if fresh else upload
        if gone is None:
            return None
        members = self._droppable(gone)
        self._remove(gone, keep_record=keep_record)
        if fresh:
            self._gate.announce("expired", gone)
        self._drop(members)
        return gone

    def expirable(self, *, expired_too: bool) -> Iterator[tuple[Upload, Cutoff]]:
        """Uploads that time gave up, each with the moments that decide."""
        cutoff = self.expiry.cutoff()
        if cutoff is None:
            return
        for upload in self.repository.expirable(cutoff, expired_too):
            yield upload, cutoff

    def _make_room(self, owner: object) -> bool:
        """Remove what of an owner's is only waiting to expire; ``False``: nothing."""
        cutoff = self.expiry.cutoff()
        if cutoff is None:
            return False
        old = list(self.repository.expirable_of(owner, cutoff))
        gone = [self.expire(upload, cutoff, keep_record=False) for upload in old]
        return any(gone)

    def cut_tail(self, upload: Upload) -> bool:
        """Remove the bytes beyond the offset; ``False``: somebody is writing them."""
        return cut_tail(self.repository, self.storage, upload)
