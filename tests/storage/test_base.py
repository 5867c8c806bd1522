"""The storage contract, for each storage of the package; S3 on two real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chunked.storage.base import Storage, StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.memory import MemoryStorage
from tests.s3 import S3Server

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


@pytest.mark.slow
class OnS3(StorageContract, CopyContract):
    """What both have in common."""

    locks = False
    lists_stages = False
    appends_in_place = False


class TestSeaweedFS(OnS3):
    @pytest.fixture(params=["md5", "crc32"])
    def storage(
        self, request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server
    ) -> Iterator[Storage]:
        with s3_server.storage(tmp_path, checksum=request.param) as storage:
            yield storage


class TestSwift(OnS3):
    @pytest.fixture
    def storage(self, tmp_path: Path, swift_server: S3Server) -> Iterator[Storage]:
        with swift_server.storage(tmp_path) as storage:
            yield storage
