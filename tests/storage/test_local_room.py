"""Room that is reserved behind a long upload: how much, and that it is given back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_chunked.storage import local_room
from flask_chunked.storage.base import Appender, Blob, StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local_room import AHEAD, LEAST, Room

from .contract import finish, new_blob

MIB = 2**20
BLOCK = os.urandom(MIB)
#: Bytes that a file system may need for telling where the others are.
SPARE = 64 * 2**10


def reserves(directory: Path) -> bool:
    """Does this file system reserve room at all?"""
    with open(directory / "probe", "wb") as probe:
        room = Room(AHEAD)
        room.expect(8 * MIB)
        room.prepare(probe.fileno(), 2 * MIB, 1)
        return os.fstat(probe.fileno()).st_blocks > 0


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    if sys.platform != "linux" or not reserves(tmp_path):
        pytest.skip("needs a file system with fallocate (ext4, xfs, btrfs, tmpfs)")
    return LocalStorage(StorageSettings(str(tmp_path), path="up", durable=False))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Start and bytes of each call; the kernel is asked as well."""
    calls: list[tuple[int, int]] = []
    real = local_room._reserve()
    assert real is not None

    def reserve(fd: int, start: int, count: int) -> bool:
        calls.append((start, count))
        return real(fd, start, count)

    monkeypatch.setattr(local_room, "_reserve", lambda: reserve)
    yield calls


def files(tmp_path: Path) -> list[os.stat_result]:
    found = (path for path in (tmp_path / "up").rglob("*") if path.is_file())
    return [path.stat() for path in found]


def reserved(tmp_path: Path) -> int:
    """Bytes behind the end of the only file, as far as the file system tells."""
    (status,) = files(tmp_path)
    return status.st_blocks * 512 - status.st_size


def write(appender: Appender, blocks: int) -> None:
    with appender.exclusive():
        for _ in range(blocks):
            appender.write(BLOCK)


def test_as_much_again_is_reserved(storage: LocalStorage, tmp_path: Path) -> None:
    with storage.appender(new_blob(storage)) as appender:
        appender.expect(1000 * MIB)
        write(appender, 2)
        (status,) = files(tmp_path)
        assert status.st_size == 2 * MIB
        assert 0 < reserved(tmp_path) <= 2 * MIB + SPARE


def test_no_more_than_so_much_is_reserved(
    storage: LocalStorage, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    with storage.appender(new_blob(storage)) as appender:
        appender.expect(1000 * MIB)
        write(appender, 100)
        assert reserved(tmp_path) <= AHEAD
    assert max(count for _, count in asked) == AHEAD
    # Twice as much each time, then in steps.
    assert len(asked) <= 10


def test_nothing_is_reserved_behind_the_end(
    storage: LocalStorage, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    blob = new_blob(storage)
    with storage.appender(blob) as appender:
        appender.expect(10 * MIB)
        write(appender, 10)
    assert max(start + count for start, count in asked) == 10 * MIB
    finish(storage, Blob(blob.key, 10 * MIB))
    assert reserved(tmp_path) <= SPARE
    assert (tmp_path / "up" / f"{blob.key}.done").read_bytes() == BLOCK * 10


def test_the_next_request_finds_the_room_of_the_one_before(
    storage: LocalStorage, asked: list[tuple[int, int]]
) -> None:
    blob = new_blob(storage)
    for size in range(64):
        with storage.appender(Blob(blob.key, size * MIB)) as appender:
            appender.expect(64 * MIB)
            write(appender, 1)
    assert len(asked) <= 10


def test_a_cut_gives_the_room_back(storage: LocalStorage, tmp_path: Path) -> None:
    with storage.appender(new_blob(storage)) as appender:
        appender.expect(1000 * MIB)
        write(appender, 8)
        assert reserved(tmp_path) > SPARE
        with appender.exclusive():
            appender.rewind(4 * MIB)
            assert reserved(tmp_path) <= SPARE
            appender.write(BLOCK)
        assert reserved(tmp_path) > SPARE


@pytest.mark.parametrize("length", [None, LEAST - 1, 3 * LEAST])
def test_short_uploads_and_unknown_lengths_reserve_nothing(
    storage: LocalStorage, asked: list[tuple[int, int]], length: int | None
) -> None:
    with storage.appender(new_blob(storage)) as appender, appender.exclusive():
        if length is not None:
            appender.expect(length)
        appender.write(BLOCK[: LEAST - 1])
        appender.write(b"")
    assert asked == []


def test_none_is_wanted(
    storage: LocalStorage, tmp_path: Path, asked: list[tuple[int, int]]
) -> None:
    storage = LocalStorage(storage.settings, reserve_ahead=0)
    with storage.appender(new_blob(storage)) as appender:
        appender.expect(100 * MIB)
        write(appender, 4)
    with storage.stage() as stage:
        stage.expect(100 * MIB)
        stage.write(BLOCK)
    assert asked == []


def test_bytes_of_a_pipe_find_room(storage: LocalStorage, tmp_path: Path) -> None:
    outlet, inlet = os.pipe()
    with closing(storage.appender(new_blob(storage))) as appender:
        appender.expect(1000 * MIB)
        write(appender, 3)
        os.ftruncate(appender._file.fd, 3 * MIB)
        appender._room.forget()
        with appender.exclusive():
            os.write(inlet, b"abc")
            appender.write_from(outlet, 3)
        assert reserved(tmp_path) > MIB
    os.close(outlet)
    os.close(inlet)


def test_a_stage_reserves_room(
    storage: LocalStorage, asked: list[tuple[int, int]]
) -> None:
    with closing(storage.stage()) as stage:
        stage.expect(10 * MIB)
        for _ in range(10):
            stage.write(BLOCK)
        assert os.fstat(stage.fd).st_size == stage.size == 10 * MIB
    assert max(start + count for start, count in asked) == 10 * MIB


@pytest.mark.parametrize("how", ["refused", "unknown"])
def test_where_there_is_no_room_the_write_tells(
    storage: LocalStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    calls: list[int] = []

    def refuse(fd: int, start: int, count: int) -> bool:
        calls.append(count)
        return False

    maker = (lambda: refuse) if how == "refused" else lambda: None
    monkeypatch.setattr(local_room, "_reserve", maker)
    with storage.appender(new_blob(storage)) as appender:
        appender.expect(100 * MIB)
        write(appender, 8)
        assert appender.position == 8 * MIB
    assert len(calls) == (how == "refused")


@pytest.mark.skipif(sys.platform != "linux", reason="needs fallocate")
def test_the_kernel_refuses_what_is_no_file() -> None:
    outlet, inlet = os.pipe()
    reserve = local_room._reserve()
    assert reserve is not None
    assert not reserve(inlet, 0, MIB)
    os.close(outlet)
    os.close(inlet)


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    local_room._reserve.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    try:
        assert local_room._reserve() is None
    finally:
        local_room._reserve.cache_clear()
