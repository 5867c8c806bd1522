"""The inventory of the local storage."""

from __future__ import annotations

from pathlib import Path

from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.local import LocalStorage

from ..contract import append, new_blob
from .names import ID, file_of


def test_stored_skips_foreign_files(tmp_path: Path, storage: LocalStorage) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    directory = file_of(tmp_path, blob).parent
    for name in ("notes.txt", f"{ID}.bak", f"x{ID}.part", "x.part", f"{ID}"):
        (directory / name).write_bytes(b"")
    (directory / f"{ID}.part").symlink_to(file_of(tmp_path, blob))
    (directory / f"{ID}.done").mkdir()
    assert [item.key for item in storage.stored()] == [blob.key]


def test_stored_skips_a_storage_inside_this_one(
    tmp_path: Path, storage: LocalStorage
) -> None:
    inner = LocalStorage(StorageSettings(str(tmp_path), path="up/docs/%Y"))
    append(inner, new_blob(inner), b"abc")
    blob = append(storage, new_blob(storage), b"abc")
    assert [item.key for item in storage.stored()] == [blob.key]
