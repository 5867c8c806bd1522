"""Members: order, length, content after an offset, and missing ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from flask_chunked.engine.members import Members, members_from
from flask_chunked.engine.records import NewUpload, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    BytesMissing,
    NotAPartial,
    PartialMissing,
)
from tests.engine.fakes import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def members(bench: Bench, *partials: Upload) -> Members:
    return members_from([bench.row(partial) for partial in partials])


def assemble(bench: Bench, final: Upload) -> Upload:
    return bench.engine.concatenate.assemble(
        bench.row(final), bench.engine.concatenate.members(final)
    )


def test_members_keep_order_and_repeats_and_are_read_at_once(bench: Bench) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"de")
    final = bench.final(b, a, b)
    asked: list[str] = []
    bench.repository.before = asked.append
    found = bench.engine.concatenate.members(final)
    assert [upload.id for upload in found.uploads] == [b.id, a.id, b.id]
    assert found.length == 7
    assert found.are_complete
    assert asked == ["members"]


def test_a_member_that_is_gone_is_missing(bench: Bench) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"de")
    final = bench.final(a, b)
    bench.engine.remove.terminate(a)
    with pytest.raises(PartialMissing):
        bench.engine.concatenate.members(final)


def test_an_expired_member_is_missing(bench: Bench) -> None:
    a = bench.partial(b"abc")
    final = bench.final(a)
    bench.repository.rows[a.id] = replace(bench.row(a), status=Status.EXPIRED)
    with pytest.raises(PartialMissing):
        bench.engine.concatenate.members(final)


def test_only_partial_uploads_may_be_members(bench: Bench) -> None:
    for other in (bench.filled(), bench.final(bench.partial(b"abc"))):
        with pytest.raises(NotAPartial):
            members(bench, bench.partial(b"abc"), other)


def test_a_member_removed_before_creation_makes_no_final(bench: Bench) -> None:
    a = bench.partial(b"abc")
    found = members(bench, a)
    bench.engine.remove.terminate(a)
    with pytest.raises(PartialMissing):
        bench.engine.concatenate.create(
            NewUpload("ann", "a.bin", None, "test", concat="final;a"), found
        )
    assert bench.repository.rows == {}


@pytest.mark.parametrize(
    ("lengths", "total"),
    [
        pytest.param([3, 4], 7, id="known"),
        pytest.param([3, None], None, id="one-deferred"),
        pytest.param([None, None], None, id="all-deferred"),
        pytest.param([None, 0], None, id="deferred-and-empty"),
        pytest.param([0, 0], 0, id="empty"),
    ],
)
def test_the_length_is_the_sum_once_all_are_known(
    bench: Bench, lengths: Sequence[int | None], total: int | None
) -> None:
    uploads = [bench.material(length) for length in lengths]
    assert members(bench, *uploads).length == total


@pytest.mark.parametrize(
    ("offset", "left"),
    [
        pytest.param(0, [("a", 0), ("b", 0), ("a", 0)], id="nothing-made"),
        pytest.param(2, [("a", 2), ("b", 0), ("a", 0)], id="inside-the-first"),
        pytest.param(3, [("b", 0), ("a", 0)], id="at-a-border"),
        pytest.param(4, [("b", 1), ("a", 0)], id="inside-the-second"),
        pytest.param(7, [("a", 2)], id="inside-the-repeat"),
        pytest.param(8, [], id="all-made"),
    ],
)
def test_content_after_an_offset(
    bench: Bench, offset: int, left: list[tuple[str, int]]
) -> None:
    a, b, empty = bench.partial(b"abc"), bench.partial(b"de"), bench.partial(b"")
    names = {a.storage_key: "a", b.storage_key: "b"}
    found = members(bench, a, empty, b, a).from_offset(offset)
    assert [(names[blob.key], start) for blob, start in found] == left


def test_a_member_whose_file_was_moved_away_is_missing_bytes(bench: Bench) -> None:
    a = bench.partial(b"abc")
    bench.repository.rows[a.id] = replace(bench.row(a), storage_key=None)
    final = bench.final(a)
    with pytest.raises(BytesMissing):
        assemble(bench, final)
    assert bench.row(final).offset == 0
