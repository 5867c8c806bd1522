"""Reading a file of the local storage that may be longer than the upload."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from .files import close_file

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class BoundedFile(io.RawIOBase):
    """Reader of the first ``size`` bytes of a file. It ignores the bytes after them.

    It has no ``fileno()``: a server's ``sendfile`` would send all bytes of the file.

    :param fd: owned and closed by the reader.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self._size - self._position))
        block = os.pread(self._fd, count, self._position)
        view[: len(block)] = block
        self._position += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check_open()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        position = start[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def close(self) -> None:
        if not self.closed:
            close_file(self._fd)
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
