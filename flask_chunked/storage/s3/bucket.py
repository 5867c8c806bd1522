"""The requests to one bucket that the S3 storage makes, and what their errors mean.

The only module that knows boto3; imported when the first request is made.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from ...exceptions import BytesMissing, ConfigurationError, StorageError, StorageFull
from ..base import Part

#: Error codes of what is not there, or is not what was sent. Some servers say NoSuchKey
#: for a multipart upload.
ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload", "InvalidPart"})
#: Error codes of a store that has no room.
FULL = frozenset({"507", "InsufficientStorage", "QuotaExceeded", "EntityTooLarge"})
#: How a request's bytes are checked on the way.
CHECKSUMS = ("md5", "crc32", "none")


#: boto3's session of each process: what it reads of S3's description takes 60 ms.
_SESSIONS: dict[int, Any] = {}
_SESSIONS_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Where the bucket is and how it is spoken to.

    :param access_key: ``None``: what boto3 finds (environment, instance role).
    :param connect_timeout: seconds.
    :param read_timeout: seconds without an answer.
    :param attempts: how often a request is sent at most.
    """

    name: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    path_style: bool = False
    checksum: str = "md5"
    server_side_encryption: str | None = None
    kms_key_id: str | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 60.0
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class Found:
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
    """One bucket. Safe to share between threads, and across a fork."""

    def __init__(self, settings: BucketSettings) -> None:
        if settings.checksum not in CHECKSUMS:
            raise ConfigurationError(
                f"checksum of S3Storage is {settings.checksum!r}; "
                f"it is one of {', '.join(CHECKSUMS)}"
            )
        self.settings = settings
        self._client: Any = None
        self._pid = 0
        self._lock = threading.Lock()
        crc = settings.checksum == "crc32"
        self._on_body = {"ChecksumAlgorithm": "CRC32"} if crc else {}
        # Of the whole object, since part numbers may have gaps.
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
                    self._client = self._make_client()
                    self._pid = os.getpid()
        return self._client

    def close(self) -> None:
        """Close the connections of this process."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _make_client(self) -> Any:
        try:
            # Extra: s3.
            from boto3.session import Session
            from botocore.config import Config
        except ImportError as error:
            raise ConfigurationError(
                "S3Storage needs boto3: pip install 'flask-chunked[s3]'"
            ) from error
        settings = self.settings
        config = Config(
            signature_version="s3v4",
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retries={"mode": "standard", "total_max_attempts": settings.attempts},
            # Old servers refuse checksums that they do not know.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=64,
            s3={"addressing_style": "path" if settings.path_style else "auto"},
        )
        # No two threads may use a session at once.
        with _SESSIONS_LOCK:
            session = _SESSIONS.get(os.getpid()) or Session()
            _SESSIONS[os.getpid()] = session
            return session.client(
                "s3",
                endpoint_url=settings.endpoint_url,
                region_name=settings.region or session.region_name or "us-east-1",
                aws_access_key_id=settings.access_key,
                aws_secret_access_key=settings.secret_key,
                aws_session_token=settings.session_token,
                config=config,
            )

    # -- objects -------------------------------------------------------------------

    def size(self, key: str) -> int | None:
        """Bytes of an object; ``None``: there is none."""
        try:
            return int(self._call("head_object", Key=key)["ContentLength"])
        except BytesMissing:
            return None

    def require(self) -> None:
        """Is the bucket there? Else everything would look as if it were lost.

        :raises StorageError: it is not.
        """
        try:
            self._call("head_bucket")
        except BytesMissing as error:
            raise StorageError() from error

    def put(self, key: str, file: BinaryIO, size: int) -> None:
        """Store a file's bytes, from its beginning, as an object."""
        self._call(
            "put_object",
            Key=key,
            Body=file,
            ContentLength=size,
            **self._checked(file),
            **self._encryption,
        )

    def copy(self, source: str, key: str) -> None:
        """Copy an object inside the bucket."""
        place = {"Bucket": self.settings.name, "Key": source}
        self._call("copy_object", Key=key, CopySource=place, **self._encryption)

    def delete(self, key: str) -> None:
        """Remove an object; nothing there is success."""
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
        """A URL that downloads an object, for so many seconds."""
        with translated():
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

    def objects(self, prefix: str) -> Iterator[Found]:
        """All objects whose keys begin so."""
        for page in self._pages("list_objects_v2", prefix):
            for item in page.get("Contents", ()):
                yield Found(item["Key"], int(item["Size"]), item["LastModified"])

    # -- multipart uploads ---------------------------------------------------------

    def begin(self, key: str) -> str:
        """Begin a multipart upload; its id."""
        answer = self._call(
            "create_multipart_upload", Key=key, **self._on_create, **self._encryption
        )
        return str(answer["UploadId"])

    def send_part(
        self, key: str, upload: str, number: int, file: BinaryIO, size: int
    ) -> Part:
        """Send a file's bytes, from its beginning, as a part."""
        answer = self._call(
            "upload_part",
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=file,
            ContentLength=size,
            **self._checked(file),
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
        """Make a part of an object's bytes.

        :param start: of the range, ``None``: the object is ``size`` bytes long.
        """
        piece = {}
        if start is not None:
            piece["CopySourceRange"] = f"bytes={start}-{start + size - 1}"
        answer = self._call(
            "upload_part_copy",
            Key=key,
            UploadId=upload,
            PartNumber=number,
            CopySource={"Bucket": self.settings.name, "Key": source},
            **piece,
        )["CopyPartResult"]
        return Part(number, size, answer["ETag"], answer.get("ChecksumCRC32"))

    def complete(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """Make an object of exactly these parts."""
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
        """Drop a multipart upload with its parts; nothing there is success."""
        try:
            self._call("abort_multipart_upload", Key=key, UploadId=upload)
        except BytesMissing:
            return

    def open_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        """All multipart uploads whose keys begin so."""
        for page in self._pages("list_multipart_uploads", prefix):
            for item in page.get("Uploads", ()):
                yield OpenUpload(item["Key"], item["UploadId"], item["Initiated"])

    def parts_size(self, key: str, upload: str) -> int | None:
        """Bytes of all parts that were sent; ``None``: no such upload. For checks."""
        try:
            with translated():
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
        with translated():
            return getattr(self.client, method)(Bucket=self.settings.name, **arguments)

    def _pages(self, method: str, prefix: str) -> Iterator[Any]:
        with translated():
            yield from self.client.get_paginator(method).paginate(
                Bucket=self.settings.name, Prefix=prefix
            )

    def _checked(self, file: BinaryIO) -> dict[str, str]:
        """What a request says of the bytes that it carries."""
        if self.settings.checksum != "md5":
            file.seek(0)
            return self._on_body
        digest = hashlib.md5(usedforsecurity=False)
        file.seek(0)
        while block := file.read(2**18):
            digest.update(block)
        file.seek(0)
        return {"ContentMD5": base64.b64encode(digest.digest()).decode()}


@contextmanager
def translated() -> Iterator[None]:
    """Errors of boto3 as those of storages.

    :raises BytesMissing: what was asked for is not there.
    :raises StorageFull: no room.
    :raises StorageError: anything else.
    """
    # Extra: s3. Whoever has no boto3 is told so when the client is made.
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        yield
        return
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ABSENT:
            raise BytesMissing() from error
        raise (StorageFull() if code in FULL else StorageError()) from error
    except (BotoCoreError, OSError) as error:
        raise StorageError() from error
