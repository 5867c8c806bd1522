"""The stage of the local storage: a temporary file for one whole chunk."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from uuid import uuid4

from ..base import Stage
from ..os_errors import storage_error
from .files import CREATE_NEW, close_file, try_lock, write_all
from .paths import Tree
from .preallocation import Preallocation


class LocalStage(Stage):
    """A named file in the staging directory, locked while its owner lives.

    The kernel releases the lock when the process ends. A stage whose lock is free was
    therefore left by a process that died.
    """

    def __init__(self, tree: Tree, preallocation: Preallocation) -> None:
        self.size = 0
        self._preallocation = preallocation
        self.fd = -1
        self.directory = -1
        try:
            while self.fd < 0:
                self._create(tree)
        except OSError as error:
            raise storage_error(error) from error

    def _create(self, tree: Tree) -> None:
        self.name = uuid4().hex
        self.directory, self.fd = tree.open_file((tree.marker,), self.name, CREATE_NEW)
        try:
            # Between creation and locking, discard() may remove the unlocked file.
            if try_lock(self.fd) and os.fstat(self.fd).st_nlink:
                return
        except BaseException:
            self.close()
            raise
        self.close()

    def write(self, block: bytes | bytearray | memoryview) -> int:
        if self.fd < 0:
            raise RuntimeError("The stage is closed or was taken")
        try:
            self._preallocation.reserve(self.fd, self.size, len(block))
            written = write_all(self.fd, block, self.size)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self.fd, self.size)
            raise storage_error(error) from error
        self.size += written
        return written

    def set_length(self, length: int) -> None:
        self._preallocation.set_length(length)

    def sha256(self) -> hashlib._Hash:
        if self.fd < 0:
            raise RuntimeError("The stage is closed or was taken")
        hasher = hashlib.sha256()
        position = 0
        try:
            while block := os.pread(self.fd, 2**20, position):
                hasher.update(block)
                position += len(block)
        except OSError as error:
            raise storage_error(error) from error
        return hasher

    def detach(self) -> int:
        """Pass the descriptor and its lock to the caller, and close the stage.

        The file must no longer be in the staging directory.
        """
        fd, self.fd = self.fd, -1
        self.close()
        return fd

    def close(self) -> None:
        if self.fd >= 0:
            # Unlink while the lock is held. If that fails, discard() removes the file
            # later.
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self.directory)
        for fd in (self.fd, self.directory):
            if fd >= 0:
                close_file(fd)
        self.fd = self.directory = -1
