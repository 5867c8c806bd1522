"""Codec of the ``Content-Range`` request header and the ``Range`` response header.

Knows the grammar only, not the upload: the dialect decides whether a range fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..exceptions import MalformedHeader

_NAME = "Content-Range"
_MAX_NUMBER = 2**63 - 1  # bytes; the database's columns have 64 bits
_MAX_HEADER = len("bytes ") + 3 * 19 + len("-/")
_EMPTY_FILE = re.compile(r"bytes \*/0", re.IGNORECASE | re.ASCII)
_RANGE = re.compile(
    r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The position of a chunk's bytes in the file (RFC 9110, section 14.4).

    :param start: first byte of the chunk.
    :param stop: the byte after the last one (half-open); may exceed ``length``.
    :param length: declared total of the file in bytes.
    """

    start: int
    stop: int
    length: int

    @property
    def size(self) -> int:
        """Bytes in the chunk."""
        return self.stop - self.start

    @classmethod
    def from_header(cls, value: str) -> ContentRange:
        """Parse ``bytes START-END/TOTAL``, END inclusive.

        ``bytes */0`` is the only special form: the empty file. Any other ``*`` is
        refused, because the first chunk declares the total.

        :raises MalformedHeader: the value has another form, a number is above 2**63-1,
            or END < START.
        """
        if len(value) > _MAX_HEADER:
            raise MalformedHeader(_NAME, value, f"longer than {_MAX_HEADER} characters")
        if _EMPTY_FILE.fullmatch(value):
            return cls(0, 0, 0)
        match = _RANGE.fullmatch(value)
        if match is None:
            raise MalformedHeader(_NAME, value, "expected 'bytes START-END/TOTAL'")
        start, end, length = (int(digits) for digits in match.groups())
        if max(start, end, length) > _MAX_NUMBER:
            raise MalformedHeader(_NAME, value, f"a number is above {_MAX_NUMBER}")
        if end < start:
            raise MalformedHeader(_NAME, value, "END is before START")
        return cls(start, end + 1, length)

    def to_header(self) -> str:
        """Format the header so that :meth:`from_header` parses it.

        :raises ValueError: the header cannot express the range: it is empty but the
            file is not, or a number is out of bounds.
        """
        if (self.start, self.stop, self.length) == (0, 0, 0):
            return "bytes */0"
        if not 0 <= self.start < self.stop <= _MAX_NUMBER + 1:
            raise ValueError(f"Content-Range cannot express {self!r}")
        if not 0 <= self.length <= _MAX_NUMBER:
            raise ValueError(f"Content-Range cannot express {self!r}")
        return f"bytes {self.start}-{self.stop - 1}/{self.length}"


def to_range_header(offset: int) -> str | None:
    """Value of the response header ``Range``: the bytes that the server has.

    blueimp jQuery-File-Upload and UpChunk resume from it.

    :param offset: committed bytes.
    :return: ``bytes=0-<offset-1>``; ``None`` at offset 0, where the header is omitted.
    """
    if offset <= 0:
        return None
    return f"bytes=0-{offset - 1}"
