"""Lets one call of the storage to the operating system fail, and counts them all."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

#: What the local storage calls; ``close`` is left out, its descriptor would leak.
CALLS = (
    (os, "open"),
    (os, "mkdir"),
    (os, "fstat"),
    (os, "stat"),
    (os, "ftruncate"),
    (os, "pwrite"),
    (os, "pread"),
    (os, "splice"),
    (os, "copy_file_range"),
    (os, "rename"),
    (os, "replace"),
    (os, "fdatasync"),
    (os, "fsync"),
    (os, "unlink"),
    (os, "rmdir"),
    (fcntl, "flock"),
)


@dataclass(frozen=True)
class Failure:
    """How a call fails.

    :param code: its ``errno``.
    :param late: it fails after it had its effect, as a lost answer does.
    :param calls: the functions that can fail so; ``None``: all.
    """

    code: int
    late: bool = False
    calls: frozenset[str] | None = None

    def __str__(self) -> str:
        return errno.errorcode[self.code] + ("-late" if self.late else "")


@dataclass
class Calls:
    """The calls so far.

    :param fail_at: number of the call that fails, from 0; calls that cannot fail in
        this way are not counted.
    """

    fail_at: int | None = None
    failure: Failure = field(default_factory=lambda: Failure(errno.EIO))
    names: list[str] = field(default_factory=list)

    @property
    def failed(self) -> str | None:
        """The call that failed, if it was reached."""
        if self.fail_at is None or len(self.names) <= self.fail_at:
            return None
        return self.names[self.fail_at]

    @contextmanager
    def installed(self) -> Iterator[Calls]:
        """Watch the calls of the storage's modules."""
        with (
            mock.patch.multiple(os, **self._watchers(os)),
            mock.patch.multiple(fcntl, **self._watchers(fcntl)),
        ):
            yield self

    def _watchers(self, module: Any) -> dict[str, Any]:
        return {
            name: self._watcher(name, getattr(module, name))
            for owner, name in CALLS
            if owner is module
        }

    def _watcher(self, name: str, real: Any) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            module = str(sys._getframe(1).f_globals.get("__name__"))
            if not module.startswith("flask_chunked.storage"):
                return real(*args, **kwargs)
            if self.failure.calls is not None and name not in self.failure.calls:
                return real(*args, **kwargs)
            self.names.append(name)
            if len(self.names) - 1 != self.fail_at:
                return real(*args, **kwargs)
            if self.failure.late and name != "open":
                real(*args, **kwargs)
            raise OSError(self.failure.code, os.strerror(self.failure.code))

        return watched


@contextmanager
def short_calls() -> Iterator[None]:
    """No write and no copy of the storage takes more than half of what it is given."""
    write, copy = os.pwrite, os.copy_file_range

    def short_write(fd: int, block: memoryview, offset: int) -> int:
        return write(fd, block[: len(block) // 2 or 1], offset)

    def short_copy(source: int, target: int, count: int, start: int, to: int) -> int:
        return copy(source, target, count // 2 or 1, start, to)

    with mock.patch.multiple(os, pwrite=short_write, copy_file_range=short_copy):
        yield
