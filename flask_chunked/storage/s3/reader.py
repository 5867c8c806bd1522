"""Reading an object of a bucket as a seekable file, in blocks."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from ...exceptions import StorageError
from .bucket import Bucket
from .errors import translate_boto_errors
from .spool import BLOCK

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: How often a read is attempted if the stream breaks.
ATTEMPTS = 3


class ObjectReader(io.RawIOBase):
    """Reader of the first bytes of an object.

    :param size: how many bytes can be read.
    """

    def __init__(self, bucket: Bucket, key: str, size: int) -> None:
        self._bucket = bucket
        self._key = key
        self._size = size
        self._position = 0
        self._stream: Any = None

    def readable(self) -> bool:
        """Always True."""
        return True

    def seekable(self) -> bool:
        """Always True."""
        return True

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position. The next read requests the bytes from there."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        position = base[whence] + offset
        if position < 0:
            raise ValueError("negative seek position")
        if position != self._position:
            self._drop()
        self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into the buffer as many bytes as the stream returns at once.

        :raises OSError: the bytes cannot be read.
        """
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        if not view:
            return 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                block = self._read(len(view))
                break
            except StorageError as error:
                self._drop()
                if attempt == ATTEMPTS:
                    raise OSError(f"cannot read object {self._key}") from error
        view[: len(block)] = block
        self._position += len(block)
        return len(block)

    def _read(self, count: int) -> bytes:
        if self._stream is None:
            self._stream = self._bucket.get(self._key, self._position, self._size)
        with translate_boto_errors():
            block: bytes = self._stream.read(count)
        if not block:
            raise StorageError()
        return block

    def _drop(self) -> None:
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
            self._stream = None

    def close(self) -> None:
        """Release the connection."""
        self._drop()
        super().close()


def open_object(bucket: Bucket, key: str, size: int) -> BinaryIO:
    """A buffered reader of an object's first ``size`` bytes."""
    return io.BufferedReader(ObjectReader(bucket, key, size), BLOCK)
