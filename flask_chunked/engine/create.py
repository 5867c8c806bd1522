"""Creates uploads: limits, hooks, the row, and a short first body."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from ..exceptions import (
    CommitUnanswered,
    QuotaExceeded,
    StorageError,
    TooManyUploads,
)
from ..storage.base import Buffer
from .complete import Completer
from .digests import resume
from .gate import Gate
from .ports import Ports, Reader
from .records import NewUpload, Quota, Upload
from .remove import Remover
from .states import Status

Result = TypeVar("Result")


class Creator:
    """Creates uploads.

    :param blueprint: the name in their rows.
    """

    def __init__(
        self, ports: Ports, blueprint: str, completer: Completer, remover: Remover
    ) -> None:
        self._blueprint = blueprint
        self._repository = ports.repository
        self._storage = ports.storage
        self._gate = Gate(ports.policy, ports.storage)
        self._new_id = ports.new_id
        self._clock = ports.clock
        self._completer = completer
        self._remover = remover

    def upload(self, new: NewUpload) -> Upload:
        """Insert the upload's row. The first byte creates its file.

        :raises InvalidFields: the model refuses a value.
        :raises TooManyUploads, QuotaExceeded: the owner's quota has no room.
        """
        draft, quota = self._prepare(new)
        return self._create(draft, new, quota)

    def with_body(
        self, new: NewUpload, reader: Reader, size: int | None, *, finishing: bool
    ) -> Upload:
        """:meth:`upload`, together with the body if it is short and has arrived.

        If the offset of the result is 0, the body is unread
        (:meth:`Appender.stream_first`).

        :param size: bytes of the body; ``None``: not known.
        :param finishing: complete the upload if the body is the whole file. The status
            of the result says so.
        :raises: as :meth:`upload`, and :class:`StorageError`; no row or bytes remain.
        :raises CommitUnanswered: the bytes remain, and the row may exist or not.
        """
        draft, quota = self._prepare(new)
        ends = finishing and size == draft.length
        if ends and (quota is not None or not self._completer.may_finish_first(draft)):
            return self._create(draft, new, quota)
        if not size or not reader.is_short or not self._may_fill(draft):
            return self._create(draft, new, quota)
        block = reader.read()
        if reader.ended:
            return self._create_filled(draft, new, quota, block, ends=ends)
        # The client is slow. These bytes wait until the row exists.
        reader.unread(block)
        return self._create(draft, new, quota)

    def with_content(self, new: NewUpload, content: Buffer) -> Upload:
        """:meth:`upload`, with bytes that are here; only if :attr:`fills_first`."""
        draft, quota = self._prepare(new)
        return self._create_filled(draft, new, quota, content, ends=False)

    @property
    def fills_first(self) -> bool:
        """True if a short body may be stored before its upload has a row."""
        return self._storage.finishes_first and not self._gate.asks_inspect

    def _may_fill(self, draft: Upload) -> bool:
        return self._storage.finishes_first and not self._gate.inspects(draft)

    def _prepare(self, new: NewUpload) -> tuple[Upload, Quota | None]:
        self._gate.require_length(new.length)
        quota = self._gate.quota(new.length)
        if quota is not None and new.length is None:
            quota = replace(quota, reserve=max(quota.reserve, new.least))
        draft = self._draft(new, quota)
        self._gate.validate(draft)
        if new.length == 0:
            self._gate.inspect(draft, b"")
        return draft, quota

    def _insert(self, draft: Upload, new: NewUpload, quota: Quota | None) -> Upload:
        return self._with_room(
            new.user,
            lambda: self._repository.create(draft, new.fields, quota, new.members),
        )

    def _create(self, draft: Upload, new: NewUpload, quota: Quota | None) -> Upload:
        upload = self._insert(draft, new, quota)
        self._gate.announce("created", upload)
        return upload

    def _create_filled(
        self,
        draft: Upload,
        new: NewUpload,
        quota: Quota | None,
        content: Buffer,
        *,
        ends: bool,
    ) -> Upload:
        """Store the bytes, then insert a row that counts them.

        No other request knows the id yet, so none can interfere. A crash between the
        two steps leaves bytes without a row.

        :param ends: the bytes are the whole file, and the new row is complete.
        """
        filled = self._filled(draft, content)
        if ends:
            record = self._completer.record_for(draft)
            filled = record.apply(filled, draft.created_at)
        blob = filled.require_blob()
        lock = self._storage.put(blob, content, finished=ends)
        try:
            # Keep the file locked until the row exists; otherwise ``check --repair``
            # could delete it as an orphan.
            with lock:
                upload = self._insert(filled, new, quota)
        except CommitUnanswered:
            # The row may exist, and then its bytes must stay.
            raise
        except Exception:
            with suppress(StorageError):
                self._storage.delete(blob)
            raise
        self._gate.announce("created", upload)
        self._gate.announce("chunk_received", upload)
        if ends:
            self._completer.announce(upload)
        return upload

    def _filled(self, draft: Upload, content: Buffer) -> Upload:
        """The draft with its first chunk."""
        digest = resume(draft.hash_name, None, 0)
        if digest is not None:
            digest.update(content)
        size = memoryview(content).nbytes
        return replace(
            draft,
            offset=size,
            last_start=0,
            hash_state=None if digest is None else digest.dump(),
        )

    def require_room(self, owner: object, length: int | None) -> None:
        """Refuse an upload before its body is read, as :meth:`upload` would.

        :raises TooManyUploads, QuotaExceeded: the owner's quota has no room.
        """
        self._gate.require_length(length)
        quota = self._gate.quota(length)
        if quota is not None:
            known = quota
            self._with_room(owner, lambda: self._repository.require_room(owner, known))

    def _draft(self, new: NewUpload, quota: Quota | None) -> Upload:
        now = self._clock()
        upload_id = self._new_id()
        return Upload(
            id=upload_id,
            blueprint=self._blueprint,
            user=new.user,
            filename=new.filename,
            offset=0,
            length=new.length,
            status=Status.UPLOADING,
            fence=0,
            created_at=now,
            last_activity_at=now,
            dialect=new.dialect,
            storage_key=self._storage.new_key(upload_id, now),
            storage_state=self._storage.new_state(new.length),
            partial=new.partial,
            concat=new.concat,
            hash_name=new.hash_name,
            raw_metadata=new.raw_metadata,
            content_type=new.content_type,
            reserved=None if quota is None else quota.reserve,
            extra=dict(new.fields),
        )

    def _with_room(self, owner: object, act: Callable[[], Result]) -> Result:
        try:
            return act()
        except (TooManyUploads, QuotaExceeded):
            if not self._remover.make_room(owner):
                raise
            return act()
