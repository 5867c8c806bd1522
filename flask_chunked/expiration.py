"""Removes uploads that were not continued in time, for schedulers and administrators.

An upload that cannot be removed does not stop the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from flask import current_app

from .engine.records import Upload
from .engine.remove import TOGETHER
from .exceptions import ChunkedUploadError
from .exceptions.base import describe_cause
from .registration import Registration, registered

logger = logging.getLogger("flask_chunked")


@dataclass(frozen=True, slots=True)
class Expiration:
    """The outcome for an upload that was not continued in time.

    :param upload_id: ``None``: the blueprint's uploads could not be read.
    :param upload: ``None``: its record was removed earlier, and its bytes are left.
    :param error: why its record or its bytes stay; ``None``: it is removed.
    """

    blueprint: str
    upload_id: UUID | None
    upload: Upload | None
    error: Exception | None = None


def delete_expired(
    *, keep_records: bool = False, dry_run: bool = False, blueprint: str | None = None
) -> list[Upload]:
    """Remove unfinished uploads that were not continued in time.

    An upload that has become active again is not removed. Uploads that cannot be
    removed are logged and left out; :func:`expiring` returns them with the cause.

    :param keep_records: remove only the bytes; the record stays, as expired.
    :param dry_run: return the uploads without removing them.
    :param blueprint: name of the blueprint; ``None``: all blueprints.
    :return: the uploads that were removed.
    :raises LookupError: the app has no such blueprint.
    """
    outcomes = expiring(keep_records=keep_records, dry_run=dry_run, blueprint=blueprint)
    return [
        one.upload for one in outcomes if one.error is None and one.upload is not None
    ]


def expiring(
    *,
    keep_records: bool = False,
    dry_run: bool = False,
    blueprint: str | None = None,
    approve: Callable[[Upload], bool] | None = None,
) -> Iterator[Expiration]:
    """:func:`delete_expired` as an iterator, with the outcome for each upload.

    Up to 100 uploads are removed in one transaction. An upload that other rows refer
    to loses its bytes and keeps its record, as expired. Bytes that an earlier removal
    left are removed as well; only those that still cannot be removed are reported.

    :param approve: called with each upload, which stays unless the result is true.
        ``None``: all are removed.
    :raises LookupError: the app has no such blueprint.
    """
    for here in registered(current_app, blueprint):
        try:
            if dry_run:
                yield from _expirable(here, keep_records)
                continue
            yield from _finish_removals(here)
            yield from _expire(here, keep_records, approve)
        except ChunkedUploadError as error:
            cause = describe_cause(error)
            logger.error("uploads of %s do not expire: %s", here.name, cause)
            yield Expiration(here.name, None, None, error)


def _expirable(here: Registration, keep_records: bool) -> Iterator[Expiration]:
    for upload, _ in here.engine.remove.expirable(expired_too=not keep_records):
        yield Expiration(here.name, upload.id, upload)


def _finish_removals(here: Registration) -> Iterator[Expiration]:
    for removal, error in here.engine.remove.finish_removals():
        if error is not None:
            yield Expiration(here.name, removal.upload_id, None, error)


def _expire(
    here: Registration, keep_records: bool, approve: Callable[[Upload], bool] | None
) -> Iterator[Expiration]:
    remover = here.engine.remove
    found = remover.expirable(expired_too=not keep_records)
    if approve is not None:
        found = ((upload, cutoff) for upload, cutoff in found if approve(upload))
    size = TOGETHER if approve is None else 1
    while batch := list(islice(found, size)):
        uploads, cutoff = [upload for upload, _ in batch], batch[0][1]
        for one in remover.expire_all(uploads, cutoff, keep_records=keep_records):
            yield Expiration(here.name, one.upload.id, one.upload, one.error)
