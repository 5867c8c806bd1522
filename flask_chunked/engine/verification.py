"""Long calls of ``verify``: one request makes the call, the others wait or retry.

The row stores when the call was last renewed. This time serves progress only;
correctness depends on the fence. After a crash ``verify`` may run twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from ..exceptions import ChunkedUploadError
from .ports import Repository
from .records import Upload

logger = logging.getLogger("flask_chunked")

#: After so long without a renewal, the next request calls ``verify``.
STALE = timedelta(seconds=60)
#: Seconds from one renewal to the next.
RENEWAL = 10.0
#: Seconds that a request waits for the result of another one, and between two polls.
PATIENCE, PAUSE = 5.0, 0.1


@contextmanager
def renewed(
    repository: Repository, begun: Upload, clock: Callable[[], datetime]
) -> Iterator[None]:
    """Renew the upload's verification in its row while the block runs."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEWAL):
            try:
                repository.note_verification(begun.id, begun.fence, clock())
            # The verification goes on whatever fails here. At worst another request
            # begins a second one.
            except Exception:
                logger.warning(
                    "cannot renew the verification of upload %s",
                    begun.id,
                    exc_info=True,
                )

    renewer = threading.Thread(target=renew, name="flask-chunked-verify", daemon=True)
    renewer.start()
    try:
        yield
    finally:
        done.set()
        # A late renewal must not overwrite the result.
        renewer.join(RENEWAL)


@contextmanager
def released_by_failure(repository: Repository, begun: Upload) -> Iterator[None]:
    """If the block fails, let other requests verify the upload at once."""
    try:
        yield
    except BaseException:
        release(repository, begun)
        raise


def release(repository: Repository, begun: Upload) -> None:
    """If this request verifies the upload, let other requests do so at once."""
    if begun.verify_started_at is not None:
        # Without it, they wait until the renewal is stale.
        with suppress(ChunkedUploadError):
            repository.note_verification(begun.id, begun.fence, None)


def wait() -> Iterator[None]:
    """Yield before each poll until ``PATIENCE`` is over."""
    until = time.monotonic() + PATIENCE
    while True:
        yield
        if time.monotonic() >= until:
            return
        time.sleep(PAUSE)
