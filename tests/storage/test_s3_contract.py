"""The storage contract on a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_chunked.storage.base import Storage
from tests.s3 import S3Server

from .contract import StorageContract
from .copy_contract import CopyContract

pytestmark = pytest.mark.slow


class TestS3(StorageContract, CopyContract):
    locks = False
    lists_stages = False
    appends_in_place = False

    @pytest.fixture(params=["md5", "crc32"])
    def storage(
        self, request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server
    ) -> Iterator[Storage]:
        with s3_server.storage(tmp_path, checksum=request.param) as storage:
            yield storage
