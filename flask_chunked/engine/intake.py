"""One request's bytes on their way into an upload: sections, fence, offset.

The rule: bytes are written, then made durable, then the offset moves, then the client
is told. Nothing is locked while the client is being waited for.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

from ..exceptions import ChunkSizeMismatch, Superseded
from ..storage.base import Blob, Stage, Storage
from .ports import Policy, Reader, Repository
from .records import Step, Upload

#: Bytes of the file that ``inspect`` sees.
HEAD_SIZE = 4096
#: A streamed body commits after so many bytes ...
COMMIT_BYTES = 32 * 2**20
#: ... or seconds, whichever is first.
COMMIT_SECONDS = 1.0
#: A concatenation commits after so many bytes.
COPY_BYTES = 256 * 2**20


class Intake:
    """Appends one chunk for one claim. Use as a context manager.

    :param claimed: the snapshot that :meth:`Repository.claim` returned.
    """

    def __init__(
        self,
        claimed: Upload,
        repository: Repository,
        storage: Storage,
        policy: Policy,
        clock: Callable[[], datetime],
    ) -> None:
        blob = claimed.blob
        if blob is None:  # pragma: no cover - an open upload always has a key
            raise ValueError("an upload without a storage key takes no bytes")
        self._claimed = claimed
        self._repository = repository
        self._policy = policy
        self._clock = clock
        self._appender = storage.appender(blob)
        self._digest = hashlib.sha256()
        self._committed = claimed.offset
        self._committed_at = time.monotonic()
        self._state = claimed.storage_state
        #: ``inspect`` did not agree; the bytes must not be committed.
        self.refused = False

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._appender.close()

    @property
    def committed(self) -> int:
        """Bytes of the upload that are committed."""
        return self._committed

    def stream(self, reader: Reader, stop: int | None) -> None:
        """Take a body as it comes; whatever ends it, what arrived is committed.

        :param stop: where the chunk must not go beyond, ``None``: no limit known.
        :raises ChunkSizeMismatch: the body is longer; it is kept up to ``stop``.
        :raises Superseded: a newer request took over; it decides what is kept.
        """
        try:
            self._receive(reader, stop)
        # Whatever ends the body, also a worker that is told to exit while it reads,
        # the bytes that arrived are committed before it goes on.
        except Superseded:
            raise
        except BaseException:
            if not self.refused:
                self._commit_pending()
            raise
        self._commit_pending()

    def _receive(self, reader: Reader, stop: int | None) -> None:
        while not reader.ended:
            block = reader.read()
            if not block:
                if not reader.ended:
                    self._commit_pending()
                    reader.wait()
                continue
            room = len(block) if stop is None else stop - self._appender.position
            self._write(block[:room])
            if room < len(block):
                reported = self._appender.position - self._claimed.offset
                extra = len(block) - room
                raise ChunkSizeMismatch(reported + extra, reported)
            if self._is_due():
                self._commit_pending()

    def copy(self, source: Blob, start: int) -> None:
        """Append another upload's bytes from ``start`` to its end, and commit them.

        The storage copies or shares them; they do not pass through this process.
        """
        while start < source.size:
            count = min(COPY_BYTES, source.size - start)
            with self._appender.exclusive():
                self._check_fence()
                self._appender.copy(source, start, count)
            start += count
            self._commit_pending()

    def take(self, stage: Stage, digest: str) -> None:
        """Append a whole chunk and commit it.

        :param digest: SHA-256 (hex) of the stage's bytes.
        """
        with self._appender.exclusive():
            self._check_fence()
            self._appender.take(stage)
            if not self._needs_inspection():
                self._commit(digest)
                return
        self._inspect()
        with self._appender.exclusive():
            self._check_fence()
            self._commit(digest)

    def _write(self, block: memoryview) -> None:
        if not block:
            return
        with self._appender.exclusive():
            self._check_fence()
            self._appender.write(block)
        self._digest.update(block)

    def _commit_pending(self) -> None:
        if self._appender.position == self._committed:
            return
        if self._needs_inspection():
            self._inspect()
        with self._appender.exclusive():
            self._check_fence()
            self._commit(self._digest.hexdigest())

    def _commit(self, digest: str) -> None:
        receipt = self._appender.flush()
        state = self._state if receipt.state is None else receipt.state
        step = Step(
            upload_id=self._claimed.id,
            fence=self._claimed.fence,
            old_offset=self._committed,
            offset=self._appender.position,
            start=self._claimed.offset,
            digest=digest,
            state=state,
            at=self._clock(),
        )
        if not self._repository.advance(step):
            raise self._superseded()
        self._state = state
        self._committed = step.offset
        self._committed_at = time.monotonic()

    def _check_fence(self) -> None:
        claimed = self._claimed
        if not self._repository.holds(claimed.id, claimed.fence, self._committed):
            raise self._superseded()

    def _superseded(self) -> Superseded:
        row = self._repository.get(self._claimed.id)
        offset = self._committed if row is None else row.offset
        return Superseded(expected=offset, provided=self._claimed.offset)

    def _is_due(self) -> bool:
        pending = self._appender.position - self._committed
        waited = time.monotonic() - self._committed_at
        return pending >= COMMIT_BYTES or waited >= COMMIT_SECONDS

    def _head_size(self) -> int:
        length = self._claimed.length
        return HEAD_SIZE if length is None else min(HEAD_SIZE, length)

    def _needs_inspection(self) -> bool:
        crossing = self._committed < self._head_size() <= self._appender.position
        return crossing and self._policy.inspects

    def _inspect(self) -> None:
        head = self._appender.head(self._head_size())
        self.refused = True
        self._policy.inspect(self._claimed, head)
        self.refused = False
