"""Temporary files of the S3 storage."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chunked.exceptions import StorageError, StorageFull
from flask_chunked.storage.s3.spool import BLOCK, Spool, SpooledStage


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(str(tmp_path))
    yield made
    made.close()


def test_blocks_return_what_was_written(spool: Spool) -> None:
    content = bytes(range(256)) * (BLOCK // 128)
    spool.write(content[:1000])
    spool.write(memoryview(content)[1000:])
    assert spool.size == len(content)
    assert spool.head(3) == content[:3]
    assert b"".join(spool.blocks()) == content


def test_file_has_no_name(spool: Spool, tmp_path: Path) -> None:
    spool.write(b"abc")
    assert list(tmp_path.iterdir()) == []


def test_clear_removes_all_bytes(spool: Spool) -> None:
    spool.write(b"abc")
    spool.clear()
    spool.write(b"de")
    assert (spool.size, spool.head(9)) == (2, b"de")


def test_full_disk_keeps_earlier_bytes(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.write(b"abc")

    class Full:
        """The spool's file on a full disk."""

        def __init__(self) -> None:
            self.file = spool.file

        def write(self, block: bytes) -> int:
            self.file.write(block[:1])
            raise OSError(errno.ENOSPC, "full")

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_file", Full())
        with pytest.raises(StorageFull):
            spool.write(b"def")
    assert (spool.size, spool.head(9)) == (3, b"abc")


def test_missing_directory_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Spool(str(tmp_path / "missing")).write(b"abc")


def test_closed_stage_is_refused(tmp_path: Path) -> None:
    with SpooledStage(str(tmp_path)) as stage:
        assert stage.write(b"abc") == 3
    with pytest.raises(RuntimeError, match="closed"):
        stage.write(b"d")
