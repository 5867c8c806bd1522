"""One claim's way to the parts and the tail of an S3 upload."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from ...exceptions import BytesMissing, StorageError, StorageFull, Superseded
from ..base import Appender, Blob, Part, Receipt, Stage, State
from .part_thread import Flight
from .plan import MIN_PART_SIZE
from .reader import open_object
from .spool import BLOCK, Buffer, Spool, SpooledStage

if TYPE_CHECKING:
    from .storage import S3Storage

#: First bytes of an upload that are kept, once the part that they are in was sent.
HEAD_KEPT = 2**16


class S3Appender(Appender):
    """Collects full parts in temporary files and sends them while the next one comes.

    What is below one part when the offset is to move becomes the *tail*: an object of a
    new name each time, so that the one that the row names is never touched.
    """

    # Each commit sends the tail again.
    lingers = True

    def __init__(self, storage: S3Storage, blob: Blob) -> None:
        self.position = blob.size
        self._storage = storage
        self._bucket = storage.bucket
        self._key = blob.key
        self._spool = Spool(storage.spool)
        #: Parts on their way, in their order. The state counts them already.
        self._flights: deque[Flight] = deque()
        self._spool_is_loaded = False
        #: What the row says, and what it will say after the next receipt.
        self._committed = storage.state_of(blob)
        self._state = self._committed
        self._sent: list[Part] = []
        self._receipt: Receipt | None = None
        #: The receipt was asked for again: nobody knows whether the row has it.
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
        """Bytes behind the parts."""
        return self._spool.size if self._spool_is_loaded else self._state.tail_size

    def write(self, block: Buffer) -> None:
        self._section()
        left = memoryview(block).cast("B")
        if left:
            self._load()
        while left:
            self._make_room()
            taken = left[: self._room]
            self._spool.write(taken)
            self._moved(len(taken))
            left = left[len(taken) :]

    def take(self, stage: Stage) -> None:
        self._section()
        if not isinstance(stage, SpooledStage):
            raise TypeError(f"{stage!r} is not a stage of this storage")
        for block in stage.require().blocks():
            self.write(block)
        stage.close()

    def copy(self, source: Blob, start: int, count: int) -> None:
        self._section()
        if start + count > source.size:
            raise BytesMissing()
        if not count:
            return
        place = self._storage.locate(source)
        if place is None:
            raise BytesMissing()
        # Servers may refuse to take ranges of objects that are no larger.
        ranges = source.size > MIN_PART_SIZE
        stop = start + count
        while start < stop:
            self._load()
            self._make_room()
            size = self._state.part_size
            if ranges and not self._spool.size and stop - start >= size:
                if not self._state.parts:
                    self._head = self._storage.first_bytes(place, start, HEAD_KEPT)
                number = self._take_number()
                part = self._bucket.copy_part(
                    self._key, self._upload, number, place, size, start
                )
                self._sent.append(part)
                self._state = replace(self._state, parts=self._state.parts + 1)
                self._moved(size)
                start += size
            else:
                start = self._stream(place, start, min(stop, start + self._room))

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
        self._section()
        if self._receipt is not None:
            self._in_doubt = True
            return self._receipt
        self._in_doubt = False
        if not self._spool_is_loaded and not self._sent:
            # Nothing was written.
            return Receipt(self._state.to_row())
        if self._spool.size == self._state.part_size:
            self._ship()
        while self._flights:
            self._land()
        tail, size = None, self._spool.size
        if size:
            tail = self._storage.tail_name(self._key, uuid4().hex)
            self._bucket.put(tail, self._spool.file, size)
        self._state = replace(self._state, tail=tail, tail_size=size)
        self._receipt = Receipt(self._state.to_row(), tuple(self._sent))
        return self._receipt

    def settle(self, *, committed: bool) -> None:
        if self._receipt is None:
            return
        before, after = self._committed.tail, self._state.tail
        old = before if committed else after
        if committed:
            self._committed = self._state
            self._sent.clear()
            self._receipt = None
        elif self._in_doubt:
            return
        if old is not None and before != after:
            # One that stays is found by a check.
            with suppress(StorageError):
                self._bucket.delete(old)

    def close(self) -> None:
        self._closed = True
        self._inside = False
        for flight in self._flights:
            flight.abandon()
        self._spool.close()

    # -- inside --------------------------------------------------------------------

    @property
    def _room(self) -> int:
        return self._state.part_size - self._spool.size

    @property
    def _upload(self) -> str:
        upload = self._state.upload
        if upload is None:  # pragma: no cover - who asks has taken a number
            raise BytesMissing()
        return upload

    def _section(self) -> None:
        if not self._inside:
            raise RuntimeError("Only allowed inside exclusive()")

    def _moved(self, count: int) -> None:
        self.position += count
        if self._receipt is not None:
            # It was never settled: what it told counts, and tells nothing new.
            self._sent.clear()
            self._receipt = None

    def _load(self) -> None:
        """Have the committed tail in the temporary file."""
        if self._spool_is_loaded:
            return
        tail, size = self._state.tail, self._state.tail_size
        self._spool.empty()
        if tail is not None:
            self._read_into_spool(tail, 0, size)
        self._spool_is_loaded = True

    def _stream(self, source: str, start: int, stop: int) -> int:
        before = self._spool.size
        self._read_into_spool(source, start, stop)
        self._moved(self._spool.size - before)
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

    def _make_room(self) -> None:
        if not self._room:
            self._ship()

    def _ship(self) -> None:
        """Let the temporary file go as a part, and have another one."""
        while len(self._flights) >= self._storage.concurrency:
            self._land()
        number = self._take_number()
        self._keep_head()
        send = partial(self._bucket.send_part, self._key, self._upload, number)
        self._flights.append(Flight(send, self._spool))
        self._spool = Spool(self._storage.spool)
        self._state = replace(self._state, parts=self._state.parts + 1)

    def _land(self) -> None:
        """Wait for the first part on its way; one that failed is sent again here.

        :raises StorageError: it failed, and stays the first.
        """
        self._sent.append(self._flights[0].land())
        self._flights.popleft()

    def _keep_head(self) -> None:
        if not self._state.parts and self._head is None:
            self._head = self._spool.head(HEAD_KEPT)

    def _take_number(self) -> int:
        """A part number that nobody else ever uses, because the row says so first."""
        number = self._state.next_part
        if number > self._storage.plan.max_parts:
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
                # Otherwise nobody knows whether the row names it; a check does.
                if isinstance(error, Superseded):
                    with suppress(StorageError):
                        self._bucket.abort(self._key, begun)
            raise
        self._committed = taken
        return number
