"""What the engine does for a storage that keeps parts and cannot read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from flask_chunked.engine.records import Expected
from flask_chunked.exceptions import ChecksumMismatch, Superseded
from flask_chunked.storage.base import Blob, Part, Receipt, State
from flask_chunked.storage.memory import MemoryAppender, MemoryStorage

from .fakes import Bench, ScriptedReader


class PartAppender(MemoryAppender):
    """Saves a state before each block, as for a part's number; each flush is a part."""

    save: Callable[[State], None]
    saved = 0
    settled: list[bool]

    def bind(self, save: Callable[[State], None]) -> None:
        self.save = save
        self.settled = []

    def write(self, block: bytes | bytearray | memoryview) -> None:
        self.saved += 1
        self.save({"taken": self.saved})
        super().write(block)

    def flush(self) -> Receipt:
        super().flush()
        part = Part(self.saved, self.position, f"etag {self.saved}")
        return Receipt({"taken": self.saved, "flushed": self.position}, (part,))

    def settle(self, *, committed: bool) -> None:
        self.settled.append(committed)


class PartStorage(MemoryStorage):
    """Remembers with which parts it was asked to finalize."""

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
def bench() -> Bench:
    made = Bench()
    made.storage.__class__ = PartStorage
    storage = made.storage
    assert isinstance(storage, PartStorage)
    storage.finalized = []
    return made


def storage_of(bench: Bench) -> PartStorage:
    assert isinstance(bench.storage, PartStorage)
    return bench.storage


def test_new_upload_has_the_state_that_the_storage_gives_it(bench: Bench) -> None:
    assert bench.row(bench.create(10)).storage_state == {"length": 10}


def test_parts_of_all_steps_are_there_at_the_end(bench: Bench) -> None:
    upload = bench.create(10)
    for start, block in ((0, b"0123"), (4, b"456789")):
        reader = ScriptedReader(block)
        upload = bench.engine.append.stream(upload, start, None, reader)
    assert bench.row(upload).storage_state == {"taken": 1, "flushed": 10}
    bench.engine.complete.request(upload, None)
    (parts,) = storage_of(bench).finalized
    assert [part.size for part in parts] == [4, 10]


def test_storage_is_told_that_its_receipt_is_in_the_row(bench: Bench) -> None:
    bench.filled()
    assert storage_of(bench).last.settled == [True]


def test_saved_state_moves_nothing_else(bench: Bench) -> None:
    upload = bench.create(8)
    reader = ScriptedReader(b"0123")
    upload = bench.engine.append.stream(upload, 0, None, reader)
    before = bench.row(upload)

    def look(name: str) -> None:
        row = bench.row(upload)
        if row.storage_state == {"taken": 1} and name == "holds":
            assert (row.offset, row.last_start) == (4, before.last_start)
            assert row.last_digest == before.last_digest

    bench.repository.before = look
    bench.engine.append.stream(upload, 4, None, ScriptedReader(b"4567"))


def test_superseded_writer_saves_no_state_and_writes_nothing(bench: Bench) -> None:
    upload = bench.create(10)
    storage = storage_of(bench)
    seen: list[str] = []

    def overtake(name: str) -> None:
        if name == "advance" and not seen:
            seen.append(name)
            bench.repository.take_over(upload.id)

    bench.repository.before = overtake
    with pytest.raises(Superseded):
        bench.engine.append.stream(upload, 0, None, ScriptedReader(b"0123"))
    assert bench.row(upload).storage_state == {"length": 10}
    assert storage.last.settled == []


def test_superseded_writer_is_told_that_its_receipt_is_lost(bench: Bench) -> None:
    upload = bench.create(10)
    advances = []

    def overtake(name: str) -> None:
        advances.append(name)
        # The first one takes the part's number.
        if advances.count("advance") == 2 and name == "advance":
            bench.repository.take_over(upload.id)

    bench.repository.before = overtake
    with pytest.raises(Superseded):
        bench.engine.append.stream(upload, 0, None, ScriptedReader(b"0123"))
    assert storage_of(bench).last.settled == [False]


def test_digest_is_taken_from_the_finished_bytes(bench: Bench) -> None:
    upload = bench.filled(b"0123456789")
    right = Expected("sha256", hashlib.sha256(b"0123456789").hexdigest())
    with pytest.raises(ChecksumMismatch):
        bench.engine.complete.request(upload, Expected("sha256", "0" * 64))
    assert len(storage_of(bench).finalized) == 1
    assert bench.engine.complete.request(upload, right).first
    assert len(storage_of(bench).finalized) == 3
