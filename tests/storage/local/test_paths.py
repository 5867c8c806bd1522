"""Keys, directories and file names of the local storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    ConfigurationError,
    StorageError,
)
from flask_chunked.storage.base import Blob, StorageSettings
from flask_chunked.storage.local import LocalStorage

from ..contract import CREATED, append, finish, new_blob
from .names import ID


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
