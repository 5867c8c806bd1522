"""The engine: create, append, take over, terminate, expire. One object, many requests.

Talks to ports only. What a client reads about it is a dialect's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

from ..exceptions import (
    AlreadyComplete,
    BodyInterrupted,
    ChunkedUploadError,
    ChunkSizeMismatch,
    LengthBelowOffset,
    LengthChanged,
    OffsetMismatch,
    StorageError,
    Superseded,
    UnknownUpload,
    UploadExpired,
)
from ..storage.base import Stage, Storage
from .completion import Completer
from .concatenation import Members, load_members
from .creation import Creator
from .expiry import Expiry, utcnow
from .hashing import FileDigest, resume
from .intake import Intake
from .ports import Policy, Reader, Repository
from .receiving import Receiving
from .records import Completion, Cutoff, Expected, NewUpload, Upload
from .repeats import is_repeat, may_repeat
from .states import Status
from .tails import cut_tail


class Engine:
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
        self.repository = repository
        self.storage = storage
        self.clock = clock
        self.expiry = Expiry(expiration, lifetime, lambda: self.clock())
        self._policy = policy
        self._creator = Creator(
            blueprint,
            repository,
            storage,
            policy,
            new_id,
            clock=lambda: self.clock(),
            make_room=self._make_room,
        )
        self._completer = Completer(repository, storage, policy, clock, new_id)
        self._receiving = Receiving()

    def expires_at(self, upload: Upload) -> datetime | None:
        """When time gives the upload up; ``None``: never."""
        return self.expiry.expires_at(upload)

    def require_live(self, upload: Upload) -> None:
        """Refuse an upload that time gave up.

        :raises UploadExpired: it is unfinished and too old, or was expired already.
        """
        self.expiry.require_live(upload)

    # -- create and append ---------------------------------------------------------

    def create(self, new: NewUpload) -> Upload:
        """Make the upload's row; no file appears before the first byte.

        :raises InvalidFields: the model refuses a value.
        :raises TooManyUploads, QuotaExceeded: the owner's quota has no room.
        """
        return self._creator.create(new)

    def require_room(self, owner: object, length: int | None) -> None:
        """Refuse before the body what :meth:`create` would refuse behind it.

        :raises TooManyUploads, QuotaExceeded: the owner's quota has no room.
        """
        self._creator.require_room(owner, length)

    def append_stream(
        self,
        upload: Upload,
        start: int,
        stop: int | None,
        reader: Reader,
        *,
        exact: bool = True,
        finishing: bool = False,
        is_new: bool = False,
    ) -> Upload:
        """Append a body as it arrives; whatever ends it, what arrived is kept.

        :param stop: where the body must not go beyond, ``None``: no limit.
        :param exact: the body must reach ``stop``.
        :param finishing: completion begins with the commit of the upload's last byte;
            the upload that is returned says so, and :meth:`finish` goes on.
        :param is_new: this request made the upload, which is as good as a claim.
        :raises ChunkSizeMismatch: it does not, or goes beyond; what fits is kept.
        :raises OffsetMismatch: the upload does not stand at ``start``.
        :raises BodyInterrupted, BodyTimeout: after what arrived was committed.
        """
        claim = None if is_new else partial(self._claim, upload, start, reader)
        # A short body is here at once, and claims under the lock of its one section.
        may_wait = reader.is_short and start == upload.offset
        if claim is not None and (not may_wait or self.storage.keeps_parts):
            upload, claim = claim(), None
        with (
            self._intake(upload, finishing=finishing, claim=claim) as intake,
            self._receiving.by(upload.id, reader),
        ):
            intake.stream(reader, stop)
            if not intake.is_claimed:
                self._receiving.interrupt(upload.id, but=reader)
        if exact and stop is not None and intake.committed < stop:
            raise ChunkSizeMismatch(intake.committed - start, stop - start)
        return self._received(intake.upload)

    def append_whole(
        self,
        upload: Upload,
        start: int,
        stage: Stage,
        file_digest: FileDigest | None = None,
        *,
        finishing: bool = False,
    ) -> Upload:
        """Append a chunk that was received whole, all of it or nothing.

        :param file_digest: of the whole file up to the chunk's end, where one was taken
            on the way (:meth:`file_digest`).
        :param finishing: as in :meth:`append_stream`.
        :raises OffsetMismatch: the upload does not stand at ``start`` and this is no
            repeat of its last chunk.
        """
        stop = start + stage.size
        try:
            claimed = self._claim(upload, start)
        except OffsetMismatch:
            current = self.repository.get(upload.id)
            if current is None or not self.may_repeat(current, start, stop):
                raise
            if not self.is_repeat(current, start, stop, stage.sha256().hexdigest()):
                raise
            return current
        with self._intake(claimed, finishing=finishing) as intake:
            intake.take(stage, file_digest)
        return self._received(intake.upload)

    def _received(self, upload: Upload) -> Upload:
        # A length may have been declared beside; nothing else can have changed.
        return upload if upload.length is not None else self._current(upload.id)

    def file_digest(self, upload: Upload) -> FileDigest | None:
        """The digest of the file up to the upload's offset, to be gone on with."""
        return resume(upload.hash_name, upload.hash_state, upload.offset)

    def may_repeat(self, upload: Upload, start: int, stop: int) -> bool:
        """Is this the range of the last committed chunk, so that its bytes decide?"""
        return may_repeat(upload, start, stop)

    def is_repeat(self, upload: Upload, start: int, stop: int, digest: str) -> bool:
        """Is this the last committed chunk once more, byte for byte?

        :param digest: SHA-256 (hex) of the bytes that came.
        """
        return is_repeat(self.storage, upload, start, stop, digest)

    def refuse_offset(self, upload: Upload, start: int) -> ChunkedUploadError:
        """The error for a chunk at ``start``, told from what the row says."""
        if upload.status is Status.COMPLETE:
            return AlreadyComplete()
        return OffsetMismatch(expected=upload.offset, provided=start)

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

        :raises LengthChanged: it is known, and another.
        :raises LengthBelowOffset: more bytes than that are there.
        """
        declared = self.repository.declare_length(upload.id, length)
        if declared is not None:
            return declared
        row = self._current(upload.id)
        if row.length is None:
            raise LengthBelowOffset(row.offset, length)
        if row.length != length:
            raise LengthChanged(row.length, length)
        return row

    def abandon(self, upload: Upload, *, unless_started: bool = False) -> None:
        """Drop an upload whose creating request failed before it could tell the id.

        :param unless_started: keep it when bytes of it are committed.
        """
        row = self.repository.get(upload.id)
        if row is None or row.is_complete or (unless_started and row.offset):
            return
        self.terminate(row)

    # -- completion ----------------------------------------------------------------

    def complete(self, upload: Upload, expected: Expected | None) -> Completion:
        """Finish the upload; asked again, it answers the same again.

        :param expected: the client's digest, ``None`` where none is wanted.
        :raises Incomplete: bytes are missing.
        :raises ChecksumMismatch: the digest differs; nothing changed.
        """
        return self._completer.complete(upload, expected)

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

    def members(self, ids: Sequence[UUID]) -> Members:
        """The partial uploads of a final one.

        :raises PartialMissing: one is gone.
        :raises NotAPartial: one is no partial upload.
        """
        return load_members(self.repository, ids)

    def finals_waiting_for(self, upload: Upload) -> Iterator[Upload]:
        """Final uploads that cannot be made before this partial one is complete."""
        return self.repository.waiting_finals(upload.id)

    def assemble(self, final: Upload, members: Members) -> Upload:
        """Make a final upload from its members, or go on where a crash left it.

        While members are incomplete only the length is noted, as soon as it is known.
        """
        if final.status is Status.COMPLETING:
            return self.complete(final, None).upload
        if final.status is not Status.UPLOADING:
            return final
        length = members.length
        if length is not None:
            final = self.declare_length(final, length)
        if length is None or not members.are_complete:
            return final
        if final.offset < length:
            claimed = self._claim(final, final.offset)
            with self._intake(claimed) as intake:
                for blob, start in members.from_offset(final.offset):
                    intake.copy(blob, start)
        return self.complete(final, None).upload

    # -- the end -------------------------------------------------------------------

    def terminate(self, upload: Upload) -> None:
        """Remove bytes and row, in an order that a crash cannot spoil.

        :raises UnknownUpload: somebody else removed it.
        """
        gone = self.repository.begin_termination(upload.id)
        if gone is None:
            raise UnknownUpload()
        self._receiving.interrupt(upload.id)
        self._remove(gone)
        self._policy.announce("terminated", gone)

    def expire(
        self, upload: Upload, cutoff: Cutoff, *, keep_record: bool
    ) -> Upload | None:
        """Give one upload up if it is still unfinished and still too old."""
        fresh = upload.status is not Status.EXPIRED
        gone = self.repository.begin_expiry(upload.id, cutoff) if fresh else upload
        if gone is None:
            return None
        self._remove(gone, keep_record=keep_record)
        if fresh:
            self._policy.announce("expired", gone)
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

    def _remove(self, upload: Upload, *, keep_record: bool = False) -> None:
        self._delete_bytes(upload)
        if not keep_record:
            self.repository.remove(upload.id)

    def _delete_bytes(self, upload: Upload) -> None:
        if upload.blob is not None:
            self.storage.delete(upload.blob)

    # -- inside --------------------------------------------------------------------

    def _claim(self, upload: Upload, start: int, mine: Reader | None = None) -> Upload:
        self.require_live(upload)
        if mine is not None and mine.is_let_go:
            # Whoever did that came later, and has the upload.
            raise Superseded(self._current(upload.id).offset, start)
        claimed = self.repository.claim(upload.id, start)
        if claimed is None:
            raise self.refuse_offset(self._current(upload.id), start)
        # Whoever still waits for its client here was just superseded.
        self._receiving.interrupt(upload.id, but=mine)
        return claimed

    def _current(self, upload_id: UUID) -> Upload:
        row = self.repository.get(upload_id)
        if row is None or row.status is Status.TERMINATING:
            raise UnknownUpload()
        self.require_live(row)
        return row

    @contextmanager
    def _intake(
        self,
        upload: Upload,
        *,
        finishing: bool = False,
        claim: Callable[[], Upload] | None = None,
    ) -> Iterator[Intake]:
        """An intake whose failures leave neither stray bytes nor a stuck upload."""
        ports = (self.repository, self.storage, self._policy, self.clock)
        intake = Intake(upload, *ports, finishing=finishing, claim=claim)
        try:
            with intake:
                yield intake
        except ChunkedUploadError as error:
            if intake.refused:
                self._give_up(intake.claimed)
            elif isinstance(error, Superseded | StorageError | BodyInterrupted):
                self._explain(intake, error)
            raise
        finally:
            if intake.committed > upload.offset:
                self._announce_progress(intake)

    def _announce_progress(self, intake: Intake) -> None:
        now = replace(
            intake.claimed, offset=intake.committed, last_activity_at=self.clock()
        )
        self._policy.announce("chunk_received", now)

    def _give_up(self, claimed: Upload) -> None:
        """``inspect`` refused: the upload goes, unless somebody took it over."""
        if self.repository.holds(claimed.id, claimed.fence, claimed.offset):
            self.terminate(claimed)

    def _explain(self, intake: Intake, error: Exception) -> None:
        """Was the upload removed or taken over under the writer? Then say that.

        A writer whose upload is gone leaves no bytes behind.
        """
        row = self.repository.get((claimed := intake.claimed).id)
        if row is not None and row.status not in (Status.TERMINATING, Status.EXPIRED):
            # Its body may have been cut, or its file closed, to let it go.
            is_anothers = intake.let_go or row.fence != intake.upload.fence
            if is_anothers and not isinstance(error, Superseded):
                if intake.is_claimed or row.status is Status.UPLOADING:
                    raise Superseded(row.offset, claimed.offset) from error
                raise self.refuse_offset(row, claimed.offset) from error
            return
        self._delete_bytes(claimed)
        if row is not None and row.status is Status.EXPIRED:
            raise UploadExpired() from error
        raise UnknownUpload() from error
