"""When unfinished uploads expire."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from uuid import UUID

from ..exceptions import UnknownUpload, UploadExpired
from .gate import Kind, kind_of, rules_of
from .ports import Ports
from .records import Cutoff, Upload
from .states import Status
from .verification import STALE


def utcnow() -> datetime:
    """The default clock: aware UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long unfinished uploads live; ``None``: no limit.

    :param idle: since the last committed byte.
    :param total: since the creation.
    """

    idle: timedelta | None = None
    total: timedelta | None = None


FOREVER = Lifetimes()


class Expiry:
    """Decides whether and when unfinished uploads expire."""

    def __init__(self, ports: Ports, lifetimes: Lifetimes) -> None:
        self._idle = lifetimes.idle
        self._lifetime = lifetimes.total
        self._clock = ports.clock
        self._repository = ports.repository

    def expires_at(self, upload: Upload) -> datetime | None:
        """The moment at which the upload expires; ``None``: never.

        A partial upload lives at least as long as a final upload that waits for it.
        """
        if not _may_expire(upload):
            return None
        last = upload.last_activity_at
        if self._idle is not None and kind_of(upload) is Kind.FINAL:
            last = max(last, self._repository.group_activity(upload) or last)
        return self._end(upload, last)

    def require_live(self, upload: Upload) -> None:
        """Refuse an upload that has expired.

        :raises UploadExpired: it is unfinished and too old, or marked as expired.
        """
        if upload.status is Status.EXPIRED:
            raise UploadExpired()
        if not _may_expire(upload):
            return
        now = self._clock()
        end = self._end(upload, upload.last_activity_at)
        if end is None or end > now:
            return
        if kind_of(upload) is not Kind.ORDINARY:
            # Other uploads of its concatenation may keep it alive.
            last = self._repository.group_activity(upload)
            end = None if last is None else self._end(upload, last)
            if end is not None and end > now:
                return
        raise UploadExpired()

    def current(self, upload_id: UUID) -> Upload:
        """The row of an upload that exists and has not expired.

        :raises UnknownUpload: there is none.
        :raises UploadExpired: it has expired.
        """
        row = self._repository.get(upload_id)
        if row is None:
            raise UnknownUpload()
        self.require_live(row)
        return row

    def _end(self, upload: Upload, last_activity_at: datetime) -> datetime | None:
        ends = []
        if self._idle is not None:
            ends.append(last_activity_at + self._idle)
        if self._lifetime is not None:
            ends.append(upload.created_at + self._lifetime)
        return min(ends, default=None)

    def cutoff(self) -> Cutoff | None:
        """The moments that decide what has expired; ``None``: nothing expires."""
        if self._idle is None and self._lifetime is None:
            return None
        now = self._clock()
        return Cutoff(
            idle_since=None if self._idle is None else now - self._idle,
            created_before=None if self._lifetime is None else now - self._lifetime,
            verify_stale=now - STALE,
        )


def _may_expire(upload: Upload) -> bool:
    if upload.status is Status.COMPLETE:
        return rules_of(upload).is_material
    return upload.status is Status.UPLOADING
