"""The directory tree of the local storage, and the names that a key has in it.

Knows names and descriptors; nothing of uploads or of what the files contain.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from ...exceptions import ConfigurationError, InvalidPlace, StorageError
from ..values import StorageSettings
from .files import close_file, name_exists, open_at, sync_directory

#: The directory of stages. It also marks the root of a storage.
STAGING = ".staging"
_DIRECTORY = (
    os.O_RDONLY
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class FilePaths:
    """The files of one key.

    :param directories: names of the directories below the root.
    :param unfinished: file name while the upload is unfinished.
    :param finished: file name of the finished file; may be the same.
    """

    directories: tuple[str, ...]
    unfinished: str
    finished: str

    def candidates(self) -> Iterator[str]:
        """Names to look for, in order.

        The finished name comes first, and again last: if the file is renamed between
        the first two attempts, both miss it.
        """
        yield from (self.finished, self.unfinished, self.finished)

    def is_finished(self, name: str) -> bool:
        """True if the name alone says that the file will not change."""
        return name == self.finished != self.unfinished


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How keys map to files below the root.

    :param root: absolute directory.
    :param pattern: ``strftime`` pattern of the directories below it; may be empty.
    """

    root: str
    pattern: str
    incomplete_ext: str
    complete_ext: str

    @classmethod
    def from_settings(cls, settings: StorageSettings) -> FileLayout:
        """Split the configured path before its first directory that contains ``%``.

        :raises ConfigurationError: a suffix or the path is invalid, or the base is not
            absolute.
        """
        for suffix in (settings.incomplete_ext, settings.complete_ext):
            if "/" in suffix or "\0" in suffix:
                raise ConfigurationError(
                    f"File suffix {suffix!r} contains a slash or a NUL "
                    "character; use a suffix such as '.part'"
                )
        path = PurePosixPath(settings.path)
        static: list[str] = []
        for part in path.parts:
            if "%" in part:
                break
            static.append(part)
        rest = path.parts[len(static) :]
        if ".." in rest or "\0" in settings.path:
            raise ConfigurationError(
                f"Upload path {settings.path!r} is invalid; it must not contain a NUL "
                "character, nor '..' after its first directive"
            )
        root = os.path.join(settings.base, *static)
        if not os.path.isabs(root):
            raise ConfigurationError(
                f"Upload directory {root!r} is relative; set an absolute path or base"
            )
        return cls(root, "/".join(rest), settings.incomplete_ext, settings.complete_ext)

    def paths(self, key: str) -> FilePaths:
        """The files of a key.

        :raises StorageError: the key was not made by this storage.
        """
        *directories, name = key.split("/")
        plain = all(_is_plain(part) for part in (*directories, name))
        if not plain or STAGING in directories:
            raise StorageError("Not a key of this storage")
        return FilePaths(
            tuple(directories), name + self.incomplete_ext, name + self.complete_ext
        )


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

    def require_free(self, directories: Sequence[str]) -> None:
        """Refuse directories that belong to another storage, or to the stages.

        :raises InvalidPlace: ``check`` of the other storage would take a file there for
            one that no upload needs.
        """
        path = self.path
        for name in directories:
            path = os.path.join(path, name)
            if name == self.marker or os.path.lexists(os.path.join(path, self.marker)):
                raise InvalidPlace(
                    f"the directory {'/'.join(directories)!r} belongs to another "
                    "storage, or is used by this one; return another directory"
                )

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


def file_size(tree: Tree, directories: Sequence[str], name: str) -> int | None:
    """Size of a regular file in bytes; ``None`` if it does not exist.

    :raises OSError: the name refers to something other than a regular file.
    """
    try:
        directory = tree.open_directory(directories)
    except FileNotFoundError:
        return None
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    finally:
        close_file(directory)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", name)
    return status.st_size


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "\0" not in name
