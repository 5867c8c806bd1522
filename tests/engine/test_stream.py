"""Sections of a streamed body: spliced or read, commits, digests, repeats."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flask_chunked.engine import stream
from flask_chunked.engine.records import ExpectedDigest, NewUpload, Upload
from flask_chunked.engine.splice import Pipe
from flask_chunked.exceptions import (
    BodyInterrupted,
    BytesMissing,
    ChecksumMismatch,
    ChunkSizeMismatch,
    StorageError,
    StorageFull,
    UnknownUpload,
)
from flask_chunked.storage.base import StorageSettings
from flask_chunked.storage.local import LocalStorage
from flask_chunked.storage.local.writer import LocalAppender
from tests.engine.fakes import Bench, ScriptedReader

BLOCK = os.urandom(50_000)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An engine on a real directory."""
    return Bench(storage=LocalStorage(StorageSettings(base=str(tmp_path))))


@pytest.fixture
def spliced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of all splices from a pipe into a file."""
    moves: list[int] = []
    real = os.splice

    def watch(source: int, target: int, count: int, **options: Any) -> int:
        moved = real(source, target, count, **options)
        moves.append(moved)
        return moved

    monkeypatch.setattr(os, "splice", watch)
    yield moves


def splicing(*script: Any) -> ScriptedReader:
    reader = ScriptedReader(*script)
    reader.can_splice = True
    return reader


def create(bench: Bench, length: int, hash_name: str | None = None) -> Upload:
    return bench.engine.create.upload(
        NewUpload(
            user="ann",
            filename="a",
            length=length,
            dialect="test",
            hash_name=hash_name,
        )
    )


def test_bytes_after_the_first_block_go_through_a_pipe(
    bench: Bench, spliced: list[int]
) -> None:
    upload = create(bench, 150_000)
    reader = splicing(BLOCK, BLOCK, None, BLOCK)
    after = bench.engine.append.stream(upload, 0, 150_000, reader)
    assert after.offset == 150_000
    assert bench.stored(upload) == BLOCK * 3
    assert sum(spliced) == 50_000


def test_the_storage_knows_how_long_the_file_will_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    monkeypatch.setattr(
        LocalAppender, "set_length", lambda appender, length: lengths.append(length)
    )
    upload = create(bench, 150_000)
    bench.engine.append.stream(upload, 0, 50_000, splicing(BLOCK))
    unknown = bench.create(None)
    bench.engine.append.stream(unknown, 0, None, splicing(BLOCK))
    assert lengths == [150_000]


def test_hashed_bytes_do_not_go_through_a_pipe(
    bench: Bench, spliced: list[int]
) -> None:
    upload = create(bench, 100_000, "md5")
    bench.engine.append.stream(upload, 0, 100_000, splicing(BLOCK, BLOCK))
    assert spliced == []
    assert bench.stored(upload) == BLOCK * 2


def test_a_reader_that_cannot_splice_is_read(bench: Bench, spliced: list[int]) -> None:
    upload = create(bench, 150_000)
    reader = ScriptedReader(BLOCK, BLOCK, BLOCK)
    bench.engine.append.stream(upload, 0, 150_000, reader)
    assert spliced == []
    assert bench.stored(upload) == BLOCK * 3


def test_without_a_pipe_bytes_are_read(
    bench: Bench, spliced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError("pipe-user-pages-soft")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert Pipe.open() is None
    before = len(os.listdir("/proc/self/fd"))
    upload = create(bench, 100_000)
    bench.engine.append.stream(upload, 0, 100_000, splicing(BLOCK, BLOCK))
    assert spliced == []
    assert bench.stored(upload) == BLOCK * 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_splice_no_pipe_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "splice")
    assert Pipe.open() is None


def test_a_file_system_without_splice_gets_all_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "splice", refuse)
    upload = create(bench, 100_000)
    bench.engine.append.stream(upload, 0, 100_000, splicing(BLOCK, BLOCK))
    assert bench.stored(upload) == BLOCK * 2


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageError)]
)
def test_a_failed_splice_keeps_the_bytes_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    real = os.splice

    def fail(source: int, target: int, count: int, **options: Any) -> int:
        if options.get("offset_dst", 0) > 50_000:
            raise OSError(code, "")
        return real(source, target, 1000, **options)

    monkeypatch.setattr(os, "splice", fail)
    upload = create(bench, 100_000)
    with pytest.raises(kind):
        bench.engine.append.stream(upload, 0, 100_000, splicing(BLOCK, BLOCK))
    row = bench.row(upload)
    assert row.offset == 50_000
    monkeypatch.setattr(os, "splice", real)
    bench.engine.append.stream(row, 50_000, 100_000, splicing(BLOCK))
    assert bench.stored(upload) == BLOCK * 2


def test_without_a_length_all_further_bytes_are_spliced(
    bench: Bench, spliced: list[int]
) -> None:
    upload = bench.create(None)
    after = bench.engine.append.stream(upload, 0, None, splicing(BLOCK, BLOCK))
    assert (after.offset, sum(spliced)) == (100_000, 50_000)


def test_no_byte_beyond_the_end_is_spliced(bench: Bench, spliced: list[int]) -> None:
    upload = create(bench, 60_000)
    reader = splicing(BLOCK, BLOCK)
    with pytest.raises(ChunkSizeMismatch):
        bench.engine.append.stream(upload, 0, 60_000, reader)
    assert sum(spliced) == 10_000
    assert bench.stored(upload) == (BLOCK * 2)[:60_000]


def test_a_section_ends_when_its_time_is_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SECTION_SECONDS", -1)
    asked: list[str] = []
    bench.repository.before = asked.append
    upload = create(bench, 150_000)
    bench.engine.append.stream(upload, 0, 150_000, ScriptedReader(*[BLOCK] * 3))
    # MemoryRepository.advance() calls holds() itself.
    assert asked.count("holds") == 3 + 1
    assert asked.count("advance") == 1


def test_one_section_checks_the_fence_once_and_commits_once(bench: Bench) -> None:
    asked: list[str] = []
    bench.repository.before = asked.append
    upload = create(bench, 150_000)
    bench.engine.append.stream(upload, 0, 150_000, splicing(*[BLOCK] * 3))
    assert asked == ["create", "claim", "holds", "advance", "holds"]


def test_an_interruption_after_a_splice_keeps_all_bytes(bench: Bench) -> None:
    upload = create(bench, 150_000)
    reader = splicing(BLOCK, BLOCK, BodyInterrupted())
    with pytest.raises(BodyInterrupted):
        bench.engine.append.stream(upload, 0, 150_000, reader)
    assert bench.row(upload).offset == 100_000
    assert bench.stored(upload) == BLOCK * 2


def test_a_storage_failure_after_an_interruption_is_raised(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = create(bench, 150_000)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "")

    def break_down() -> None:
        monkeypatch.setattr(os, "fdatasync", fail)
        raise BodyInterrupted()

    reader = ScriptedReader(BLOCK, break_down)
    with pytest.raises(StorageError):
        bench.engine.append.stream(upload, 0, 150_000, reader)
    assert bench.row(upload).offset == 0


# -- the file's digest -----------------------------------------------------------------


def complete(bench: Bench, upload: Upload, content: bytes) -> None:
    digest = hashlib.md5(content).hexdigest()
    bench.engine.complete.request(bench.row(upload), ExpectedDigest("md5", digest))


def no_reading(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the file is read")

    monkeypatch.setattr(bench.storage, "open", refuse)


def test_completion_does_not_read_hashed_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = create(bench, 150_000, "md5")
    bench.engine.append.stream(upload, 0, 50_000, ScriptedReader(BLOCK))
    with bench.storage.stage() as stage:
        stage.write(BLOCK)
        digest = bench.engine.append.file_digest(bench.row(upload))
        assert digest is not None
        digest.update(BLOCK)
        bench.engine.append.whole(upload, 50_000, stage, digest)
    bench.engine.append.stream(upload, 100_000, 150_000, ScriptedReader(BLOCK))
    no_reading(bench, monkeypatch)
    with pytest.raises(ChecksumMismatch):
        complete(bench, upload, BLOCK)
    complete(bench, upload, BLOCK * 3)


@pytest.mark.parametrize("origin", [None, b"of another past"])
def test_a_stage_digest_of_another_origin_is_ignored(
    bench: Bench, origin: bytes | None
) -> None:
    upload = create(bench, 100_000, "md5")
    bench.engine.append.stream(upload, 0, 50_000, ScriptedReader(BLOCK))
    with bench.storage.stage() as stage:
        stage.write(BLOCK)
        digest = bench.engine.append.file_digest(bench.row(upload))
        assert digest is not None
        digest.origin = origin
        after = bench.engine.append.whole(upload, 50_000, stage, digest)
    assert after.hash_state is None
    complete(bench, upload, BLOCK * 2)


def test_without_a_state_the_file_is_read(bench: Bench) -> None:
    upload = create(bench, 100_000, "md5")
    bench.engine.append.stream(upload, 0, 50_000, ScriptedReader(BLOCK))
    row = bench.row(upload)
    bench.repository.rows[upload.id] = replace(row, hash_state=None)
    after = bench.engine.append.stream(upload, 50_000, 100_000, ScriptedReader(BLOCK))
    assert after.hash_state is None
    complete(bench, upload, BLOCK * 2)


def test_a_state_of_another_algorithm_is_not_used(bench: Bench) -> None:
    upload = create(bench, 50_000, "sha1")
    bench.engine.append.stream(upload, 0, 50_000, ScriptedReader(BLOCK))
    complete(bench, upload, BLOCK)


def test_a_storage_that_cannot_read_keeps_digests_of_chunks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.storage, "reads_unfinished", False, raising=False)
    upload = create(bench, 100_000)
    after = bench.engine.append.stream(upload, 0, 50_000, ScriptedReader(BLOCK))
    assert after.last_digest == hashlib.sha256(BLOCK).hexdigest()
    with bench.storage.stage() as stage:
        stage.write(b"12345")
        after = bench.engine.append.whole(upload, 50_000, stage)
    assert after.last_digest == hashlib.sha256(b"12345").hexdigest()
    no_reading(bench, monkeypatch)
    assert bench.engine.append.is_repeat(after, 50_000, 50_005, after.last_digest)
    assert not bench.engine.append.is_repeat(after, 50_000, 50_004, after.last_digest)
    assert not bench.engine.append.is_repeat(after, 50_000, 50_005, "0" * 64)


def test_a_moved_file_has_no_repeats(bench: Bench) -> None:
    upload = bench.filled(BLOCK)
    digest = hashlib.sha256(BLOCK).hexdigest()
    assert bench.engine.append.is_repeat(upload, 0, len(BLOCK), digest)
    moved = replace(upload, storage_key=None)
    assert not bench.engine.append.is_repeat(moved, 0, len(BLOCK), digest)


def test_a_repeat_during_deletion_finds_no_upload(bench: Bench) -> None:
    """The row is read before the removal of the upload, the bytes after it."""
    upload = bench.filled(BLOCK)
    digest = hashlib.sha256(BLOCK).hexdigest()
    bench.engine.remove.terminate(upload)
    with pytest.raises(UnknownUpload):
        bench.engine.append.is_repeat(upload, 0, len(BLOCK), digest)


def test_a_repeat_of_missing_bytes_is_bytes_missing(bench: Bench) -> None:
    upload = bench.filled(BLOCK)
    assert upload.blob is not None
    bench.storage.delete(upload.blob)
    with pytest.raises(BytesMissing):
        bench.engine.append.is_repeat(
            upload, 0, len(BLOCK), hashlib.sha256(BLOCK).hexdigest()
        )
