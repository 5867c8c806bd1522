"""Directories opened by their whole path, and where that cannot be."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from flask_chunked.storage import resolving
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.resolving import Resolver

from .contract import append, finish, new_blob, read

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@pytest.fixture
def resolver() -> Resolver:
    resolver = Resolver(DIRECTORY)
    fd = resolver.open("/")
    if fd is None:
        pytest.skip("this system has no openat2, or does not let us call it")
    os.close(fd)
    return resolver


def test_directory_is_opened_and_not_inherited(
    resolver: Resolver, tmp_path: Path
) -> None:
    fd = resolver.open(str(tmp_path.resolve()))
    assert fd is not None
    try:
        assert os.path.samestat(os.fstat(fd), tmp_path.stat())
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["nowhere", "file", "link", "link/below"])
def test_anything_else_is_left_to_the_walk(
    resolver: Resolver, tmp_path: Path, name: str
) -> None:
    root = tmp_path.resolve()
    (root / "there" / "below").mkdir(parents=True)
    (root / "link").symlink_to(root / "there")
    (root / "file").touch()
    assert resolver.open(str(root / name)) is None


def test_names_need_not_be_text(resolver: Resolver, tmp_path: Path) -> None:
    path = str(tmp_path.resolve() / "\udcff")
    os.mkdir(path)
    fd = resolver.open(path)
    assert fd is not None
    os.close(fd)


def test_storage_works_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "_syscall", None)
    storage = LocalStorage(StorageSettings(str(tmp_path), path="up/%Y"))
    blob = finish(storage, append(storage, new_blob(storage), b"abc"))
    assert read(storage, blob) == b"abc"


def test_other_systems_have_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert resolving._find_syscall() is None
    monkeypatch.setattr(sys, "platform", "linux")

    def missing(name: str | None) -> object:
        raise OSError("no library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert resolving._find_syscall() is None
