"""The readers of this process, so that a superseded request ends early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from .ports import Reader


class ActiveReaders:
    """The readers of bodies, by upload.

    It is an optimisation: correctness depends on the fence alone, which works across
    processes. Without it, a superseded request keeps its thread until the read timeout.
    """

    def __init__(self) -> None:
        self._readers: dict[UUID, list[Reader]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def register(self, upload_id: UUID, reader: Reader) -> Iterator[None]:
        """Keep the reader registered for the upload during the block."""
        with self._lock:
            self._readers.setdefault(upload_id, []).append(reader)
        try:
            yield
        finally:
            with self._lock:
                self._keep(upload_id, lambda known: known is not reader)

    def interrupt(self, upload_id: UUID, but: Reader | None = None) -> None:
        """End the upload's bodies, except that of ``but``."""
        # Under the lock: once its request ends, the connection may serve another one.
        with self._lock:
            for reader in self._readers.get(upload_id, ()):
                if reader is not but:
                    reader.interrupt()
            self._keep(upload_id, lambda known: known is but)

    def _keep(self, upload_id: UUID, is_kept: Callable[[Reader], bool]) -> None:
        kept = list(filter(is_kept, self._readers.pop(upload_id, ())))
        if kept:
            self._readers[upload_id] = kept
