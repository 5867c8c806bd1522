"""Where the bytes of an S3 upload are: object, parts, tail, and their names.

Knows the bucket and the plan of parts; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...exceptions import StorageError
from ..values import Blob
from .bucket import Bucket
from .plan import PartPlan, UploadState
from .reader import open_object


@dataclass(frozen=True, slots=True)
class S3Layout:
    """What the storage and its appenders share.

    :param bucket: the bucket of all objects.
    :param plan: the sizes of parts.
    :param concurrency: how many parts of one request are sent at once.
    :param spool: directory of temporary files; ``None``: the system's.
    """

    bucket: Bucket
    plan: PartPlan
    concurrency: int
    spool: str | None

    def state_of(self, blob: Blob) -> UploadState:
        """Where the blob's bytes are, according to its row."""
        return UploadState.from_row(blob.state, self.plan.preferred)

    def tail_name(self, key: str, token: str) -> str:
        """The key of a tail object.

        :param token: makes the key unique.
        """
        return f"{key}.tail.{token}"

    def locate(self, blob: Blob) -> str | None:
        """The key of the object that begins with all bytes of the blob, or ``None``.

        :raises StorageError: the bytes are in parts, which cannot be read.
        """
        size = self.bucket.size(blob.key)
        if size is not None:
            return blob.key if size >= blob.size else None
        state = self.state_of(blob)
        if state.size < blob.size:
            return None
        if state.parts:
            raise StorageError("Parts of an unfinished upload cannot be read")
        if state.tail is None or self.bucket.size(state.tail) is None:
            return None
        return state.tail

    def first_bytes(self, key: str, start: int, count: int) -> bytes:
        """``count`` bytes of an object from ``start``; fewer at the object's end."""
        size = self.bucket.size(key) or 0
        try:
            with open_object(self.bucket, key, min(size, start + count)) as reader:
                reader.seek(start)
                return reader.read(count)
        except OSError as error:
            raise StorageError() from error
