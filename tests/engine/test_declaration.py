"""Deferred lengths: the hooks that are called, and the errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_chunked.engine.gate import MAX_LENGTH
from flask_chunked.engine.records import Quota, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    BytesMissing,
    ChunkedUploadError,
    Incomplete,
    LengthBelowOffset,
    LengthChanged,
    OffsetMismatch,
    QuotaExceeded,
    Superseded,
    TooLarge,
    UnknownUpload,
    UploadExpired,
)
from tests.engine.fakes import Bench, ScriptedReader, idle_since

SMALL = b"0123456789"
#: More bytes than ``inspect`` sees.
LARGE = b"x" * 5000
REFUSAL = ChunkedUploadError("not this one", status=422)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def deferred(bench: Bench, content: bytes = b"") -> Upload:
    """An upload of these bytes with a deferred length; clears recorded calls."""
    upload = bench.create(None)
    if content:
        upload = bench.engine.append.stream(upload, 0, None, ScriptedReader(content))
    del bench.policy.calls[:]
    return upload


def asked(bench: Bench) -> list[tuple[str, object]]:
    hooks = ("validate", "inspect")
    return [call for call in bench.policy.calls if call[0] in hooks]


# -- what is asked ---------------------------------------------------------------------


def test_validate_is_called_again_with_the_length(bench: Bench) -> None:
    upload = bench.create(None)
    bench.engine.declare.length(upload, 10)
    assert bench.policy.seen("validate") == [None, 10]


@pytest.mark.parametrize(
    ("content", "length", "inspected"),
    [
        pytest.param(SMALL, 10, [SMALL], id="all-bytes-are-there"),
        pytest.param(SMALL, 11, [], id="the-last-commit-asks"),
        pytest.param(b"", 10, [], id="no-byte-is-there"),
        pytest.param(b"y" * 4095, 4095, [b"y" * 4095], id="one-byte-less-than-a-head"),
        pytest.param(b"y" * 4096, 4096, [], id="asked-with-the-head"),
        pytest.param(LARGE, 5000, [], id="asked-long-ago"),
    ],
)
def test_inspect_is_called_where_no_later_commit_calls_it(
    bench: Bench, content: bytes, length: int, inspected: list[bytes]
) -> None:
    upload = deferred(bench, content)
    bench.engine.declare.length(upload, length)
    calls: list[tuple[str, object]] = [("validate", length)]
    assert asked(bench) == calls + [("inspect", head) for head in inspected]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 5000])
@pytest.mark.parametrize("is_declared_first", [False, True])
def test_a_file_of_any_size_is_inspected_once(
    bench: Bench, size: int, is_declared_first: bool
) -> None:
    upload = bench.create(None)
    if is_declared_first:
        upload = bench.engine.declare.length(upload, size)
    if size:
        reader = ScriptedReader(b"z" * size)
        upload = bench.engine.append.stream(upload, 0, None, reader)
    if not is_declared_first:
        upload = bench.engine.declare.length(upload, size)
    assert bench.engine.complete.request(upload, None).completed_now
    assert bench.policy.seen("inspect") == [b"z" * min(size, 4096)]


def test_hooks_are_not_called_for_a_partial_upload(bench: Bench) -> None:
    upload = bench.material(None)
    upload = bench.engine.append.stream(upload, 0, None, ScriptedReader(SMALL))
    bench.engine.declare.length(upload, 10)
    assert asked(bench) == []


def test_a_known_length_calls_no_hook(bench: Bench) -> None:
    upload = bench.create(10)
    del bench.policy.calls[:]
    assert bench.engine.declare.length(upload, 10) is upload
    assert asked(bench) == []


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["validate", "inspect"])
def test_a_late_refusal_removes_the_upload(bench: Bench, hook: str) -> None:
    upload = deferred(bench, SMALL)
    bench.policy.refusals[hook] = REFUSAL
    with pytest.raises(ChunkedUploadError, match="not this one"):
        bench.engine.declare.length(upload, 10)
    assert bench.repository.rows == {}
    assert list(bench.storage.stored()) == []
    assert bench.policy.seen("terminated") == [10]


@pytest.mark.parametrize("hook", ["validate", "inspect"])
def test_a_late_refusal_keeps_an_upload_that_another_request_has(
    bench: Bench, hook: str
) -> None:
    upload = deferred(bench, SMALL)
    bench.repository.take_over(upload.id)
    bench.policy.refusals[hook] = REFUSAL
    with pytest.raises(ChunkedUploadError, match="not this one"):
        bench.engine.declare.length(upload, 10)
    assert bench.stored(upload) == SMALL
    assert bench.row(upload).length is None


@pytest.mark.parametrize(
    ("length", "error"),
    [
        pytest.param(9, LengthBelowOffset, id="below-the-offset"),
        pytest.param(21, TooLarge, id="above-the-policy"),
        pytest.param(MAX_LENGTH + 1, TooLarge, id="above-all"),
    ],
)
def test_an_impossible_length_changes_nothing_and_calls_no_hook(
    bench: Bench, length: int, error: type[ChunkedUploadError]
) -> None:
    upload = deferred(bench, SMALL)
    bench.policy.largest = 20
    before = bench.row(upload)
    with pytest.raises(error):
        bench.engine.declare.length(upload, length)
    assert bench.row(upload) == before
    assert asked(bench) == []


def test_a_quota_that_the_length_exceeds_changes_nothing(bench: Bench) -> None:
    bench.policy.limits = Quota(None, 20, 0)
    upload = deferred(bench, SMALL)
    before = bench.row(upload)
    with pytest.raises(QuotaExceeded):
        bench.engine.declare.length(upload, 30)
    assert bench.row(upload) == before
    assert bench.engine.declare.length(upload, 20).reserved == 20


def test_an_upload_without_a_quota_checks_none(bench: Bench) -> None:
    upload = deferred(bench, SMALL)
    bench.policy.limits = Quota(None, 20, 0)
    assert bench.engine.declare.length(upload, 30).reserved is None


# -- final uploads that wait -----------------------------------------------------------


def test_a_member_whose_length_makes_a_waiting_final_too_large_is_refused(
    bench: Bench,
) -> None:
    a, b = bench.material(None), bench.partial(b"abc")
    final = bench.final(a, b, a)
    bench.policy.largest = 10
    with pytest.raises(TooLarge) as caught:
        bench.engine.declare.length(a, 4)
    assert caught.value.limit == 10
    assert bench.row(a).length is None
    assert bench.engine.declare.length(a, 3).length == 3
    members = bench.engine.concatenate.members(final)
    assert bench.engine.concatenate.note_length(bench.row(final), members).length == 9


def test_a_final_that_can_never_be_made_limits_no_member(bench: Bench) -> None:
    a, b = bench.material(None), bench.partial(b"abc")
    bench.final(a, b)
    bench.engine.remove.terminate(b)
    bench.policy.largest = 10
    assert bench.engine.declare.length(a, 10).length == 10


def test_members_whose_lengths_are_unknown_count_nothing_yet(bench: Bench) -> None:
    a, b = bench.material(None), bench.material(None)
    bench.final(a, b)
    bench.policy.largest = 10
    assert bench.engine.declare.length(a, 10).length == 10
    with pytest.raises(TooLarge):
        bench.engine.declare.length(b, 1)


def test_a_final_that_no_longer_waits_limits_no_member(bench: Bench) -> None:
    a, b = bench.material(None), bench.partial(b"abc")
    final = bench.final(a, b)
    bench.engine.remove.terminate(final)
    bench.policy.largest = 10
    assert bench.engine.declare.length(a, 10).length == 10


# -- at the same time ------------------------------------------------------------------


def when(bench: Bench, name: str, happens: Callable[[], object]) -> None:
    """Call ``happens`` just before the repository's method ``name``."""

    def before(asked_for: str) -> None:
        if asked_for == name:
            bench.repository.before = lambda _: None
            happens()

    bench.repository.before = before


def test_a_writer_that_does_not_know_the_length_commits_nothing(bench: Bench) -> None:
    upload = deferred(bench, SMALL)
    reader = ScriptedReader(
        b"abc", lambda: bench.engine.declare.length(bench.row(upload), 100)
    )
    with pytest.raises(Superseded):
        bench.engine.append.stream(upload, 10, None, reader, exact=False)
    assert (bench.row(upload).offset, bench.row(upload).length) == (10, 100)
    assert reader.interrupts == 1


def test_bytes_appended_meanwhile_make_an_offset_mismatch(
    bench: Bench,
) -> None:
    upload = deferred(bench, SMALL)
    more = ScriptedReader(b"abc")
    when(
        bench,
        "declare_length",
        lambda: bench.engine.append.stream(upload, 10, None, more),
    )
    with pytest.raises(OffsetMismatch) as caught:
        bench.engine.declare.length(upload, 100)
    assert (caught.value.expected, caught.value.provided) == (13, 10)
    assert bench.row(upload).length is None


@pytest.mark.parametrize(
    ("other", "error"), [(100, None), (101, LengthChanged), (None, LengthBelowOffset)]
)
def test_the_first_of_two_declarations_counts(
    bench: Bench, other: int | None, error: type[ChunkedUploadError] | None
) -> None:
    upload = deferred(bench, SMALL)

    def interfere() -> None:
        if other is None:
            reader = ScriptedReader(b"a" * 91)
            bench.engine.append.stream(upload, 10, None, reader)
        else:
            bench.engine.declare.length(upload, other)

    when(bench, "declare_length", interfere)
    if error is None:
        assert bench.engine.declare.length(upload, 100) == bench.row(upload)
        return
    with pytest.raises(error):
        bench.engine.declare.length(upload, 100)
    assert bench.row(upload).length == other


def test_a_repeated_declaration_returns_the_row(bench: Bench) -> None:
    seen = deferred(bench, SMALL)
    done = bench.engine.complete.request(bench.engine.declare.length(seen, 10), None)
    # The bytes are in the finished file, and the row says so.
    assert bench.engine.declare.length(seen, 10) == bench.row(seen)
    bench.engine.remove.terminate(done.upload)
    with pytest.raises(UnknownUpload):
        bench.engine.declare.length(seen, 10)


def test_bytes_removed_from_the_storage_are_missing(bench: Bench) -> None:
    upload = deferred(bench, SMALL)
    assert upload.blob is not None
    bench.storage.delete(upload.blob)
    with pytest.raises(BytesMissing):
        bench.engine.declare.length(upload, 10)
    assert bench.row(upload).length is None


# -- a length is stored once -----------------------------------------------------------


@pytest.mark.parametrize("length", [3, 4, MAX_LENGTH - 1])
def test_a_deferred_length_is_stored_once(bench: Bench, length: int) -> None:
    upload = bench.create(None)
    upload = bench.engine.append.stream(upload, 0, None, ScriptedReader(b"abc"))
    declared = bench.engine.declare.length(upload, length)
    assert declared == bench.row(upload)
    assert (declared.length, declared.offset) == (length, 3)
    assert bench.engine.declare.length(upload, length) == declared
    with pytest.raises(LengthChanged) as caught:
        bench.engine.declare.length(upload, length + 1)
    assert (caught.value.declared, caught.value.provided) == (length, length + 1)
    assert bench.row(upload) == declared


def test_a_length_below_the_offset_is_refused(bench: Bench) -> None:
    upload = bench.create(None)
    upload = bench.engine.append.stream(upload, 0, None, ScriptedReader(b"abc"))
    with pytest.raises(LengthBelowOffset) as caught:
        bench.engine.declare.length(upload, 2)
    assert (caught.value.offset, caught.value.provided) == (3, 2)
    assert bench.row(upload).length is None


@pytest.mark.parametrize("length", [2, 6])
def test_a_declaration_supersedes_a_writer_without_the_length(
    bench: Bench, length: int
) -> None:
    upload = bench.create(None)
    reader = ScriptedReader(b"abc", lambda: bench.engine.declare.length(upload, length))
    with pytest.raises(Superseded):
        bench.engine.append.stream(upload, 0, None, reader, exact=False)
    assert reader.interrupts == 1
    assert (bench.row(upload).offset, bench.row(upload).length) == (0, length)
    content = b"abcdef"[:length]
    after = bench.engine.append.stream(upload, 0, length, ScriptedReader(content))
    assert bench.engine.complete.request(after, None).upload.is_complete
    assert bench.stored(upload) == content


def test_an_empty_file_of_deferred_length_completes(bench: Bench) -> None:
    upload = bench.create(None)
    with pytest.raises(Incomplete):
        bench.engine.complete.request(upload, None)
    declared = bench.engine.declare.length(upload, 0)
    assert bench.engine.complete.request(declared, None).upload.is_complete
    assert bench.stored(upload) == b""


def test_the_length_of_a_complete_upload_cannot_change(bench: Bench) -> None:
    upload = bench.create(None)
    part = bench.engine.append.stream(upload, 0, None, ScriptedReader(b"abc"))
    bench.engine.complete.request(bench.engine.declare.length(part, 3), None)
    # Once with an old snapshot of the row, once with the current one.
    for seen in (part, bench.row(upload)):
        assert bench.engine.declare.length(seen, 3).length == 3
        with pytest.raises(LengthChanged):
            bench.engine.declare.length(seen, 4)
    assert bench.engine.declare.length(part, 3).status is Status.COMPLETE


def test_the_length_of_a_removed_upload_is_unknown(bench: Bench) -> None:
    upload = bench.create(None)
    bench.engine.remove.terminate(upload)
    with pytest.raises(UnknownUpload):
        bench.engine.declare.length(upload, 3)


def test_the_length_of_an_expired_upload_is_not_declared(bench: Bench) -> None:
    upload = bench.create(None)
    bench.engine.remove.expire(upload, idle_since(bench), keep_record=True)
    with pytest.raises(UploadExpired):
        bench.engine.declare.length(upload, 3)
