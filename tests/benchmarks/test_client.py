"""The benchmarks' client reads answers and repeats its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from benchmarks.client import (
    MIB,
    ClientError,
    Request,
    ResponseParser,
    Slice,
    Source,
)

ANSWERS = {
    "length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        (200, b"abc"),
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
        (200, b"abc"),
    ),
    "after 100": (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        (201, b""),
    ),
}


@pytest.fixture
def source() -> Iterator[Source]:
    with Source(2 * MIB + 5) as made:
        yield made


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_read_however_they_arrive(name: str, step: int) -> None:
    data, (status, body) = ANSWERS[name]
    parser = ResponseParser()
    answers = [
        parser.feed(data[start : start + step]) for start in range(0, len(data), step)
    ]
    assert answers[:-1] == [None] * (len(answers) - 1)
    last = answers[-1]
    assert last is not None
    assert (last.status, last.body) == (status, body)


def test_answer_without_length_ends_with_the_connection() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab") is None
    assert parser.feed(b"c") is None
    answer = parser.feed(b"")
    assert answer is not None
    assert answer.closes
    assert answer.body == b"abc"


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"]
)
def test_cut_answer_is_an_error(data: bytes) -> None:
    parser = ResponseParser()
    with pytest.raises(ClientError, match="closed"):
        parser.feed(data) or parser.feed(b"")


def test_content_length_counts_what_is_around_the_content() -> None:
    request = Request("PUT", "/a", before=b"12", content=Slice(0, 30), after=b"3")
    assert b"\r\nContent-Length: 33\r\n\r\n" in request.head()


def test_content_repeats_after_its_end(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2 * MIB + 5
    whole = source.read(Slice(0, size))
    assert len(set(whole[i * MIB : i * MIB + 8] for i in range(3))) == 3
    assert source.read(Slice(size - 3, 6)) == whole[-3:] + whole[:3]
    twice = Slice(1, 2 * size)
    expected = hashlib.sha256((whole * 3)[1 : 1 + 2 * size]).hexdigest()
    assert source.digest("sha256", twice) == expected
