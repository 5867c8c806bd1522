"""Heads of the parts of a form, parsed by the package ``multipart``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from werkzeug.http import parse_options_header

from ..exceptions import MalformedBody
from ..protocol.filename import from_disposition

try:
    from multipart import MultipartError, ParserLimitReached, PushMultipartParser
except ModuleNotFoundError:
    raise
except ImportError as error:
    raise ImportError(
        "flask_chunked needs the package multipart (2 or newer), but another package "
        "has installed a module of that name, probably an old python-multipart. "
        "Upgrade or uninstall python-multipart (0.0.20 and newer leave the name "
        "alone), then reinstall multipart"
    ) from error

#: The media type.
MULTIPART = "multipart/form-data"
MALFORMED = "Malformed multipart/form-data body"
#: Bytes that may come before the first boundary, or before the content of a part; also
#: what the parser sees after the last boundary.
MAX_HEAD = 64 * 2**10
#: The most headers of a part, and bytes of each.
MAX_HEADERS, MAX_HEADER = 8, 4 * 2**10
#: Character sets of a text field that are understood; others are read as UTF-8.
CHARSETS = frozenset({"ascii", "us-ascii", "utf-8", "iso-8859-1"})

_HEAD_END = b"\r\n\r\n"


class FormTooLarge(Exception):
    """The form has too many parts or too much text."""


class HeadTooLarge(FormTooLarge):
    """A part has too many headers, or too long ones."""


@dataclass(frozen=True, slots=True)
class PartHead:
    """The head of a part.

    :ivar name: ``""`` if the part has none.
    :ivar filename: ``None``: the part is a text field.
    :ivar charset: of a text field.
    :ivar size: bytes that a ``Content-Length`` of the part announces.
    :ivar headers: names and values.
    """

    name: str
    filename: str | None
    charset: str
    size: int | None
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The last header of that name."""
        found = [value for key, value in self.headers if key == name]
        return found[-1] if found else None


def skip_preamble(boundary: bytes, read: Callable[[], bytes]) -> bytes:
    """Read up to the first boundary; return the bytes from there on.

    :param read: returns the next bytes; none at the end of the body.
    :raises MalformedBody: it is not in the first 64 KiB, or not at the start of a line.
    """
    # The parser would judge text before the boundary by how it was split into reads.
    marker = b"--" + boundary
    data = b""
    while (found := data.find(marker)) < 0:
        piece = read()
        if not piece or len(data) >= MAX_HEAD + len(marker):
            raise MalformedBody(MALFORMED)
        data += piece
    if found > MAX_HEAD:
        raise MalformedBody(MALFORMED)
    if found and data[max(0, found - 2) : found] != b"\r\n":
        raise MalformedBody(MALFORMED)
    return data[found:]


def parse_head(
    boundary: bytes, rest: bytes, read: Callable[[], bytes]
) -> tuple[PartHead | None, bytes]:
    """Parse up to the first byte of a part's content.

    :param rest: bytes that were read already; they begin with the boundary.
    :param read: returns the next bytes; none at the end of the body.
    :return: the head, ``None`` after the last boundary; and the bytes after it.
    :raises MalformedBody: it is not a form.
    :raises HeadTooLarge: it has too many headers, or too long ones.
    """
    # A parser of its own for each part: it is left when the head has ended.
    parser = PushMultipartParser(
        boundary, max_header_size=MAX_HEADER, max_header_count=MAX_HEADERS
    )
    try:
        return _feed(parser, rest, read)
    except ParserLimitReached as error:
        raise HeadTooLarge from error
    except MultipartError as error:
        raise MalformedBody(MALFORMED) from error
    finally:
        # The error refers to the parser through its traceback.
        parser.error = None


def _feed(
    parser: PushMultipartParser, rest: bytes, read: Callable[[], bytes]
) -> tuple[PartHead | None, bytes]:
    fed, last = 0, b""
    while fed < MAX_HEAD:
        piece = rest or read()
        if not piece:
            break
        # A head ends with an empty line, so the parser never sees content.
        found = (last + piece).find(_HEAD_END)
        end = len(piece) if found < 0 else found + len(_HEAD_END) - len(last)
        piece, rest = piece[:end], piece[end:]
        for segment in list(parser.parse(piece)):
            return _head_of(segment.headerlist, segment.charset), rest
        fed += len(piece)
        last = (last + piece)[1 - len(_HEAD_END) :]
    # It raises unless the parser has seen the last boundary.
    parser.close()
    return None, b""


def _head_of(headers: list[tuple[str, str]], charset: str | None) -> PartHead:
    """The head of a part from its headers.

    :raises MalformedBody: it has two dispositions.
    """
    values = dict(headers)
    if sum(name == "Content-Disposition" for name, _ in headers) != 1:
        raise MalformedBody(MALFORMED)
    disposition = values["Content-Disposition"]
    _, options = parse_options_header(disposition)
    filename = options.get("filename")
    if filename is not None and "filename*" in disposition.lower():
        # It takes precedence (RFC 6266, section 4.3), whichever comes first.
        filename = from_disposition(disposition) or filename
    size = values.get("Content-Length")
    known = (charset or "").lower() in CHARSETS
    return PartHead(
        name=options.get("name", ""),
        filename=filename,
        charset=str(charset) if known else "utf-8",
        size=None if size is None else int(size),
        headers=tuple(headers),
    )


def boundary_of(parameters: Mapping[str, str]) -> bytes:
    """The boundary among the parameters of a Content-Type.

    :raises MalformedBody: there is none, or it cannot be one.
    """
    boundary = parameters.get("boundary", "")
    is_printable = boundary.isascii() and boundary.isprintable()
    if not is_printable or not 0 < len(boundary) <= 200:
        raise MalformedBody(
            "multipart/form-data needs a boundary of 1 to 200 printable ASCII "
            "characters"
        )
    return boundary.encode("ascii")
