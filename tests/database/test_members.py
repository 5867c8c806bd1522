"""Members in the database: order, waiting, who lives by whom, what is dropped."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import literal, select

from flask_chunked.engine.gate import MAX_WAITING
from flask_chunked.engine.records import Cutoff, NewUpload, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import PartialMissing, TooManyFinals, UploadExpired
from tests.engine.fakes import ScriptedReader

from ..aging import set_row
from ..apps import registered, rows

NOW = datetime(2026, 1, 10, tzinfo=timezone.utc)
#: The moment after which activity counts.
SINCE = NOW - timedelta(days=1)
ACTIVE, IDLE = SINCE + timedelta(seconds=1), SINCE


class Ground:
    """Uploads of one blueprint, made by the engine."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        here = registered(app)
        self.engine, self.repository = here.engine, here.repository
        self.database, self.book = here.database, here.members

    def partial(self, content: bytes = b"", length: int | None = None) -> Upload:
        """Complete without a length."""
        new = NewUpload(
            None,
            "part",
            length=len(content) if length is None else length,
            dialect="tus",
            partial=True,
            concat="partial",
        )
        upload = self.engine.create.upload(new)
        if content:
            upload = self.engine.append.stream(
                upload, 0, None, ScriptedReader(content), exact=False
            )
        if upload.offset == upload.length:
            upload = self.engine.complete.request(upload, None).upload
        return upload

    def final(self, *partials: Upload) -> Upload:
        """Its row alone."""
        new = NewUpload(None, "file", None, "tus", concat="final;...")
        return self.repository.create(
            replace(
                self.engine.create._draft(new, None),
                length=sum(one.length or 0 for one in partials),
            ),
            {},
            None,
            [one.id for one in partials],
        )

    def made(self, *partials: Upload) -> Upload:
        """A complete one."""
        final = self.final(*partials)
        return self.engine.concatenate.assemble(
            final, self.engine.concatenate.members(final)
        )

    def names(self) -> set[tuple[UUID, UUID]]:
        """What the table says: final upload and partial one."""
        m = self.book.table.c
        with self.database.transaction() as connection:
            found = connection.execute(select(m.final_id, m.partial_id)).all()
        return {(final, partial) for final, partial in found}

    def set(self, upload: Upload, **values: object) -> None:
        """Change the row by hand."""
        set_row(self.app, upload.id, **values)


@pytest.fixture
def ground(app: Flask) -> Iterator[Ground]:
    with app.app_context():
        yield Ground(app)


# -- order -----------------------------------------------------------------------------


def test_members_come_in_their_order_and_as_often_as_named(ground: Ground) -> None:
    uploads = [ground.partial(bytes([65 + number])) for number in range(12)]
    order = [3, 0, 11, 3, 7, 0, 3]
    final = ground.final(*(uploads[place] for place in order))
    found = ground.repository.members(final.id)
    assert found == [ground.repository.get(uploads[place].id) for place in order]
    assert ground.repository.members(uuid4()) == []


def test_a_member_that_is_gone_is_none_in_its_place(ground: Ground) -> None:
    a, b = ground.partial(b"a"), ground.partial(b"b")
    final = ground.final(a, b, a)
    ground.engine.remove.terminate(a)
    row = ground.repository.get(b.id)
    assert ground.repository.members(final.id) == [None, row, None]


# -- making the row --------------------------------------------------------------------


def test_being_named_is_activity_of_each_member(ground: Ground) -> None:
    a, b, other = (ground.partial(b"a") for _ in range(3))
    for upload in (a, b, other):
        ground.set(upload, last_activity_at=SINCE)
    final = ground.final(a, b, b)
    moments = [
        row.last_activity_at for row in ground.repository.members(final.id) if row
    ]
    assert set(moments) == {final.created_at}
    left = ground.repository.get(other.id)
    assert left is not None
    assert left.last_activity_at == SINCE


@pytest.mark.parametrize("status", [None, Status.TERMINATING, Status.EXPIRED])
def test_a_final_of_a_member_that_was_given_up_is_not_made(
    ground: Ground, status: Status | None
) -> None:
    a, b = ground.partial(b"a"), ground.partial(b"b")
    ground.set(a, last_activity_at=SINCE)
    if status is None:
        ground.repository.remove(b)
    else:
        ground.set(b, status=status.value)
    with pytest.raises(PartialMissing):
        ground.final(a, b)
    assert ground.names() == set()
    row = ground.repository.get(a.id)
    assert row is not None
    assert row.last_activity_at == SINCE
    assert [row.concat for row in rows(ground.app) if not row.partial] == []


def test_only_partial_uploads_are_named(ground: Ground) -> None:
    a = ground.partial(b"a")
    for other in (
        ground.final(a),
        ground.engine.create.upload(NewUpload(None, "x", 1, "tus")),
    ):
        with pytest.raises(PartialMissing):
            ground.final(a, other)


# -- waiting ---------------------------------------------------------------------------


def test_finals_that_are_open_wait_for_each_of_their_members(ground: Ground) -> None:
    a, b = ground.partial(b"a", 2), ground.partial(b"b")
    both, alone, made = ground.final(a, b, a), ground.final(b), ground.made(b)
    gone = ground.final(a)
    ground.engine.remove.terminate(gone)

    def waiting(partial: Upload) -> set[UUID]:
        return {row.id for row in ground.repository.waiting_finals(partial.id)}

    assert waiting(a) == {both.id}
    assert waiting(b) == {both.id, alone.id}
    assert made.is_complete
    assert waiting(both) == set()


def is_awaited_too_often(ground: Ground, *partials: Upload) -> bool:
    ids = [partial.id for partial in partials]
    with ground.database.transaction() as connection:
        found = connection.execute(ground.book.awaited_too_often(ids)).first()
    return found is not None


def test_a_ninth_final_for_one_unfinished_partial_is_too_many(ground: Ground) -> None:
    a, b = ground.partial(b"a", 2), ground.partial(b"b", 2)
    for number in range(MAX_WAITING):
        assert not is_awaited_too_often(ground, a)
        # Named twice by one it is waited for once.
        ground.final(a, a, *[b] * (number % 2))
    assert is_awaited_too_often(ground, b, a)
    assert not is_awaited_too_often(ground, b)
    before = ground.names()
    ground.set(b, last_activity_at=SINCE)
    with pytest.raises(TooManyFinals) as caught:
        ground.final(b, a)
    assert (caught.value.status, caught.value.most) == (429, 8)
    assert ground.names() == before
    row = ground.repository.get(b.id)
    assert row is not None
    assert row.last_activity_at == SINCE
    ground.final(b)


@pytest.mark.parametrize("end", ["complete", "terminated", "expired", "partial"])
def test_a_final_that_waits_no_more_makes_room_for_another(
    ground: Ground, end: str
) -> None:
    a = ground.partial(b"a", 2)
    finals = [ground.final(a) for _ in range(MAX_WAITING)]
    assert is_awaited_too_often(ground, a)
    if end == "terminated":
        ground.engine.remove.terminate(finals[0])
    elif end == "partial":
        # The finals of a complete partial are made, or are about to be.
        ground.set(a, status="complete")
    else:
        ground.set(finals[0], status=end)
    assert not is_awaited_too_often(ground, a)
    assert ground.final(a)


def test_a_final_that_is_being_completed_waits_still(ground: Ground) -> None:
    a = ground.partial(b"a", 2)
    for _ in range(MAX_WAITING):
        ground.set(ground.final(a), status="completing")
    assert is_awaited_too_often(ground, a)


# -- named -----------------------------------------------------------------------------

#: What becomes of the final -> does it name its member still?
NAMED: dict[str, tuple[Callable[[Ground, Upload], object], bool]] = {
    "waiting": (lambda ground, final: None, True),
    "completing": (lambda ground, final: ground.set(final, status="completing"), True),
    "complete": (
        lambda ground, final: ground.set(final, status="complete", completed_at=NOW),
        True,
    ),
    "complete-on-its-way-out": (
        lambda ground, final: ground.set(final, status="terminating", completed_at=NOW),
        True,
    ),
    "complete-and-gone": (
        lambda ground, final: ground.repository.remove(
            replace(final, completed_at=NOW)
        ),
        True,
    ),
    "on-its-way-out": (
        lambda ground, final: ground.set(final, status="terminating"),
        False,
    ),
    "expired": (lambda ground, final: ground.set(final, status="expired"), False),
    "gone": (lambda ground, final: ground.repository.remove(final), False),
}


@pytest.mark.parametrize("state", NAMED)
def test_a_final_names_its_members_until_it_is_given_up(
    ground: Ground, state: str
) -> None:
    become, expected = NAMED[state]
    a, other = ground.partial(b"a"), ground.partial(b"b")

    def is_named(partial: Upload) -> bool:
        named = ground.book.is_named(
            literal(partial.id, ground.book.table.c.partial_id.type)
        )
        with ground.database.transaction() as connection:
            return bool(connection.execute(select(named)).scalar_one())

    assert not is_named(a)
    become(ground, ground.final(a))
    assert is_named(a) is expected
    assert not is_named(other)


# -- what is dropped -------------------------------------------------------------------


def test_memberships_are_removed_with_an_unfinished_final(ground: Ground) -> None:
    a, b = ground.partial(b"a", 2), ground.partial(b"b")
    one, two = ground.final(a, b), ground.final(b)
    ground.engine.remove.terminate(one)
    assert ground.names() == {(two.id, b.id)}


def test_names_outlive_a_complete_final_as_long_as_their_partial_uploads(
    ground: Ground,
) -> None:
    a, b = ground.partial(b"a"), ground.partial(b"b")
    final = ground.made(a, b)
    ground.engine.remove.terminate(a)
    # Members of a final are never fewer than it was made of, while it is there.
    assert ground.names() == {(final.id, a.id), (final.id, b.id)}
    ground.engine.remove.terminate(final)
    assert ground.names() == {(final.id, b.id)}
    ground.engine.remove.terminate(b)
    assert ground.names() == set()


def test_a_waiting_final_keeps_the_name_of_a_partial_upload_that_is_gone(
    ground: Ground,
) -> None:
    a, b = ground.partial(b"a", 2), ground.partial(b"b")
    waiting, made = ground.final(a, b), ground.made(b)
    ground.engine.remove.terminate(b)
    kept = {(waiting.id, a.id), (waiting.id, b.id), (made.id, b.id)}
    assert ground.names() == kept
    with pytest.raises(PartialMissing):
        ground.engine.concatenate.members(waiting)
    ground.engine.remove.terminate(waiting)
    assert ground.names() == {(made.id, b.id)}
    ground.engine.remove.terminate(made)
    assert ground.names() == set()


def test_an_ordinary_upload_has_no_names_to_drop(ground: Ground) -> None:
    a = ground.partial(b"a", 2)
    final = ground.final(a)
    upload = ground.engine.create.upload(NewUpload(None, "x", 1, "tus"))
    ground.engine.remove.terminate(upload)
    assert ground.names() == {(final.id, a.id)}


# -- who lives by whom -----------------------------------------------------------------


def expirable(ground: Ground) -> set[UUID]:
    """What is found, and would be given up now."""
    cutoff = Cutoff(idle_since=SINCE, created_before=None)
    return {row.id for row in ground.repository.expirable(cutoff, expired_too=False)}


@pytest.mark.parametrize(
    ("a", "b", "final", "status", "kept"),
    [
        pytest.param(IDLE, IDLE, IDLE, "uploading", "", id="all-idle"),
        pytest.param(ACTIVE, IDLE, IDLE, "uploading", "abf", id="a-member-is-active"),
        pytest.param(IDLE, IDLE, ACTIVE, "uploading", "abf", id="the-final-is-new"),
        pytest.param(ACTIVE, IDLE, IDLE, "completing", "abf", id="it-is-completing"),
        pytest.param(ACTIVE, IDLE, IDLE, "complete", "af", id="it-is-complete"),
        pytest.param(IDLE, IDLE, ACTIVE, "complete", "f", id="it-was-just-completed"),
        pytest.param(
            ACTIVE, IDLE, IDLE, "terminating", "af", id="it-is-on-its-way-out"
        ),
        pytest.param(ACTIVE, IDLE, IDLE, "expired", "af", id="it-is-expired"),
    ],
)
def test_a_concatenation_that_waits_lives_by_any_of_its_uploads(
    ground: Ground,
    a: datetime,
    b: datetime,
    final: datetime,
    status: str,
    kept: str,
) -> None:
    uploads = {"a": ground.partial(b"a"), "b": ground.partial(b"b", 2)}
    uploads["f"] = ground.final(*uploads.values())
    stranger = ground.partial(b"c")
    ground.set(stranger, last_activity_at=IDLE)
    for name, moment in zip("abf", (a, b, final), strict=True):
        ground.set(uploads[name], last_activity_at=moment)
    ground.set(uploads["f"], status=status)
    gone = {upload.id for name, upload in uploads.items() if name not in kept}
    assert expirable(ground) == gone | {stranger.id}
    # The statement that gives up decides alike, and changes nothing of the others.
    cutoff = Cutoff(idle_since=SINCE, created_before=None)
    given_up = {
        upload.id
        for upload in uploads.values()
        if ground.repository.begin_expiry(upload.id, cutoff) is not None
    }
    assert given_up == gone


def test_a_lifetime_ends_however_active_the_others_are(ground: Ground) -> None:
    a, b = ground.partial(b"a"), ground.partial(b"b", 2)
    final = ground.final(a, b)
    ground.set(a, created_at=SINCE)
    cutoff = Cutoff(idle_since=SINCE, created_before=SINCE)
    found = {row.id for row in ground.repository.expirable(cutoff, expired_too=False)}
    assert found == {a.id}
    assert ground.repository.begin_expiry(final.id, cutoff) is None
    assert ground.repository.begin_expiry(a.id, cutoff) is not None


def test_group_activity_is_the_last_of_the_waiting_concatenation(
    ground: Ground,
) -> None:
    def at(day: int) -> datetime:
        return NOW + timedelta(days=day)

    a, b, c = (ground.partial(b"x", 2) for _ in range(3))
    first, second = ground.final(a, b), ground.final(b, c)
    for day, upload in enumerate((a, b, c, first, second)):
        ground.set(upload, last_activity_at=at(day))

    def activity(upload: Upload) -> datetime | None:
        return ground.repository.group_activity(upload)

    # Of a final: its members'; of a member: its finals' and their members'.
    assert [activity(first), activity(second)] == [at(1), at(2)]
    assert [activity(a), activity(b), activity(c)] == [at(3), at(4), at(4)]
    ground.engine.remove.terminate(second)
    assert [activity(a), activity(b), activity(c)] == [at(3), at(3), None]


def test_statement_and_engine_agree_on_what_is_alive(ground: Ground) -> None:
    """The engine asks row by row, the clean-up with one query."""
    chance = random.Random(17)
    partials = [ground.partial(b"x", chance.randint(1, 2)) for _ in range(12)]
    finals = [
        ground.final(*chance.sample(partials, chance.randint(1, 3))) for _ in range(8)
    ]
    uploads: list[Any] = [*partials, *finals]
    engine = ground.engine
    engine.clock = lambda: NOW
    engine.expiry._idle = timedelta(days=1)
    for _ in range(8):
        for upload in uploads:
            moment = chance.choice([ACTIVE, IDLE, IDLE, IDLE, IDLE])
            ground.set(upload, last_activity_at=moment)
        for final in finals:
            ground.set(final, status=chance.choice(["uploading", "complete"]))
        found = expirable(ground)
        for upload in uploads:
            row = ground.repository.get(upload.id)
            assert row is not None
            assert is_expired(ground, row) is (row.id in found)


def is_expired(ground: Ground, row: Upload) -> bool:
    try:
        ground.engine.expiry.require_live(row)
    except UploadExpired:
        return True
    return False
