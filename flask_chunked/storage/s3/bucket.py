"""The requests that the S3 storage sends to its bucket.

Knows objects, multipart uploads and parts; nothing of uploads' states.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from ...exceptions import BytesMissing, ConfigurationError, StorageError
from ..values import Part
from .client import BucketSettings, create_client
from .errors import translate_boto_errors

__all__ = ["CHECKSUMS", "Bucket", "BucketObject", "BucketSettings", "OpenUpload"]

#: How the server checks the bytes of a request: by Content-MD5, by a CRC32 that the
#: store keeps, or not at all.
CHECKSUMS = ("md5", "crc32", "none")


@dataclass(frozen=True, slots=True)
class BucketObject:
    """An object of the bucket."""

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    upload: str
    begun_at: datetime


class Bucket:
    """One bucket. Safe to share between threads and across a fork."""

    def __init__(self, settings: BucketSettings) -> None:
        if settings.checksum not in CHECKSUMS:
            raise ConfigurationError(
                f"checksum of S3Storage is {settings.checksum!r}; "
                f"it must be one of {', '.join(CHECKSUMS)}"
            )
        self.settings = settings
        self._client: Any = None
        self._pid = 0
        self._lock = threading.Lock()
        crc = settings.checksum == "crc32"
        self._on_body = {"ChecksumAlgorithm": "CRC32"} if crc else {}
        # The checksum covers the whole object, because part numbers may have gaps.
        self._on_create = (
            {**self._on_body, "ChecksumType": "FULL_OBJECT"} if crc else {}
        )
        self._encryption = {
            name: value
            for name, value in (
                ("ServerSideEncryption", settings.server_side_encryption),
                ("SSEKMSKeyId", settings.kms_key_id),
            )
            if value is not None
        }

    @property
    def client(self) -> Any:
        """The boto3 client of this process.

        :raises ConfigurationError: boto3 is not installed.
        """
        if self._client is None or self._pid != os.getpid():
            with self._lock:
                if self._client is None or self._pid != os.getpid():
                    self._client = create_client(self.settings)
                    self._pid = os.getpid()
        return self._client

    def close(self) -> None:
        """Close the connections of this process. Used by tests."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # -- objects -------------------------------------------------------------------

    def size(self, key: str) -> int | None:
        """Bytes of an object; ``None`` if it does not exist."""
        try:
            return int(self._call("head_object", Key=key)["ContentLength"])
        except BytesMissing:
            return None

    def require(self) -> None:
        """Check that the bucket exists: without it, all objects would seem to be lost.

        :raises StorageError: the bucket does not exist.
        """
        try:
            self._call("head_bucket")
        except BytesMissing as error:
            raise StorageError() from error

    def put(self, key: str, file: BinaryIO, size: int) -> None:
        """Store the first ``size`` bytes of a file as an object."""
        self._call(
            "put_object",
            Key=key,
            Body=file,
            ContentLength=size,
            **self._checksum_of(file),
            **self._encryption,
        )

    def copy(self, source: str, key: str) -> None:
        """Copy an object inside the bucket."""
        place = {"Bucket": self.settings.name, "Key": source}
        self._call("copy_object", Key=key, CopySource=place, **self._encryption)

    def delete(self, key: str) -> None:
        """Remove an object. It is no error if it does not exist."""
        try:
            self._call("delete_object", Key=key)
        except BytesMissing:
            return

    def get(self, key: str, start: int, stop: int) -> Any:
        """A stream of an object's bytes from ``start`` up to ``stop``."""
        return self._call("get_object", Key=key, Range=f"bytes={start}-{stop - 1}")[
            "Body"
        ]

    def presign(self, key: str, disposition: str, seconds: int) -> str:
        """A URL that downloads an object and is valid for ``seconds``."""
        with translate_boto_errors():
            return str(
                self.client.generate_presigned_url(
                    "get_object",
                    Params={
                        "Bucket": self.settings.name,
                        "Key": key,
                        "ResponseContentDisposition": disposition,
                        "ResponseContentType": "application/octet-stream",
                        "ResponseCacheControl": "private, no-cache",
                    },
                    ExpiresIn=seconds,
                )
            )

    def objects(self, prefix: str) -> Iterator[BucketObject]:
        """All objects whose keys begin with the prefix."""
        for page in self._pages("list_objects_v2", prefix):
            for item in page.get("Contents", ()):
                yield BucketObject(item["Key"], int(item["Size"]), item["LastModified"])

    # -- multipart uploads ---------------------------------------------------------

    def begin(self, key: str) -> str:
        """Begin a multipart upload and return its id."""
        answer = self._call(
            "create_multipart_upload", Key=key, **self._on_create, **self._encryption
        )
        return str(answer["UploadId"])

    def send_part(
        self, key: str, upload: str, number: int, file: BinaryIO, size: int
    ) -> Part:
        """Send the first ``size`` bytes of a file as a part."""
        answer = self._call(
            "upload_part",
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=file,
            ContentLength=size,
            **self._checksum_of(file),
        )
        return Part(number, size, answer["ETag"], answer.get("ChecksumCRC32"))

    def copy_part(
        self,
        key: str,
        upload: str,
        number: int,
        source: str,
        size: int,
        start: int | None = None,
    ) -> Part:
        """Copy bytes of an object into a part, inside the store.

        :param start: first byte of the range; ``None``: the object has ``size`` bytes
            and is copied whole.
        """
        byte_range = {}
        if start is not None:
            byte_range["CopySourceRange"] = f"bytes={start}-{start + size - 1}"
        answer = self._call(
            "upload_part_copy",
            Key=key,
            UploadId=upload,
            PartNumber=number,
            CopySource={"Bucket": self.settings.name, "Key": source},
            **byte_range,
        )["CopyPartResult"]
        return Part(number, size, answer["ETag"], answer.get("ChecksumCRC32"))

    def complete(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """Join exactly these parts into an object."""
        listed = []
        for part in sorted(parts, key=lambda part: part.number):
            entry: dict[str, object] = {"PartNumber": part.number, "ETag": part.etag}
            if part.checksum is not None:
                entry["ChecksumCRC32"] = part.checksum
            listed.append(entry)
        whole = {"ChecksumType": "FULL_OBJECT"} if self._on_create else {}
        self._call(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": listed},
            **whole,
        )

    def abort(self, key: str, upload: str) -> None:
        """Remove a multipart upload and its parts. It is no error if it is gone."""
        try:
            self._call("abort_multipart_upload", Key=key, UploadId=upload)
        except BytesMissing:
            return

    def open_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        """All open multipart uploads whose keys begin with the prefix."""
        for page in self._pages("list_multipart_uploads", prefix):
            for item in page.get("Uploads", ()):
                yield OpenUpload(item["Key"], item["UploadId"], item["Initiated"])

    def parts_size(self, key: str, upload: str) -> int | None:
        """Bytes of all parts that were sent; ``None`` if there is no such upload.

        Only for ``check``: the store's list may contain parts of superseded writers.
        """
        try:
            with translate_boto_errors():
                pages = self.client.get_paginator("list_parts").paginate(
                    Bucket=self.settings.name, Key=key, UploadId=upload
                )
                return sum(
                    int(part["Size"])
                    for page in pages
                    for part in page.get("Parts", ())
                )
        except BytesMissing:
            return None

    # -- inside --------------------------------------------------------------------

    def _call(self, method: str, **arguments: object) -> Any:
        with translate_boto_errors():
            return getattr(self.client, method)(Bucket=self.settings.name, **arguments)

    def _pages(self, method: str, prefix: str) -> Iterator[Any]:
        with translate_boto_errors():
            yield from self.client.get_paginator(method).paginate(
                Bucket=self.settings.name, Prefix=prefix
            )

    def _checksum_of(self, file: BinaryIO) -> dict[str, str]:
        """The arguments by which the server checks a request's bytes."""
        if self.settings.checksum != "md5":
            file.seek(0)
            return self._on_body
        digest = hashlib.md5(usedforsecurity=False)
        file.seek(0)
        while block := file.read(2**18):
            digest.update(block)
        file.seek(0)
        return {"ContentMD5": base64.b64encode(digest.digest()).decode()}
