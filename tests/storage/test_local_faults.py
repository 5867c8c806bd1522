"""Local storage when the system fails: short writes, full disks, refused syncs."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from flask_chunked.exceptions import (
    BytesMissing,
    StorageError,
    StorageFull,
)
from flask_chunked.storage.base import Appender, Blob, StorageSettings
from flask_chunked.storage.local import LocalStorage

from .contract import append, finish, new_blob, read, take


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(StorageSettings(str(tmp_path), path="up/%Y/%m/%d"))


class Break(Protocol):
    def __call__(self, name: str, code: int, *, after: int = 0) -> None: ...


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Let a function of :mod:`os` fail, after some calls that succeed."""

    def install(name: str, code: int, *, after: int = 0) -> None:
        real = getattr(os, name)
        calls: list[str] = []

        def failing(*args: object, **kwargs: object) -> object:
            calls.append(name)
            if len(calls) > after:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, failing)

    return install


@pytest.fixture
def short_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda fd, block, offset: real(fd, block[:3], offset)
    )


# -- writes ----------------------------------------------------------------------------


@pytest.mark.usefixtures("short_writes")
def test_short_writes_lose_nothing(storage: LocalStorage) -> None:
    blob = append(storage, new_blob(storage), b"0123456789", b"abcd")
    blob = take(storage, blob, b"efghijkl")
    assert read(storage, blob) == b"0123456789abcdefghijkl"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.usefixtures("short_writes")
def test_full_disk_leaves_nothing_behind_the_position(
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


def test_space_that_came_back_is_used(
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


def test_full_disk_keeps_a_stage_usable(storage: LocalStorage, broken: Break) -> None:
    with storage.stage() as stage:
        stage.write(b"abc")
        broken("pwrite", errno.ENOSPC)
        with pytest.raises(StorageFull):
            stage.write(b"def")
        assert stage.size == 3


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


def test_file_that_shrinks_in_a_section_is_noticed(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    with storage.appender(blob) as appender, appender.exclusive():
        os.truncate(tmp_path / "up" / f"{blob.key}.part", 1)
        with pytest.raises(BytesMissing):
            appender.write(b"def")


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


@pytest.mark.parametrize("function", ["fdatasync", "fsync"])
def test_failed_sync_ends_the_appender(
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


def test_file_system_without_directory_sync_is_accepted(
    storage: LocalStorage, broken: Break
) -> None:
    broken("fsync", errno.EINVAL)
    blob = finish(storage, append(storage, new_blob(storage), b"abc"))
    assert read(storage, blob) == b"abc"


# -- taking stages ---------------------------------------------------------------------


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
def test_a_source_is_copied_from_its_middle_whatever_the_kernel_can(
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


def test_full_disk_in_a_copy_leaves_nothing_behind_the_position(
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


def test_platform_without_kernel_copies(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "copy_file_range")
    blob = take(storage, append(storage, new_blob(storage), b"abc"), b"def")
    assert read(storage, blob) == b"abcdef"


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


def test_move_copies_across_mounts(
    tmp_path: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = finish(storage, append(storage, new_blob(storage), b"abc"))
    real = os.replace

    def replace(source: str, target: str, *, src_dir_fd: int | None = None) -> None:
        if src_dir_fd is not None:
            raise OSError(errno.EXDEV, "other file system")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    storage.move(blob, tmp_path / "film.mp4")
    storage.move(blob, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == b"abc"
    assert storage.measure(blob) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "up"]


def test_failed_move_keeps_the_file(
    tmp_path: Path, storage: LocalStorage, broken: Break
) -> None:
    blob = finish(storage, append(storage, new_blob(storage), b"abc"))
    broken("replace", errno.EXDEV)
    with pytest.raises(StorageError):
        storage.move(blob, tmp_path / "film.mp4")
    assert read(storage, blob) == b"abc"
    assert [path.name for path in tmp_path.iterdir()] == ["up"]
