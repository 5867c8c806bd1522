"""Who is receiving what in this process, so that a stalled reader can be let go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from .ports import Reader


class Receiving:
    """The bodies that are being read, by upload.

    Only a courtesy: safety is the fence's, which works across processes. A reader that
    waits for a silent client would find out much later; its thread is freed here.
    """

    def __init__(self) -> None:
        self._readers: dict[UUID, list[Reader]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def by(self, upload_id: UUID, reader: Reader) -> Iterator[None]:
        """For the length of the block this reader is known as one of the upload's."""
        with self._lock:
            self._readers.setdefault(upload_id, []).append(reader)
        try:
            yield
        finally:
            with self._lock:
                self._keep(upload_id, lambda known: known is not reader)

    def interrupt(self, upload_id: UUID, but: Reader | None = None) -> None:
        """End the bodies of all who receive for the upload, except one."""
        # Under the lock: once its request is over, the connection may be another's.
        with self._lock:
            for reader in self._readers.get(upload_id, ()):
                if reader is not but:
                    reader.interrupt()
            self._keep(upload_id, lambda known: known is but)

    def _keep(self, upload_id: UUID, is_kept: Callable[[Reader], bool]) -> None:
        kept = list(filter(is_kept, self._readers.pop(upload_id, ())))
        if kept:
            self._readers[upload_id] = kept
