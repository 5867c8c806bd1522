"""A chunk that counts whole or not at all, written where it will be.

It grows behind the committed offset, as a dead tail does: nothing of it counts before
:meth:`~flask_chunked.engine.engine.Engine.commit`, and the next append would cut it. So
no byte is written twice.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from types import TracebackType

from ..exceptions import ChunkedUploadError
from .writer import SECTION_SECONDS, Intake

#: Bytes that are kept until more come, or until they are known to be right.
KEPT = 64 * 2**10


class ShortChunk:
    """The first bytes of an upload that is made with them, when they are right.

    :ivar content: what came so far, in memory.
    """

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, block: memoryview) -> int:
        """Take the next bytes."""
        self.content += block
        return len(block)


class HeldChunk(Intake):
    """Takes the blocks of one chunk. Whoever waits for the client, pauses first.

    The upload is claimed before others are let in again; never, where the whole chunk
    comes meanwhile: the commit looks at fence and offset itself. A short chunk is kept
    until its commit, so that a request that is refused supersedes nobody.

    :ivar most_kept: bytes at most that wait for others.
    """

    most_kept = KEPT
    _kept: bytearray | None = None
    #: Are there bytes that were written, or may have been?
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
        """Are others kept out of the upload, since bytes kept coming?"""
        return self._section is not None

    @property
    def is_due(self) -> bool:
        """Were others kept out for long enough?"""
        return time.monotonic() > self._until

    def write(self, block: memoryview) -> int:
        """Take the next bytes.

        :raises Superseded: somebody else has the upload.
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
        """Let others in; to be called before the client is waited for.

        :raises Superseded, OffsetMismatch: somebody else has the upload.
        """
        self._leave(for_good=False)

    def _leave(self, *, for_good: bool) -> None:
        section, self._section = self._section, None
        if section is not None:
            with section:
                if not for_good and self._appender.position != self.committed:
                    # Others would write where these bytes are.
                    self.claim(as_seen=True)

    def commit(self) -> None:
        """The chunk is whole: from here on it counts.

        :raises Superseded: somebody else has the upload.
        """
        self._write_kept()
        if self.is_inside and not self._needs_inspection():
            self._commit()
        self.pause()
        self._commit_pending()

    def drop(self) -> None:
        """Cut off what does not count, as far as that can be had."""
        if self._appender.position == self.committed:
            return
        # Where it cannot be had the next append does it.
        with suppress(ChunkedUploadError):
            if not self.is_inside:
                self._enter_section()
            mine = self.upload
            # A commit whose answer is lost may have counted them, or be about to: a
            # claim waits for it, where a look would not.
            claimed = self._repository.claim(mine.id, mine.offset, mine.fence)
            if claimed is not None:
                self._claim = None
                self.upload = self.claimed = claimed
                self._appender.rewind(self.committed)

    def _enter_section(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._appender.exclusive())
            if self.is_claimed or not self._is_alone():
                self._check_fence()
            self._section = stack.pop_all()
        self._until = time.monotonic() + SECTION_SECONDS
