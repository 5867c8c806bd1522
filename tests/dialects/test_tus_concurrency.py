"""tus: interrupted completions, and concurrent requests that assemble one final."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask

from flask_chunked import ChunkedUploadBlueprint
from flask_chunked.dialects.tus.concat import IDLE
from flask_chunked.engine.records import Upload
from flask_chunked.engine.states import Status
from flask_chunked.exceptions import ChunkedUploadError
from tests.aging import set_row
from tests.apps import registered, rows, stop_clock
from tests.conftest import AppFactory
from tests.dialects.tus import Tus


class Refusing(ChunkedUploadBlueprint):
    """``verify`` raises the error that a test sets."""

    error: Exception | None = None

    def verify(self, upload: Any) -> None:
        if self.error is not None:
            raise self.error


def refuse(app: Flask, error: Exception | None) -> None:
    blueprint = app.blueprints["uploads"]
    assert isinstance(blueprint, Refusing)
    blueprint.error = error


def finals(app: Flask) -> list[Upload]:
    return [row for row in rows(app) if row.concat and not row.partial]


@pytest.fixture
def refusing(app_factory: AppFactory) -> Flask:
    return app_factory(
        blueprint_class=Refusing,
        CHUNKED_UPLOAD_DOWNLOADS=True,
        PROPAGATE_EXCEPTIONS=False,
    )


@pytest.mark.parametrize("again", ["head", "patch"])
def test_an_interrupted_completion_is_continued_by_the_next_request(
    refusing: Flask, again: str
) -> None:
    tus = Tus(refusing.test_client())
    url = tus.create(3)
    refuse(refusing, ZeroDivisionError())
    assert tus.patch(url, 0, b"abc").status_code == 500
    assert [row.status for row in rows(refusing)] == [Status.COMPLETING]
    refuse(refusing, None)
    response = tus.head(url) if again == "head" else tus.patch(url, 3)
    assert response.headers["Upload-Offset"] == "3"
    assert tus.content(url) == b"abc"


def test_a_final_whose_completion_was_interrupted_is_completed_by_a_later_head(
    refusing: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus = Tus(refusing.test_client())
    a = tus.partial(b"ab", 3)
    url = tus.final(a).headers["Location"]
    refuse(refusing, ZeroDivisionError())
    # The bytes of the member are committed, and its client learns that.
    assert tus.patch(a, 2, b"c").status_code == 204
    refuse(refusing, None)
    assert [row.status for row in finals(refusing)] == [Status.COMPLETING]
    # Another request may be assembling it now.
    assert "Upload-Offset" not in tus.head(url).headers
    go_on_later(refusing, monkeypatch)
    tus.delete(a)
    assert tus.head(url).headers["Upload-Offset"] == "3"
    assert tus.content(url) == b"abc"


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError(), 500), (ChunkedUploadError("no"), 422)]
)
def test_a_final_that_its_own_post_does_not_assemble_leaves_nothing(
    refusing: Flask, error: Exception, status: int
) -> None:
    tus = Tus(refusing.test_client())
    a = tus.partial(b"abc")
    refuse(refusing, error)
    assert tus.final(a).status_code == status
    assert finals(refusing) == []
    assert [row.offset for row in rows(refusing)] == [3]


def go_on_later(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = registered(app).engine
    later = datetime.now(timezone.utc) + IDLE + timedelta(seconds=1)
    monkeypatch.setattr(engine, "clock", lambda: later)


# -- several makers of one final upload ------------------------------------------------


def before_claim(
    app: Flask, patch: pytest.MonkeyPatch, act: Callable[[], None]
) -> None:
    """Call something once, just before the final upload is claimed."""
    engine = registered(app).engine
    claim = engine.repository.claim

    def claimed(
        upload_id: Any, start: int, expected_fence: int | None = None
    ) -> Upload | None:
        patch.setattr(engine.repository, "claim", claim)
        act()
        return claim(upload_id, start, expected_fence)

    patch.setattr(engine.repository, "claim", claimed)


def test_a_final_that_another_request_assembled_first_is_no_error(
    tus: Tus, tus_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = tus.partial(b"abc")
    engine = registered(tus_app).engine

    def rival() -> None:
        (final,) = finals(tus_app)
        engine.concatenate.assemble(final, engine.concatenate.members(final))

    before_claim(tus_app, monkeypatch, rival)
    response = tus.final(a)
    assert response.status_code == 201
    assert tus.content(response.headers["Location"]) == b"abc"


@pytest.mark.parametrize("method", ["post", "head"])
def test_a_final_that_another_request_is_assembling_is_no_error(
    tus: Tus, tus_app: Flask, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    a = tus.partial(b"abc", 4)
    url = tus.final(a).headers["Location"]
    repository = registered(tus_app).engine.repository
    holds = repository.holds

    def overtaken(upload_id: Any, fence: int, offset: int) -> bool:
        monkeypatch.setattr(repository, "holds", holds)
        repository.take_over(upload_id)
        return holds(upload_id, fence, offset)

    with monkeypatch.context() as patch:
        # The last member is complete, and no request has assembled the final one yet.
        patch.setattr(repository, "waiting_finals", lambda upload_id: [])
        tus.patch(a, 3, b"d")
    monkeypatch.setattr(repository, "holds", overtaken)
    if method == "post":
        response = tus.final(a)
        assert response.status_code == 201
        url = response.headers["Location"]
        go_on_later(tus_app, monkeypatch)
    else:
        go_on_later(tus_app, monkeypatch)
        response = tus.head(url)
        assert response.status_code == 200
        assert "Upload-Offset" not in response.headers
    assert tus.head(url).headers["Upload-Offset"] == "4"
    assert tus.content(url) == b"abcd"


def test_members_that_complete_while_the_final_is_created_are_not_overlooked(
    tus: Tus, tus_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = tus.partial(b"abc", 4)
    engine = registered(tus_app).engine
    create = engine.create.upload

    def after_completion(new: Any) -> Upload:
        monkeypatch.setattr(engine.create, "upload", create)
        # Too early to find the final upload, too late to be read as complete.
        assert Tus(tus_app.test_client()).patch(a, 3, b"d").status_code == 204
        return create(new)

    monkeypatch.setattr(engine.create, "upload", after_completion)
    url = tus.final(a).headers["Location"]
    assert tus.head(url).headers["Upload-Offset"] == "4"


def test_rule_55_a_length_is_returned_as_soon_as_it_can_be_computed(tus: Tus) -> None:
    response = tus.post(Upload_Defer_Length="1", Upload_Concat="partial")
    a, b = response.headers["Location"], tus.partial(b"abc")
    url = tus.final(a, b).headers["Location"]
    assert "Upload-Length" not in tus.head(url).headers
    assert tus.patch(a, 0, b"d", Upload_Length="4").status_code == 204
    assert tus.head(url).headers["Upload-Length"] == "7"
    assert "Upload-Offset" not in tus.head(url).headers


def test_rule_55_also_if_the_creating_process_died_at_once(
    tus: Tus, tus_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = tus.partial(b"abc")
    engine = registered(tus_app).engine

    def die(*_: object, **__: object) -> Upload:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.concatenate, "assemble", die)
        patch.setattr(engine.remove, "discard", die)
        with pytest.raises(KeyboardInterrupt):
            tus.final(a)
    url = f"/uploads/{finals(tus_app)[0].id}"
    assert tus.head(url).headers["Upload-Length"] == "3"
    go_on_later(tus_app, monkeypatch)
    assert tus.head(url).headers["Upload-Offset"] == "3"


# -- what becomes of a final is not the business of its members ------------------------


def test_a_refused_final_does_not_fail_the_last_member(refusing: Flask) -> None:
    tus = Tus(refusing.test_client())
    a = tus.partial(b"abc", 4)
    url = tus.final(a).headers["Location"]
    refuse(refusing, ChunkedUploadError("no"))
    response = tus.patch(a, 3, b"d")
    assert (response.status_code, response.headers["Upload-Offset"]) == (204, "4")
    assert tus.head(url).status_code == 404
    assert finals(refusing) == []


def test_a_final_that_waits_lives_by_its_members(app_factory: AppFactory) -> None:
    app = app_factory(
        CHUNKED_UPLOAD_EXPIRATION_DELTA=timedelta(hours=1),
        CHUNKED_UPLOAD_DOWNLOADS=True,
    )
    tus = Tus(app.test_client())
    a = tus.partial(b"abc", 5)
    url = tus.final(a).headers["Location"]
    now = datetime.now(timezone.utc)
    stop_clock(app, now + timedelta(minutes=50))
    assert tus.patch(a, 3, b"d").status_code == 204
    stop_clock(app, now + timedelta(minutes=100))
    assert tus.head(url).status_code == 200
    assert tus.patch(a, 4, b"e").status_code == 204
    assert tus.content(url) == b"abcde"


@pytest.mark.parametrize("status", [Status.EXPIRED, Status.TERMINATING])
def test_a_terminated_final_does_not_fail_the_last_member(
    tus: Tus, tus_app: Flask, status: Status
) -> None:
    a = tus.partial(b"abc", 4)
    url = tus.final(a).headers["Location"]
    set_row(tus_app, finals(tus_app)[0].id, status=status.value)
    assert tus.patch(a, 3, b"d").status_code == 204
    assert tus.head(url).status_code == (410 if status is Status.EXPIRED else 404)


def test_a_final_of_deferred_members_has_the_limit_too(
    app_factory: AppFactory,
) -> None:
    app = app_factory(CHUNKED_UPLOAD_MAX_BYTES=5)
    tus = Tus(app.test_client())
    response = tus.post(Upload_Defer_Length="1", Upload_Concat="partial")
    a, b = response.headers["Location"], tus.partial(b"abc")
    url = tus.final(a, b).headers["Location"]
    assert tus.patch(a, 0, b"def", Upload_Length="3").status_code == 413
    assert {row.length for row in rows(app) if row.partial} == {None, 3}
    assert [row.offset for row in finals(app)] == [0]
    assert tus.patch(a, 0, b"de", Upload_Length="2").status_code == 204
    assert tus.head(url).headers["Upload-Length"] == "5"
    assert [row.status for row in finals(app)] == [Status.COMPLETE]


def test_a_length_that_another_request_declared_is_never_exceeded(
    tus: Tus, tus_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tus.post(Upload_Defer_Length="1").headers["Location"]
    repository = registered(tus_app).engine.repository
    advance = repository.advance

    def concurrently(step: Any) -> bool:
        monkeypatch.setattr(repository, "advance", advance)
        seen = repository.get(step.upload_id)
        assert seen is not None and repository.declare_length(seen, 2, None)
        return advance(step)

    monkeypatch.setattr(repository, "advance", concurrently)
    assert tus.patch(url, 0, b"abc").status_code == 409
    assert tus.offset(url) == 0
    assert tus.patch(url, 0, b"ab").status_code == 204
    assert tus.content(url) == b"ab"


def test_bytes_of_a_superseded_request_are_not_committed(
    tus: Tus, tus_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tus.create(6)
    repository = registered(tus_app).engine.repository
    advance = repository.advance

    def late(step: Any) -> bool:
        monkeypatch.setattr(repository, "advance", advance)
        repository.take_over(step.upload_id)
        return advance(step)

    monkeypatch.setattr(repository, "advance", late)
    assert tus.patch(url, 0, b"abc").status_code == 409
    assert tus.offset(url) == 0
    assert tus.patch(url, 0, b"xyz123").status_code == 204
    assert tus.content(url) == b"xyz123"
