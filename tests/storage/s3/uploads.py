"""What tests of whole uploads to S3 share: content, and looks at the server."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from uuid import UUID

from flask import Flask
from sqlalchemy import func, select

import flask_chunked
from flask_chunked.engine.records import Upload
from flask_chunked.maintenance import Finding
from tests.apps import registered, stop_clock
from tests.dialects.tus import Tus
from tests.s3 import left_in, storage_of

MIB = 2**20


CONTENT = random.Random(3).randbytes(12 * MIB + 17)


S3App = Callable[..., Flask]


def parts_in_table(app: Flask) -> int:
    here = registered(app)
    assert here.parts is not None
    with app.app_context(), here.database.transaction() as connection:
        statement = select(func.count()).select_from(here.parts.table)
        return int(connection.execute(statement).scalar_one())


def check_much_later(app: Flask) -> list[Finding]:
    stop_clock(app, datetime.now(timezone.utc) + timedelta(hours=1))
    with app.app_context():
        return flask_chunked.check(repair=True)


def require_only(app: Flask, *uploads: Upload) -> None:
    """Nothing is left on the server but these finished files."""
    keys = sorted(str(upload.storage_key) for upload in uploads)
    assert left_in(storage_of(app)) == (keys, [])
    assert parts_in_table(app) == 0


def created_upload(app: Flask, length: int) -> Upload:
    url = Tus(app.test_client()).create(length)
    upload = registered(app).repository
    with app.app_context():
        row = upload.get(UUID(url.rpartition("/")[2]))
    assert row is not None
    return row
