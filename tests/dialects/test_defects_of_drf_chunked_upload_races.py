"""Defects of drf-chunked-upload when two work at once: T4, T5, T31, T40.

T1 to T41 are the defects of version 0.6.0, and of similar packages, that this package
was written to avoid.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_chunked import maintenance
from flask_chunked.engine.expiry import utcnow
from flask_chunked.engine.states import Status
from tests.apps import registered, rows
from tests.dialects.wire import (
    DATA,
    MD5,
    begin,
    contents,
    let_pass,
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


@pytest.mark.parametrize("when", ["before the claim", "after the claim"])
def test_t04_of_two_chunks_at_one_offset_one_wins(
    app: Flask,
    client: FlaskClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raw: bool,
    when: str,
) -> None:
    url = begin(client)
    here = registered(app)
    # A short body claims after it has locked the file.
    first: tuple[Any, str] = (here.storage, "appender")
    last: tuple[Any, str] = (here.repository, "advance")
    where, step = first if when == "before the claim" else last
    real = getattr(where, step)
    answers: list[Any] = []

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(where, step, real)
        if when == "before the claim":
            answers.append(put(app.test_client(), url, b"WINNE", "bytes 5-9/10"))
        else:
            app.test_client().head(url)
        return real(*args)

    monkeypatch.setattr(where, step, overtaken)
    answers.append(put(client, url, DATA[5:], "bytes 5-9/10", raw=raw))
    if when == "after the claim":
        answers.append(put(client, url, b"WINNE", "bytes 5-9/10", raw=raw))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    (loser,) = (answer for answer in answers if answer.status_code == 400)
    assert loser.get_json()["detail"] == "Offsets do not match"
    assert contents(tmp_path) == [(".part", DATA[:5] + b"WINNE")]


def test_t04_of_many_chunks_at_one_offset_one_wins(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    url = begin(client)
    barrier = Barrier(4)
    answers: dict[bytes, Any] = {}

    def send(data: bytes) -> None:
        barrier.wait()
        raw = data[:1] in b"AB"
        answers[data] = put(app.test_client(), url, data, "bytes 5-9/10", raw=raw)

    threads = [Thread(target=send, args=(bytes([c]) * 5,)) for c in b"ABCD"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (data for data, answer in answers.items() if answer.status_code == 200)
    assert {answer.status_code for answer in answers.values()} == {200, 400}
    assert contents(tmp_path) == [(".part", DATA[:5] + winner)]


@pytest.mark.parametrize("step", ["finalize", "open"])
def test_t05_chunk_that_races_the_completion_changes_nothing(
    app: Flask,
    client: FlaskClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raw: bool,
    step: str,
) -> None:
    url = ready(client)
    storage = registered(app).storage
    real = getattr(storage, step)
    answers: list[Any] = []

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(storage, step, real)
        for value in ("bytes 5-9/10", "bytes 0-4/10"):
            answers.append(put(app.test_client(), url, b"WRONG", value, raw=raw))
        return real(*args)

    monkeypatch.setattr(storage, step, overtaken)
    # Only a worker without the digest reads the file.
    if step == "open":
        monkeypatch.setattr("flask_chunked.engine.complete.resume", lambda *_: None)
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)
    assert [answer.status_code for answer in answers] == [400, 400]
    assert state(client.get(url)) == (200, 2, 10)
    assert contents(tmp_path) == [(".done", DATA)]


def test_t05_completion_that_races_the_last_chunk_is_incomplete(
    app: Flask, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = begin(client)
    repository = registered(app).repository
    real = repository.advance
    answers: list[Any] = []

    def overtaken(step: Any) -> bool:
        answers.append(app.test_client().post(url, data={"md5": MD5}))
        return real(step)

    monkeypatch.setattr(repository, "advance", overtaken)
    assert state(put(client, url, DATA[5:], "bytes 5-9/10")) == (200, 1, 10)
    detail = "Upload is incomplete: 5 of 10 bytes received"
    assert told(answers[0]) == (400, {"detail": detail})
    resume(client, url)
    assert contents(tmp_path) == [(".done", DATA)]


def test_t31_upload_that_comes_alive_is_not_cleaned_away(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = begin(client)
    here = registered(app)
    now = [utcnow()]
    here.engine.clock = lambda: now[0]
    chosen: list[Any] = []
    real = here.storage.appender

    def chosen_by_the_clean_up(*args: Any) -> Any:
        now[0] = utcnow() + timedelta(days=2)
        chosen.extend(here.engine.remove.expirable(expired_too=True))
        monkeypatch.undo()
        return real(*args)

    # The upload expires while the chunk is being sent; then the chunk arrives.
    monkeypatch.setattr(here.storage, "appender", chosen_by_the_clean_up)
    assert state(put(client, url, DATA[5:7], "bytes 5-6/10")) == (200, 1, 7)
    ((upload, before),) = chosen
    assert here.engine.remove.expire(upload, before, keep_record=False) is None
    assert state(client.get(url)) == (200, 1, 7)


def test_t31_slow_upload_lives_as_long_as_it_moves(
    app: Flask, client: FlaskClient
) -> None:
    url = begin(client)
    for day, start in enumerate(range(5, 10), 1):
        let_pass(app, hours=23 * day)
        data, value = DATA[start : start + 1], f"bytes {start}-{start}/10"
        assert state(put(client, url, data, value)) == (200, 1, start + 1)
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)


def test_t40_clean_up_never_removes_a_finished_upload(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    resume(client, begin(client))
    let_pass(app, days=400)
    with app.app_context():
        assert list(maintenance.delete_expired()) == []
        assert list(maintenance.check(repair=True)) == []
    assert rows(app)[0].status is Status.COMPLETE
    assert contents(tmp_path) == [(".done", DATA)]
