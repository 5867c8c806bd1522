"""Keys, directories and file names of the local storage."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    ConfigurationError,
    StorageError,
)
from flask_chunked.storage.base import Blob, StorageSettings
from flask_chunked.storage.local import LocalStorage

from ..contract import CREATED, append, finish, new_blob, read, take
from .names import ID, file_of


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
def test_root_is_the_path_before_the_first_directive(
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
def test_invalid_settings_are_refused(settings: StorageSettings) -> None:
    with pytest.raises(ConfigurationError):
        LocalStorage(settings)


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
        storage.truncate,
    ):
        with pytest.raises(StorageError, match="key"):
            method(Blob(key, 0))


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
        for method in (
            storage.open,
            storage.finalize,
            storage.measure,
            storage.truncate,
        ):
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
