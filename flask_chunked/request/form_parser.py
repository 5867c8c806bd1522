"""The application's ``request.form`` and ``request.files`` on the URLs of uploads.

Werkzeug's parser may add bytes to a file whose last boundary is split over two reads.
The parser of uploads takes its place there, so that both see the same file.
"""

from __future__ import annotations

from functools import partial
from typing import IO, Any, TypeAlias

from flask import Flask, request
from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from ..exceptions import MalformedBody
from ..registration import registrations
from .multipart import FormLimits, MultipartForm
from .part_heads import MULTIPART, FormTooLarge, PartHead, boundary_of
from .shared_stream import SharedStream

ParseResult: TypeAlias = (
    "tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]"
)


def share_body(app: Flask, **_: object) -> None:
    """Share the body of a request for an upload; a receiver of ``request_started``."""
    if request.blueprint not in registrations(app):
        return
    # Flask's proxy would look up the request at each use.
    http = request._get_current_object()  # type: ignore[attr-defined]
    shared = SharedStream.of(http)
    if http.form_data_parser_class is FormDataParser:
        http.form_data_parser_class = partial(FormParser, shared)


class FormParser(FormDataParser):
    """Parses forms as uploads do, for Werkzeug's ``Request``.

    :param shared: the request's body, which learns how much of it was parsed.
    """

    def __init__(self, shared: SharedStream, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._shared = shared

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> ParseResult:
        """See Werkzeug's ``FormDataParser.parse``."""
        form = _ParsedForm(self, content_length)
        result: ParseResult = (stream, self.cls(), self.cls())
        is_malformed = False
        begin = _position(stream)
        try:
            if mimetype != MULTIPART:
                result = super().parse(stream, mimetype, content_length, options)
            else:
                form.parse(stream, boundary_of(options or {}))
                result = (stream, self.cls(form.fields), self.cls(form.files))
        except FormTooLarge as error:
            form.close()
            raise RequestEntityTooLarge from error
        except MalformedBody as error:
            form.close()
            is_malformed = True
            if not self.silent:
                raise ValueError(error.detail) from error
        if begin is not None:
            self._shared.note_form(stream.tell() - begin, malformed=is_malformed)
        return result


class _ParsedForm:
    """Fields in memory, and files where Werkzeug would put them."""

    def __init__(self, parser: FormParser, length: int | None) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, FileStorage]] = []
        self._parser = parser
        self._length = length

    def parse(self, stream: IO[bytes], boundary: bytes) -> None:
        """Read the stream to its end.

        :raises MalformedBody: it is not a form.
        :raises FormTooLarge: it is larger than the application's limits.
        """
        limits = FormLimits(
            parts=self._parser.max_form_parts,
            field=self._parser.max_form_memory_size,
        )

        def read_into(view: memoryview) -> int:
            data = stream.read(len(view))
            view[: len(data)] = data
            return len(data)

        MultipartForm(read_into, boundary, self, limits, self._length).parse()
        for _, file in self.files:
            file.seek(0)

    def add_field(self, head: PartHead, text: str) -> None:
        """Keep a field."""
        self.fields.append((head.name, text))

    def open_file(self, head: PartHead) -> _File:
        """Open what Werkzeug would write a file to."""
        container = self._parser.stream_factory(
            total_content_length=self._length,
            content_type=head.header("Content-Type"),
            filename=head.filename,
            content_length=head.size,
        )
        headers = Headers(list(head.headers))
        file = FileStorage(container, head.filename, head.name, headers=headers)
        self.files.append((head.name, file))
        return _File(container)

    def close(self) -> None:
        """Close the files of a form that is refused."""
        for _, file in self.files:
            file.close()


class _File:
    """A file of the application's form, as the parser writes it."""

    holds_block = False

    def __init__(self, container: IO[bytes]) -> None:
        self._container = container

    def wait_for_buffer(self) -> None:
        """No block is needed after its write."""

    def write(self, block: memoryview) -> int:
        """Append bytes."""
        return self._container.write(block)


def _position(stream: IO[bytes]) -> int | None:
    """The position of a stream; ``None``: it cannot tell."""
    try:
        return stream.tell()
    except (AttributeError, OSError):
        return None
