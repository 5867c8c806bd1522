"""Expiry goes on after a failure, and says what stayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from flask_chunked import ChunkedUploadBlueprint, check, delete_expired
from flask_chunked.exceptions import DatabaseUnavailable, StorageError
from flask_chunked.expiration import expiring
from flask_chunked.storage.base import Blob
from flask_chunked.storage.local import LocalStorage

from .aging import age_row
from .apps import registered, rows, stored_files
from .conftest import AppFactory
from .exchange import begin, id_of, put_raw


class Stubborn(LocalStorage):
    """A storage that cannot remove some uploads' bytes."""

    stuck: set[str] = set()

    def delete(self, blob: Blob) -> None:
        if any(name in blob.key for name in self.stuck):
            raise StorageError() from PermissionError(1, "Operation not permitted")
        super().delete(blob)


class Uploads(ChunkedUploadBlueprint):
    storage_class = Stubborn


@pytest.fixture
def app(app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """Two blueprints on storages that may fail."""
    monkeypatch.setattr(Stubborn, "stuck", set())
    app = app_factory(blueprint_class=Uploads)
    app.register_blueprint(Uploads("songs", __name__), url_prefix="/songs")
    return app


def old(app: Flask, url: str = "/uploads/") -> UUID:
    upload_id = id_of(begin(app.test_client(), b"abc", 6, url=url))
    age_row(app, upload_id, name=url.strip("/"))
    return upload_id


def ran(app: Flask, *arguments: str) -> tuple[int, Any]:
    result = app.test_cli_runner().invoke(
        args=["chunked-uploads", *arguments, "--json"], catch_exceptions=False
    )
    return result.exit_code, json.loads(result.stdout)


def test_bytes_that_stay_stop_no_other_upload_and_no_later_blueprint(
    app: Flask, tmp_path: Path
) -> None:
    ids = [old(app) for _ in range(5)] + [old(app, "/songs/")]
    Stubborn.stuck = {str(ids[2])}
    code, listed = ran(app, "delete-expired")
    assert code == 1
    assert {one["id"]: one["removed"] for one in listed} == {
        str(one): one != ids[2] for one in ids
    }
    (error,) = [one["error"] for one in listed if not one["removed"]]
    assert error == "storage_error: [Errno 1] Operation not permitted"
    assert rows(app) == rows(app, "songs") == []
    assert len(stored_files(tmp_path)) == 1
    # The next run tries again, and says so.
    code, listed = ran(app, "delete-expired")
    assert (code, [one["id"] for one in listed]) == (1, [str(ids[2])])
    Stubborn.stuck = set()
    assert ran(app, "delete-expired") == (0, [])
    assert stored_files(tmp_path) == []


def test_check_goes_on_too_and_finishes_what_was_left(
    app: Flask, tmp_path: Path
) -> None:
    first, second = old(app), old(app)
    client = app.test_client()
    Stubborn.stuck = {str(first), str(second)}
    for one in (first, second):
        # The upload is gone for its client.
        assert client.delete(f"/uploads/{one}").status_code == 204
        assert client.get(f"/uploads/{one}").status_code == 404
    Stubborn.stuck = {str(first)}
    code, found = ran(app, "check", "--repair")
    assert code == 1
    assert {one["subject"]: one["repaired"] for one in found} == {
        str(first): False,
        str(second): True,
    }
    assert {one["kind"] for one in found} == {"half-removed"}
    Stubborn.stuck = set()
    assert ran(app, "check", "--repair")[0] == 0
    assert ran(app, "check") == (0, [])
    assert stored_files(tmp_path) == []


def test_room_for_a_quota_is_made_though_bytes_stay(
    app_factory: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_factory(blueprint_class=Uploads, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=2)
    stuck, _ = old(app), old(app)
    monkeypatch.setattr(Stubborn, "stuck", {str(stuck)})
    assert put_raw(app.test_client(), b"abc", total=6).status_code == 200
    assert len(rows(app)) == 1


def test_an_upload_that_cannot_be_measured_is_a_finding(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = id_of(begin(app.test_client(), b"abc", 6))
    storage = registered(app).storage
    measure = storage.measure

    def fail(blob: Blob) -> int | None:
        if str(bad) in blob.key:
            raise StorageError()
        return measure(blob)

    monkeypatch.setattr(storage, "measure", fail)
    with app.app_context():
        (one,) = check(repair=True)
    assert (one.kind, one.subject) == ("unchecked", str(bad))
    assert one.cause == "storage_error: Storage is not available"


def test_a_blueprint_whose_rows_cannot_be_read_stops_no_later_one(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = old(app, "/songs/")

    def fail(*_: object) -> Any:
        raise DatabaseUnavailable()

    repository = registered(app).repository
    monkeypatch.setattr(repository, "matching", fail)
    monkeypatch.setattr(repository, "expirable", fail)
    with app.app_context():
        kinds = [(one.blueprint, one.kind, one.subject) for one in check()]
        outcomes = list(expiring())
    assert ("uploads", "unchecked", "uploads") in kinds
    assert [(one.blueprint, one.upload_id) for one in outcomes] == [
        ("uploads", None),
        ("songs", song),
    ]


def test_an_upload_that_the_database_keeps_busy_stops_no_other(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, *others = (old(app) for _ in range(4))
    repository = registered(app).repository
    expire = repository.expire

    def together(*_: object) -> Any:
        raise DatabaseUnavailable()

    def alone(upload_id: UUID, *rest: Any) -> Any:
        if upload_id == busy:
            raise DatabaseUnavailable()
        return expire(upload_id, *rest)

    monkeypatch.setattr(repository, "expire_all", together)
    monkeypatch.setattr(repository, "expire", alone)
    with app.app_context():
        assert {one.id for one in delete_expired()} == set(others)
    assert [row.id for row in rows(app)] == [busy]


def test_more_than_one_transaction_is_needed_for_many(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        for number in range(250):
            here.db.session.add(
                here.model(blueprint="uploads", storage_key=f"2020/01/01/{number}")
            )
        here.db.session.commit()
        for row in rows(app):
            age_row(app, row.id)
        assert len(delete_expired()) == 250
    assert rows(app) == []
