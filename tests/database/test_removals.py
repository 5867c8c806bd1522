"""The table of bytes to remove."""

from __future__ import annotations

from datetime import datetime, timezone

from flask import Flask

from flask_chunked.engine.records import Removal, Removed
from flask_chunked.storage.base import Blob, Part
from tests.apps import registered, rows
from tests.exchange import begin

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def test_a_removal_has_all_that_finds_the_bytes(app: Flask) -> None:
    begin(app.test_client(), b"abc", 6)
    (upload,) = rows(app)
    blob = Blob("a/b", 3, {"upload": "x"}, (Part(1, 2, "etag"), Part(4, 1, "e", "c")))
    here = registered(app)
    with app.app_context(), here.database.transaction() as connection:
        here.removals.add(connection, [Removed(upload, blob)], "uploads", NOW)
        here.removals.add(connection, [Removed(upload, None)], "uploads", NOW)
        found = here.removals.after(connection, "uploads", None, 10)
        assert found == [Removal(upload.id, blob)]
        assert here.removals.after(connection, "others", None, 10) == []
        assert here.removals.after(connection, "uploads", upload.id, 10) == []
        assert here.removals.keys_among(connection, ["a/b", "c"]) == {"a/b"}
        here.removals.drop(connection, [upload.id])
        assert here.removals.after(connection, "uploads", None, 10) == []
