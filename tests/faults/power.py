"""Power loss on paper: what a process did to its files, and what a cut could leave.

A :class:`Recorder` writes down every call that changes files, in order, and every
commit of the database. From that, :class:`World` says what the medium holds if the
power goes at some moment and only some of what was not synced has arrived: any subset
of it, data torn at sectors, names with or without their files.

More hostile than a journalling file system: un-synced changes arrive in no order, and a
file that was synced may have no name yet. Only a rename is one change, as everywhere.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Bytes that arrive whole or not at all.
SECTOR = 512

#: Of a file or directory; never used again, unlike inode numbers.
Node = int


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes were written."""

    node: Node
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Size:
    """A file was cut, or made longer."""

    node: Node
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A name was made (``node``) or removed (``None``)."""

    directory: Node
    name: str
    node: Node | None


@dataclass(frozen=True, slots=True)
class Rename:
    """A name became another one; at once."""

    source: tuple[Node, str]
    target: tuple[Node, str]
    node: Node


@dataclass(frozen=True, slots=True)
class Sync:
    """What was done to this file or directory is on the medium."""

    node: Node


@dataclass(frozen=True, slots=True)
class Commit:
    """The database has committed; what it says now is at this index."""

    index: int


Change = Data | Size | Entry | Rename
#: Index of a change that arrives -> of a write, the sectors; ``None``: all of it.
Survivors = dict[int, frozenset[int] | None]
Event = Change | Sync | Commit


@dataclass
class World:
    """What a medium holds. The root has the name of node 0."""

    directories: dict[Node, dict[str, Node]] = field(default_factory=dict)
    files: dict[Node, bytes] = field(default_factory=dict)

    def copy(self) -> World:
        """Another one with the same content, to be changed."""
        directories = {node: dict(names) for node, names in self.directories.items()}
        return World(directories, dict(self.files))

    def read(self, parts: tuple[str, ...]) -> bytes | None:
        """The file at a path; ``None``: none there."""
        node: Node | None = 0
        for part in parts:
            if node is None:
                return None
            node = self.directories.get(node, {}).get(part)
        return None if node is None else self.files.get(node, b"")

    def apply(self, change: Change, sectors: frozenset[int] | None = None) -> None:
        """Let a change arrive.

        :param sectors: of a write, the sectors that arrive; ``None``: all.
        """
        if isinstance(change, Data):
            self._write(change, sectors)
        elif isinstance(change, Size):
            content = self.files.get(change.node, b"")
            self.files[change.node] = content[: change.size].ljust(change.size, b"\0")
        elif isinstance(change, Rename):
            place, name = change.source
            names = self.directories.setdefault(place, {})
            if names.get(name) == change.node:
                del names[name]
            place, name = change.target
            self.directories.setdefault(place, {})[name] = change.node
        elif change.node is None:
            self.directories.setdefault(change.directory, {}).pop(change.name, None)
        else:
            self.directories.setdefault(change.directory, {})[change.name] = change.node

    def _write(self, change: Data, sectors: frozenset[int] | None) -> None:
        content = bytearray(self.files.get(change.node, b""))
        written = pieces(change)
        if sectors is None:
            written = iter([(change.offset, change.content)])
        for start, piece in written:
            if sectors is not None and start // SECTOR not in sectors:
                continue
            if len(content) < start:
                content.extend(bytes(start - len(content)))
            content[start : start + len(piece)] = piece
        self.files[change.node] = bytes(content)

    def put(self, directory: Path) -> None:
        """Make it real, below a directory; what is there already stays."""
        self._put(0, directory, {})

    def _put(self, node: Node, directory: Path, made: dict[Node, Path]) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, child in self.directories.get(node, {}).items():
            if child in self.directories:
                self._put(child, directory / name, made)
                continue
            path = directory / name
            if child in made:
                path.hardlink_to(made[child])
                continue
            made[child] = path
            path.write_bytes(self.files.get(child, b""))
            path.chmod(0o600)


def pieces(change: Data) -> Iterator[tuple[int, bytes]]:
    """A write, sector by sector: where each piece goes, and its bytes."""
    start, end = change.offset, change.offset + len(change.content)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, change.content[start - change.offset : stop - change.offset]
        start = stop


def unsynced(events: list[Event]) -> list[int]:
    """Indices of the changes that no later sync has put on the medium."""
    synced: set[Node] = set()
    found = []
    for index in range(len(events) - 1, -1, -1):
        event = events[index]
        if isinstance(event, Sync):
            synced.add(event.node)
        elif not isinstance(event, Commit) and not synced & _concerned(event):
            found.append(index)
    return found[::-1]


def _concerned(change: Change) -> set[Node]:
    if isinstance(change, Entry):
        return {change.directory}
    if isinstance(change, Rename):
        return {change.source[0], change.target[0]}
    return {change.node}


def any_subset(
    events: list[Event], pending: list[int], chance: random.Random
) -> Survivors:
    """Some of the changes that are not synced arrive, and of writes some sectors."""
    share = chance.random()
    found: Survivors = {}
    for index in pending:
        if chance.random() > share:
            continue
        change = events[index]
        torn = isinstance(change, Data) and chance.random() < 0.5
        found[index] = _torn(change, chance) if torn else None
    return found


def _torn(change: Event, chance: random.Random) -> frozenset[int]:
    assert isinstance(change, Data)
    first = change.offset // SECTOR
    last = (change.offset + len(change.content) - 1) // SECTOR
    return frozenset(i for i in range(first, last + 1) if chance.random() < 0.5)


def world_after(
    start: World,
    events: list[Event],
    pending: list[int],
    survivors: Survivors,
    since: int = 0,
) -> World:
    """The medium, where these have arrived beside all that was synced.

    :param since: the first event that ``start`` does not have yet.
    """
    world = start.copy()
    lost = set(pending) - set(survivors)
    for index in range(since, len(events)):
        event = events[index]
        if isinstance(event, Change) and index not in lost:
            world.apply(event, survivors.get(index))
    return world


class Recorder:
    """Watches this process; once installed it stays.

    :ivar start: what was there when recording began, all of it on the medium.
    :ivar events: what happened since.
    """

    def __init__(self) -> None:
        self.start = World()
        self.events: list[Event] = []
        self._root: Path | None = None
        self._device = -1
        self._nodes: dict[int, Node] = {}
        self._count = 0
        for name, watch in self._watches().items():
            real = getattr(os, name)
            setattr(os, name, self._watched(real, watch))

    @contextmanager
    def recording(self, root: Path) -> Iterator[None]:
        """Write down what happens below a directory."""
        self.start, self.events, self._nodes, self._count = World(), [], {}, 0
        self._device = root.stat().st_dev
        self._take_in(root)
        self._root = root
        try:
            yield
        finally:
            self._root = None

    def commit(self, index: int) -> None:
        """The database has committed."""
        if self._root is not None:
            self.events.append(Commit(index))

    def _take_in(self, directory: Path) -> None:
        node = self._new_node(directory.stat().st_ino)
        names = self.start.directories.setdefault(node, {})
        for path in sorted(directory.iterdir()):
            # The database is another one's to keep.
            if path.name.startswith("app.db") or path.name == "deliveries":
                continue
            if path.is_dir():
                names[path.name] = self._count
                self._take_in(path)
            else:
                names[path.name] = self._new_node(path.stat().st_ino)
                self.start.files[names[path.name]] = path.read_bytes()

    def _new_node(self, inode: int) -> Node:
        node = self._nodes[inode] = self._count
        self._count += 1
        return node

    def _watched(self, real: Any, watch: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._root is None:
                return real(*args, **kwargs)
            return watch(real, *args, **kwargs)

        return call

    def _watches(self) -> Mapping[str, Callable[..., Any]]:
        return {
            "open": self._open,
            "mkdir": self._mkdir,
            "rename": self._rename,
            "replace": self._rename,
            "link": self._link,
            "unlink": self._remove,
            "rmdir": self._remove,
            "pwrite": self._pwrite,
            "splice": self._splice,
            "copy_file_range": self._copy,
            "ftruncate": self._truncate,
            "fdatasync": self._sync,
            "fsync": self._sync,
        }

    def _node(self, fd: int) -> Node | None:
        status = os.fstat(fd)
        if status.st_dev != self._device:
            return None
        return self._nodes.get(status.st_ino)

    def _open(
        self,
        real: Any,
        path: Any,
        flags: int,
        mode: int = 0o777,
        *,
        dir_fd: int | None = None,
    ) -> int:
        place = None if dir_fd is None else self._node(dir_fd)
        is_new = bool(flags & os.O_CREAT) and not _exists(path, dir_fd)
        fd: int = real(path, flags, mode, dir_fd=dir_fd)
        if place is not None and is_new:
            node = self._new_node(os.fstat(fd).st_ino)
            self.events.append(Entry(place, path, node))
        return fd

    def _mkdir(
        self, real: Any, path: Any, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> None:
        real(path, mode, dir_fd=dir_fd)
        place = None if dir_fd is None else self._node(dir_fd)
        if place is not None:
            node = self._new_node(os.stat(path, dir_fd=dir_fd).st_ino)
            # To be told from a file when it is made real.
            self.start.directories.setdefault(node, {})
            self.events.append(Entry(place, path, node))

    def _rename(
        self,
        real: Any,
        source: Any,
        target: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        node = self._nodes[os.stat(source, dir_fd=src_dir_fd).st_ino]
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self.events.append(
            Rename(self._at(source, src_dir_fd), self._at(target, dst_dir_fd), node)
        )

    def _link(
        self, real: Any, source: Any, target: Any, *, src_dir_fd: int, dst_dir_fd: int
    ) -> None:
        node = self._nodes[os.stat(source, dir_fd=src_dir_fd).st_ino]
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        place, name = self._at(target, dst_dir_fd)
        self.events.append(Entry(place, name, node))

    def _at(self, path: Any, dir_fd: int | None) -> tuple[Node, str]:
        directory, name = os.path.split(path)
        status = os.fstat(dir_fd) if dir_fd is not None else os.stat(directory)
        return self._nodes[status.st_ino], name

    def _remove(self, real: Any, path: Any, *, dir_fd: int | None = None) -> None:
        real(path, dir_fd=dir_fd)
        place = None if dir_fd is None else self._node(dir_fd)
        if place is not None:
            self.events.append(Entry(place, path, None))

    def _pwrite(self, real: Any, fd: int, block: Any, offset: int) -> int:
        written: int = real(fd, block, offset)
        self._wrote(fd, offset, written)
        return written

    def _splice(
        self, real: Any, source: int, target: int, count: int, **where: Any
    ) -> int:
        moved: int = real(source, target, count, **where)
        if "offset_dst" in where:
            self._wrote(target, where["offset_dst"], moved)
        return moved

    def _copy(
        self, real: Any, source: int, target: int, count: int, start: int, to: int
    ) -> int:
        copied: int = real(source, target, count, start, to)
        self._wrote(target, to, copied)
        return copied

    def _wrote(self, fd: int, offset: int, count: int) -> None:
        node = self._node(fd)
        if node is not None and count:
            self.events.append(Data(node, offset, os.pread(fd, count, offset)))

    def _truncate(self, real: Any, fd: int, size: int) -> None:
        real(fd, size)
        node = self._node(fd)
        if node is not None:
            self.events.append(Size(node, size))

    def _sync(self, real: Any, fd: int) -> None:
        real(fd)
        node = self._node(fd)
        if node is not None:
            self.events.append(Sync(node))


def _exists(path: Any, dir_fd: int | None) -> bool:
    try:
        os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
