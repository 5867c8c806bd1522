"""Which directories and file names belong to a key, and which root to a configuration.

Knows names and one size; opens no file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ...exceptions import ConfigurationError, StorageError
from ..values import StorageSettings
from .files import close_file
from .tree import Tree

#: The directory of stages. It also marks the root of a storage.
STAGING = ".staging"


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
