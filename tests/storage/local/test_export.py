"""Moving files out of the local storage."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flask_chunked.exceptions import (
    StorageError,
)
from flask_chunked.storage.local import LocalStorage

from ..contract import append, finish, new_blob, read
from .names import Break


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
