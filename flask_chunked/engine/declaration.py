"""Declares deferred lengths: checks, hooks, the row."""

from __future__ import annotations

from dataclasses import replace

from ..exceptions import (
    BytesMissing,
    ChunkedUploadError,
    LengthBelowOffset,
    LengthChanged,
    PartialMissing,
)
from .append import refused_offset
from .expiry import Expiry
from .gate import Gate
from .interruption import ActiveReaders
from .members import load_members
from .ports import Ports
from .records import Upload
from .remove import Remover
from .states import Status
from .writer import HEAD_SIZE


class Declarer:
    """Declares lengths that were deferred."""

    def __init__(
        self, ports: Ports, expiry: Expiry, remover: Remover, readers: ActiveReaders
    ) -> None:
        self._repository = ports.repository
        self._storage = ports.storage
        self._gate = Gate(ports.policy, ports.storage)
        self._expiry = expiry
        self._remover = remover
        self._readers = readers

    def length(self, upload: Upload, length: int) -> Upload:
        """Store a deferred length. A stored length never changes.

        The application validates the upload again with its length. It also inspects a
        small file whose bytes are all stored. Its refusal removes the upload.

        :param length: bytes.
        :raises LengthChanged: the upload has another length.
        :raises LengthBelowOffset: more bytes than that are stored.
        :raises TooLarge, QuotaExceeded: it exceeds a limit; nothing changed.
        :raises OffsetMismatch: bytes were appended since ``upload`` was read.
        """
        self._require_possible(upload, length)
        if upload.length is not None:
            return upload
        head = self._head_of(upload, length)
        try:
            self._ask(upload, length, head)
        except ChunkedUploadError:
            self._remover.refuse(upload)
            raise
        declared = self._store(upload, length)
        if declared is not None:
            self._readers.interrupt(upload.id)
            return declared
        row = self._expiry.current(upload.id)
        self._require_possible(row, length)
        if row.length is None:
            raise refused_offset(row, upload.offset)
        return row

    def _require_possible(self, upload: Upload, length: int) -> None:
        """Refuse a length that the upload cannot have.

        :raises LengthChanged: the upload has another length.
        :raises LengthBelowOffset: more bytes than that are stored.
        :raises TooLarge: it is too large, or it makes a final upload too large.
        """
        if upload.length is not None:
            if upload.length != length:
                raise LengthChanged(upload.length, length)
            return
        if length < upload.offset:
            raise LengthBelowOffset(upload.offset, length)
        self._gate.require_length(length, upload.storage_state)
        if upload.partial:
            self._require_finals_fit(upload, length)

    def _require_finals_fit(self, partial: Upload, length: int) -> None:
        """Refuse a length that makes a waiting final upload too large."""
        for final in self._repository.waiting_finals(partial.id):
            try:
                members = load_members(self._repository, final).uploads
            except PartialMissing:
                # That final upload can never be made, so it does not limit this one.
                continue
            lengths = (
                length if member.id == partial.id else member.length or 0
                for member in members
            )
            self._gate.require_length(sum(lengths), final.storage_state)

    def _head_of(self, upload: Upload, length: int) -> bytes | None:
        """The first bytes, if ``inspect`` must be called now.

        :return: ``None``: a commit calls it, or has done so.
        """
        is_small = length < HEAD_SIZE and upload.offset == length
        if not is_small or not self._gate.inspects(upload) or upload.blob is None:
            return None
        try:
            with self._storage.appender(upload.blob) as appender:
                return appender.head(length)
        except BytesMissing:
            row = self._repository.get(upload.id)
            if row is not None and _is_declarable(row, upload.offset):
                raise
            # Another request has completed or removed it, so no length is stored.
            return None

    def _ask(self, upload: Upload, length: int, head: bytes | None) -> None:
        """Call the application's hooks, which refuse by raising."""
        declared = replace(upload, length=length)
        self._gate.validate(declared)
        if head is not None:
            self._gate.inspect(declared, head)

    def _store(self, upload: Upload, length: int) -> Upload | None:
        """Store the length and the bytes that the quota counts from now on.

        :return: ``None``: the upload has changed since it was read.
        :raises QuotaExceeded: the quota has no room for the length.
        """
        quota = None if upload.reserved is None else self._gate.quota(length)
        return self._repository.declare_length(upload, length, quota)


def _is_declarable(row: Upload, offset: int) -> bool:
    """True if the row has not changed, so the length can be stored."""
    is_open = row.status is Status.UPLOADING and row.length is None
    return is_open and row.offset == offset
