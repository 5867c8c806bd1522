"""Apps that count stored bytes, and the sums that they have; for several modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from sqlalchemy import update

from tests.gate.sums import Watch

from ..apps import registered

DATA = b"abc"
#: Unfinished uploads, their bytes, and the bytes that are stored.
Sums = tuple[int, int, int | None]


def limited(make: Callable[..., Flask], most: int = 1000, **config: Any) -> Flask:
    """An app that counts what is stored, and deferred lengths as 20 bytes."""
    config.setdefault("CHUNKED_UPLOAD_MAX_BYTES", 20)
    return make(CHUNKED_UPLOAD_MAX_STORED_BYTES=most, **config)


def sums(app: Flask, owner: str = "") -> Sums:
    """What the owner's row says, which must be what the uploads' rows say."""
    snapshot = Watch(app).look()
    assert snapshot.differences() == []
    one = snapshot.told[owner]
    return (one.uploads, one.size, one.stored)


def set_quota(app: Flask, **values: object) -> None:
    """Change the owner's row by hand."""
    here = registered(app)
    assert here.quotas is not None
    with app.app_context(), here.database.transaction() as connection:
        connection.execute(update(here.quotas.table).values(values))
