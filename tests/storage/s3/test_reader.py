"""The reader of an object: seeks, blocks, streams that break."""

from __future__ import annotations

import io
from typing import Any

import pytest

from flask_chunked.exceptions import BytesMissing, StorageError
from flask_chunked.storage.s3.reader import ATTEMPTS, ObjectReader, open_object
from flask_chunked.storage.s3.spool import BLOCK

CONTENT = bytes(range(256)) * 40


class Stream(io.BytesIO):
    """A response whose bytes end early after ``limit`` bytes."""

    def __init__(self, content: bytes, limit: int | None) -> None:
        super().__init__(content if limit is None else content[:limit])


class FakeBucket:
    """An object in memory.

    :ivar requests: the range of each request.
    :ivar limits: bytes of the next responses, each of which then breaks.
    :ivar streams: all responses.
    :ivar error: what every further request raises.
    """

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.requests: list[tuple[int, int]] = []
        self.limits: list[int] = []
        self.streams: list[Stream] = []
        self.error: StorageError | None = None

    def get(self, key: str, start: int, stop: int) -> Stream:
        assert key == "k"
        self.requests.append((start, stop))
        if self.error is not None:
            raise self.error
        limit = self.limits.pop(0) if self.limits else None
        self.streams.append(Stream(self.content[start:stop], limit))
        return self.streams[-1]


@pytest.fixture
def bucket() -> Any:
    return FakeBucket()


def test_object_is_read_with_one_request(bucket: Any) -> None:
    with open_object(bucket, "k", len(CONTENT)) as file:
        assert file.read(len(CONTENT) + 1) == CONTENT
        assert file.read(1) == b""
    assert bucket.requests == [(0, len(CONTENT))]


def test_no_byte_beyond_the_size_is_read(bucket: Any) -> None:
    with open_object(bucket, "k", 5) as file:
        assert file.read(10) == CONTENT[:5]
        assert file.seek(0, io.SEEK_END) == 5
        file.seek(7)
        assert file.read(1) == b""
    assert bucket.requests == [(0, 5)]


def test_empty_object_needs_no_request(bucket: Any) -> None:
    with open_object(bucket, "k", 0) as file:
        assert file.read(1) == b""
    assert bucket.requests == []


def test_read_after_a_seek_requests_the_bytes_from_there(bucket: Any) -> None:
    reader = ObjectReader(bucket, "k", len(CONTENT))
    assert reader.read(3) == CONTENT[:3]
    assert reader.seek(-4, io.SEEK_END) == len(CONTENT) - 4
    assert reader.read(10) == CONTENT[-4:]
    assert reader.seek(100) == reader.tell() == 100
    assert reader.seek(11, io.SEEK_CUR) == 111
    assert reader.read(2) == CONTENT[111:113]
    size = len(CONTENT)
    assert bucket.requests == [(0, size), (size - 4, size), (111, size)]
    assert [stream.closed for stream in bucket.streams] == [True, True, False]


def test_seek_to_the_same_place_keeps_the_response(bucket: Any) -> None:
    reader = ObjectReader(bucket, "k", len(CONTENT))
    reader.read(3)
    reader.seek(3)
    reader.read(3)
    assert len(bucket.requests) == 1


def test_seek_before_the_beginning_is_refused(bucket: Any) -> None:
    reader = ObjectReader(bucket, "k", 10)
    reader.read(3)
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-4, io.SEEK_CUR)
    assert reader.tell() == 3


def test_reader_is_seekable_and_readable_and_reads_in_blocks(bucket: Any) -> None:
    reader = ObjectReader(bucket, "k", 10)
    assert (reader.seekable(), reader.readable(), reader.writable()) == (
        True,
        True,
        False,
    )
    asked: list[int] = []
    bucket.get = lambda key, start, stop: Asked(asked)
    with open_object(bucket, "k", 10 * BLOCK) as file:
        file.read(1)
    assert asked == [BLOCK]


class Asked:
    """A response that notes how many bytes its reader wants."""

    def __init__(self, asked: list[int]) -> None:
        self._asked = asked

    def read(self, count: int) -> bytes:
        self._asked.append(count)
        return bytes(count)

    def close(self) -> None:
        """Nothing is open."""


def test_response_that_ends_early_is_continued(bucket: Any) -> None:
    bucket.limits = [1000, 0]
    with open_object(bucket, "k", len(CONTENT)) as file:
        assert file.read(len(CONTENT)) == CONTENT
    size = len(CONTENT)
    assert bucket.requests == [(0, size), (1000, size), (1000, size)]


def test_object_that_stays_unreadable_is_an_os_error_with_its_cause(
    bucket: Any,
) -> None:
    bucket.error = BytesMissing()
    with open_object(bucket, "k", 10) as file:
        with pytest.raises(OSError, match="cannot read object k") as caught:
            file.read(1)
        assert caught.value.__cause__ is bucket.error
        assert len(bucket.requests) == ATTEMPTS
        # The next read tries again.
        bucket.error = None
        assert file.read(3) == CONTENT[:3]


def test_close_releases_the_connection(bucket: Any) -> None:
    reader = ObjectReader(bucket, "k", 10)
    reader.read(3)
    reader.close()
    assert [stream.closed for stream in bucket.streams] == [True]
