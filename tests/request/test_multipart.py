"""Forms: bytes that bypass the decoder, and bytes that look like a boundary."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.formparser import MultiPartParser

from flask_chunked.exceptions import MalformedBody
from flask_chunked.request import buffers, multipart
from flask_chunked.request.buffers import Buffer
from flask_chunked.request.multipart import FormTooLarge, MultipartForm

BOUNDARY = b"x--y"


class Kept:
    """A part in memory.

    :param late: it reads each block after the next one was received.
    """

    def __init__(self, late: bool = False) -> None:
        self.content = bytearray()
        self._late = late
        self._waiting: list[memoryview] = []

    @property
    def holds_block(self) -> bool:
        return bool(self._waiting)

    def wait_for_buffer(self) -> None:
        self.join(1)

    def join(self, left: int = 0) -> None:
        while len(self._waiting) > left:
            self.content += self._waiting.pop(0)

    def write(self, block: memoryview) -> int:
        self._waiting.append(block)
        if not self._late:
            self.join()
        return len(block)


def parse(
    body: bytes,
    sizes: list[int],
    *,
    max_parts: int = 10,
    max_text: int = 1000,
    late: bool = False,
) -> tuple[dict[str, str], list[tuple[str, str, str | None, bytes]]]:
    """Fields and files of a body that arrives in reads of these sizes, repeated."""
    source = io.BytesIO(body)
    turn = iter(sizes * (len(body) + 2))
    fields: dict[str, str] = {}
    parts: list[tuple[tuple[str, str, str | None], Kept]] = []

    def read_into(view: memoryview) -> int:
        return source.readinto(view[: next(turn)])

    def new_file(name: str, filename: str, content_type: str | None) -> Kept:
        parts.append(((name, filename, content_type), Kept(late)))
        return parts[-1][1]

    form = MultipartForm(
        read_into,
        BOUNDARY,
        fields=fields,
        new_file=new_file,
        max_parts=max_parts,
        max_text=max_text,
    )
    form.parse()
    for _, kept in parts:
        kept.join()
    return fields, [(*told, bytes(kept.content)) for told, kept in parts]


def file_part(content: bytes, line: bytes = b"\r\n") -> bytes:
    head = b'Content-Disposition: form-data; name="file"; filename="a.bin"'
    kind = b"Content-Type: image/png"
    return line.join([b"--" + BOUNDARY, head, kind, b"", content, b""])


def field_part(name: str, text: str) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"'.encode()
    return b"\r\n".join([b"--" + BOUNDARY, head, b"", text.encode(), b""])


END = b"--" + BOUNDARY + b"--\r\n"
PIECES = st.sampled_from(
    [
        b"--" + BOUNDARY,
        b"\r\n--" + BOUNDARY[:2],
        b"\r\n--" + BOUNDARY + b"z",
        b"\n--",
        b"\r\n",
        b"\r",
        b"-",
        b"x",
        b"plain " * 7,
        b"\0\xff",
    ]
)
#: A file that contains the boundary cannot be in the form.
REAL = re.compile(rb"(?:^|[\r\n])--x--y(?:--|\s|$)")
CONTENTS = (
    st.lists(PIECES, max_size=12)
    .map(b"".join)
    .filter(lambda content: REAL.search(content) is None)
)
SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def in_memory(*arguments: object, **named: object) -> io.BytesIO:
    return io.BytesIO()


@settings(max_examples=150, deadline=None)
@given(
    content=CONTENTS,
    sizes=SIZES,
    buffer=st.integers(8, 64),
    crlf=st.booleans(),
    late=st.booleans(),
)
def test_it_reads_what_werkzeug_reads(
    content: bytes, sizes: list[int], buffer: int, crlf: bool, late: bool
) -> None:
    line = b"\r\n" if crlf else b"\n"
    body = field_part("a", "1") + file_part(content, line) + field_part("b", "ü") + END
    expected: object
    try:
        fields, files = MultiPartParser(in_memory).parse(
            io.BytesIO(body), BOUNDARY, len(body)
        )
        expected = (
            dict(fields.items()),
            [
                (name, file.filename, file.content_type, file.stream.read())
                for name, file in files.items(multi=True)
            ],
        )
    except ValueError:
        expected = MalformedBody
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "BUFFER_SIZE", buffer)
        got: object
        try:
            got = parse(body, sizes, late=late)
        except MalformedBody:
            got = MalformedBody
    assert got == expected


@pytest.mark.parametrize("late", [False, True])
def test_a_buffer_that_is_read_is_not_reused(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    idle: list[Buffer] = []
    monkeypatch.setattr(buffers, "_idle", idle)
    content = bytes(range(251)) * 10_000
    body = io.BytesIO(file_part(content) + END)
    part = Kept(late)
    MultipartForm(
        body.readinto,
        BOUNDARY,
        fields={},
        new_file=lambda name, filename, content_type: part,
        max_parts=1,
        max_text=0,
    ).parse()
    assert part.holds_block == late
    assert len(idle) == (0 if late else 1)
    for buffer in idle:
        buffer[:] = bytes(len(buffer))
    part.join()
    assert part.content == content


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1000, multipart.BUFFER_SIZE])
def test_a_large_file_is_whole(size: int, late: bool) -> None:
    content = bytes(range(251)) * 20_000
    fields, files = parse(file_part(content) + END, [size * 37], late=late)
    assert (fields, files) == ({}, [("file", "a.bin", "image/png", content)])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        END[:-4],
        file_part(b"abc"),
        file_part(b"abc")[:-1],
        file_part(b"abc") + b"--" + BOUNDARY,
        b"--" + BOUNDARY + b"\r\n\r\nno headers\r\n" + END,
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data\r\n",
        b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="\xff',
        field_part("a", "1")[:-3],
    ],
    ids=range(10),
)
def test_a_body_that_is_not_a_form_is_refused(body: bytes) -> None:
    for sizes in ([1], [1000]):
        with pytest.raises(MalformedBody):
            parse(body, sizes)


def test_of_several_fields_of_a_name_the_first_counts() -> None:
    body = field_part("a", "1") + field_part("a", "2") + END
    assert parse(body, [50])[0] == {"a": "1"}


def test_too_many_parts_are_too_large() -> None:
    body = field_part("a", "1") * 3 + END
    assert parse(body, [50], max_parts=3)[0] == {"a": "1"}
    with pytest.raises(FormTooLarge):
        parse(body, [50], max_parts=2)


def test_too_much_text_is_too_large() -> None:
    body = field_part("a", "12345") + field_part("b", "12345") + END
    assert len(parse(body, [50], max_text=10)[0]) == 2
    with pytest.raises(FormTooLarge):
        parse(body, [50], max_text=9)


def test_headers_without_end_are_too_large() -> None:
    body = b"--" + BOUNDARY + b"\r\nX: " + b"x" * (5 * 2**20)
    with pytest.raises(FormTooLarge):
        parse(body, [2**20])
