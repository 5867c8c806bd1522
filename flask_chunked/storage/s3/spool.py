"""Temporary files that parts, tails and chunks pass through on their way to S3.

They have no name: whatever ends the process ends them too.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from ...exceptions import StorageError, StorageFull
from ..base import Stage

#: Bytes moved at once.
BLOCK = 2**18

Buffer = bytes | bytearray | memoryview


class Spool:
    """Bytes on a local disk, so that sending them can be repeated.

    :param directory: where; ``None``: the system's place for temporary files.
    """

    def __init__(self, directory: str | None) -> None:
        self.size = 0
        self._directory = directory
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        """The open file."""
        if self._file is None:
            with on_disk():
                self._file = cast(
                    BinaryIO,
                    tempfile.TemporaryFile(  # noqa: SIM115
                        dir=self._directory, buffering=0
                    ),
                )
        return self._file

    def write(self, block: Buffer) -> None:
        """Append bytes; all of them or, after an error, none.

        :raises StorageFull: no space left.
        """
        left = memoryview(block)
        file = self.file
        with on_disk():
            try:
                file.seek(self.size)
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(self.size)
                raise
            self.size = file.tell()

    def blocks(self) -> Iterator[bytes]:
        """Everything from the beginning."""
        with on_disk():
            self.file.seek(0)
            while block := self.file.read(BLOCK):
                yield block

    def head(self, count: int) -> bytes:
        """The first bytes."""
        with on_disk():
            self.file.seek(0)
            return self.file.read(count)

    def empty(self) -> None:
        """Forget everything."""
        if self._file is not None:
            with on_disk():
                self._file.truncate(0)
        self.size = 0

    def close(self) -> None:
        """Give the space back; may be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


class SpooledStage(Stage):
    """A chunk in a temporary file."""

    def __init__(self, directory: str | None) -> None:
        self.spool: Spool | None = Spool(directory)
        self.size = 0

    def write(self, block: Buffer) -> int:
        spool = self.require()
        before = spool.size
        spool.write(block)
        self.size = spool.size
        return spool.size - before

    def sha256(self) -> hashlib._Hash:
        digest = hashlib.sha256()
        for block in self.require().blocks():
            digest.update(block)
        return digest

    def require(self) -> Spool:
        """The bytes, unless they are used up."""
        if self.spool is None:
            raise RuntimeError("The stage is closed or was taken")
        return self.spool

    def close(self) -> None:
        if self.spool is not None:
            self.spool.close()
            self.spool = None


@contextmanager
def on_disk() -> Iterator[None]:
    """Errors of the local disk as those of a storage."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (StorageFull() if full else StorageError()) from error
