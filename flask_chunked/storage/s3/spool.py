"""Temporary files that hold parts, tails and chunks on their way to S3.

They have no name, so the system removes them when the process ends.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from ..base import Stage
from ..os_errors import translate_os_errors
from ..values import Buffer

#: Bytes that are moved at once.
BLOCK = 2**18


class Spool:
    """Bytes on a local disk, so that they can be sent again after a failure.

    :param directory: where the file is created; ``None``: the system's directory for
        temporary files.
    """

    def __init__(self, directory: str | None) -> None:
        self.size = 0
        self._directory = directory
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        """The open file; created at first use."""
        if self._file is None:
            with translate_os_errors():
                self._file = cast(
                    BinaryIO,
                    tempfile.TemporaryFile(  # noqa: SIM115
                        dir=self._directory, buffering=0
                    ),
                )
        return self._file

    def write(self, block: Buffer) -> None:
        """Append all bytes, or none if an error is raised.

        :raises StorageFull: no space is left.
        """
        left = memoryview(block)
        file = self.file
        with translate_os_errors():
            try:
                file.seek(self.size)
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(self.size)
                raise
            self.size = file.tell()

    def blocks(self) -> Iterator[bytes]:
        """All bytes from the beginning."""
        with translate_os_errors():
            self.file.seek(0)
            while block := self.file.read(BLOCK):
                yield block

    def head(self, count: int) -> bytes:
        """The first ``count`` bytes; fewer if the file is shorter."""
        with translate_os_errors():
            self.file.seek(0)
            return self.file.read(count)

    def clear(self) -> None:
        """Remove all bytes."""
        if self._file is not None:
            with translate_os_errors():
                self._file.truncate(0)
        self.size = 0

    def close(self) -> None:
        """Free the disk space. May be called more than once."""
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
        """The temporary file.

        :raises RuntimeError: the stage is closed or was taken.
        """
        if self.spool is None:
            raise RuntimeError("The stage is closed or was taken")
        return self.spool

    def close(self) -> None:
        if self.spool is not None:
            self.spool.close()
            self.spool = None
