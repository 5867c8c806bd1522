"""The ground of faults with its bytes in S3."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from flask_chunked.engine.records import Upload
from flask_chunked.exceptions import BytesMissing
from flask_chunked.storage.base import Part, StorageSettings
from flask_chunked.storage.s3 import S3Storage
from flask_chunked.storage.s3 import client as s3_client
from flask_chunked.storage.s3.bucket import Bucket
from flask_chunked.storage.s3.errors import translate_boto_errors
from tests.s3 import left_in

from .ground import Ground

#: A look at what others change all the time is tried so often.
LOOKS = 20


class WatchedBucket(Bucket):
    """Keeps each part that is sent in a file named by its MD5, which is its ETag.

    Nobody can read parts of an unfinished upload, but what the server has of them it
    tells by their ETags.

    :ivar sent: directory of these files.
    """

    sent: Path

    def send_part(
        self, key: str, upload: str, number: int, file: BinaryIO, size: int
    ) -> Part:
        file.seek(0)
        data = file.read(size)
        path = self.sent / hashlib.md5(data).hexdigest()
        draft = path.with_suffix(f".{uuid4().hex}")
        draft.write_bytes(data)
        draft.rename(path)
        return super().send_part(key, upload, number, file, size)

    def part(self, key: str, upload: str, wanted: Part) -> bytes:
        """Bytes of a part that the server has under this number.

        :raises BytesMissing: it has another one, or none.
        """
        listed = self._call(
            "list_parts",
            Key=key,
            UploadId=upload,
            PartNumberMarker=wanted.number - 1,
            MaxParts=1,
        ).get("Parts", [])
        found = [(one["PartNumber"], one["ETag"]) for one in listed]
        if found != [(wanted.number, wanted.etag)]:
            raise BytesMissing()
        return (self.sent / wanted.etag.strip('"')).read_bytes()


class S3Ground(Ground):
    """An app whose bytes are in a bucket.

    :param s3: options of the storage, as JSON.
    """

    def __init__(self, directory: Path, s3: str, **config: Any) -> None:
        options = json.loads(s3)

        sent = directory / "sent"
        sent.mkdir(exist_ok=True)

        def storage(settings: StorageSettings) -> S3Storage:
            made = S3Storage(settings, **options)
            watched = WatchedBucket(made.bucket.settings)
            watched.sent = sent
            made.layout = replace(made.layout, bucket=watched)
            return made

        super().__init__(directory, CHUNKED_UPLOAD_STORAGE_CLASS=storage, **config)
        # Each killed child would need some tenths of a second for one of its own.
        _ = self.storage.bucket.client
        self._session = s3_client._SESSIONS[os.getpid()]

    def warm(self) -> None:
        super().warm()
        s3_client._SESSIONS[os.getpid()] = self._session
        _ = self.storage.bucket.client

    @property
    def storage(self) -> S3Storage:
        """Of the blueprint."""
        found = self.here.storage
        assert isinstance(found, S3Storage)
        return found

    def stored_bytes(self, upload: Upload) -> bytes | None:
        """Those of the object, or of its parts and tail, whoever works on them.

        :raises BytesMissing: they are not all there, whoever looks.
        """
        for _ in range(LOOKS):
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
        state = self.storage.layout.state_of(blob)
        found = b""
        if state.parts:
            bucket = self.storage.bucket
            assert isinstance(bucket, WatchedBucket) and state.upload is not None
            for part in self.engine.repository.parts(upload.id)[: state.parts]:
                found += bucket.part(blob.key, state.upload, part)
        tail = b"" if state.tail is None else self._read(state.tail)
        return found + tail

    def _read(self, key: str) -> bytes:
        bucket = self.storage.bucket
        with translate_boto_errors():
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
            state = self.storage.layout.state_of(blob)
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
