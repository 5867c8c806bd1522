"""multipart/form-data, as it arrives: heads by ``multipart``, contents by a search.

The package ``multipart`` parses the head of each part. It would copy every byte of a
file several times, so the content of a part is searched for the next boundary here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ..exceptions import MalformedBody
from .buffers import release_buffer, take_buffer
from .part_heads import MALFORMED, FormTooLarge, PartHead, parse_head, skip_preamble

#: Bytes of a file that are read and searched at once.
BUFFER_SIZE = 2**20
#: Bytes that are read at once for heads and short contents.
PIECE_SIZE = 8 * 2**10
ReadInto = Callable[[memoryview], int]


class Part(Protocol):
    """Takes the bytes of a part.

    :ivar holds_block: True while a block of an earlier :meth:`write` may be read.
    """

    @property
    def holds_block(self) -> bool: ...

    def wait_for_buffer(self) -> None:
        """Wait until the block before the last one is no longer needed."""

    def write(self, block: memoryview) -> int:
        """Take the next bytes."""


class FormReceiver(Protocol):
    """Takes the parts of a form."""

    def add_field(self, head: PartHead, text: str) -> None:
        """Take a text field."""

    def open_file(self, head: PartHead) -> Part:
        """Begin a file."""


@dataclass(frozen=True, slots=True)
class FormLimits:
    """How large a form may be; ``None``: no limit.

    :param parts: fields and files together.
    :param text: bytes of all fields together.
    :param field: bytes of one field.
    """

    parts: int | None
    text: int | None = None
    field: int | None = None


class MultipartForm:
    """Parses one form.

    :param read_into: fills some of a view, waiting for the client; 0 is the end.
    :param boundary: printable ASCII.
    :param length: bytes of the whole body; ``None``: unknown.
    """

    def __init__(
        self,
        read_into: ReadInto,
        boundary: bytes,
        receiver: FormReceiver,
        limits: FormLimits,
        length: int | None = None,
    ) -> None:
        self._read_into = read_into
        self._boundary = boundary
        self._delimiter = b"\r\n--" + boundary
        self._receiver = receiver
        self._limits = limits
        self._parts = 0
        self._text = 0
        size = PIECE_SIZE if length is None else min(PIECE_SIZE, length)
        self._piece = memoryview(bytearray(max(1, size)))
        most = BUFFER_SIZE if length is None else min(BUFFER_SIZE, length)
        self._buffers = _Buffers(most + len(self._delimiter))
        #: Bytes that were read and are not parsed yet.
        self._rest = b""

    def parse(self) -> None:
        """Read the body to its end.

        :raises MalformedBody: it is not a form.
        :raises FormTooLarge: it is larger than a limit.
        """
        try:
            for head in self._heads():
                if head.filename is None:
                    self._take_field(head)
                else:
                    self._take_content(head, self._receiver.open_file(head))
        finally:
            self._buffers.release()
        # Read and ignore the epilogue, so that the connection stays usable.
        while self._read_into(self._piece):
            pass

    # -- heads ---------------------------------------------------------------------

    def _heads(self) -> Iterator[PartHead]:
        """The head of each part; its content must be read before the next one."""
        self._rest = skip_preamble(self._boundary, self._read_piece)
        while (head := self._next_head()) is not None:
            self._parts += 1
            if self._limits.parts is not None and self._parts > self._limits.parts:
                raise FormTooLarge
            yield head

    def _next_head(self) -> PartHead | None:
        rest, self._rest = self._rest, b""
        head, self._rest = parse_head(self._boundary, rest, self._read_piece)
        return head

    def _read_piece(self) -> bytes:
        count = self._read_into(self._piece)
        return bytes(self._piece[:count])

    # -- contents ------------------------------------------------------------------

    def _take_field(self, head: PartHead) -> None:
        most = [] if self._limits.field is None else [self._limits.field]
        if self._limits.text is not None:
            most.append(self._limits.text - self._text)
        text = _Text(min(most, default=None))
        self._take_content(head, text)
        self._text += len(text.content)
        self._receiver.add_field(head, text.content.decode(head.charset, "replace"))

    def _take_content(self, head: PartHead, part: Part) -> None:
        """Write the part's content, and stop at the boundary after it."""
        size = 0
        for block in self._blocks(part):
            if block:
                part.write(block)
                self._buffers.note_use()
                size += len(block)
        self._buffers.leave(part)
        if head.size is not None and head.size != size:
            raise MalformedBody(MALFORMED)

    def _blocks(self, part: Part) -> Iterator[memoryview]:
        """The content in blocks; afterwards the rest begins with the boundary."""
        rest, self._rest = self._rest, b""
        marker = self._delimiter[2:]
        while len(rest) < len(marker) and marker.startswith(rest):
            piece = self._read_piece()
            if not piece:
                raise MalformedBody(MALFORMED)
            rest += piece
        # The body of a part is optional (RFC 2046, section 5.1.1): the boundary may
        # follow the empty line at once, as in forms of Werkzeug's test client.
        found = -2 if rest.startswith(marker) else rest.find(self._delimiter)
        if found == -2:
            self._rest = rest
            return
        if found >= 0:
            yield memoryview(rest)[:found]
            self._rest = rest[found + 2 :]
            return
        begin = len(rest) - self._held_back(rest, len(rest))
        yield memoryview(rest)[:begin]
        yield from self._buffered_blocks(part, rest[begin:])

    def _buffered_blocks(self, part: Part, kept: bytes) -> Iterator[memoryview]:
        """As :meth:`_blocks`, from large buffers.

        :param kept: the content's next bytes, which may begin a boundary.
        """
        while True:
            buffer = self._buffers.next(part)
            view = memoryview(buffer)
            room = min(BUFFER_SIZE, len(view) - len(kept))
            view[: len(kept)] = kept
            count = self._read_into(view[len(kept) : len(kept) + room])
            if not count:
                raise MalformedBody(MALFORMED)
            end = len(kept) + count
            found = buffer.find(self._delimiter, 0, end)
            if found >= 0:
                self._rest = bytes(view[found + 2 : end])
                yield view[:found]
                return
            begin = end - self._held_back(buffer, end)
            kept = bytes(view[begin:end])
            yield view[:begin]

    def _held_back(self, data: bytes | bytearray, end: int) -> int:
        """How many of the last bytes may begin a boundary."""
        # A boundary holds one CR, its first byte.
        begin = data.rfind(b"\r", max(0, end - len(self._delimiter) + 1), end)
        if begin < 0 or not self._delimiter.startswith(bytes(data[begin:end])):
            return 0
        return end - begin


class _Buffers:
    """One buffer, or two in turn while the part still reads the one before.

    :param size: bytes of each.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken: list[bytearray] = []
        self._is_used = False

    def next(self, part: Part) -> bytearray:
        """A buffer that the part does not read."""
        part.wait_for_buffer()
        if not self._taken or (self._is_used and part.holds_block):
            if len(self._taken) < 2:
                self._taken.append(take_buffer(self._size))
            else:
                self._taken.reverse()
        self._is_used = False
        return self._taken[-1]

    def note_use(self) -> None:
        """Note that the part was given a block."""
        self._is_used = True

    def leave(self, part: Part) -> None:
        """Forget the buffers that the part may still read."""
        if part.holds_block:
            self._taken.clear()

    def release(self) -> None:
        """Give the buffers back, or drop them if a part was not read to its end."""
        for buffer in self._taken:
            release_buffer(buffer)
        self._taken.clear()


class _Text:
    """The content of a text field.

    :param most: bytes; ``None``: no limit.
    """

    holds_block = False

    def __init__(self, most: int | None) -> None:
        self.content = bytearray()
        self._most = most

    def wait_for_buffer(self) -> None:
        """No block is needed after its write."""

    def write(self, block: memoryview) -> int:
        """Append bytes."""
        self.content += block
        if self._most is not None and len(self.content) > self._most:
            raise FormTooLarge
        return len(block)
