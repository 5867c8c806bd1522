"""Expiry by kind and state; a concatenation expires as a group."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import UploadExpired
from tests.engine.fakes import START, Bench, ScriptedReader

DAY = timedelta(days=1)


@pytest.fixture
def bench() -> Bench:
    """Uploads expire after a day without activity."""
    return Bench(expiration=DAY)


def is_live(bench: Bench, upload: Upload) -> bool:
    try:
        bench.engine.expiry.require_live(bench.row(upload))
    except UploadExpired:
        return False
    return True


def swept(bench: Bench) -> set[str]:
    """The names of the uploads that the clean-up removes."""
    found = list(bench.engine.remove.expirable(expired_too=False))
    gone = [
        bench.engine.remove.expire(upload, cutoff, keep_record=False)
        for upload, cutoff in found
    ]
    assert None not in gone
    return {one.upload.filename for one in gone if one is not None}


def touch(bench: Bench, partial: Upload) -> None:
    """Append one byte."""
    row = bench.row(partial)
    bench.engine.append.stream(row, row.offset, None, ScriptedReader(b"x"), exact=False)


# -- by kind and state -----------------------------------------------------------------

#: (kind, state) -> (requests are refused, the clean-up removes it) when it is idle.
EXPIRES = {
    ("ordinary", Status.UPLOADING): (True, True),
    # A request may continue the completion; only the clean-up removes it.
    ("ordinary", Status.COMPLETING): (False, True),
    ("ordinary", Status.COMPLETE): (False, False),
    ("partial", Status.UPLOADING): (True, True),
    ("partial", Status.COMPLETING): (False, True),
    ("partial", Status.COMPLETE): (True, True),
    ("final", Status.UPLOADING): (True, True),
    ("final", Status.COMPLETING): (False, True),
    ("final", Status.COMPLETE): (False, False),
}


@pytest.mark.parametrize(("kind", "status"), EXPIRES)
def test_idle_uploads_expire_by_kind_and_state(
    bench: Bench, kind: str, status: Status
) -> None:
    concat = {"ordinary": None, "partial": "partial", "final": "final;a"}[kind]
    upload = bench.create(10, partial=kind == "partial", concat=concat)
    bench.repository.rows[upload.id] = row = replace(upload, status=status)
    is_refused, is_removed = EXPIRES[kind, status]
    expires_at = START + DAY if is_refused else None
    assert bench.engine.expiry.expires_at(row) == expires_at
    bench.clock.advance(days=1, microseconds=-1)
    assert is_live(bench, upload)
    assert swept(bench) == set()
    bench.clock.advance(microseconds=1)
    assert is_live(bench, upload) is not is_refused
    assert swept(bench) == ({"a.bin"} if is_removed else set())


def test_a_partial_upload_that_expires_when_it_is_complete_is_announced(
    bench: Bench,
) -> None:
    bench.partial(b"abc")
    bench.clock.advance(days=1)
    assert swept(bench) == {"a.bin"}
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []
    assert bench.policy.seen("expired") == [3]


# -- concatenations --------------------------------------------------------------------


def test_becoming_a_member_is_activity(bench: Bench) -> None:
    a = bench.partial(b"abc")
    bench.clock.advance(hours=20)
    final = bench.final(a)
    bench.engine.concatenate.assemble(final, bench.engine.concatenate.members(final))
    assert bench.engine.expiry.expires_at(bench.row(a)) == START + timedelta(hours=44)
    bench.clock.advance(hours=23)
    assert is_live(bench, a)
    bench.clock.advance(hours=1)
    assert not is_live(bench, a)
    assert swept(bench) == {"a.bin"}
    assert set(bench.repository.rows) == {final.id}


def test_a_waiting_final_and_its_members_live_by_the_activity_of_one(
    bench: Bench,
) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"d", 1000)
    final = bench.final(a, b)
    for _ in range(4):
        bench.clock.advance(hours=20)
        touch(bench, b)
    for upload in (a, b, final):
        assert is_live(bench, upload)
        assert bench.row(upload).last_activity_at == (
            bench.clock() if upload is b else START
        )
    assert bench.engine.expiry.expires_at(bench.row(final)) == bench.clock() + DAY
    # A member reports its own end, but may live longer.
    assert bench.engine.expiry.expires_at(bench.row(a)) == START + DAY
    assert swept(bench) == set()
    bench.clock.advance(days=1)
    for upload in (a, b, final):
        assert not is_live(bench, upload)
    assert swept(bench) == {"a.bin"}
    assert bench.repository.rows == {}


def test_a_member_lives_by_the_final_that_was_just_made(bench: Bench) -> None:
    a = bench.partial(b"a", 2)
    bench.clock.advance(hours=20)
    final = bench.final(a)
    # Without the activity of becoming a member.
    bench.repository.rows[a.id] = replace(bench.row(a), last_activity_at=START)
    bench.clock.advance(hours=20)
    assert is_live(bench, a)
    assert is_live(bench, final)


def test_a_member_of_two_finals_lives_by_the_more_active_one(bench: Bench) -> None:
    a, b, c = bench.partial(b"a"), bench.partial(b"b", 9), bench.partial(b"c", 9)
    bench.final(a, b)
    other = bench.final(a, c)
    bench.clock.advance(hours=20)
    touch(bench, c)
    bench.clock.advance(hours=20)
    assert [is_live(bench, one) for one in (a, b, c, other)] == [
        True,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("end", ["complete", "terminated"])
def test_a_final_that_no_longer_waits_keeps_no_member(bench: Bench, end: str) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"de")
    final = bench.final(a, b)
    if end == "complete":
        bench.engine.concatenate.assemble(
            final, bench.engine.concatenate.members(final)
        )
    else:
        bench.engine.remove.terminate(final)
    bench.clock.advance(hours=20)
    other = bench.final(b)
    bench.engine.concatenate.assemble(other, bench.engine.concatenate.members(other))
    bench.clock.advance(hours=4)
    assert (is_live(bench, a), is_live(bench, b)) == (False, True)


def test_a_lifetime_ends_however_active_the_others_are() -> None:
    bench = Bench(expiration=DAY, lifetime=timedelta(hours=30))
    a = bench.partial(b"a", 100)
    bench.clock.advance(hours=10)
    b = bench.partial(b"b", 100)
    final = bench.final(a, b)
    bench.clock.advance(hours=20)
    touch(bench, b)
    assert [is_live(bench, one) for one in (a, b, final)] == [False, True, True]
    assert bench.engine.expiry.expires_at(bench.row(final)) == START + timedelta(
        hours=40
    )


def test_a_lifetime_alone_queries_no_activity() -> None:
    bench = Bench(expiration=None, lifetime=DAY)
    final = bench.final(bench.partial(b"a", 2))
    asked: list[str] = []
    bench.repository.before = asked.append
    assert bench.engine.expiry.expires_at(final) == START + DAY
    assert asked == []


def test_group_activity_is_queried_only_where_it_matters(bench: Bench) -> None:
    ordinary, partial = bench.create(10), bench.material(10)
    final = bench.final(partial)
    asked: list[str] = []
    bench.repository.before = asked.append
    for upload in (ordinary, partial, final):
        bench.engine.expiry.require_live(upload)
    bench.engine.expiry.expires_at(ordinary)
    bench.engine.expiry.expires_at(partial)
    assert asked == []
    bench.clock.advance(days=1)
    assert not is_live(bench, ordinary)
    assert asked == []
    assert not is_live(bench, partial)
    assert "group_activity" in asked


def test_a_group_with_new_activity_is_not_removed(bench: Bench) -> None:
    a, b = bench.partial(b"a"), bench.partial(b"b", 100)
    final = bench.final(a, b)
    bench.clock.advance(days=1)
    found = list(bench.engine.remove.expirable(expired_too=False))
    assert len(found) == 3
    bench.repository.rows[b.id] = replace(bench.row(b), last_activity_at=bench.clock())
    for upload, cutoff in found:
        assert bench.engine.remove.expire(upload, cutoff, keep_record=False) is None
    assert set(bench.repository.rows) == {a.id, b.id, final.id}
