"""Which uploads time gives up, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from ..exceptions import UploadExpired
from .records import Cutoff, Upload
from .states import Status


def utcnow() -> datetime:
    """The default clock: aware UTC."""
    return datetime.now(timezone.utc)


class Expiry:
    """The two limits on an unfinished upload's life.

    :param idle: after its last committed byte; ``None``: for ever.
    :param lifetime: after its creation; ``None``: for ever.
    """

    def __init__(
        self,
        idle: timedelta | None,
        lifetime: timedelta | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._idle = idle
        self._lifetime = lifetime
        self._clock = clock

    def expires_at(self, upload: Upload) -> datetime | None:
        """When time gives the upload up; ``None``: never."""
        if upload.status is not Status.UPLOADING:
            return None
        ends = []
        if self._idle is not None:
            ends.append(upload.last_activity_at + self._idle)
        if self._lifetime is not None:
            ends.append(upload.created_at + self._lifetime)
        return min(ends, default=None)

    def require_live(self, upload: Upload) -> None:
        """Refuse an upload that time gave up.

        :raises UploadExpired: it is unfinished and too old, or was expired already.
        """
        expires_at = self.expires_at(upload)
        if upload.status is Status.EXPIRED:
            raise UploadExpired()
        if expires_at is not None and expires_at <= self._clock():
            raise UploadExpired()

    def cutoff(self) -> Cutoff | None:
        """Which uploads are given up by now; ``None``: none ever is."""
        if self._idle is None and self._lifetime is None:
            return None
        now = self._clock()
        return Cutoff(
            idle_since=None if self._idle is None else now - self._idle,
            created_before=None if self._lifetime is None else now - self._lifetime,
        )
