"""Reads a request's body in blocks, and notices silence, its end and its limits.

Bytes are counted against Content-Length; end of file alone proves nothing, because
servers report a truncated body as if it were whole.
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

#: Bytes of one block. A reader holds two blocks.
BLOCK_SIZE = 256 * 2**10
#: A body of at most this many bytes almost always arrives in one block.
SHORT_BODY = 64 * 2**10
#: Seconds without a byte after which a client counts as silent.
SILENCE_SECONDS = 0.05
#: Seconds after which a block is handed out, even if the client keeps sending.
FILL_SECONDS = 0.25
#: Seconds that :meth:`BodyReader.read_nowait` waits at most.
NOWAIT_SECONDS = 0.002
#: Bytes of a refused body that are read and dropped, so that the client can read the
#: answer.
DRAIN_BYTES = 2**20
#: Seconds that draining may take.
DRAIN_SECONDS = 1.0


class MinimumRate:
    """Judges whether a client is fast enough, by the time spent waiting for it.

    :param minimum: bytes per second.
    :param window: seconds of waiting after which an average is judged.
    """

    def __init__(self, minimum: int, window: float) -> None:
        self.minimum = minimum
        self._window = window
        self._waited = 0.0
        self._received = 0

    def is_too_slow(self, waited: float, received: int) -> bool:
        """Add a wait and what it brought; judge the average once the window is full.

        :param waited: seconds.
        :param received: bytes.
        """
        self._waited += waited
        self._received += received
        if self._waited < self._window:
            return False
        is_slow = self._received < self.minimum * self._waited
        self._waited, self._received = 0.0, 0
        return is_slow


class BodyReader:
    """The body of one request; implements the engine's ``Reader`` port.

    It fills two buffers in turn: a block is valid until the second read after it.

    :param length: Content-Length in bytes; ``None``: the body has a transfer coding,
        whose end the server notices.
    :param timeout: seconds of silence after which reading ends with an error.
    :param min_rate: bytes per second below which reading ends with an error;
        ``None``: no limit.
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
        self._rate = None if min_rate is None else MinimumRate(min_rate, timeout)
        self._spare: memoryview | None = None
        self._unread: memoryview | None = None
        self._last_block: memoryview | None = None
        # Makes the error: a stored one would keep its traceback and the buffers alive.
        self._failure: Failure | None = None
        self._is_interrupted = False
        self._last = 0
        self.received = 0
        self.ended = length == 0

    @property
    def is_short(self) -> bool:
        """See the engine's ``Reader`` port."""
        return self._length is not None and self._length <= SHORT_BODY

    def read(self) -> memoryview:
        """Up to one block of what is there; see the engine's ``Reader`` port."""
        if self._unread:
            block, self._unread = self._unread, None
            return block
        if self._failure is not None:
            raise self._failure()
        return self._block(SILENCE_SECONDS, time.monotonic() + FILL_SECONDS)

    def unread(self, block: memoryview) -> None:
        """Take a block back; see the engine's ``Reader`` port."""
        self._unread = block

    def read_nowait(self) -> memoryview:
        """What is there now; see the engine's ``Reader`` port."""
        if self._failure is not None or not self._source.pollable:
            return memoryview(b"")
        return self._block(NOWAIT_SECONDS, time.monotonic() + NOWAIT_SECONDS)

    def splice_into(self, pipe: int, count: int) -> int | None:
        """Move bytes from the socket into a pipe; see the engine's ``Reader`` port."""
        socket_fd = self._source.descriptor()
        if socket_fd is None or self._length is None or self._failure is not None:
            return None
        began = time.monotonic()
        if not self._source.wait(NOWAIT_SECONDS):
            self._note_rate(began, 0)
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
        self._source.consumed(moved)
        self._account(moved)
        self._note_rate(began, moved)
        return moved

    def _block(self, silence: float, until: float) -> memoryview:
        if self._spare is None:
            self._spare = memoryview(bytearray(self._block_size()))
        filled = self._fill(self._spare, silence, until)
        block = self._spare[:filled]
        if filled:
            self._spare, self._last_block = self._last_block, self._spare
        return block

    def _fill(self, view: memoryview, silence: float, until: float) -> int:
        """Fill the view until it is full, the client is silent or the time is over.

        :param silence: seconds without a byte that end it.
        :param until: monotonic time that ends it.
        """
        filled = 0
        now = time.monotonic()
        while filled < len(view) and not self.ended and self._failure is None:
            began = now
            has_received = self._receive(view[filled:], silence)
            now = self._note_rate(began, self._last if has_received else 0)
            if not has_received:
                break
            filled += self._last
            if now > until:
                break
        if not filled and self._failure is not None:
            raise self._failure()
        return filled

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the client; see the engine's ``Reader`` port."""
        if self._failure is not None:
            raise self._failure()
        began = time.monotonic()
        if timeout is not None:
            has_gone_on = self._source.wait(min(timeout, self._timeout))
            self._note_rate(began, 0)
            return has_gone_on
        if not self._source.wait(self._timeout):
            self._time_out(partial(BodyTimeout, self._timeout))
        self._note_rate(began, 0)
        if self._failure is not None:
            raise self._failure()
        return True

    def read_nowait_into(self, view: memoryview) -> int:
        """Fill some of a view with what is there now; 0: nothing, or unknown.

        :raises BodyInterrupted, BodyTimeout: as :meth:`read`.
        """
        if not self._source.pollable:
            return 0
        return self._fill(view, NOWAIT_SECONDS, time.monotonic() + NOWAIT_SECONDS)

    def read_into(self, view: memoryview) -> int:
        """Fill some of a view, waiting for the client; 0 is the end of the body.

        :raises BodyInterrupted, BodyTimeout: as :meth:`read` and :meth:`wait`.
        """
        while not self.ended:
            filled = self._fill(view, NOWAIT_SECONDS, time.monotonic() + FILL_SECONDS)
            if filled:
                return filled
            if not self.ended:
                self.wait()
        return 0

    @property
    def interrupted(self) -> bool:
        """See the engine's ``Reader`` port."""
        return self._is_interrupted

    def interrupt(self) -> None:
        """End the body from another thread; see the engine's ``Reader`` port."""
        # A body that has arrived needs no interruption: its connection stays usable.
        if not self.ended:
            self._is_interrupted = True
            self._source.shutdown_read()

    @property
    def must_close(self) -> bool:
        """True if the body was not read to its end, so that the connection is unusable.

        The server would read the rest of the body as the client's next request.
        """
        return self._failure is not None or self._is_interrupted

    def close_connection(self) -> None:
        """Close the connection; call it when the answer has been sent."""
        self._source.close_connection()

    def drain(self) -> None:
        """Read a little of a refused body, so that the client can read the answer."""
        if isinstance(self._source, StreamSource):
            # Without a socket to poll this could wait for the client forever.
            return
        deadline = time.monotonic() + DRAIN_SECONDS
        drained = 0
        try:
            while not self.ended and drained < DRAIN_BYTES:
                left = deadline - time.monotonic()
                if left <= 0 or not self._source.wait(min(left, SILENCE_SECONDS)):
                    return
                drained += len(self.read())
        except (BodyInterrupted, BodyTimeout):
            return

    def _time_out(self, failure: Failure) -> None:
        self._failure = failure
        self._source.shutdown_read()

    def _note_rate(self, began: float, received: int) -> float:
        """Judge the bytes received since ``began``; return the time now."""
        now = time.monotonic()
        rate = self._rate
        if rate is None or self.ended or self._failure is not None:
            return now
        if rate.is_too_slow(now - began, received):
            self._time_out(partial(BodyTooSlow, self._timeout, rate.minimum))
        return now

    def _block_size(self) -> int:
        return BLOCK_SIZE if self._length is None else min(BLOCK_SIZE, self._length)

    def _receive(self, view: memoryview, silence: float) -> bool:
        """Receive once, within the announced length; ``False``: nothing arrived."""
        if self._length is not None:
            view = view[: self._length - self.received]
        try:
            count = self._source.receive_nowait(view)
            if count is None:
                if not self._source.wait(silence):
                    return False
                count = self._source.receive(view)
        except TimeoutError:
            self._time_out(partial(BodyTimeout, self._timeout))
            return False
        # Servers report lost clients and malformed chunks with errors of their own. All
        # of them end the body; what arrived before is kept.
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
        """Count received bytes; 0 means that the server has no more."""
        self.received += count
        if self._length is None:
            self.ended = not count
        elif self.received == self._length:
            self.ended = True
        elif not count:
            self._failure = BodyInterrupted


def body_length(environ: dict[str, Any]) -> int | None:
    """Bytes of the body; ``None`` if the server ends it itself (chunked).

    :raises MalformedHeader: Content-Length is not a number.
    :raises LengthRequired: the server does not pass chunked bodies on.
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
    """A reader of the request's body that suits the WSGI server.

    :param timeout: seconds of silence after which reading ends with an error.
    :param min_rate: bytes per second below which reading ends with an error;
        ``None``: no limit.
    """
    length = body_length(environ)
    source = source_of(environ, length, timeout)
    return BodyReader(source, length, timeout, min_rate)
