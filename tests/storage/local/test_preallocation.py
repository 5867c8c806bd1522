"""Preallocation for long uploads: how much is reserved, and that it is freed."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_chunked.exceptions import ConfigurationError
from flask_chunked.storage.base import Appender, Blob, StorageSettings
from flask_chunked.storage.local import LocalStorage, preallocation
from flask_chunked.storage.local.preallocation import MAX_AHEAD, MIN_RESERVATION

from ..contract import finish, new_blob

MIB = 2**20
BLOCK = os.urandom(MIB)
#: Bytes that a file system may need for metadata.
SPARE = 64 * 2**10


def reserves(directory: Path) -> bool:
    """True if fallocate(1) can reserve space on this file system."""
    probe = directory / "probe"
    probe.touch()
    command = ["fallocate", "--keep-size", "--length", str(MIB), str(probe)]
    if shutil.which(command[0]) is None or subprocess.run(command).returncode:
        return False
    return probe.stat().st_blocks * 512 >= MIB


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    if sys.platform != "linux" or not reserves(tmp_path):
        pytest.skip("needs fallocate(1) and a file system that reserves space")
    return LocalStorage(StorageSettings(str(tmp_path), path="up", durable=False))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Start and bytes of each call to fallocate, which is executed, too."""
    calls: list[tuple[int, int]] = []
    real = preallocation.load_fallocate()
    assert real is not None

    def reserve(fd: int, start: int, count: int) -> bool:
        calls.append((start, count))
        return real(fd, start, count)

    monkeypatch.setattr(preallocation, "load_fallocate", lambda: reserve)
    yield calls


def files(tmp_path: Path) -> list[os.stat_result]:
    found = (path for path in (tmp_path / "up").rglob("*") if path.is_file())
    return [path.stat() for path in found]


def reserved(tmp_path: Path) -> int:
    """Bytes that are allocated beyond the end of the only file."""
    (status,) = files(tmp_path)
    return status.st_blocks * 512 - status.st_size


def write(appender: Appender, blocks: int) -> None:
    with appender.exclusive():
        for _ in range(blocks):
            appender.write(BLOCK)


def test_reservation_is_at_most_the_size_of_the_file(
    storage: LocalStorage, tmp_path: Path
) -> None:
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(1000 * MIB)
        write(appender, 2)
        (status,) = files(tmp_path)
        assert status.st_size == 2 * MIB
        assert 0 < reserved(tmp_path) <= 2 * MIB + SPARE


def test_reservation_has_an_upper_limit(
    storage: LocalStorage, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(1000 * MIB)
        write(appender, 100)
        assert reserved(tmp_path) <= MAX_AHEAD
    assert max(count for _, count in asked) == MAX_AHEAD
    # Each reservation doubles the previous one, up to the limit.
    assert len(asked) <= 10


def test_nothing_is_reserved_beyond_the_length(
    storage: LocalStorage, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    blob = new_blob(storage)
    with storage.appender(blob) as appender:
        appender.set_length(10 * MIB)
        write(appender, 10)
    assert max(start + count for start, count in asked) == 10 * MIB
    finish(storage, Blob(blob.key, 10 * MIB))
    assert reserved(tmp_path) <= SPARE
    assert (tmp_path / "up" / f"{blob.key}.done").read_bytes() == BLOCK * 10


def test_next_request_uses_the_reservation_of_the_previous_one(
    storage: LocalStorage, asked: list[tuple[int, int]]
) -> None:
    blob = new_blob(storage)
    for size in range(64):
        with storage.appender(Blob(blob.key, size * MIB)) as appender:
            appender.set_length(64 * MIB)
            write(appender, 1)
    assert len(asked) <= 10


def test_truncation_frees_the_reservation(
    storage: LocalStorage, tmp_path: Path
) -> None:
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(1000 * MIB)
        write(appender, 8)
        assert reserved(tmp_path) > SPARE
        with appender.exclusive():
            appender.rewind(4 * MIB)
            assert reserved(tmp_path) <= SPARE
            appender.write(BLOCK)
        assert reserved(tmp_path) > SPARE


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        pytest.param(None, [MIB, MIB, MIB], id="unknown"),
        pytest.param(MIN_RESERVATION - 1, [1000, MIN_RESERVATION - 1001], id="short"),
        pytest.param(3 * MIN_RESERVATION, [MIN_RESERVATION - 1, 0], id="begun"),
    ],
)
def test_short_uploads_and_unknown_lengths_reserve_nothing(
    storage: LocalStorage,
    asked: list[tuple[int, int]],
    length: int | None,
    sizes: list[int],
) -> None:
    with storage.appender(new_blob(storage)) as appender, appender.exclusive():
        if length is not None:
            appender.set_length(length)
        for size in sizes:
            appender.write(BLOCK[:size])
    assert asked == []


def test_short_rest_of_a_long_file_is_reserved(
    storage: LocalStorage, asked: list[tuple[int, int]]
) -> None:
    length = 3 * MIB + 1000
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(length)
        write(appender, 3)
        with appender.exclusive():
            appender.write(BLOCK[:1000])
            appender.write(b"")
    assert asked[-1] == (3 * MIB, 1000)


def test_failed_commit_frees_the_reservation(
    storage: LocalStorage, tmp_path: Path
) -> None:
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(1000 * MIB)
        write(appender, 1)
        with appender.exclusive():
            assert appender.at_end_of_file()
            appender.write(BLOCK)
            assert reserved(tmp_path) > SPARE
            appender.rollback()
            assert reserved(tmp_path) <= SPARE
            assert appender.position == MIB


def test_truncated_uncommitted_bytes_free_their_reservation(
    storage: LocalStorage, tmp_path: Path
) -> None:
    blob = new_blob(storage)
    for _ in range(2):
        with storage.appender(blob) as appender:
            appender.set_length(1000 * MIB)
            write(appender, 8)
            assert MIB < reserved(tmp_path) <= 8 * MIB + SPARE


def test_reserve_ahead_0_reserves_nothing(
    storage: LocalStorage, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    storage = LocalStorage(storage.settings, reserve_ahead=0)
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(100 * MIB)
        write(appender, 4)
    with storage.stage() as stage:
        stage.set_length(100 * MIB)
        stage.write(BLOCK)
    assert asked == []


def test_splice_reserves_space(storage: LocalStorage, tmp_path: Path) -> None:
    outlet, inlet = os.pipe()
    with closing(storage.appender(new_blob(storage))) as appender:
        appender.set_length(1000 * MIB)
        write(appender, 3)
        os.ftruncate(appender._file.fd, 3 * MIB)
        appender._preallocation.reset()
        with appender.exclusive():
            os.write(inlet, b"abc")
            appender.write_from_pipe(outlet, 3)
        assert reserved(tmp_path) > MIB
    os.close(outlet)
    os.close(inlet)


def test_stage_reserves_space(
    storage: LocalStorage, asked: list[tuple[int, int]]
) -> None:
    with closing(storage.stage()) as stage:
        stage.set_length(10 * MIB)
        for _ in range(10):
            stage.write(BLOCK)
        assert os.fstat(stage.fd).st_size == stage.size == 10 * MIB
    assert max(start + count for start, count in asked) == 10 * MIB


def test_failed_reservation_frees_its_partial_blocks(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ext4 keeps these blocks when the disk is full."""
    calls: list[int] = []
    real = preallocation.load_fallocate()
    assert real is not None

    def refuse(fd: int, start: int, count: int) -> bool:
        calls.append(count)
        assert real(fd, start, count // 2)
        return False

    monkeypatch.setattr(preallocation, "load_fallocate", lambda: refuse)
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(100 * MIB)
        write(appender, 8)
        assert appender.position == 8 * MIB
    assert len(calls) == 1
    assert reserved(tmp_path) <= SPARE


def test_nothing_is_reserved_on_a_nearly_full_disk(
    storage: LocalStorage,
    asked: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.fstatvfs

    def nearly_full(fd: int) -> os.statvfs_result:
        fields = list(real(fd))
        # f_bavail: fragments that are free for unprivileged users.
        fields[4] = 16 * MIB // fields[1] - 1
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(100 * MIB)
        write(appender, 8)
    assert asked == []


def test_disk_that_does_not_report_free_space_accepts_bytes(
    storage: LocalStorage,
    asked: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(fd: int) -> os.statvfs_result:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "fstatvfs", refuse)
    with storage.appender(new_blob(storage)) as appender:
        appender.set_length(100 * MIB)
        write(appender, 8)
        assert appender.position == 8 * MIB
    assert asked == []


@pytest.mark.parametrize("missing", ["library", "function", "system"])
def test_bytes_are_written_without_fallocate(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def no_library(name: None) -> object:
        if missing == "library":
            raise OSError("statically linked")
        return object()

    if missing == "system":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(ctypes, "CDLL", no_library)
    preallocation.load_fallocate.cache_clear()
    try:
        assert preallocation.load_fallocate() is None
        with storage.appender(new_blob(storage)) as appender:
            appender.set_length(100 * MIB)
            write(appender, 8)
            assert appender.position == 8 * MIB
    finally:
        preallocation.load_fallocate.cache_clear()


@pytest.mark.parametrize("option", [-1, 1.5, "0", None])
def test_invalid_reserve_ahead_is_refused(option: object) -> None:
    with pytest.raises(ConfigurationError, match="reserve_ahead"):
        LocalStorage(StorageSettings("/base"), reserve_ahead=option)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="needs fallocate")
def test_fallocate_of_a_pipe_fails() -> None:
    outlet, inlet = os.pipe()
    reserve = preallocation.load_fallocate()
    assert reserve is not None
    assert not reserve(inlet, 0, MIB)
    os.close(outlet)
    os.close(inlet)
