"""A ``verify`` that takes long: one request is at it, the others wait or come later.

The row says since when. This clock is about progress only: the fence decides, and after
a crash ``verify`` may run twice.
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

#: Whose row was not renewed for so long is gone, and the next request verifies.
STALE = timedelta(seconds=60)
#: Seconds from one renewal to the next.
RENEWAL = 10.0
#: Seconds that a request waits for the outcome of another one, and between two looks.
PATIENCE, PAUSE = 5.0, 0.1


@contextmanager
def renewed(
    repository: Repository, begun: Upload, clock: Callable[[], datetime]
) -> Iterator[None]:
    """Keep telling that the upload is being verified, for the length of the block."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEWAL):
            try:
                repository.note_verification(begun.id, begun.fence, clock())
            # Whatever fails here, the verification goes on; at worst another request
            # begins one of its own.
            except Exception:
                logger.warning(
                    "upload %s is being verified, which could not be noted",
                    begun.id,
                    exc_info=True,
                )

    keeper = threading.Thread(target=renew, name="flask-chunked-verify", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        # What it still notes must not come after the outcome.
        keeper.join(RENEWAL)


@contextmanager
def released_by_failure(repository: Repository, begun: Upload) -> Iterator[None]:
    """Let other requests verify the upload at once, if the block fails."""
    try:
        yield
    except BaseException:
        release(repository, begun)
        raise


def release(repository: Repository, begun: Upload) -> None:
    """Let other requests verify the upload at once, if this one was to do it."""
    if begun.verify_started_at is not None:
        # At worst they wait until the row says that this one is gone.
        with suppress(ChunkedUploadError):
            repository.note_verification(begun.id, begun.fence, None)


def wait() -> Iterator[None]:
    """Yield at each look until patience ends."""
    until = time.monotonic() + PATIENCE
    while True:
        yield
        if time.monotonic() >= until:
            return
        time.sleep(PAUSE)
