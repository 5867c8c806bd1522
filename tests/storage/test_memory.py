"""Memory storage: what its locks do that one thread cannot show."""

from __future__ import annotations

import threading

from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.memory import MemoryStorage

from .contract import append, new_blob, read


def test_waiting_writer_abandons_a_file_that_was_deleted() -> None:
    storage = MemoryStorage(StorageSettings("/base"))
    blob = new_blob(storage)
    append(storage, blob, b"old")

    class Deleting:
        """A lock that is had only after a delete."""

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def acquire(self, timeout: float) -> bool:
            storage.delete(blob)
            return self.lock.acquire(timeout=timeout)

        def release(self) -> None:
            self.lock.release()

    storage.unfinished[blob.key].lock = Deleting()  # type: ignore[assignment]
    assert read(storage, append(storage, blob, b"new")) == b"new"


def test_two_storages_share_nothing() -> None:
    first, second = (MemoryStorage(StorageSettings("/base")) for _ in range(2))
    blob = append(first, new_blob(first), b"abc")
    assert first.identity != second.identity
    assert second.measure(blob) is None
