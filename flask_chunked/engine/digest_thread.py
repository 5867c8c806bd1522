"""Updates digests in a background thread while the next block is being received.

Hashing is slower than receiving and writing together, and all three release the GIL. A
separate thread hashes long blocks, so a body takes no longer than its digest.
"""

from __future__ import annotations

import _thread
import queue
import threading
from collections.abc import Sequence
from typing import Protocol

#: The smallest block in bytes that the thread hashes.
WORTH = 128 * 2**10
#: Blocks that may wait for the thread while the next one is received. With one, the
#: receiver needs two buffers, which it fills in turn.
AHEAD = 1


class Digest(Protocol):
    """A digest that takes blocks."""

    def update(self, data: memoryview, /) -> object:
        """Take the next bytes."""


class DigestThread:
    """Passes blocks to digests in order. One thread uses it and closes it.

    :param digests: each of them takes every block.
    """

    def __init__(self, digests: Sequence[Digest]) -> None:
        self._digests = digests
        self._blocks: queue.SimpleQueue[memoryview | None] | None = None
        self._taken: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._waiting = 0

    def update(self, block: memoryview) -> None:
        """Hash the next bytes, now or later.

        A long block must not change before :meth:`wait_for_buffer` or :meth:`join`.
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
        """True if a passed block may still be read."""
        return self._waiting > 0

    def wait_for_buffer(self) -> None:
        """Wait until the buffer before the last one is free again."""
        self._wait_for(AHEAD)

    def join(self) -> None:
        """Wait until all blocks are hashed."""
        self._wait_for(0)

    def close(self) -> None:
        """End the thread. A second call does nothing."""
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
                target=self._run,
                args=(blocks,),
                name="flask-chunked-digest",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:
                # The process may not start more threads, so this one hashes.
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
    """False where gevent has replaced threads: theirs do not run concurrently."""
    return _thread.start_new_thread.__module__ == _thread.__name__
