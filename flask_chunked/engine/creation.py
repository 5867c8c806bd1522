"""New uploads: what is stored of them, and whether there is room."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from ..exceptions import QuotaExceeded, TooManyUploads
from ..storage.base import Storage
from .ports import Policy, Repository
from .records import NewUpload, Quota, Upload
from .states import Status

Result = TypeVar("Result")


class Creator:
    """Makes the rows of uploads.

    :param make_room: removes what of an owner's is only waiting to expire.
    """

    def __init__(
        self,
        blueprint: str,
        repository: Repository,
        storage: Storage,
        policy: Policy,
        new_id: Callable[[], UUID],
        *,
        clock: Callable[[], datetime],
        make_room: Callable[[object], bool],
    ) -> None:
        self._blueprint = blueprint
        self._repository = repository
        self._storage = storage
        self._policy = policy
        self._new_id = new_id
        self._clock = clock
        self._make_room = make_room

    def create(self, new: NewUpload) -> Upload:
        """See :meth:`Engine.create`."""
        quota = self._policy.quota(new.length)
        draft = self._draft(new, quota)
        self._policy.validate(draft)
        if new.length == 0 and self._policy.inspects:
            self._policy.inspect(draft, b"")
        upload = self._with_room(
            new.user, lambda: self._repository.create(draft, new.fields, quota)
        )
        self._policy.announce("created", upload)
        return upload

    def require_room(self, owner: object, length: int | None) -> None:
        """See :meth:`Engine.require_room`."""
        quota = self._policy.quota(length)
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
