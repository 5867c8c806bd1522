"""Local storage: places, modes, links, listing, and what reaches the medium."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from flask_chunked.exceptions import (
    BytesMissing,
    ConfigurationError,
    StorageBusy,
    StorageError,
)
from flask_chunked.storage.base import Blob, StorageSettings, StoredItem
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local import files as local_files
from flask_chunked.storage.local import lock as local_lock
from flask_chunked.storage.local import storage as local
from flask_chunked.storage.local import writer as local_appender
from flask_chunked.storage.local.inventory import SECOND_NAME

from .contract import CREATED, append, finish, new_blob, read, take

ID = UUID("0b5f0b7e-3f57-4a55-9a58-0d8a0a3c2b11")


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(StorageSettings(str(tmp_path), path="up/%Y/%m/%d"))


def file_of(tmp_path: Path, blob: Blob, suffix: str = ".part") -> Path:
    return tmp_path / "up" / (blob.key + suffix)


# -- places ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "root", "key"),
    [
        ("up/%Y/%m/%d", "up", f"2026/11/23/{ID}"),
        ("up", "up", str(ID)),
        ("%Y", ".", f"2026/{ID}"),
        ("a/b/x%Y/c", "a/b", f"x2026/c/{ID}"),
        ("a/../b/%Y", "b", f"2026/{ID}"),
    ],
)
def test_root_is_the_part_without_directives(
    tmp_path: Path, pattern: str, root: str, key: str
) -> None:
    storage = LocalStorage(StorageSettings(str(tmp_path / "base"), path=pattern))
    assert storage.new_key(ID, CREATED) == key
    assert not (tmp_path / "base").exists()
    assert storage.identity == f"local:{(tmp_path / 'base' / root).resolve()}"
    blob = finish(storage, append(storage, Blob(key, 0), b"abc"))
    assert storage.path(blob) == (tmp_path / "base" / root / f"{key}.done").resolve()


def test_absolute_path_ignores_the_base(tmp_path: Path) -> None:
    storage = LocalStorage(StorageSettings("/nowhere", path=f"{tmp_path}/up/%Y"))
    append(storage, new_blob(storage), b"abc")
    assert (tmp_path / "up" / "2026").is_dir()


@pytest.mark.parametrize(
    "settings",
    [
        StorageSettings("/base", path="up/%Y/../x"),
        StorageSettings("/base", path="up\0"),
        StorageSettings("base", path="up"),
        StorageSettings("/base", incomplete_ext="/x"),
        StorageSettings("/base", complete_ext="\0"),
    ],
    ids=["dots", "nul", "relative", "slash", "nul suffix"],
)
def test_settings_without_a_place_are_refused(settings: StorageSettings) -> None:
    with pytest.raises(ConfigurationError):
        LocalStorage(settings)


def test_system_without_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "HAS_LOCKS", False)
    with pytest.raises(ConfigurationError, match="CHUNKED_UPLOAD_STORAGE_CLASS"):
        LocalStorage(StorageSettings("/base"))


@pytest.mark.parametrize(
    "key",
    ["", "/abs", "a//b", "../x", "a/../b", "./a", "a/", "a\0b", ".staging/x"],
)
def test_keys_that_leave_the_root_are_refused(storage: LocalStorage, key: str) -> None:
    for method in (
        storage.appender,
        storage.open,
        storage.finalize,
        storage.delete,
        storage.measure,
        storage.path,
        storage.cut,
    ):
        with pytest.raises(StorageError, match="key"):
            method(Blob(key, 0))


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


# -- modes and links -------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    storage = LocalStorage(StorageSettings(str(tmp_path), path="a/up/%Y/%m"))
    append(storage, new_blob(storage), b"abc")
    finish(storage, take(storage, new_blob(storage), b"abc"))
    with storage.stage():
        found = {path: path.stat().st_mode for path in (tmp_path / "a").rglob("*")}
    modes = {stat.S_IMODE(mode) for mode in found.values() if stat.S_ISDIR(mode)}
    assert modes == {0o700}
    modes = {stat.S_IMODE(mode) for mode in found.values() if stat.S_ISREG(mode)}
    assert modes == {0o600}
    assert len(found) == 7


def test_root_may_be_a_link(tmp_path: Path, storage: LocalStorage) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "up").symlink_to(tmp_path / "disk")
    blob = finish(storage, append(storage, new_blob(storage), b"abc"))
    assert storage.path(blob).is_relative_to(tmp_path / "disk")


@pytest.mark.parametrize("link", ["2026", "2026/11", "file", ".staging"])
def test_planted_links_are_refused(
    tmp_path: Path, storage: LocalStorage, link: str
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    blob = new_blob(storage)
    path = file_of(tmp_path, blob) if link == "file" else tmp_path / "up" / link
    path.parent.mkdir(parents=True, exist_ok=True)
    target = victim / "secret" if link == "file" else victim
    if link == "file":
        target.write_bytes(b"secret")
    path.symlink_to(target)
    with pytest.raises(StorageError):
        take(storage, blob, b"abc")
    with pytest.raises(StorageError):
        append(storage, blob, b"abc")
    if link != ".staging":
        for method in (storage.open, storage.finalize, storage.measure, storage.cut):
            with pytest.raises(StorageError):
                method(Blob(blob.key, 6))
        assert list(storage.stored()) == []
    assert [path.read_bytes() for path in victim.iterdir()] == (
        [b"secret"] if link == "file" else []
    )


def test_planted_fifo_does_not_block(tmp_path: Path, storage: LocalStorage) -> None:
    blob = new_blob(storage)
    path = file_of(tmp_path, blob)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(StorageError):
        append(storage, blob, b"abc")
    with pytest.raises(StorageError):
        storage.open(Blob(blob.key, 1))


# -- directories and lists -------------------------------------------------------------


def test_bytes_that_cannot_be_written_leave_no_file(
    tmp_path: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(local, "sync_data", fail)
    with pytest.raises(StorageError):
        storage.put(new_blob(storage), b"abc", finished=True)
    assert list(storage.stored()) == []


def test_name_that_is_taken_is_not_overwritten(storage: LocalStorage) -> None:
    blob = replace(new_blob(storage), size=3)
    with storage.put(blob, b"abc", finished=True):
        pass
    with pytest.raises(StorageError):
        storage.put(blob, b"def", finished=True)
    assert read(storage, blob) == b"abc"


def test_both_names_of_an_orphan_go_together(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    finished = file_of(tmp_path, blob, ".done")
    finished.hardlink_to(file_of(tmp_path, blob))
    item = StoredItem(blob.key, 3, CREATED, staged=False)
    with storage.appender(blob) as appender, appender.exclusive():
        assert not storage.discard(item)
    assert finished.exists()
    assert storage.discard(item)
    assert list(storage.stored()) == []


def test_orphan_whose_name_is_a_link_goes(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    path = file_of(tmp_path, blob)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert storage.discard(StoredItem(blob.key, 3, CREATED, staged=False))
    assert not path.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"abc"


@pytest.mark.parametrize("found", ["locked", "gone"])
def test_new_file_that_was_taken_for_a_leftover_is_not_written_to(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    blob = replace(new_blob(storage), size=3)
    lock = local_files.try_lock

    def sleep_before(fd: int) -> bool:
        monkeypatch.setattr(local_lock, "try_lock", lock)
        (item,) = storage.stored()
        if found == "gone":
            assert storage.discard(item)
            return lock(fd)
        return False

    monkeypatch.setattr(local_lock, "try_lock", sleep_before)
    with pytest.raises(StorageBusy):
        storage.put(blob, b"abc", finished=True)
    assert list(storage.stored()) == []
    with storage.put(blob, b"abc", finished=True):
        pass
    assert read(storage, blob) == b"abc"


def test_file_system_without_links_finishes_later(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: str, **directories: int) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    blob = new_blob(storage)
    with storage.appender(blob) as appender, appender.exclusive():
        assert appender.ends_at_position()
        appender.write(b"abc")
        assert not appender.finish()
        blob = replace(blob, size=3)
        appender.flush()
        appender.settle(committed=True)
    storage.finalize(blob)
    assert read(storage, blob) == b"abc"


@pytest.mark.parametrize("end", ["finalize", "move"])
def test_both_names_of_a_file_end_with_it(
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


def test_second_name_of_a_finished_file_is_one_too_many(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = replace(new_blob(storage), size=3)
    with storage.put(blob, b"abc", finished=True):
        pass
    file_of(tmp_path, blob).hardlink_to(file_of(tmp_path, blob, ".done"))
    items = {item.piece: item for item in storage.stored()}
    second = items.pop(SECOND_NAME)
    assert list(items) == [None]
    assert storage.uses(blob, items[None], finished=True)
    assert storage.uses(blob, second, finished=False)
    assert not storage.uses(blob, second, finished=True)
    for _ in range(2):
        assert storage.discard(second)
    assert list(storage.stored()) == list(items.values())
    assert read(storage, blob) == b"abc"


def test_delete_and_move_leave_no_empty_directories(
    tmp_path: Path, storage: LocalStorage
) -> None:
    for end in (storage.delete, lambda blob: storage.move(blob, tmp_path / "x")):
        first = finish(storage, append(storage, new_blob(storage), b"abc"))
        second = append(storage, new_blob(storage), b"abc")
        end(first)
        assert storage.measure(second) == 3
        storage.delete(second)
        assert [path.name for path in (tmp_path / "up").iterdir()] == [".staging"]


def test_writer_survives_a_directory_removed_under_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, real = new_blob(storage), os.open
    removed: list[str] = []

    def racing_open(
        path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        if flags & os.O_CREAT and len(removed) < 3:
            removed.append(path)
            storage._tree.prune(("2026", "11", "23"))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", racing_open)
    blob = append(storage, blob, b"abc")
    assert len(removed) == 3
    assert read(storage, blob) == b"abc"


def test_take_beside_a_delete_loses_no_section(
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


def test_stored_passes_over_what_is_not_ours(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    directory = file_of(tmp_path, blob).parent
    for name in ("notes.txt", f"{ID}.bak", f"x{ID}.part", "x.part", f"{ID}"):
        (directory / name).write_bytes(b"")
    (directory / f"{ID}.part").symlink_to(file_of(tmp_path, blob))
    (directory / f"{ID}.done").mkdir()
    assert [item.key for item in storage.stored()] == [blob.key]


def test_stored_passes_over_another_storage_inside(
    tmp_path: Path, storage: LocalStorage
) -> None:
    inner = LocalStorage(StorageSettings(str(tmp_path), path="up/docs/%Y"))
    append(inner, new_blob(inner), b"abc")
    blob = append(storage, new_blob(storage), b"abc")
    assert [item.key for item in storage.stored()] == [blob.key]


@pytest.mark.parametrize("name", ["../x", "x", ""])
def test_discard_takes_no_foreign_name(storage: LocalStorage, name: str) -> None:
    with pytest.raises(StorageError):
        storage.discard(StoredItem(name, 0, CREATED, staged=True))


def test_no_descriptor_stays_open(tmp_path: Path, storage: LocalStorage) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    blob = finish(storage, take(storage, new_blob(storage), b"abc"))
    read(storage, blob)
    storage.cut(blob)
    list(storage.stored())
    storage.move(blob, tmp_path / "x")
    for call in (storage.open, storage.finalize, storage.cut):
        with pytest.raises(BytesMissing):
            call(blob)
    with storage.appender(blob) as appender, pytest.raises(BytesMissing):
        appender.exclusive().__enter__()
    assert sorted(os.listdir("/proc/self/fd")) == before


# -- what reaches the medium -----------------------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Names of what was synced since the last call, ``data`` for a file's bytes."""
    calls: list[str] = []
    sync_data, sync = os.fdatasync, os.fsync

    def fdatasync(fd: int) -> None:
        sync_data(fd)
        calls.append("data")

    def fsync(fd: int) -> None:
        sync(fd)
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(os, "fsync", fsync)

    def drain() -> list[str]:
        seen = calls.copy()
        calls.clear()
        return seen

    return drain


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


def test_new_bytes_are_synced_with_their_name(
    storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    with storage.put(new_blob(storage), b"abc", finished=True):
        pass
    assert synced()[-2:] == ["data", "23"]


def test_finished_name_is_synced_with_the_other_one(
    storage: LocalStorage, synced: Callable[[], list[str]]
) -> None:
    with storage.appender(new_blob(storage)) as appender, appender.exclusive():
        assert appender.ends_at_position()
        appender.write(b"abc")
        assert appender.finish()
        synced()
        appender.flush()
        assert synced() == ["data", "23"]
        appender.settle(committed=True)
        # If it comes back it is a second name of the finished file.
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
    storage.cut(blob)
    storage.move(finish(storage, blob), tmp_path / "x")
    storage.delete(append(storage, new_blob(storage), b"abc"))
    assert synced() == []


# -- what stays in memory --------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no posix_fadvise here")
def test_synced_bytes_of_large_files_leave_the_memory(
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
    # Whole pieces only; what was short of one goes with a later commit.
    blob = append(storage, blob, b"123")
    blob = append(storage, blob, b"45")
    assert calls[3:] == ["synced", "synced", (16, 4)]
    blob = append(storage, blob, b"678")
    assert calls[6:] == ["synced", (20, 4)]
    assert read(storage, blob) == b"12345678" * 3
