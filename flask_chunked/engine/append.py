"""How bytes get behind an upload: as they come, or whole; for whom it is claimed.

What else can happen to an upload is :class:`~flask_chunked.engine.engine.Engine`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

from ..exceptions import (
    AlreadyComplete,
    BodyInterrupted,
    BytesMissing,
    ChunkedUploadError,
    ChunkSizeMismatch,
    OffsetMismatch,
    StorageError,
    Superseded,
    UnknownUpload,
    UploadExpired,
)
from ..storage.base import Stage, Storage
from .complete import Completer
from .digests import FileDigest, resume
from .expiry import Expiry
from .gate import Action, Gate, Kind, kind_of, require
from .held_chunk import HeldChunk
from .interruption import Receiving
from .ports import Reader, Repository
from .records import Ending, Upload
from .repeats import is_repeat, may_repeat
from .states import Status
from .verification import release
from .writer import Intake

logger = logging.getLogger("flask_chunked")
#: Claims an upload; only if it has a certain fence, where one is given.
Claim = Callable[[int | None], Upload]
AnyIntake = TypeVar("AnyIntake", bound=Intake)


class Appending:
    """The part of the engine that takes bytes, and gives uploads up.

    :param expiry: when time gives an upload up.
    :param completer: of the same uploads.
    """

    def __init__(
        self,
        repository: Repository,
        storage: Storage,
        gate: Gate,
        clock: Callable[[], datetime],
        expiry: Expiry,
        completer: Completer,
    ) -> None:
        self.repository = repository
        self.storage = storage
        self.clock = clock
        self.expiry = expiry
        self._gate = gate
        self._completer = completer
        self._receiving = Receiving()

    def require_live(self, upload: Upload) -> None:
        """Refuse an upload that time gave up.

        :raises UploadExpired: it is unfinished and too old, or was expired already.
        """
        self.expiry.require_live(upload)

    # -- append ------------------------------------------------------------------

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
            the upload that is returned says so, and :meth:`finish` goes on. Or it ends
            with that commit, where the body is the whole file and few bytes.
        :param is_new: this request made the upload, which is as good as a claim.
        :raises ChunkSizeMismatch: it does not, or goes beyond; what fits is kept.
        :raises OffsetMismatch: the upload does not stand at ``start``.
        :raises BodyInterrupted, BodyTimeout: after what arrived was committed.
        :raises FinalUpload: its bytes come from partial uploads only.
        """
        require(upload, Action.APPEND)
        claim = None
        if not is_new:
            upload, claim = self._claim_for(upload, start, reader)
        with (
            self._intake(
                upload,
                Intake,
                finishing=finishing,
                ending=self._ending_of(upload) if finishing else None,
                claim=claim,
            ) as intake,
            self._receiving.by(upload.id, reader),
        ):
            intake.stream(reader, stop)
            if not intake.is_claimed:
                self._receiving.interrupt(upload.id, but=reader)
        if exact and stop is not None and intake.committed < stop:
            raise ChunkSizeMismatch(intake.committed - start, stop - start)
        if intake.upload.is_complete:
            self._completer.announce(intake.upload)
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
        require(upload, Action.APPEND)
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
        with self._intake(claimed, Intake, finishing=finishing) as intake:
            intake.take(stage, file_digest)
        return self._received(intake.upload)

    @contextmanager
    def hold(self, upload: Upload, start: int, reader: Reader) -> Iterator[HeldChunk]:
        """Take a chunk that counts whole or not at all straight behind the upload.

        What it was given without a :meth:`HeldChunk.commit` is cut off again.

        :param reader: the body that it comes from.
        :raises OffsetMismatch: the upload does not stand at ``start``.
        """
        require(upload, Action.APPEND)
        if start != upload.offset:
            raise self.refuse_offset(upload, start)
        claim = partial(self._claim, upload, start, reader)
        with (
            self._intake(upload, HeldChunk, claim=claim) as held,
            self._receiving.by(upload.id, reader),
        ):
            try:
                yield held
            except BaseException:
                held.let_go = reader.is_let_go
                held.drop()
                raise
            if held.committed > start and not held.is_claimed:
                self._receiving.interrupt(upload.id, but=reader)

    def commit(self, held: HeldChunk) -> Upload:
        """The chunk that was held is whole: from here on it counts.

        :raises Superseded: somebody else has the upload.
        :raises UploadExpired: it became too old while the chunk was received.
        """
        if not held.is_claimed:
            self.require_live(held.upload)
        held.commit()
        return self._received(held.upload)

    def file_digest(self, upload: Upload) -> FileDigest | None:
        """The digest of the file up to the upload's offset, to be gone on with."""
        return resume(upload.hash_name, upload.hash_state, upload.offset)

    def may_repeat(self, upload: Upload, start: int, stop: int) -> bool:
        """Is this the range of the last committed chunk, so that its bytes decide?"""
        return may_repeat(upload, start, stop)

    def is_repeat(self, upload: Upload, start: int, stop: int, digest: str) -> bool:
        """Is this the last committed chunk once more, byte for byte?

        :param digest: SHA-256 (hex) of the bytes that came.
        :raises UnknownUpload: it was removed meanwhile, or ...
        :raises BytesMissing: ... its bytes alone were.
        """
        try:
            return is_repeat(self.storage, upload, start, stop, digest)
        except BytesMissing:
            self._current(upload.id)
            raise

    def refuse_offset(self, upload: Upload, start: int) -> ChunkedUploadError:
        """The error for a chunk at ``start``, told from what the row says."""
        if upload.status is Status.COMPLETE:
            return AlreadyComplete()
        return OffsetMismatch(expected=upload.offset, provided=start)

    # -- the end -----------------------------------------------------------------

    def terminate(self, upload: Upload, *, spare_complete: bool = False) -> None:
        """Remove bytes and row, in an order that a crash cannot spoil.

        :param spare_complete: not if it is complete by then.
        :raises UnknownUpload: another request removed it, or it is spared.
        """
        gone = self.repository.begin_termination(
            upload.id, spare_complete=spare_complete
        )
        if gone is None:
            raise UnknownUpload()
        self._receiving.interrupt(upload.id)
        members = self._droppable(gone)
        self._remove(gone)
        self._gate.announce("terminated", gone)
        self._drop(members)

    def _droppable(self, upload: Upload) -> list[Upload]:
        """The members that go where this final upload waits for them no more.

        They are read before its row goes, which takes their names with it.
        """
        if self._gate.keeps_partials or kind_of(upload) is not Kind.FINAL:
            return []
        try:
            rows = self.repository.members(upload.id)
        except ChunkedUploadError as error:
            logger.warning("members of %s are not removed: %s", upload.id, error.code)
            return []
        return list({row.id: row for row in rows if row is not None}.values())

    def _drop(self, members: list[Upload]) -> None:
        """Remove those that a complete final is made of and no other waits for.

        One that cannot be removed now is removed when it expires.
        """
        for member in members:
            try:
                if self.repository.is_used_up(member.id):
                    self.require_live(member)
                    self.terminate(member)
            except (UnknownUpload, UploadExpired):
                # Another request removed it, or its time is over, which is said so.
                continue
            except ChunkedUploadError as error:
                logger.warning("%s is not removed: %s", member.id, error.code)

    def _remove(self, upload: Upload, *, keep_record: bool = False) -> None:
        self._delete_bytes(upload)
        if not keep_record:
            self.repository.remove(upload)

    def _delete_bytes(self, upload: Upload) -> None:
        if upload.blob is not None:
            self.storage.delete(upload.blob)

    # -- inside --------------------------------------------------------------------

    def _received(self, upload: Upload) -> Upload:
        # A length may have been declared beside; nothing else can have changed.
        return upload if upload.length is not None else self._current(upload.id)

    def _ending_of(self, upload: Upload) -> Callable[[], Ending] | None:
        """Makes the end of an upload that may be finished with its only commit."""
        if upload.offset or upload.reserved is not None:
            # Who counts for its owner is counted out in a transaction of its own.
            return None
        completer = self._completer
        if not completer.may_finish_first(upload):
            return None
        return partial(completer.ending, upload)

    def _claim_for(
        self, upload: Upload, start: int, reader: Reader
    ) -> tuple[Upload, Claim | None]:
        """Claim for a body: now, or under the lock of its one section.

        A short body is here at once.
        """
        claim = partial(self._claim, upload, start, reader)
        may_wait = reader.is_short and start == upload.offset
        if may_wait and not self.storage.keeps_parts:
            return upload, claim
        return claim(None), None

    def _claim(
        self,
        upload: Upload,
        start: int,
        mine: Reader | None = None,
        fence: int | None = None,
    ) -> Upload:
        self.require_live(upload)
        if mine is not None and mine.is_let_go:
            # Whoever did that came later, and has the upload.
            raise Superseded(self._current(upload.id).offset, start)
        claimed = self.repository.claim(upload.id, start, fence)
        if claimed is None:
            current = self._current(upload.id)
            is_open = current.status is Status.UPLOADING
            if fence is not None and is_open and current.offset == start:
                raise Superseded(start, start)
            raise self.refuse_offset(current, start)
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
        kind: type[AnyIntake],
        *,
        finishing: bool = False,
        ending: Callable[[], Ending] | None = None,
        claim: Claim | None = None,
    ) -> Iterator[AnyIntake]:
        """An intake whose failures leave neither stray bytes nor a stuck upload."""
        ports = (self.repository, self.storage, self._gate, self.clock)
        intake = kind(upload, *ports, finishing=finishing, ending=ending, claim=claim)
        try:
            try:
                with intake:
                    yield intake
            finally:
                # Before anything that becomes of the upload is announced.
                if intake.committed > upload.offset:
                    self._announce_progress(intake)
        except ChunkedUploadError as error:
            # Completion may have begun with what arrived, and ends here.
            release(self.repository, intake.upload)
            if intake.refused:
                self._give_up(intake.upload)
            elif isinstance(error, Superseded | StorageError | BodyInterrupted):
                self._explain(intake, error)
            raise

    def _announce_progress(self, intake: Intake) -> None:
        if not self._gate.is_heard("chunk_received", intake.claimed):
            return
        now = replace(
            intake.claimed, offset=intake.committed, last_activity_at=self.clock()
        )
        self._gate.announce("chunk_received", now)

    def _give_up(self, seen: Upload) -> None:
        """The application refused: the upload goes, unless another request has it."""
        if self.repository.holds(seen.id, seen.fence, seen.offset):
            self.terminate(seen)

    def _explain(self, intake: Intake, error: Exception) -> None:
        """Was the upload removed or taken over under the writer? Then say that.

        A writer whose upload is gone leaves no bytes behind.
        """
        row = self.repository.get((claimed := intake.claimed).id)
        if row is not None and row.status not in (Status.TERMINATING, Status.EXPIRED):
            # Its body may have been cut, or its file closed, to let it go.
            mine = (intake.upload.fence, intake.committed)
            is_anothers = intake.let_go or (row.fence, row.offset) != mine
            if is_anothers and not isinstance(error, Superseded):
                if intake.is_claimed or row.status is Status.UPLOADING:
                    raise Superseded(row.offset, claimed.offset) from error
                raise self.refuse_offset(row, claimed.offset) from error
            return
        self._delete_bytes(claimed)
        if row is not None and row.status is Status.EXPIRED:
            raise UploadExpired() from error
        raise UnknownUpload() from error
