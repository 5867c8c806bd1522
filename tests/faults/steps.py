"""Names every step that a process takes towards disk and database, and dies at one.

Installed in a forked child only; nothing is ever taken back.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from .ground import Ground

#: Methods of the repository that write.
WRITES = (
    "create",
    "claim",
    "take_over",
    "advance",
    "declare_length",
    "begin_completion",
    "note_verification",
    "refuse_completion",
    "complete",
    "finish",
    "begin_termination",
    "begin_expiry",
    "remove",
    "claim_delivery",
    "mark_delivered",
    "forget_file",
)

Name = Callable[..., "str | None"]


class Steps:
    """The steps so far.

    :param die_at: index of the step at which the process kills itself.
    """

    def __init__(self, die_at: int | None) -> None:
        self.names: list[str] = []
        self._die_at = die_at
        self._writing: str | None = None

    def reach(self, name: str) -> None:
        """Take a step, or die before it."""
        if len(self.names) == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)

    def install(self, ground: Ground) -> None:
        """Watch this process from now on; in an app context."""
        for function, name in _CALLS.items():
            self._watch_call(os, function, name)
        self._watch_call(fcntl, "flock", _lock)
        for function, name in _HALVES.items():
            self._watch_halves(function, name)
        for method in WRITES:
            self._watch_write(ground.here.repository, method)
        event.listen(ground.here.database.engine(), "commit", self._commit)
        ground.blueprint.around_deliver = self._deliver

    def _watch_call(self, module: Any, function: str, name: Name) -> None:
        real = getattr(module, function)

        def watched(*args: Any, **kwargs: Any) -> Any:
            step = name(*args, **kwargs) if _is_called_by_storage() else None
            if step is None:
                return real(*args, **kwargs)
            self.reach(f"{step}: before")
            result = real(*args, **kwargs)
            self.reach(f"{step}: after")
            return result

        setattr(module, function, watched)

    def _watch_halves(self, function: str, name: Name) -> None:
        real = getattr(os, function)

        def watched(*args: Any) -> int:
            step = name(*args)
            first, second = _HALVED[function](*args)
            self.reach(f"{step}: before")
            written = int(real(*first))
            self.reach(f"{step}: half")
            written += int(real(*second))
            self.reach(f"{step}: after")
            return written

        setattr(os, function, watched)

    def _watch_write(self, repository: object, method: str) -> None:
        real = getattr(repository, method)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._writing = f"row {method}"
            self.reach(f"row {method}: before")
            result = real(*args, **kwargs)
            self.reach(f"row {method}: after")
            self._writing = None
            return result

        setattr(repository, method, watched)

    def _commit(self, _connection: object) -> None:
        if self._writing is not None:
            self.reach(f"{self._writing}: commit")

    def _deliver(self, done: bool) -> None:
        self.reach(f"deliver: {'after' if done else 'before'}")


def _is_called_by_storage() -> bool:
    module = str(sys._getframe(2).f_globals.get("__name__"))
    return module.startswith("flask_chunked.storage")


def _what(fd: int) -> str:
    return "stage" if ".staging" in os.readlink(f"/proc/self/fd/{fd}") else "file"


def _open(path: str, flags: int, *_: object, dir_fd: int | None = None) -> str | None:
    if not flags & os.O_CREAT or dir_fd is None:
        return None
    return f"create {_what(dir_fd)}"


def _lock(fd: int, operation: int) -> str:
    return f"{'unlock' if operation == fcntl.LOCK_UN else 'lock'} {_what(fd)}"


def _rename(_: str, target: str, **_fds: int) -> str:
    return "rename to finished" if target.endswith(".done") else "rename stage to file"


def _unlink(_: str, *, dir_fd: int) -> str:
    return f"unlink {_what(dir_fd)}"


#: Function of :mod:`os` -> name of the step; ``None``: no step.
_CALLS: dict[str, Name] = {
    "mkdir": lambda *_, **__: "mkdir",
    "open": _open,
    "ftruncate": lambda *_: "truncate",
    "rename": _rename,
    "link": lambda *_, **__: "link to finished",
    "replace": lambda *_, **__: "move",
    "fdatasync": lambda *_: "sync file",
    "fsync": lambda *_: "sync directory",
    "unlink": _unlink,
    "rmdir": lambda *_, **__: "rmdir",
}
_HALVES: dict[str, Name] = {
    "pwrite": lambda fd, *_: f"write {_what(fd)}",
    "copy_file_range": lambda *_: "copy",
}


def _half_writes(fd: int, block: memoryview, offset: int) -> tuple[Any, Any]:
    middle = len(block) // 2
    return (fd, block[:middle], offset), (fd, block[middle:], offset + middle)


def _half_copies(
    source: int, target: int, count: int, start: int, to: int
) -> tuple[Any, Any]:
    half = count // 2
    return (
        (source, target, half, start, to),
        (source, target, count - half, start + half, to + half),
    )


_HALVED: dict[str, Callable[..., tuple[Any, Any]]] = {
    "pwrite": _half_writes,
    "copy_file_range": _half_copies,
}
