"""Bytes go after their row; what fails is noted and finished later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_chunked.engine.records import Upload
from flask_chunked.exceptions import StorageError
from flask_chunked.storage.base import Blob
from tests.engine.fakes import Bench


@pytest.fixture
def upload(bench: Bench) -> Upload:
    """An upload with all its bytes."""
    return bench.filled(b"0123456789")


@pytest.fixture
def bench() -> Bench:
    """An engine in memory."""
    return Bench()


@pytest.mark.parametrize(
    "error", [StorageError(), OSError("of a storage that translates nothing")], ids=repr
)
def test_a_failing_storage_is_tried_again_later(
    bench: Bench,
    upload: Upload,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(blob: Blob) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(bench.storage, "delete", fail)
        bench.engine.remove.terminate(upload)
        assert bench.repository.rows == {}
        assert bench.policy.seen("terminated") == [10]
        ((removal, failure),) = bench.engine.remove.finish_removals()
        assert (removal.upload_id, failure) == (upload.id, error)
    assert f"bytes of {upload.id} ({upload.storage_key}) stay" in caplog.text
    ((removal, failure),) = bench.engine.remove.finish_removals()
    assert failure is None
    assert list(bench.engine.remove.finish_removals()) == []
    assert list(bench.storage.stored()) == []


def test_a_moved_file_has_no_bytes_to_delete(bench: Bench, upload: Upload) -> None:
    bench.engine.remove.delete_bytes(replace(upload, storage_key=None))
    assert len(list(bench.storage.stored())) == 1
    bench.engine.remove.delete_bytes(upload)
    assert list(bench.storage.stored()) == []


def test_a_note_that_is_not_forgotten_is_harmless(bench: Bench, upload: Upload) -> None:
    bench.repository.failing = {"forget_removals"}
    bench.engine.remove.terminate(upload)
    assert list(bench.storage.stored()) == []
    bench.repository.failing = set()
    assert [error for _, error in bench.engine.remove.finish_removals()] == [None]
    assert bench.repository.noted == {}
