"""SeaweedFS as real processes on loopback: one S3 server for all receivers of a run."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import install
from benchmarks.client import MIB, ClientError
from examples.many_machines.services import NotStarted, seaweedfs

REGION = "us-east-1"


@dataclass(slots=True)
class Store:
    """The S3 server of a benchmark; there while :meth:`running`."""

    endpoint: str = ""
    access: str = ""
    secret: str = ""
    _client: Any = field(default=None, repr=False)

    @contextmanager
    def running(self, scratch: Path) -> Iterator[None]:
        """Start it, stop it; its files go with the directory.

        :raises install.Unavailable: it cannot be had here.
        """
        install.store_packages()
        with ExitStack() as stack:
            try:
                told = stack.enter_context(seaweedfs(scratch / "seaweedfs"))
            except NotStarted as error:
                raise install.Unavailable(str(error)) from error
            self.endpoint = told["BUCKET_ENDPOINT"]
            self.access = told["AWS_ACCESS_KEY_ID"]
            self.secret = told["AWS_SECRET_ACCESS_KEY"]
            self._client = self._connect()
            stack.callback(self._client.close)
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
            aws_access_key_id=self.access,
            aws_secret_access_key=self.secret,
            region_name=REGION,
        )
