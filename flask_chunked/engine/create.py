"""New uploads: what is stored of them, and whether there is room."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from ..exceptions import (
    CommitUnanswered,
    QuotaExceeded,
    StorageError,
    TooManyUploads,
)
from ..storage.base import Buffer, Storage
from .complete import Completer
from .digests import resume
from .gate import Gate
from .ports import Reader, Repository
from .records import NewUpload, Quota, Upload
from .states import Status

Result = TypeVar("Result")


class Creator:
    """Makes the rows of uploads.

    :param make_room: removes what of an owner's is only waiting to expire.
    :param completer: of uploads that are all there when they are created.
    """

    def __init__(
        self,
        blueprint: str,
        repository: Repository,
        storage: Storage,
        gate: Gate,
        new_id: Callable[[], UUID],
        *,
        clock: Callable[[], datetime],
        make_room: Callable[[object], bool],
        completer: Completer,
    ) -> None:
        self._blueprint = blueprint
        self._repository = repository
        self._storage = storage
        self._gate = gate
        self._new_id = new_id
        self._clock = clock
        self._make_room = make_room
        self._completer = completer

    def create(self, new: NewUpload) -> Upload:
        """See :meth:`Engine.create`."""
        draft, quota = self._prepare(new)
        return self._create(draft, new, quota)

    def create_with(
        self, new: NewUpload, reader: Reader, size: int | None, *, finishing: bool
    ) -> Upload:
        """See :meth:`Engine.create_with`."""
        draft, quota = self._prepare(new)
        ends = finishing and size == draft.length
        if ends and (quota is not None or not self._completer.may_finish_first(draft)):
            return self._create(draft, new, quota)
        if not size or not reader.is_short or not self._may_fill(draft):
            return self._create(draft, new, quota)
        block = reader.read()
        if reader.ended:
            return self._create_filled(draft, new, quota, block, ends=ends)
        # The client is slow. What is here waits until the row is there.
        reader.unread(block)
        return self._create(draft, new, quota)

    def create_filled(self, new: NewUpload, content: Buffer) -> Upload:
        """See :meth:`Engine.create_filled`."""
        draft, quota = self._prepare(new)
        return self._create_filled(draft, new, quota, content, ends=False)

    @property
    def fills_first(self) -> bool:
        """See :attr:`Engine.fills_first`."""
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
        """Bytes first, and safe; then a row that has them.

        Nobody knows the id yet, so that nobody is to be kept out, and a crash in
        between leaves bytes without a row.

        :param ends: the bytes are the finished file, and the row says so.
        """
        filled = self._filled(draft, content)
        if ends:
            ending = self._completer.ending(draft)
            filled = ending.apply(filled, draft.created_at)
        blob = filled.blob
        if blob is None:  # pragma: no cover - a draft always has a key
            raise ValueError("an upload without a storage key takes no bytes")
        held = self._storage.put(blob, content, finished=ends)
        try:
            # Or who looks for what crashes left takes them away before that.
            with held:
                upload = self._insert(filled, new, quota)
        except CommitUnanswered:
            # The row may be there, and then it is right.
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
        """See :meth:`Engine.require_room`."""
        self._gate.require_length(length)
        quota = self._gate.quota(length)
        if quota is not None:
            held = quota
            self._with_room(owner, lambda: self._repository.require_room(owner, held))

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
            if not self._make_room(owner):
                raise
            return act()
