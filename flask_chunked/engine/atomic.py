"""Writes a chunk that is committed as a whole or discarded.

The chunk is written to the file beyond the committed offset. It does not count until
:meth:`AtomicWriter.commit`; without a commit the next writer truncates it. So no byte
is written twice.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from types import TracebackType

from ..exceptions import ChunkedUploadError
from .writer import SECTION_SECONDS, UploadWriter

#: Bytes that stay in memory until more arrive or the chunk is committed.
KEPT = 64 * 2**10


class ShortChunk:
    """The first bytes of a new upload, in memory.

    :ivar content: the bytes so far.
    """

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, block: memoryview) -> int:
        """Take the next bytes."""
        self.content += block
        return len(block)


class AtomicWriter(UploadWriter):
    """Takes the blocks of one chunk. Call :meth:`pause` before waiting for the client.

    :meth:`pause` claims the upload and releases the file's lock. If the whole chunk
    arrives within one section, it needs no claim: the commit compares fence and offset.
    A short chunk stays in memory until its commit, so a refused request supersedes no
    other.

    :ivar most_kept: the most bytes that stay in memory.
    """

    most_kept = KEPT
    _kept: bytearray | None = None
    #: Bytes are written, or may be.
    _has_begun = False
    _section: ExitStack | None = None
    _until = 0.0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._leave(for_good=True)
        finally:
            super().__exit__(kind, error, trace)

    @property
    def is_inside(self) -> bool:
        """True inside a section, where other writers wait."""
        return self._section is not None

    @property
    def is_due(self) -> bool:
        """True if the section has lasted long enough."""
        return time.monotonic() > self._until

    def write(self, block: memoryview) -> int:
        """Take the next bytes.

        :raises Superseded: another request has the upload.
        """
        if not self._has_begun:
            kept = self._kept = bytearray() if self._kept is None else self._kept
            if len(kept) + len(block) <= self.most_kept:
                kept += block
                return len(block)
            self._write_kept()
        self._write_now(block)
        return len(block)

    def _write_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept:
            self._write_now(memoryview(kept))

    def _write_now(self, block: memoryview) -> None:
        if self.is_due:
            self.pause()
        if self._section is None:
            self._enter_section()
        self._has_begun = True
        self._put(block)

    def pause(self) -> None:
        """Leave the section, so that other writers can enter theirs.

        :raises Superseded, OffsetMismatch: another request has the upload.
        """
        self._leave(for_good=False)

    def _leave(self, *, for_good: bool) -> None:
        section, self._section = self._section, None
        if section is not None:
            with section:
                if not for_good and self._appender.position != self.committed:
                    # Without a claim, other writers would overwrite these bytes.
                    self.claim(if_unchanged=True)

    def commit(self) -> None:
        """Commit the whole chunk.

        :raises Superseded: another request has the upload.
        """
        self._write_kept()
        if self.is_inside and not self._needs_inspection():
            self._commit()
        self.pause()
        self._commit_pending()

    def rollback(self) -> None:
        """Truncate the uncommitted bytes, if this request still has the upload."""
        if self._appender.position == self.committed:
            return
        # On failure, the next writer truncates them.
        with suppress(ChunkedUploadError):
            if not self.is_inside:
                self._enter_section()
            mine = self.upload
            # A commit whose answer was lost may still take effect. A claim waits for
            # it; a read of the row does not.
            claimed = self._repository.claim(mine.id, mine.offset, mine.fence)
            if claimed is not None:
                self._claim = None
                self.upload = self.claimed = claimed
                self._appender.rewind(self.committed)

    def _enter_section(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._appender.exclusive())
            if self.is_claimed or not self._is_at_end_of_file():
                self._check_fence()
            self._section = stack.pop_all()
        self._until = time.monotonic() + SECTION_SECONDS
