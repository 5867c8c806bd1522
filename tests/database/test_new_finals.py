"""Inserting final uploads: the members' activity, and how many finals may wait."""

from __future__ import annotations

import pytest

from flask_chunked.engine.gate import MAX_WAITING
from flask_chunked.engine.records import NewUpload, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import PartialMissing, TooManyFinals

from ..apps import rows
from .conftest import SINCE, Concatenations

# -- making the row --------------------------------------------------------------------


def test_being_named_is_activity_of_each_member(factory: Concatenations) -> None:
    a, b, other = (factory.partial(b"a") for _ in range(3))
    for upload in (a, b, other):
        factory.set(upload, last_activity_at=SINCE)
    final = factory.final(a, b, b)
    moments = [
        row.last_activity_at for row in factory.repository.members(final.id) if row
    ]
    assert set(moments) == {final.created_at}
    left = factory.repository.get(other.id)
    assert left is not None
    assert left.last_activity_at == SINCE


@pytest.mark.parametrize("status", [None, Status.TERMINATING, Status.EXPIRED])
def test_a_final_of_a_member_that_was_given_up_is_not_made(
    factory: Concatenations, status: Status | None
) -> None:
    a, b = factory.partial(b"a"), factory.partial(b"b")
    factory.set(a, last_activity_at=SINCE)
    if status is None:
        factory.repository.remove(b)
    else:
        factory.set(b, status=status.value)
    with pytest.raises(PartialMissing):
        factory.final(a, b)
    assert factory.names() == set()
    row = factory.repository.get(a.id)
    assert row is not None
    assert row.last_activity_at == SINCE
    assert [row.concat for row in rows(factory.app) if not row.partial] == []


def test_only_partial_uploads_are_named(factory: Concatenations) -> None:
    a = factory.partial(b"a")
    for other in (
        factory.final(a),
        factory.engine.create.upload(NewUpload(None, "x", 1, "tus")),
    ):
        with pytest.raises(PartialMissing):
            factory.final(a, other)


def is_awaited_too_often(factory: Concatenations, *partials: Upload) -> bool:
    ids = [partial.id for partial in partials]
    with factory.database.transaction() as connection:
        found = connection.execute(factory.members.awaited_too_often(ids)).first()
    return found is not None


def test_a_ninth_final_for_one_unfinished_partial_is_too_many(
    factory: Concatenations,
) -> None:
    a, b = factory.partial(b"a", 2), factory.partial(b"b", 2)
    for number in range(MAX_WAITING):
        assert not is_awaited_too_often(factory, a)
        # Named twice by one it is waited for once.
        factory.final(a, a, *[b] * (number % 2))
    assert is_awaited_too_often(factory, b, a)
    assert not is_awaited_too_often(factory, b)
    before = factory.names()
    factory.set(b, last_activity_at=SINCE)
    with pytest.raises(TooManyFinals) as caught:
        factory.final(b, a)
    assert (caught.value.status, caught.value.most) == (429, 8)
    assert factory.names() == before
    row = factory.repository.get(b.id)
    assert row is not None
    assert row.last_activity_at == SINCE
    factory.final(b)


@pytest.mark.parametrize("end", ["complete", "terminated", "expired", "partial"])
def test_a_final_that_waits_no_more_makes_room_for_another(
    factory: Concatenations, end: str
) -> None:
    a = factory.partial(b"a", 2)
    finals = [factory.final(a) for _ in range(MAX_WAITING)]
    assert is_awaited_too_often(factory, a)
    if end == "terminated":
        factory.engine.remove.terminate(finals[0])
    elif end == "partial":
        # The finals of a complete partial are made, or are about to be.
        factory.set(a, status="complete")
    else:
        factory.set(finals[0], status=end)
    assert not is_awaited_too_often(factory, a)
    assert factory.final(a)


def test_a_final_that_is_being_completed_waits_still(factory: Concatenations) -> None:
    a = factory.partial(b"a", 2)
    for _ in range(MAX_WAITING):
        factory.set(factory.final(a), status="completing")
    assert is_awaited_too_often(factory, a)
