"""Defects of drf-chunked-upload when a database or a disk fails: T2, T3, T34-T37.

T1 to T41 are the defects of version 0.6.0, and of similar packages, that this package
was written to avoid.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from flask_chunked.storage.memory import MemoryStorage
from tests.apps import registered
from tests.conftest import AppFactory
from tests.dialects.faults import database_failing, open_files
from tests.dialects.wire import (
    DATA,
    begin,
    contents,
    put,
    ready,
    resume,
    state,
    told,
)


@pytest.fixture(params=["form", "raw"])
def raw(request: pytest.FixtureRequest) -> bool:
    """Chunks as forms, then as bodies."""
    return bool(request.param == "raw")


def test_t02_database_error_after_the_bytes_is_503_and_the_retry_succeeds(
    app: Flask, client: FlaskClient, tmp_path: Path, raw: bool
) -> None:
    url = begin(client)
    with database_failing(app, 'UPDATE chunked_upload SET "offset"'):
        answer = put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)
    assert told(answer) == (503, {"detail": "Database is not available"})
    assert answer.headers["Retry-After"] == "2"
    assert state(client.get(url)) == (200, 1, 5)
    answer = put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)
    assert state(answer) == (200, 1, 10)
    resume(client, url)
    assert contents(tmp_path) == [(".done", DATA)]


@pytest.mark.local_disk
def test_t03_full_disk_is_507_and_the_retry_succeeds(
    client: FlaskClient, tmp_path: Path, raw: bool
) -> None:
    url = begin(client)
    real = os.pwrite

    def full(fd: int, block: Any, offset: int) -> int:
        if len(block) <= 2:
            raise OSError(errno.ENOSPC, "no space left")
        return real(fd, bytes(block)[:3], offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        answer = put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)
    detail = "Not enough space to store the upload"
    assert told(answer) == (507, {"detail": detail})
    assert state(client.get(url)) == (200, 1, 5)
    assert contents(tmp_path) == [(".part", DATA[:5])]
    resume(client, url)
    assert contents(tmp_path) == [(".done", DATA)]


@pytest.mark.local_disk
@pytest.mark.parametrize(
    "failing", ["pwrite", "fdatasync", "flock", "copy_file_range", "ftruncate"]
)
def test_t35_no_descriptor_stays_open_after_an_error(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, raw: bool, failing: str
) -> None:
    url = begin(client)
    before = open_files()

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock" if failing == "flock" else f"os.{failing}", fail)
        answers = [
            put(client, url, DATA[5:], "bytes 5-9/10", raw=raw) for _ in range(3)
        ]
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert open_files() == before
    resume(client, url)


@pytest.mark.local_disk
def test_t35_no_bytes_arrive_late(client: FlaskClient, tmp_path: Path) -> None:
    url = begin(client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "flask_chunked.storage.local.writer.sync_data", _fail_once := _Failing()
        )
        answer = put(client, url, b"wrong", "bytes 5-9/10")
    assert (answer.status_code, _fail_once.calls) == (503, 1)
    resume(client, url)
    assert contents(tmp_path) == [(".done", DATA)]


class _Failing:
    """A call that always fails and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, fd: int) -> None:
        self.calls += 1
        raise OSError(errno.EIO, "lost pages")


@pytest.mark.local_disk
def test_t34_raw_body_needs_no_form_and_is_written_once(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    real = os.pwrite

    def counting(fd: int, block: Any, offset: int) -> int:
        written.append(len(block))
        return real(fd, block, offset)

    monkeypatch.setattr(os, "pwrite", counting)
    resume(client, ready(client))
    assert sum(written) == len(DATA)


def test_t36_memory_storage_passes_the_same_exchange(app_factory: AppFactory) -> None:
    app = app_factory(
        CHUNKED_UPLOAD_STORAGE_CLASS=MemoryStorage, CHUNKED_UPLOAD_DOWNLOADS=True
    )
    client = app.test_client()
    created = put(client, "/uploads/", DATA[:3], "bytes 0-2/10", raw=False)
    url = created.get_json()["url"]
    put(client, url, DATA[3:6], "bytes 3-5/10", raw=False)
    resume(client, url)
    with client.get(f"{url}/file") as content:
        assert content.data == DATA
    assert client.delete(url).status_code == 204


@pytest.mark.local_disk
@pytest.mark.sqlite
@pytest.mark.parametrize("durable", [True, False])
def test_t37_bytes_are_synced_before_the_offset_moves(
    app_factory: AppFactory,
    monkeypatch: pytest.MonkeyPatch,
    raw: bool,
    durable: bool,
) -> None:
    app = app_factory(CHUNKED_UPLOAD_DURABLE=durable)
    client = app.test_client()
    url = begin(client)
    happened: list[str] = []
    real_sync, repository = os.fdatasync, registered(app).repository
    real_advance = repository.advance

    def sync(fd: int) -> None:
        happened.append("sync")
        real_sync(fd)

    def advance(step: Any) -> bool:
        happened.append("offset")
        return real_advance(step)

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(repository, "advance", advance)
    assert state(put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)) == (200, 1, 10)
    assert happened == (["sync", "offset"] if durable else ["offset"])
    with registered(app).database.transaction() as connection:
        mode = connection.execute(text("PRAGMA synchronous")).scalar_one()
    assert mode == (2 if durable else 1)
