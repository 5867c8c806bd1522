"""Members in the database: their order, which finals wait, what is dropped."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import literal, select

from flask_chunked.engine.records import NewUpload, Upload
from flask_chunked.exceptions import PartialMissing

from .conftest import NOW, Concatenations

# -- order -----------------------------------------------------------------------------


def test_members_come_in_their_order_and_as_often_as_named(
    factory: Concatenations,
) -> None:
    uploads = [factory.partial(bytes([65 + number])) for number in range(12)]
    order = [3, 0, 11, 3, 7, 0, 3]
    final = factory.final(*(uploads[place] for place in order))
    found = factory.repository.members(final.id)
    assert found == [factory.repository.get(uploads[place].id) for place in order]
    assert factory.repository.members(uuid4()) == []


def test_a_member_that_is_gone_is_none_in_its_place(factory: Concatenations) -> None:
    a, b = factory.partial(b"a"), factory.partial(b"b")
    final = factory.final(a, b, a)
    factory.engine.remove.terminate(a)
    row = factory.repository.get(b.id)
    assert factory.repository.members(final.id) == [None, row, None]


# -- waiting ---------------------------------------------------------------------------


def test_finals_that_are_open_wait_for_each_of_their_members(
    factory: Concatenations,
) -> None:
    a, b = factory.partial(b"a", 2), factory.partial(b"b")
    both, alone, made = factory.final(a, b, a), factory.final(b), factory.made(b)
    gone = factory.final(a)
    factory.engine.remove.terminate(gone)

    def waiting(partial: Upload) -> set[UUID]:
        return {row.id for row in factory.repository.waiting_finals(partial.id)}

    assert waiting(a) == {both.id}
    assert waiting(b) == {both.id, alone.id}
    assert made.is_complete
    assert waiting(both) == set()


# -- named -----------------------------------------------------------------------------

#: What becomes of the final -> does it name its member still?
NAMED: dict[str, tuple[Callable[[Concatenations, Upload], object], bool]] = {
    "waiting": (lambda factory, final: None, True),
    "completing": (
        lambda factory, final: factory.set(final, status="completing"),
        True,
    ),
    "complete": (
        lambda factory, final: factory.set(final, status="complete", completed_at=NOW),
        True,
    ),
    "complete-and-gone": (
        lambda factory, final: _complete_and_remove(factory, final),
        True,
    ),
    "expired": (lambda factory, final: factory.set(final, status="expired"), False),
    "gone": (lambda factory, final: factory.repository.terminate(final.id, NOW), False),
}


def _complete_and_remove(factory: Concatenations, final: Upload) -> None:
    factory.set(final, status="complete", completed_at=NOW)
    factory.repository.terminate(final.id, NOW)


@pytest.mark.parametrize("state", NAMED)
def test_a_final_names_its_members_until_it_is_given_up(
    factory: Concatenations, state: str
) -> None:
    become, expected = NAMED[state]
    a, other = factory.partial(b"a"), factory.partial(b"b")

    def is_named(partial: Upload) -> bool:
        named = factory.members.is_named(
            literal(partial.id, factory.members.table.c.partial_id.type)
        )
        with factory.database.transaction() as connection:
            return bool(connection.execute(select(named)).scalar_one())

    assert not is_named(a)
    become(factory, factory.final(a))
    assert is_named(a) is expected
    assert not is_named(other)


# -- what is dropped -------------------------------------------------------------------


def test_memberships_are_removed_with_an_unfinished_final(
    factory: Concatenations,
) -> None:
    a, b = factory.partial(b"a", 2), factory.partial(b"b")
    one, two = factory.final(a, b), factory.final(b)
    factory.engine.remove.terminate(one)
    assert factory.names() == {(two.id, b.id)}


def test_names_outlive_a_complete_final_as_long_as_their_partial_uploads(
    factory: Concatenations,
) -> None:
    a, b = factory.partial(b"a"), factory.partial(b"b")
    final = factory.made(a, b)
    factory.engine.remove.terminate(a)
    # Members of a final are never fewer than it was made of, while it is there.
    assert factory.names() == {(final.id, a.id), (final.id, b.id)}
    factory.engine.remove.terminate(final)
    assert factory.names() == {(final.id, b.id)}
    factory.engine.remove.terminate(b)
    assert factory.names() == set()


def test_a_waiting_final_keeps_the_name_of_a_partial_upload_that_is_gone(
    factory: Concatenations,
) -> None:
    a, b = factory.partial(b"a", 2), factory.partial(b"b")
    waiting, made = factory.final(a, b), factory.made(b)
    factory.engine.remove.terminate(b)
    kept = {(waiting.id, a.id), (waiting.id, b.id), (made.id, b.id)}
    assert factory.names() == kept
    with pytest.raises(PartialMissing):
        factory.engine.concatenate.members(waiting)
    factory.engine.remove.terminate(waiting)
    assert factory.names() == {(made.id, b.id)}
    factory.engine.remove.terminate(made)
    assert factory.names() == set()


def test_an_ordinary_upload_has_no_names_to_drop(factory: Concatenations) -> None:
    a = factory.partial(b"a", 2)
    final = factory.final(a)
    upload = factory.engine.create.upload(NewUpload(None, "x", 1, "tus"))
    factory.engine.remove.terminate(upload)
    assert factory.names() == {(final.id, a.id)}
