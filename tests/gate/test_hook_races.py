"""Hooks where requests meet: one ``verify`` at a time, ``inspect`` of all bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial as bound
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.engine import verification
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import ChunkedUploadError
from tests.apps import registered, rows, stop_clock
from tests.dialects.tus import Tus
from tests.exchange import finish
from tests.figures import figure

from .rivals import Rival, after, before, give_up_at_once, together

ROOT = Path(__file__).parents[2]
ROUNDS = figure("GATE_HOOK_ROUNDS", 3, 200)
CLIENTS = 8
NewApp = Callable[..., Flask]


class Slow(ChunkedUploadBlueprint):
    """Takes its time to verify, and notes who does.

    :ivar most: that were at it at once.
    """

    seconds = 0.15
    error: Exception | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.verified: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()

    def verify(self, upload: Any) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.verified[str(upload.id)] += 1
        try:
            time.sleep(self.seconds)
            if self.error is not None:
                raise self.error
        finally:
            with self._lock:
                self._now -= 1

    def deliver(self, upload: Any) -> None:
        with self._lock:
            self.delivered[str(upload.id)] += 1


def slow(app: Flask) -> Slow:
    blueprint = app.blueprints["uploads"]
    assert isinstance(blueprint, Slow)
    return blueprint


def client(app: Flask) -> Tus:
    return Tus(app.test_client())


def crowd(app: Flask, url: str, data: bytes) -> list[Callable[[], TestResponse]]:
    """Eight requests that may complete an upload whose bytes are all there."""
    head = [bound(client(app).head, url) for _ in range(3)]
    patch = [bound(client(app).patch, url, len(data)) for _ in range(3)]
    post = [bound(finish, app.test_client(), url, data) for _ in range(2)]
    return [*head, *patch, *post]


# -- verify ----------------------------------------------------------------------------


def test_one_of_eight_clients_verifies_and_all_are_told(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = raced(blueprint_class=Slow, CHUNKED_UPLOAD_DOWNLOADS=True)
    blueprint = slow(app)
    for _ in range(ROUNDS):
        url = client(app).create(3)
        last = Rival(bound(client(app).patch, url, 0, b"abc"))
        began = threading.Event()
        after(monkeypatch, registered(app).repository, "advance", began.set)
        last.start()
        assert began.wait(30)
        answers = together(*crowd(app, url, b"abc"))
        assert last.end().status_code == 204
        # The dialect without a status for it says 503.
        assert {answer.status_code for answer in answers[:6]} == {200, 204}
        assert {answer.status_code for answer in answers[6:]} <= {200, 503}
        assert client(app).content(url) == b"abc"
    assert blueprint.most == 1
    assert set(blueprint.verified.values()) == {1}
    assert blueprint.delivered == blueprint.verified


def test_one_of_eight_clients_verifies_a_final_upload(raced: NewApp) -> None:
    app = raced(blueprint_class=Slow, CHUNKED_UPLOAD_DOWNLOADS=True)
    blueprint = slow(app)
    for _ in range(ROUNDS):
        tus = client(app)
        parts = [tus.partial(b"ab", 3) for _ in range(4)]
        urls = [tus.final(*parts).headers["Location"] for _ in range(2)]
        acts = [bound(client(app).patch, part, 2, b"c") for part in parts]
        acts += [bound(client(app).head, url) for url in urls * 2]
        answers = together(*acts)
        assert {answer.status_code for answer in answers} <= {200, 204}
        for url in urls:
            assert tus.content(url) == b"abc" * 4
    assert set(blueprint.verified.values()) == {1}
    assert blueprint.delivered == blueprint.verified


@pytest.mark.parametrize(
    ("error", "status"), [(ChunkedUploadError("no"), 422), (ZeroDivisionError(), 500)]
)
def test_request_that_finds_another_failing_tries_itself(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    app = raced(
        blueprint_class=Slow,
        PROPAGATE_EXCEPTIONS=False,
        CHUNKED_UPLOAD_DOWNLOADS=True,
    )
    tus, blueprint = client(app), slow(app)
    url = tus.create(3)
    repository = registered(app).repository
    blueprint.error, blueprint.seconds = error, 0.0
    begin = repository.begin_completion
    meeting = threading.Event()

    def verify_at_last(upload: Any) -> None:
        # Another request asked to begin, and was not let.
        meeting.wait(30)
        raise error

    def refused(*arguments: Any) -> Any:
        begun = begin(*arguments)
        if begun is None and not meeting.is_set():
            meeting.set()
            failing.join(30)
            monkeypatch.setattr(blueprint, "verify", lambda upload: None)
        return begun

    monkeypatch.setattr(blueprint, "verify", verify_at_last)
    monkeypatch.setattr(repository, "begin_completion", refused)
    codes = []
    failing = threading.Thread(
        target=lambda: codes.append(client(app).patch(url, 0, b"abc").status_code)
    )
    began = threading.Event()
    after(monkeypatch, repository, "advance", began.set)
    failing.start()
    assert began.wait(30)
    answer = tus.head(url)
    failing.join(30)
    assert codes == [status]
    assert answer.status_code == 200, answer.status
    assert tus.content(url) == b"abc"


def test_verification_whose_process_was_killed_is_begun_once_more_after_a_minute(
    raced: NewApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verification, "PATIENCE", 0.2)
    app = raced(blueprint_class=Slow, CHUNKED_UPLOAD_DOWNLOADS=True)
    blueprint, url = slow(app), client(app).create(3)
    database = app.config["SQLALCHEMY_DATABASE_URI"]
    command = [sys.executable, "-m", "tests.gate.dying", tmp_path, database, url]
    done = subprocess.run(
        [*map(str, command), "0", "abc"], cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    (row,) = rows(app)
    assert row.status is Status.COMPLETING and row.verify_started_at is not None
    for seconds, codes in ((59, {423, 503}), (61, {200, 204, 423, 503})):
        stop_clock(app, row.verify_started_at + timedelta(seconds=seconds))
        answers = together(*crowd(app, url, b"abc"))
        assert {answer.status_code for answer in answers} <= codes
        assert blueprint.verified.total() == (seconds == 61)
    assert blueprint.delivered == blueprint.verified
    assert client(app).content(url) == b"abc"


# -- inspect ---------------------------------------------------------------------------


class Looking(ChunkedUploadBlueprint):
    """Notes what it is shown."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.heads: list[bytes] = []

    def inspect(self, upload: Any, head: bytes) -> None:
        self.heads.append(head)
        if head.startswith(b"bad"):
            raise ChunkedUploadError("not this file")


def heads(app: Flask) -> list[bytes]:
    blueprint = app.blueprints["uploads"]
    assert isinstance(blueprint, Looking)
    return blueprint.heads


@pytest.fixture
def looked(raced: NewApp) -> Flask:
    return raced(blueprint_class=Looking, CHUNKED_UPLOAD_DOWNLOADS=True)


def deferred(tus: Tus, data: bytes) -> str:
    return tus.post(data, Upload_Defer_Length="1").headers["Location"]


@pytest.mark.parametrize("step", ["claim", "advance"])
def test_length_that_is_declared_at_a_step_of_a_writer_shows_its_bytes_once(
    looked: Flask, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tus = client(looked)
    url = deferred(tus, b"abc")
    rival = bound(client(looked).patch, url, 3, Upload_Length="3")
    give_up_at_once(monkeypatch, looked)
    before(monkeypatch, registered(looked).repository, step, rival)
    # Whatever it wrote, it came too late.
    assert tus.patch(url, 3, b"def").status_code in (409, 413)
    assert heads(looked) == [b"abc"]
    assert tus.offset(url) == 3
    assert tus.content(url) == b"abc"
    assert heads(looked) == [b"abc"]


def test_bytes_that_come_between_a_look_and_a_declaration_are_not_passed(
    looked: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus = client(looked)
    url = deferred(tus, b"abc")
    rival = bound(client(looked).patch, url, 3, b"def")
    before(monkeypatch, registered(looked).repository, "declare_length", rival)
    answer = tus.patch(url, 3, Upload_Length="3")
    assert (answer.status_code, "6 bytes" in answer.text) == (400, True), answer.text
    assert tus.offset(url) == 6
    assert tus.patch(url, 6, Upload_Length="6").status_code == 204
    assert heads(looked) == [b"abc", b"abcdef"]
    assert tus.content(url) == b"abcdef"


def test_length_that_is_refused_while_bytes_come_removes_the_upload_or_keeps_them(
    looked: Flask,
) -> None:
    for _ in range(ROUNDS):
        url = deferred(client(looked), b"bad")
        answers = together(
            bound(client(looked).patch, url, 3, Upload_Length="3"),
            bound(client(looked).patch, url, 3, b"der"),
            bound(client(looked).head, url),
        )
        # 400: the length is below the offset, if the other bytes are there already.
        assert answers[0].status_code in (400, 409, 422, 404)
        found = client(looked).head(url)
        if answers[0].status_code == 422 and found.status_code == 404:
            continue
        # The writer was first; no byte of it counts as a file.
        assert found.headers["Upload-Offset"] in ("3", "6")
        offset = int(found.headers["Upload-Offset"])
        late = client(looked).patch(url, offset, Upload_Length=str(offset))
        assert late.status_code == 422
        assert client(looked).head(url).status_code == 404
    assert not [row for row in rows(looked) if row.is_complete]


def test_a_writer_and_declarations_at_once_pass_no_inspection(looked: Flask) -> None:
    data = bytes(range(1, 13))
    for _ in range(ROUNDS):
        url = deferred(client(looked), data[:4])

        def write(url: str = url) -> None:
            tus = client(looked)
            for _ in range(40):
                offset = int(tus.head(url).headers["Upload-Offset"])
                if offset == len(data):
                    return
                tus.patch(url, offset, data[offset : offset + 2])

        def declare(url: str = url) -> None:
            tus = client(looked)
            for _ in range(40):
                head = tus.head(url)
                if "Upload-Length" in head.headers:
                    return
                length = str(len(data))
                tus.patch(url, head.headers["Upload-Offset"], Upload_Length=length)

        heads(looked).clear()
        together(write, declare, declare)
        write()
        assert client(looked).content(url) == data
        # Once; once more only where a declaration came too late with what it had seen.
        assert heads(looked) and set(heads(looked)) == {data}
