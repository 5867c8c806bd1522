"""The memory of a form, and how long it is held."""

from __future__ import annotations

import gc
import io
import time
import weakref
from collections.abc import Iterator

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from flask_chunked.engine.digest_thread import WORTH, DigestThread
from flask_chunked.request import buffers, forms, multipart, parts
from flask_chunked.request.multipart import MultipartForm
from flask_chunked.storage.local.stage import LocalStage

from ..conftest import AppFactory
from ..exchange import begin, put_form, put_raw

CONTENT = bytes(range(251)) * 400


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[object]]]:
    """References to all buffers taken and forms parsed; no buffer stays idle."""
    seen: list[weakref.ref[object]] = []

    class Buffer(bytearray):
        """A buffer that can be referred to weakly."""

    def take(size: int) -> bytearray:
        buffer = Buffer(size)
        seen.append(weakref.ref(buffer))
        return buffer

    made = MultipartForm.__init__

    def make(form: MultipartForm, *arguments: object, **named: object) -> None:
        seen.append(weakref.ref(form))
        made(form, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(multipart, "take_buffer", take)
    monkeypatch.setattr(parts, "take_buffer", take)
    monkeypatch.setattr(buffers, "MAX_IDLE", 0)
    monkeypatch.setattr(MultipartForm, "__init__", make)
    gc.collect()
    gc.disable()
    yield seen
    gc.enable()


def put_cut_form(app: Flask, url: str, data: bytes, content_range: str) -> int:
    """Send a form whose body ends in the middle of its file; return the status."""
    built = EnvironBuilder(
        path=url, method="PUT", data={"file": (io.BytesIO(data), "a.bin")}
    )
    environ = built.get_environ()
    built.close()
    body = environ["wsgi.input"].read()
    environ["wsgi.input"] = io.BytesIO(body[: len(body) // 2])
    environ["HTTP_CONTENT_RANGE"] = content_range
    told: list[str] = []
    answer = app.wsgi_app(environ, lambda status, *_: told.append(status))  # type: ignore[arg-type]
    getattr(answer, "close", lambda: None)()
    return int(told[0].split()[0])


@pytest.mark.parametrize("first", [True, False], ids=["first", "next"])
def test_a_truncated_form_frees_its_memory(
    app: Flask, client: FlaskClient, taken: list[weakref.ref[object]], first: bool
) -> None:
    url, start = "/uploads/", 0
    if not first:
        url, start = begin(client, b"12345", 5 + len(CONTENT)), 5
        taken.clear()
    end = start + len(CONTENT)
    said = f"bytes {start}-{end - 1}/{end}"
    assert put_cut_form(app, url, CONTENT, said) == 400
    assert len(taken) >= 2
    assert [ref() for ref in taken if ref() is not None] == []


def test_a_complete_form_frees_its_memory(
    client: FlaskClient, taken: list[weakref.ref[object]]
) -> None:
    assert put_form(client, CONTENT).status_code == 200
    assert put_raw(client, CONTENT).status_code == 200
    assert len(taken) >= 2
    assert [ref() for ref in taken if ref() is not None] == []


@pytest.mark.local_disk
def test_the_stage_of_a_chunk_knows_how_long_it_will_be(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    monkeypatch.setattr(
        LocalStage, "set_length", lambda stage, length: lengths.append(length)
    )
    total = 2 * len(CONTENT)
    assert put_form(client, CONTENT, total=total).status_code == 200
    assert lengths == [len(CONTENT)]


def test_a_form_that_the_app_has_read_is_not_read_faster_than_it_is_hashed(
    app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory()

    @app.before_request
    def read() -> None:
        assert request.files is not None

    most = 0
    update, take = DigestThread.update, DigestThread._take

    def noted(thread: DigestThread, block: memoryview) -> None:
        nonlocal most
        update(thread, block)
        most = max(most, thread._waiting)

    def slowly(thread: DigestThread, block: memoryview) -> None:
        time.sleep(0.01)
        take(thread, block)

    monkeypatch.setattr(forms, "BUFFER_SIZE", WORTH)
    monkeypatch.setattr(DigestThread, "update", noted)
    monkeypatch.setattr(DigestThread, "_take", slowly)
    answer = put_form(app.test_client(), bytes(3 * WORTH))
    assert answer.status_code == 200
    assert 1 <= most <= 2
