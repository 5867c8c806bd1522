"""The reader of a file that is longer than the upload."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chunked.storage.local.files import READ
from flask_chunked.storage.local.reader import BoundedFile


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[BoundedFile]:
    (tmp_path / "file").write_bytes(b"0123456789")
    with BoundedFile(os.open(tmp_path / "file", READ), 5) as reader:
        yield reader


def test_bytes_after_the_size_are_not_read(reader: BoundedFile) -> None:
    assert reader.read(100) == b"01234"
    assert reader.read(1) == b""


@pytest.mark.parametrize(
    ("offset", "whence", "left"),
    [(2, os.SEEK_SET, b"234"), (-1, os.SEEK_END, b"4"), (7, os.SEEK_SET, b"")],
)
def test_seek_is_relative_to_the_size(
    reader: BoundedFile, offset: int, whence: int, left: bytes
) -> None:
    reader.seek(offset, whence)
    assert reader.read(100) == left


def test_negative_position_is_refused(reader: BoundedFile) -> None:
    with pytest.raises(ValueError, match="negative"):
        reader.seek(-1)


def test_reader_has_no_descriptor_for_sendfile(reader: BoundedFile) -> None:
    with pytest.raises(io.UnsupportedOperation):
        reader.fileno()


def test_closed_reader_is_refused(reader: BoundedFile) -> None:
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)
