"""Deleting rows: what constraints of the database refuse, and what is noted."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, ForeignKey, event, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from flask_chunked import ChunkedUploadMixin, Status, Upload, check, delete_expired
from flask_chunked.database.parts import PartTable
from flask_chunked.exceptions import UploadInUse
from flask_chunked.maintenance import expiring
from flask_chunked.storage.base import Part
from tests.aging import age_row, set_row
from tests.apps import blueprint_of, registered, rows, stored_files
from tests.conftest import AppFactory
from tests.dialects.tus import Tus
from tests.exchange import begin, detail, id_of

ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL")
REFUSING = ("NO ACTION", "RESTRICT")


@dataclass
class Place:
    """An app in whose database other tables refer to the uploads' table.

    :ivar enforced: the database checks foreign keys.
    """

    app: Flask
    enforced: bool
    tables: dict[tuple[str, bool], Any]
    root: Path

    def upload(self) -> tuple[str, Upload]:
        """An unfinished upload: its URL and its row."""
        url = begin(self.app.test_client(), b"abc", 6)
        (row,) = (row for row in rows(self.app) if row.id == id_of(url))
        return url, row

    def refer(self, key: tuple[str, bool], upload: Upload) -> None:
        """Let a row refer to the upload."""
        db = registered(self.app).db
        with self.app.app_context():
            db.session.execute(insert(self.tables[key]).values(upload_id=upload.id))
            db.session.commit()

    def references(self, key: tuple[str, bool]) -> list[uuid.UUID | None]:
        """What the rows of a table refer to."""
        db = registered(self.app).db
        with self.app.app_context():
            return list(db.session.scalars(select(self.tables[key].upload_id)))

    def file_of(self, upload: Upload) -> list[Path]:
        """The upload's files."""
        return [path for path in stored_files(self.root) if str(upload.id) in str(path)]

    def is_counted_well(self) -> bool:
        """The quota's rows are what the uploads say."""
        with self.app.app_context():
            return registered(self.app).repository.quota_mismatches() == []

    def noted(self) -> list[uuid.UUID]:
        """The uploads whose bytes are still to be removed."""
        with self.app.app_context():
            found = registered(self.app).repository.removals()
            return [one.upload_id for one in found]


@cache
def _models() -> tuple[SQLAlchemy, type[Any], dict[tuple[str, bool], Any]]:
    """The database, the model, and a table for each action; the same for all apps."""
    db = SQLAlchemy()

    class Video(ChunkedUploadMixin, db.Model):  # type: ignore[name-defined,misc]
        pass

    tables: dict[tuple[str, bool], Any] = {}
    for action, deferred in product(ACTIONS, (False, True)):
        key = ForeignKey(
            Video.id,
            ondelete=action,
            deferrable=deferred,
            initially="DEFERRED" if deferred else None,
        )
        name = f"{action.title().replace(' ', '')}{'Deferred' if deferred else ''}"
        body = {
            "__annotations__": {
                "id": Mapped[int],
                "upload_id": Mapped[uuid.UUID | None],
            },
            "id": mapped_column(primary_key=True),
            "upload_id": mapped_column(key),
        }
        tables[action, deferred] = type(name, (db.Model,), body)
    return db, Video, tables


def make_place(factory: AppFactory, root: Path, *, enforced: bool) -> Place:
    """Build the app and its tables."""
    db, model, tables = _models()
    app = factory(db=db, model=model, CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1)
    with app.app_context():
        db.create_all()
        is_sqlite = db.engine.dialect.name == "sqlite"
    return Place(app, enforced or not is_sqlite, tables, root)


@pytest.fixture(params=[True, False], ids=["enforced", "not-enforced"])
def place(
    request: pytest.FixtureRequest, app_factory: AppFactory, tmp_path: Path
) -> Iterator[Place]:
    """With and without ``PRAGMA foreign_keys``; PostgreSQL checks always."""

    def switch(connection: Any, _record: object) -> None:
        if type(connection).__module__.startswith("sqlite3"):
            value = "ON" if request.param else "OFF"
            connection.execute(f"PRAGMA foreign_keys={value}")

    event.listen(Engine, "connect", switch)
    try:
        yield make_place(app_factory, tmp_path, enforced=request.param)
    finally:
        event.remove(Engine, "connect", switch)


# -- the roads on which uploads are removed --------------------------------------------

#: Returns what the caller learns: an HTTP status, or the errors' codes.
Road = Callable[[Place, str, Upload], object]


def by_delete(place: Place, url: str, _: Upload) -> object:
    answer = place.app.test_client().delete(url)
    if answer.status_code == 409:
        assert detail(answer) == UploadInUse.default_detail
    return answer.status_code


def by_tus(place: Place, url: str, _: Upload) -> object:
    return Tus(place.app.test_client()).delete(url).status_code


def by_python(place: Place, _: str, upload: Upload) -> object:
    with place.app.app_context():
        try:
            blueprint_of(place.app).delete(upload)
        except UploadInUse as error:
            return error.code
    return None


def by_expiry(place: Place, _: str, upload: Upload) -> object:
    age_row(place.app, upload.id)
    with place.app.app_context():
        (one,) = expiring()
        assert one.upload_id == upload.id
        return getattr(one.error, "code", None)


def by_room(place: Place, _: str, upload: Upload) -> object:
    age_row(place.app, upload.id)
    return Tus(place.app.test_client()).post(Upload_Length="3").status_code


def by_repair(place: Place, _: str, upload: Upload) -> object:
    for path in place.file_of(upload):
        path.unlink()
    with place.app.app_context():
        (one,) = check(repair=True)
    assert (one.kind, one.subject) == ("missing", str(upload.id))
    assert (one.cause or "upload_in_use").startswith("upload_in_use")
    return one.repaired


#: name -> road, what is learned when it is gone and when it is in use, and whether an
#: upload in use becomes a record without bytes.
ROADS: dict[str, tuple[Road, object, object, bool]] = {
    "delete": (by_delete, 204, 409, False),
    "tus": (by_tus, 204, 403, False),
    "python": (by_python, None, "upload_in_use", False),
    "expiry": (by_expiry, None, "upload_in_use", True),
    "room": (by_room, 201, 201, True),
    "repair": (by_repair, True, False, False),
}


@pytest.mark.parametrize("deferred", [False, True], ids=["immediate", "deferred"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("road", ROADS)
def test_nothing_is_lost_that_a_row_refers_to(
    place: Place, road: str, action: str, deferred: bool
) -> None:
    remove, gone, in_use, expires = ROADS[road]
    url, before = place.upload()
    key = (action, deferred)
    place.refer(key, before)
    is_refused = place.enforced and action in REFUSING
    assert remove(place, url, before) == (in_use if is_refused else gone)
    left = [row for row in rows(place.app) if row.id == before.id]
    if not is_refused:
        assert (left, place.file_of(before)) == ([], [])
        after = {"CASCADE": [], "SET NULL": [None]}.get(action, [before.id])
        assert place.references(key) == (after if place.enforced else [before.id])
    else:
        assert place.references(key) == [before.id]
        if expires:
            assert [row.status for row in left] == [Status.EXPIRED]
            assert place.file_of(before) == []
        else:
            assert left == [before]
            assert bool(place.file_of(before)) is (road != "repair")
    assert place.is_counted_well()
    assert place.noted() == []


@pytest.mark.parametrize("deferred", [False, True], ids=["immediate", "deferred"])
def test_one_upload_in_use_does_not_stop_the_others(
    place: Place, deferred: bool
) -> None:
    uploads = []
    with place.app.app_context():
        here = registered(place.app)
        for _ in range(5):
            instance = here.model(blueprint="uploads", storage_key=f"{uuid.uuid4()}")
            here.db.session.add(instance)
            here.db.session.commit()
            uploads.append(here.repository.get(instance.id))
    used = uploads[2]
    assert used is not None
    place.refer(("NO ACTION", deferred), used)
    for one in uploads:
        assert one is not None
        age_row(place.app, one.id)
    with place.app.app_context():
        removed = {one.id for one in delete_expired()}
    expected = {one.id for one in uploads if one is not None}
    if place.enforced:
        expected -= {used.id}
    assert removed == expected
    assert len(rows(place.app)) == (1 if place.enforced else 0)
    # The next run reports it again, and nothing else.
    with place.app.app_context():
        again = [(one.upload_id, one.error is not None) for one in expiring()]
    assert again == ([(used.id, True)] if place.enforced else [])


# -- the transaction -------------------------------------------------------------------


def test_an_old_database_locks_the_row_before_it_reads_it(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    here = registered(app)
    monkeypatch.setattr(
        type(here.database), "supports_delete_returning", property(lambda self: False)
    )
    urls = [begin(client, b"abc", 6) for _ in range(3)]
    assert client.delete(urls[0]).status_code == 204
    assert client.delete(urls[0]).status_code == 404
    for url in urls[1:]:
        age_row(app, id_of(url))
    with app.app_context():
        assert {one.id for one in delete_expired()} == {id_of(u) for u in urls[1:]}
    assert (rows(app), stored_files(tmp_path)) == ([], [])


def test_more_removals_than_one_batch_are_found_and_forgotten(app: Flask) -> None:
    here = registered(app)
    with app.app_context():
        for _ in range(401):
            here.db.session.add(
                here.model(blueprint="uploads", storage_key=str(uuid.uuid4()))
            )
        here.db.session.commit()
        ids = [row.id for row in here.repository.matching()]
        for upload_id in ids:
            here.repository.terminate(upload_id, here.engine.clock())
        assert [one.upload_id for one in here.repository.removals()] == ids
        here.repository.forget_removals(ids[1:])
        assert [one.upload_id for one in here.repository.removals()] == ids[:1]
        here.repository.forget_removals(ids[:1])
        assert list(here.repository.removals()) == []


def test_an_upload_with_new_activity_is_not_deleted_with_the_others(
    app: Flask,
) -> None:
    here = registered(app)
    client = app.test_client()
    old, young = (id_of(begin(client, b"abc", 6)) for _ in range(2))
    age_row(app, old)
    with app.app_context():
        here.engine.expiry._idle = timedelta(days=1)
        cutoff = here.engine.expiry.cutoff()
        assert cutoff is not None
        now = here.engine.clock()
        removed = here.repository.expire_all([old, young], cutoff, now)
    assert [one.upload.id for one in removed] == [old]
    assert [row.id for row in rows(app)] == [young]


def test_a_termination_may_spare_a_complete_upload(app: Flask) -> None:
    here = registered(app)
    upload_id = id_of(begin(app.test_client(), b"abc", 3))
    set_row(app, upload_id, status="complete")
    with app.app_context():
        now = here.engine.clock()
        assert here.repository.terminate(upload_id, now, spare_complete=True) is None
        assert here.repository.get(upload_id) is not None
        removed = here.repository.terminate(upload_id, now)
        assert removed is not None
        assert removed.upload.status is Status.COMPLETE
        assert here.repository.terminate(upload_id, now) is None


def test_the_parts_of_an_upload_are_dropped_and_noted(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = registered(app)
    parts, sent = PartTable(here.table), (Part(1, 5, "a"), Part(3, 6, "b", "sum"))
    with app.app_context():
        here.database.create_tables([parts.table])
        monkeypatch.setattr(here.repository, "_parts", parts)
        upload_id = id_of(begin(app.test_client(), b"abc", 6))
        with here.database.transaction() as connection:
            parts.add(connection, upload_id, sent)
        removed = here.repository.terminate(upload_id, here.engine.clock())
        assert removed is not None and removed.blob is not None
        (noted,) = here.repository.removals()
        assert noted.blob == removed.blob
        assert removed.blob.parts == sent
        with here.database.transaction() as connection:
            assert parts.of(connection, upload_id) == []
