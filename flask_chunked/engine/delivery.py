"""Delivers completion events to the application, at least once and one at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from .gate import Gate
from .ports import Ports
from .records import Upload

logger = logging.getLogger("flask_chunked")

#: Another request may repeat a delivery that is not done after so long.
DELIVERY_LEASE = timedelta(seconds=60)
#: The pause after the first attempt, which each further attempt doubles; the longest
#: pause.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=60)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome for a pending completion event.

    :param delivered: ``False``: the event is still pending.
    """

    upload: Upload
    delivered: bool


class Deliverer:
    """Calls ``deliver``, and repeats it after failures with growing pauses."""

    def __init__(self, ports: Ports) -> None:
        self._repository = ports.repository
        self._gate = Gate(ports.policy, ports.storage)
        self._clock = ports.clock

    def deliver(self, upload: Upload, lease: timedelta = DELIVERY_LEASE) -> bool:
        """Deliver the completion event.

        :param lease: repeat a delivery that began longer ago and is not done.
        :return: ``False``: not pending, delivered by another request, or failed.
        """
        now = self._clock()
        claimed = self._repository.claim_delivery(upload.id, now, now - lease)
        if claimed is None:
            return False
        try:
            self._gate.deliver(claimed)
        # After any error of the application, the event stays pending. The client gets
        # no error, because its file is complete.
        except Exception:
            logger.exception(
                "deliver failed for upload %s, attempt %d; still pending",
                upload.id,
                claimed.attempts,
            )
            self._gate.announce("delivery_failed", claimed)
            return False
        self._repository.mark_delivered(upload.id, self._clock())
        return True

    def pending(
        self, older_than: timedelta, *, retry_now: bool = False
    ) -> Iterator[Delivery]:
        """Deliver events that are pending for longer; yield each outcome.

        :param retry_now: do not wait for :func:`pause_after`.
        """
        for upload in self._repository.undelivered(self._clock() - older_than):
            lease = older_than
            if not retry_now:
                lease = max(lease, pause_after(upload.attempts))
            tried_at = upload.delivery_started_at
            if tried_at is None or tried_at <= self._clock() - lease:
                yield Delivery(upload, self.deliver(upload, lease))


def pause_after(attempts: int) -> timedelta:
    """The least time from the last attempt to the next: 1, 2, 4 ... 60 minutes."""
    if not attempts:
        return timedelta()
    # Limit the exponent: the number of attempts has no limit.
    doublings = 1 << min(attempts - 1, 6)
    return min(FIRST_PAUSE * doublings, LONGEST_PAUSE)
