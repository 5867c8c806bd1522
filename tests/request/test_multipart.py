"""Forms: every byte of a part is right, however the body is split into reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_chunked.exceptions import MalformedBody
from flask_chunked.request import buffers, multipart
from flask_chunked.request.multipart import FormLimits, MultipartForm
from flask_chunked.request.part_heads import FormTooLarge, PartHead

BOUNDARY = b"x--y"
MARKER = b"--" + BOUNDARY


class Kept:
    """A part in memory.

    :param late: it reads each block after the next one was received.
    """

    def __init__(self, head: PartHead, late: bool = False) -> None:
        self.head = head
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
        assert len(block), "an empty block is no block"
        self._waiting.append(block)
        if not self._late:
            self.join()
        return len(block)


@dataclass
class Taken:
    """What a form holds."""

    late: bool = False
    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[Kept] = field(default_factory=list)

    def add_field(self, head: PartHead, text: str) -> None:
        self.fields.append((head.name, text))

    def open_file(self, head: PartHead) -> Kept:
        self.files.append(Kept(head, self.late))
        return self.files[-1]

    @property
    def contents(self) -> list[tuple[str, bytes]]:
        for file in self.files:
            file.join()
        return [(file.head.name, bytes(file.content)) for file in self.files]


def parse(
    body: bytes,
    sizes: list[int],
    limits: FormLimits | None = None,
    *,
    late: bool = False,
    known: bool = True,
) -> Taken:
    """Parse a body that arrives in reads of these sizes, repeated.

    :param known: the length of the body was announced.
    """
    source = io.BytesIO(body)
    turn = iter(sizes * (len(body) + 2))
    taken = Taken(late)

    def read_into(view: memoryview) -> int:
        assert len(view), "a read for no bytes looks like the end"
        return source.readinto(view[: next(turn)])

    length = len(body) if known else None
    limits = limits or FormLimits(parts=10, text=1000)
    MultipartForm(read_into, BOUNDARY, taken, limits, length).parse()
    assert source.tell() == len(body), "the epilogue is read"
    return taken


def file_part(content: bytes, name: str = "file") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="a.bin"'
    kind = b"Content-Type: image/png"
    return b"\r\n".join([MARKER, head.encode(), kind, b"", content, b""])


def field_part(name: str, text: str) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"'.encode()
    return b"\r\n".join([MARKER, head, b"", text.encode(), b""])


END = MARKER + b"--\r\n"
#: Contents that look like the end of their part without being it.
CONTENTS = {
    "empty": b"",
    "one byte": b"x",
    "line break": b"\r\n",
    "CR": b"\r",
    "many CR": b"\r" * 9,
    "line breaks": b"\r\n" * 9,
    "beginning of the boundary": b"\r\n--x-",
    "boundary after LF": b"a\n--x--y\nb",
    "boundary after CR": b"a\r--x--y\rb",
    "boundary in a line": b"a--x--y--b",
    "beginning twice": b"\r\n--x\r\n--x--",
    "beginning at the end": b"plain\r\n--x--",
    "dashes": b"-" * 40,
    "longer than a buffer": bytes(range(251)) * 3,
}


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "BUFFER_SIZE", 16)
    monkeypatch.setattr(multipart, "PIECE_SIZE", 24)
    monkeypatch.setattr(buffers, "_idle", [])


def splits(body: bytes) -> Iterator[list[int]]:
    """Every split into two reads, and reads of each small size."""
    for first in range(1, len(body)):
        yield [first, len(body)]
    for size in range(1, 64):
        yield [size]


@pytest.mark.usefixtures("small_buffers")
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", CONTENTS)
def test_every_split_of_a_form_gives_the_same_bytes(name: str, late: bool) -> None:
    content = CONTENTS[name]
    body = field_part("a", "1") + file_part(content) + field_part("b", "ü") + END
    for sizes in splits(body):
        taken = parse(body, sizes, late=late)
        assert taken.contents == [("file", content)], sizes
        assert taken.fields == [("a", "1"), ("b", "ü")], sizes


def test_every_split_of_the_last_boundary_gives_the_same_bytes() -> None:
    content = bytes(range(256)) * 200
    body = file_part(content) + END
    last = len(body) - len(END) - 2
    for first in range(last - 3, len(body)):
        for second in (1, 2, 3):
            taken = parse(body, [first, second, len(body)])
            assert taken.contents == [("file", content)], (first, second)


#: A part may have no content and no line break of its own: Werkzeug's test client sends
#: empty files and empty fields so.
SHORT = b"\r\n".join(
    [
        MARKER + b'\r\nContent-Disposition: form-data; name="md5"\r\n',
        MARKER + b'\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n',
        MARKER + b'\r\nContent-Disposition: form-data; name="b"\r\n\r\n1',
        END,
    ]
)


def test_every_split_of_a_form_with_parts_without_content() -> None:
    for sizes in splits(SHORT):
        taken = parse(SHORT, sizes)
        assert taken.fields == [("md5", ""), ("b", "1")], sizes
        assert taken.contents == [("file", b"")], sizes


PIECES = st.sampled_from(
    [
        MARKER,
        b"\r\n--" + BOUNDARY[:2],
        b"\n--" + BOUNDARY,
        b"\n--",
        b"\r\n",
        b"\r",
        b"-",
        b"x",
        b"plain " * 7,
        b"\0\xff",
    ]
)
#: A part ends where its content holds a delimiter, and a part without content where it
#: begins with the boundary.
DRAWN = (
    st.lists(PIECES, max_size=12)
    .map(b"".join)
    .filter(lambda content: b"\r\n" + MARKER not in b"\r\n" + content)
)


@settings(max_examples=300, deadline=None)
@given(
    contents=st.lists(DRAWN, min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    buffer=st.integers(8, 64),
    late=st.booleans(),
    known=st.booleans(),
)
def test_what_was_put_into_a_form_is_taken_from_it(
    contents: list[bytes], sizes: list[int], buffer: int, late: bool, known: bool
) -> None:
    parts = [file_part(content, str(n)) for n, content in enumerate(contents)]
    body = field_part("a", "1") + b"".join(parts) + field_part("b", "ü") + END
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "BUFFER_SIZE", buffer)
        patch.setattr(buffers, "_idle", [])
        taken = parse(body, sizes, late=late, known=known)
    assert taken.contents == [(str(n), content) for n, content in enumerate(contents)]
    assert taken.fields == [("a", "1"), ("b", "ü")]


@pytest.mark.parametrize("late", [False, True])
def test_a_buffer_that_is_read_is_not_reused(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    idle: list[bytearray] = []
    monkeypatch.setattr(buffers, "_idle", idle)
    content = bytes(range(251)) * 10_000
    body = io.BytesIO(file_part(content) + END)
    taken = Taken(late)
    limits = FormLimits(parts=1)
    MultipartForm(body.readinto, BOUNDARY, taken, limits).parse()
    (part,) = taken.files
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
    taken = parse(file_part(content) + END, [size * 37], late=late)
    assert taken.contents == [("file", content)]


def test_a_short_form_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def take(size: int) -> bytearray:
        sizes.append(size)
        return bytearray(size)

    monkeypatch.setattr(multipart, "take_buffer", take)
    body = file_part(bytes(20_000)) + END
    parse(body, [len(body)])
    assert sizes
    assert max(sizes) <= len(body) + len(MARKER) + 2


def head_of(*lines: str) -> bytes:
    return b"\r\n".join([MARKER, *(line.encode() for line in lines), b"", b"abc\r\n"])


FILE = 'Content-Disposition: form-data; name="file"; filename="a"'

MALFORMED = {
    "nothing": b"",
    "no form": b"no form",
    "no end": END[:-4],
    "no last boundary": file_part(b"abc"),
    "cut": file_part(b"abc")[:-1],
    "half a boundary": file_part(b"abc") + MARKER,
    "cut head": MARKER + b"\r\nContent-Disposition: form-data\r\n",
    "head that is no text": head_of(FILE).replace(b'"a"', b'"\xff"') + END,
    "cut field": field_part("a", "1")[:-3],
    "no head": MARKER + b"\r\n\r\nno headers\r\n" + END,
    "no disposition": head_of("X-A: b") + END,
    "attachment": head_of(FILE.replace("form-data", "attachment")) + END,
    "two dispositions": head_of(FILE, FILE) + END,
    "no colon": head_of(FILE, "X") + END,
    "wrong Content-Length": head_of(FILE, "Content-Length: 4") + END,
    "Content-Length of a field": (
        head_of(FILE.partition("; file")[0], "Content-Length: 2") + END
    ),
    "Content-Length that is no number": head_of(FILE, "Content-Length: x") + END,
    "line feeds alone": file_part(b"abc").replace(b"\r\n", b"\n") + END,
    "blanks after a boundary": MARKER + b"  " + file_part(b"abc")[len(MARKER) :] + END,
    "more after a boundary": file_part(b"a\r\n--x--yz") + END,
    "text before the first boundary": b"text" + file_part(b"abc") + END,
    "70,000 bytes before it": b"x" * 70_000 + b"\r\n" + file_part(b"abc") + END,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_is_not_a_form_is_refused(name: str) -> None:
    body = MALFORMED[name]
    for sizes in ([1], [7], [100_000]):
        with pytest.raises(MalformedBody, match="Malformed multipart/form-data body"):
            parse(body, sizes)


WELL_FORMED = {
    "plain": head_of(FILE) + END,
    "right Content-Length": head_of(FILE, "Content-Length: 3") + END,
    "folded header": head_of(FILE, "X-A: b", " c") + END,
    "preamble": b"text\r\n\r\n" + head_of(FILE) + END,
    "epilogue": head_of(FILE) + END + b"\r\n\r\ntext" * 20_000,
    "no line break at the end": head_of(FILE) + END[:-2],
}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_form_is_taken(name: str) -> None:
    for sizes in ([1], [7], [100_000]):
        taken = parse(WELL_FORMED[name], sizes)
        assert taken.contents == [("file", b"abc")]


def test_too_many_parts_are_too_large() -> None:
    body = field_part("a", "1") * 3 + END
    assert parse(body, [50], FormLimits(parts=3)).fields == [("a", "1")] * 3
    with pytest.raises(FormTooLarge):
        parse(body, [50], FormLimits(parts=2))


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (FormLimits(parts=None), True),
        (FormLimits(parts=None, text=10), True),
        (FormLimits(parts=None, text=9), False),
        (FormLimits(parts=None, field=5), True),
        (FormLimits(parts=None, field=4), False),
        (FormLimits(parts=None, text=9, field=5), False),
    ],
)
def test_text_is_limited(limits: FormLimits, fits: bool) -> None:
    body = field_part("a", "12345") + field_part("b", "12345") + END
    if fits:
        assert len(parse(body, [50], limits).fields) == 2
        return
    with pytest.raises(FormTooLarge):
        parse(body, [50], limits)
