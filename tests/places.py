"""Where the apps of tests keep rows and bytes: SQLite and local disk, or elsewhere.

``pytest --storage s3 --database postgresql`` runs the same tests on other places. Each
process of pytest has servers of its own, started for the first app that wants them.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import URL

from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.s3 import S3Storage
from tests.postgres import as_setting, run_sql, running_server
from tests.s3 import S3Server, seaweedfs

#: Set by ``--storage`` and ``--database``; workers of xdist inherit them.
STORAGE, DATABASE = "TEST_STORAGE", "TEST_DATABASE"
CHOICES = {STORAGE: ("local", "s3"), DATABASE: ("sqlite", "postgresql")}

#: Closed when pytest ends.
_SERVERS = ExitStack()


def skip_elsewhere(item: pytest.Item) -> None:
    """Skip a test that is marked for places that were not chosen."""
    if item.get_closest_marker("local_disk") and os.environ.get(STORAGE) == "s3":
        pytest.skip("is about files on the local disk")
    if item.get_closest_marker("sqlite") and os.environ.get(DATABASE) == "postgresql":
        pytest.skip("is about SQLite")


@dataclass(frozen=True)
class StoredObject:
    """As much of a path as tests want of a stored file that is none.

    :ivar suffix: as on the local disk: ``.part`` of an unfinished one.
    """

    name: str
    suffix: str
    content: bytes

    def read_bytes(self) -> bytes:
        """Its bytes."""
        return self.content


@cache
def _postgresql() -> URL:
    server = _SERVERS.enter_context(running_server())
    # No test with this server is about power that fails.
    run_sql(server, "ALTER SYSTEM SET fsync = off")
    run_sql(server, "SELECT pg_reload_conf()")
    return server


@cache
def _s3() -> S3Server:
    where = _SERVERS.enter_context(tempfile.TemporaryDirectory(prefix="s3"))
    return _SERVERS.enter_context(seaweedfs(Path(where)))


def close_servers() -> None:
    """Stop what was started."""
    _SERVERS.close()


@cache
def _schema(_tmp_path: Path) -> URL:
    """A place of one test's apps in the database."""
    name = f"s{uuid4().hex}"
    server = _postgresql()
    run_sql(server, f"CREATE SCHEMA {name}")
    return server.update_query_dict({"options": f"-csearch_path={name}"})


@cache
def _options(_tmp_path: Path) -> dict[str, Any]:
    """A place of one test's apps in the bucket."""
    return _s3().options()


def places(tmp_path: Path) -> dict[str, object]:
    """Configuration of an app of this test."""
    config: dict[str, object] = {
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/app.db"
    }
    if os.environ.get(DATABASE) == "postgresql":
        config["SQLALCHEMY_DATABASE_URI"] = as_setting(_schema(tmp_path))
    if os.environ.get(STORAGE) == "s3":

        def storage(settings: StorageSettings, **_: object) -> S3Storage:
            return S3Storage(settings, **_options(tmp_path))

        config["CHUNKED_UPLOAD_STORAGE_CLASS"] = storage
    return config


def stored_objects(tmp_path: Path) -> list[StoredObject]:
    """Of a test whose apps keep their bytes in S3: small files, finished or not.

    A tail that a crash has left beside its finished file is for a check to remove.
    """
    storage = S3Storage(StorageSettings(str(tmp_path)), **_options(tmp_path))
    bucket = storage.bucket
    found = []
    keys = sorted(one.key for one in bucket.objects(storage.prefix))
    for key in keys:
        finished, _, tail = key.partition(".tail.")
        if tail and finished in keys:
            continue
        body = bucket.client.get_object(Bucket=bucket.settings.name, Key=key)
        name, suffix = finished.rpartition("/")[2], ".part" if tail else ".done"
        found.append(StoredObject(name + suffix, suffix, body["Body"].read()))
    bucket.close()
    return found
