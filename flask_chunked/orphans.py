"""Finds stored bytes that belong to no upload, for ``check``.

Knows the storage's list and the rows of all blueprints that share the storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from flask import current_app

from .engine.records import Upload
from .findings import Finding, repaired
from .registration import Registration, registrations
from .storage.base import StoredItem


def check_stored(
    here: Registration, repair: bool, age: timedelta, examined: Callable[[], object]
) -> Iterator[Finding]:
    """Find the items of a storage that no upload of the app needs.

    :param age: leave younger items to the requests that may be writing them.
    :param examined: called for each item.
    """
    batch: list[StoredItem] = []
    for item in here.storage.stored():
        examined()
        if here.engine.clock() - item.modified_at < age:
            continue
        batch.append(item)
        if len(batch) >= 200:
            yield from _check_batch(here, batch, repair)
            batch = []
    yield from _check_batch(here, batch, repair)


def _check_batch(
    here: Registration, batch: list[StoredItem], repair: bool
) -> Iterator[Finding]:
    """Find the items that belong to no upload of the app on the same storage."""
    sharing = {
        id(other.table): other
        for other in registrations(current_app).values()
        if other.storage.identity == here.storage.identity
    }
    keys = [item.key for item in batch if not item.staged]
    known = {
        key: (other, upload)
        for other in sharing.values()
        for key, upload in other.repository.by_keys(keys).items()
    }
    # Bytes that are being removed, or will be by a repair.
    removed = {
        key for other in sharing.values() for key in other.repository.removed_keys(keys)
    }
    for item in batch:
        if not item.staged and item.key in removed:
            continue
        if not item.staged and item.key in known:
            there, upload = known[item.key]
            if _is_used(there, upload, item, repair):
                continue

        def is_needed(item: StoredItem = item) -> bool:
            return not item.staged and any(
                _names(other, upload, item)
                for other in sharing.values()
                for upload in other.repository.by_keys([item.key]).values()
            )

        kind = "stage" if item.staged else "orphan"
        found = Finding(here.name, kind, item.key, item.size, False)

        def discard(
            item: StoredItem = item, is_needed: Callable[[], bool] = is_needed
        ) -> bool | None:
            if here.storage.discard(item, is_needed):
                return True
            # A writer that had been suspended may have inserted the row meanwhile.
            return False if is_needed() else None

        finding = repaired(found, discard) if repair else found
        if finding is not None:
            yield finding


def _is_used(
    here: Registration, upload: Upload, item: StoredItem, repair: bool
) -> bool:
    """True if the upload contains the item, or a writer may still commit it."""
    if _names(here, upload, item) or not repair:
        return _names(here, upload, item)
    # The new fence keeps a suspended writer from committing the item later.
    current = here.repository.take_over(upload.id) or here.repository.get(upload.id)
    return current is not None and _names(here, current, item)


def _names(here: Registration, upload: Upload, item: StoredItem) -> bool:
    blob = upload.blob
    if item.piece is None or blob is None:
        return item.piece is None
    return here.storage.uses(blob, item, finished=upload.is_complete)
