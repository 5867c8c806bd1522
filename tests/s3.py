"""A real S3 server for tests: SeaweedFS on loopback, with buckets of its own.

One server per test process, started when the first test wants it. Nothing leaves the
machine: it listens on loopback, and its telemetry is off.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.registration import registrations
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.s3 import S3Storage

ACCESS, SECRET = "devkey", "devsecret"
#: One for all tests: a new one costs the server much more than a new prefix.
BUCKET = "uploads"
#: Seconds until the server must answer.
PATIENCE = 60.0


def find_weed() -> str | None:
    """SeaweedFS's program, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


@dataclass(frozen=True)
class S3Server:
    """Where it is, and the options that a storage wants of it."""

    endpoint: str

    def options(self, **more: object) -> dict[str, Any]:
        """Of :class:`S3Storage`, with a place of its own in the bucket."""
        return {
            "bucket": BUCKET,
            "endpoint_url": self.endpoint,
            "access_key": ACCESS,
            "secret_key": SECRET,
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


def free_ports(count: int) -> list[int]:
    """Ports that are free now; the server takes one that is higher by 10000, too."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port < 50_000:
                ports.append(port)
        return ports


@contextmanager
def seaweedfs(directory: Path) -> Iterator[S3Server]:
    """A server with its data below the directory."""
    weed = find_weed()
    if weed is None:
        pytest.skip("SeaweedFS is not installed (extra: s3-server)")
    config = directory / "s3.json"
    config.write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": "dev",
                        "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    }
                ]
            }
        )
    )
    (directory / "data").mkdir()
    names = ["s3.port", "s3.port.grpc", "filer.port", "filer.port.grpc", "master.port"]
    names += ["master.port.grpc", "volume.port", "admin.port", "admin.port.grpc"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [weed, "-logtostderr=true", "mini", f"-dir={directory / 'data'}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
    command += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0"]
    command += ["-s3.port.lance=0", f"-s3.config={config}"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=directory, start_new_session=True
        )
        try:
            _wait(ports["s3.port"], process, directory / "log")
            yield S3Server(f"http://127.0.0.1:{ports['s3.port']}")
        finally:
            # Asked nicely it takes seconds, and nothing of it is wanted any more.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    server = S3Server(f"http://127.0.0.1:{port}")
    probe = S3Storage(
        StorageSettings("/"), **server.options(attempts=1, read_timeout=5.0)
    )
    end = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                probe.bucket.client.create_bucket(Bucket=BUCKET)
                probe.bucket.client.put_object(Bucket=BUCKET, Key="first", Body=b"")
                return
            except Exception as error:
                if process.poll() is not None or time.monotonic() > end:
                    tail = log.read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"SeaweedFS does not answer:\n{tail}") from error
                time.sleep(0.1)
    finally:
        probe.bucket.close()


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
