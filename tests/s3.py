"""A real S3 server for tests: SeaweedFS on loopback, with buckets of its own.

One server per test process, started when the first test wants it. Nothing leaves the
machine: it listens on loopback, and its telemetry is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from examples.many_machines import services
from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.registration import registrations
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.s3 import S3Storage


@dataclass(frozen=True)
class S3Server:
    """Where it is, and the options that a storage wants of it."""

    endpoint: str
    access: str
    secret: str

    def options(self, **more: object) -> dict[str, Any]:
        """Of :class:`S3Storage`, with a place of its own in the bucket."""
        return {
            "bucket": services.BUCKET,
            "endpoint_url": self.endpoint,
            "access_key": self.access,
            "secret_key": self.secret,
            "region": "us-east-1",
            "prefix": f"{uuid4().hex}/",
            "path_style": True,
            "part_size": 5 * 2**20,
            **more,
        }

    @contextmanager
    def storage(self, base: Path, **more: object) -> Iterator[S3Storage]:
        """A storage that is empty."""
        storage = S3Storage(StorageSettings(str(base)), **self.options(**more))
        try:
            yield storage
        finally:
            storage.bucket.close()


@contextmanager
def seaweedfs(directory: Path) -> Iterator[S3Server]:
    """A server with its data below the directory."""
    with ExitStack() as stack:
        try:
            told = stack.enter_context(services.seaweedfs(directory / "seaweedfs"))
        except services.NotStarted as error:
            pytest.skip(f"no S3 server (extra: s3-server): {error}")
        yield S3Server(
            told["BUCKET_ENDPOINT"],
            told["AWS_ACCESS_KEY_ID"],
            told["AWS_SECRET_ACCESS_KEY"],
        )


def s3_blueprint(server: S3Server, **more: object) -> type[ChunkedUploadBlueprint]:
    """A blueprint that keeps its uploads there, in a place of its own."""

    class Uploads(ChunkedUploadBlueprint):
        storage_class = S3Storage
        storage_options = server.options(**more)

    return Uploads


def storage_of(app: Flask) -> S3Storage:
    """The storage of the app's one blueprint."""
    (here,) = registrations(app).values()
    storage = here.storage
    assert isinstance(storage, S3Storage)
    return storage


def left_in(storage: S3Storage) -> tuple[list[str], list[str]]:
    """Keys of all objects, and ids of all multipart uploads, of a storage."""
    bucket, prefix = storage.bucket, storage.prefix
    objects = [found.key for found in bucket.objects(prefix)]
    return objects, [pending.upload for pending in bucket.open_uploads(prefix)]
