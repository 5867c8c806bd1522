"""When a writer claims, looks at the fence, and stores a storage's state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from flask_chunked.engine.records import ExpectedDigest, Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import (
    AlreadyComplete,
    BodyInterrupted,
    ChecksumMismatch,
    ChunkSizeMismatch,
    DatabaseUnavailable,
    OffsetMismatch,
    Superseded,
    UnknownUpload,
)
from flask_chunked.storage.base import Blob, Part, Receipt, State
from flask_chunked.storage.memory import MemoryAppender, MemoryStorage
from tests.engine.fakes import Bench, ScriptedReader

CONTENT = b"0123456789"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def upload(bench: Bench) -> Upload:
    return bench.create(len(CONTENT))


def short(*script: object) -> ScriptedReader:
    reader = ScriptedReader(*script)  # type: ignore[arg-type]
    reader.is_short = True
    return reader


def watch(bench: Bench) -> list[str]:
    """The names of the repository's methods that are called from now on."""
    calls: list[str] = []
    bench.repository.before = calls.append
    return calls


def append(bench: Bench, upload: Upload, reader: ScriptedReader) -> Upload:
    return bench.engine.append.stream(upload, upload.offset, len(CONTENT), reader)


def test_claim_under_the_lock_needs_no_check_of_the_fence(
    bench: Bench, upload: Upload
) -> None:
    calls = watch(bench)
    after = append(bench, upload, short(CONTENT))
    assert [call for call in calls if call != "holds"] == ["claim", "advance"]
    # MemoryRepository.advance() calls holds() itself.
    assert calls.index("holds") > calls.index("advance")
    assert after == bench.row(upload)
    assert bench.stored(upload) == CONTENT


def test_new_upload_needs_no_claim(bench: Bench, upload: Upload) -> None:
    calls = watch(bench)
    bench.engine.append.stream_first(upload, 10, short(CONTENT))
    assert calls[:2] == ["holds", "advance"]
    assert bench.stored(upload) == CONTENT


def test_new_upload_that_was_taken_over_is_not_changed(
    bench: Bench, upload: Upload
) -> None:
    bench.engine.append.take_over(upload)
    with pytest.raises(Superseded):
        bench.engine.append.stream_first(upload, 10, short(CONTENT))
    assert bench.row(upload).offset == 0


def test_stale_offset_is_a_conflict_and_changes_nothing(
    bench: Bench, upload: Upload
) -> None:
    append(bench, upload, short(CONTENT))
    with pytest.raises(OffsetMismatch):
        append(bench, upload, short(b"other"))
    assert bench.stored(upload) == CONTENT


def test_another_start_than_the_offset_is_refused_before_the_body(
    bench: Bench, upload: Upload
) -> None:
    reader = short(CONTENT)
    with pytest.raises(OffsetMismatch):
        bench.engine.append.stream(upload, 5, 10, reader)
    assert not reader.ended


def test_refused_upload_gets_no_file(bench: Bench, upload: Upload) -> None:
    bench.repository.rows[upload.id] = replace(upload, status=Status.COMPLETING)
    with pytest.raises(OffsetMismatch):
        append(bench, upload, short(CONTENT))
    assert list(bench.storage.stored()) == []


def test_claim_precedes_the_wait_for_a_silent_client(
    bench: Bench, upload: Upload
) -> None:
    calls = watch(bench)
    seen: list[list[str]] = []
    append(bench, upload, short(None, lambda: seen.append(list(calls)), CONTENT))
    assert seen == [["claim"]]


def test_interrupted_body_at_a_stale_offset_is_a_conflict(
    bench: Bench, upload: Upload
) -> None:
    append(bench, upload, short(CONTENT))
    with pytest.raises(OffsetMismatch):
        append(bench, upload, short(BodyInterrupted()))


def test_claim_explains_a_missing_file(bench: Bench, upload: Upload) -> None:
    half = bench.engine.append.stream(upload, 0, 5, short(CONTENT[:5]))
    done = append(bench, half, short(CONTENT[5:]))
    bench.engine.complete.request(done, None)
    with pytest.raises(AlreadyComplete):
        append(bench, half, short(CONTENT[5:]))
    bench.engine.remove.terminate(bench.row(upload))
    with pytest.raises(UnknownUpload):
        append(bench, half, short(CONTENT[5:]))


def test_late_repeat_during_a_completion_is_a_conflict(
    bench: Bench, upload: Upload
) -> None:
    """The file is finished before its row is complete, and no byte is lost."""
    half = bench.engine.append.stream(upload, 0, 5, short(CONTENT[:5]))
    bench.repository.rows[upload.id] = full = replace(half, offset=10)
    assert full.blob is not None
    bench.storage.delete(full.blob)
    with bench.storage.put(full.blob, CONTENT, finished=True):
        pass
    with pytest.raises(Superseded) as caught:
        append(bench, half, short(CONTENT[5:]))
    assert caught.value.expected == 10


def test_changed_storage_state_is_superseded(bench: Bench, upload: Upload) -> None:
    def save(name: str) -> None:
        if name == "claim":
            row = bench.repository.rows[upload.id]
            bench.repository.rows[upload.id] = replace(row, storage_state={"a": 1})

    bench.repository.before = save
    with pytest.raises(Superseded):
        append(bench, upload, short(CONTENT))
    assert bench.row(upload).offset == 0


def test_storage_with_parts_is_opened_for_the_claimed_row(
    bench: Bench, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(bench.storage), "keeps_parts", True)
    calls = watch(bench)
    append(bench, upload, short(CONTENT))
    assert calls[:2] == ["claim", "holds"]


def test_late_claim_interrupts_other_readers_only(bench: Bench, upload: Upload) -> None:
    mine = short(CONTENT)
    theirs = ScriptedReader(
        b"abc",
        lambda: append(bench, bench.row(upload), mine),
        b"def",
    )
    with pytest.raises(Superseded):
        append(bench, upload, theirs)
    assert (mine.interrupts, theirs.interrupts) == (0, 1)
    assert bench.stored(upload) == CONTENT


def test_interrupted_reader_makes_no_claim(bench: Bench, upload: Upload) -> None:
    taken: list[Upload] = []
    reader = short(
        lambda: taken.append(bench.engine.append.take_over(upload)), BodyInterrupted()
    )
    with pytest.raises(Superseded):
        append(bench, upload, reader)
    assert bench.row(upload).fence == taken[0].fence


def test_client_that_disconnects_before_its_claim_changes_nothing(
    bench: Bench, upload: Upload
) -> None:
    with pytest.raises(BodyInterrupted):
        append(bench, upload, short(BodyInterrupted()))
    assert bench.row(upload) == upload


# -- bodies of one block at the end of the file ---------------------------------------


@pytest.fixture
def plain(bench: Bench) -> Bench:
    """No hook inspects the first bytes."""
    bench.policy.inspects = False
    return bench


def test_body_in_one_block_is_committed_without_a_claim(
    plain: Bench, upload: Upload
) -> None:
    calls = watch(plain)
    after = append(plain, upload, short(CONTENT))
    assert calls == ["advance", "holds"]
    assert after == plain.row(upload)
    assert (after.fence, plain.stored(upload)) == (upload.fence, CONTENT)


def test_new_upload_is_committed_without_a_check_of_the_fence(
    plain: Bench, upload: Upload
) -> None:
    calls = watch(plain)
    plain.engine.append.stream_first(upload, 10, short(CONTENT))
    assert calls == ["advance", "holds"]
    assert plain.stored(upload) == CONTENT


def test_last_bytes_begin_the_completion(plain: Bench, upload: Upload) -> None:
    reader = short(CONTENT)
    begun = plain.engine.append.stream(upload, 0, 10, reader, finishing=True)
    assert begun == plain.row(upload)
    assert begun.status is Status.COMPLETING


@pytest.mark.parametrize(
    "script",
    [(CONTENT[:5], CONTENT[5:]), (CONTENT[:5], None, CONTENT[5:])],
    ids=["in two blocks", "with a pause"],
)
def test_body_in_several_blocks_is_claimed(
    plain: Bench, upload: Upload, script: tuple[object, ...]
) -> None:
    calls = watch(plain)
    append(plain, upload, short(*script))
    assert calls[0] == "claim"
    assert plain.stored(upload) == CONTENT


def test_block_after_uncommitted_bytes_checks_the_fence(
    plain: Bench, upload: Upload
) -> None:
    calls = watch(plain)
    append(plain, upload, ScriptedReader(CONTENT[:5], lambda: None, CONTENT[5:]))
    assert calls[:3] == ["claim", "holds", "advance"]
    assert calls.index("advance") < len(calls) - 2


def test_body_beyond_the_end_is_claimed(plain: Bench, upload: Upload) -> None:
    calls = watch(plain)
    with pytest.raises(ChunkSizeMismatch):
        append(plain, upload, short(CONTENT + b"more"))
    assert calls[0] == "claim"
    assert plain.stored(upload) == CONTENT


def test_uncommitted_bytes_of_another_writer_need_a_claim(
    plain: Bench, upload: Upload
) -> None:
    mine = short(CONTENT)
    calls: list[str] = []

    def overtake() -> None:
        plain.repository.before = calls.append
        append(plain, plain.row(upload), mine)

    with pytest.raises(Superseded):
        append(plain, upload, ScriptedReader(b"abc", overtake, b"def"))
    assert calls[0] == "claim"
    assert plain.stored(upload) == CONTENT


def test_silent_writer_is_interrupted_and_superseded(
    plain: Bench, upload: Upload
) -> None:
    theirs = ScriptedReader(
        None, lambda: append(plain, plain.row(upload), short(CONTENT)), b"other"
    )
    with pytest.raises(Superseded):
        append(plain, upload, theirs)
    assert theirs.interrupts == 1
    assert plain.stored(upload) == CONTENT


@pytest.mark.parametrize("when", ["before the section", "before the commit"])
def test_offset_that_a_take_over_returned_stays_true(
    plain: Bench, upload: Upload, when: str
) -> None:
    def take_over(name: str = "advance") -> None:
        if name == "advance":
            plain.repository.before = lambda name: None
            plain.engine.append.take_over(upload)

    if when == "before the commit":
        plain.repository.before = take_over
    else:
        take_over()
    with pytest.raises(Superseded):
        append(plain, upload, short(CONTENT))
    row = plain.row(upload)
    assert (row.offset, row.fence) == (0, upload.fence + 1)
    assert list(plain.storage.stored()) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"status": Status.COMPLETING}, OffsetMismatch),
        ({"status": Status.COMPLETE}, AlreadyComplete),
        ({"offset": 7}, OffsetMismatch),
        ({"status": Status.TERMINATING}, UnknownUpload),
    ],
    ids=["completing", "complete", "elsewhere", "terminating"],
)
@pytest.mark.parametrize("start", [0, 5])
def test_refused_commit_leaves_the_file_as_it_was(
    plain: Bench,
    upload: Upload,
    start: int,
    change: dict[str, object],
    error: type[Exception],
) -> None:
    if start:
        upload = plain.engine.append.stream(upload, 0, start, short(CONTENT[:start]))
    row = replace(upload, **change)  # type: ignore[arg-type]
    plain.repository.rows[upload.id] = row
    with pytest.raises(error):
        append(plain, upload, short(CONTENT[start:]))
    assert plain.repository.rows[upload.id] == row
    assert [item.size for item in plain.storage.stored()] == [start] * bool(start)


def test_new_upload_that_was_taken_over_gets_no_bytes(
    plain: Bench, upload: Upload
) -> None:
    plain.engine.append.take_over(upload)
    with pytest.raises(Superseded):
        plain.engine.append.stream_first(upload, 10, short(CONTENT))
    assert plain.row(upload).offset == 0
    assert list(plain.storage.stored()) == []


def test_after_an_unanswered_commit_the_next_append_claims(
    plain: Bench, upload: Upload
) -> None:
    def fail(name: str) -> None:
        if name == "advance":
            raise DatabaseUnavailable()

    plain.repository.before = fail
    with pytest.raises(DatabaseUnavailable):
        append(plain, upload, short(CONTENT))
    calls = watch(plain)
    # Its uncommitted bytes stay in the file and do not count.
    append(plain, plain.row(upload), short(b"abcdefghij"))
    assert calls[0] == "claim"
    assert plain.stored(upload) == b"abcdefghij"


def test_bytes_of_another_writer_are_never_committed(
    plain: Bench, upload: Upload
) -> None:
    """Both have the same fence; the commit of one fails when its bytes are written."""
    failures: list[str] = []

    def fail(name: str) -> None:
        if name == "advance" and not failures:
            failures.append(name)
            raise DatabaseUnavailable()

    def disturb() -> None:
        plain.repository.before = fail
        with pytest.raises(DatabaseUnavailable):
            append(plain, plain.row(upload), short(CONTENT))

    after = append(plain, upload, ScriptedReader(None, disturb, b"abcdefghij"))
    assert failures == ["advance"]
    assert after.offset == 10
    assert plain.stored(upload) == b"abcdefghij"


# -- a storage that keeps parts and cannot read them -----------------------------------


class PartAppender(MemoryAppender):
    """Saves a state before each block; each flush makes a part."""

    save: Callable[[State], None]
    saved = 0
    commits: list[bool]

    def bind(self, save: Callable[[State], None]) -> None:
        self.save = save
        self.commits = []

    def write(self, block: bytes | bytearray | memoryview) -> None:
        self.saved += 1
        self.save({"taken": self.saved})
        super().write(block)

    def flush(self) -> Receipt:
        super().flush()
        part = Part(self.saved, self.position, f"etag {self.saved}")
        return Receipt({"taken": self.saved, "flushed": self.position}, (part,))

    def committed(self) -> None:
        self.commits.append(True)

    def rollback(self) -> None:
        self.commits.append(False)


class PartStorage(MemoryStorage):
    """Records the parts that ``finalize`` gets."""

    reads_unfinished = False
    keeps_parts = True
    last: PartAppender
    finalized: list[tuple[Part, ...]]

    def appender(self, blob: Blob) -> PartAppender:
        self.last = PartAppender(self, blob)
        return self.last

    def new_state(self, length: int | None) -> State:
        return {"length": length}

    def finalize(self, blob: Blob) -> Receipt:
        self.finalized.append(blob.parts)
        return super().finalize(blob)


@pytest.fixture
def parts_bench() -> Bench:
    bench = Bench()
    bench.storage.__class__ = PartStorage
    storage = bench.storage
    assert isinstance(storage, PartStorage)
    storage.finalized = []
    return bench


def storage_of(parts_bench: Bench) -> PartStorage:
    assert isinstance(parts_bench.storage, PartStorage)
    return parts_bench.storage


def test_new_upload_has_the_state_that_the_storage_gives_it(parts_bench: Bench) -> None:
    assert parts_bench.row(parts_bench.create(10)).storage_state == {"length": 10}


def test_finalize_gets_the_parts_of_all_steps(parts_bench: Bench) -> None:
    upload = parts_bench.create(10)
    for start, block in ((0, b"0123"), (4, b"456789")):
        reader = ScriptedReader(block)
        upload = parts_bench.engine.append.stream(upload, start, None, reader)
    assert parts_bench.row(upload).storage_state == {"taken": 1, "flushed": 10}
    parts_bench.engine.complete.request(upload, None)
    (parts,) = storage_of(parts_bench).finalized
    assert [part.size for part in parts] == [4, 10]


def test_storage_learns_that_its_receipt_is_committed(parts_bench: Bench) -> None:
    parts_bench.filled()
    assert storage_of(parts_bench).last.commits == [True]


def test_saved_state_moves_nothing_else(parts_bench: Bench) -> None:
    upload = parts_bench.create(8)
    reader = ScriptedReader(b"0123")
    upload = parts_bench.engine.append.stream(upload, 0, None, reader)
    before = parts_bench.row(upload)

    def look(name: str) -> None:
        row = parts_bench.row(upload)
        if row.storage_state == {"taken": 1} and name == "holds":
            assert (row.offset, row.last_start) == (4, before.last_start)
            assert row.last_digest == before.last_digest

    parts_bench.repository.before = look
    parts_bench.engine.append.stream(upload, 4, None, ScriptedReader(b"4567"))


def test_superseded_writer_saves_no_state_and_writes_nothing(
    parts_bench: Bench,
) -> None:
    upload = parts_bench.create(10)
    storage = storage_of(parts_bench)
    seen: list[str] = []

    def overtake(name: str) -> None:
        if name == "advance" and not seen:
            seen.append(name)
            parts_bench.repository.take_over(upload.id)

    parts_bench.repository.before = overtake
    with pytest.raises(Superseded):
        parts_bench.engine.append.stream(upload, 0, None, ScriptedReader(b"0123"))
    assert parts_bench.row(upload).storage_state == {"length": 10}
    assert storage.last.commits == []


def test_storage_learns_that_its_receipt_is_lost(parts_bench: Bench) -> None:
    upload = parts_bench.create(10)
    advances = []

    def overtake(name: str) -> None:
        advances.append(name)
        # The first one saves the part's number.
        if advances.count("advance") == 2 and name == "advance":
            parts_bench.repository.take_over(upload.id)

    parts_bench.repository.before = overtake
    with pytest.raises(Superseded):
        parts_bench.engine.append.stream(upload, 0, None, ScriptedReader(b"0123"))
    assert storage_of(parts_bench).last.commits == [False]


def test_digest_is_computed_from_the_finished_bytes(parts_bench: Bench) -> None:
    upload = parts_bench.filled(b"0123456789")
    right = ExpectedDigest("sha256", hashlib.sha256(b"0123456789").hexdigest())
    with pytest.raises(ChecksumMismatch):
        parts_bench.engine.complete.request(upload, ExpectedDigest("sha256", "0" * 64))
    assert len(storage_of(parts_bench).finalized) == 1
    assert parts_bench.engine.complete.request(upload, right).completed_now
    assert len(storage_of(parts_bench).finalized) == 3
