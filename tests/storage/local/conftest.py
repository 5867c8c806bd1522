"""Fixtures of the tests of the local storage."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.local import LocalStorage

from .names import Break


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(StorageSettings(str(tmp_path), path="up/%Y/%m/%d"))


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
