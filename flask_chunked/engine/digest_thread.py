"""What is done with bytes while the next ones are on their way.

Hashing is slower than receiving and writing together, and all of them let the
interpreter go: long blocks are hashed in a thread of their own, so that a body takes as
long as its digest alone.
"""

from __future__ import annotations

import _thread
import queue
import threading
from collections.abc import Sequence
from typing import Protocol

#: Bytes of a block that is worth the way to another thread.
WORTH = 128 * 2**10
#: Blocks that may be waiting while the next one is received: one, so that whoever
#: receives needs two buffers in turn.
AHEAD = 1


class Digest(Protocol):
    """What takes blocks."""

    def update(self, data: memoryview, /) -> object:
        """Take the next bytes."""


class Beside:
    """Gives blocks to digests in their order; for one thread, which closes it.

    :param digests: all of them take each block.
    """

    def __init__(self, digests: Sequence[Digest]) -> None:
        self._digests = digests
        self._blocks: queue.SimpleQueue[memoryview | None] | None = None
        self._taken: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._waiting = 0

    def update(self, block: memoryview) -> None:
        """Take the next bytes, perhaps later.

        A long block must stay as it is until :meth:`make_room` or :meth:`settle`.
        """
        if not self._digests:
            return
        is_short = len(block) < WORTH and not self._waiting
        if is_short or not self._has_thread():
            self._take(block)
            return
        assert self._blocks is not None
        self._blocks.put(block)
        self._waiting += 1

    @property
    def is_at_work(self) -> bool:
        """May a block that was given still be looked at?"""
        return self._waiting > 0

    def make_room(self) -> None:
        """Wait until the buffer before the last one may be filled again."""
        self._wait_for(AHEAD)

    def settle(self) -> None:
        """Wait until all bytes are taken."""
        self._wait_for(0)

    def close(self) -> None:
        """Let the thread end; may be called twice."""
        if self._blocks is not None:
            self._blocks.put(None)
            self._blocks = None

    def _wait_for(self, waiting: int) -> None:
        while self._waiting > waiting:
            failure = self._taken.get()
            self._waiting -= 1
            if failure is not None:
                raise failure

    def _has_thread(self) -> bool:
        if self._blocks is None and _threads_are_real():
            blocks: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._run, args=(blocks,), name="beside", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # No more threads for this process; it takes longer, that is all.
                return False
            self._blocks = blocks
        return self._blocks is not None

    def _take(self, block: memoryview) -> None:
        for digest in self._digests:
            digest.update(block)

    def _run(self, blocks: queue.SimpleQueue[memoryview | None]) -> None:
        while (block := blocks.get()) is not None:
            failure: Exception | None = None
            try:
                self._take(block)
            except Exception as error:
                failure = error
            block = None
            self._taken.put(failure)


def _threads_are_real() -> bool:
    """Would another thread run at the same time? Those of gevent would not."""
    return _thread.start_new_thread.__module__ == _thread.__name__
