"""The appender of the local storage: sections, syncs, full disks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    BytesMissing,
    StorageError,
    StorageFull,
)
from flask_chunked.storage.base import Blob
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local import writer as local_appender

from ..contract import append, finish, new_blob, read, take
from .names import Break, file_of


def test_file_system_without_links_finishes_in_finalize(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: str, **directories: int) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    blob = new_blob(storage)
    with storage.appender(blob) as appender, appender.exclusive():
        assert appender.at_end_of_file()
        appender.write(b"abc")
        assert not appender.finish()
        blob = replace(blob, size=3)
        appender.flush()
        appender.committed()
    storage.finalize(blob)
    assert read(storage, blob) == b"abc"


def test_take_during_a_delete_keeps_the_section(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = new_blob(storage)
    with storage.stage() as stage, storage.appender(blob) as appender:
        stage.write(b"abc")
        with appender.exclusive():
            file_of(tmp_path, blob).unlink()
            storage._tree.prune(("2026", "11", "23"))
            appender.take(stage)
            appender.flush()
            assert appender.head(3) == b"abc"
    assert storage.measure(blob) is None
    assert list(storage.stored()) == []


def test_flush_syncs_bytes_then_the_name(
    tmp_path: Path, storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    with storage.appender(new_blob(storage)) as appender:
        with appender.exclusive():
            assert synced() == [tmp_path.name, "up", "up", "2026", "11"]
            appender.write(b"abc")
            assert synced() == []
            appender.flush()
            assert synced() == ["data", "23"]
        with appender.exclusive():
            appender.write(b"def")
            appender.flush()
            assert synced() == ["data"]


def test_finished_name_is_synced_with_the_unfinished_one(
    storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    with storage.appender(new_blob(storage)) as appender, appender.exclusive():
        assert appender.at_end_of_file()
        appender.write(b"abc")
        assert appender.finish()
        synced()
        appender.flush()
        assert synced() == ["data", "23"]
        appender.committed()
        # If the removed name reappears after a crash, it is a second name.
        assert synced() == []


def test_taken_stage_is_synced_with_its_name(
    storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    blob = take(storage, new_blob(storage), b"abc")
    assert synced()[-2:] == ["data", "23"]
    take(storage, blob, b"def")
    assert synced() == ["data"]


def test_new_name_in_a_later_flush_is_synced(
    storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    with (
        storage.stage() as stage,
        storage.appender(new_blob(storage)) as appender,
        appender.exclusive(),
    ):
        appender.flush()
        synced()
        appender.take(stage)
        appender.flush()
    assert synced() == ["data", "23"]


def test_name_left_by_a_dead_writer_is_synced(
    storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    blob = new_blob(storage)
    with storage.appender(blob) as dead, dead.exclusive():
        dead.write(b"abc")
    synced()
    append(storage, blob, b"abc")
    assert synced() == ["data", "23"]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no posix_fadvise here")
def test_synced_bytes_of_large_files_leave_the_page_cache(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_appender, "KEPT_IN_CACHE", 8)
    monkeypatch.setattr(local_appender, "RELEASE_STEP", 4)
    calls: list[str | tuple[int, int]] = []
    sync_data = os.fdatasync

    def note_sync(fd: int) -> None:
        calls.append("synced")
        sync_data(fd)

    def note_release(fd: int, start: int, count: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        calls.append((start, count))

    monkeypatch.setattr(os, "fdatasync", note_sync)
    monkeypatch.setattr(os, "posix_fadvise", note_release)
    blob = append(storage, new_blob(storage), b"12345678")
    assert calls == ["synced"]
    blob = append(storage, blob, b"12345678")
    assert calls == ["synced", "synced", (8, 8)]
    # Only whole pieces are released; the rest is released with a later commit.
    blob = append(storage, blob, b"123")
    blob = append(storage, blob, b"45")
    assert calls[3:] == ["synced", "synced", (16, 4)]
    blob = append(storage, blob, b"678")
    assert calls[6:] == ["synced", (20, 4)]
    assert read(storage, blob) == b"12345678" * 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.usefixtures("short_writes")
def test_full_disk_leaves_no_bytes_after_the_position(
    storage: LocalStorage, broken: Break, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    with monkeypatch.context() as patch, storage.appender(blob) as appender:
        patch.setattr(os, "pwrite", os.pwrite)
        broken("pwrite", code, after=2)
        with appender.exclusive():
            with pytest.raises(StorageFull) as caught:
                appender.write(b"0123456789")
            assert appender.position == 3
            assert appender.head(10) == b"abc"
            appender.flush()
    assert isinstance(caught.value.__cause__, OSError)
    assert storage.measure(blob) == 3


def test_write_succeeds_once_the_disk_has_space(
    storage: LocalStorage, broken: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, real = new_blob(storage), os.pwrite
    with storage.appender(blob) as appender, appender.exclusive():
        broken("pwrite", errno.ENOSPC)
        with pytest.raises(StorageFull):
            appender.write(b"abc")
        monkeypatch.setattr(os, "pwrite", real)
        appender.write(b"de")
        appender.flush()
    assert read(storage, Blob(blob.key, 2)) == b"de"


def test_file_that_shrinks_in_a_section_is_noticed(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    with storage.appender(blob) as appender, appender.exclusive():
        os.truncate(tmp_path / "up" / f"{blob.key}.part", 1)
        with pytest.raises(BytesMissing):
            appender.write(b"def")


@pytest.mark.parametrize("function", ["fdatasync", "fsync"])
def test_failed_sync_makes_the_appender_unusable(
    storage: LocalStorage,
    broken: Break,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
) -> None:
    blob, real = new_blob(storage), getattr(os, function)
    with storage.appender(blob) as appender:
        with appender.exclusive():
            appender.write(b"abc")
            broken(function, errno.EIO)
            with pytest.raises(StorageError):
                appender.flush()
            monkeypatch.setattr(os, function, real)
            with pytest.raises(StorageError):
                appender.flush()
        with pytest.raises(StorageError), appender.exclusive():
            pass
    assert read(storage, append(storage, blob, b"abc")) == b"abc"


def test_section_that_writes_nothing_at_offset_0_leaves_no_file(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = new_blob(storage)
    finished = finish(storage, append(storage, blob, b"abc"))
    with storage.appender(blob) as superseded, superseded.exclusive():
        pass
    assert [path.suffix for path in (tmp_path / "up").rglob("*-*")] == [".done"]
    assert read(storage, finished) == b"abc"


def test_appender_continues_after_a_section_that_wrote_nothing(
    storage: LocalStorage,
) -> None:
    blob = new_blob(storage)
    with storage.appender(blob) as appender:
        with appender.exclusive():
            pass
        with appender.exclusive():
            appender.write(b"abc")
            appender.flush()
    assert read(storage, Blob(blob.key, 3)) == b"abc"
