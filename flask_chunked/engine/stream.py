"""Writes a request body: reads blocks, writes sections, commits when due."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from ..exceptions import ChunkSizeMismatch, StorageError, Superseded
from ..storage.base import SpliceTarget
from .ports import Ports, Reader
from .records import CompletionRecord, Upload
from .splice import PIPE_SIZE, Pipe
from .writer import SECTION_SECONDS, Claim, UploadWriter

#: A streamed body commits after so many bytes, ...
COMMIT_BYTES = 32 * 2**20
#: ... or after so many seconds, whichever is first.
COMMIT_SECONDS = 1.0


class StreamWriter(UploadWriter):
    """Writes a body as it arrives. On an error, the received bytes stay.

    :param finishing: the commit of the last byte begins completion.
    :param make_record: makes the completion record, if the whole file is written in
        one section, so that its only commit completes the upload; ``None``: not
        possible.
    """

    def __init__(
        self,
        claimed: Upload,
        ports: Ports,
        *,
        finishing: bool = False,
        make_record: Callable[[], CompletionRecord] | None = None,
        claim: Claim | None = None,
    ) -> None:
        super().__init__(claimed, ports, finishing=finishing, claim=claim)
        self._make_record = make_record
        self._pipe: Pipe | None = None
        #: Takes spliced bytes; ``None``: bytes are read and written.
        self._splice_target: SpliceTarget | None = None
        if not self._digests and isinstance(self._appender, SpliceTarget):
            self._splice_target = self._appender

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pipe is not None:
            self._pipe.close()
        super().__exit__(kind, error, trace)

    def stream(self, reader: Reader, stop: int | None) -> None:
        """Write a body. If an error ends it, the received bytes are committed.

        :param stop: the offset that the chunk must not pass; ``None``: no limit.
        :raises ChunkSizeMismatch: the body is longer; the bytes up to ``stop`` stay.
        :raises Superseded: a later request has the upload and decides what stays.
        """
        try:
            self._receive(reader, stop)
        except Superseded:
            raise
        # The received bytes are committed before the error propagates, even if it asks
        # the worker to exit.
        except BaseException as error:
            self.interrupted = reader.interrupted
            if not self.refused:
                self._commit_received(error)
            raise
        self._commit_pending()

    def _commit_received(self, error: BaseException) -> None:
        try:
            self._commit_pending()
        except StorageError:
            # A second failure of the storage adds nothing to the first.
            if not isinstance(error, StorageError):
                raise

    def _receive(self, reader: Reader, stop: int | None) -> None:
        while not reader.ended:
            self._digest_thread.wait_for_buffer()
            block = reader.read()
            if not block:
                if not reader.ended and not self._waited(reader):
                    self.claim()
                    self._commit_pending()
                    reader.wait()
                continue
            with self._appender.exclusive():
                needs_no_claim = self._is_rest_at_end_of_file(block, reader, stop)
                if not needs_no_claim:
                    self._check_fence()
                self._take_section(block, reader, stop)
                due = self._is_due() or reader.ended
                if due and not self._needs_inspection():
                    self._commit(self._finish() if needs_no_claim else None)
            if due:
                self._commit_pending()

    def _waited(self, reader: Reader) -> bool:
        """True if the client went on before a commit was due.

        It waits only for storages whose commits are expensive.
        """
        pending = self._appender.position > self.committed
        interval = self._appender.commit_interval
        if not pending or not interval:
            return False
        left = self._committed_at + interval - time.monotonic()
        return left > 0 and reader.wait(left)

    def _take_section(
        self, block: memoryview, reader: Reader, stop: int | None
    ) -> None:
        """Write a block and the bytes that have arrived, without waiting for more."""
        until = time.monotonic() + SECTION_SECONDS
        count: int | None = self._write_up_to(block, stop)
        while count and not (reader.ended or self._is_due()):
            if time.monotonic() > until:
                return
            count = self._splice(reader, stop)
            if count is None:
                self._digest_thread.wait_for_buffer()
                count = self._write_up_to(reader.read_nowait(), stop)

    def _write_up_to(self, block: memoryview, stop: int | None) -> int:
        room = len(block) if stop is None else stop - self._appender.position
        kept = block[:room]
        if kept:
            self._appender.write(kept)
            # After the write: a digest state stands for bytes that are there.
            self._digest_thread.update(kept)
        if room < len(block):
            reported = self._appender.position - self.claimed.offset
            extra = len(block) - room
            raise ChunkSizeMismatch(reported + extra, reported)
        return len(block)

    def _splice(self, reader: Reader, stop: int | None) -> int | None:
        """Move bytes through a pipe, without copying them into this process.

        :return: the number of bytes; ``None``: not possible, so read and write them.
        """
        target = self._splice_target
        if target is None:
            return None
        room = PIPE_SIZE
        if stop is not None:
            room = min(room, stop - self._appender.position)
        if not room:
            # Further bytes are too many, which a plain read reports.
            return None
        pipe = self._pipe = self._pipe or Pipe.open()
        moved = None if pipe is None else reader.splice_into(pipe.inlet, room)
        if pipe is None or moved is None:
            self._splice_target = None
            return None
        if moved:
            target.write_from_pipe(pipe.outlet, moved)
        return moved

    def _is_rest_at_end_of_file(
        self, block: memoryview, reader: Reader, stop: int | None
    ) -> bool:
        """True if this block ends the body and the file ends at the committed offset.

        Writing it cannot overwrite another writer's bytes, and the commit in the same
        section compares fence and offset itself.
        """
        fits = stop is None or self._appender.position + len(block) <= stop
        return reader.ended and fits and self._is_at_end_of_file()

    def _is_due(self) -> bool:
        pending = self._appender.position - self.committed
        waited = time.monotonic() - self._committed_at
        return pending >= COMMIT_BYTES or waited >= COMMIT_SECONDS

    def _finish(self) -> CompletionRecord | None:
        """Finish the file, if it is whole, and return the completion record."""
        if self._make_record is None or self._appender.position != self.claimed.length:
            return None
        return self._make_record() if self._appender.finish() else None
