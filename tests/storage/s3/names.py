"""An S3 storage that needs no server, and the names in its tests."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.s3 import S3Storage

ID = UUID("0a1b2c3d-0000-4000-8000-000000000000")


KEY = f"films/2026/11/23/{ID}"


def new_storage(**options: Any) -> S3Storage:
    options = {"bucket": "b", "prefix": "films/", **options}
    return S3Storage(StorageSettings("/"), **options)
