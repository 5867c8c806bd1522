"""The engine as one object: its parts share a clock, a source of ids and readers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from flask_chunked.engine.engine import Engine
from flask_chunked.engine.expiry import Lifetimes
from flask_chunked.engine.records import NewUpload, Upload
from flask_chunked.exceptions import Superseded, UnknownUpload, UploadExpired
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.memory import MemoryStorage
from tests.engine.fakes import (
    START,
    Bench,
    Clock,
    MemoryRepository,
    RecordingPolicy,
    ScriptedReader,
)

ID = UUID("0a1b2c3d-0000-4000-8000-000000000000")
NEW = NewUpload("ann", "a.bin", length=3, dialect="test")


@pytest.fixture
def bench() -> Bench:
    """An engine in memory."""
    return Bench()


def engine_with(blueprint: str = "films", lifetimes: Lifetimes | None = None) -> Engine:
    """An engine in memory, whose clock stands still and whose ids are all ``ID``."""
    storage = MemoryStorage(StorageSettings(base="/nowhere"))
    parts = (blueprint, MemoryRepository(), storage, RecordingPolicy())
    if lifetimes is None:
        engine = Engine(*parts, new_id=lambda: ID)
    else:
        engine = Engine(*parts, lifetimes, new_id=lambda: ID)
    engine.clock = Clock()
    return engine


def test_new_row_has_the_blueprint_and_an_id_of_the_source() -> None:
    upload = engine_with("films").create.upload(NEW)
    assert (upload.id, upload.blueprint) == (ID, "films")


def test_event_of_a_completion_has_an_id_of_the_source() -> None:
    engine = engine_with()
    upload = engine.create.upload(NEW)
    upload = engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    assert engine.complete.request(upload, None).upload.event_id == ID


def test_every_part_reads_the_clock_that_replaces_the_first(bench: Bench) -> None:
    upload = bench.filled(b"abc")
    assert upload.created_at == START
    # The parts were made before this clock.
    later = START + timedelta(hours=1)
    bench.engine.clock = lambda: later
    assert bench.engine.ports.clock() == later
    assert bench.create(3).created_at == later
    done = bench.engine.complete.request(upload, None).upload
    assert done.completed_at == later


def test_uploads_live_for_ever_without_lifetimes() -> None:
    engine = engine_with()
    upload = engine.create.upload(NEW)
    engine.clock = lambda: START + timedelta(days=36_500)
    assert engine.expiry.expires_at(upload) is None
    engine.expiry.require_live(upload)


def test_lifetimes_hold_for_every_part() -> None:
    engine = engine_with(lifetimes=Lifetimes(timedelta(hours=1), None))
    upload = engine.create.upload(NEW)
    assert engine.expiry.expires_at(upload) == START + timedelta(hours=1)
    engine.clock = lambda: START + timedelta(hours=2)
    with pytest.raises(UploadExpired):
        engine.expiry.require_live(upload)
    with pytest.raises(UploadExpired):
        engine.append.stream(upload, 0, 3, ScriptedReader(b"abc"))
    (expirable,) = engine.remove.expirable(expired_too=False)
    assert expirable[0].id == upload.id


RIVALS: dict[str, tuple[Callable[[Engine, Upload], object], type[Exception]]] = {
    "take over": (lambda engine, row: engine.append.take_over(row), Superseded),
    "declare": (lambda engine, row: engine.declare.length(row, 6), Superseded),
    "terminate": (lambda engine, row: engine.remove.terminate(row), UnknownUpload),
}


@pytest.mark.parametrize(("rival", "error"), RIVALS.values(), ids=RIVALS)
def test_any_part_interrupts_the_reader_of_an_append(
    bench: Bench, rival: Callable[[Engine, Upload], object], error: type[Exception]
) -> None:
    upload = bench.create(None)
    reader = ScriptedReader(
        b"abc", None, lambda: rival(bench.engine, bench.row(upload)), b"def"
    )
    with pytest.raises(error):
        bench.engine.append.stream(upload, 0, 6, reader)
    assert reader.interrupts == 1


def test_repository_and_storage_are_those_of_the_ports() -> None:
    engine = engine_with()
    assert engine.repository is engine.ports.repository
    assert engine.storage is engine.ports.storage
