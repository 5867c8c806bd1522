"""File operations of the local storage: short writes, copies, and refused syncs."""

from __future__ import annotations

import errno
import os

import pytest

from flask_chunked.exceptions import (
    BytesMissing,
    StorageError,
    StorageFull,
)
from flask_chunked.storage.base import Blob
from flask_chunked.storage.local import LocalStorage

from ..contract import append, finish, new_blob, read, take
from .names import Break


@pytest.mark.usefixtures("short_writes")
def test_short_writes_lose_nothing(storage: LocalStorage) -> None:
    blob = append(storage, new_blob(storage), b"0123456789", b"abcd")
    blob = take(storage, blob, b"efghijkl")
    assert read(storage, blob) == b"0123456789abcdefghijkl"


def test_other_write_errors_are_storage_errors(
    storage: LocalStorage, broken: Break
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    broken("pwrite", errno.EIO)
    with pytest.raises(StorageError) as caught:
        append(storage, blob, b"def")
    assert type(caught.value) is StorageError
    assert storage.measure(blob) == 3


def test_write_without_progress_is_an_error(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *args: 0)
    with pytest.raises(StorageError):
        append(storage, new_blob(storage), b"abc")


def test_file_system_without_directory_sync_is_accepted(
    storage: LocalStorage, broken: Break
) -> None:
    broken("fsync", errno.EINVAL)
    blob = finish(storage, append(storage, new_blob(storage), b"abc"))
    assert read(storage, blob) == b"abc"


@pytest.mark.parametrize(
    "code", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM]
)
@pytest.mark.parametrize("after", [0, 1])
def test_copy_falls_back_to_read_and_write(
    storage: LocalStorage,
    broken: Break,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    after: int,
) -> None:
    chunk = os.urandom(700_001)
    real = os.copy_file_range
    monkeypatch.setattr(
        os,
        "copy_file_range",
        lambda source, target, count, start, to: real(
            source, target, min(count, 100_000), start, to
        ),
    )
    broken("copy_file_range", code, after=after)
    blob = take(storage, append(storage, new_blob(storage), b"abc"), chunk)
    assert read(storage, blob) == b"abc" + chunk


@pytest.mark.parametrize("after", [0, 1, 1000])
def test_source_is_copied_from_its_middle_with_and_without_the_kernel(
    storage: LocalStorage, broken: Break, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    content = os.urandom(700_001)
    source = finish(storage, append(storage, new_blob(storage), content))
    real = os.copy_file_range
    monkeypatch.setattr(
        os,
        "copy_file_range",
        lambda source, target, count, start, to: real(
            source, target, min(count, 100_000), start, to
        ),
    )
    broken("copy_file_range", errno.EXDEV, after=after)
    blob = append(storage, new_blob(storage), b"abc")
    with storage.appender(blob) as appender, appender.exclusive():
        appender.copy(source, 10_000, 600_000)
        blob = Blob(blob.key, appender.position)
    assert read(storage, blob) == b"abc" + content[10_000:610_000]


def test_full_disk_in_a_copy_leaves_no_bytes_after_the_position(
    storage: LocalStorage, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = finish(storage, append(storage, new_blob(storage), b"0123456789"))
    blob = append(storage, new_blob(storage), b"abc")
    real = os.copy_file_range
    with monkeypatch.context() as patch, storage.appender(blob) as appender:
        patch.setattr(
            os,
            "copy_file_range",
            lambda source, target, count, start, to: real(
                source, target, min(count, 4), start, to
            ),
        )
        broken("copy_file_range", errno.ENOSPC, after=1)
        with appender.exclusive(), pytest.raises(StorageFull):
            appender.copy(source, 0, 10)
        assert appender.position == 3
    assert storage.measure(blob) == 3


def test_copies_leave_no_descriptor_open(storage: LocalStorage) -> None:
    source = finish(storage, append(storage, new_blob(storage), b"abc"))
    lost = Blob(source.key, 9)
    with storage.appender(new_blob(storage)) as appender, appender.exclusive():
        appender.copy(source, 0, 3)
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            appender.copy(source, 0, 3)
            with pytest.raises(BytesMissing):
                appender.copy(lost, 0, 3)
        assert os.listdir("/proc/self/fd") == before


def test_copy_without_copy_file_range(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "copy_file_range")
    blob = take(storage, append(storage, new_blob(storage), b"abc"), b"def")
    assert read(storage, blob) == b"abcdef"
