"""Rows of the quota table: conditions, locks, and sums at both ends of the range."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection

from flask_chunked import (
    ChunkedUploadBlueprint,
    check,
    create_tables,
)
from flask_chunked.database.quota_counts import MAX_SUM
from flask_chunked.database.quota_rows import QuotaChange
from flask_chunked.database.quotas import QuotaTable
from flask_chunked.engine.records import Quota
from tests.dialects.tus import Tus
from tests.gate.sums import Watch

from ..apps import registered, rows
from ..conftest import AppFactory
from ..exchange import begin, finish, put_raw, send
from .stored_sums import DATA, limited, set_quota, sums

T = TypeVar("T")


def test_rows_changed_by_hand_never_lead_below_zero(make: Callable[..., Flask]) -> None:
    app = limited(make)
    send(app.test_client(), DATA)
    set_quota(app, stored=1)
    assert app.test_client().delete(f"/uploads/{rows(app)[0].id}").status_code == 204
    assert sums(app) == (0, 0, 0)


def test_a_sum_stops_at_the_most_that_a_column_holds(
    make: Callable[..., Flask],
) -> None:
    app = limited(make)
    begun = begin(app.test_client(), DATA, 3)
    set_quota(app, stored=MAX_SUM - 1, size=MAX_SUM - 1)
    assert finish(app.test_client(), begun, DATA).status_code == 200
    told = Watch(app).look().told[""]
    assert (told.uploads, told.size, told.stored) == (0, MAX_SUM - 4, MAX_SUM)
    answer = put_raw(app.test_client(), b"x")
    assert answer.status_code == 413
    assert "of which 0 are left" in answer.text


def test_a_limit_that_is_larger_than_a_column_is_no_error(
    make: Callable[..., Flask],
) -> None:
    class Generous(ChunkedUploadBlueprint):
        def get_max_stored_bytes(self) -> int | None:
            return 2**70

        get_max_total_bytes = get_max_open_uploads = get_max_stored_bytes

    app = make(blueprint_class=Generous)
    tus = Tus(app.test_client())
    assert tus.final(tus.partial(DATA)).status_code == 201
    assert sums(app) == (0, 0, 6)


def test_two_blueprints_share_the_table_and_count_apart(tmp_path: Path) -> None:
    db = SQLAlchemy()
    app = Flask("two", instance_path=str(tmp_path / "instance"))
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/two.db",
        CHUNKED_UPLOAD_ALLOW_ANONYMOUS=True,
        CHUNKED_UPLOAD_MAX_OPEN_UPLOADS=1,
    )
    db.init_app(app)
    for name in ("a", "b"):
        app.register_blueprint(
            ChunkedUploadBlueprint(name, __name__), url_prefix=f"/{name}"
        )
    create_tables(app)
    client = app.test_client()
    headers = {"Content-Range": "bytes 0-2/6"}
    codes = [
        client.put(f"/{name}/", headers=headers, data=b"abc").status_code
        for name in ("a", "b", "a", "b")
    ]
    assert codes == [200, 200, 429, 429]
    with app.app_context():
        assert list(check()) == []
        for name in ("a", "b"):
            registered(app, name).database.dispose()
        for engine in db.engines.values():
            engine.dispose()


# -- conditions ------------------------------------------------------------------------


@pytest.fixture
def counted(app_factory: AppFactory) -> Flask:
    """An app whose unknown owner has two uploads, ten bytes and five stored ones."""
    app = limited(app_factory)
    change(app, lambda quotas, connection: quotas.start_counting(connection, None))
    set_quota(app, uploads=2, size=10, stored=5)
    return app


def change(app: Flask, act: Callable[[QuotaTable, Connection], T]) -> T:
    """Act on the quota table in a transaction."""
    here = registered(app)
    assert here.quotas is not None
    with app.app_context(), here.database.transaction() as connection:
        return act(here.quotas, connection)


def row_of(app: Flask) -> tuple[int, int, int | None]:
    """The only row: uploads, bytes, stored bytes."""
    row = change(app, lambda quotas, using: using.execute(quotas.table.select()).one())
    return row.uploads, row.size, row.stored


@pytest.mark.parametrize(
    ("quota", "freed", "fits"),
    [
        (Quota(3, None, 0), (0, 0), True),
        (Quota(2, None, 0), (0, 0), False),
        (Quota(2, None, 0), (1, 0), True),
        (Quota(None, 14, 4), (0, 0), True),
        (Quota(None, 13, 4), (0, 0), False),
        (Quota(None, 13, 4), (0, 1), True),
        (Quota(None, None, 4, 19), (0, 0), True),
        (Quota(None, None, 4, 18), (0, 0), False),
        # Freed bytes become stored ones, so that they make no room here.
        (Quota(None, None, 4, 18), (1, 1), False),
        (Quota(3, 13, 4), (0, 0), False),
        (Quota(None, None, 4), (0, 0), True),
    ],
)
def test_change_needs_room_for_each_limit(
    counted: Flask, quota: Quota, freed: tuple[int, int], fits: bool
) -> None:
    added = QuotaChange(uploads=1, size=quota.reserve)

    def add(quotas: QuotaTable, connection: Connection) -> bool:
        conditions = quotas._within(quota, freed)
        return quotas._add(connection, None, added, *conditions)

    assert change(counted, add) is fits
    assert row_of(counted) == ((3, 10 + quota.reserve, 5) if fits else (2, 10, 5))


def test_row_that_does_not_count_stored_bytes_yet_has_no_room(counted: Flask) -> None:
    set_quota(counted, stored=None)

    def add(quotas: QuotaTable, connection: Connection) -> bool:
        conditions = quotas._within(Quota(None, None, 0))
        return quotas._add(connection, None, QuotaChange(uploads=1), *conditions)

    assert not change(counted, add)
    assert row_of(counted) == (2, 10, None)


def test_row_of_another_owner_is_neither_changed_nor_locked(counted: Flask) -> None:
    added = QuotaChange(uploads=1)
    assert not change(counted, lambda quotas, using: quotas._add(using, "ann", added))
    assert not change(counted, lambda quotas, using: quotas._lock_owner(using, "ann"))
    assert change(counted, lambda quotas, using: quotas._lock_owner(using, None))
    assert row_of(counted) == (2, 10, 5)
