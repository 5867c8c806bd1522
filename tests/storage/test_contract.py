"""The storage contract, for each storage of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_chunked.storage.base import Storage, StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.memory import MemoryStorage

from .contract import StorageContract
from .copy_contract import CopyContract


class TestLocal(StorageContract, CopyContract):
    local = True

    @pytest.fixture(params=[True, False], ids=["durable", "fast"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
        settings = StorageSettings(str(tmp_path), durable=request.param)
        return LocalStorage(settings, lock_timeout=0)


class TestLocalWithoutDates(StorageContract, CopyContract):
    local = True

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        settings = StorageSettings(str(tmp_path), path="uploads")
        return LocalStorage(settings, lock_timeout=0)


class TestMemory(StorageContract, CopyContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return MemoryStorage(StorageSettings(str(tmp_path)), lock_timeout=0)
