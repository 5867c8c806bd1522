"""The table of parts: order, one part for each number, removal."""

from __future__ import annotations

from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from flask_chunked.database.parts import PartTable
from flask_chunked.storage.base import Part

from ..apps import registered

PARTS = [Part(number, 10 * number, f"etag-{number}", None) for number in (1, 2, 3)]


@pytest.fixture
def parts(app: Flask) -> PartTable:
    here = registered(app)
    table = PartTable(here.table)
    with app.app_context():
        here.database.create_tables([table.table])
    return table


def test_parts_come_in_the_order_of_their_numbers(app: Flask, parts: PartTable) -> None:
    upload, other = uuid4(), uuid4()
    with app.app_context(), registered(app).database.transaction() as connection:
        parts.add(connection, upload, [PARTS[2], PARTS[0]])
        parts.add(connection, other, PARTS[:1])
        parts.add(connection, upload, PARTS[1:2])
        assert parts.of(connection, upload) == PARTS
        parts.drop(connection, upload)
        assert parts.of(connection, upload) == []
        assert parts.of(connection, other) == PARTS[:1]


def test_number_that_an_upload_has_is_refused(app: Flask, parts: PartTable) -> None:
    upload = uuid4()
    database = registered(app).database
    with app.app_context(), database.transaction() as connection:
        parts.add(connection, upload, PARTS[:1])
    with (
        app.app_context(),
        pytest.raises(IntegrityError),
        database.transaction() as connection,
    ):
        parts.add(connection, upload, PARTS[:1])
