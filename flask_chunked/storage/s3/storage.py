"""Uploads in a bucket of S3, or of anything that speaks its protocol.

One multipart upload for each upload that is longer than a part. What it consists of is
known from the database alone; ``storage/base.py`` tells how.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from ...exceptions import BytesMissing, ConfigurationError, StorageError, StorageFull
from ..base import Blob, Part, Receipt, State, Storage, StorageSettings, StoredItem
from .bucket import Bucket, BucketSettings
from .plan import MAX_PART_SIZE, MIB, PartPlan, UploadState
from .reader import open_object
from .spool import BLOCK, SpooledStage, on_disk
from .writer import S3Appender

logger = logging.getLogger("flask_chunked")

_ID = r"\d{4}/\d\d/\d\d/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TAIL = r"\.tail\.[0-9a-f]{32}"


class S3Storage(Storage):
    """Uploads in one bucket. Needs the extra ``s3``.

    :param bucket: its name; it must exist.
    :param prefix: what keys begin with.
    :param part_size: bytes of a part, unless the file is too long for it.
    :param max_parts: the highest part number that the store takes.
    :param presign: seconds that a download's URL is good for; ``None``: downloads go
        through the application.
    :param concurrency: parts of one request that are on their way at once, while the
        next one is received.
    :param spool: directory of temporary files, on a disk; ``None``: the system's.
    :param options: those of :class:`~flask_chunked.storage.s3.bucket.BucketSettings`.
    """

    reads_unfinished = False
    keeps_parts = True

    def __init__(
        self,
        settings: StorageSettings,
        *,
        bucket: str,
        prefix: str = "",
        part_size: int = 8 * MIB,
        max_parts: int = 10_000,
        presign: int | None = None,
        concurrency: int = 2,
        spool: str | None = None,
        **options: object,
    ) -> None:
        try:
            self.plan = PartPlan(part_size, max_parts)
            self.bucket = Bucket(BucketSettings(bucket, **options))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"options of S3Storage: {error}") from error
        self.settings = settings
        self.prefix = prefix
        if concurrency < 1:
            raise ConfigurationError(
                f"options of S3Storage: concurrency is {concurrency}; it is 1 or more"
            )
        self.presign = presign
        self.concurrency = concurrency
        self.spool = spool
        self._ours = re.compile(f"({re.escape(prefix)}{_ID})({_TAIL})?")

    @property
    def identity(self) -> str:
        where = self.bucket.settings
        place = where.endpoint_url or where.region or "aws"
        return f"s3:{place}/{where.name}/{self.prefix}"

    def new_key(self, upload_id: UUID, created_at: datetime) -> str:
        day = created_at.astimezone(timezone.utc).strftime("%Y/%m/%d")
        return f"{self.prefix}{day}/{upload_id}"

    def new_state(self, length: int | None) -> State:
        return UploadState(self.plan.part_size(length)).to_row()

    def max_length(self, state: State | None = None) -> int:
        part_size = MAX_PART_SIZE
        if state is not None:
            part_size = UploadState.from_row(state, self.plan.preferred).part_size
        return part_size * self.plan.usable_parts

    def state_of(self, blob: Blob) -> UploadState:
        """Where the blob's bytes are, by its row."""
        return UploadState.from_row(blob.state, self.plan.preferred)

    def tail_name(self, key: str, token: str) -> str:
        """The key of a tail object; ``token`` makes it a new one."""
        return f"{key}.tail.{token}"

    def stage(self) -> SpooledStage:
        return SpooledStage(self.spool)

    def appender(self, blob: Blob) -> S3Appender:
        return S3Appender(self, blob)

    # -- the end -------------------------------------------------------------------

    def finalize(self, blob: Blob) -> Receipt:
        if not self._is_finished(blob):
            state = self.state_of(blob)
            if state.size != blob.size or state.parts != len(blob.parts):
                raise BytesMissing()
            try:
                self._make_object(blob, state)
            except StorageError:
                # The reply was lost, or another request was faster.
                if not self._is_finished(blob):
                    raise
            else:
                if not self._is_finished(blob):
                    raise StorageError()
        self._drop_tail(blob)
        return Receipt(blob.state)

    def _make_object(self, blob: Blob, state: UploadState) -> None:
        if not blob.size:
            self.bucket.put(blob.key, io.BytesIO(), 0)
            return
        if state.upload is None or not blob.parts:
            if state.tail is None:
                raise BytesMissing()
            self.bucket.copy(state.tail, blob.key)
            self._abort(blob.key, state.upload)
            return
        parts = list(blob.parts)
        if state.tail is not None:
            parts.append(self._last_part(blob.key, state, state.upload, state.tail))
        self.bucket.complete(blob.key, state.upload, parts)

    def _last_part(self, key: str, state: UploadState, upload: str, tail: str) -> Part:
        """The tail as a part; nobody took a number as high as this one."""
        if state.next_part > self.plan.max_parts:
            raise StorageFull("The upload has too many parts")
        return self.bucket.copy_part(
            key, upload, state.next_part, tail, state.tail_size
        )

    def _is_finished(self, blob: Blob) -> bool:
        return self.bucket.size(blob.key) == blob.size

    def _drop_tail(self, blob: Blob) -> None:
        tail = self.state_of(blob).tail
        if tail is not None:
            # One that stays is found by a check.
            with suppress(StorageError):
                self.bucket.delete(tail)

    def _abort(self, key: str, upload: str | None) -> None:
        if upload is not None:
            with suppress(StorageError):
                self.bucket.abort(key, upload)

    def delete(self, blob: Blob) -> None:
        # Also what superseded writers left: the row knows the last one's only.
        for pending in list(self.bucket.open_uploads(blob.key)):
            self.bucket.abort(pending.key, pending.upload)
        state = self.state_of(blob)
        if state.upload is not None:
            # Lists may lag behind.
            self.bucket.abort(blob.key, state.upload)
        if state.tail is not None:
            self.bucket.delete(state.tail)
        self.bucket.delete(blob.key)
        for found in list(self.bucket.objects(blob.key)):
            self.bucket.delete(found.key)

    # -- reading -------------------------------------------------------------------

    def locate(self, blob: Blob) -> str | None:
        """The object that begins with all bytes of the blob; ``None``: there is none.

        :raises StorageError: they are in parts, which nobody can read.
        """
        size = self.bucket.size(blob.key)
        if size is not None:
            return blob.key if size >= blob.size else None
        state = self.state_of(blob)
        if state.size < blob.size:
            return None
        if state.parts:
            raise StorageError("Parts of an unfinished upload cannot be read")
        if state.tail is None or self.bucket.size(state.tail) is None:
            return None
        return state.tail

    def first_bytes(self, place: str, start: int, count: int) -> bytes:
        """Bytes of an object; fewer where it ends."""
        size = self.bucket.size(place) or 0
        try:
            with open_object(self.bucket, place, min(size, start + count)) as reader:
                reader.seek(start)
                return reader.read(count)
        except OSError as error:
            raise StorageError() from error

    def open(self, blob: Blob) -> BinaryIO:
        if not blob.size:
            return io.BytesIO()
        place = self.locate(blob)
        if place is None:
            raise BytesMissing()
        return open_object(self.bucket, place, blob.size)

    def download_url(self, blob: Blob, disposition: str) -> str | None:
        if self.presign is None:
            return None
        return self.bucket.presign(blob.key, disposition, self.presign)

    def move(self, blob: Blob, destination: str | Path) -> None:
        target = os.path.abspath(destination)
        directory = os.path.dirname(target)
        if not os.path.isdir(directory) or os.path.isdir(target):
            raise StorageError("Directory of the destination does not exist")
        if not self._is_finished(blob):
            # A repeat after success finds the bytes where they should be.
            there = os.path.getsize(target) if os.path.isfile(target) else None
            if there == blob.size and self.measure(blob) is None:
                return
            raise BytesMissing()
        temporary = os.path.join(directory, f".{uuid4().hex}.moving")
        try:
            with on_disk():
                self._fetch(blob, temporary)
                os.replace(temporary, target)
                _sync_directory(directory)
        finally:
            Path(temporary).unlink(missing_ok=True)
        self.bucket.delete(blob.key)

    def _fetch(self, blob: Blob, path: str) -> None:
        with self.open(blob) as reader, open(path, "xb") as file:
            while block := reader.read(BLOCK):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    # -- check ---------------------------------------------------------------------

    def measure(self, blob: Blob) -> int | None:
        size = self.bucket.size(blob.key)
        if size is not None:
            return size
        state = self.state_of(blob)
        found: list[int] = []
        if state.upload is not None:
            sent = self.bucket.parts_size(blob.key, state.upload)
            if sent is not None:
                found.append(min(sent, state.parts_size))
        if state.tail is not None:
            tail = self.bucket.size(state.tail)
            if tail is not None:
                found.append(tail)
        if sum(found) < blob.size:
            # Without the bucket everything would seem to be lost.
            self.bucket.require()
        return sum(found) if found else None

    def cut(self, blob: Blob) -> None:
        # What was not committed is in objects of its own.
        if (self.measure(blob) or 0) < blob.size:
            raise BytesMissing()

    def stored(self) -> Iterator[StoredItem]:
        for found in self.bucket.objects(self.prefix):
            match = self._ours.fullmatch(found.key)
            if match is not None:
                piece = None if match[2] is None else f"object {found.key}"
                yield StoredItem(match[1], found.size, found.modified_at, piece=piece)
        for pending in self.bucket.open_uploads(self.prefix):
            match = self._ours.fullmatch(pending.key)
            if match is not None and match[2] is None:
                size = self.bucket.parts_size(pending.key, pending.upload) or 0
                piece = f"upload {pending.upload}"
                yield StoredItem(pending.key, size, pending.begun_at, piece=piece)

    def uses(self, blob: Blob, item: StoredItem, *, finished: bool) -> bool:
        if item.piece is None:
            return True
        kind, _, name = item.piece.partition(" ")
        state = self.state_of(blob)
        return not finished and name == (
            state.upload if kind == "upload" else state.tail
        )

    def discard(
        self, item: StoredItem, is_needed: Callable[[], bool] = lambda: False
    ) -> bool:
        if is_needed():
            return False
        kind, _, name = (item.piece or f"object {item.key}").partition(" ")
        if kind == "upload":
            self.bucket.abort(item.key, name)
        else:
            self.bucket.delete(name)
        return True


def _sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
