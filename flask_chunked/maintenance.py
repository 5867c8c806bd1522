"""Functions for schedulers and administrators: expire, deliver, check and list uploads.

Each function needs an application context. The command line calls the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from flask import Flask, current_app
from sqlalchemy import and_
from sqlalchemy.sql import ColumnElement

from .engine.delivery import DELIVERY_LEASE, Delivery
from .engine.records import Upload
from .engine.states import Status
from .exceptions import UnknownUpload
from .registration import Registration, registrations
from .storage.base import StoredItem

#: The age from which a file without a row, or a stage, counts as an orphan.
ORPHAN_AGE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference that ``check`` found.

    :param kind: orphan (bytes without a row), stage (a temporary file of a request that
        was killed), missing (a row without all its bytes), tail (bytes beyond the
        offset), leftover (bytes of an expired upload), half-terminated (the termination
        of an upload was interrupted), quota (an owner's quota row differs from the
        owner's uploads).
    :param subject: id of the upload, storage key, or owner.
    :param size: number of bytes concerned.
    :param repaired: ``False``: the difference still exists.
    """

    blueprint: str
    kind: str
    subject: str
    size: int
    repaired: bool


def create_tables(app: Flask) -> None:
    """Create the tables of uploads that do not exist yet.

    Existing tables are not changed. Several workers may call it concurrently.
    Applications that use Alembic create the tables with a migration instead.
    """
    with app.app_context():
        for here in registrations(app).values():
            here.database.create_tables(here.tables)


def find(upload_id: UUID) -> tuple[Registration, Upload]:
    """Find an upload of any blueprint of the app.

    :raises UnknownUpload: no blueprint has an upload of this id.
    """
    for here in _all(None):
        upload = here.repository.get(upload_id)
        if upload is not None and upload.blueprint == here.name:
            return here, upload
    raise UnknownUpload()


def uploads(
    *,
    blueprint: str | None = None,
    status: Status | None = None,
    partial: bool = False,
) -> Iterator[Upload]:
    """List uploads.

    :param blueprint: name of the blueprint; ``None``: all blueprints.
    :param status: ``None``: uploads in all states.
    :param partial: list the partial uploads of concatenations instead of all others.
    :raises LookupError: the app has no such blueprint.
    """
    for here in _all(blueprint):
        c = here.table.c
        conditions: list[ColumnElement[bool]] = [c.partial.is_(partial)]
        if status is not None:
            conditions.append(c.status == status.value)
        yield from here.repository.matching(and_(*conditions))


def delete_upload(upload_id: UUID) -> Upload:
    """Remove an upload with its bytes and its record.

    :raises UnknownUpload: no blueprint has an upload of this id.
    """
    here, upload = find(upload_id)
    here.engine.remove.terminate(upload)
    return upload


def delete_expired(
    *, keep_records: bool = False, dry_run: bool = False, blueprint: str | None = None
) -> list[Upload]:
    """Remove unfinished uploads that were not continued in time.

    An upload that has become active again is not removed.

    :param keep_records: remove only the bytes; the record stays, as expired.
    :param dry_run: return the uploads without removing them.
    :param blueprint: name of the blueprint; ``None``: all blueprints.
    :return: the uploads that were removed.
    :raises LookupError: the app has no such blueprint.
    """
    return list(
        expiring(keep_records=keep_records, dry_run=dry_run, blueprint=blueprint)
    )


def expiring(
    *, keep_records: bool = False, dry_run: bool = False, blueprint: str | None = None
) -> Iterator[Upload]:
    """:func:`delete_expired` as an iterator, which removes uploads one by one."""
    for here in _all(blueprint):
        for upload, cutoff in here.engine.remove.expirable(
            expired_too=not keep_records
        ):
            if dry_run:
                yield upload
                continue
            expired = here.engine.remove.expire(
                upload, cutoff, keep_record=keep_records
            )
            if expired is not None:
                yield expired


def expire_upload(upload_id: UUID, *, keep_record: bool = False) -> Upload | None:
    """Remove one unfinished upload, if it was not continued in time.

    :param keep_record: remove only the bytes; the record stays, as expired.
    :return: ``None``: the upload does not expire yet.
    :raises UnknownUpload: no blueprint has an upload of this id.
    """
    here, upload = find(upload_id)
    cutoff = here.engine.expiry.cutoff()
    if cutoff is None:
        return None
    return here.engine.remove.expire(upload, cutoff, keep_record=keep_record)


def deliver_pending(
    *,
    older_than: timedelta = DELIVERY_LEASE,
    retry_now: bool = False,
    blueprint: str | None = None,
) -> list[Delivery]:
    """Call ``deliver`` for complete uploads whose event is still pending.

    An event whose delivery failed is tried again 1, 2, 4 and so on up to 60 minutes
    after the last attempt, and not before.

    :param older_than: leave younger events to the requests that deliver them.
    :param retry_now: do not wait, for instance after the cause was mended.
    :param blueprint: name of the blueprint; ``None``: all blueprints.
    :raises LookupError: the app has no such blueprint.
    """
    return [
        delivery
        for here in _all(blueprint)
        for delivery in here.engine.delivery.pending(older_than, retry_now=retry_now)
    ]


def check(*, repair: bool = False, blueprint: str | None = None) -> list[Finding]:
    """Compare rows with stored bytes, and repair what can be repaired without loss.

    A repair removes orphans, stages, tails and leftovers, and terminates an unfinished
    upload with missing bytes. Missing bytes of a complete upload are only reported.

    :param blueprint: name of the blueprint; ``None``: all blueprints.
    :raises LookupError: the app has no such blueprint.
    """
    seen: set[str] = set()
    found: list[Finding] = []
    for here in _all(blueprint):
        found += _check_rows(here, repair)
        found += _check_quotas(here, repair)
        if here.storage.identity not in seen:
            seen.add(here.storage.identity)
            found += _check_stored(here, repair)
    return found


def _all(blueprint: str | None) -> list[Registration]:
    known = registrations(current_app)
    if blueprint is None:
        return list(known.values())
    if blueprint not in known:
        names = ", ".join(sorted(known)) or "none"
        raise LookupError(
            f"no blueprint {blueprint!r} receives uploads; known: {names}"
        )
    return [known[blueprint]]


def _check_rows(here: Registration, repair: bool) -> Iterator[Finding]:
    for upload in here.repository.matching():
        if _check_row(here, upload, repair=False) is None:
            continue
        # A request may have changed the upload since the row was read: check it again
        # before it is reported or repaired.
        current = here.repository.get(upload.id)
        finding = None if current is None else _check_row(here, current, repair)
        if finding is not None:
            yield finding


def _check_row(here: Registration, upload: Upload, repair: bool) -> Finding | None:
    blob = upload.blob
    if blob is None:
        return None
    size = here.storage.measure(blob)

    def found(kind: str, count: int, *, mended: bool = repair) -> Finding:
        return Finding(here.name, kind, str(upload.id), count, mended)

    if upload.status is Status.TERMINATING:
        if repair:
            _terminate(here, upload)
        return found("half-terminated", size or 0)
    if upload.status is Status.EXPIRED:
        if size is None:
            return None
        if repair:
            here.storage.delete(blob)
        return found("leftover", size)
    if (size or 0) < upload.offset or (size is None and upload.is_complete):
        if repair and not upload.is_complete:
            _terminate(here, upload)
        lost = upload.offset - (size or 0)
        return found("missing", lost, mended=repair and not upload.is_complete)
    if size is not None and size > upload.offset:
        return _check_tail(here, upload, size, repair)
    return None


def _check_quotas(here: Registration, repair: bool) -> Iterator[Finding]:
    for seen in here.repository.quota_mismatches():
        owner = here.coerce_owner(seen.owner) if seen.owner else None
        # Concurrent requests may have caused the difference: compare under a lock.
        mismatch = here.repository.quota_mismatch_of(owner)
        if mismatch is None:
            continue
        if repair:
            here.repository.recount(owner)
        subject = mismatch.owner or "(no owner)"
        size = abs(mismatch.size) + abs(mismatch.stored)
        yield Finding(here.name, "quota", subject, size, repair)


def _terminate(here: Registration, upload: Upload) -> None:
    # Another process may have removed the upload meanwhile.
    with suppress(UnknownUpload):
        here.engine.remove.terminate(upload)


def _check_tail(
    here: Registration, upload: Upload, size: int, repair: bool
) -> Finding | None:
    """Check bytes beyond the offset. A request may be writing them if they are new."""
    age = here.engine.clock() - upload.last_activity_at
    if upload.status is Status.UPLOADING and age < ORPHAN_AGE:
        return None
    if repair and not here.engine.remove.truncate_uncommitted(upload):
        return None
    return Finding(here.name, "tail", str(upload.id), size - upload.offset, repair)


def _check_stored(here: Registration, repair: bool) -> Iterator[Finding]:
    batch: list[StoredItem] = []
    for item in here.storage.stored():
        if here.engine.clock() - item.modified_at < ORPHAN_AGE:
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
    for item in batch:
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

        mended = here.storage.discard(item, is_needed) if repair else False
        if repair and not mended and is_needed():
            # A writer that had been suspended has inserted the row meanwhile.
            continue
        kind = "stage" if item.staged else "orphan"
        yield Finding(here.name, kind, item.key, item.size, mended)


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
