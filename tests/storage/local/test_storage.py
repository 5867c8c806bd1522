"""The local storage as a whole: put, finalize, delete, move, and what they sync."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    BytesMissing,
    ConfigurationError,
    StorageError,
)
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local import storage as local

from ..contract import append, finish, new_blob, read, take
from .names import Break, file_of


def test_system_without_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "HAS_LOCKS", False)
    with pytest.raises(ConfigurationError, match="CHUNKED_UPLOAD_STORAGE_CLASS"):
        LocalStorage(StorageSettings("/base"))


def test_equal_suffixes_need_no_rename(tmp_path: Path) -> None:
    storage = LocalStorage(
        StorageSettings(str(tmp_path), incomplete_ext=".bin", complete_ext=".bin")
    )
    blob = append(storage, new_blob(storage), b"abc")
    append(storage, blob, b"tail")
    assert read(storage, blob) == b"abc"
    blob = finish(storage, finish(storage, blob))
    assert storage.path(blob).read_bytes() == b"abc"
    empty = finish(storage, finish(storage, new_blob(storage)))
    assert storage.measure(empty) == 0
    storage.delete(blob)
    assert storage.measure(blob) is None


def test_bytes_that_cannot_be_written_leave_no_file(
    tmp_path: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(local, "sync_data", fail)
    with pytest.raises(StorageError):
        storage.put(new_blob(storage), b"abc", finished=True)
    assert list(storage.stored()) == []


def test_put_does_not_overwrite_an_existing_file(storage: LocalStorage) -> None:
    blob = replace(new_blob(storage), size=3)
    with storage.put(blob, b"abc", finished=True):
        pass
    with pytest.raises(StorageError):
        storage.put(blob, b"def", finished=True)
    assert read(storage, blob) == b"abc"


@pytest.mark.parametrize("end", ["finalize", "move"])
def test_finalize_and_move_remove_the_second_name(
    tmp_path: Path, storage: LocalStorage, end: str
) -> None:
    blob = replace(new_blob(storage), size=3)
    with storage.put(blob, b"abc", finished=True):
        pass
    file_of(tmp_path, blob).hardlink_to(file_of(tmp_path, blob, ".done"))
    if end == "finalize":
        storage.finalize(blob)
        assert read(storage, blob) == b"abc"
    else:
        for _ in range(2):
            storage.move(blob, tmp_path / "moved")
        assert (tmp_path / "moved").read_bytes() == b"abc"
    assert not file_of(tmp_path, blob).exists()


def test_no_descriptor_stays_open(tmp_path: Path, storage: LocalStorage) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    blob = finish(storage, take(storage, new_blob(storage), b"abc"))
    read(storage, blob)
    storage.truncate(blob)
    list(storage.stored())
    storage.move(blob, tmp_path / "x")
    for call in (storage.open, storage.finalize, storage.truncate):
        with pytest.raises(BytesMissing):
            call(blob)
    with storage.appender(blob) as appender, pytest.raises(BytesMissing):
        appender.exclusive().__enter__()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_new_bytes_are_synced_with_their_name(
    storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    with storage.put(new_blob(storage), b"abc", finished=True):
        pass
    assert synced()[-2:] == ["data", "23"]


def test_finalize_delete_and_move_sync_the_directory(
    tmp_path: Path, storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    append(storage, blob, b"tail")
    synced()
    storage.finalize(blob)
    assert synced() == ["data", "23"]
    storage.finalize(blob)
    assert synced() == ["23"]
    storage.move(blob, tmp_path / "x")
    assert synced() == [tmp_path.name, "23"]
    storage.move(blob, tmp_path / "x")
    assert synced() == [tmp_path.name]
    blob = append(storage, new_blob(storage), b"abc")
    synced()
    storage.delete(blob)
    assert synced() == ["23"]


def test_fast_storage_syncs_nothing(
    tmp_path: Path, synced: Callable[[], list[str]]
) -> None:
    storage = LocalStorage(StorageSettings(str(tmp_path), durable=False))
    blob = take(storage, new_blob(storage), b"abc")
    append(storage, blob, b"tail")
    storage.truncate(blob)
    storage.move(finish(storage, blob), tmp_path / "x")
    storage.delete(append(storage, new_blob(storage), b"abc"))
    assert synced() == []


@pytest.mark.parametrize(
    ("function", "code"),
    [("open", errno.EMFILE), ("fsync", errno.EIO), ("fstat", errno.EIO)],
)
def test_any_call_may_fail_and_the_next_try_succeeds(
    tmp_path: Path,
    broken: Break,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    code: int,
) -> None:
    real, failures, clean = getattr(os, function), 0, False
    descriptors = sorted(os.listdir("/proc/self/fd"))
    while not clean:
        storage = LocalStorage(StorageSettings(str(tmp_path / str(failures))))
        blob = new_blob(storage)
        broken(function, code, after=failures)
        try:
            finish(storage, take(storage, blob, b"abc"))
            clean = True
        except StorageError:
            failures += 1
        monkeypatch.setattr(os, function, real)
        storage.delete(blob)
        assert read(storage, finish(storage, take(storage, blob, b"abc"))) == b"abc"
        assert [item.staged for item in storage.stored()].count(False) == 1
        assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert failures > 5


def test_reader_that_cannot_be_opened_leaves_no_descriptor(
    storage: LocalStorage, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = finish(storage, append(storage, new_blob(storage), b"abc"))
    descriptors = sorted(os.listdir("/proc/self/fd"))
    # The first call is that of opening a regular file.
    broken("fstat", errno.EIO, after=1)
    with pytest.raises(StorageError):
        storage.open(blob)
    monkeypatch.undo()
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert read(storage, blob) == b"abc"


@pytest.mark.parametrize("function", ["open", "stat"])
def test_bytes_are_found_while_they_are_renamed(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    real = getattr(os, function)

    def racing(path: str, *args: object, **kwargs: object) -> object:
        try:
            return real(path, *args, **kwargs)
        except FileNotFoundError:
            monkeypatch.setattr(os, function, real)
            storage.finalize(blob)
            raise

    monkeypatch.setattr(os, function, racing)
    if function == "open":
        assert read(storage, blob) == b"abc"
    else:
        assert storage.measure(blob) == 3
    assert getattr(os, function) is real
