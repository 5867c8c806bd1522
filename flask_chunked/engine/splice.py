"""A pipe of the kernel, through which bytes move without being copied to a process."""

from __future__ import annotations

import contextlib
import os

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, which has no such pipes either
    fcntl = None  # type: ignore[assignment]

#: Bytes that it holds; smaller ones cost more system calls than they save.
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
        """A new pipe; ``None`` where it cannot be had in this size."""
        # AttributeError: no Linux. OSError: too many descriptors, or too large pipes.
        with contextlib.suppress(AttributeError, OSError):
            return cls()
        return None

    def close(self) -> None:
        """Close both ends, with whatever is inside."""
        os.close(self.inlet)
        os.close(self.outlet)
