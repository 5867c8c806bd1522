"""The storage contract on real S3 servers, by two makers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chunked.storage.base import Storage
from tests.s3 import S3Server

from .contract import StorageContract
from .copy_contract import CopyContract

pytestmark = pytest.mark.slow


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
