"""A chunk that comes once more: is it the last one that was committed?"""

from __future__ import annotations

from ..storage.base import Storage
from .complete import stored_digest
from .records import Upload


def may_repeat(upload: Upload, start: int, stop: int) -> bool:
    """See :meth:`Engine.may_repeat`."""
    return stop == upload.offset and start == upload.last_start and start < stop


def is_repeat(
    storage: Storage, upload: Upload, start: int, stop: int, digest: str
) -> bool:
    """See :meth:`Engine.is_repeat`."""
    if not may_repeat(upload, start, stop):
        return False
    if upload.last_digest is not None or upload.blob is None:
        return digest == upload.last_digest
    return digest == stored_digest(storage, upload.blob, "sha256", start)
