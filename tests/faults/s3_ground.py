"""The ground of faults with its bytes in S3."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from flask_chunked.engine.records import Upload
from flask_chunked.exceptions import BytesMissing
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.s3 import S3Storage
from flask_chunked.storage.s3_bucket import translated
from tests.s3 import left_in

from .ground import Ground, content


class S3Ground(Ground):
    """An app whose bytes are in a bucket.

    :param s3: options of the storage, as JSON.
    """

    def __init__(self, directory: Path, s3: str, **config: Any) -> None:
        options = json.loads(s3)

        def storage(settings: StorageSettings) -> S3Storage:
            return S3Storage(settings, **options)

        super().__init__(directory, CHUNKED_UPLOAD_STORAGE_CLASS=storage, **config)

    @property
    def storage(self) -> S3Storage:
        """Of the blueprint."""
        found = self.here.storage
        assert isinstance(found, S3Storage)
        return found

    def stored_bytes(self, upload: Upload) -> bytes | None:
        """Those of the object, or of its parts and tail, whoever works on them.

        Parts cannot be read before they are an object: those whose ETag is that of
        the upload's content stand for it.
        """
        for _ in range(5):
            try:
                return self._bytes_of(upload)
            except BytesMissing:
                again = self.engine.repository.get(upload.id)
                if again is None:
                    return None
                upload = again
        return None

    def _bytes_of(self, upload: Upload) -> bytes:
        blob = upload.blob
        if blob is None:
            return b""
        if self.storage.bucket.size(blob.key) is not None:
            return self._read(blob.key)
        state = self.storage.state_of(blob)
        found = b""
        if state.parts:
            whole = content(upload.id, upload.length or 0)
            for part in self.engine.repository.parts(upload.id)[: state.parts]:
                stop = len(found) + part.size
                piece = whole[len(found) : stop]
                etag = hashlib.md5(piece).hexdigest()
                found += piece if part.etag.strip('"') == etag else b"?" * part.size
        tail = b"" if state.tail is None else self._read(state.tail)
        return found + tail

    def _read(self, key: str) -> bytes:
        bucket = self.storage.bucket
        with translated():
            answer = bucket.client.get_object(Bucket=bucket.settings.name, Key=key)
            return bytes(answer["Body"].read())

    def unaccounted(self) -> list[str]:
        """Objects, multipart uploads and rows of parts that nothing refers to."""
        # Where a row names none, None is named.
        keys: set[str | None] = set()
        uploads: set[str | None] = set()
        parts = set()
        for row in self.here.repository.matching():
            blob = row.blob
            if blob is None:
                continue
            state = self.storage.state_of(blob)
            if row.is_complete:
                keys.add(blob.key)
                continue
            keys.add(state.tail)
            uploads.add(state.upload)
            if state.parts:
                parts.add(row.id)
        objects, begun = left_in(self.storage)
        found = [f"object {key}" for key in objects if key not in keys]
        found += [f"missing object {key}" for key in keys - {None, *objects}]
        found += [f"multipart upload {one}" for one in begun if one not in uploads]
        assert self.here.parts is not None
        with self.here.database.transaction() as connection:
            rows = connection.execute(self.here.parts.table.select()).all()
        left = {row.upload_id for row in rows} - parts
        return found + [f"rows of parts of {one}" for one in left]


def ground_at(directory: Path, s3: str | None, **config: Any) -> Ground:
    """A driver's ground.

    :param s3: options of a storage; ``None``: on the local disk.
    """
    if s3 is None:
        return Ground(directory, **config)
    return S3Ground(directory, s3, **config)
