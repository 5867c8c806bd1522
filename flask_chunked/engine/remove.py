"""Removes uploads that are terminated, refused, expired or discarded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..exceptions import ChunkedUploadError, UnknownUpload, UploadExpired
from .expiry import Expiry
from .gate import Gate, Kind, kind_of
from .interruption import ActiveReaders
from .ports import Ports
from .records import Cutoff, Upload
from .states import Status

logger = logging.getLogger("flask_chunked")


class Remover:
    """Removes uploads: bytes first, then the row, so a crash can be repaired."""

    def __init__(self, ports: Ports, expiry: Expiry, readers: ActiveReaders) -> None:
        self._repository = ports.repository
        self._storage = ports.storage
        self._gate = Gate(ports.policy, ports.storage)
        self._expiry = expiry
        self._readers = readers

    # -- on request ----------------------------------------------------------------

    def terminate(self, upload: Upload, *, spare_complete: bool = False) -> None:
        """Remove bytes and row.

        :param spare_complete: keep the upload if it is complete.
        :raises UnknownUpload: another request removed it, or it is kept.
        """
        gone = self._repository.begin_termination(
            upload.id, spare_complete=spare_complete
        )
        if gone is None:
            raise UnknownUpload()
        self._readers.interrupt(upload.id)
        members = self.members_of(gone)
        self._remove(gone)
        self._gate.announce("terminated", gone)
        self.drop(members)

    def refuse(self, seen: Upload) -> None:
        """Remove an upload that the application refused, unless another request has it.

        :param seen: the upload with the refused request's fence and offset.
        """
        if self._repository.holds(seen.id, seen.fence, seen.offset):
            self.terminate(seen)

    def discard(self, upload: Upload, *, unless_started: bool = False) -> None:
        """Remove an upload that is not complete, if it still exists.

        :param unless_started: keep it if bytes of it are committed.
        """
        row = self._repository.get(upload.id)
        if row is None or row.is_complete or (unless_started and row.offset):
            return
        # Another request may complete it, or remove it, at the same time.
        with suppress(UnknownUpload):
            self.terminate(row, spare_complete=True)

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

    # -- by time -------------------------------------------------------------------

    def expire(
        self, upload: Upload, cutoff: Cutoff, *, keep_record: bool
    ) -> Upload | None:
        """Expire one upload, if it is still unfinished and still too old.

        :param keep_record: keep the row, with the state ``expired``.
        :return: ``None``: the upload is no longer too old.
        """
        fresh = upload.status is not Status.EXPIRED
        gone = self._repository.begin_expiry(upload.id, cutoff) if fresh else upload
        if gone is None:
            return None
        members = self.members_of(gone)
        self._remove(gone, keep_record=keep_record)
        if fresh:
            self._gate.announce("expired", gone)
        self.drop(members)
        return gone

    def expirable(self, *, expired_too: bool) -> Iterator[tuple[Upload, Cutoff]]:
        """Uploads that are too old, each with the moments that decide it."""
        cutoff = self._expiry.cutoff()
        if cutoff is None:
            return
        for upload in self._repository.expirable(cutoff, expired_too):
            yield upload, cutoff

    def make_room(self, owner: object) -> bool:
        """Expire an owner's uploads that are too old; ``False``: there are none."""
        cutoff = self._expiry.cutoff()
        if cutoff is None:
            return False
        old = list(self._repository.expirable_of(owner, cutoff))
        gone = [self.expire(upload, cutoff, keep_record=False) for upload in old]
        return any(gone)

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

    # -- bytes ---------------------------------------------------------------------

    def delete_bytes(self, upload: Upload) -> None:
        """Delete the upload's bytes only. Its row is gone or is being removed."""
        if upload.blob is not None:
            self._storage.delete(upload.blob)

    def truncate_uncommitted(self, upload: Upload) -> bool:
        """Remove the bytes beyond the offset; ``False``: another writer has them.

        Crashes and superseded writers leave such bytes.
        """
        if upload.blob is None:
            return False
        if upload.status is not Status.UPLOADING:
            self._storage.truncate(upload.blob)
            return True
        claimed = self._repository.claim(upload.id, upload.offset)
        if claimed is None or claimed.blob is None:
            return False
        with self._storage.appender(claimed.blob) as appender, appender.exclusive():
            if not self._repository.holds(claimed.id, claimed.fence, claimed.offset):
                return False
            # An empty write truncates the bytes beyond the position.
            appender.write(b"")
        return True

    def _remove(self, upload: Upload, *, keep_record: bool = False) -> None:
        self.delete_bytes(upload)
        if not keep_record:
            self._repository.remove(upload)
