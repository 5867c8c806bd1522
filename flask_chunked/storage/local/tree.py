"""The directory tree of the local storage: opens, creates and prunes directories.

Knows names and descriptors; nothing of uploads or of what the files contain.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from .files import close_file, name_exists, open_at, sync_directory

_DIRECTORY = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_ATTEMPTS = 100


class Tree:
    """The directories below one root.

    The root itself may be or contain symbolic links. Below the root, no symbolic link
    is followed.

    :param root: absolute path; resolved at first use, created when first needed.
    :param durable: sync every directory in which a directory is created.
    :param marker: name of a directory that every root contains. It identifies the root
        of another storage inside this one.
    """

    def __init__(self, root: str, *, durable: bool, marker: str) -> None:
        self.durable = durable
        self.marker = marker
        self._given = root
        self._path: str | None = None
        self._marked = False

    @property
    def path(self) -> str:
        """The root without symbolic links."""
        if self._path is None:
            self._path = os.path.realpath(self._given)
        return self._path

    def open_directory(self, parts: Sequence[str], *, create: bool = False) -> int:
        """Open a directory below the root. The caller closes it.

        :param parts: the names of the directories from the root down.
        :raises FileNotFoundError: the directory does not exist; with ``create``, it was
            removed concurrently.
        """
        return self._descend(self._open_root(create), parts, create)

    def open_file(self, parts: Sequence[str], name: str, flags: int) -> tuple[int, int]:
        """Open a file; with ``O_CREAT``, create missing directories.

        :return: descriptors of the file's directory and of the file; the caller closes
            both.
        :raises FileNotFoundError: the file does not exist.
        """
        create = bool(flags & os.O_CREAT)
        for attempt in range(_ATTEMPTS):
            try:
                directory = self.open_directory(parts, create=create)
                try:
                    return directory, open_at(directory, name, flags)
                except BaseException:
                    close_file(directory)
                    raise
            except FileNotFoundError:
                # With O_CREAT: prune() removed the directory concurrently.
                if not create or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def enter(self, parent: int, name: str) -> int:
        """Open a subdirectory of an open directory. The caller closes it."""
        return self._enter(parent, name, create=False)

    def is_root(self, directory: int) -> bool:
        """True if an open directory is the root of a storage."""
        return name_exists(directory, self.marker)

    def prune(self, parts: Sequence[str]) -> None:
        """Remove empty directories, from the innermost outwards."""
        with suppress(OSError):
            for depth in range(len(parts) - 1, -1, -1):
                directory = self.open_directory(parts[:depth])
                try:
                    os.rmdir(parts[depth], dir_fd=directory)
                finally:
                    close_file(directory)

    def _open_root(self, create: bool) -> int:
        missing: list[str] = []
        path = self.path
        if create:
            while not os.path.isdir(path):
                path, name = os.path.split(path)
                missing.insert(0, name)
        fd = self._descend(os.open(path, _DIRECTORY), missing, create)
        if create and not self._marked:
            try:
                close_file(self._enter(fd, self.marker, create=True))
            except BaseException:
                close_file(fd)
                raise
            self._marked = True
        return fd

    def _descend(self, fd: int, parts: Iterable[str], create: bool) -> int:
        try:
            for part in parts:
                child = self._enter(fd, part, create=create)
                close_file(fd)
                fd = child
        except BaseException:
            close_file(fd)
            raise
        return fd

    def _enter(self, parent: int, name: str, *, create: bool) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            if os.fstat(fd).st_mode & 0o777 != 0o700:
                os.fchmod(fd, 0o700)
            if self.durable:
                # Sync even if another process created the directory: that process may
                # die before its own sync.
                sync_directory(parent)
        except BaseException:
            close_file(fd)
            raise
        return fd
