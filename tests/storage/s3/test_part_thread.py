"""Parts that are sent in a thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from flask_chunked.exceptions import StorageError
from flask_chunked.storage.base import Part
from flask_chunked.storage.s3.part_thread import PartUpload
from flask_chunked.storage.s3.spool import Spool

PART = Part(1, 3, '"e"')


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(str(tmp_path))
    made.write(b"abc")
    return made


def test_result_is_the_part_that_was_sent(spool: Spool) -> None:
    threads: list[threading.Thread] = []

    def send(file: BinaryIO, size: int) -> Part:
        threads.append(threading.current_thread())
        file.seek(0)
        assert file.read(size) == b"abc"
        return PART

    assert PartUpload(send, spool).result() == PART
    assert threads != [threading.current_thread()]
    assert spool._file is None


def test_failed_part_is_sent_again_by_the_next_call(spool: Spool) -> None:
    failures = [StorageError()]

    def send(file: BinaryIO, size: int) -> Part:
        if failures:
            raise failures.pop()
        return PART

    upload = PartUpload(send, spool)
    with pytest.raises(StorageError):
        upload.result()
    assert upload.result() == PART


def test_cancel_waits_for_the_thread_and_closes_the_file(spool: Spool) -> None:
    go, ended = threading.Event(), threading.Event()

    def send(file: BinaryIO, size: int) -> Part:
        go.wait(10)
        ended.set()
        return PART

    upload = PartUpload(send, spool)
    go.set()
    upload.cancel()
    assert ended.is_set()
    assert spool._file is None
