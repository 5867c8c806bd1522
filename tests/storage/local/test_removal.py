"""Removal of orphans, second names and stages of the local storage."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    StorageError,
)
from flask_chunked.storage.base import StoredItem
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local.inventory import SECOND_NAME

from ..contract import CREATED, append, new_blob, read
from .names import file_of


def test_discard_removes_both_names_of_an_orphan(
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


def test_discard_removes_an_orphan_whose_name_is_a_link(
    tmp_path: Path, storage: LocalStorage
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    path = file_of(tmp_path, blob)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert storage.discard(StoredItem(blob.key, 3, CREATED, staged=False))
    assert not path.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"abc"


def test_second_name_of_a_finished_file_is_unneeded(
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


@pytest.mark.parametrize("name", ["../x", "x", ""])
def test_discard_refuses_a_name_of_no_stage(storage: LocalStorage, name: str) -> None:
    with pytest.raises(StorageError):
        storage.discard(StoredItem(name, 0, CREATED, staged=True))


def test_delete_during_a_rename_removes_both_names(
    tmp_path: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = append(storage, new_blob(storage), b"abc")
    part = tmp_path / "up" / f"{blob.key}.part"
    real = os.unlink
    seen: list[str] = []

    def unlink(name: str, *, dir_fd: int) -> None:
        first = not seen
        seen.append(name)
        try:
            real(name, dir_fd=dir_fd)
        finally:
            if first:  # another process, whose finalize() got the lock before us
                with suppress(FileNotFoundError):
                    part.rename(part.with_suffix(".done"))

    monkeypatch.setattr(os, "unlink", unlink)
    storage.delete(blob)
    assert len(seen) == 2
    assert storage.measure(blob) is None
