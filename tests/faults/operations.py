"""What can be interrupted: each operation with the steps that it consists of.

The lists are data: a driver kills at each of them, and a step that is taken and not
listed is an error like one that is listed and not taken.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flask_chunked import maintenance
from flask_chunked.engine.records import ExpectedDigest, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    AlreadyComplete,
    ChecksumMismatch,
    OffsetMismatch,
    UnknownUpload,
)

from .ground import Ground, append_form, append_staged, append_streamed, content
from .invariants import Known, no_grace

#: Bytes of each upload, and of what is there before a later chunk.
LENGTH, BEFORE = 9_001, 4_000
#: Bytes beyond the offset, as crashes leave them.
UNCOMMITTED = b"never acknowledged" * 40

Errors = tuple[type[Exception], ...]


@dataclass(frozen=True)
class Operation:
    """Something that a process may die in.

    :param steps: names without their moments.
    :param prepare: makes what the operation needs; what clients know then.
    :param run: the operation; repeated after the kill.
    :param doomed: it ends the upload.
    :param config: of the ground's app.
    :param forgives: what a repeat after a success may be told.
    """

    steps: frozenset[str]
    prepare: Callable[[Ground], Known]
    run: Callable[[Ground, Known], None]
    doomed: bool = False
    forgives: Errors = ()
    config: Mapping[str, Any] = field(default_factory=dict)


# -- preparations ----------------------------------------------------------------------


def _new(ground: Ground, length: int = LENGTH) -> Known:
    upload = ground.create(length)
    return Known(upload.id, content(upload.id, length), acked=0)


def row_of(ground: Ground, known: Known) -> Upload:
    row = ground.engine.repository.get(known.id)
    if row is None:
        raise UnknownUpload()
    return row


def begun(ground: Ground) -> Known:
    known = _new(ground)
    row = row_of(ground, known)
    append_staged(ground.engine, row, 0, known.content[:BEFORE])
    known.acked = BEFORE
    return known


def _with_uncommitted(ground: Ground) -> Known:
    known = begun(ground)
    path = ground.stored_path(row_of(ground, known))
    assert path is not None
    with path.open("ab") as file:
        file.write(UNCOMMITTED)
    return known


def _full(ground: Ground) -> Known:
    known = _new(ground)
    append_staged(ground.engine, row_of(ground, known), 0, known.content)
    known.acked = LENGTH
    return known


def _finalized(ground: Ground) -> Known:
    """A completion died after it had renamed the file."""
    known = _full(ground)
    begun = ground.engine.repository.begin_completion(
        known.id, ground.engine.clock(), None
    )
    assert begun is not None and begun.blob is not None
    ground.engine.storage.finalize(begun.blob)
    return known


def complete(ground: Ground) -> Known:
    known = _full(ground)
    _finish(ground, known)
    known.completed = True
    return known


def _undelivered(ground: Ground) -> Known:
    ground.blueprint.refuses = True
    known = complete(ground)
    ground.blueprint.refuses = False
    return known


def _to_be_moved(ground: Ground) -> Known:
    known = _full(ground)
    known.destination = ground.directory / "moved.bin"
    ground.blueprint.destination = known.destination
    return known


def _idle(ground: Ground) -> Known:
    known = begun(ground)
    long_ago = ground.engine.clock() - timedelta(days=3)
    ground.set_columns(known.id, last_activity_at=long_ago)
    return known


def _several_idle(ground: Ground) -> Known:
    """Uploads that expire in one transaction."""
    known, *others = (_idle(ground) for _ in range(3))
    for one in others:
        one.doomed = True
    known.others = others
    return known


def _untidy(ground: Ground) -> Known:
    """Uncommitted bytes, an orphan, a stage, a half-done removal and expiry."""
    with ground.engine.storage.stage() as stage:
        stage.write(b"left behind")
        staging = ground.directory / "instance/chunked_uploads/.staging"
        (staged,) = staging.iterdir()
        os.link(staged, staging / hashlib.md5(b"left").hexdigest())
    orphan = _full(ground)
    now = ground.engine.clock()
    ground.engine.repository.terminate(orphan.id, now)
    ground.engine.repository.forget_removals([orphan.id])
    assert ground.engine.repository.terminate(_full(ground).id, now) is not None
    expired = _full(ground)
    ground.set_columns(expired.id, status="expired")
    return _with_uncommitted(ground)


# -- operations ------------------------------------------------------------------------


def create(ground: Ground, _: Known) -> None:
    ground.create(LENGTH)


def _create_with_bytes(ground: Ground, _: Known) -> None:
    ground.create_with(LENGTH, BEFORE)


def _create_whole(ground: Ground, _: Known) -> None:
    ground.create_with(LENGTH, LENGTH)


def _stream(ground: Ground, known: Known) -> None:
    row, start = row_of(ground, known), max(known.acked, 0)
    rest = known.content[start:]
    # The silence in the middle makes two commits of it.
    blocks = [rest[:1000], rest[1000:2000], None, rest[2000:]]
    append_streamed(ground.engine, row, start, blocks)


def _stream_and_finish(ground: Ground, known: Known) -> None:
    row = row_of(ground, known)
    if row.status is Status.UPLOADING:
        rest = [known.content[row.offset :]]
        row = append_streamed(ground.engine, row, row.offset, rest, finishing=True)
        if not row.is_complete:
            ground.engine.complete.finish(row)
    else:
        ground.engine.complete.request(row, None)


def _stage(ground: Ground, known: Known) -> None:
    row, start = row_of(ground, known), max(known.acked, 0)
    append_staged(ground.engine, row, start, known.content[start : start + 3000])


def _hold(ground: Ground, known: Known) -> None:
    row, start = row_of(ground, known), known.acked
    append_form(ground.engine, row, start, known.content[start : start + 3000])


def _hold_at_once(ground: Ground, known: Known) -> None:
    row, start = row_of(ground, known), known.acked
    chunk = known.content[start : start + 3000]
    append_form(ground.engine, row, start, chunk, at_once=True)


def _take_over(ground: Ground, known: Known) -> None:
    ground.engine.append.take_over(row_of(ground, known))


def _finish(ground: Ground, known: Known) -> None:
    digest = hashlib.md5(known.content).hexdigest()
    ground.engine.complete.request(row_of(ground, known), ExpectedDigest("md5", digest))


def _finish_unchecked(ground: Ground, known: Known) -> None:
    ground.engine.complete.request(row_of(ground, known), None)


def _finish_wrongly(ground: Ground, known: Known) -> None:
    ground.engine.complete.request(
        row_of(ground, known), ExpectedDigest("md5", "0" * 32)
    )


def terminate(ground: Ground, known: Known) -> None:
    ground.engine.remove.terminate(row_of(ground, known))


def _expire(ground: Ground, _: Known) -> None:
    list(maintenance.delete_expired())


def _expire_but_keep(ground: Ground, _: Known) -> None:
    list(maintenance.delete_expired(keep_records=True))


def _deliver(ground: Ground, _: Known) -> None:
    list(maintenance.deliver_pending(older_than=timedelta(0), retry_now=True))


def _repair(ground: Ground, _: Known) -> None:
    with no_grace():
        list(maintenance.check(repair=True))


# -- the table -------------------------------------------------------------------------

_SECTION = {"lock file", "unlock file", "sync file", "row claim", "row advance"}
STAGING = {"create stage", "lock stage", "write stage", "unlink stage"}
COMPLETION = {
    "row begin_completion",
    "lock file",
    "unlock file",
    "sync directory",
    "row complete",
    "row claim_delivery",
    "deliver",
    "row mark_delivered",
}
_CONFIRMATION = (COMPLETION - {"lock file", "unlock file"}) | {"unlink file"}
REMOVAL = {"unlink file", "sync directory", "rmdir", "row forget_removals"}
_PUT = {
    *("mkdir", "create file", "lock file", "write file", "sync file"),
    *("sync directory", "unlock file"),
}
DELIVERY = {"row claim_delivery", "deliver", "row mark_delivered"}


def steps(*groups: set[str]) -> frozenset[str]:
    return frozenset[str]().union(*groups)


OPERATIONS: dict[str, Operation] = {
    "creation": Operation(steps({"row create"}), _new, create),
    "creation with first bytes": Operation(
        steps(_PUT, {"row create"}), _new, _create_with_bytes
    ),
    "creation with all bytes": Operation(
        steps(_PUT, {"row create"}, DELIVERY), _new, _create_whole
    ),
    "all bytes in one body": Operation(
        steps(
            _PUT,
            {"link to finished", "unlink file", "row advance"},
            DELIVERY,
        ),
        _new,
        _stream_and_finish,
    ),
    "completion at once": Operation(
        steps(
            {"lock file", "rename to finished", "sync directory", "unlock file"},
            {"row finish"},
            DELIVERY,
        ),
        _full,
        _finish_unchecked,
    ),
    "first streamed chunk": Operation(
        steps(
            _SECTION,
            {"mkdir", "create file", "write file", "sync directory"},
            # Of a file that was finished too early, if there is one.
            {"unlink file"},
        ),
        _new,
        _stream,
        forgives=(OffsetMismatch,),
    ),
    "later streamed chunk": Operation(
        steps(_SECTION, {"truncate", "write file"}),
        _with_uncommitted,
        _stream,
        forgives=(OffsetMismatch,),
    ),
    "first staged chunk": Operation(
        steps(
            _SECTION,
            STAGING - {"unlink stage"},
            {"mkdir", "create file", "rename stage to file", "sync directory"},
            {"unlink file"},
        ),
        _new,
        _stage,
    ),
    "later staged chunk": Operation(
        steps(_SECTION, STAGING, {"truncate", "copy"}), _with_uncommitted, _stage
    ),
    "atomic chunk at once": Operation(
        steps(_SECTION - {"row claim"}, {"write file"}),
        begun,
        _hold_at_once,
        forgives=(OffsetMismatch,),
    ),
    "atomic chunk": Operation(
        steps(_SECTION, {"truncate", "write file"}),
        _with_uncommitted,
        _hold,
        forgives=(OffsetMismatch,),
    ),
    "last chunk with completion": Operation(
        steps(
            _SECTION,
            {"truncate", "write file", "rename to finished"},
            COMPLETION - {"row begin_completion"},
        ),
        _with_uncommitted,
        _stream_and_finish,
    ),
    "take-over": Operation(steps({"row take_over"}), begun, _take_over),
    "completion": Operation(steps(COMPLETION, {"rename to finished"}), _full, _finish),
    "completion with uncommitted bytes": Operation(
        steps(COMPLETION, {"rename to finished", "truncate", "sync file"}),
        lambda ground: _full_with_uncommitted(ground),
        _finish,
    ),
    "second completion after a kill": Operation(
        steps(_CONFIRMATION),
        _finalized,
        _finish,
    ),
    "completion of nothing": Operation(
        steps(_CONFIRMATION, {"mkdir", "create file"}),
        lambda ground: _new(ground, 0),
        _finish,
    ),
    "refused completion": Operation(
        steps({"row begin_completion", "row refuse_completion"}),
        _full,
        _finish_wrongly,
        forgives=(ChecksumMismatch,),
    ),
    "termination": Operation(
        steps(REMOVAL, {"lock file", "unlock file", "row terminate"}),
        begun,
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
    ),
    "deletion": Operation(
        steps(REMOVAL, {"row terminate"}),
        complete,
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
    ),
    "expiry": Operation(
        steps(REMOVAL, {"lock file", "unlock file", "row expire"}),
        _idle,
        _expire,
        doomed=True,
    ),
    "expiry of several uploads": Operation(
        steps(REMOVAL, {"lock file", "unlock file", "row expire_all"}),
        _several_idle,
        _expire,
        doomed=True,
    ),
    "expiry with a record": Operation(
        steps(
            REMOVAL - {"row forget_removals"},
            {"lock file", "unlock file", "row begin_expiry"},
        ),
        _idle,
        _expire_but_keep,
        doomed=True,
    ),
    "delivery": Operation(steps(DELIVERY), _undelivered, _deliver),
    "delivery by move": Operation(
        steps(
            COMPLETION,
            {"rename to finished", "move", "unlink file", "rmdir", "row forget_file"},
        ),
        _to_be_moved,
        _finish,
    ),
    "repair": Operation(
        steps(
            {"lock stage", "unlock stage", "unlink stage", "lock file", "unlock file"},
            {"truncate", "unlink file", "sync directory", "rmdir"},
            {"row forget_removals", "row claim"},
        ),
        _untidy,
        _repair,
    ),
}
#: Told by a repeat of any operation that came to its end before the kill.
DONE: Errors = (AlreadyComplete,)


def _full_with_uncommitted(ground: Ground) -> Known:
    known = _full(ground)
    path = ground.stored_path(row_of(ground, known))
    assert path is not None
    with path.open("ab") as file:
        file.write(UNCOMMITTED)
    return known
