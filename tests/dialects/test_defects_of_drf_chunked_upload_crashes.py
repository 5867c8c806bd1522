"""Defects of drf-chunked-upload when a process dies or a hook raises.

This file has T1, T15, T26, T32, T33 and T39. T1 to T41 are the defects of version
0.6.0, and of similar packages, that this package was written to avoid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete

from flask_chunked import ChunkedUploadBlueprint, ChunkedUploadError, maintenance
from tests.apps import registered, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.faults import every_crash
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


def test_t01_crash_at_any_step_of_an_append_loses_nothing(
    app: Flask, client: FlaskClient, tmp_path: Path, raw: bool
) -> None:
    url = begin(client)

    def append() -> None:
        put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)

    seen = []
    for step in every_crash(app, append):
        seen.append(step)
        # The same request again succeeds, whatever the first one did.
        answer = put(client, url, DATA[5:], "bytes 5-9/10", raw=raw)
        assert state(answer) == (200, 1, 10), step
        resume(client, url)
        assert contents(tmp_path) == [(".done", DATA)], step
        client.delete(url)
        url = begin(client)
    assert {"before advance", "after advance", "after flush"} <= set(seen)


def test_t01_crash_at_any_step_of_a_first_chunk_leaves_nothing_in_the_way(
    app: Flask, client: FlaskClient, tmp_path: Path, raw: bool
) -> None:
    def create() -> None:
        put(client, "/uploads/", DATA[:5], "bytes 0-4/10", raw=raw)

    for step in every_crash(app, create):
        resume(client, begin(client))
        let_pass(app, days=2)
        with app.app_context():
            list(maintenance.delete_expired())
            list(maintenance.check(repair=True))
        let_pass(app)
        assert contents(tmp_path) == [(".done", DATA)], step
        (done,) = rows(app)
        client.delete(f"/uploads/{done.id}")


def test_t33_crash_at_any_step_of_a_completion_is_finished_by_its_repeat(
    app_factory: AppFactory, tmp_path: Path
) -> None:
    delivered: list[object] = []

    class Delivering(ChunkedUploadBlueprint):
        def verify(self, upload: Any) -> None:
            with self.open(upload) as file:
                assert file.read() == DATA

        def deliver(self, upload: Any) -> None:
            delivered.append(upload.event_id)

    app = app_factory(blueprint_class=Delivering)
    client = app.test_client()
    url = ready(client)
    seen = []
    busy: list[str] = []

    def complete() -> None:
        client.post(url, data={"md5": MD5})

    for step in every_crash(app, complete):
        seen.append(step)
        assert client.get(url).get_json()["offset"] == 10
        answer = client.post(url, data={"md5": MD5})
        if answer.status_code == 503:
            # By the row alone, the dead process may still be verifying.
            assert answer.headers["Retry-After"] == "5", step
            busy.append(step)
            let_pass(app, seconds=61)
            answer = client.post(url, data={"md5": MD5})
        assert state(answer) == (200, 2, 10), step
        let_pass(app, minutes=2)
        with app.app_context():
            list(maintenance.deliver_pending())
        let_pass(app)
        (row,) = rows(app)
        assert row.delivered_at is not None, step
        assert set(delivered) == {row.event_id}, step
        assert contents(tmp_path) == [(".done", DATA)], step
        client.delete(url)
        delivered.clear()
        url = ready(client)
    expected = {"begin_completion", "finalize", "complete", "mark_delivered"}
    assert expected <= {step.split()[1] for step in seen}
    # From the start of the completion to its end.
    assert {"after begin_completion", "before finalize", "before complete"} <= {*busy}
    assert not {"before begin_completion", "after complete"} & {*busy}


def test_t32_crash_at_any_step_of_a_deletion_is_carried_on(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    url = begin(client)
    seen = []

    def terminate() -> None:
        client.delete(url)

    for step in every_crash(app, terminate):
        seen.append(step)
        # A row with all its bytes, or no row: never one without a file.
        shown = client.get(url)
        if shown.status_code == 200:
            assert contents(tmp_path) == [(".part", DATA[:5])], step
            assert client.delete(url).status_code == 204
        with app.app_context():
            list(maintenance.check(repair=True))
        assert (rows(app), stored_files(tmp_path)) == ([], []), step
        url = begin(client)
    order = [step.removeprefix("before ") for step in seen if "before" in step]
    assert order == ["terminate", "delete", "forget_removals"]


def test_t15_delivery_that_raised_stays_pending_and_the_client_gets_200(
    app_factory: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    delivered: list[object] = []

    class Failing(ChunkedUploadBlueprint):
        broken = True

        def deliver(self, upload: Any) -> None:
            if self.broken:
                raise ZeroDivisionError
            delivered.append(upload.id)

    app = app_factory(blueprint_class=Failing)
    client = app.test_client()
    url = ready(client)
    assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)
    assert "deliver failed" in caplog.text
    Failing.broken = False
    let_pass(app, minutes=2)
    with app.app_context():
        assert [one.delivered for one in maintenance.deliver_pending()] == [True]
        assert list(maintenance.deliver_pending()) == []
    assert delivered == [row.id for row in rows(app)]


def test_t15_answer_that_raised_is_asked_for_again(app_factory: AppFactory) -> None:
    class Failing(ChunkedUploadBlueprint):
        broken = True

        def on_completion(self, upload: Any) -> Any:
            if self.broken:
                raise ZeroDivisionError
            return {"fine": True}

    client = app_factory(blueprint_class=Failing).test_client()
    url = ready(client)
    with pytest.raises(ZeroDivisionError):
        client.post(url, data={"md5": MD5})
    Failing.broken = False
    assert told(client.post(url, data={"md5": MD5})) == (200, {"fine": True})


def test_t39_refused_upload_has_no_event_and_a_finished_one_has_one(
    app_factory: AppFactory,
) -> None:
    delivered: list[object] = []

    class Once(ChunkedUploadBlueprint):
        good = False

        def verify(self, upload: Any) -> None:
            if not self.good:
                raise ChunkedUploadError("not this content")

        def deliver(self, upload: Any) -> None:
            delivered.append(upload.event_id)

    app = app_factory(blueprint_class=Once)
    client = app.test_client()
    url = ready(client)
    answer = client.post(url, data={"md5": MD5})
    assert told(answer) == (400, {"detail": "not this content"})
    assert client.post(url, data={"md5": "wrong"}).status_code == 400
    assert (delivered, rows(app)[0].event_id) == ([], None)
    Once.good = True
    for _ in range(3):
        assert state(client.post(url, data={"md5": MD5})) == (200, 2, 10)
    assert delivered == [rows(app)[0].event_id]


def test_t26_files_without_rows_are_found_and_removed(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    begin(client)
    here = registered(app)
    with here.database.transaction() as connection:
        connection.execute(delete(here.table))
    let_pass(app, hours=1)
    with app.app_context():
        (found,) = maintenance.check()
        assert (found.kind, found.size, found.repaired) == ("orphan", 5, False)
        assert len(stored_files(tmp_path)) == 1
        (mended,) = maintenance.check(repair=True)
        assert mended.repaired
        assert list(maintenance.check()) == []
    assert stored_files(tmp_path) == []
