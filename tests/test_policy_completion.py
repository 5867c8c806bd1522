"""``verify``, ``deliver`` and ``on_completion``: the hooks of a completion."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, Response, has_request_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped

from flask_chunked import (
    ChunkedUploadBlueprint,
    ChunkedUploadError,
    ChunkedUploadMixin,
    Status,
    Upload,
    deliver_pending,
    delivery_failed,
)

from .apps import registered, rows, stop_clock
from .conftest import AppFactory
from .exchange import begin, detail, finish, post_whole, put_raw, send

MINUTE = timedelta(seconds=60)


class Watched(ChunkedUploadBlueprint):
    """Records its hooks' calls; fails where a test says so."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.verified: list[bytes] = []
        self.delivered: list[bytes] = []
        self.in_request: list[bool] = []
        self.states: list[str] = []
        self.refusal: Exception | None = None
        self.failure: Exception | None = None

    def verify(self, upload: Any) -> None:
        self.states.append(upload.status)
        with self.open(upload) as file:
            self.verified.append(file.read())
        if self.refusal is not None:
            raise self.refusal

    def deliver(self, upload: Any) -> None:
        assert upload.is_complete
        self.in_request.append(has_request_context())
        with self.open(upload) as file:
            self.delivered.append(file.read())
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def app(app_factory: AppFactory) -> Flask:
    return app_factory(blueprint_class=Watched)


@pytest.fixture
def policy(app: Flask) -> Watched:
    blueprint = registered(app).policy
    assert isinstance(blueprint, Watched)
    return blueprint


# -- verify ----------------------------------------------------------------------------


def test_verify_reads_the_content_before_any_announcement(
    app: Flask, policy: Watched
) -> None:
    assert send(app.test_client(), b"abc").status_code == 200
    assert policy.verified == [b"abc"]
    assert policy.states == ["completing"]


def test_refusal_by_verify_leaves_the_upload_unfinished(
    app: Flask, policy: Watched
) -> None:
    policy.refusal = ChunkedUploadError("A virus", status=422)
    client = app.test_client()
    url = begin(client, b"abc", 3)
    answer = finish(client, url, b"abc")
    assert (answer.status_code, detail(answer)) == (422, "A virus")
    (row,) = rows(app)
    assert (row.status, row.offset, row.digest) == (Status.UPLOADING, 3, None)
    assert row.event_id is None
    assert policy.delivered == []


def test_verify_is_asked_again_by_a_repeat(app: Flask, policy: Watched) -> None:
    policy.refusal = ChunkedUploadError("Scanner is busy", status=503, retry_after=3)
    client = app.test_client()
    url = begin(client, b"abc", 3)
    assert finish(client, url, b"abc").headers["Retry-After"] == "3"
    policy.refusal = None
    assert finish(client, url, b"abc").status_code == 200
    assert policy.verified == [b"abc", b"abc"]
    assert finish(client, url, b"abc").status_code == 200
    assert len(policy.verified) == 2


def test_verify_of_a_wrong_digest_is_not_asked(app: Flask, policy: Watched) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 3)
    assert finish(client, url, b"other").status_code == 400
    assert policy.verified == []


def test_whole_file_that_verify_refuses_leaves_nothing(
    app: Flask, policy: Watched
) -> None:
    policy.refusal = ChunkedUploadError("No")
    assert post_whole(app.test_client(), b"abc").status_code == 400
    assert rows(app) == []


def test_completion_that_broke_in_verify_can_be_repeated(
    app: Flask, policy: Watched
) -> None:
    policy.refusal = ZeroDivisionError()
    client = app.test_client()
    url = begin(client, b"abc", 3)
    with pytest.raises(ZeroDivisionError):
        finish(client, url, b"abc")
    policy.refusal = None
    assert client.get(url).json["status"] == 1  # type: ignore[index]
    assert finish(client, url, b"abc").status_code == 200


def test_verify_may_write_columns_of_its_own(app_factory: AppFactory) -> None:
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        kind: Mapped[str | None]

    class Uploads(ChunkedUploadBlueprint):
        model = Video

        def verify(self, upload: Any) -> None:
            assert isinstance(upload, Video)
            upload.kind = "film"
            db.session.commit()

    app = app_factory(db=db, blueprint_class=Uploads)
    assert send(app.test_client(), b"abc").status_code == 200
    (row,) = rows(app)
    assert (row.kind, row.status) == ("film", Status.COMPLETE)


@pytest.mark.parametrize("hook", ["verify", "on_completion", "deliver"])
def test_late_hooks_get_an_instance_in_the_session(
    app_factory: AppFactory, hook: str
) -> None:
    db = SQLAlchemy()
    seen: list[bool] = []

    def look(self: object, upload: Any) -> None:
        seen.append(upload in db.session)

    policy = type("Uploads", (ChunkedUploadBlueprint,), {hook: look})
    app = app_factory(db=db, blueprint_class=policy)
    send(app.test_client(), b"abc")
    assert seen == [True]


# -- deliver ---------------------------------------------------------------------------


def test_deliver_is_called_once_in_the_request(app: Flask, policy: Watched) -> None:
    client = app.test_client()
    url = begin(client, b"abc", 3)
    for _ in range(2):
        assert finish(client, url, b"abc").status_code == 200
    assert (policy.delivered, policy.in_request) == ([b"abc"], [True])
    (row,) = rows(app)
    assert row.delivered_at is not None
    assert row.attempts == 1
    with app.app_context():
        assert list(deliver_pending(older_than=timedelta(0), retry_now=True)) == []


def test_raising_deliver_keeps_the_answer_and_the_event(
    app: Flask, policy: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    policy.failure = ConnectionError("no queue")
    assert send(app.test_client(), b"abc").status_code == 200
    (row,) = rows(app)
    assert row.is_complete
    assert (row.delivered_at, row.attempts) == (None, 1)
    (record,) = [one for one in caplog.records if one.name == "flask_chunked"]
    assert record.levelno == logging.ERROR
    assert str(row.id) in record.getMessage()


def test_each_failure_sends_a_signal_and_doubles_the_pause(
    app: Flask, policy: Watched
) -> None:
    heard: list[tuple[object, int]] = []

    def hear(sender: Flask, upload: Upload) -> None:
        heard.append((upload.id, upload.attempts))

    policy.failure = ConnectionError("no queue")
    with delivery_failed.connected_to(hear, app):
        send(app.test_client(), b"abc")
        (row,) = rows(app)
        now = row.delivery_started_at
        assert now is not None
        for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
            now += minutes * MINUTE
            stop_clock(app, now - timedelta(seconds=1))
            with app.app_context():
                assert deliver_pending(older_than=timedelta(0)) == []
                stop_clock(app, now)
                (failed,) = deliver_pending(older_than=timedelta(0))
            assert not failed.delivered
    assert heard == [(row.id, attempts) for attempts in range(1, 10)]
    assert rows(app)[0].attempts == 9


def test_an_event_that_always_fails_holds_up_no_other(
    app_factory: AppFactory,
) -> None:
    delivered: list[str] = []
    broken = [True]

    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            if broken or upload.filename == "poison":
                raise ValueError(upload.filename)
            delivered.append(upload.filename)

    app = app_factory(blueprint_class=Uploads)
    for name in ("a", "poison", "b"):
        send(app.test_client(), b"abc", fields={"filename": name})
    broken.clear()
    started = [row.delivery_started_at for row in rows(app)]
    stop_clock(app, max(one for one in started if one) + MINUTE)
    with app.app_context():
        results = deliver_pending()
        assert sorted((r.upload.filename, r.delivered) for r in results) == [
            ("a", True),
            ("b", True),
            ("poison", False),
        ]
        assert deliver_pending(older_than=timedelta(0)) == []
    assert sorted(delivered) == ["a", "b"]


def test_pending_event_is_not_touched_before_its_minute(
    app: Flask, policy: Watched
) -> None:
    policy.failure = ConnectionError()
    send(app.test_client(), b"abc")
    started = rows(app)[0].delivery_started_at
    assert started is not None
    with app.app_context():
        for seconds in (0, 59):
            stop_clock(app, started + timedelta(seconds=seconds))
            assert list(deliver_pending()) == []
        assert len(policy.delivered) == 1
        policy.failure = None
        stop_clock(app, started + MINUTE)
        (done,) = deliver_pending()
        assert done.delivered
        assert list(deliver_pending()) == []
    assert (len(policy.delivered), policy.in_request) == (2, [True, False])
    (row,) = rows(app)
    assert row.delivered_at == started + MINUTE
    assert row.attempts == 2


def test_event_of_a_died_process_is_delivered_later(
    app: Flask, policy: Watched
) -> None:
    class Died(BaseException):
        pass

    policy.failure = Died()  # type: ignore[assignment]
    with pytest.raises(Died):
        send(app.test_client(), b"abc")
    assert rows(app)[0].is_complete
    policy.failure = None
    with app.app_context():
        (done,) = deliver_pending(older_than=timedelta(0), retry_now=True)
    assert done.delivered
    assert rows(app)[0].delivered_at is not None


def test_delivery_has_a_claim_of_its_own(app: Flask, policy: Watched) -> None:
    """During a delivery, another request neither delivers nor loses the event."""
    nested: list[list[object]] = []
    policy.failure = ConnectionError()
    send(app.test_client(), b"abc")
    policy.failure = None
    plain = policy.deliver

    def deliver(upload: Any) -> None:
        if not nested:
            nested.append(
                list(deliver_pending(older_than=timedelta(seconds=30), retry_now=True))
            )
            # Also a request that had read the row before the delivery was claimed.
            nested.append([registered(app).engine.delivery.deliver(rows(app)[0])])
        plain(upload)

    policy.deliver = deliver  # type: ignore[method-assign]
    fence = rows(app)[0].fence
    with app.app_context():
        (done,) = deliver_pending(older_than=timedelta(0), retry_now=True)
    assert done.delivered
    assert nested == [[], [False]]
    assert rows(app)[0].fence == fence


def test_deliver_may_move_the_file(app_factory: AppFactory, tmp_path: Any) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            self.move(upload, tmp_path / "taken.bin")

    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_DOWNLOADS=True)
    answer = send(app.test_client(), b"abc")
    assert (tmp_path / "taken.bin").read_bytes() == b"abc"
    assert answer.status_code == 200
    assert rows(app)[0].storage_key is None
    assert app.test_client().get(answer.json["url"]).json["file"] is None  # type: ignore[index]


def test_deliver_that_leaves_writes_stays_pending_and_is_logged(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    db = SQLAlchemy()

    class Uploads(ChunkedUploadBlueprint):
        def deliver(self, upload: Any) -> None:
            upload.filename = "other"

    app = app_factory(db=db, blueprint_class=Uploads)
    assert send(app.test_client(), b"abc").status_code == 200
    (row,) = rows(app)
    assert row.delivered_at is None
    assert row.filename != "other"
    assert "commit()" in caplog.text


# -- on_completion ---------------------------------------------------------------------

ANSWERS = {
    "dict": ({"ok": True}, 200, b'"ok"'),
    "list": ([1, 2], 200, b"1"),
    "tuple": (({"id": "x"}, 201, {"X-Own": "1"}), 201, b'"id"'),
    "text": ("thank you", 200, b"thank you"),
    "response": (Response("made", status=202), 202, b"made"),
    "none": (None, 200, b'"offset"'),
}


@pytest.mark.parametrize(("value", "status", "part"), ANSWERS.values(), ids=ANSWERS)
def test_on_completion_shapes_the_answer(
    app_factory: AppFactory, value: Any, status: int, part: bytes
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def on_completion(self, upload: Any) -> Any:
            return value

    app = app_factory(blueprint_class=Uploads)
    answer = send(app.test_client(), b"abc")
    assert answer.status_code == status
    assert part in answer.data
    if isinstance(value, tuple):
        assert answer.headers["X-Own"] == "1"


def test_on_completion_runs_again_for_a_repeat(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def on_completion(self, upload: Any) -> Any:
            return {"name": upload.filename, "owner": upload.user}

    client = app_factory(blueprint_class=Uploads).test_client()
    url = begin(client, b"abc", 3)
    first, second = (finish(client, url, b"abc") for _ in range(2))
    assert first.json == second.json == {"name": "upload", "owner": None}
    assert first.status_code == second.status_code == 200


def test_on_completion_shapes_the_answer_to_a_whole_file(
    app_factory: AppFactory,
) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def on_completion(self, upload: Any) -> Any:
            return {"path": str(self.path(upload).name)}, 201

    answer = post_whole(app_factory(blueprint_class=Uploads).test_client(), b"abc")
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["path"].endswith(".done")


def test_on_completion_follows_deliver(app_factory: AppFactory) -> None:
    order: list[str] = []

    class Uploads(ChunkedUploadBlueprint):
        def verify(self, upload: Any) -> None:
            order.append("verify")

        def deliver(self, upload: Any) -> None:
            order.append("deliver")

        def on_completion(self, upload: Any) -> None:
            order.append("on_completion")

        def validate(self, upload: Upload) -> None:
            order.append("validate")

        def inspect(self, upload: Upload, head: bytes) -> None:
            order.append("inspect")

    send(app_factory(blueprint_class=Uploads).test_client(), b"abc")
    assert order == ["validate", "inspect", "verify", "deliver", "on_completion"]


def test_chunks_are_not_shaped_by_on_completion(app_factory: AppFactory) -> None:
    class Uploads(ChunkedUploadBlueprint):
        def on_completion(self, upload: Any) -> Any:
            return {"done": True}

    answer = put_raw(app_factory(blueprint_class=Uploads).test_client(), b"abc")
    assert answer.json is not None
    assert answer.json["offset"] == 3
