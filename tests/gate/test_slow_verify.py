"""A ``verify`` that takes long: one at a time, whatever clients ask meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError
from flask_chunked.engine import complete as completion
from flask_chunked.engine import verification
from tests.apps import registered, rows, set_clock
from tests.conftest import AppFactory
from tests.dialects.tus import BYTES, TUS, Tus
from tests.exchange import finish, md5, put_raw

#: Longer than anything here takes; only a test that fails waits for so long.
PATIENCE = 30.0
SILENCE = timedelta(seconds=61)


class Scanner(ChunkedUploadBlueprint):
    """Verifies until it is told to go on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()
        self.calls = 0
        self.refusal: ChunkedUploadError | None = None

    def verify(self, upload: Any) -> None:
        self.calls += 1
        self.begun.release()
        assert self.go_on.wait(PATIENCE)
        if self.refusal is not None:
            raise self.refusal


Asked = Future[TestResponse]


class Scene:
    """An upload that one request is verifying, and others that ask about it."""

    def __init__(self, app: Flask, pool: ThreadPoolExecutor) -> None:
        self.app = app
        self._pool = pool
        blueprint = registered(app).policy
        assert isinstance(blueprint, Scanner)
        self.scanner = blueprint
        self.tus = Tus(app.test_client())
        self.now = datetime.now(timezone.utc)
        set_clock(app, lambda: self.now)

    def ask(self, method: str, url: str, **sent: Any) -> Asked:
        """A request of its own client."""
        client = self.app.test_client()
        return self._pool.submit(client.open, url, method=method, **sent)

    def renewed_by(self, moment: datetime) -> bool:
        """Wait until the row says that it was being verified at this moment."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            (row,) = rows(self.app)
            if row.verify_started_at == moment:
                return True
            time.sleep(0.005)
        return False

    def begin(self, url: str) -> Asked:
        """The request that verifies."""
        headers = {**BYTES, "Upload-Offset": "0"}
        asked = self.ask("PATCH", url, headers=headers, data=b"abc")
        assert self.scanner.begun.acquire(timeout=PATIENCE)
        return asked


@pytest.fixture
def scene(app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    # Requests look twice, and at once.
    monkeypatch.setattr(verification, "PATIENCE", 0.02)
    monkeypatch.setattr(verification, "PAUSE", 0.01)
    with ThreadPoolExecutor(8) as pool:
        made = Scene(
            app_factory(blueprint_class=Scanner, CHUNKED_UPLOAD_DOWNLOADS=True), pool
        )
        yield made
        made.scanner.go_on.set()


EMPTY = {**BYTES, "Upload-Offset": "3"}
MEANWHILE = [
    pytest.param("HEAD", {"headers": TUS}, 423, id="tus HEAD"),
    pytest.param("PATCH", {"headers": EMPTY, "data": b""}, 423, id="PATCH"),
    pytest.param("POST", {"data": {"md5": md5(b"abc")}}, 503, id="POST"),
    pytest.param("POST", {"data": {"md5": md5(b"x")}}, 503, id="POST of another"),
    pytest.param("GET", {}, 200, id="GET"),
    pytest.param("HEAD", {}, 200, id="HEAD"),
]


@pytest.mark.parametrize(("method", "sent", "status"), MEANWHILE)
def test_requests_meanwhile_start_no_other_verification(
    scene: Scene, method: str, sent: dict[str, Any], status: int
) -> None:
    url = scene.tus.create(3)
    first = scene.begin(url)
    others = [scene.ask(method, url, **sent) for _ in range(4)]
    answers = [other.result(PATIENCE) for other in others]
    assert [answer.status_code for answer in answers] == [status] * 4
    if status > 400:
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    elif method == "GET":
        assert [(one.json or {})["status"] for one in answers] == [1] * 4
    scene.scanner.go_on.set()
    assert first.result(PATIENCE).status_code == 204
    assert scene.scanner.calls == 1
    assert scene.tus.content(url) == b"abc"


@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
@pytest.mark.parametrize("refused", [False, True])
def test_a_request_that_waits_is_told_the_outcome(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, method: str, refused: bool
) -> None:
    monkeypatch.setattr(verification, "PATIENCE", PATIENCE)
    looked = threading.Event()

    real = verification.wait

    def wait() -> Iterator[None]:
        for look in real():
            yield look
            looked.set()

    monkeypatch.setattr(completion, "wait", wait)
    if refused:
        scene.scanner.refusal = ChunkedUploadError("A virus", status=422)
    url = scene.tus.create(3)
    first = scene.begin(url)
    headers = TUS if method == "HEAD" else EMPTY
    other = scene.ask(method, url, headers=headers)
    assert looked.wait(PATIENCE)
    scene.scanner.go_on.set()
    assert first.result(PATIENCE).status_code == (422 if refused else 204)
    # After a refusal the next one verifies by itself.
    right = 422 if refused else {"HEAD": 200, "PATCH": 204}[method]
    assert other.result(PATIENCE).status_code == right
    assert scene.scanner.calls == (2 if refused else 1)


def test_a_process_that_was_silent_for_a_minute_is_taken_for_gone(
    scene: Scene,
) -> None:
    url = scene.tus.create(3)
    first = scene.begin(url)
    scene.now += SILENCE
    second = scene.ask("HEAD", url, headers=TUS)
    assert scene.scanner.begun.acquire(timeout=PATIENCE)
    assert scene.scanner.calls == 2
    scene.scanner.go_on.set()
    assert {
        first.result(PATIENCE).status_code,
        second.result(PATIENCE).status_code,
    } <= {
        200,
        204,
        409,
        423,
    }
    assert scene.tus.content(url) == b"abc"
    assert scene.scanner.calls == 2


def test_a_process_that_lives_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "RENEWAL", 0.005)
    url = scene.tus.create(3)
    first = scene.begin(url)
    scene.now += SILENCE
    assert scene.renewed_by(scene.now)
    assert scene.tus.head(url).status_code == 423
    scene.scanner.go_on.set()
    assert first.result(PATIENCE).status_code == 204
    assert scene.scanner.calls == 1


ENDINGS: list[Callable[[Scene, str], TestResponse]] = [
    lambda scene, url: scene.tus.delete(url),
    lambda scene, url: scene.app.test_client().delete(url),
]


@pytest.mark.parametrize("end", ENDINGS)
def test_an_upload_may_be_removed_while_it_is_verified(
    scene: Scene, end: Callable[[Scene, str], TestResponse]
) -> None:
    url = scene.tus.create(3)
    first = scene.begin(url)
    assert end(scene, url).status_code == 204
    scene.scanner.go_on.set()
    assert first.result(PATIENCE).status_code == 404
    assert rows(scene.app) == []


def test_a_post_that_verifies_is_alone_too(scene: Scene) -> None:
    answer = put_raw(scene.app.test_client(), b"abc")
    url = str((answer.json or {})["url"])
    first = scene.ask("POST", url, data={"md5": md5(b"abc")})
    assert scene.scanner.begun.acquire(timeout=PATIENCE)
    assert finish(scene.app.test_client(), url, b"abc").status_code == 503
    assert scene.tus.head(url).status_code == 423
    scene.scanner.go_on.set()
    assert first.result(PATIENCE).status_code == 200
    assert finish(scene.app.test_client(), url, b"abc").status_code == 200
    assert scene.scanner.calls == 1
