"""Removes uploads that are terminated, refused, expired or discarded.

The row goes first, in a transaction that notes the removal of the bytes; then the bytes
go, then the note. What a crash or a failing storage leaves is noted, and finished by
:meth:`~.byte_removal.ByteRemover.finish_removals`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice

from ..exceptions import (
    ChunkedUploadError,
    StorageError,
    UnknownUpload,
    UploadExpired,
    UploadInUse,
)
from ..exceptions.base import describe_cause
from ..storage.base import Blob
from .byte_removal import ByteRemover
from .expiry import Expiry
from .gate import Gate, Kind, kind_of
from .interruption import ActiveReaders
from .ports import Ports
from .records import Cutoff, Removed, Upload
from .states import Status

logger = logging.getLogger("flask_chunked")

#: Uploads that expire in one transaction.
TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Expired:
    """The outcome for an upload that is too old.

    :param upload: its status is ``expired``, unless the error kept it from expiring.
    :param error: why its record or its bytes stay; ``None``: they are gone.
    """

    upload: Upload
    error: Exception | None = None


class Remover(ByteRemover):
    """Removes uploads: the row first, then the bytes, so a crash can be repaired."""

    def __init__(self, ports: Ports, expiry: Expiry, readers: ActiveReaders) -> None:
        super().__init__(ports)
        self._clock = ports.clock
        self._gate = Gate(ports.policy, ports.storage)
        self._expiry = expiry
        self._readers = readers

    # -- on request ----------------------------------------------------------------

    def terminate(self, upload: Upload, *, spare_complete: bool = False) -> None:
        """Remove row and bytes.

        If the storage fails, the upload is removed nevertheless: its bytes are noted.

        :param spare_complete: keep the upload if it is complete.
        :raises UnknownUpload: another request removed it, or it is kept.
        :raises UploadInUse: other rows refer to it. Nothing has changed.
        """
        members = self.members_of(upload)
        gone = self._repository.terminate(
            upload.id, self._clock(), spare_complete=spare_complete
        )
        if gone is None:
            raise UnknownUpload()
        self._readers.interrupt(upload.id)
        self._remove_noted(upload.id, gone.blob)
        self._gate.announce("terminated", gone.upload)
        self.drop(members)

    def refuse(self, seen: Upload) -> None:
        """Remove an upload that the application refused, unless another request has it.

        :param seen: the upload with the refused request's fence and offset.
        """
        if self._repository.holds(seen.id, seen.fence, seen.offset):
            self._terminate_if_possible(seen)

    def discard(self, upload: Upload, *, unless_started: bool = False) -> None:
        """Remove an upload that is not complete, if it still exists.

        :param unless_started: keep it if bytes of it are committed.
        """
        row = self._repository.get(upload.id)
        if row is None or row.is_complete or (unless_started and row.offset):
            return
        # Another request may complete it, or remove it, at the same time.
        with suppress(UnknownUpload):
            self._terminate_if_possible(row, spare_complete=True)

    @contextmanager
    def discarding(
        self, upload: Upload, *, unless_started: bool = False
    ) -> Iterator[None]:
        """:meth:`discard` the new upload if its creating request fails in the block.

        Its client never learns the URL.
        """
        try:
            yield
        except BaseException:
            self.discard(upload, unless_started=unless_started)
            raise

    def _terminate_if_possible(
        self, upload: Upload, *, spare_complete: bool = False
    ) -> None:
        """:meth:`terminate`, for a request that is answered with another error."""
        try:
            self.terminate(upload, spare_complete=spare_complete)
        except UploadInUse as error:
            logger.warning("%s is not removed: %s", upload.id, describe_cause(error))

    # -- by time -------------------------------------------------------------------

    def expirable(self, *, expired_too: bool) -> Iterator[tuple[Upload, Cutoff]]:
        """Uploads that are too old, each with the moments that decide it."""
        cutoff = self._expiry.cutoff()
        if cutoff is None:
            return
        for upload in self._repository.expirable(cutoff, expired_too):
            yield upload, cutoff

    def expire(
        self, upload: Upload, cutoff: Cutoff, *, keep_record: bool
    ) -> Expired | None:
        """Expire one upload, if it is still unfinished and still too old.

        :param keep_record: keep the row, with the state ``expired``. A row that other
            rows refer to is always kept.
        :return: ``None``: the upload is no longer too old.
        """
        members = self.members_of(upload)
        if keep_record:
            expired = self._expire_record(upload, cutoff, None)
        else:
            try:
                gone = self._repository.expire(upload.id, cutoff, self._clock())
            except UploadInUse as error:
                logger.warning(
                    "the record of %s stays: %s", upload.id, describe_cause(error)
                )
                expired = self._expire_record(upload, cutoff, error)
            else:
                expired = None if gone is None else self._finish_one(gone)
        if expired is not None:
            self.drop(members)
        return expired

    def expire_all(
        self, uploads: Iterable[Upload], cutoff: Cutoff, *, keep_records: bool
    ) -> Iterator[Expired]:
        """:meth:`expire` for many uploads.

        Hundreds of them share a transaction. One that fails does not stop the others:
        its error is in its outcome.
        """
        left = iter(uploads)
        while batch := list(islice(left, TOGETHER)):
            alone: Sequence[Upload] = batch
            together = [one for one in batch if kind_of(one) is Kind.ORDINARY]
            if len(together) > 1 and not keep_records:
                done = self._expire_together(together, cutoff)
                if done is not None:
                    yield from done
                    alone = [one for one in batch if kind_of(one) is not Kind.ORDINARY]
            for upload in alone:
                expired = self._expire_alone(upload, cutoff, keep_record=keep_records)
                if expired is not None:
                    yield expired

    def make_room(self, owner: object) -> bool:
        """Expire an owner's uploads that are too old; ``False``: there are none."""
        cutoff = self._expiry.cutoff()
        if cutoff is None:
            return False
        old = self._repository.expirable_of(owner, cutoff)
        outcomes = list(self.expire_all(old, cutoff, keep_records=False))
        return any(one.upload.status is Status.EXPIRED for one in outcomes)

    def _expire_alone(
        self, upload: Upload, cutoff: Cutoff, *, keep_record: bool
    ) -> Expired | None:
        try:
            return self.expire(upload, cutoff, keep_record=keep_record)
        except ChunkedUploadError as error:
            logger.error("%s does not expire: %s", upload.id, describe_cause(error))
            return Expired(upload, error)

    def _expire_together(
        self, uploads: Sequence[Upload], cutoff: Cutoff
    ) -> list[Expired] | None:
        """Expire uploads in one transaction; ``None``: nothing changed, because of one.

        Those that are missing in the list are no longer too old.
        """
        ids = [upload.id for upload in uploads]
        try:
            gone = self._repository.expire_all(ids, cutoff, self._clock())
        except ChunkedUploadError:
            return None
        return self._finish_all(gone)

    def _expire_record(
        self, upload: Upload, cutoff: Cutoff, error: Exception | None
    ) -> Expired | None:
        """Expire an upload and keep its row.

        :param error: why the row is not deleted.
        """
        is_new = upload.status is not Status.EXPIRED
        gone = self._repository.begin_expiry(upload.id, cutoff) if is_new else upload
        if gone is None:
            return None
        expired = self._finish(gone, gone.blob, is_new=is_new)
        return replace(expired, error=error or expired.error)

    def _finish_one(self, gone: Removed) -> Expired:
        (expired,) = self._finish_all([gone])
        return expired

    def _finish_all(self, gone: Sequence[Removed]) -> list[Expired]:
        """Remove the bytes of expired uploads whose rows are deleted."""
        done: list[Expired] = []
        try:
            with self._storage.removing():
                for one in gone:
                    is_new = one.upload.status is not Status.EXPIRED
                    done.append(self._finish(one.upload, one.blob, is_new=is_new))
        except StorageError as error:
            # After a power failure, the bytes of all may be there again.
            done = [replace(one, error=one.error or error) for one in done]
        self._forget([one.upload.id for one in done if one.error is None])
        return done

    def _finish(self, upload: Upload, blob: Blob | None, *, is_new: bool) -> Expired:
        """Remove the bytes of an upload that has expired.

        :param is_new: it has expired just now, so the signal is sent.
        """
        self._readers.interrupt(upload.id)
        error = self._remove_bytes(upload.id, blob)
        expired = replace(upload, status=Status.EXPIRED)
        if is_new:
            self._gate.announce("expired", expired)
        return Expired(expired, error)

    # -- members of final uploads --------------------------------------------------

    def members_of(self, upload: Upload) -> list[Upload]:
        """The members that may be removed once this final upload needs them no more.

        They are read before its row is removed, because the row names them.
        """
        if self._gate.keeps_partials or kind_of(upload) is not Kind.FINAL:
            return []
        try:
            rows = self._repository.members(upload.id)
        except ChunkedUploadError as error:
            logger.warning("members of %s are not removed: %s", upload.id, error.code)
            return []
        return list({row.id: row for row in rows if row is not None}.values())

    def drop(self, members: list[Upload]) -> None:
        """Remove members that a complete final has used and no open final needs.

        A member that cannot be removed now is removed when it expires.
        """
        for member in members:
            try:
                if self._repository.is_used_up(member.id):
                    self._expiry.require_live(member)
                    self.terminate(member)
            except (UnknownUpload, UploadExpired):
                # Another request removed it, or it expires as other uploads do.
                continue
            except ChunkedUploadError as error:
                logger.warning("%s is not removed: %s", member.id, error.code)
