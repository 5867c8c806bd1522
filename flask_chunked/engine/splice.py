"""A kernel pipe, which moves bytes without copying them into the process."""

from __future__ import annotations

import contextlib
import os

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, which has no such pipes either
    fcntl = None  # type: ignore[assignment]

#: The capacity in bytes; smaller pipes cost more system calls than they save.
PIPE_SIZE = 2**20


class Pipe:
    """Both ends of a pipe.

    :ivar inlet: descriptor to write to.
    :ivar outlet: descriptor to read from.
    """

    def __init__(self) -> None:
        self.outlet, self.inlet = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(self.inlet, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls) -> Pipe | None:
        """A new pipe; ``None``: the system has none of this size, or no splice."""
        # AttributeError: not Linux. OSError: too many descriptors or too large a pipe.
        with contextlib.suppress(AttributeError, OSError):
            return cls() if hasattr(os, "splice") else None
        return None

    def close(self) -> None:
        """Close both ends; bytes inside are lost."""
        os.close(self.inlet)
        os.close(self.outlet)
