"""The bodies that this process reads, so that a superseded request can end early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from .ports import Reader


class ActiveReaders:
    """The readers of bodies, by upload.

    An optimisation: correctness depends on the fence alone, which works across
    processes. Without it, a superseded request keeps its thread until the read timeout.
    """

    def __init__(self) -> None:
        self._readers: dict[UUID, list[Reader]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def register(self, upload_id: UUID, reader: Reader) -> Iterator[None]:
        """This reader is one of the upload's for the length of the block."""
        with self._lock:
            self._readers.setdefault(upload_id, []).append(reader)
        try:
            yield
        finally:
            with self._lock:
                self._keep(upload_id, lambda known: known is not reader)

    def interrupt(self, upload_id: UUID, but: Reader | None = None) -> None:
        """End the upload's bodies, except one."""
        # Under the lock: after its request, the connection may belong to another one.
        with self._lock:
            for reader in self._readers.get(upload_id, ()):
                if reader is not but:
                    reader.interrupt()
            self._keep(upload_id, lambda known: known is but)

    def _keep(self, upload_id: UUID, is_kept: Callable[[Reader], bool]) -> None:
        kept = list(filter(is_kept, self._readers.pop(upload_id, ())))
        if kept:
            self._readers[upload_id] = kept
