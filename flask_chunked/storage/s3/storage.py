"""Storage of uploads in a bucket of S3, or of a store that speaks its protocol.

Knows objects, parts and tails. Only the rows say which of them are committed.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from ...exceptions import BytesMissing, StorageError, StorageFull
from ..base import Storage
from ..os_errors import translate_os_errors
from ..values import Blob, Part, Receipt, State, StorageSettings, StoredItem
from .bucket import Bucket
from .layout import S3Layout
from .options import S3Options
from .plan import MAX_PART_SIZE, UploadState
from .reader import open_object
from .spool import BLOCK, SpooledStage
from .writer import S3Appender

_ID = r"\d{4}/\d\d/\d\d/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TAIL = r"\.tail\.[0-9a-f]{32}"


class S3Storage(Storage):
    """Uploads in one bucket. Needs the extra ``s3``.

    An upload that is longer than a part is a multipart upload with parts of equal size.
    The row's ``state`` (:class:`~flask_chunked.storage.s3.plan.UploadState`) holds its
    id, the part size, the number of parts and the key of the tail. The parts themselves
    are rows of a table of their own. Both change only through receipts, in the
    transaction that moves the offset.

    :param options: the keyword arguments that
        :class:`~flask_chunked.storage.s3.options.S3Options` and
        :class:`~flask_chunked.storage.s3.client.BucketSettings` describe: ``bucket``
        (required), ``prefix``, ``part_size``, ``max_parts``, ``presign``,
        ``concurrency``, ``spool``, ``endpoint_url`` and others.
    :raises ConfigurationError: an option is missing, unknown or invalid.
    """

    reads_unfinished = False
    keeps_parts = True

    def __init__(self, settings: StorageSettings, **options: object) -> None:
        checked = S3Options.from_keywords(options)
        self.settings = settings
        self.prefix = checked.prefix
        self.presign = checked.presign
        self.layout = S3Layout(
            Bucket(checked.connection),
            checked.plan,
            checked.concurrency,
            checked.spool,
        )
        self._ours = re.compile(f"({re.escape(self.prefix)}{_ID})({_TAIL})?")

    @property
    def bucket(self) -> Bucket:
        """The bucket of all objects."""
        return self.layout.bucket

    @property
    def identity(self) -> str:
        bucket = self.bucket.settings
        store = bucket.endpoint_url or bucket.region or "aws"
        return f"s3:{store}/{bucket.name}/{self.prefix}"

    def new_key(self, upload_id: UUID, created_at: datetime) -> str:
        day = created_at.astimezone(timezone.utc).strftime("%Y/%m/%d")
        return f"{self.prefix}{day}/{upload_id}"

    def new_state(self, length: int | None) -> State:
        return UploadState(self.layout.plan.part_size(length)).to_row()

    def max_length(self, state: State | None = None) -> int:
        part_size = MAX_PART_SIZE
        if state is not None:
            part_size = UploadState.from_row(
                state, self.layout.plan.preferred
            ).part_size
        return part_size * self.layout.plan.usable_parts

    def stage(self) -> SpooledStage:
        return SpooledStage(self.layout.spool)

    def appender(self, blob: Blob) -> S3Appender:
        return S3Appender(self.layout, blob)

    # -- completion -------------------------------------------------------------------

    def finalize(self, blob: Blob) -> Receipt:
        if not self._is_finished(blob):
            state = self.layout.state_of(blob)
            if state.size != blob.size or state.parts != len(blob.parts):
                raise BytesMissing()
            try:
                self._make_object(blob, state)
            except StorageError:
                # The store may have completed it: its answer was lost, or a concurrent
                # request completed the upload.
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
        """Copy the tail to the last part, under the highest number of all."""
        if state.next_part > self.layout.plan.max_parts:
            raise StorageFull("The upload has too many parts")
        return self.bucket.copy_part(
            key, upload, state.next_part, tail, state.tail_size
        )

    def _is_finished(self, blob: Blob) -> bool:
        return self.bucket.size(blob.key) == blob.size

    def _drop_tail(self, blob: Blob) -> None:
        tail = self.layout.state_of(blob).tail
        if tail is not None:
            # If the object cannot be deleted, check --repair finds it.
            with suppress(StorageError):
                self.bucket.delete(tail)

    def _abort(self, key: str, upload: str | None) -> None:
        if upload is not None:
            with suppress(StorageError):
                self.bucket.abort(key, upload)

    def delete(self, blob: Blob) -> None:
        # List the uploads: the row does not name those of superseded writers.
        for pending in list(self.bucket.open_uploads(blob.key)):
            self.bucket.abort(pending.key, pending.upload)
        state = self.layout.state_of(blob)
        if state.upload is not None:
            # The store's list may be out of date.
            self.bucket.abort(blob.key, state.upload)
        if state.tail is not None:
            self.bucket.delete(state.tail)
        self.bucket.delete(blob.key)
        for found in list(self.bucket.objects(blob.key)):
            self.bucket.delete(found.key)

    # -- reading -------------------------------------------------------------------

    def open(self, blob: Blob) -> BinaryIO:
        if not blob.size:
            return io.BytesIO()
        key = self.layout.locate(blob)
        if key is None:
            raise BytesMissing()
        return open_object(self.bucket, key, blob.size)

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
            # A repeated move() after a successful one finds the bytes at the target.
            there = os.path.getsize(target) if os.path.isfile(target) else None
            if there == blob.size and self.measure(blob) is None:
                return
            raise BytesMissing()
        temporary = os.path.join(directory, f".{uuid4().hex}.moving")
        try:
            with translate_os_errors():
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
        state = self.layout.state_of(blob)
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
            # If the bucket is missing, raise an error instead of reporting lost bytes.
            self.bucket.require()
        return sum(found) if found else None

    def truncate(self, blob: Blob) -> None:
        # There is nothing to truncate: uncommitted bytes are in objects of their own.
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
        state = self.layout.state_of(blob)
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
