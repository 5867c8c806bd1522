"""Which uploads time gives up, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from ..exceptions import UploadExpired
from .gate import Kind, kind_of, rules_of
from .records import Cutoff, Upload
from .states import Status
from .verification import STALE


def utcnow() -> datetime:
    """The default clock: aware UTC."""
    return datetime.now(timezone.utc)


class Expiry:
    """The two limits on an unfinished upload's life.

    :param idle: after its last committed byte; ``None``: for ever.
    :param lifetime: after its creation; ``None``: for ever.
    :param group_activity: last activity in the waiting concatenation that an upload
        belongs to; ``None``: there is none.
    """

    def __init__(
        self,
        idle: timedelta | None,
        lifetime: timedelta | None,
        clock: Callable[[], datetime],
        group_activity: Callable[[Upload], datetime | None],
    ) -> None:
        self._idle = idle
        self._lifetime = lifetime
        self._clock = clock
        self._group_activity = group_activity

    def expires_at(self, upload: Upload) -> datetime | None:
        """When time gives the upload up; ``None``: never.

        A partial upload may live longer: as long as the final one that waits for it.
        """
        if not _may_expire(upload):
            return None
        last = upload.last_activity_at
        if self._idle is not None and kind_of(upload) is Kind.FINAL:
            last = max(last, self._group_activity(upload) or last)
        return self._end(upload, last)

    def require_live(self, upload: Upload) -> None:
        """Refuse an upload that time gave up.

        :raises UploadExpired: it is unfinished and too old, or was expired already.
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
            # Kept alive by others, perhaps; asked only where it matters.
            last = self._group_activity(upload)
            end = None if last is None else self._end(upload, last)
            if end is not None and end > now:
                return
        raise UploadExpired()

    def _end(self, upload: Upload, last_activity_at: datetime) -> datetime | None:
        ends = []
        if self._idle is not None:
            ends.append(last_activity_at + self._idle)
        if self._lifetime is not None:
            ends.append(upload.created_at + self._lifetime)
        return min(ends, default=None)

    def cutoff(self) -> Cutoff | None:
        """Which uploads are given up by now; ``None``: none ever is."""
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
