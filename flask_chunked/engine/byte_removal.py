"""Removes the bytes of uploads whose rows are deleted or expired.

Knows the storage and the notes of removals; nothing of why an upload is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from uuid import UUID

from ..exceptions import ChunkedUploadError
from ..exceptions.base import describe_cause
from ..storage.base import Blob
from .ports import Ports
from .records import Removal, Upload
from .states import Status

logger = logging.getLogger("flask_chunked")


class ByteRemover:
    """The part of the remover that removes bytes."""

    def __init__(self, ports: Ports) -> None:
        self._repository = ports.repository
        self._storage = ports.storage

    def finish_removals(self) -> Iterator[tuple[Removal, Exception | None]]:
        """Remove bytes that a crash or a failing storage left; the errors, if any."""
        for removal in self._repository.removals():
            yield removal, self.finish_removal(removal)

    def finish_removal(self, removal: Removal) -> Exception | None:
        """Remove bytes that were left, and forget them; return what went wrong."""
        return self._remove_noted(removal.upload_id, removal.blob)

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

    def _remove_noted(self, upload_id: UUID, blob: Blob | None) -> Exception | None:
        """Remove bytes whose removal is noted, then the note."""
        if blob is None:
            return None
        error = self._remove_bytes(upload_id, blob)
        if error is None:
            self._forget([upload_id])
        return error

    def _remove_bytes(self, upload_id: UUID, blob: Blob | None) -> Exception | None:
        """Remove bytes, and return what went wrong."""
        if blob is None:
            return None
        try:
            self._storage.delete(blob)
        # The upload is removed already. Its bytes are found again, whatever failed.
        except Exception as error:
            cause = describe_cause(error)
            logger.error("bytes of %s (%s) stay: %s", upload_id, blob.key, cause)
            return error
        return None

    def _forget(self, upload_ids: Sequence[UUID]) -> None:
        """Forget removals whose bytes are gone. If it fails, they are repeated."""
        if not upload_ids:
            return
        try:
            self._repository.forget_removals(upload_ids)
        except ChunkedUploadError as error:
            logger.warning("removals are not forgotten: %s", describe_cause(error))
