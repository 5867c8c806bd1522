"""What holds after every fault, as one check that lists what does not hold.

I1 no acknowledged byte is lost. I2 what is committed is what was sent. I3 a complete
upload has the declared size and the sent bytes, for ever. I4 it has one event id, and
is delivered at least once. I5 nothing is stuck: a fresh client finishes. I6 after
``check --repair`` there is no file without a row, no live row without its bytes, no
staged file, and no descriptor more than before. I7 the offset that HEAD tells is
accepted by the next PUT.

I8 to I10, which clients see, are in :mod:`tests.faults.outside`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from unittest import mock
from uuid import UUID

from flask_chunked import maintenance
from flask_chunked.dialects.tus.concat import IDLE
from flask_chunked.engine.engine import Engine
from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.engine.verification import STALE
from tests.dialects.tus import Tus
from tests.exchange import PREFIX, finish, put_raw

from .ground import Ground

_GIVEN_UP = (Status.EXPIRED,)


@dataclass(slots=True)
class Known:
    """What clients know of an upload because they were told.

    :param content: all bytes that it will have.
    :param acked: the highest offset that a client was told; -1: not even of the upload.
    :param completed: a client was told that it is complete.
    :param doomed: a client asked for its end, or time may have given it up.
    :param event_id: seen once, it never changes.
    :param has_length: it was declared, with the content's.
    :param others: that the same operation is about.
    :param destination: where ``deliver`` moves the finished file.
    """

    id: UUID
    content: bytes
    acked: int = -1
    completed: bool = False
    doomed: bool = False
    event_id: UUID | None = None
    destination: Path | None = None
    has_length: bool = True
    others: list[Known] = field(default_factory=list)


def broken(ground: Ground, known: Known) -> list[str]:
    """I1 to I4 at any moment, with others at work; in an app context."""
    row = ground.engine.repository.get(known.id)
    name = f"upload {known.id}"
    if row is None or row.status in _GIVEN_UP:
        gone_wrongly = known.acked >= 0 and not known.doomed
        return [f"I1: {name} is gone, {known.acked} acked"] if gone_wrongly else []
    found = []
    if row.offset < known.acked:
        found.append(f"I1: {name} stands at {row.offset} of {known.acked} acked bytes")
    lengths = {len(known.content)} if known.has_length else {None, len(known.content)}
    if row.offset > len(known.content) or row.length not in lengths:
        found.append(
            f"I3: {name} has {row.offset}/{row.length} of {len(known.content)}"
        )
    found += _broken_bytes(ground, known, row, name)
    if known.completed and not row.is_complete:
        found.append(f"I3: {name} was complete and is {row.status.value}")
    if row.is_complete:
        found += _broken_completion(ground, known, row, name)
    return found


def _broken_bytes(ground: Ground, known: Known, row: Upload, name: str) -> list[str]:
    stored = ground.stored_bytes(row)
    moved = known.destination
    if stored is None and moved is not None and moved.exists():
        stored = moved.read_bytes()
    if stored is None:
        if not row.offset or row.storage_key is None:
            return []
        # A termination beside us takes the bytes before the row.
        again = ground.engine.repository.get(row.id)
        gone = again is None or again.status in _GIVEN_UP
        return [] if gone and known.doomed else [f"I2: {name} has lost its bytes"]
    if stored[: row.offset] != known.content[: row.offset]:
        return [f"I2: {name}: its first {row.offset} bytes are not those sent"]
    if row.is_complete and len(stored) != len(known.content):
        return [f"I3: {name} is complete with {len(stored)} bytes"]
    return []


def _broken_completion(
    ground: Ground, known: Known, row: Upload, name: str
) -> list[str]:
    found = []
    if row.offset != len(known.content):
        found.append(f"I3: {name} is complete at {row.offset}/{len(known.content)}")
    if row.partial:
        if row.event_id is not None or ground.deliveries(row.id):
            found.append(f"I4: {name} is partial and has an event")
        return found
    if row.event_id is None:
        found.append(f"I4: {name} is complete without an event")
    known.event_id = known.event_id or row.event_id
    events = {str(row.event_id), str(known.event_id), *ground.deliveries(row.id)}
    if len(events) > 1:
        found.append(f"I4: {name} has several events: {sorted(events)}")
    return found


def broken_at_rest(ground: Ground, uploads: Iterable[Known]) -> list[str]:
    """All seven when nobody is at work: finishes every upload and repairs the rest.

    In an app context. The uploads are complete afterwards, or gone where doomed.
    """
    uploads = list(uploads)
    found = [problem for known in uploads for problem in broken(ground, known)]
    for known in uploads:
        found += _stuck(ground, known)
    list(maintenance.deliver_pending(older_than=timedelta(0), retry_now=True))
    found += broken_after_repair(ground)
    for known in uploads:
        found += broken(ground, known)
        row = ground.engine.repository.get(known.id)
        is_file = row is not None and row.is_complete and not row.partial
        if is_file and not ground.deliveries(known.id):
            found.append(f"I4: upload {known.id} was never delivered")
    return found


def _stuck(ground: Ground, known: Known) -> list[str]:
    """I5, I7: a client that knows nothing but the URL and its file finishes."""
    client = ground.app.test_client()
    url = f"{PREFIX}/{known.id}"
    total = len(known.content)
    head = client.head(url)
    if head.status_code in (404, 410) and (known.doomed or known.acked < 0):
        return []
    if head.status_code != 200:
        return [f"I5: HEAD of upload {known.id} is {head.status}"]
    row = ground.engine.repository.get(known.id)
    if row is not None and row.concat is not None:
        return _stuck_tus(ground, known, row)
    if row is not None and row.is_complete:
        answer = finish(client, url, known.content)
        return _unless_ok(known, "repeated completion", answer.status_code)
    offset = int(head.headers["Upload-Offset"])
    middle = (offset + total + 1) // 2
    for start, stop in ((offset, middle), (middle, total)):
        if start == stop:
            continue
        chunk = known.content[start:stop]
        answer = put_raw(client, chunk, start=start, total=total, url=url)
        if answer.status_code != 200:
            return [f"I7: PUT at {start} of upload {known.id}: {answer.text}"]
    known.acked = total
    answer = finish(client, url, known.content)
    known.completed = answer.status_code == 200
    return _unless_ok(known, "completion", answer.status_code)


def _stuck_tus(ground: Ground, known: Known, row: Upload) -> list[str]:
    """The same for a partial upload, and for a final one, which only is asked for."""
    tus, url = Tus(ground.app.test_client()), f"{PREFIX}/{known.id}"
    if row.partial:
        for stop in ((row.offset + len(known.content) + 1) // 2, len(known.content)):
            start = tus.offset(url)
            answer = tus.patch(url, start, known.content[start:stop])
            if answer.status_code != 204:
                return [f"I7: PATCH at {start} of upload {known.id}: {answer.text}"]
    else:
        with _later(ground.engine):
            head = tus.head(url)
        if head.status_code in (404, 410) and known.doomed:
            return []
        if head.headers.get("Upload-Offset") != str(len(known.content)):
            return [f"I5: final upload {known.id} is not made: {head.headers}"]
    known.acked, known.completed = len(known.content), True
    return []


@contextmanager
def _later(engine: Engine) -> Iterator[None]:
    """Nothing that was begun is still at work."""
    clock = engine.clock
    later = lambda: clock() + max(IDLE, STALE) + timedelta(seconds=1)  # noqa: E731
    engine.clock = later
    try:
        yield
    finally:
        engine.clock = clock


def _unless_ok(known: Known, what: str, status: int) -> list[str]:
    return [] if status == 200 else [f"I5: {what} of upload {known.id} is {status}"]


@contextmanager
def no_grace() -> Iterator[None]:
    """Let ``check`` judge what is young, too: nobody is at work."""
    with mock.patch.object(maintenance, "ORPHAN_AGE", timedelta(0)):
        yield


def broken_after_repair(ground: Ground) -> list[str]:
    """I6: what ``check --repair`` leaves; nobody is at work."""
    found: list[str] = []
    with no_grace():
        for finding in maintenance.check(repair=True):
            if not finding.repaired or finding.kind == "missing":
                found.append(f"I6: {finding.kind} {finding.subject}")
        for finding in maintenance.check():
            found.append(f"I6: after repair: {finding.kind} {finding.subject}")
    return found + [f"I6: {problem}" for problem in ground.unaccounted()]


def descriptors() -> list[str]:
    """What this process has open, for the comparison of I6."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return sorted(found)
