"""multipart/form-data with one large file: Werkzeug's decoder, and a bypass.

The decoder handles headers, fields and unusual line breaks, but it copies its output
several times. So the bytes of a file bypass it until some of them may be a boundary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Field,
    File,
    MultipartDecoder,
    NeedData,
)

from ..exceptions import MalformedBody
from .buffers import Buffer, find, release_buffer, take_buffer

#: Bytes of a file that are read and searched at once.
BUFFER_SIZE = 2**20
#: Bytes that are read at once for the decoder: headers, fields, and little of a file,
#: because the decoder copies it.
PIECE_SIZE = 8 * 2**10
#: Bytes that the decoder may hold before it finds the end of a part.
MEMORY_SIZE = 4 * 2**20

ReadInto = Callable[[memoryview], int]
NewFile = Callable[[str, str, str | None], "Part"]


class Part(Protocol):
    """Takes the bytes of a file.

    :ivar holds_block: True while a block of an earlier :meth:`write` may be read.
    """

    @property
    def holds_block(self) -> bool: ...

    def wait_for_buffer(self) -> None:
        """Wait until the block before the last one is no longer needed."""

    def write(self, block: memoryview) -> int:
        """Take the next bytes."""


class FormTooLarge(Exception):
    """The form has too many parts or too much text."""


class MultipartForm:
    """Parses one form.

    :param read_into: fills some of a view, waiting for the client; 0 is the end.
    :param fields: receives the text fields; the first one of a name counts.
    :param new_file: called with name, filename and Content-Type of each file.
    :param max_parts: the most fields and files together.
    :param max_text: the most bytes of all fields together.
    """

    def __init__(
        self,
        read_into: ReadInto,
        boundary: bytes,
        *,
        fields: dict[str, str],
        new_file: NewFile,
        max_parts: int,
        max_text: int,
    ) -> None:
        self._fields = fields
        self._read_into = read_into
        self._marker = b"--" + boundary
        self._new_file = new_file
        self._max_text = max_text
        self._text = 0
        self._decoder = MultipartDecoder(
            boundary, max_form_memory_size=MEMORY_SIZE, max_parts=max_parts
        )
        self._piece = memoryview(bytearray(PIECE_SIZE))
        self._buffers: list[Buffer] = []
        self._part: Part | None = None

    def parse(self) -> None:
        """Read the body to its end.

        :raises MalformedBody: it is not a form.
        :raises FormTooLarge: it has too many parts or too much text.
        """
        try:
            while not self._has_ended():
                self._feed()
        except RequestEntityTooLarge as error:
            raise FormTooLarge from error
        except (ValueError, LookupError, AttributeError) as error:
            # The decoder raises these for malformed forms; AttributeError for a part
            # without a body.
            raise MalformedBody("Malformed multipart/form-data body") from error
        finally:
            self._release_buffers()
        # Read and ignore the epilogue, so that the connection stays usable.
        while self._read_into(self._piece):
            pass

    def _feed(self) -> None:
        count = self._read_into(self._piece)
        self._decode(bytes(self._piece[:count]), is_last=not count)

    def _decode(self, data: bytes, *, is_last: bool) -> None:
        """Pass bytes to the decoder, and more of them if it would misread these.

        If the bytes end right after a boundary, it is unknown whether that boundary is
        the last one. The decoder then takes the line break before it for data.
        """
        data = bytes(self._decoder.buffer) + data
        del self._decoder.buffer[:]
        tail = -len(self._marker) - 1
        while not is_last and data.find(self._marker, tail) >= 0:
            if len(data) > MEMORY_SIZE // 2:
                # No honest client splits a body like this so often.
                break
            count = self._read_into(self._piece)
            data += self._piece[:count]
            is_last = not count
        self._decoder.receive_data(data)
        if is_last:
            self._decoder.receive_data(None)

    def _has_ended(self) -> bool:
        """Process the decoder's events; ``False``: it needs more bytes."""
        while True:
            event = self._decoder.next_event()
            if isinstance(event, Epilogue):
                return True
            if isinstance(event, NeedData):
                return False
            if isinstance(event, Field):
                self._take_field(event)
            elif isinstance(event, File):
                self._take_file(event)

    def _take_field(self, field: Field) -> None:
        pieces: list[bytes] = []
        more = True
        while more:
            data = self._next_data()
            self._text += len(data.data)
            if self._text > self._max_text:
                raise FormTooLarge
            pieces.append(data.data)
            more = data.more_data
        text = b"".join(pieces).decode("utf-8", "replace")
        self._fields.setdefault(field.name, text)

    def _take_file(self, file: File) -> None:
        part = self._part = self._new_file(
            file.name, file.filename, file.headers.get("content-type")
        )
        while True:
            data = self._next_data()
            if data.data:
                part.write(memoryview(data.data))
            if not data.more_data:
                return
            self._bypass_decoder(part)

    def _next_data(self) -> Data:
        event = self._decoder.next_event()
        while not isinstance(event, Data):
            self._feed()
            event = self._decoder.next_event()
        return event

    def _bypass_decoder(self, part: Part) -> None:
        """Write the file's bytes up to a possible boundary; decode from there on."""
        kept = bytes(self._decoder.buffer)
        del self._decoder.buffer[:]
        while True:
            part.wait_for_buffer()
            buffer = self._next_buffer(part)
            view = memoryview(buffer)
            view[: len(kept)] = kept
            count = self._read_into(view[len(kept) : len(kept) + BUFFER_SIZE])
            end = len(kept) + count
            found = find(buffer, self._marker, end)
            if found >= 0 or not count:
                # The line break before it belongs to the boundary.
                begin = max(0, found - 2) if found >= 0 else end
                rest = bytes(view[begin:end])
                _write(part, view[:begin])
                self._decode(rest, is_last=not count)
                return
            # The block may end with the beginning of a boundary.
            begin = max(0, end - len(self._marker) - 1)
            _write(part, view[:begin])
            kept = bytes(view[begin:end])

    def _next_buffer(self, part: Part) -> Buffer:
        """The same buffer again, or two in turn while the part still reads one."""
        buffers = self._buffers
        if not buffers or (len(buffers) == 1 and part.holds_block):
            # A buffer starts with the bytes that were kept of the block before.
            buffers.append(take_buffer(BUFFER_SIZE + len(self._marker) + 2))
        elif part.holds_block:
            buffers.reverse()
        return buffers[-1]

    def _release_buffers(self) -> None:
        for buffer in self._buffers:
            if self._part is None or not self._part.holds_block:
                release_buffer(buffer)
        self._buffers.clear()


def _write(part: Part, block: memoryview) -> None:
    if block:
        part.write(block)
