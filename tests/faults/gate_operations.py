"""More that can be interrupted: concatenations, and removals that quotas count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete

from flask_chunked import maintenance
from flask_chunked.engine.records import NewUpload
from flask_chunked.engine.writer import UploadWriter
from flask_chunked.exceptions import ChunkedUploadError, UnknownUpload
from tests.dialects.tus import Tus
from tests.exchange import PREFIX

from .ground import PARTS, Ground, Recording, append_staged, content
from .invariants import Known
from .operations import (
    COMPLETION,
    OPERATIONS,
    REMOVAL,
    Operation,
    begun,
    complete,
    create,
    row_of,
    steps,
    terminate,
)

#: Limits that nothing reaches, so that all is counted.
COUNTED: Mapping[str, Any] = {
    "CHUNKED_UPLOAD_MAX_OPEN_UPLOADS": 100,
    "CHUNKED_UPLOAD_MAX_TOTAL_BYTES": 10**6,
    "CHUNKED_UPLOAD_MAX_STORED_BYTES": 10**6,
    "CHUNKED_UPLOAD_MAX_BYTES": 10**5,
}
#: Bytes that the last member of a waiting final upload lacks.
LEFT = 1_500
#: Bytes of a file whose length comes late.
SHORT = 20


class Inspecting(Recording):
    """Refuses what it is shown, where the test wants that."""

    minds = False

    def inspect(self, upload: Any, head: bytes) -> None:
        if self.minds:
            raise ChunkedUploadError("not this file")


# -- preparations ----------------------------------------------------------------------


def _part(ground: Ground, length: int, left: int = 0) -> Known:
    """A partial upload that lacks so many bytes."""
    upload = ground.create_partial(length)
    known = Known(upload.id, content(upload.id, length), acked=length - left)
    append_staged(ground.engine, upload, 0, known.content[: length - left])
    if not left:
        ground.engine.complete.request(row_of(ground, known), None)
        known.completed = True
    return known


def _parts(ground: Ground, left: int = 0) -> Known:
    """The last of the members, with all the others."""
    first, last = _part(ground, PARTS[0]), _part(ground, PARTS[1], left)
    last.others = [first]
    return last


def _whole(last: Known) -> list[Known]:
    return [*last.others, last]


def _final(ground: Ground, last: Known) -> Known:
    """A final upload that nothing is made of yet, with its members."""
    members = _whole(last)
    upload = ground.create_final([one.id for one in members])
    whole = b"".join(one.content for one in members)
    return Known(upload.id, whole, acked=0, others=members)


def _waiting(ground: Ground) -> Known:
    """The last member, with all the others and the final upload."""
    last = _parts(ground, LEFT)
    last.others.append(_final(ground, last))
    return last


def _waiting_final(ground: Ground) -> Known:
    return _final(ground, _parts(ground, LEFT))


def _waiting_to_be_dropped(ground: Ground) -> Known:
    known = _waiting_final(ground)
    for member in known.others:
        member.doomed = True
    return known


def _half_made(ground: Ground) -> Known:
    """Its maker died after the first member."""
    known = _final(ground, _parts(ground))
    engine = ground.engine
    claimed = engine.repository.claim(known.id, 0)
    members = engine.concatenate.members(row_of(ground, known))
    assert claimed is not None
    with engine.append.writing(UploadWriter(claimed, engine.ports)) as writer:
        blob, start = members.from_offset(0)[0]
        writer.copy(blob, start)
    known.acked = PARTS[0]
    _age(ground, known)
    return known


def _finished_final(ground: Ground) -> Known:
    known = _final(ground, _parts(ground))
    engine, row = ground.engine, row_of(ground, known)
    engine.concatenate.assemble(row, engine.concatenate.members(row))
    known.acked, known.completed = len(known.content), True
    return known


def _member(ground: Ground) -> Known:
    """A member that is to go: its final upload can never be made."""
    last = _waiting(ground)
    last.others[-1].doomed = True
    return last


def _idle_part(ground: Ground) -> Known:
    known = _part(ground, PARTS[0])
    _age(ground, known)
    return known


def _idle_concatenation(ground: Ground) -> Known:
    # Time gives them up in the order of their ids, and the last one finds no directory.
    ids = map(UUID, (f"{number:032x}" for number in count(uuid4().int >> 1)))
    ground.engine.create._new_id = lambda: next(ids)
    known = _waiting_final(ground)
    for one in (known, *known.others):
        one.doomed = True
        _age(ground, one)
    return known


def _age(ground: Ground, known: Known) -> None:
    long_ago = ground.engine.clock() - timedelta(days=3)
    if not known.doomed and known.others:
        # Old enough for the next request, and too young to expire.
        long_ago = ground.engine.clock() - timedelta(minutes=5)
    ground.set_columns(known.id, last_activity_at=long_ago)


def _deferred(ground: Ground) -> Known:
    new = NewUpload(user=None, filename="late.bin", length=None, dialect="tus")
    upload = ground.engine.create.upload(new)
    known = Known(upload.id, content(upload.id, SHORT), acked=SHORT, has_length=False)
    append_staged(ground.engine, upload, 0, known.content)
    return known


def _uncounted(ground: Ground) -> Known:
    known = begun(ground)
    here = ground.here
    assert here.quotas is not None
    with here.database.transaction() as connection:
        connection.execute(delete(here.quotas.table))
    ground.set_columns(known.id, reserved=None)
    return known


# -- operations ------------------------------------------------------------------------


def _url(known: Known) -> str:
    return f"{PREFIX}/{known.id}"


def _client(ground: Ground) -> Tus:
    return Tus(ground.app.test_client())


def _concatenate(ground: Ground, known: Known) -> None:
    answer = _client(ground).final(*map(_url, _whole(known)))
    assert answer.status_code == 201, answer.text


def _send_the_rest(ground: Ground, known: Known) -> None:
    offset = row_of(ground, known).offset
    answer = _client(ground).patch(_url(known), offset, known.content[offset:])
    assert answer.status_code == 204, answer.text


def _send_the_rest_of_the_last(ground: Ground, final: Known) -> None:
    last = ground.engine.repository.get(final.others[-1].id)
    # Else it was dropped already.
    if last is not None:
        _send_the_rest(ground, final.others[-1])


def _ask(ground: Ground, known: Known) -> None:
    answer = _client(ground).head(_url(known))
    assert answer.status_code == 200, answer.status


def _expire(ground: Ground, _: Known) -> None:
    maintenance.delete_expired()


def _declare(ground: Ground, known: Known) -> None:
    blueprint = ground.blueprint
    assert isinstance(blueprint, Inspecting)
    blueprint.minds = True
    answer = _client(ground).patch(_url(known), SHORT, Upload_Length=str(SHORT))
    blueprint.minds = False
    assert answer.status_code in (422, 404), answer.text


# -- the table -------------------------------------------------------------------------

_MAKING = {
    *("row claim", "row advance", "lock file", "unlock file", "sync file"),
    *("create file", "copy", "sync directory", "rename to finished"),
    # Of a file that was finished too early, if there is one.
    "unlink file",
}
_LAST_BYTES = _MAKING | {"write file"}
_GONE = REMOVAL | {"row terminate"}
_LOCKED = {"lock file", "unlock file"}

GATE: dict[str, Operation] = {
    "concatenation": Operation(
        steps(_MAKING, COMPLETION, {"row create"}), _parts, _concatenate
    ),
    "concatenation that counts": Operation(
        steps(_MAKING, COMPLETION, {"row create"}),
        _parts,
        _concatenate,
        config=COUNTED,
    ),
    "last bytes of a waiting concatenation": Operation(
        steps(_LAST_BYTES, COMPLETION), _waiting, _send_the_rest
    ),
    "last bytes of a waiting concatenation that counts": Operation(
        steps(_LAST_BYTES, COMPLETION), _waiting, _send_the_rest, config=COUNTED
    ),
    "concatenation that is gone on with": Operation(
        steps(_MAKING - {"create file", "unlink file"}, COMPLETION),
        _half_made,
        _ask,
    ),
    "concatenation that drops its members": Operation(
        steps(_LAST_BYTES, COMPLETION, _GONE),
        _waiting_to_be_dropped,
        _send_the_rest_of_the_last,
        config={**COUNTED, "CHUNKED_UPLOAD_KEEP_PARTIALS": False},
    ),
    "first creation that counts": Operation(
        steps({"row create"}), _uncounted, create, config=COUNTED
    ),
    "termination that counts": Operation(
        steps(_GONE, _LOCKED),
        begun,
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
        config=COUNTED,
    ),
    "deletion that counts": Operation(
        steps(_GONE),
        complete,
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
        config=COUNTED,
    ),
    "termination of a partial upload": Operation(
        steps(_GONE),
        lambda ground: _part(ground, PARTS[0]),
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
        config=COUNTED,
    ),
    "termination of a member": Operation(
        steps(_GONE, _LOCKED),
        _member,
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
        config=COUNTED,
    ),
    "termination of a waiting final upload": Operation(
        steps(_GONE),
        _waiting_final,
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
        config=COUNTED,
    ),
    "deletion of a final upload": Operation(
        steps(_GONE),
        _finished_final,
        terminate,
        doomed=True,
        forgives=(UnknownUpload,),
        config=COUNTED,
    ),
    "expiry of a complete partial upload": Operation(
        steps(REMOVAL, {"row expire"}),
        _idle_part,
        _expire,
        doomed=True,
        config=COUNTED,
    ),
    "expiry of a waiting concatenation": Operation(
        steps(REMOVAL, _LOCKED, {"row expire"}),
        _idle_concatenation,
        _expire,
        doomed=True,
        config=COUNTED,
    ),
    "declaration that is refused": Operation(
        steps(_GONE, _LOCKED),
        _deferred,
        _declare,
        doomed=True,
        config={**COUNTED, "blueprint_class": Inspecting},
    ),
}
ALL: dict[str, Operation] = {**OPERATIONS, **GATE}
