"""A request's body as the engine reads it: blocks, silence, its end and its limits.

Bytes are counted against Content-Length, never EOF alone, since servers end a cut body
as if it were whole.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..exceptions import (
    BodyInterrupted,
    BodyTimeout,
    BodyTooSlow,
    LengthRequired,
    MalformedHeader,
)
from .servers import Source, StreamSource, source_of

logger = logging.getLogger("flask_chunked")

#: Makes the error that ended a body.
Failure = Callable[[], BodyInterrupted | BodyTimeout]

#: Bytes of one block, the most that a reader holds.
BLOCK_SIZE = 256 * 2**10
#: Bytes of a body that comes in one block, as good as always.
SHORT = 64 * 2**10
#: Seconds without a byte after which a client counts as silent.
PATIENCE = 0.05
#: Seconds in which a block is filled, however slowly the client goes on.
FILL_SECONDS = 0.25
#: Seconds that may be waited while others are kept out of the upload.
PROMPTNESS = 0.002
#: Bytes of a refused body that are read away, so that the client can read the answer.
DRAIN_BYTES = 2**20
#: Seconds that this may take.
DRAIN_SECONDS = 1.0


class Pace:
    """Is a client fast enough? Only the time spent waiting for it counts.

    :param least: bytes per second.
    :param window: seconds of waiting after which an average is judged.
    """

    def __init__(self, least: int, window: float) -> None:
        self.least = least
        self._window = window
        self._waited = 0.0
        self._came = 0

    def is_too_slow(self, waited: float, came: int) -> bool:
        """Note what came for so many seconds of waiting."""
        self._waited += waited
        self._came += came
        if self._waited < self._window:
            return False
        is_slow = self._came < self.least * self._waited
        self._waited, self._came = 0.0, 0
        return is_slow


class BodyReader:
    """The body of one request, in blocks of two buffers that are used in turn.

    :param length: Content-Length in bytes; ``None``: the server ends the body itself.
    :param timeout: seconds of silence after which the client is given up.
    :param min_rate: bytes per second below which it is given up too; ``None``: none.
    """

    def __init__(
        self,
        source: Source,
        length: int | None,
        timeout: float,
        min_rate: int | None = None,
    ) -> None:
        self._source = source
        self._length = length
        self._timeout = timeout
        self._pace = None if min_rate is None else Pace(min_rate, timeout)
        self._spare: memoryview | None = None
        self._unread: memoryview | None = None
        self._last_block: memoryview | None = None
        # One that was raised would keep what its frames hold.
        self._failure: Failure | None = None
        self._is_interrupted = False
        self._last = 0
        self.received = 0
        self.ended = length == 0

    @property
    def is_short(self) -> bool:
        """See the engine's ``Reader`` port."""
        return self._length is not None and self._length <= SHORT

    def read(self) -> memoryview:
        """Up to one block of what is there; see the engine's ``Reader`` port."""
        if self._unread:
            block, self._unread = self._unread, None
            return block
        if self._failure is not None:
            raise self._failure()
        return self._block(PATIENCE, time.monotonic() + FILL_SECONDS)

    def unread(self, block: memoryview) -> None:
        """Take a block back; see the engine's ``Reader`` port."""
        self._unread = block

    def read_ready(self) -> memoryview:
        """What is there by now; see the engine's ``Reader`` port."""
        if self._failure is not None or not self._source.polls:
            return memoryview(b"")
        return self._block(PROMPTNESS, time.monotonic() + PROMPTNESS)

    def pour(self, pipe: int, count: int) -> int | None:
        """Move bytes from the socket into a pipe; see the engine's ``Reader`` port."""
        socket_fd = self._source.descriptor()
        if socket_fd is None or self._length is None or self._failure is not None:
            return None
        began = time.monotonic()
        if not self._source.wait(PROMPTNESS):
            self._note_pace(began, 0)
            return 0
        try:
            moved = os.splice(socket_fd, pipe, min(count, self._length - self.received))
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            self._fail(error)
            return 0
        self._source.moved(moved)
        self._account(moved)
        self._note_pace(began, moved)
        return moved

    def _block(self, patience: float, until: float) -> memoryview:
        if self._spare is None:
            self._spare = memoryview(bytearray(self._block_size()))
        filled = self._fill(self._spare, patience, until)
        block = self._spare[:filled]
        if filled:
            self._spare, self._last_block = self._last_block, self._spare
        return block

    def _fill(self, view: memoryview, patience: float, until: float) -> int:
        """Fill the view until it is full, the client silent or the time up."""
        filled = 0
        now = time.monotonic()
        while filled < len(view) and not self.ended and self._failure is None:
            began = now
            came = self._receive(view[filled:], patience)
            now = self._note_pace(began, self._last if came else 0)
            if not came:
                break
            filled += self._last
            if now > until:
                break
        if not filled and self._failure is not None:
            raise self._failure()
        return filled

    def wait(self) -> None:
        """Wait for the client; see the engine's ``Reader`` port."""
        if self._failure is not None:
            raise self._failure()
        began = time.monotonic()
        if not self._source.wait(self._timeout):
            self._time_out(partial(BodyTimeout, self._timeout))
        self._note_pace(began, 0)
        if self._failure is not None:
            raise self._failure()

    def linger(self, seconds: float) -> bool:
        """Wait a little; see the engine's ``Reader`` port."""
        if self._failure is not None:
            raise self._failure()
        began = time.monotonic()
        came = self._source.wait(min(seconds, self._timeout))
        self._note_pace(began, 0)
        return came

    def read_ready_into(self, view: memoryview) -> int:
        """Fill some of a view with what is there by now; 0: nobody knows of anything.

        :raises BodyInterrupted, BodyTimeout: as :meth:`read`.
        """
        if not self._source.polls:
            return 0
        return self._fill(view, PROMPTNESS, time.monotonic() + PROMPTNESS)

    def read_into(self, view: memoryview) -> int:
        """Fill some of a view, waiting for the client; 0 is the end of the body.

        :raises BodyInterrupted, BodyTimeout: as :meth:`read` and :meth:`wait`.
        """
        while not self.ended:
            filled = self._fill(view, PROMPTNESS, time.monotonic() + FILL_SECONDS)
            if filled:
                return filled
            if not self.ended:
                self.wait()
        return 0

    @property
    def is_let_go(self) -> bool:
        """See the engine's ``Reader`` port."""
        return self._is_interrupted

    def interrupt(self) -> None:
        """End the body from another thread; see the engine's ``Reader`` port."""
        # One that is all here needs no letting go, and its connection may live on.
        if not self.ended:
            self._is_interrupted = True
            self._source.give_up()

    @property
    def is_spoilt(self) -> bool:
        """Did the body end before its end, so that the connection is of no use?

        What the client still sends would be taken for its next request.
        """
        return self._failure is not None or self._is_interrupted

    def hang_up(self) -> None:
        """Close the connection; to be called when the answer was sent."""
        self._source.hang_up()

    def drain(self) -> None:
        """Read a little of a body that nobody wants, for the sake of the answer."""
        if isinstance(self._source, StreamSource):
            # Without a socket to poll this could wait for the client for ever.
            return
        deadline = time.monotonic() + DRAIN_SECONDS
        drained = 0
        try:
            while not self.ended and drained < DRAIN_BYTES:
                left = deadline - time.monotonic()
                if left <= 0 or not self._source.wait(min(left, PATIENCE)):
                    return
                drained += len(self.read())
        except (BodyInterrupted, BodyTimeout):
            return

    def _time_out(self, failure: Failure) -> None:
        self._failure = failure
        self._source.give_up()

    def _note_pace(self, began: float, came: int) -> float:
        """Judge what came since then; the time now."""
        now = time.monotonic()
        pace = self._pace
        if pace is None or self.ended or self._failure is not None:
            return now
        if pace.is_too_slow(now - began, came):
            self._time_out(partial(BodyTooSlow, self._timeout, pace.least))
        return now

    def _block_size(self) -> int:
        return BLOCK_SIZE if self._length is None else min(BLOCK_SIZE, self._length)

    def _receive(self, view: memoryview, patience: float) -> bool:
        """Receive once, at the end of what is announced stop; ``False``: nothing."""
        if self._length is not None:
            view = view[: self._length - self.received]
        try:
            count = self._source.receive_at_once(view)
            if count is None:
                if not self._source.wait(patience):
                    return False
                count = self._source.receive(view)
        except TimeoutError:
            self._time_out(partial(BodyTimeout, self._timeout))
            return False
        # Servers tell a lost client, and chunks that are none, in errors of their own;
        # all mean the same, and what arrived before is kept.
        except Exception as error:
            self._fail(error)
            return False
        self._last = count
        self._account(count)
        return bool(count)

    def _fail(self, error: Exception) -> None:
        logger.debug("request body ended with %r", type(error).__name__)
        self._failure = BodyInterrupted

    def _account(self, count: int) -> None:
        """So many bytes came; none is the end of what the server has."""
        self.received += count
        if self._length is None:
            self.ended = not count
        elif self.received == self._length:
            self.ended = True
        elif not count:
            self._failure = BodyInterrupted


def body_length(environ: dict[str, Any]) -> int | None:
    """Bytes of the body; ``None`` where the server ends it itself (chunked).

    :raises MalformedHeader: Content-Length is no number.
    :raises LengthRequired: a chunked body that this server does not pass on.
    """
    if environ.get("HTTP_TRANSFER_ENCODING"):
        if environ.get("CONTENT_LENGTH") or not environ.get("wsgi.input_terminated"):
            raise LengthRequired()
        return None
    text = environ.get("CONTENT_LENGTH") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise MalformedHeader("Content-Length", text[:40], "not a number of bytes")
    return int(text)


def open_body(
    environ: dict[str, Any], timeout: float, min_rate: int | None = None
) -> BodyReader:
    """The reader of a request's body, by what the server shows in its environ.

    :param timeout: seconds of silence after which the client is given up.
    :param min_rate: bytes per second below which it is given up too; ``None``: none.
    """
    length = body_length(environ)
    source = source_of(environ, length, timeout)
    return BodyReader(source, length, timeout, min_rate)
