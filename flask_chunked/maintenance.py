"""Functions for schedulers and administrators: expire, deliver, check and list uploads.

Each function needs an application context. The command line calls the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from flask import Flask, current_app
from sqlalchemy import and_
from sqlalchemy.sql import ColumnElement

from .engine.delivery import DELIVERY_LEASE, Delivery
from .engine.records import Upload
from .engine.states import Status
from .exceptions import ChunkedUploadError, UnknownUpload
from .exceptions.base import describe_cause
from .expiration import delete_expired as delete_expired
from .expiration import expiring as expiring
from .findings import Finding as Finding
from .findings import Repair, repaired, unchecked
from .orphans import check_stored
from .protocol.upload_id import parse_upload_id
from .registration import (
    Registration,
    registered,
    registrations,
    release_sessions,
)

#: The age from which a file without a row, or a stage, counts as an orphan.
ORPHAN_AGE = timedelta(minutes=5)


def create_tables(app: Flask) -> None:
    """Create the tables of uploads that do not exist yet.

    Existing tables are not changed. Several workers may call it concurrently.
    Applications that use Alembic create the tables with a migration instead.
    """
    with app.app_context():
        for here in registrations(app).values():
            here.database.create_tables(here.tables)


def find(upload_id: UUID | str) -> tuple[Registration, Upload]:
    """Find an upload of any blueprint of the app.

    :param upload_id: a UUID or its text.
    :raises UnknownUpload: no blueprint has an upload of this id.
    """
    parsed = parse_upload_id(str(upload_id))
    if parsed is None:
        raise UnknownUpload()
    for here in registered(current_app, None):
        upload = here.repository.get(parsed)
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
    for here in registered(current_app, blueprint):
        c = here.table.c
        conditions: list[ColumnElement[bool]] = [c.partial.is_(partial)]
        if status is not None:
            conditions.append(c.status == status.value)
        yield from here.repository.matching(and_(*conditions))


def delete_upload(upload_id: UUID | str) -> Upload:
    """Remove an upload with its bytes and its record.

    :param upload_id: a UUID or its text.
    :raises UnknownUpload: no blueprint has an upload of this id.
    """
    release_sessions(current_app, "delete_upload()")
    here, upload = find(upload_id)
    here.engine.remove.terminate(upload)
    return upload


def expire_upload(upload_id: UUID | str, *, keep_record: bool = False) -> Upload | None:
    """Remove one unfinished upload, if it was not continued in time.

    :param upload_id: a UUID or its text.
    :param keep_record: remove only the bytes; the record stays, as expired.
    :return: ``None``: the upload does not expire yet.
    :raises UnknownUpload: no blueprint has an upload of this id.
    :raises UploadInUse: other rows refer to its record, which stays, as expired.
    :raises StorageError: its bytes stay.
    """
    release_sessions(current_app, "expire_upload()")
    here, upload = find(upload_id)
    cutoff = here.engine.expiry.cutoff()
    if cutoff is None:
        return None
    expired = here.engine.remove.expire(upload, cutoff, keep_record=keep_record)
    if expired is None:
        return None
    if expired.error is not None:
        raise expired.error
    return expired.upload


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
        for here in registered(current_app, blueprint)
        for delivery in here.engine.delivery.pending(older_than, retry_now=retry_now)
    ]


def check(*, repair: bool = False, blueprint: str | None = None) -> list[Finding]:
    """Compare rows with stored bytes, and repair what can be repaired without loss.

    A repair removes orphans, stages, tails and leftovers, finishes removals, and
    terminates an unfinished upload with missing bytes, unless other rows refer to it.
    Missing bytes of a complete upload are only reported. What cannot be checked or
    repaired does not stop the rest.

    :param blueprint: name of the blueprint; ``None``: all blueprints.
    :raises LookupError: the app has no such blueprint.
    """
    return list(checking(repair=repair, blueprint=blueprint))


def checking(
    *,
    repair: bool = False,
    blueprint: str | None = None,
    examined: Callable[[], object] = lambda: None,
) -> Iterator[Finding]:
    """:func:`check` as an iterator.

    :param examined: called for each row and each stored item.
    """
    seen: set[str] = set()
    for here in registered(current_app, blueprint):
        yield from _guarded(here, "uploads", _check_rows(here, repair, examined))
        yield from _guarded(here, "removals", _check_removals(here, repair))
        yield from _guarded(here, "quotas", _check_quotas(here, repair))
        if here.storage.identity not in seen:
            seen.add(here.storage.identity)
            yield from _guarded(
                here, "files", check_stored(here, repair, ORPHAN_AGE, examined)
            )


def _guarded(
    here: Registration, subject: str, findings: Iterator[Finding]
) -> Iterator[Finding]:
    """The findings, and one more if they end early."""
    try:
        yield from findings
    except ChunkedUploadError as error:
        yield unchecked(here.name, subject, error)


def _check_rows(
    here: Registration, repair: bool, examined: Callable[[], object]
) -> Iterator[Finding]:
    for upload in here.repository.matching():
        examined()
        try:
            finding = _check_row(here, upload, repair)
        # As in repaired().
        except Exception as error:
            finding = unchecked(here.name, str(upload.id), error)
        if finding is not None:
            yield finding


def _check_row(here: Registration, upload: Upload, repair: bool) -> Finding | None:
    if _difference(here, upload) is None:
        return None
    # A request may have changed the upload since the row was read: check it again
    # before it is reported or repaired.
    current = here.repository.get(upload.id)
    found = None if current is None else _difference(here, current)
    if found is None:
        return None
    finding, mend = found
    return repaired(finding, mend) if repair and mend is not None else finding


def _difference(
    here: Registration, upload: Upload
) -> tuple[Finding, Repair | None] | None:
    """What differs between an upload's row and its bytes, and the repair, if any."""
    blob = upload.blob
    if blob is None:
        return None
    size = here.storage.measure(blob)

    def found(kind: str, count: int) -> Finding:
        return Finding(here.name, kind, str(upload.id), count, False)

    def terminate() -> bool:
        here.engine.remove.terminate(upload)
        return True

    def delete_bytes() -> bool:
        here.storage.delete(blob)
        return True

    if upload.status is Status.EXPIRED:
        return None if size is None else (found("leftover", size), delete_bytes)
    if (size or 0) < upload.offset or (size is None and upload.is_complete):
        mend = None if upload.is_complete else terminate
        return found("missing", upload.offset - (size or 0)), mend
    if size is None or size <= upload.offset:
        return None
    # A request may be writing bytes beyond the offset if they are new.
    age = here.engine.clock() - upload.last_activity_at
    if upload.status is Status.UPLOADING and age < ORPHAN_AGE:
        return None
    tail = found("tail", size - upload.offset)
    return tail, lambda: here.engine.remove.truncate_uncommitted(upload)


def _check_removals(here: Registration, repair: bool) -> Iterator[Finding]:
    for removal in here.repository.removals():
        size = removal.blob.size
        finding = Finding(
            here.name, "half-removed", str(removal.upload_id), size, False
        )
        if repair:
            error = here.engine.remove.finish_removal(removal)
            cause = None if error is None else describe_cause(error)
            finding = replace(finding, repaired=error is None, cause=cause)
        yield finding


def _check_quotas(here: Registration, repair: bool) -> Iterator[Finding]:
    for seen in here.repository.quota_mismatches():
        owner = here.coerce_owner(seen.owner) if seen.owner else None
        # Concurrent requests may have caused the difference: compare under a lock.
        mismatch = here.repository.quota_mismatch_of(owner)
        if mismatch is None:
            continue
        subject = mismatch.owner or "(no owner)"
        size = abs(mismatch.size) + abs(mismatch.stored)
        found = Finding(here.name, "quota", subject, size, False)

        def recount(owner: object = owner) -> bool:
            here.repository.recount(owner)
            return True

        finding = repaired(found, recount) if repair else found
        if finding is not None:
            yield finding
