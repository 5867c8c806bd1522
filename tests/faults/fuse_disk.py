"""A file system in memory that knows what of it is on the medium.

``python -m tests.faults.fuse_disk MOUNTPOINT RECORD`` serves it through FUSE until it
is unmounted, and then writes down what was done to it since the file ``/checkpoint``
was made. All that happens below the mount point is seen: also what a database does, and
pages that are written through a mapping.
"""

from __future__ import annotations

import errno
import importlib
import os
import pickle
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .power import Data, Entry, Event, Node, Rename, Size, Sync, World

#: Making this file says: all that is there is on the medium.
CHECKPOINT = "checkpoint"
#: How the library calls a removed file that is still open. On the medium it is gone.
HIDDEN = ".fuse_hidden"


@dataclass
class Record:
    """What was there, and what was done to it since."""

    start: World = field(default_factory=World)
    events: list[Event] = field(default_factory=list)


class Disk:
    """The operations of FUSE, on dictionaries."""

    #: Times are whole numbers, of nanoseconds.
    use_ns = True

    def __init__(self) -> None:
        self.record = Record()
        self._directories: dict[Node, dict[str, Node]] = {0: {}}
        self._files: dict[Node, bytearray] = {}
        self._modes: dict[Node, int] = {0: stat.S_IFDIR | 0o700}
        self._last = 0

    # -- names ---------------------------------------------------------------------

    def _find(self, path: str) -> Node:
        node = 0
        for part in path.strip("/").split("/"):
            if not part:
                continue
            names = self._directories.get(node)
            if names is None:
                raise OSError(errno.ENOTDIR, path)
            if part not in names:
                raise OSError(errno.ENOENT, path)
            node = names[part]
        return node

    def _place(self, path: str) -> tuple[Node, str]:
        parent, _, name = path.rpartition("/")
        return self._find(parent), name

    def _make(self, path: str, mode: int) -> Node:
        directory, name = self._place(path)
        self._last += 1
        node = self._last
        self._modes[node] = mode
        self._directories[directory][name] = node
        self._note(Entry(directory, name, node))
        return node

    def _note(self, event: Event) -> None:
        self.record.events.append(event)

    # -- what FUSE calls -----------------------------------------------------------

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Status of a name."""
        node = self._find(path)
        is_directory = node in self._directories
        now = time.time_ns()
        return {
            "st_mode": self._modes[node],
            "st_ino": node + 1,
            "st_nlink": 2 if is_directory else 1,
            "st_size": 0 if is_directory else len(self._files[node]),
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_mtime": now,
            "st_ctime": now,
            "st_atime": now,
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        """Names of a directory."""
        return [".", "..", *self._directories[self._find(path)]]

    def mkdir(self, path: str, mode: int) -> int:
        """A directory."""
        node = self._make(path, stat.S_IFDIR | mode)
        self._directories[node] = {}
        # To be told from a file when it is made real.
        self.record.start.directories.setdefault(node, {})
        return 0

    def create(self, path: str, mode: int, fi: object = None) -> int:
        """A file."""
        if path == f"/{CHECKPOINT}":
            self._check_point()
        node = self._make(path, stat.S_IFREG | (mode & 0o7777))
        self._files[node] = bytearray()
        return node

    def _check_point(self) -> None:
        names = {node: dict(found) for node, found in self._directories.items()}
        files = {node: bytes(content) for node, content in self._files.items()}
        self.record = Record(World(names, files))

    def open(self, path: str, flags: int) -> int:
        """A handle: the file itself, whatever its name becomes."""
        node = self._find(path)
        if flags & os.O_TRUNC:
            self._cut(node, 0)
        return node

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Bytes."""
        return bytes(self._files[fh][offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Bytes, not yet on the medium."""
        content = self._files[fh]
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        self._note(Data(fh, offset, bytes(data)))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Another size."""
        self._cut(self._find(path) if fh is None else fh, length)
        return 0

    def _cut(self, node: Node, length: int) -> None:
        content = self._files[node]
        del content[length:]
        content.extend(bytes(length - len(content)))
        self._note(Size(node, length))

    def unlink(self, path: str) -> int:
        """No name any more; the bytes stay for who has them open."""
        directory, name = self._place(path)
        self._find(path)
        del self._directories[directory][name]
        if not name.startswith(HIDDEN):
            self._note(Entry(directory, name, None))
        return 0

    def rmdir(self, path: str) -> int:
        """No directory any more."""
        if self._directories[self._find(path)]:
            raise OSError(errno.ENOTEMPTY, path)
        return self.unlink(path)

    def rename(self, old: str, new: str) -> int:
        """Another name, at once."""
        node = self._find(old)
        source, target = self._place(old), self._place(new)
        del self._directories[source[0]][source[1]]
        self._directories[target[0]][target[1]] = node
        if target[1].startswith(HIDDEN):
            self._note(Entry(*source, None))
        else:
            self._note(Rename(source, target, node))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """A file's bytes and size are on the medium."""
        self._note(Sync(fh))
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        """A directory's names are on the medium."""
        self._note(Sync(self._find(path)))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Modes are on the medium at once."""
        node = self._find(path)
        self._modes[node] = stat.S_IFMT(self._modes[node]) | mode
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """All is ours."""
        return 0

    def utimens(self, path: str, times: object = None) -> int:
        """It is always now."""
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        """Space for all."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 2**20, "f_bavail": 2**19}


def main() -> int:
    """Serve until somebody unmounts."""
    mount_point, record = sys.argv[1:]
    package: Any = importlib.import_module("mfusepy")
    disk = Disk()
    served = type("Served", (Disk, package.Operations), {})()
    served.__dict__.update(disk.__dict__)
    package.FUSE(
        served,
        mount_point,
        foreground=True,
        nothreads=True,
        use_ino=True,
    )
    Path(record).write_bytes(pickle.dumps(served.record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
