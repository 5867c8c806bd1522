"""The appender of the S3 storage: collects parts, sends them, and stores the tail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from uuid import uuid4

from ...exceptions import BytesMissing, StorageError, StorageFull, Superseded
from ..base import Appender, Stage
from ..values import Blob, Buffer, Part, Receipt, State
from .layout import S3Layout
from .part_thread import PartUpload
from .plan import MIN_PART_SIZE
from .reader import open_object
from .spool import BLOCK, Spool, SpooledStage

#: How many first bytes of an upload stay in memory after its first part is sent.
HEAD_KEPT = 2**16


class S3Appender(Appender):
    """Collects each part in a temporary file and sends it while the next is received.

    When the offset is to move, the bytes that do not fill a part become the *tail*: an
    object under a new key each time, so that the tail in the row is never changed.

    No section locks anything. Before a part is sent, its number is taken by
    compare-and-set on the row (:meth:`bind`), so that no other writer sends a part
    under it. A part that a superseded writer sent is in no receipt and is never listed.
    """

    # Each commit sends the tail again.
    commit_interval = 1.0

    def __init__(self, layout: S3Layout, blob: Blob) -> None:
        self.position = blob.size
        self._layout = layout
        self._bucket = layout.bucket
        self._key = blob.key
        self._spool = Spool(layout.spool)
        #: Parts that are being sent, in order. The state counts them already.
        self._part_uploads: deque[PartUpload] = deque()
        self._spool_is_loaded = False
        #: The state in the row, and the state that the next receipt stores there.
        self._committed = layout.state_of(blob)
        self._state = self._committed
        self._sent: list[Part] = []
        self._receipt: Receipt | None = None
        #: True if flush() was called again before committed() or rollback(): it is
        #: unknown whether the earlier receipt was committed.
        self._in_doubt = False
        self._save: Callable[[State], None] | None = None
        self._head: bytes | None = None
        self._inside = False
        self._closed = False

    def bind(self, save: Callable[[State], None]) -> None:
        self._save = save

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if self._inside:
            raise RuntimeError("exclusive() does not nest")
        if self._closed:
            raise StorageError("The appender is closed")
        if self._state.parts_size + self._pending < self.position:
            raise BytesMissing()
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    @property
    def _pending(self) -> int:
        """Bytes after the last part."""
        return self._spool.size if self._spool_is_loaded else self._state.tail_size

    def write(self, block: Buffer) -> None:
        self._require_section()
        left = memoryview(block).cast("B")
        if left:
            self._load()
        while left:
            self._send_if_full()
            taken = left[: self._space]
            self._spool.write(taken)
            self._advance(len(taken))
            left = left[len(taken) :]

    def take(self, stage: Stage) -> None:
        self._require_section()
        if not isinstance(stage, SpooledStage):
            raise TypeError(f"{stage!r} is not a stage of this storage")
        for block in stage.require().blocks():
            self.write(block)
        stage.close()

    def copy(self, source: Blob, start: int, count: int) -> None:
        self._require_section()
        if start + count > source.size:
            raise BytesMissing()
        if not count:
            return
        key = self._layout.locate(source)
        if key is None:
            raise BytesMissing()
        # Servers may refuse to copy a range of an object of this size or less.
        ranges = source.size > MIN_PART_SIZE
        stop = start + count
        while start < stop:
            self._load()
            self._send_if_full()
            size = self._state.part_size
            if ranges and not self._spool.size and stop - start >= size:
                if not self._state.parts:
                    self._head = self._layout.first_bytes(key, start, HEAD_KEPT)
                number = self._take_number()
                part = self._bucket.copy_part(
                    self._key, self._upload, number, key, size, start
                )
                self._sent.append(part)
                self._state = replace(self._state, parts=self._state.parts + 1)
                self._advance(size)
                start += size
            else:
                start = self._stream(key, start, min(stop, start + self._space))

    def head(self, count: int) -> bytes:
        wanted = max(0, min(count, self.position))
        if not wanted:
            return b""
        if self._head is not None:
            if wanted > len(self._head):
                raise StorageError("The first bytes are in a part")
            return self._head[:wanted]
        if self._state.parts:
            raise StorageError("The first bytes are in a part")
        self._load()
        head = self._spool.head(wanted)
        if len(head) < wanted:
            raise BytesMissing()
        return head

    def flush(self) -> Receipt:
        self._require_section()
        if self._receipt is not None:
            self._in_doubt = True
            return self._receipt
        self._in_doubt = False
        if not self._spool_is_loaded and not self._sent:
            # Nothing was written.
            return Receipt(self._state.to_row())
        if self._spool.size == self._state.part_size:
            self._send_part()
        while self._part_uploads:
            self._await_part()
        tail, size = None, self._spool.size
        if size:
            tail = self._layout.tail_name(self._key, uuid4().hex)
            self._bucket.put(tail, self._spool.file, size)
        self._state = replace(self._state, tail=tail, tail_size=size)
        self._receipt = Receipt(self._state.to_row(), tuple(self._sent))
        return self._receipt

    def committed(self) -> None:
        if self._receipt is None:
            return
        old = self._committed.tail
        self._committed = self._state
        self._sent.clear()
        self._receipt = None
        if old != self._state.tail:
            self._delete_tail(old)

    def rollback(self) -> None:
        if self._receipt is None or self._in_doubt:
            return
        if self._state.tail != self._committed.tail:
            self._delete_tail(self._state.tail)

    def _delete_tail(self, tail: str | None) -> None:
        if tail is None:
            return
        # If the object cannot be deleted, check --repair finds it.
        with suppress(StorageError):
            self._bucket.delete(tail)

    def close(self) -> None:
        self._closed = True
        self._inside = False
        for upload in self._part_uploads:
            upload.cancel()
        self._spool.close()

    # -- inside --------------------------------------------------------------------

    @property
    def _space(self) -> int:
        return self._state.part_size - self._spool.size

    @property
    def _upload(self) -> str:
        upload = self._state.upload
        if upload is None:  # pragma: no cover - taking a number sets it
            raise BytesMissing()
        return upload

    def _require_section(self) -> None:
        if not self._inside:
            raise RuntimeError("Only allowed inside exclusive()")

    def _advance(self, count: int) -> None:
        self.position += count
        if self._receipt is not None:
            # A receipt that was not answered counts as committed: the next one does not
            # repeat its parts.
            self._sent.clear()
            self._receipt = None

    def _load(self) -> None:
        """Read the committed tail into the temporary file, once."""
        if self._spool_is_loaded:
            return
        tail, size = self._state.tail, self._state.tail_size
        self._spool.clear()
        if tail is not None:
            self._read_into_spool(tail, 0, size)
        self._spool_is_loaded = True

    def _stream(self, source: str, start: int, stop: int) -> int:
        before = self._spool.size
        self._read_into_spool(source, start, stop)
        self._advance(self._spool.size - before)
        return stop

    def _read_into_spool(self, source: str, start: int, stop: int) -> None:
        try:
            with open_object(self._bucket, source, stop) as reader:
                reader.seek(start)
                while block := reader.read(BLOCK):
                    self._spool.write(block)
        except StorageError:
            raise
        except OSError as error:
            if self._bucket.size(source) is None:
                raise BytesMissing() from error
            raise StorageError() from error

    def _send_if_full(self) -> None:
        if not self._space:
            self._send_part()

    def _send_part(self) -> None:
        """Start to send the temporary file as a part, and begin a new file."""
        while len(self._part_uploads) >= self._layout.concurrency:
            self._await_part()
        number = self._take_number()
        self._keep_head()
        send = partial(self._bucket.send_part, self._key, self._upload, number)
        self._part_uploads.append(PartUpload(send, self._spool))
        self._spool = Spool(self._layout.spool)
        self._state = replace(self._state, parts=self._state.parts + 1)

    def _await_part(self) -> None:
        """Wait for the first part that is being sent.

        :raises StorageError: sending failed; the next call sends the part again.
        """
        self._sent.append(self._part_uploads[0].result())
        self._part_uploads.popleft()

    def _keep_head(self) -> None:
        if not self._state.parts and self._head is None:
            self._head = self._spool.head(HEAD_KEPT)

    def _take_number(self) -> int:
        """Take a part number in the row, so that no other writer ever uses it."""
        number = self._state.next_part
        if number > self._layout.plan.max_parts:
            raise StorageFull("The upload has too many parts")
        begun = None
        if self._state.upload is None:
            begun = self._bucket.begin(self._key)
            self._state = replace(self._state, upload=begun)
        self._state = replace(self._state, next_part=number + 1)
        taken = replace(self._committed, upload=self._upload, next_part=number + 1)
        try:
            if self._save is not None:
                self._save(taken.to_row())
        except BaseException as error:
            if begun is not None:
                self._state = replace(self._state, upload=None, next_part=number)
                # After any other error it is unknown whether the row names the upload;
                # check --repair finds out.
                if isinstance(error, Superseded):
                    with suppress(StorageError):
                        self._bucket.abort(self._key, begun)
            raise
        self._committed = taken
        return number
