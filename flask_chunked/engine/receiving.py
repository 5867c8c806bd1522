"""Who is receiving what in this process, so that a stalled reader can be let go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from .ports import Reader


class Receiving:
    """The bodies that are being read, by upload.

    Only a courtesy: safety is the fence's, which works across processes. A reader that
    waits for a silent client would find out much later; its thread is freed here.
    """

    def __init__(self) -> None:
        self._readers: dict[UUID, Reader] = {}
        self._lock = threading.Lock()

    @contextmanager
    def by(self, upload_id: UUID, reader: Reader) -> Iterator[None]:
        """For the length of the block this reader is known as the upload's."""
        with self._lock:
            self._readers[upload_id] = reader
        try:
            yield
        finally:
            with self._lock:
                if self._readers.get(upload_id) is reader:
                    del self._readers[upload_id]

    def interrupt(self, upload_id: UUID) -> None:
        """End the body of whoever receives for the upload."""
        # Under the lock: once its request is over, the connection may be another's.
        with self._lock:
            reader = self._readers.pop(upload_id, None)
            if reader is not None:
                reader.interrupt()
