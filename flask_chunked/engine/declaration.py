"""A length that was deferred and becomes known: what is asked before it is stored."""

from __future__ import annotations

from dataclasses import replace

from ..exceptions import (
    BytesMissing,
    LengthBelowOffset,
    LengthChanged,
    PartialMissing,
)
from ..storage.base import Storage
from .concatenate import load_members
from .gate import Gate
from .ports import Repository
from .records import Upload
from .states import Status
from .writer import HEAD_SIZE


class Declarer:
    """The steps of a declaration, in the order in which the engine takes them."""

    def __init__(self, repository: Repository, storage: Storage, gate: Gate) -> None:
        self._repository = repository
        self._storage = storage
        self._gate = gate

    def require_possible(self, upload: Upload, length: int) -> None:
        """Refuse a length that the upload cannot have.

        :raises LengthChanged: it has another one.
        :raises LengthBelowOffset: more bytes than that are there.
        :raises TooLarge: it is too large, or a final upload becomes too large with it.
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
        """The final uploads that wait for it are too large from this length on?"""
        for final in self._repository.waiting_finals(partial.id):
            try:
                members = load_members(self._repository, final).uploads
            except PartialMissing:
                # It can never be made, and is no reason to refuse this one.
                continue
            lengths = (
                length if member.id == partial.id else member.length or 0
                for member in members
            )
            self._gate.require_length(sum(lengths), final.storage_state)

    def head_of(self, upload: Upload, length: int) -> bytes | None:
        """What ``inspect`` is to see now, since no commit asks it any more.

        :return: ``None``: a commit did, or will.
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
            # Another request completed or removed it meanwhile, and nothing is stored.
            return None

    def ask(self, upload: Upload, length: int, head: bytes | None) -> None:
        """Ask the application; it refuses by raising."""
        declared = replace(upload, length=length)
        self._gate.validate(declared)
        if head is not None:
            self._gate.inspect(declared, head)

    def store(self, upload: Upload, length: int) -> Upload | None:
        """Store it, and what the upload counts from now on.

        :return: ``None``: the upload is not as it was seen.
        :raises QuotaExceeded: it would count more than there is room for.
        """
        quota = None if upload.reserved is None else self._gate.quota(length)
        return self._repository.declare_length(upload, length, quota)


def _is_declarable(row: Upload, offset: int) -> bool:
    """Would :meth:`Declarer.store` find the row as it was seen?"""
    is_open = row.status is Status.UPLOADING and row.length is None
    return is_open and row.offset == offset
