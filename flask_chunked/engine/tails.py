"""Bytes beyond the offset, left by a crash or by a writer that was superseded."""

from __future__ import annotations

from ..storage.base import Storage
from .ports import Repository
from .records import Upload
from .states import Status


def cut_tail(repository: Repository, storage: Storage, upload: Upload) -> bool:
    """See :meth:`Engine.cut_tail`."""
    if upload.blob is None:
        return False
    if upload.status is not Status.UPLOADING:
        storage.cut(upload.blob)
        return True
    claimed = repository.claim(upload.id, upload.offset)
    if claimed is None or claimed.blob is None:
        return False
    with storage.appender(claimed.blob) as appender, appender.exclusive():
        if not repository.holds(claimed.id, claimed.fence, claimed.offset):
            return False
        # Writing nothing cuts what stands behind the position.
        appender.write(b"")
    return True
