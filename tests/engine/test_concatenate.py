"""Final uploads: members, order, waiting, and crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from flask_chunked.engine import writer
from flask_chunked.engine.members import Members, members_from
from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    AlreadyComplete,
    BytesMissing,
    ChunkedUploadError,
    DatabaseUnavailable,
    FinalUpload,
    OffsetMismatch,
    PartialMissing,
    StorageError,
    Superseded,
    UnknownUpload,
    UploadExpired,
)
from tests.engine.fakes import Bench, ScriptedReader


@pytest.fixture
def bench() -> Bench:
    return Bench()


def members(bench: Bench, *partials: Upload) -> Members:
    return members_from([bench.row(partial) for partial in partials])


def assemble(bench: Bench, final: Upload) -> Upload:
    return bench.engine.concatenate.assemble(
        bench.row(final), bench.engine.concatenate.members(final)
    )


# -- partial uploads -------------------------------------------------------------------


def test_hooks_are_not_called_for_a_partial_upload(
    bench: Bench,
) -> None:
    a = bench.partial(b"abc")
    assert a.is_complete
    assert (a.event_id, a.delivered_at) == (None, None)
    heard = [name for name, _ in bench.policy.calls]
    assert heard == ["created", "chunk_received"]


# -- making ----------------------------------------------------------------------------


def test_a_final_upload_is_its_members_in_order(bench: Bench) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"de")
    final = bench.final(b, a, b)
    made = assemble(bench, final)
    assert (made.status, made.offset, made.length) == (Status.COMPLETE, 7, 7)
    assert bench.stored(final) == b"deabcde"
    assert bench.policy.seen("verify") == [7]
    assert bench.policy.seen("deliver") == [made.event_id]


def test_partial_uploads_stay_as_they_are(bench: Bench) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"de")
    before = [bench.row(a), bench.row(b)]
    assemble(bench, bench.final(a, b))
    assert [bench.row(a), bench.row(b)] == before
    assert (bench.stored(a), bench.stored(b)) == (b"abc", b"de")


def test_a_final_upload_keeps_its_bytes_when_a_partial_one_is_removed(
    bench: Bench,
) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"de")
    final = bench.final(a, b)
    assemble(bench, final)
    bench.engine.remove.terminate(a)
    assert bench.stored(final) == b"abcde"


def test_a_final_upload_of_empty_members_is_complete(bench: Bench) -> None:
    a, b = bench.partial(b""), bench.partial(b"")
    made = assemble(bench, bench.final(a, b))
    assert (made.status, made.length) == (Status.COMPLETE, 0)


def test_assembling_a_final_upload_again_changes_nothing(bench: Bench) -> None:
    a = bench.partial(b"abc")
    final = bench.final(a)
    assemble(bench, final)
    made = bench.row(final)
    assert assemble(bench, final) == bench.row(final) == made
    assert len(bench.policy.seen("deliver")) == 1


def test_the_first_bytes_are_inspected(bench: Bench) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"de")
    del bench.policy.calls[:]
    assemble(bench, bench.final(a, b))
    assert bench.policy.seen("inspect") == [b"abcde"]


def test_a_refused_head_removes_the_final_upload_alone(bench: Bench) -> None:
    a = bench.partial(b"abc")
    final = bench.final(a)
    bench.policy.refusals["inspect"] = ChunkedUploadError("no")
    with pytest.raises(ChunkedUploadError, match="no"):
        assemble(bench, final)
    assert set(bench.repository.rows) == {a.id}
    assert [item.size for item in bench.storage.stored()] == [3]


# -- waiting for members ---------------------------------------------------------------


def test_members_are_complete_once_each_is_completed(bench: Bench) -> None:
    a, b = bench.partial(b"abc"), bench.partial(b"d", 2)
    final = bench.final(a, b)
    assert (final.length, bench.engine.concatenate.members(final).are_complete) == (
        5,
        False,
    )
    bench.engine.append.stream(b, 1, 2, ScriptedReader(b"e"))
    assert not bench.engine.concatenate.members(
        final
    ).are_complete  # all bytes, not completed
    bench.engine.complete.request(bench.row(b), None)
    assert bench.engine.concatenate.members(final).are_complete
    assert assemble(bench, final).is_complete
    assert bench.stored(final) == b"abcde"


def test_the_length_is_noted_as_soon_as_it_is_known(bench: Bench) -> None:
    a = bench.material(None)
    final = bench.final(a)

    def noted() -> int | None:
        engine = bench.engine
        return engine.concatenate.note_length(
            bench.row(final), engine.concatenate.members(final)
        ).length

    assert noted() is None
    bench.engine.declare.length(a, 3)
    assert noted() == bench.row(final).length == 3
    assert noted() == 3


def test_the_length_of_a_complete_final_upload_is_not_noted_again(bench: Bench) -> None:
    a = bench.partial(b"abc")
    final = bench.final(a)
    made = assemble(bench, final)
    assert bench.engine.concatenate.note_length(made, members(bench, a, a)) is made


def test_open_finals_that_name_a_partial_wait_for_it(bench: Bench) -> None:
    a, b = bench.partial(b"a", 2), bench.partial(b"b")
    both, one = bench.final(a, b), bench.final(b)
    waiting = [final.id for final in bench.engine.concatenate.finals_waiting_for(b)]
    assert waiting == [both.id, one.id]
    assemble(bench, one)
    assert [final.id for final in bench.engine.concatenate.finals_waiting_for(b)] == [
        both.id
    ]
    assert [final.id for final in bench.engine.concatenate.finals_waiting_for(a)] == [
        both.id
    ]


def test_a_final_upload_that_waited_too_long_is_expired(bench: Bench) -> None:
    final = bench.final(bench.partial(b"abc"))
    bench.clock.advance(days=1)
    with pytest.raises(UploadExpired):
        assemble(bench, final)
    assert bench.row(final).offset == 0


# -- crashes and rivals ----------------------------------------------------------------


class Crash(BaseException):
    """Ends the process."""


def crash() -> None:
    raise Crash


@pytest.mark.parametrize("step", range(4))
def test_a_crash_costs_one_section(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(writer, "COPY_BYTES", 4)
    a, b = bench.partial(b"abcdef"), bench.partial(b"ghijk")
    final = bench.final(a, b)
    commits = 0

    def before(name: str) -> None:
        nonlocal commits
        if name == "advance":
            commits += 1
            if commits == step + 1:
                crash()

    bench.repository.before = before
    with pytest.raises(Crash):
        assemble(bench, final)
    bench.repository.before = lambda name: None
    offset = [0, 4, 6, 10][step]
    assert bench.row(final).offset == offset
    # The copied bytes that are not committed are truncated.
    blob = bench.row(final).blob
    assert blob is not None
    assert (bench.storage.measure(blob) or 0) > offset
    assert assemble(bench, final).is_complete
    assert bench.stored(final) == b"abcdefghijk"


def test_copying_commits_in_sections(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "COPY_BYTES", 4)
    a = bench.partial(b"abcdefghij")
    final = bench.final(a)
    offsets: list[int] = []
    bench.repository.before = lambda name: (
        offsets.append(bench.row(final).offset) if name == "advance" else None
    )
    assemble(bench, final)
    assert offsets == [0, 4, 8]


def test_a_completion_whose_process_died_is_repeated(bench: Bench) -> None:
    a = bench.partial(b"abc")
    final = bench.final(a)
    bench.repository.failing = {"complete"}
    with pytest.raises(DatabaseUnavailable):
        assemble(bench, final)
    assert bench.row(final).status is Status.COMPLETING
    bench.repository.failing = set()
    assert assemble(bench, final).is_complete
    assert bench.stored(final) == b"abc"


def test_an_assembled_final_upload_is_completed(
    bench: Bench,
) -> None:
    a = bench.partial(b"abc")
    final = bench.final(a)
    bench.policy.refusals["verify"] = ChunkedUploadError("not today")
    with pytest.raises(ChunkedUploadError, match="not today"):
        assemble(bench, final)
    fence = bench.row(final).fence
    del bench.policy.refusals["verify"]
    assert assemble(bench, final).is_complete
    assert bench.policy.seen("verify") == [3, 3]
    # Begun, refused, begun, complete: no further claim for bytes.
    assert bench.row(final).fence == fence + 2


class HalfAssembled:
    """A final upload of ten bytes; a hook runs when four of them are copied."""

    def __init__(self, bench: Bench) -> None:
        self.member = bench.partial(b"abcdefghij")
        self.final = bench.final(self.member)
        self._bench = bench

    def make(self, happens: Callable[[], object]) -> Upload:
        def before(name: str) -> None:
            if name == "holds" and self._bench.row(self.final).offset == 4:
                self._bench.repository.before = lambda _: None
                happens()

        self._bench.repository.before = before
        return assemble(self._bench, self.final)


@pytest.fixture
def half_assembled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> HalfAssembled:
    monkeypatch.setattr(writer, "COPY_BYTES", 4)
    return HalfAssembled(bench)


def test_a_superseded_assembly_stops(
    bench: Bench, half_assembled: HalfAssembled
) -> None:
    final = half_assembled.final
    with pytest.raises(Superseded) as caught:
        half_assembled.make(lambda: bench.repository.claim(final.id, 4))
    assert caught.value.expected == bench.row(final).offset == 4
    assert assemble(bench, final).is_complete
    assert bench.stored(final) == b"abcdefghij"


def test_a_final_upload_removed_while_it_is_made_leaves_no_bytes(
    bench: Bench, half_assembled: HalfAssembled
) -> None:
    with pytest.raises(UnknownUpload):
        half_assembled.make(lambda: bench.engine.remove.terminate(half_assembled.final))
    assert set(bench.repository.rows) == {half_assembled.member.id}
    assert [item.size for item in bench.storage.stored()] == [10]


def test_a_member_removed_during_the_copy_is_reported(
    bench: Bench, half_assembled: HalfAssembled
) -> None:
    final, member = half_assembled.final, half_assembled.member
    with pytest.raises(BytesMissing):
        half_assembled.make(lambda: bench.engine.remove.terminate(member))
    assert bench.row(final).offset == 4
    with pytest.raises(PartialMissing):
        bench.engine.concatenate.members(final)


@pytest.mark.parametrize("is_done", [False, True])
def test_an_assembly_uses_the_length_of_the_row(
    bench: Bench, half_assembled: HalfAssembled, is_done: bool
) -> None:
    stale = replace(bench.row(half_assembled.final), length=None)
    if is_done:
        assemble(bench, half_assembled.final)
    else:
        with pytest.raises(Crash):
            half_assembled.make(crash)
    made = bench.engine.concatenate.assemble(
        stale, bench.engine.concatenate.members(stale)
    )
    assert made.is_complete
    assert bench.stored(made) == b"abcdefghij"
    assert len(bench.policy.seen("deliver")) == 1


@pytest.mark.parametrize(
    ("event", "error"),
    [("claim and advance", OffsetMismatch), ("complete", AlreadyComplete)],
)
def test_an_assembly_without_a_claim_writes_nothing(
    bench: Bench,
    half_assembled: HalfAssembled,
    event: str,
    error: type[ChunkedUploadError],
) -> None:
    final = half_assembled.final

    def interfere(name: str) -> None:
        if name != "claim":
            return
        bench.repository.before = lambda _: None
        if event == "complete":
            assemble(bench, final)
        else:
            with pytest.raises(Crash):
                half_assembled.make(crash)

    bench.repository.before = interfere
    with pytest.raises(error):
        assemble(bench, final)
    assert bench.row(final).offset == (10 if event == "complete" else 4)
    assert assemble(bench, final).is_complete
    assert bench.stored(final) == b"abcdefghij"


# -- partial uploads that are not kept -------------------------------------------------


@pytest.fixture
def tidy(bench: Bench) -> Bench:
    """``keep_partials`` is off."""
    bench.policy.keeps_partials = False
    return bench


def test_partial_uploads_are_removed_once_their_final_is_complete(tidy: Bench) -> None:
    a, b = tidy.partial(b"abc"), tidy.partial(b"de")
    final = tidy.final(b, a, b)
    assert assemble(tidy, final).is_complete
    assert set(tidy.repository.rows) == {final.id}
    assert [item.size for item in tidy.storage.stored()] == [7]
    assert tidy.stored(final) == b"deabcde"
    assert sorted(map(str, tidy.policy.seen("terminated"))) == ["2", "3"]


def test_a_partial_upload_that_another_final_waits_for_stays(tidy: Bench) -> None:
    a, b = tidy.partial(b"abc"), tidy.partial(b"d", 2)
    one, both = tidy.final(a), tidy.final(a, b)
    assert assemble(tidy, one).is_complete
    assert set(tidy.repository.rows) == {a.id, b.id, one.id, both.id}
    tidy.engine.append.stream(tidy.row(b), 1, 2, ScriptedReader(b"e"))
    tidy.engine.complete.request(tidy.row(b), None)
    assert assemble(tidy, both).is_complete
    assert set(tidy.repository.rows) == {one.id, both.id}
    assert tidy.stored(both) == b"abcde"


@pytest.mark.parametrize("hook", ["inspect", "verify"])
def test_partial_uploads_of_a_final_that_is_refused_stay(
    tidy: Bench, hook: str
) -> None:
    a = tidy.partial(b"abc")
    final = tidy.final(a)
    tidy.policy.refusals[hook] = ChunkedUploadError("no")
    with pytest.raises(ChunkedUploadError, match="no"):
        assemble(tidy, final)
    assert a.id in tidy.repository.rows


def test_only_the_completing_request_removes_the_members(
    tidy: Bench,
) -> None:
    a = tidy.partial(b"abc")
    final = tidy.final(a)
    tidy.policy.keeps_partials = True
    made = assemble(tidy, final)
    tidy.policy.keeps_partials = False
    assert tidy.engine.concatenate.complete(made).is_complete
    assert a.id in tidy.repository.rows


def test_a_member_that_another_request_removes_is_skipped(
    tidy: Bench,
) -> None:
    a, b = tidy.partial(b"abc"), tidy.partial(b"de")
    final = tidy.final(a, b)

    def interfere(name: str) -> None:
        if name == "is_used_up":
            tidy.repository.before = lambda _: None
            tidy.engine.remove.terminate(a)

    tidy.repository.before = interfere
    assert assemble(tidy, final).is_complete
    assert set(tidy.repository.rows) == {final.id}


def test_a_member_that_cannot_be_removed_does_not_hide_its_final(
    tidy: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = tidy.partial(b"abc")
    final = tidy.final(a)

    def fail(blob: object) -> None:
        raise StorageError()

    monkeypatch.setattr(tidy.storage, "delete", fail)
    assert assemble(tidy, final).is_complete


def test_a_complete_final_is_completed_again_by_a_checksum_only(bench: Bench) -> None:
    made = assemble(bench, bench.final(bench.partial(b"abc")))
    with pytest.raises(FinalUpload):
        bench.engine.complete.request(made, None)
