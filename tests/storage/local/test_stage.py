"""Stages of the local storage, and how an appender takes them."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    StorageError,
    StorageFull,
)
from flask_chunked.storage.base import Appender, Blob
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local import stage as local_stage

from ..contract import append, new_blob, read, take
from .names import Break


def test_full_disk_keeps_a_stage_usable(storage: LocalStorage, broken: Break) -> None:
    with storage.stage() as stage:
        stage.write(b"abc")
        broken("pwrite", errno.ENOSPC)
        with pytest.raises(StorageFull):
            stage.write(b"def")
        assert stage.size == 3


def test_first_chunk_is_copied_across_mounts(
    storage: LocalStorage, broken: Break
) -> None:
    broken("rename", errno.EXDEV)
    blob = take(storage, new_blob(storage), b"abc")
    assert read(storage, blob) == b"abc"
    assert [item.staged for item in storage.stored()] == [False]


def test_refused_rename_keeps_the_stage(storage: LocalStorage, broken: Break) -> None:
    blob = new_blob(storage)
    broken("rename", errno.EIO)
    with storage.stage() as stage, storage.appender(blob) as appender:
        stage.write(b"abc")
        with appender.exclusive(), pytest.raises(StorageError):
            appender.take(stage)
        assert appender.position == 0
        assert stage.write(b"d") == 1


def test_full_disk_while_taking_keeps_the_stage(
    storage: LocalStorage, broken: Break
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    broken("copy_file_range", errno.ENOSPC)
    with storage.stage() as stage, storage.appender(blob) as appender:
        stage.write(b"def")
        with appender.exclusive(), pytest.raises(StorageFull):
            appender.take(stage)
        assert appender.position == 3
        assert stage.write(b"g") == 1
    assert storage.measure(blob) == 3


def test_first_chunk_is_taken_by_rename(tmp_path: Path, storage: LocalStorage) -> None:
    blob = new_blob(storage)
    with storage.stage() as stage, storage.appender(blob) as appender:
        stage.write(b"abc")
        (staged,) = (tmp_path / "up" / ".staging").iterdir()
        inode = staged.stat().st_ino
        with appender.exclusive():
            appender.take(stage)
            with (
                storage.appender(blob) as other,
                open(tmp_path / "up" / f"{blob.key}.part", "rb") as file,
            ):
                assert os.fstat(file.fileno()).st_ino == inode
                with pytest.raises(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with other_section(storage, blob) as other:
            assert other.head(3) == b""
            assert storage.measure(blob) == 3


@contextmanager
def other_section(storage: LocalStorage, blob: Blob) -> Iterator[Appender]:
    with storage.appender(blob) as appender, appender.exclusive():
        yield appender


def test_stage_that_is_locked_by_another_is_created_anew(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [False, True]
    monkeypatch.setattr(local_stage, "try_lock", lambda fd: answers.pop(0))
    with storage.stage() as stage:
        assert stage.write(b"abc") == 3
        assert len(list(storage.stored())) == 1
    assert answers == []
